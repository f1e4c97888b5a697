"""The row shape of the signal history: one row is a chunk, the samples of one signal of one vehicle within one hour (UTC).

Flow in: `rows_from` turns the decoded struct-of-arrays of many batches into one Arrow table without touching the values
(chunks are cut at full hours, which only moves list offsets). Flow out: `samples_of` turns stored chunks into flat
times, values and quality. A value is a float64 or a text. Decimals are integers and a power of ten: `first`, and the
differences from sample to sample: `d8`, or `d8 + 256 * h8` where `h8` is filled, or `d32` (differences[0] = 0). Other numbers stand in
`f`, their `exponent` is REAL. Times are `t0_us + k * step_us`, or `t0_us + dt[k]` where the clock is irregular.
Beside the samples stand `n`, `total`, `low` and `high` of the good numbers, relative to `first` (of REAL chunks: the
bits of the float64), so that aggregates by whole hours or longer never open the arrays.
Figures behind the shape: docs/decisions/0005-history.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rocade.core.signals import Quality
from rocade.fabric.history import Table

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
INTEGER, FLOAT, TEXT = range(3)
"""Kind of a chunk's values."""
REAL = 127
"""Stored exponent of chunks whose numbers are float64."""
NUMBERS = ("d8", "d32", "f")
DOUBTFUL = int(
    Quality.OUT_OF_RANGE | Quality.JUMP | Quality.ZERO_POSITION | Quality.IMPOSSIBLE_POSITION | Quality.NOT_FINITE
)
"""Flags that keep a value out of aggregates. Stuck values and doubtful times still count."""

TABLE = Table(
    name="signal_chunk",
    columns=(
        ("vehicle", "UInt64 CODEC(Delta, ZSTD)"),
        ("signal", "UInt32 CODEC(Delta, ZSTD)"),
        ("t0_us", "Int64 CODEC(Delta, ZSTD)"),
        ("arrived_us", "Int64 CODEC(Delta, ZSTD)"),
        ("step_us", "UInt32 CODEC(ZSTD)"),
        ("exponent", "Int8 CODEC(ZSTD)"),
        ("first", "Int64 CODEC(T64, ZSTD)"),
        ("n", "UInt32 CODEC(ZSTD)"),
        ("total", "Int64 CODEC(T64, ZSTD)"),
        ("low", "Int64 CODEC(T64, ZSTD)"),
        ("high", "Int64 CODEC(T64, ZSTD)"),
        ("d8", "Array(Int8) CODEC(ZSTD)"),
        ("h8", "Array(Int8) CODEC(ZSTD)"),
        ("d32", "Array(Int32) CODEC(ZSTD)"),
        ("f", "Array(Float64) CODEC(ZSTD)"),
        ("s", "Array(String) CODEC(ZSTD)"),
        ("dt", "Array(UInt32) CODEC(Delta, ZSTD)"),
        ("q", "Array(UInt8) CODEC(ZSTD)"),
    ),
    order_by=("signal", "vehicle", "t0_us"),
    shard_by="vehicle",
    partition_by=f"(intDiv(arrived_us, {DAY_US}), t0_us < arrived_us - 2 * {DAY_US} OR t0_us > arrived_us + {DAY_US})",
    settings={
        "index_granularity": 1024,
        "index_granularity_bytes": 1_048_576,
        "min_compress_block_size": 32_768,
        "old_parts_lifetime": 2,
        "cleanup_delay_period": 1,
        "max_cleanup_delay_period": 2,
    },
)
"""A partition is one day of arrival; what arrives more than two days late (or from the future) has a partition of its
own there (arrival is kept to the second), so that the engine's per-part bounds of `t0_us` stay narrow and a range of time opens few parts.
A signal of a vehicle is some dozens of rows in each part; small granules and blocks spare unpacking its neighbours, in
rows for days that come in, in bytes for condensed ones."""

type Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Decoded samples of many chunks, flat. Per chunk: arrays of equal length; per sample: flat arrays in chunk order.

    Shape: `ints` holds the samples of the INTEGER chunks only, `floats` of the FLOAT chunks, `words` of the TEXT chunks,
    `offsets_us` those of the irregular chunks (`step_us == 0`), counted from `start_us`, never decreasing.
    `doubt_at` are rising places among all samples of all chunks, `doubt_flags` their quality; all others are good.
    """

    vehicle: NDArray[np.uint64]
    signal: NDArray[np.uint32]
    arrived_us: Ints
    start_us: Ints
    step_us: Ints
    rows: Ints
    kind: NDArray[np.uint8]
    exponent: NDArray[np.int8]
    ints: Ints | NDArray[np.int32]
    floats: NDArray[np.float64]
    words: pa.Array | Sequence[str] = ()
    offsets_us: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    doubt_at: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    doubt_flags: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))


@dataclass(frozen=True, slots=True)
class Samples:
    """Flat samples of one or more chunks of one kind: parallel arrays, and which chunk row each came from."""

    time_us: Ints
    value: NDArray[np.float64] | NDArray[np.object_]
    quality: NDArray[np.uint8]
    row: Ints

    def between(self, from_us: int, until_us: int) -> Samples:
        """Those in [from, until), in order of time (chunks of one hour may overlap)."""
        inside = np.flatnonzero((self.time_us >= from_us) & (self.time_us < until_us))
        if np.any(np.diff(self.time_us[inside]) < 0):
            inside = inside[np.argsort(self.time_us[inside], kind="stable")]
        elif len(inside) == len(self.row):
            return self
        return Samples(self.time_us[inside], self.value[inside], self.quality[inside], self.row[inside])


def rows_from(chunks: Chunks) -> pa.Table:
    """Arrange chunks as rows of TABLE; chunks without samples vanish. Cost: some 15 ns a sample."""
    chunks, deltas, width = _narrowed(_cut_at_hours(chunks))
    rows, kind = chunks.rows, chunks.kind
    flags = _spread(chunks)
    doubted = _any(flags, rows)
    sums = _summaries(chunks, flags)
    of_integer = rows[kind == INTEGER]
    widths = np.zeros(len(rows), np.uint8)
    widths[kind == INTEGER] = width
    low = deltas.astype(np.int8)
    high = ((deltas - low) >> 8).astype(np.int8)
    small = _picked(low, width <= 16, of_integer)
    irregular = (chunks.step_us == 0) & (rows > 1)
    offsets = _picked(chunks.offsets_us.astype(np.uint32), irregular[chunks.step_us == 0], rows[chunks.step_us == 0])
    words = chunks.words if isinstance(chunks.words, pa.Array) else pa.array(chunks.words, pa.string())
    return pa.table(
        {
            "vehicle": chunks.vehicle,
            "signal": chunks.signal,
            "t0_us": chunks.start_us,
            "arrived_us": chunks.arrived_us // 1_000_000 * 1_000_000,
            "step_us": chunks.step_us.astype(np.uint32),
            "exponent": np.where(kind == FLOAT, np.int8(REAL), chunks.exponent),
            **sums,
            "d8": _lists(rows * ((widths == 8) | (widths == 16)), small),
            "h8": _lists(rows * (widths == 16), _picked(high, width == 16, of_integer)),
            "d32": _lists(rows * (widths == 32), _picked(deltas.astype(np.int32), width == 32, of_integer)),
            "f": _lists(rows * (kind == FLOAT), pa.array(chunks.floats)),
            "s": _lists(rows * (kind == TEXT), words),
            "dt": _lists(rows * irregular, offsets),
            "q": _lists(rows * doubted, _picked(flags, doubted, rows) if len(flags) else pa.array(flags)),
        }
    )


def samples_of(rows: pa.RecordBatch | pa.Table) -> Samples:
    """Unfold stored chunks, all of numbers or all of texts, into flat samples in stored order."""
    if isinstance(rows, pa.Table):
        rows = rows.combine_chunks()
    flat = {name: _flat(rows.column(name)) for name in rows.schema.names}
    length = {name: lengths(rows.column(name)) for name in (*NUMBERS, "h8", "s", "dt", "q")}
    count = np.sum([length[name] for name in (*NUMBERS, "s")], axis=0, dtype=np.int64)
    row = np.repeat(np.arange(len(count)), count)
    begin = np.cumsum(count) - count
    time_us = flat["t0_us"][row] + (np.arange(len(row)) - begin[row]) * flat["step_us"].astype(np.int64)[row]
    irregular = (length["dt"] > 0)[row]
    time_us[irregular] = flat["t0_us"][row[irregular]] + flat["dt"]
    quality = np.zeros(len(row), np.uint8)
    quality[(length["q"] > 0)[row]] = flat["q"]
    if length["s"].any():
        return Samples(time_us, flat["s"].astype(object), quality, row)
    deltas = np.zeros(len(row), np.int64)
    for name, weight in (("d8", 1), ("h8", 256), ("d32", 1)):
        deltas[(length[name] > 0)[row]] += flat[name].astype(np.int64) * weight
    running = np.cumsum(deltas)
    value = scaled((flat["first"] - running[begin])[row] + running, np.where(length["f"] > 0, 0, flat["exponent"])[row])
    value[(length["f"] > 0)[row]] = flat["f"]
    return Samples(time_us, value, quality, row)


def unfolded(rows: pa.Table) -> Chunks:
    """Stored rows of TABLE as chunks again, every number exact; `rows_from` gives the same rows back."""
    rows = rows.combine_chunks()
    column = {name: _flat(rows.column(name)) for name in rows.schema.names if name != "s"}
    length = {name: lengths(rows.column(name)) for name in (*NUMBERS, "h8", "s", "dt", "q")}
    count = np.sum([length[name] for name in (*NUMBERS, "s")], axis=0, dtype=np.int64)
    row = np.repeat(np.arange(len(count)), count)
    kind = np.where(length["f"] > 0, FLOAT, np.where(length["s"] > 0, TEXT, INTEGER)).astype(np.uint8)
    deltas = np.zeros(len(row), np.int64)
    for name, weight in (("d8", 1), ("h8", 256), ("d32", 1)):
        deltas[(length[name] > 0)[row]] += column[name].astype(np.int64) * weight
    running = np.cumsum(deltas)
    begin = np.cumsum(count) - count
    ints = (column["first"] - running[begin])[row] + running
    flags = np.zeros(len(row), np.uint8)
    flags[(length["q"] > 0)[row]] = column["q"]
    doubt_at = np.flatnonzero(flags)
    step_us = column["step_us"].astype(np.int64)
    return Chunks(
        vehicle=column["vehicle"],
        signal=column["signal"],
        arrived_us=column["arrived_us"],
        start_us=column["t0_us"],
        step_us=np.where((step_us == 0) & (length["dt"] == 0), 1, step_us),
        rows=count,
        kind=kind,
        exponent=np.where(kind == FLOAT, np.int8(0), column["exponent"]),
        ints=ints[(kind == INTEGER)[row]],
        floats=column["f"],
        words=rows.column("s").combine_chunks().flatten(),
        offsets_us=column["dt"].astype(np.int64),
        doubt_at=doubt_at,
        doubt_flags=flags[doubt_at],
    )


def scaled(integers: NDArray[Any], exponent: NDArray[Any]) -> NDArray[np.float64]:
    """`integers * 10 ** exponent`, each the float64 nearest to the decimal (division by a power of ten is exact so)."""
    power = 10.0 ** np.abs(exponent.astype(np.float64))
    values = integers.astype(np.float64)
    return np.where(exponent < 0, values / power, values * power)


def _cut_at_hours(chunks: Chunks) -> Chunks:
    """Cut chunks where a full hour begins, and drop empty ones."""
    start, step, rows = chunks.start_us, chunks.step_us, chunks.rows
    begin = np.cumsum(rows) - rows
    regular = step > 0
    last_offset = step * (rows - 1)
    dt_rows = rows * ~regular
    dt_end = np.cumsum(dt_rows)
    filled = ~regular & (rows > 0)
    last_offset[filled] = chunks.offsets_us[dt_end[filled] - 1]
    crossings = np.where(rows > 0, (start + last_offset) // HOUR_US - start // HOUR_US, 0)
    if not crossings.any() and rows.all():
        return chunks
    cuts = [begin[rows > 0]]
    steady = np.repeat(np.flatnonzero(regular), crossings[regular])
    nth = np.arange(len(steady)) - np.repeat(np.cumsum(crossings[regular]) - crossings[regular], crossings[regular]) + 1
    until_hour = (start[steady] // HOUR_US + nth) * HOUR_US - start[steady]
    cuts.append(begin[steady] + -(-until_hour // step[steady]))
    for c in np.flatnonzero(~regular & (crossings > 0)):
        times = start[c] + chunks.offsets_us[dt_end[c] - rows[c] : dt_end[c]]
        cuts.append(begin[c] + 1 + np.flatnonzero(np.diff(times // HOUR_US)))
    place = np.unique(np.concatenate(cuts))
    old = np.searchsorted(begin + rows, place, "right")
    within = place - begin[old]
    new_rows = np.diff(place, append=rows.sum())
    new_start = start[old] + within * step[old]
    shaky = ~regular[old]
    new_start[shaky] += chunks.offsets_us[(dt_end - dt_rows)[old[shaky]] + within[shaky]]
    offsets = chunks.offsets_us - np.repeat((new_start - start[old])[shaky], new_rows[shaky])
    return replace(
        chunks,
        vehicle=chunks.vehicle[old],
        signal=chunks.signal[old],
        arrived_us=chunks.arrived_us[old],
        start_us=new_start,
        step_us=np.where(new_rows == 1, np.minimum(step[old], HOUR_US), step[old]),
        rows=new_rows,
        kind=chunks.kind[old],
        exponent=chunks.exponent[old],
        offsets_us=offsets,
    )


def _narrowed(chunks: Chunks) -> tuple[Chunks, NDArray[Any], Ints]:
    """Differences of the INTEGER chunks, and the bits each chunk needs for them; those beyond 32 bits become FLOAT."""
    integer = chunks.kind == INTEGER
    rows = chunks.rows[integer]
    deltas = np.diff(chunks.ints, prepend=chunks.ints[:1])
    if not len(rows):
        return chunks, deltas, rows
    begin = np.cumsum(rows) - rows
    deltas[begin] = 0
    low, high = (_runs(act, deltas, rows, begin) for act in (np.minimum, np.maximum))
    width = np.full(len(rows), 64)
    for bits, lowest, highest in ((32, -(1 << 31), (1 << 31) - 1), (16, -(1 << 15), 127 * 256 + 127), (8, -128, 127)):
        width[(low >= lowest) & (high <= highest)] = bits
    if (width < 64).all():
        return chunks, deltas, width
    wide = np.zeros(len(integer), bool)
    wide[integer] = width == 64
    either = wide | (chunks.kind == FLOAT)
    floats = np.empty(int(chunks.rows[either].sum()))
    moved = np.repeat(wide[either], chunks.rows[either])
    leaving = np.repeat(width == 64, rows)
    floats[moved] = scaled(chunks.ints[leaving], np.repeat(chunks.exponent[wide], chunks.rows[wide]))
    floats[~moved] = chunks.floats
    kind = np.where(wide, np.uint8(FLOAT), chunks.kind)
    return replace(chunks, kind=kind, ints=chunks.ints[~leaving], floats=floats), deltas[~leaving], width[width < 64]


def _spread(chunks: Chunks) -> NDArray[np.uint8]:
    """Quality of every sample; empty when all are good."""
    if not len(chunks.doubt_at):
        return chunks.doubt_flags
    flags = np.zeros(int(chunks.rows.sum()), np.uint8)
    flags[chunks.doubt_at] = chunks.doubt_flags
    return flags


def _any(flags: NDArray[np.uint8], rows: Ints) -> NDArray[np.bool_]:
    """Which chunks hold a doubted sample."""
    if not len(flags):
        return np.zeros(len(rows), bool)
    return np.maximum.reduceat(flags, np.cumsum(rows) - rows) > 0


def _summaries(chunks: Chunks, flags: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """`first`, and `n`, `total`, `low`, `high` of the good numbers of each chunk; all zero where there is none."""
    size = len(chunks.rows)
    sums = {name: np.zeros(size, np.int64) for name in ("first", "n", "total", "low", "high")}
    for kind, values in ((INTEGER, chunks.ints), (FLOAT, chunks.floats)):
        mine = np.flatnonzero(chunks.kind == kind)
        rows = chunks.rows[mine]
        if not len(mine):
            continue
        bad = (flags[np.repeat(chunks.kind == kind, chunks.rows)] & DOUBTFUL) > 0 if len(flags) else None
        if kind == FLOAT:
            bad = ~np.isfinite(values) if bad is None else bad | ~np.isfinite(values)
        n, total, low, high = _reduced(values, rows, bad)
        if kind == INTEGER:
            sums["first"][mine] = first = values[np.cumsum(rows) - rows]
            total, low, high = total - n * first, low - first, high - first
        sums["n"][mine] = n
        for name, numbers in (("total", total), ("low", low), ("high", high)):
            sums[name][mine] = np.where(n > 0, numbers, 0).view(np.int64)
    return sums


def _reduced(values: NDArray[Any], rows: Ints, bad: NDArray[np.bool_] | None) -> tuple[NDArray[Any], ...]:
    """Good count, sum, min, max of each run of `rows` values (no run is empty)."""
    begin = np.cumsum(rows) - rows
    if bad is None or not bad.any():
        return rows, *(_runs(act, values, rows, begin) for act in (np.add, np.minimum, np.maximum))
    limit = np.iinfo(values.dtype) if values.dtype.kind == "i" else np.finfo(values.dtype)
    kind = _sum_type(values)
    return (
        rows - np.add.reduceat(bad.astype(np.int64), begin),
        np.add.reduceat(np.where(bad, 0, values), begin, dtype=kind),
        np.minimum.reduceat(np.where(bad, limit.max, values), begin).astype(kind),
        np.maximum.reduceat(np.where(bad, limit.min, values), begin).astype(kind),
    )


def _runs(act: np.ufunc, values: NDArray[Any], rows: Ints, begin: Ints) -> NDArray[Any]:
    kind = _sum_type(values) if act is np.add else values.dtype
    if rows[0] * len(rows) == len(values) and (rows == rows[0]).all():
        return np.asarray(act.reduce(values.reshape(len(rows), rows[0]), axis=1, dtype=kind))
    return act.reduceat(values, begin, dtype=kind)


def _sum_type(values: NDArray[Any]) -> type:
    return np.int64 if values.dtype.kind == "i" else np.float64


def _picked(flat: NDArray[Any], chosen: NDArray[np.bool_], rows: Ints) -> pa.Array:
    """The samples of the chosen chunks."""
    return pa.array(flat if chosen.all() else flat[np.repeat(chosen, rows)])


def _lists(lengths: Ints, flat: pa.Array) -> pa.ListArray:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def lengths(column: pa.Array) -> Ints:
    """How many samples each row of a list column holds."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return np.asarray(np.diff(column.offsets.to_numpy().astype(np.int64)))


def _flat(column: pa.Array) -> NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return np.asarray((column.flatten() if pa.types.is_list(column.type) else column).to_numpy(zero_copy_only=False))
