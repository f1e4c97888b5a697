"""The signal history: what the telemetry service keeps of every value, and every statement it asks of the history engine.

Flow: the worker inserts chunks under a token made from its log range; readers ask for samples, hourly summaries, gaps.
Vehicles are `VehicleRef`s, signals catalogue ids, instants microseconds UTC, ranges half open [from, until).
Row shape: `chunks.TABLE`. Values whose quality is in `chunks.DOUBTFUL` are kept and read, but no summary counts them.
Refuses: ranges and steps that are not whole hours where only whole hours can be answered from summaries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import pairwise
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
import pyarrow as pa

from rocade.core.errors import Refused
from rocade.fabric.history import Erased, History, Progress
from rocade.services.telemetry import chunks
from rocade.services.telemetry.answering import Answer
from rocade.services.telemetry.chunks import HOUR_US, REAL, Chunks, Ints, Samples

type Part = tuple[int, int, Samples]
"""(vehicle, signal, its samples in order of time)."""

_NAME = chunks.TABLE.name
_COLUMNS = "vehicle, signal, t0_us, step_us, exponent, first, d8, h8, d32, f, s, dt, q"
_SAMPLES = "length(d8) + length(d32) + length(f) + length(s)"
_OF = "vehicle IN {vehicles:Array(UInt64)}"
_WHERE = (
    "vehicle IN {vehicles:Array(UInt64)} AND signal IN {signals:Array(UInt32)} "
    "AND t0_us >= {first:Int64} AND t0_us < {until:Int64}"
)


_FROM = (
    "(signal > {in_signal:UInt32} OR (signal = {in_signal:UInt32} AND (vehicle > {in_vehicle:UInt64}"
    " OR (vehicle = {in_vehicle:UInt64} AND t0_us >= {in_us:Int64}))))"
)
"""From a place in the order of rows on."""
_hidden: WeakKeyDictionary[History, frozenset[int]] = WeakKeyDictionary()
"""Vehicles that a client does not show."""


def _unscaled(column: str) -> str:
    """SQL of a summary column as float64 in the signal's unit."""
    whole = f"toFloat64({'n * first' if column == 'total' else 'first'} + {column})"
    return (
        f"multiIf(exponent = {REAL}, reinterpretAsFloat64({column}), "
        f"exponent < 0, {whole} / intExp10(toUInt8(-exponent)), {whole} * intExp10(toUInt8(exponent)))"
    )


class Gap(msgspec.Struct, frozen=True):
    """A stretch of time without any sample."""

    from_us: int
    until_us: int


async def ensure(history: History) -> None:
    """Create the tables, or refuse tables of another version. Raises: Misconfigured `history.table.differs`."""
    await history.ensure(chunks.TABLE)


async def insert(history: History, block: Chunks, token: str) -> None:
    """Store a block durably; the same block under the same token again changes nothing."""
    await history.insert(_NAME, chunks.rows_from(block), token)


async def samples(
    history: History, vehicles: Sequence[int], signals: Sequence[int], from_us: int, until_us: int
) -> AsyncIterator[Part]:
    """Samples of these vehicles and signals in order of signal, vehicle and time, whole hours at once; bounded memory.

    Asked again from where it was when its reader is slow (`answering`); what is erased meanwhile is in no part after that.
    """
    parameters, place = _parameters(vehicles, signals, from_us, until_us), None
    while True:
        waiting, begun = list[pa.Table](), place
        where = _WHERE if place is None else f"{_WHERE} AND {_FROM}"
        sql = f"SELECT {_COLUMNS} FROM {_NAME} WHERE {where} ORDER BY signal, vehicle, t0_us SETTINGS max_threads = 1"
        asked = parameters | dict(zip(("in_signal", "in_vehicle", "in_us"), place or (), strict=False))
        async with aclosing(Answer(history.stream(sql, asked))) as answer:
            async for batch in answer:
                table = pa.concat_tables([*waiting, pa.Table.from_batches([batch])])
                complete = _last_hour_begins(table)
                waiting, place = [table.slice(complete)], _place(table, complete) or place
                for part in _visible(history, _parts(table.slice(0, complete), from_us, until_us)):
                    yield part
                if answer.is_old and place != begun:
                    break
            else:
                if not answer.was_let_go:
                    for table in waiting:
                        for part in _visible(history, _parts(table, from_us, until_us)):
                            yield part
                    return


