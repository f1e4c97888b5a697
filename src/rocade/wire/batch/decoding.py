"""Many batches -> flat values and instants in one numpy pass.

Flow: open and check (`parsing`) -> clocks: regular ones stay a formula, explicit and subset ones are unfolded ->
columns are put in order of their kind, so that each section of all batches lies end to end and is widened, summed and
based without moving single columns -> marks. Integers stay integers: value = int * 10^exponent, nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocade.wire.batch import layout
from rocade.wire.batch.layout import BITS, CLOCK_INT16, CLOCK_INT32, REGULAR, SUBSET, TEXT
from rocade.wire.batch.parsing import Ints, Opened, joined, mark_rows, open_many, parents

_INTEGER_SECTIONS = ((1, "i8", "<i1"), (2, "i16", "<i2"), (3, "i32", "<i4"), (4, "i64", "<i8"))
_RANK = np.array([0, 1, 2, 3, 4, 6, 7, 5], np.int64)
"""Order of the kinds in the flat arrays: constants, int8 to int64, bits; then float32, float64."""
POWER = 10.0 ** np.arange(layout.MAX_EXPONENT + 1)


@dataclass(slots=True)
class Clocks:
    """Clocks of all batches. A regular clock is first_us + row * step_us; others have their instants in `times_us`."""

    batch: Ints
    rows: Ints
    first_us: Ints
    last_us: Ints
    """Latest instant (clocks may run backwards)."""
    step_us: Ints
    """0 for a single row; -1 = irregular, see `offset`."""
    offset: Ints
    """Where an irregular clock's instants start in `times_us`; -1 = regular."""
    times_us: Ints

    def times_of(self, clock: int) -> Ints:
        """Instants of one clock."""
        if self.offset[clock] >= 0:
            return self.times_us[self.offset[clock] : self.offset[clock] + self.rows[clock]]
        return int(self.first_us[clock]) + np.arange(self.rows[clock]) * int(self.step_us[clock])


@dataclass(slots=True)
class Columns:
    """Columns of all batches, first all that carry integers (scaled, text, bits), then all that carry floats."""

    batch: Ints
    order: Ints
    """Place on the wire (batch after batch) of each column here."""
    signal: NDArray[np.uint32]
    clock: Ints
    rows: Ints
    kind: Ints
    """As on the wire: what it travelled as."""
    exponent: NDArray[np.int8]
    is_text: NDArray[np.bool_]
    offset: Ints
    """Start in `ints` for the first `integer_count` columns, in `floats` for the others."""
    integer_count: int
    ints: Ints
    floats: NDArray[np.float64]
    words: list[str]
    """Text values are indexes into this list."""

    def values_of(self, column: int) -> Any:
        """Values of one column as the source had them: int64, float64, bool, or a list of str. For tests and tools."""
        cut = slice(int(self.offset[column]), int(self.offset[column] + self.rows[column]))
        if column >= self.integer_count:
            return self.floats[cut]
        values, exponent = self.ints[cut], int(self.exponent[column])
        if self.is_text[column]:
            return [self.words[index] for index in values.tolist()]
        if self.kind[column] == BITS:
            return values.astype(np.bool_)
        return values if exponent == 0 else scaled(values, exponent)


@dataclass(slots=True)
class Decoded:
    """Struct of arrays. Batches are the sound ones only; `index` leads back to the bodies handed in."""

    taken: int
    """How many of the bodies handed in were looked at."""
    reasons: list[str | None]
    index: Ints
    epoch: NDArray[np.uint64]
    sequence: NDArray[np.uint64]
    sent_at_us: Ints
    points: Ints
    scheme: Sequence[int]
    scheme_version: Sequence[int]
    vehicle_ids: Sequence[str]
    signals: Sequence[bytes]
    """Signal ids of each batch's columns as they came (uint32, wire order)."""
    clocks: Clocks
    columns: Columns
    mark_column: Ints
    """Marks the sources gave, spread to columns: column, row, flags."""
    mark_row: Ints
    mark_flags: NDArray[np.uint8]


def scaled(values: Ints, exponent: int) -> NDArray[np.float64]:
    """Integers to the nearest float64 of integer * 10^exponent."""
    out: NDArray[np.float64] = values / POWER[-exponent] if exponent < 0 else values * POWER[exponent]
    return out


