"""Bytes -> the arrays of many batches side by side, structure checked, values untouched. Used by gateway and worker.

Flow: each message by itself (size, protobuf, version, checksum, bounded decompression, array lengths) -> all messages
in one numpy pass (clocks, columns, section lengths, marks). What fails drops out alone, with its own code (`CODES`).
Memory is bounded before anything is unfolded: by the declared size, checked against the zstd frame's own header, and
by the output buffer. Source: docs/batch.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import zstandard
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from rocade.wire.batch import layout
from rocade.wire.batch.layout import CLOCK_INT16, CLOCK_INT32, REGULAR, SUBSET

type Ints = NDArray[np.int64]

CODES = {
    "batch.too_large": "the message is larger than 1 MiB",
    "batch.malformed": "the envelope or its body is not the protobuf message it should be",
    "batch.version": "the format version is not 1",
    "batch.identity": "epoch and sequence must be present and not 0",
    "batch.encoding": "the encoding is neither plain (0) nor zstd (1)",
    "batch.size": "the declared size is not the size of the body, or above 8 MiB",
    "batch.checksum": "the CRC-32 of the body is not the one declared",
    "batch.compression": "the body is not one whole zstd frame",
    "batch.limits": "too many clocks, columns, words or points",
    "batch.arrays": "arrays of clocks, columns or marks differ in length",
    "batch.clocks": "a clock has an unknown kind, no step, no rows or too many, a wrong parent, or lies outside 1970 to 2255",
    "batch.columns": "a column has an unknown kind or names a clock that is not there",
    "batch.lengths": "a section does not hold exactly what rows and kinds ask for",
    "batch.marks": "a mark points outside its column or clock",
    "batch.position_f32": "a position must not travel as float32",
    "batch.words": "a text column points outside the batch's words",
}

_WIDTH_BITS = np.array([0, 8, 16, 32, 64, 32, 64, 1], np.int64)
"""Payload bits of a row by kind."""
_CLOCK_BITS = np.array([0, 0, 16, 32, 0, 0, 0, 1], np.int64)
_CLOCK_KINDS = np.isin(np.arange(256), (REGULAR, CLOCK_INT16, CLOCK_INT32, SUBSET))
_COLUMN_KINDS = np.isin(np.arange(256), (*range(8), *range(16, 21)))
_SECTIONS = ("i8", "i16", "i32", "i64", "f32", "f64", "bits")
_CLOCK_SECTIONS = ("clock_i16", "clock_i32", "clock_bits")
_SCALARS = ("epoch", "sequence", "sent_at_us", "start_us", "scheme", "scheme_version", "vehicle_id")
_scalars = attrgetter(*_SCALARS)
_arrays = attrgetter(*layout.ARRAYS)
_decompressor = zstandard.ZstdDecompressor(max_window_size=layout.MAX_PLAIN_BYTES)


@dataclass(slots=True)
class Opened:
    """Sound messages as arrays over batches, clocks and columns (batch after batch), payload still as sections."""

    index: Ints
    """Place of each batch among the bodies handed in."""
    scalars: Mapping[str, Sequence[Any]]
    sections: Mapping[str, Sequence[Any]]
    start_us: Ints
    sent_at_us: Ints
    points: Ints
    clock_base: Ints
    clock_count: Ints
    clock_batch: Ints
    clock_kind: NDArray[np.uint8]
    clock_step: Ints
    clock_rows: Ints
    clock_start: Ints
    column_base: Ints
    column_count: Ints
    column_batch: Ints
    column_kind: NDArray[np.uint8]
    column_clock: Ints
    """Index among all clocks; -1 = outside the batch's own."""
    signal: NDArray[np.uint32]
    rows: Ints
    """Of each column."""


