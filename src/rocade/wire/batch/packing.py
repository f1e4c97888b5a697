"""Batch -> bytes: finds the narrowest form of every clock and column; `Template` re-stamps packed bytes for little.

Flow: clocks (regular, else deltas in their common unit) -> columns (constant, narrowest deltas of scaled integers that
give back every value exactly, else float64; bits; words) -> Columns message -> zstd where it pays -> envelope, all of
its scalars written so that each stands at a fixed offset.
Refuses (Refused `batch.unpackable`): what the format cannot hold, naming the column. Source: docs/batch.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from rocade.core.errors import Refused
from rocade.wire.batch import layout
from rocade.wire.batch.layout import BITS, CONSTANT, FLOAT64, INT16, INT64, REGULAR, SUBSET, TEXT
from rocade.wire.batch.model import Batch, Clock, Column

_WORTH_COMPRESSING_BYTES = 256
_GAIN = 0.9
"""Compressed is sent when it is below this share of plain."""
_DECIMALS = 9
_EXACT = float(1 << 53)
_WIDTHS: tuple[tuple[int, str], ...] = ((1, "<i1"), (2, "<i2"), (3, "<i4"), (4, "<i8"))
_SECTIONS = {1: "i8", 2: "i16", 3: "i32", 4: "i64", FLOAT64: "f64", BITS: "bits"}
_CLOCK_SECTIONS = {2: "clock_i16", 3: "clock_i32", SUBSET: "clock_bits"}
_HEADER = struct.Struct("<BIBIBQBQBqBqBIBIBIBI")


def pack(batch: Batch, *, compress: bool = True) -> bytes:
    """Write a batch.

    Raises: Refused `batch.unpackable`.
    Cost: about 10 us a column; senders that repeat a shape use `Template`.
    """
    body = _Body(batch)
    for clock in batch.clocks:
        body.add_clock(clock)
    for column in batch.columns:
        body.add_column(column)
    for mark in batch.marks:
        at = mark.column if mark.column is not None else layout.MARK_CLOCK + _given(mark.clock)
        body.add("mark_at", struct.pack("<H", at))
        body.add("mark_row", struct.pack("<I", mark.row))
        body.add("mark_flags", bytes([mark.flags]))
    plain = body.message()
    carried, encoding = plain, layout.PLAIN
    if compress and len(plain) >= _WORTH_COMPRESSING_BYTES:
        squeezed = zstandard.ZstdCompressor(level=3).compress(plain)
        if len(squeezed) < _GAIN * len(plain):
            carried, encoding = squeezed, layout.ZSTD
    envelope = layout.Envelope(
        version=layout.VERSION,
        encoding=encoding,
        epoch=batch.epoch,
        sequence=batch.sequence,
        sent_at_us=batch.sent_at_us,
        start_us=body.start_us,
        scheme=batch.scheme,
        scheme_version=batch.scheme_version,
        body_size=len(plain),
        checksum=zlib.crc32(carried),
        body=carried,
    )
    if batch.vehicle_id:
        envelope.vehicle_id = batch.vehicle_id
    packed: bytes = envelope.SerializeToString(deterministic=True)
    if len(packed) > layout.MAX_CARRIED_BYTES or len(plain) > layout.MAX_PLAIN_BYTES:
        raise _unpackable(f"the batch is too large: {len(packed)} bytes packed, {len(plain)} plain; send fewer rows")
    return packed


class Template:
    """A packed batch whose identity and instants are replaced without touching its body."""

    def __init__(self, packed: bytes) -> None:
        head = list(_HEADER.unpack_from(packed))
        if head[::2] != [0x0D, 0x15, 0x19, 0x21, 0x29, 0x31, 0x3D, 0x45, 0x4D, 0x55]:
            raise _unpackable("the envelope is not in the written order with all scalars present")
        self._before = packed[:10]
        self._after = packed[46:]

    def stamp(self, *, epoch: int, sequence: int, sent_at_us: int, start_us: int) -> bytes:
        """Return the message with these four scalars; instants move with `start_us`. Cost: 0.5 us."""
        return b"".join(
            (self._before, _STAMP.pack(0x19, epoch, 0x21, sequence, 0x29, sent_at_us, 0x31, start_us), self._after)
        )


_STAMP = struct.Struct("<BQBQBqBq")


class _Body:
    """The Columns message while it grows."""

    def __init__(self, batch: Batch) -> None:
        self._parts: dict[str, list[bytes]] = {}
        self._words: dict[str, int] = {}
        self._clock_rows: list[int] = []
        starts = [int(clock.times_us[0]) for clock in batch.clocks if len(clock.times_us)]
        self.start_us = batch.start_us if batch.start_us is not None else min(starts, default=batch.sent_at_us)

    def add(self, name: str, data: bytes) -> None:
        self._parts.setdefault(name, []).append(data)

    def message(self) -> bytes:
        fields: dict[str, Any] = {name: b"".join(parts) for name, parts in self._parts.items()}
        packed: bytes = layout.Columns(**fields, words=list(self._words)).SerializeToString(deterministic=True)
        return packed

    def add_clock(self, clock: Clock) -> None:
        times = np.asarray(clock.times_us, np.int64)
        if not 0 < len(times) <= layout.MAX_ROWS:
            raise _unpackable(f"a clock has {len(times)} instants; 1 to {layout.MAX_ROWS} fit")
        steps = np.diff(times)
        step = int(steps[0]) if len(steps) else 0
        if len(times) == 1 or (bool((steps == step).all()) and 0 < step < 1 << 32):
            self._clock(REGULAR, int(times[0]) - self.start_us, step, len(times), b"")
            return
        unit = int(np.gcd.reduce(np.abs(steps))) or 1
        while unit >= 1 << 32:
            unit = _divisor(unit)
        kind, data = _narrowest(np.concatenate((np.zeros(1, np.int64), steps // unit)))
        if kind == INT64:
            raise _unpackable("instants of one clock lie too far apart; put them on clocks of their own")
        if kind < INT16:
            kind, data = INT16, (np.append(0, steps) // unit).astype("<i2").tobytes()
        self._clock(kind, int(times[0]) - self.start_us, unit, len(times), data)

    def add_column(self, column: Column) -> None:
        where = f"column of signal {column.signal}"
        if not 0 <= column.clock < len(self._clock_rows):
            raise _unpackable(f"{where}: there is no clock {column.clock}")
        values, clock = column.values, column.clock
        if len(values) != self._clock_rows[clock]:
            raise _unpackable(f"{where}: {len(values)} values on a clock of {self._clock_rows[clock]} instants")
        if column.present is not None and not column.present.all():
            if not column.present.any():
                return
            clock = self._subset(clock, column.present)
            chosen = np.flatnonzero(column.present)
            values = values[chosen] if isinstance(values, np.ndarray) else [values[row] for row in chosen.tolist()]
        try:
            kind, exponent, first, data = self._encode(values, column.decimals)
        except (ValueError, OverflowError, TypeError) as error:
            raise _unpackable(f"{where}: {error}") from error
        self.add("signal", struct.pack("<I", column.signal))
        self.add("column_clock", struct.pack("<H", clock))
        self.add("column_kind", bytes([kind]))
        self.add("exponent", struct.pack("<b", exponent))
        self.add("first", struct.pack("<q", first))
        if data:
            self.add(_SECTIONS[kind & 15], data)

    def _clock(self, kind: int, start: int, step: int, rows: int, data: bytes) -> None:
        self.add("clock_start", struct.pack("<q", start))
        self.add("clock_step", struct.pack("<I", step))
        self.add("clock_rows", struct.pack("<I", rows))
        self.add("clock_kind", bytes([kind]))
        if data:
            self.add(_CLOCK_SECTIONS[kind], data)
        self._clock_rows.append(rows)

    def _subset(self, parent: int, present: NDArray[np.bool_]) -> int:
        self._clock(SUBSET, 0, parent, int(present.sum()), np.packbits(present, bitorder="little").tobytes())
        return len(self._clock_rows) - 1

    def _encode(self, values: Any, decimals: int | None) -> tuple[int, int, int, bytes]:
        """Return (kind, exponent, first, payload)."""
        if not isinstance(values, np.ndarray):
            return self._encode_text(values)
        if values.dtype == np.bool_:
            if values.all() or not values.any():
                return CONSTANT, 0, int(values[0]), b""
            return BITS, 0, 0, np.packbits(values, bitorder="little").tobytes()
        if values.dtype.kind in "iu":
            if values.dtype == np.uint64 and int(values.max()) >= 1 << 63:
                raise ValueError("an integer above 2^63 - 1")
            return _encode_integers(values.astype(np.int64), 0)
        return _encode_floats(values.astype(np.float64), decimals)

    def _encode_text(self, values: Sequence[str]) -> tuple[int, int, int, bytes]:
        indexes = [self._words.setdefault(word, len(self._words)) for word in values]
        kind, exponent, first, data = _encode_integers(np.array(indexes, np.int64), 0)
        return kind + TEXT, exponent, first, data


def _encode_integers(values: NDArray[np.int64], exponent: int) -> tuple[int, int, int, bytes]:
    deltas = np.zeros(len(values), np.int64)
    np.subtract(values[1:], values[:-1], out=deltas[1:])
    kind, data = _narrowest(deltas)
    return kind, exponent, int(values[0]), data


def _encode_floats(values: NDArray[np.float64], decimals: int | None) -> tuple[int, int, int, bytes]:
    """Scaled integers if they give back every value exactly (with `decimals` given: rounded to it), else float64."""
    if np.isfinite(values).all():
        if decimals is not None:
            values = np.round(values, decimals)
        for digits in range(_DECIMALS + 1) if decimals is None else range(decimals + 1):
            scaled = np.rint(values * 10.0**digits)
            if np.abs(scaled).max() >= _EXACT:
                break
            if np.array_equal(scaled / 10.0**digits, values):
                return _encode_integers(scaled.astype(np.int64), -digits)
    return FLOAT64, 0, 0, values.astype("<f8").tobytes()


def _narrowest(deltas: NDArray[np.int64]) -> tuple[int, bytes]:
    low, high = int(deltas.min()), int(deltas.max())
    if low == high == 0:
        return CONSTANT, b""
    for kind, form in _WIDTHS:
        bounds = np.iinfo(form)
        if bounds.min <= low and high <= bounds.max:
            return kind, deltas.astype(form).tobytes()
    raise AssertionError("int64 holds every int64")


def _divisor(unit: int) -> int:
    """The largest divisor below 2^32 that division by small primes finds; 1 always divides."""
    for prime in (2, 3, 5, 7):
        if unit % prime == 0:
            return unit // prime
    return 1


def _given(index: int | None) -> int:
    if index is None:
        raise _unpackable("a mark names neither a column nor a clock")
    return index


def _unpackable(why: str) -> Refused:
    return Refused("batch.unpackable", f"this batch cannot be written: {why}")
