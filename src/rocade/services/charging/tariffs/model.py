"""What a file turned out to hold, and how rows become a series."""

from __future__ import annotations

from collections.abc import Sequence
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
    """One value; `end_us` 0 = as long as its neighbours say."""

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
    limit = PRICE_LIMIT if currency else CARBON_LIMIT
    ordered = sorted(rows, key=lambda row: row.start_us)
    kept = [ordered[0]]
    for row in ordered[1:]:
        if row.start_us == kept[-1].start_us:
            if row.value != kept[-1].value or row.end_us != kept[-1].end_us:
                raise errors.tariff("overlap", max(row.line, kept[-1].line), f"as line {min(row.line, kept[-1].line)}")
            continue
        kept.append(row)
    ends = _ends(kept)
    for row, end_us, after in zip(kept, ends, [*kept[1:], None], strict=True):
        if not abs(row.value) <= limit or (row.value < 0 and not currency):
            raise errors.tariff("value", row.line)
        if end_us - row.start_us not in LENGTHS_US:
            raise errors.tariff("interval", row.line)
        if after is not None and after.start_us < end_us:
            raise errors.tariff("overlap", max(row.line, after.line), f"over line {min(row.line, after.line)}")
        if after is not None and after.start_us > end_us and len(notes) < MOST_NOTES:
            minutes = (after.start_us - end_us) // MINUTE_US
            notes.append(Note(after.line, "hole", f"{minutes} minutes before this row have no value"))
    series = Series.known(
        np.array([row.start_us for row in kept], np.int64),
        np.array(ends, np.int64),
        np.array([row.value for row in kept], np.float64),
        unit=unit,
        zone=zone,
        currency=currency,
    )
    return Parsed(series, tuple(sorted(notes)))


def _ends(rows: Sequence[Row]) -> list[int]:
    """A row that does not say its end lasts as long as the nearer of its neighbours is away."""
    ends: list[int] = []
    for place, row in enumerate(rows):
        if row.end_us:
            ends.append(row.end_us)
            continue
        away = [abs(rows[near].start_us - row.start_us) for near in (place - 1, place + 1) if 0 <= near < len(rows)]
        if not away or min(away) not in LENGTHS_US:
            raise errors.tariff("interval", row.line, "its end is not said, and no row stands next to it")
        ends.append(row.start_us + min(away))
    return ends