def open_many(bodies: Sequence[bytes], no_float32: NDArray[np.uint32] | None = None) -> tuple[Opened, list[str | None]]:
    """Open and check many messages; return the sound ones side by side, and a code for each that is refused.

    `no_float32`: ids of signals that must not travel as float32 (positions).
    """
    reasons: list[str | None] = [None] * len(bodies)
    sound: list[tuple[int, tuple[Any, ...], tuple[Any, ...]]] = []
    for place, body in enumerate(bodies):
        opened = _open(body)
        if isinstance(opened, str):
            reasons[place] = opened
        else:
            sound.append((place, *opened))
    while True:
        sides = _side_by_side(sound)
        bad = _check(sides, no_float32)
        if not bad:
            return sides, reasons
        for batch, code in bad.items():
            reasons[sound[batch][0]] = code
        sound = [one for batch, one in enumerate(sound) if batch not in bad]


def joined(parts: Iterable[bytes], form: str) -> NDArray[Any]:
    """All parts as one array."""
    return np.frombuffer(b"".join(parts), form)


def _open(body: bytes) -> tuple[tuple[Any, ...], tuple[Any, ...]] | str:
    """One message: size, envelope, checksum, decompression, lengths of its arrays. Returns a code if refused."""
    if len(body) > layout.MAX_CARRIED_BYTES:
        return "batch.too_large"
    try:
        envelope = layout.Envelope.FromString(body)
        if envelope.version != layout.VERSION:
            return "batch.version"
        carried, size, encoding = envelope.body, envelope.body_size, envelope.encoding
        if zlib.crc32(carried) != envelope.checksum:
            return "batch.checksum"
        if encoding == layout.ZSTD:
            if not 0 < size <= layout.MAX_PLAIN_BYTES or zstandard.frame_content_size(carried) not in {size, -1}:
                return "batch.size"
            carried = _decompressor.decompress(carried, max_output_size=size, allow_extra_data=False)
        elif encoding != layout.PLAIN:
            return "batch.encoding"
        if len(carried) != size:
            return "batch.size"
        arrays = _arrays(layout.Columns.FromString(carried))
    except DecodeError:
        return "batch.malformed"
    except zstandard.ZstdError:
        return "batch.compression"
    scalars = _scalars(envelope)
    return _array_fault(arrays, scalars) or (scalars, arrays)


def _array_fault(arrays: tuple[Any, ...], scalars: tuple[Any, ...]) -> str | None:
    start, step, rows, kind, _, _, _, signal, clock, form, exponent, first, *_, words, at, row, flags = arrays
    clocks, columns, marks = len(kind), len(form), len(flags)
    if not scalars[0] or not scalars[1]:
        return "batch.identity"
    if (
        clocks > layout.MAX_CLOCKS
        or columns > layout.MAX_COLUMNS
        or marks > layout.MAX_MARKS
        or len(words) > layout.MAX_WORDS
    ):
        return "batch.limits"
    if (
        len(start) != 8 * clocks
        or len(step) != 4 * clocks
        or len(rows) != 4 * clocks
        or len(signal) != 4 * columns
        or len(clock) != 2 * columns
        or len(exponent) != columns
        or len(first) != 8 * columns
        or len(at) != 2 * marks
        or len(row) != 4 * marks
    ):
        return "batch.arrays"
    return None


