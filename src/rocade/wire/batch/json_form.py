"""The JSON form of a batch, for curl, tests and partners: the same clocks and columns, named signals, nulls allowed.

    {"version": 1, "epoch": "00000000000000a1", "sequence": 1, "sent_at_us": 1760000000000000,
     "clocks": [{"times_us": [1759999999000000, 1760000000000000]}],
     "columns": [{"signal": "Vehicle.Speed", "clock": 0, "values": [12.5, null]}]}

A clock may also be {"start_us", "step_us", "rows"}; `signal` may be a numeric id. Values of a column are all numbers, all
booleans or all texts. Refuses (Refused): `batch.malformed`, `batch.version`, `batch.identity`, `batch.limits`,
`batch.clocks`, `batch.columns`, `batch.lengths`, `batch.too_large`. Source: docs/batch.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from rocade.core.errors import Refused
from rocade.wire.batch import layout
from rocade.wire.batch.model import Batch, Clock, Column
from rocade.wire.batch.parsing import CODES


class JsonClock(msgspec.Struct, forbid_unknown_fields=True):
    times_us: list[int] = []
    start_us: int = 0
    step_us: int = 0
    rows: int = 0

    @property
    def count(self) -> int:
        return len(self.times_us) or self.rows


class JsonColumn(msgspec.Struct):
    signal: str | int
    clock: int
    values: list[float | int | bool | str | None]


class JsonBatch(msgspec.Struct):
    """What a JSON body says; fields this version does not know are passed over (the record keeps them)."""

    version: int
    epoch: str
    sequence: int
    sent_at_us: int
    clocks: list[JsonClock] = []
    columns: list[JsonColumn] = []
    scheme: int = 0
    scheme_version: int = 0
    vehicle_id: str = ""

    @property
    def points(self) -> int:
        return sum(len(column.values) for column in self.columns)


class Meaning(msgspec.Struct, frozen=True):
    """What a signal's name stands for: value * factor + offset is in the unit of `signal`."""

    signal: int
    factor: float = 1.0
    offset: float = 0.0


_decoder = msgspec.json.Decoder(JsonBatch)


def parse(body: bytes) -> JsonBatch:
    """Read and check a JSON body without looking at its values.

    Raises: Refused `batch.*`.
    """
    if len(body) > layout.MAX_CARRIED_BYTES:
        raise _refused("batch.too_large", "")
    try:
        batch = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused("batch.malformed", str(error)) from error
    if batch.version != layout.VERSION:
        raise _refused("batch.version", str(batch.version))
    if not (0 < _epoch(batch) < 1 << 64 and 0 < batch.sequence < 1 << 64):
        raise _refused("batch.identity", "epoch is 16 hexadecimal digits, sequence counts from 1")
    if len(batch.clocks) > layout.MAX_CLOCKS or len(batch.columns) > layout.MAX_COLUMNS or not _is_uint32(batch):
        raise _refused("batch.limits", "")
    if not 0 <= batch.sent_at_us < layout.MAX_START_US or not all(map(_is_sound, batch.clocks)):
        raise _refused("batch.clocks", "")
    for column in batch.columns:
        if not 0 <= column.clock < len(batch.clocks):
            raise _refused("batch.columns", f"there is no clock {column.clock}")
        if len(column.values) != batch.clocks[column.clock].count:
            raise _refused("batch.lengths", f"column {str(column.signal)[:64]} has {len(column.values)} values")
        if isinstance(column.signal, int) and not 0 <= column.signal < 1 << 32:
            raise _refused("batch.columns", "a signal id is an unsigned 32-bit number")
    if batch.points > layout.MAX_POINTS:
        raise _refused("batch.limits", f"{batch.points} values")
    return batch


def to_batch(batch: JsonBatch, meaning: Callable[[str], Meaning]) -> Batch:
    """Turn a parsed JSON body into a Batch; columns without a single value are left out.

    Raises: Refused `batch.columns` if a column mixes kinds of values.
    """
    columns = []
    for column in batch.columns:
        sense = meaning(column.signal) if isinstance(column.signal, str) else Meaning(column.signal)
        present = np.array([value is not None for value in column.values], np.bool_)
        if present.any():
            values = _values(column, sense)
            columns.append(Column(sense.signal, column.clock, values, None if present.all() else present))
    return Batch(
        epoch=_epoch(batch),
        sequence=batch.sequence,
        sent_at_us=batch.sent_at_us,
        clocks=[Clock(_times(clock)) for clock in batch.clocks],
        columns=columns,
        scheme=batch.scheme,
        scheme_version=batch.scheme_version,
        vehicle_id=batch.vehicle_id,
    )


def _values(column: JsonColumn, sense: Meaning) -> Any:
    kinds = {type(value) for value in column.values} - {type(None)}
    if kinds == {str}:
        return ["" if value is None else value for value in column.values]
    if kinds == {bool}:
        return np.array([bool(value) for value in column.values])
    if not kinds <= {int, float}:
        raise _refused("batch.columns", f"column {str(column.signal)[:64]} mixes kinds of values")
    values = [0 if value is None else value for value in column.values]
    is_small = kinds == {int} and all(abs(value) < 1 << 63 for value in values if isinstance(value, int))
    if is_small and sense.factor == 1 and sense.offset == 0:
        return np.array(values, np.int64)
    return np.array(values, np.float64) * sense.factor + sense.offset


def _times(clock: JsonClock) -> Any:
    return (
        np.array(clock.times_us, np.int64) if clock.times_us else clock.start_us + np.arange(clock.rows) * clock.step_us
    )


def _is_sound(clock: JsonClock) -> bool:
    if clock.times_us:
        return (
            len(clock.times_us) <= layout.MAX_ROWS
            and 0 <= min(clock.times_us) <= max(clock.times_us) < layout.MAX_START_US
        )
    is_sound = (
        0 < clock.rows <= layout.MAX_ROWS and 0 <= clock.start_us < layout.MAX_START_US and 0 <= clock.step_us < 1 << 32
    )
    return is_sound and (clock.step_us > 0 or clock.rows == 1)


def _is_uint32(batch: JsonBatch) -> bool:
    return 0 <= batch.scheme < 1 << 32 and 0 <= batch.scheme_version < 1 << 32


def _epoch(batch: JsonBatch) -> int:
    try:
        return int(batch.epoch, 16) if len(batch.epoch) <= 16 and batch.epoch.isalnum() else 0
    except ValueError:
        return 0


def _refused(code: str, detail: str) -> Refused:
    return Refused(code, f"{CODES[code]}{': ' if detail else ''}{detail}")
