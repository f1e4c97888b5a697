"""Amounts in words: integer minor units of an ISO 4217 currency as people write them.

Minor digits: ISO 4217, table A.1; the exceptions from two stand below.
"""

from __future__ import annotations

_NONE, _THREE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF", "BHD IQD JOD KWD LYD OMR TND"
MINOR_DIGITS = {**dict.fromkeys(_NONE.split(), 0), **dict.fromkeys(_THREE.split(), 3)}
"""Currencies that have not two decimals."""


def digits_of(currency: str) -> int:
    """How many decimals a currency has."""
    return MINOR_DIGITS.get(currency, 2)


def amount(minor: int, currency: str) -> str:
    """`1665`, "EUR" -> `16.65 EUR`; `500`, "JPY" -> `500 JPY`."""
    digits = digits_of(currency)
    sign, figures = "-" if minor < 0 else "", str(abs(minor)).rjust(digits + 1, "0")
    whole, cents = (figures[:-digits], f".{figures[-digits:]}") if digits else (figures, "")
    return f"{sign}{whole}{cents} {currency}"