def _side_by_side(sound: list[tuple[int, tuple[Any, ...], tuple[Any, ...]]]) -> Opened:
    many = len(sound)
    scalars = dict(zip(_SCALARS, zip(*(one[1] for one in sound), strict=True), strict=True)) if sound else {}
    sections = dict(zip(layout.ARRAYS, zip(*(one[2] for one in sound), strict=True), strict=True)) if sound else {}
    scalars = scalars or dict.fromkeys(_SCALARS, ())
    sections = sections or dict.fromkeys(layout.ARRAYS, ())
    batches = np.arange(many)
    clock_count = np.fromiter(map(len, sections["clock_kind"]), np.int64, many)
    column_count = np.fromiter(map(len, sections["column_kind"]), np.int64, many)
    clock_base = np.cumsum(clock_count) - clock_count
    column_batch = np.repeat(batches, column_count)
    column_clock = joined(sections["column_clock"], "<u2").astype(np.int64)
    outside = column_clock >= clock_count[column_batch]
    column_clock += clock_base[column_batch]
    clock_rows = joined(sections["clock_rows"], "<u4").astype(np.int64)
    if outside.any():
        column_clock[outside] = -1
        rows = np.where(outside, 0, np.append(clock_rows, 0)[column_clock])
    else:
        rows = clock_rows[column_clock]
    return Opened(
        index=np.fromiter((one[0] for one in sound), np.int64, many),
        scalars=scalars,
        sections=sections,
        start_us=np.array(scalars["start_us"], np.int64),
        sent_at_us=np.array(scalars["sent_at_us"], np.int64),
        points=np.bincount(column_batch, rows, many).astype(np.int64),
        clock_base=clock_base,
        clock_count=clock_count,
        clock_batch=np.repeat(batches, clock_count),
        clock_kind=joined(sections["clock_kind"], "u1"),
        clock_step=joined(sections["clock_step"], "<u4").astype(np.int64),
        clock_rows=clock_rows,
        clock_start=joined(sections["clock_start"], "<i8"),
        column_base=np.cumsum(column_count) - column_count,
        column_count=column_count,
        column_batch=column_batch,
        column_kind=joined(sections["column_kind"], "u1"),
        column_clock=column_clock,
        signal=joined(sections["signal"], "<u4"),
        rows=rows,
    )


def _check(sides: Opened, no_float32: NDArray[np.uint32] | None) -> dict[int, str]:
    """Rules that need arrays, over all batches at once; the first rule a batch breaks names it."""
    bad: dict[int, str] = {}

    def refuse(code: str, batches: NDArray[Any]) -> None:
        for batch in np.unique(batches).tolist():
            bad.setdefault(batch, code)

    kind, rows, batch = sides.clock_kind, sides.clock_rows, sides.clock_batch
    instant = sides.start_us[batch] + sides.clock_start
    wrong = (rows <= 0) | (rows > layout.MAX_ROWS) | ~_CLOCK_KINDS[kind]
    wrong |= (instant < 0) | (instant >= layout.MAX_START_US)
    wrong |= (kind == REGULAR) & (sides.clock_step == 0) & (rows > 1)
    if wrong.any():
        refuse("batch.clocks", batch[wrong])
    wrong = (sides.sent_at_us < 0) | (sides.sent_at_us >= layout.MAX_START_US)
    if wrong.any():
        refuse("batch.clocks", np.flatnonzero(wrong))
    subset = np.flatnonzero(kind == SUBSET)
    payload = rows
    if len(subset):
        parent, broken = parents(sides, subset)
        refuse("batch.clocks", batch[subset[broken]])
        payload = rows.copy()
        payload[subset] = rows[parent]
    bits = np.minimum(payload, layout.MAX_ROWS) * _CLOCK_BITS[kind & 7]
    wrong = (
        _section_lengths(sides, _CLOCK_SECTIONS) != _sums(batch, kind, (bits + 7) >> 3, len(sides.index))[:, [2, 3, 7]]
    )
    if wrong.any():
        refuse("batch.lengths", np.flatnonzero(wrong.any(1)))
    elif len(subset):
        refuse("batch.clocks", batch[subset[_wrong_subsets(sides, subset, payload)]])

    kind, rows, batch = sides.column_kind, sides.rows, sides.column_batch
    wrong = (sides.column_clock < 0) | ~_COLUMN_KINDS[kind]
    wrong |= np.abs(joined(sides.sections["exponent"], "i1").astype(np.int16)) > layout.MAX_EXPONENT
    if wrong.any():
        refuse("batch.columns", batch[wrong])
    if (sides.points > layout.MAX_POINTS).any():
        refuse("batch.limits", np.flatnonzero(sides.points > layout.MAX_POINTS))
    bits = rows * _WIDTH_BITS[kind & 7]
    wrong = _section_lengths(sides, _SECTIONS) != _sums(batch, kind, (bits + 7) >> 3, len(sides.index))[:, 1:]
    if wrong.any():
        refuse("batch.lengths", np.flatnonzero(wrong.any(1)))
    if no_float32 is not None and (kind == layout.FLOAT32).any():
        refuse("batch.position_f32", batch[(kind == layout.FLOAT32) & np.isin(sides.signal, no_float32)])
    if any(sides.sections["mark_flags"]):
        refuse("batch.marks", _wrong_marks(sides))
    return bad