async def series(history: History, vehicle: int, signal: int, from_us: int, until_us: int) -> Samples:
    """All samples of one signal of one vehicle at once; for ranges known to be short."""
    found = [part async for _, _, part in samples(history, [vehicle], [signal], from_us, until_us)]
    if not found:
        return Samples(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8), np.zeros(0, np.int64))
    return Samples(
        *(np.concatenate([getattr(part, name) for part in found]) for name in ("time_us", "value", "quality", "row"))
    )


async def arrived(history: History, vehicle: int, signal: int, at_us: int) -> int | None:
    """When the chunk arrived that holds a sample of this instant (to the second); None if there is none."""
    table = await history.query(
        f"SELECT arrived_us FROM {_NAME} WHERE {_WHERE} AND t0_us <= {{at:Int64}} ORDER BY t0_us DESC LIMIT 1",
        {**_parameters([vehicle], [signal], at_us, at_us + 1), "at": at_us},
    )
    return int(table.column(0)[0].as_py()) if table.num_rows else None


async def hourly(
    history: History,
    signals: Sequence[int],
    from_us: int,
    until_us: int,
    *,
    every_us: int = HOUR_US,
    vehicles: Sequence[int] | None = None,
    groups: Mapping[int, int] | None = None,
    without: Sequence[int] = (),
) -> pa.Table:
    """Count, mean, lowest and highest by signal, group and `every_us`, from the summaries alone.

    `groups` numbers the vehicles (by brand, by model; the caller knows them); without it a group is a vehicle if
    `vehicles` are named, else the whole fleet is group 0. `without`: vehicles left out.
    Shape: columns signal, group, from_us, n, mean, low, high. Raises: Refused `telemetry.range.hours`.
    """
    if any(instant % HOUR_US for instant in (from_us, until_us, every_us)) or every_us <= 0:
        raise Refused("telemetry.range.hours", "fleet summaries are by whole hours (UTC): round from, until and every")
    where = _WHERE if vehicles is not None or groups is not None else _WHERE.partition(" AND ")[2]
    group = "toUInt64(0)"
    if without:
        where += " AND vehicle NOT IN {without:Array(UInt64)}"
    parameters = _parameters(vehicles or list(groups or ()), signals, from_us, until_us)
    if without:
        parameters["without"] = list(without)
    if groups is not None:
        group = "toUInt64(transform(vehicle, {members:Array(UInt64)}, {numbers:Array(UInt64)}, toUInt64(0)))"
        parameters |= {"members": list(groups), "numbers": list(groups.values())}
    elif vehicles is not None:
        group = "vehicle"
    return await history.query(
        f"SELECT signal, {group} AS `group`, intDiv(t0_us, {{every:Int64}}) * {{every:Int64}} AS from_us, sum(n) AS count, "
        f"sum({_unscaled('total')}) / count AS mean, min({_unscaled('low')}) AS lowest, max({_unscaled('high')}) AS highest "
        f"FROM {_NAME} WHERE {where} AND n > 0 GROUP BY signal, `group`, from_us ORDER BY signal, `group`, from_us",
        {**parameters, "every": every_us},
    )


