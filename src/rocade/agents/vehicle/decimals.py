"""Decimal text of a whole column -> exact integers times a power of ten, or floats where that is not possible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"[ \t]*[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?[ \t]*\Z")
_WORDS = {"nan": np.nan, "inf": np.inf, "+inf": np.inf, "-inf": -np.inf, "infinity": np.inf, "-infinity": -np.inf}
MOST_DECIMALS = 12


def is_number(text: str) -> bool:
    """A plain decimal number, or one of NaN and infinity, which travel and are flagged by the platform."""
    return _NUMBER.match(text) is not None or text.strip().lower() in _WORDS


def to_exact(
    texts: Sequence[str], factor: Fraction = Fraction(1), offset: Fraction = Fraction(0)
) -> tuple[NDArray[np.int64] | NDArray[np.float64], int | None]:
    """Values of decimal texts, times `factor` plus `offset`.

    Shape: (int64, exponent) with value = integer * 10**exponent exactly, or (float64, None) where a factor is no
    decimal fraction, a number has more than 12 decimals or does not fit.
    """
    floats = np.array([_WORDS.get(text.strip().lower(), np.nan) if _is_word(text) else float(text) for text in texts])
    scale_exponent = _decimals_of(factor), _decimals_of(offset)
    decimals = max((_decimals(text) for text in texts), default=0)
    exponent = max(decimals + max(scale_exponent[0], 0), scale_exponent[1])
    if min(scale_exponent) < 0 or exponent > MOST_DECIMALS or not np.isfinite(floats).all():
        return floats * float(factor) + float(offset), None
    if len(floats) and np.abs(floats).max() * 10.0**decimals >= 2**52:
        return floats * float(factor) + float(offset), None
    whole = np.rint(floats * 10.0**decimals).astype(np.int64)
    multiplier = int(factor * 10 ** (exponent - decimals))
    if len(whole) and int(np.abs(whole).max()) * max(abs(multiplier), 1) >= 1 << 62:
        return floats * float(factor) + float(offset), None
    return whole * multiplier + int(offset * 10**exponent), -exponent


def _is_word(text: str) -> bool:
    return text.strip().lower() in _WORDS


def _decimals(text: str) -> int:
    """Decimals a text really uses: `87.540000` has 2."""
    if "e" in text or "E" in text:
        exponent = Decimal(text.strip()).normalize().as_tuple().exponent
        return max(0, -exponent) if isinstance(exponent, int) else MOST_DECIMALS + 1
    _, point, fraction = text.strip().partition(".")
    return len(fraction.rstrip("0")) if point else 0


def _decimals_of(number: Fraction) -> int:
    """Decimals needed to write a fraction exactly; -1 when it has no end."""
    denominator, twos, fives = number.denominator, 0, 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    return max(twos, fives) if denominator == 1 else -1