def _sums(batch: Ints, kind: NDArray[np.uint8], size: Ints, many: int) -> Ints:
    """Payload bytes per batch (row) and kind (column)."""
    return np.bincount((batch << 3) + (kind & 7), size, many << 3).astype(np.int64).reshape(many, 8)


def _section_lengths(sides: Opened, names: tuple[str, ...]) -> Ints:
    many = len(sides.index)
    return np.stack([np.fromiter(map(len, sides.sections[name]), np.int64, many) for name in names], axis=1)


def parents(sides: Opened, subset: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Index of the clock each subset clock is part of, and which subsets name none that can be."""
    base = sides.clock_base[sides.clock_batch[subset]]
    parent = sides.clock_step[subset] + base
    broken = parent >= subset
    parent = np.where(broken, subset, parent)
    broken |= (sides.clock_kind[parent] == SUBSET) | (sides.clock_rows[subset] > sides.clock_rows[parent])
    return parent, broken


def _wrong_subsets(sides: Opened, subset: Ints, payload: Ints) -> NDArray[np.bool_]:
    """Subsets whose bits are not as many as their rows, or that set bits in the padding."""
    wide = payload[subset]
    size = (wide + 7) >> 3
    if not size.all():
        return np.ones(len(subset), np.bool_)
    bits: NDArray[np.uint8] = joined(sides.sections["clock_bits"], "u1")
    ends = np.cumsum(size)
    ones = np.add.reduceat(np.bitwise_count(bits), ends - size, dtype=np.int64)
    padding: NDArray[np.bool_] = (wide & 7 != 0) & (bits[ends - 1] >> (wide & 7).astype(np.uint8) != 0)
    wrong: NDArray[np.bool_] = (ones != sides.clock_rows[subset]) | padding
    return wrong


def mark_rows(sides: Opened) -> tuple[Ints, Ints, NDArray[np.bool_], Ints, NDArray[np.uint8]]:
    """Marks of all batches: batch, index among all columns or clocks (-1 = outside), is a clock's, row, flags."""
    flags = sides.sections["mark_flags"]
    batch = np.repeat(np.arange(len(flags)), np.fromiter(map(len, flags), np.int64, len(flags)))
    at = joined(sides.sections["mark_at"], "<u2").astype(np.int64)
    of_clock = at >= layout.MARK_CLOCK
    at &= layout.MARK_CLOCK - 1
    inside = at < np.where(of_clock, sides.clock_count[batch], sides.column_count[batch])
    place = np.where(inside, at + np.where(of_clock, sides.clock_base[batch], sides.column_base[batch]), -1)
    row = joined(sides.sections["mark_row"], "<u4").astype(np.int64)
    return batch, place, of_clock, row, joined(flags, "u1")


def _wrong_marks(sides: Opened) -> Ints:
    batch, place, of_clock, row, _ = mark_rows(sides)
    limit = np.zeros(len(batch), np.int64)
    for is_clock, rows in ((True, sides.clock_rows), (False, sides.rows)):
        chosen = (of_clock == is_clock) & (place >= 0)
        limit[chosen] = rows[place[chosen]]
    return batch[row >= limit]
