"""An amount as people read it. Units: integer minor units; ISO 4217 says how many make a whole."""

from __future__ import annotations

from rocade.core.money import digits_of


def money(minor: int | None, currency: str) -> str:
    """Like `1 234.50 EUR`; a dash for no price."""
    if minor is None:
        return "–"
    places = digits_of(currency)
    whole, rest = divmod(abs(minor), 10**places)
    sign, fraction = "-" if minor < 0 else "", f".{rest:0{places}d}" if places else ""
    return f"{sign}{whole:,}".replace(",", "\u202f") + f"{fraction} {currency}"