def decode_many(
    bodies: Sequence[bytes], no_float32: NDArray[np.uint32] | None = None, max_points: int | None = None
) -> Decoded:
    """Decode many bodies; those refused have a code in `reasons` and take no part.

    With `max_points`, only the first bodies that together hold no more are decoded (at least one): `taken` of them.
    """
    sides, reasons = open_many(bodies, no_float32)
    if max_points is not None and len(sides.index) > 1 and sides.points.sum() > max_points:
        fitting = int(np.searchsorted(np.cumsum(sides.points), max_points, "right"))
        return decode_many(bodies[: sides.index[max(1, fitting)]], no_float32)
    columns, place, wrong = _columns(sides)
    if len(wrong):
        places = sides.index[wrong].tolist()
        rest = [b"" if body in places else bodies[body] for body in range(len(bodies))]
        decoded = decode_many(rest, no_float32)
        for body, reason in enumerate(reasons):
            decoded.reasons[body] = "batch.words" if body in places else reason
        return decoded
    marks = _marks(sides, columns, place)
    return Decoded(
        taken=len(bodies),
        reasons=reasons,
        index=sides.index,
        epoch=np.array(sides.scalars["epoch"], np.uint64),
        sequence=np.array(sides.scalars["sequence"], np.uint64),
        sent_at_us=sides.sent_at_us,
        points=sides.points,
        scheme=sides.scalars["scheme"],
        scheme_version=sides.scalars["scheme_version"],
        vehicle_ids=sides.scalars["vehicle_id"],
        signals=sides.sections["signal"],
        clocks=_clocks(sides),
        columns=columns,
        mark_column=marks[0],
        mark_row=marks[1],
        mark_flags=marks[2],
    )


def _clocks(sides: Opened) -> Clocks:
    kind, rows = sides.clock_kind, sides.clock_rows
    first = sides.start_us[sides.clock_batch] + sides.clock_start
    step = np.where(kind == REGULAR, sides.clock_step, -1)
    offset = np.full(len(kind), -1, np.int64)
    last = first + (rows - 1) * step
    explicit = np.flatnonzero((kind == CLOCK_INT16) | (kind == CLOCK_INT32))
    subset = np.flatnonzero(kind == SUBSET)
    parts: list[Ints] = []
    at = 0
    for form, name, wire in ((CLOCK_INT16, "clock_i16", "<i2"), (CLOCK_INT32, "clock_i32", "<i4")):
        chosen = np.flatnonzero(kind == form)
        if len(chosen):
            deltas = joined(sides.sections[name], wire) * np.repeat(sides.clock_step[chosen], rows[chosen])
            starts = np.cumsum(rows[chosen]) - rows[chosen]
            parts.append(_running_sums(deltas, starts, rows[chosen], first[chosen]))
            offset[chosen] = at + starts
            at += len(deltas)
    clocks = Clocks(
        batch=sides.clock_batch,
        rows=rows,
        first_us=first,
        last_us=last,
        step_us=step,
        offset=offset,
        times_us=np.concatenate(parts) if parts else np.zeros(0, np.int64),
    )
    if len(subset):
        _add_subsets(sides, clocks, subset)
    irregular = np.concatenate((explicit, subset))
    if len(irregular):
        irregular = irregular[np.argsort(offset[irregular])]
        clocks.first_us[irregular] = clocks.times_us[offset[irregular]]
        clocks.last_us[irregular] = np.maximum.reduceat(clocks.times_us, offset[irregular])
    return clocks


def _add_subsets(sides: Opened, clocks: Clocks, subset: Ints) -> None:
    """Unfold the clocks that are part of another: the row numbers of set bits, then the parent's instants there."""
    parent, _ = parents(sides, subset)
    padded = (clocks.rows[parent] + 7) >> 3 << 3
    ones = np.flatnonzero(np.unpackbits(joined(sides.sections["clock_bits"], "u1"), bitorder="little"))
    rows = clocks.rows[subset]
    row = ones - np.repeat(np.cumsum(padded) - padded, rows)
    step, source = np.repeat(clocks.step_us[parent], rows), np.repeat(clocks.offset[parent], rows)
    times = np.repeat(clocks.first_us[parent], rows) + row * step
    listed = source >= 0
    if listed.any():
        times[listed] = clocks.times_us[source[listed] + row[listed]]
    clocks.offset[subset] = len(clocks.times_us) + np.cumsum(rows) - rows
    clocks.times_us = np.concatenate((clocks.times_us, times))


