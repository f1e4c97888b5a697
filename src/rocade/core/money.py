"""Amounts in words: integer minor units of an ISO 4217 currency as people write them.

Minor digits: ISO 4217, table A.1; the exceptions from two stand below.
"""

from __future__ import annotations

MINOR_DIGITS = {
    **dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    ),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
}
"""Currencies that have not two decimals."""


def amount(minor: int, currency: str) -> str:
    """`1665`, "EUR" -> `16.65 EUR`; `500`, "JPY" -> `500 JPY`."""
    digits = MINOR_DIGITS.get(currency, 2)
    sign, figures = "-" if minor < 0 else "", str(abs(minor)).rjust(digits + 1, "0")
    whole, cents = (figures[:-digits], f".{figures[-digits:]}") if digits else (figures, "")
    return f"{sign}{whole}{cents} {currency}"
