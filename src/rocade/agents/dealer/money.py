"""An amount as people read it. Units: integer minor units; ISO 4217 says how many make a whole."""

from __future__ import annotations

_PLACES = {
    0: ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"),
    3: ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"),
}
_PLACES_OF = {currency: places for places, currencies in _PLACES.items() for currency in currencies}


def money(minor: int | None, currency: str) -> str:
    """Like `1 234.50 EUR`; a dash for no price."""
    if minor is None:
        return "–"
    places = _PLACES_OF.get(currency, 2)
    whole, rest = divmod(abs(minor), 10**places)
    sign, fraction = "-" if minor < 0 else "", f".{rest:0{places}d}" if places else ""
    return f"{sign}{whole:,}".replace(",", "\u202f") + f"{fraction} {currency}"