async def gaps(history: History, vehicle: int, from_us: int, until_us: int, longer_than_us: int) -> list[Gap]:
    """Stretches in [from, until) longer than that in which no signal of the vehicle has a sample."""
    sql = (
        f"SELECT DISTINCT t0_us, step_us, dt, toInt64(length(d8) + length(d32) + length(f) + length(s)) AS rows "
        f"FROM {_NAME} WHERE vehicle = {{vehicle:UInt64}} AND t0_us >= {{first:Int64}} AND t0_us < {{until:Int64}} ORDER BY t0_us"
    )
    first = from_us // HOUR_US * HOUR_US
    seen_us, found = from_us, list[Gap]()
    async for batch in history.stream(sql, {"vehicle": vehicle, "first": first, "until": until_us}):
        begin, end = _stretches(batch, longer_than_us)
        reach = np.maximum.accumulate(np.concatenate([[seen_us], end]))
        for at in np.flatnonzero(np.minimum(begin, until_us) - reach[:-1] > longer_than_us):
            found.append(Gap(int(reach[at]), int(min(begin[at], until_us))))
        seen_us = int(reach[-1])
    if until_us - seen_us > longer_than_us:
        found.append(Gap(seen_us, until_us))
    return found


async def signals_of(history: History, vehicle: int, from_us: int, until_us: int) -> list[int]:
    """Which signals of a vehicle have samples about this range (whole hours)."""
    table = await history.query(
        f"SELECT DISTINCT signal FROM {_NAME} WHERE vehicle = {{vehicle:UInt64}} AND t0_us >= {{first:Int64}} "
        "AND t0_us < {until:Int64} ORDER BY signal",
        {"vehicle": vehicle, "first": from_us // HOUR_US * HOUR_US, "until": until_us},
    )
    return [int(signal) for signal in table.column(0).to_pylist()]


async def erase_vehicles(history: History, vehicles: Sequence[int], progress: Progress | None = None) -> Erased:
    """Remove every value of these vehicles from the disk; returns when no file holds them."""
    return await history.erase(_NAME, _OF, {"vehicles": list(vehicles)}, progress)


async def held_of(history: History, vehicles: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Rows the files hold of each of these vehicles, readable or hidden, and in how many parts."""
    return await history.holding(_NAME, _OF, {"vehicles": list(vehicles)}, "vehicle")


def hide(history: History, vehicles: Sequence[int]) -> None:
    """From now on no question to this client finds values of these vehicles; those of before are found again."""
    _hidden[history] = frozenset(vehicles)
    history.hide(_NAME, f"vehicle NOT IN ({', '.join(str(int(one)) for one in vehicles)})" if vehicles else "")


async def erase_where(history: History, condition: str, parameters: Mapping[str, object]) -> Erased:
    """Remove the rows that meet a condition on the columns of TABLE, if there are any (used by retention)."""
    return await history.erase(_NAME, condition, parameters)


async def held_where(
    history: History, condition: str, by: str, parameters: Mapping[str, object]
) -> dict[int, tuple[int, int]]:
    """Rows that meet a condition and parts that hold them, readable or hidden, by the value of an integer expression."""
    return await history.holding(_NAME, condition, parameters, by)


async def drop_arrival_days(history: History, before_us: int) -> int:
    """Drop whole days of arrival that ended before this instant; returns how many partitions went."""
    last_day = before_us // chunks.DAY_US
    old = [key for key, value in await history.partitions(_NAME) if int(value.strip("()").split(",")[0]) < last_day]
    await asyncio.gather(*(history.drop(_NAME, key) for key in old))  # each waits until its files are gone
    return len(old)


async def rows_of(history: History, partition: str) -> int:
    """Rows of one partition, by its id."""
    found = await history.query(
        f"SELECT toInt64(count()) AS n FROM {_NAME} WHERE _partition_id = {{partition:String}}",
        {"partition": partition},
    )
    return int(found.column(0)[0].as_py())


async def samples_of_table(history: History, name: str) -> int:
    """Samples of all rows of a table of this shape."""
    found = await history.query(f"SELECT toInt64(sum({_SAMPLES})) AS n FROM {name}")
    return int(found.column(0)[0].as_py() or 0)


def samples_in(rows: pa.Table) -> int:
    return sum(int(chunks.lengths(rows.column(name)).sum()) for name in (*chunks.NUMBERS, "s"))


async def whole_hours(history: History, partition: str, at_least: int) -> AsyncIterator[pa.Table]:
    """All rows of a partition in order of signal, vehicle and time, some `at_least` samples at once; no hour is cut."""
    columns = ", ".join(name for name, _ in chunks.TABLE.columns)
    sql = (
        f"SELECT {columns} FROM {_NAME} WHERE _partition_id = {{partition:String}} "
        "ORDER BY signal, vehicle, t0_us SETTINGS max_threads = 1"
    )
    waiting, samples = list[pa.Table](), 0
    async for batch in history.stream(sql, {"partition": partition}):
        table = pa.Table.from_batches([batch])
        waiting.append(table)
        samples += samples_in(table)
        if samples >= at_least:
            table = pa.concat_tables(waiting).combine_chunks()
            complete = _last_hour_begins(table)
            if complete:
                yield table.slice(0, complete)
            waiting = [table.slice(complete)]
            samples = samples_in(waiting[0])
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _parameters(vehicles: Sequence[int], signals: Sequence[int], from_us: int, until_us: int) -> dict[str, object]:
    return {
        "vehicles": list(vehicles),
        "signals": list(signals),
        "first": from_us // HOUR_US * HOUR_US,
        "until": until_us,
    }


def _last_hour_begins(table: pa.Table) -> int:
    """Row from which on all rows are of the same vehicle, signal and hour as the last one."""
    vehicle, signal, t0_us = (table.column(name).to_numpy() for name in ("vehicle", "signal", "t0_us"))
    if not len(vehicle):
        return 0
    same = (vehicle == vehicle[-1]) & (signal == signal[-1]) & (t0_us // HOUR_US == t0_us[-1] // HOUR_US)
    return len(same) - int(np.argmin(same[::-1])) if not same.all() else 0


def _place(table: pa.Table, row: int) -> tuple[int, int, int] | None:
    """Signal, vehicle and hour of a row, if there is one."""
    if row >= table.num_rows:
        return None
    signal, vehicle, t0_us = (table.column(name)[row].as_py() for name in ("signal", "vehicle", "t0_us"))
    return signal, vehicle, t0_us // HOUR_US * HOUR_US


def _visible(history: History, parts: Iterable[Part]) -> Iterator[Part]:
    """Without what was hidden since the question was asked."""
    return (part for part in parts if part[0] not in _hidden.get(history, ()))


def _parts(table: pa.Table, from_us: int, until_us: int) -> Iterator[Part]:
    """Cut rows where vehicle, signal or the kind of value changes, and unfold each piece."""
    if not table.num_rows:
        return
    table = table.combine_chunks()
    vehicle, signal = table.column("vehicle").to_numpy(), table.column("signal").to_numpy()
    is_text = chunks.lengths(table.column("s")) > 0
    change = (np.diff(vehicle) != 0) | (np.diff(signal) != 0) | (is_text[1:] != is_text[:-1])
    edges = [0, *(np.flatnonzero(change) + 1).tolist(), table.num_rows]
    for begin, end in pairwise(edges):
        found = chunks.samples_of(table.slice(begin, end - begin)).between(from_us, until_us)
        if len(found.time_us):
            yield int(vehicle[begin]), int(signal[begin]), found


def _stretches(batch: pa.RecordBatch, longer_than_us: int) -> tuple[Ints, Ints]:
    """Begin and end of what each chunk covers without a gap; a clock slower than the gap asked for covers instants only."""
    t0_us, rows = batch.column("t0_us").to_numpy(), batch.column("rows").to_numpy()
    step = batch.column("step_us").to_numpy().astype(np.int64)
    dense = (chunks.lengths(batch.column("dt")) == 0) & (step <= longer_than_us)
    begin, end = [t0_us[dense]], [(t0_us + step * (rows - 1))[dense]]
    for at in np.flatnonzero(~dense):
        offsets = batch.column("dt")[at].values
        instants = t0_us[at] + (offsets.to_numpy().astype(np.int64) if len(offsets) else step[at] * np.arange(rows[at]))
        begin.append(instants)
        end.append(instants)
    begins, ends = np.concatenate(begin), np.concatenate(end)
    order = np.argsort(begins, kind="stable")
    return begins[order], ends[order]