def _running_sums(deltas: Ints, starts: Ints, rows: Ints, first: Ints) -> Ints:
    """In place: per column, first + d[0] + ... + d[i]. Wraps like the writer's int64 arithmetic did."""
    before = deltas[starts]
    np.cumsum(deltas, out=deltas)
    deltas += np.repeat(first + before - deltas[starts], rows)
    return deltas


def _columns(sides: Opened) -> tuple[Columns, Ints, Ints]:
    """Columns in order of kind; where each wire column went; batches whose text points outside their words."""
    wire_kind = (sides.column_kind & 7).astype(np.int64)
    rank = _RANK[wire_kind]
    order = np.argsort(rank, kind="stable")
    rows, kind = sides.rows[order], wire_kind[order]
    first = joined(sides.sections["first"], "<i8")[order]
    counts = np.bincount(rank, minlength=8)
    points = np.bincount(rank, sides.rows, 8).astype(np.int64)
    integer_count = int(counts[:6].sum())
    ints = np.empty(int(points[:6].sum()), np.int64)
    ints[: points[0]] = np.repeat(first[: counts[0]], rows[: counts[0]])
    offset = np.cumsum(rows) - rows
    at, column = int(points[0]), int(counts[0])
    for form, name, wire in _INTEGER_SECTIONS:
        if counts[form]:
            some, end = slice(column, column + int(counts[form])), at + int(points[form])
            ints[at:end] = joined(sides.sections[name], wire)
            _running_sums(ints[at:end], offset[some] - at, rows[some], first[some])
            at, column = end, column + int(counts[form])
    if counts[5]:
        ints[at:] = _bits(joined(sides.sections["bits"], "u1"), rows[column:integer_count])
    floats = np.concatenate(
        (joined(sides.sections["f32"], "<f4"), joined(sides.sections["f64"], "<f8")), dtype=np.float64
    )
    offset[integer_count:] -= len(ints)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    column_batch = sides.column_batch[order]
    text = np.flatnonzero(sides.column_kind[order] & TEXT)
    wrong = _base_words(sides, ints, spans(offset[text], rows[text]), np.repeat(column_batch[text], rows[text]))
    return (
        Columns(
            batch=column_batch,
            order=order,
            signal=sides.signal[order],
            clock=sides.column_clock[order],
            rows=rows,
            kind=kind,
            exponent=joined(sides.sections["exponent"], "i1")[order],
            is_text=(sides.column_kind[order] & TEXT) != 0,
            offset=offset,
            integer_count=integer_count,
            ints=ints,
            floats=floats,
            words=[word for some in sides.sections["words"] for word in some] if len(text) else [],
        ),
        place,
        wrong,
    )


def spans(starts: Ints, lengths: Ints) -> Ints:
    """Indexes start, start + 1, ... of every span, end to end."""
    ends: Ints = np.cumsum(lengths)
    places: Ints = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return places


def _base_words(sides: Opened, ints: Ints, at: Ints, batch: Ints) -> Ints:
    """Turn indexes into a batch's words into indexes into all words; return the batches that point outside."""
    if not len(at):
        return at
    counts = np.fromiter(map(len, sides.sections["words"]), np.int64, len(sides.index))
    values = ints[at]
    wrong = (values < 0) | (values >= counts[batch])
    ints[at] = values + (np.cumsum(counts) - counts)[batch]
    return np.unique(batch[wrong])


def _bits(section: NDArray[np.uint8], rows: Ints) -> Ints:
    padded = (rows + 7) >> 3 << 3
    chosen = spans(np.cumsum(padded) - padded, rows)
    bits: Ints = np.asarray(np.unpackbits(section, bitorder="little")[chosen], np.int64)
    return bits


def _marks(sides: Opened, columns: Columns, place: Ints) -> tuple[Ints, Ints, NDArray[np.uint8]]:
    """Marks by column: those of a clock are repeated for each column that uses it."""
    if not any(sides.sections["mark_flags"]):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    _, target, of_clock, row, flags = mark_rows(sides)
    by_clock = np.argsort(columns.clock, kind="stable")
    low = np.searchsorted(columns.clock, target[of_clock], "left", by_clock)
    users = np.searchsorted(columns.clock, target[of_clock], "right", by_clock) - low
    spread = by_clock[spans(low, users)]
    return (
        np.concatenate((place[target[~of_clock]], spread)),
        np.concatenate((row[~of_clock], np.repeat(row[of_clock], users))),
        np.concatenate((flags[~of_clock], np.repeat(flags[of_clock], users))),
    )
