"""Amounts as people write them, and what could mean two things."""

from __future__ import annotations

import pytest

from rocade.core.money import digits_of
from rocade.services.prices import money


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.50", "EUR", 1250), ("12,50", "EUR", 1250), ("12,5", "EUR", 1250), ("1250", "EUR", 125000), ("0", "EUR", 0),
        ("1 234,56", "EUR", 123456), ("1.234,56", "EUR", 123456), ("1,234.56", "EUR", 123456), ("1'234.56", "CHF", 123456),
        ("1\u202f234,56", "EUR", 123456), ("1.234.567,8", "EUR", 123456780), ("€ 12.50", "EUR", 1250), ("12,50 EUR", "EUR", 1250),
        ("1234.567", "TND", 1234567), ("1,234", "TND", 1234), ("1,234", "JPY", 1234), ("12345", "JPY", 12345),
        ("1234,567.00", "EUR", None), ("1.2345,00", "EUR", None), ("1,234,567", "EUR", 123456700),
    ],
)  # fmt: skip
def test_an_amount_is_read_as_its_writer_meant_it(text: str, currency: str, minor: int | None) -> None:
    digits = digits_of(currency)
    if minor is None:
        with pytest.raises(ValueError, match="mixed up"):
            money.parse(text, currency, digits)
    else:
        assert money.parse(text, currency, digits) == minor


@pytest.mark.parametrize(
    ("text", "currency", "says"),
    [
        ("1,234", "EUR", "could mean 1234 or 1.234"), ("1.234", "EUR", "could mean"), ("-5.00", "EUR", "no sign"),
        ("12.505", "EUR", "could mean"), ("1234.505", "EUR", "more decimals"), ("12.5", "JPY", "more decimals"),
        ("1e5", "EUR", "not a price"), ("abc", "EUR", "not a price"), ("", "EUR", "not a price"), ("١٢", "EUR", "not a price"),
        ("12.50 USD", "EUR", "is in USD"), ("£12.50", "EUR", "is in GBP"), ("9" * 12, "EUR", "beyond"), ("NaN", "EUR", "not a price"),
    ],
)  # fmt: skip
def test_an_amount_that_is_none_or_could_be_two_is_refused(text: str, currency: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        money.parse(text, currency, digits_of(currency))
