"""What a file turned out to hold, and how rows become a series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rocade.services.charging.planning.slots import SECOND_US, Series
from rocade.services.charging.tariffs import errors

MINUTE_US = 60 * SECOND_US
LENGTHS_US = tuple(minutes * MINUTE_US for minutes in (5, 10, 15, 20, 30, 60))
MOST_NOTES = 100
PRICE_LIMIT = 10_000.0
"""Of any currency per kWh; the forint is the smallest that electricity is traded in, 5,000 EUR/MWh its highest price."""
CARBON_LIMIT = 5_000.0
"""g/kWh; lignite emits 1,200."""


class Note(NamedTuple):
    """Something that is worth knowing and not wrong. `kind`: hole | unpublished | other_zone | leap."""

    line: int
    kind: str
    text: str


class Parsed(NamedTuple):
    """A file's series and what is to be said about it."""

    series: Series
    notes: tuple[Note, ...]


class Row(NamedTuple):
    """One value, NaN = not published; `end_us` 0 = as long as its neighbours say."""

    line: int
    start_us: int
    end_us: int
    value: float


def series_of(rows: Sequence[Row], notes: list[Note], *, unit: str, zone: str, currency: str) -> Parsed:
    """Rows in any order, as a series; a row that stands twice with the same value counts once.

    Raises: Refused `charging.file.empty`, `.overlap`, `.interval`, `.value`.
    """
    if not rows:
        raise errors.tariff("empty")
    kept = _once(rows)
    ends = _ends(kept)
    limit = PRICE_LIMIT if currency else CARBON_LIMIT
    for row, end_us, after in zip(kept, ends, [*kept[1:], None], strict=True):
        if abs(row.value) > limit or (row.value < 0 and not currency):
            raise errors.tariff("value", row.line)
        if end_us - row.start_us not in LENGTHS_US:
            raise errors.tariff("interval", row.line)
        if after is not None and after.start_us < end_us:
            raise errors.tariff("overlap", max(row.line, after.line), f"over line {min(row.line, after.line)}")
        if after is not None and after.start_us > end_us and len(notes) < MOST_NOTES:
            minutes = (after.start_us - end_us) // MINUTE_US
            notes.append(Note(after.line, "hole", f"{minutes} minutes before this row have no value"))
    known = [
        (row.start_us, end_us, row.value) for row, end_us in zip(kept, ends, strict=True) if not math.isnan(row.value)
    ]
    if not known:
        raise errors.tariff("empty")
    start, end, value = zip(*known, strict=True)
    series = Series.known(
        np.array(start, np.int64), np.array(end, np.int64), np.array(value), unit=unit, zone=zone, currency=currency
    )
    return Parsed(series, tuple(sorted(notes)))


def _once(rows: Sequence[Row]) -> list[Row]:
    """By time, none twice. Raises: Refused `charging.file.overlap`."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: row.start_us):
        if not kept or row.start_us != kept[-1].start_us:
            kept.append(row)
        elif math.isnan(kept[-1].value):
            kept[-1] = row
        elif not math.isnan(row.value) and (row.value != kept[-1].value or row.end_us != kept[-1].end_us):
            raise errors.tariff("overlap", max(row.line, kept[-1].line), f"as line {min(row.line, kept[-1].line)}")
    return kept


def _ends(rows: Sequence[Row]) -> list[int]:
    """A row that does not say its end lasts as long as the nearer of its neighbours is away; alone among holes, as the shortest do.

    Raises: Refused `charging.file.interval`.
    """
    apart = [later.start_us - row.start_us for row, later in pairwise(rows)]
    shortest = min((one for one in apart if one in LENGTHS_US), default=0)
    ends: list[int] = []
    for row, before, after in zip(rows, [0, *apart], [*apart, 0], strict=False):
        near = min(before or after, after or before)
        length = near if near in LENGTHS_US else shortest if near > shortest else 0
        if not row.end_us and not length:
            raise errors.tariff("interval", row.line, "its end is not said, and no row stands next to it")
        ends.append(row.end_us or row.start_us + length)
    return ends
