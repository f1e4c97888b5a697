"""Identifiers: what is taken for a number."""

from __future__ import annotations

import pytest

from rocade.core.identifiers import whole_number

NUMBERS = [
    ("0", 0), ("007", 7), (str((1 << 63) - 1), (1 << 63) - 1), (str(1 << 63), None), ("9" * 5000, None),
    ("", None), ("-1", None), ("+1", None), ("1_0", None), (" 1", None), ("1e3", None), ("²", None), ("١", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_a_whole_number_is_ascii_digits_of_at_most_63_bits(text: str, number: int | None) -> None:
    assert whole_number(text) == number
