"""Kill -9 while prices are applied: the store is always one whole number of the list, and nothing that was said applied is lost.

The long form is slow; with 500,000 references: benchmarks/dealer_prices.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.price_kills import kill_while_applying
from benchmarks.price_lists import Press, press_with

from rocade.trust.identity.keys import new_key


def published(parts: int, numbers: int, changes: int) -> Press:
    press = press_with(parts, new_key())
    press.follow(numbers - 1, changes)
    return press


def test_ten_kills_leave_no_half_applied_list(tmp_path: Path) -> None:
    found = kill_while_applying(tmp_path, published(4000, 40, 800), 10, seed=7, most_s=0.25)
    assert (found.kills, found.half, found.lost) == (10, 0, 0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_kills_leave_no_half_applied_list(tmp_path: Path) -> None:
    found = kill_while_applying(tmp_path, published(20_000, 60, 4000), 200, seed=11, most_s=0.5)
    assert (found.kills, found.half, found.lost) == (200, 0, 0)
    assert found.within > 100
