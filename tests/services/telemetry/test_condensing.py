"""Past days condensed: same samples, fewer rows, exactly once, whoever dies, is late or is erased meanwhile."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.errors import Unavailable
from rocade.fabric.history import History, connect
from rocade.fabric.history.process import StoreProcess
from rocade.services.telemetry import Ledger, chunks, condensing, joining, store
from rocade.services.telemetry.chunks import DAY_US, FLOAT, HOUR_US, INTEGER, TEXT, Chunks

DAY0_US = 20_000 * DAY_US
NOW_US = DAY0_US + 3 * DAY_US
LONG_AGO_US = DAY0_US + DAY_US


def minutes(seed: int, vehicles: int = 3, count: int = 180, *, late_us: int = 90_000_000, jumps: bool = True) -> Chunks:
    """`count` minutes of some vehicles and four signals: small steps, large ones, floats, words; irregular clocks, doubts."""
    random = np.random.default_rng(seed)
    size = vehicles * 4 * count
    kind = np.tile(np.repeat(np.array([INTEGER, INTEGER, FLOAT, TEXT], np.uint8), count), vehicles)
    rows = random.integers(1, 8, size)
    start_us = (
        DAY0_US + HOUR_US + np.tile(np.arange(count) * 60_000_000, vehicles * 4) + random.integers(0, 10_000_000, size)
    )
    step_us = np.where(random.random(size) < 0.3, 0, 1_000_000)
    drawn = [np.sort(random.integers(0, 20_000_000, rows[c])) for c in range(size) if step_us[c] == 0]
    ints = np.cumsum(random.integers(-50, 50, rows[kind == INTEGER].sum()))
    if jumps:
        ints[random.integers(0, len(ints), 9)] += random.choice([10**9, -(2**40), 2**55 + 1, 33_000], 9)
    doubt_at = np.unique(random.integers(0, rows.sum(), rows.sum() // 30))
    return Chunks(
        vehicle=np.repeat(np.arange(1, vehicles + 1, dtype=np.uint64) + np.uint64(seed * 1000), 4 * count),
        signal=np.tile(np.repeat(np.arange(1, 5, dtype=np.uint32), count), vehicles),
        arrived_us=start_us + late_us,
        start_us=start_us,
        step_us=step_us,
        rows=rows,
        kind=kind,
        exponent=np.where(kind == INTEGER, -2, 0).astype(np.int8),
        ints=ints,
        floats=random.normal(size=rows[kind == FLOAT].sum()),
        words=[f"word {n % 5}" for n in range(rows[kind == TEXT].sum())],
        offsets_us=np.concatenate([one - one[0] for one in drawn]),
        doubt_at=doubt_at,
        doubt_flags=random.integers(1, 64, len(doubt_at)).astype(np.uint8),
    )


def samples(rows: pa.Table) -> list[tuple[Any, ...]]:
    """Every sample of stored rows with its exact number, in one order."""
    return listed(chunks.unfolded(rows))


def listed(one: Chunks) -> list[tuple[Any, ...]]:
    found = []
    flags = np.zeros(int(one.rows.sum()), np.uint8)
    flags[one.doubt_at] = one.doubt_flags
    values = {
        INTEGER: iter(one.ints.tolist()),
        FLOAT: iter(one.floats.tolist()),
        TEXT: iter(pa.array(one.words).to_pylist()),
    }
    offsets, flag = iter(one.offsets_us.tolist()), iter(flags.tolist())
    for c, count in enumerate(one.rows.tolist()):
        kind, step_us = int(one.kind[c]), int(one.step_us[c])
        exponent = int(one.exponent[c]) if kind == INTEGER else 0
        for k in range(count):
            time_us = int(one.start_us[c]) + (k * step_us if step_us else next(offsets))
            key = (int(one.vehicle[c]), int(one.signal[c]), time_us, kind, exponent)
            found.append((*key, next(values[kind]), next(flag)))
    return sorted(found, key=repr)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_joined_by_hours_every_sample_is_the_same_and_no_number_grows_wider(seed: int, jumps: bool) -> None:
    rows = chunks.rows_from(minutes(seed, 1, 70, jumps=jumps))
    assert jumps or samples(rows) == listed(minutes(seed, 1, 70, jumps=False))
    again = chunks.rows_from(chunks.unfolded(rows))
    assert samples(again) == samples(rows)
    assert again.drop(["step_us"]).equals(rows.drop(["step_us"]))
    made = chunks.rows_from(joining.join([chunks.unfolded(rows)], hourly=True))
    assert samples(made) == samples(rows)
    assert made.num_rows < rows.num_rows / (2 if jumps else 8)
    for name in ("d32", "f"):
        assert chunks.lengths(made.column(name)).sum() == chunks.lengths(rows.column(name)).sum()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[StoreProcess]:
    """A history of this test's own."""
    process = StoreProcess(tmp_path / "h")
    process.start()
    yield process
    process.stop()


async def everything(history: History) -> pa.Table:
    columns = ", ".join(name for name, _ in chunks.TABLE.columns)
    return await history.query(f"SELECT {columns} FROM signal_chunk ORDER BY signal, vehicle, t0_us")


async def test_a_past_day_becomes_few_rows_once_and_again_when_something_late_came(
    place: StoreProcess, database: Any
) -> None:
    history, ledger = connect(place.url), Ledger(database)
    await store.ensure(history)
    for number, late_us in enumerate([90_000_000, 30 * HOUR_US, -60_000_000]):
        await store.insert(history, minutes(number, 2, late_us=late_us), f"t{number}")
    before = await everything(history)
    assert await condensing.condense(history, ledger, DAY0_US + DAY_US + HOUR_US) == [], "the day is not settled yet"
    done = await condensing.condense(history, ledger, NOW_US + 2 * DAY_US)
    after = await everything(history)
    assert samples(after) == samples(before)
    assert sum(one.rows_before for one in done) == before.num_rows
    assert sum(one.rows_after for one in done) == after.num_rows < before.num_rows / 1.4
    assert await condensing.condense(history, ledger, NOW_US + 2 * DAY_US) == [], "once is enough"
    await store.insert(history, minutes(9, 1), "late")
    [again] = await condensing.condense(history, ledger, NOW_US + 2 * DAY_US)
    assert samples(await everything(history)) == sorted(
        samples(before) + samples(chunks.rows_from(minutes(9, 1))), key=repr
    )
    assert again.rows_after < again.rows_before
    await history.close()


async def test_a_late_block_and_an_erasure_stop_a_condensing_under_way_and_nothing_comes_back(
    place: StoreProcess, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, ledger = connect(place.url), Ledger(database)
    await store.ensure(history)
    await store.insert(history, minutes(1), "t")
    async with database.pool.acquire() as connection, connection.transaction():
        pending = await ledger.begin(connection, "test", {(0, 1): (0, 5)}, 1, LONG_AGO_US - 1, is_late=True)
    assert await condensing.condense(history, ledger, NOW_US) == [], "a block with older records is pending"
    async with database.pool.acquire() as connection, connection.transaction():
        await ledger.finish(connection, pending)

    async def erase() -> None:
        async with database.pool.acquire() as connection, connection.transaction():
            await ledger.erase(connection, 1001, 1)
        await store.erase_vehicles(history, [1001])

    counted = store.samples_of_table

    async def meanwhile(history: History, name: str) -> int:
        found = await counted(history, name)
        await erase()
        return found

    monkeypatch.setattr(store, "samples_of_table", meanwhile)
    assert await condensing.condense(history, ledger, NOW_US) == []
    monkeypatch.setattr(store, "samples_of_table", counted)
    left = samples(await everything(history))
    assert {one[0] for one in left} == {1002, 1003}
    [done] = await condensing.condense(history, ledger, NOW_US)
    assert done.samples == len(left)
    assert samples(await everything(history)) == left
    await history.close()


async def test_while_a_day_is_put_in_place_the_past_may_not_change(database: Any) -> None:
    ledger = Ledger(database)
    assert await ledger.move_past("20000-0", LONG_AGO_US, 0)
    async with database.pool.acquire() as connection:
        for act in (
            lambda: ledger.erase(connection, 7, 1),
            lambda: ledger.begin(connection, "t", {(0, 1): (0, 5)}, 1, 5, is_late=True),
        ):
            with pytest.raises(Unavailable, match=r"telemetry\.past\.moving"):
                async with connection.transaction():
                    await act()
    await ledger.moved_past("20000-0", 3)
    assert (await ledger.moving(), await ledger.condensed()) == (None, {"20000-0": 3})


def _condense(url: str, database_url: str) -> None:
    from rocade.fabric.database import Database

    async def run() -> None:
        database = await Database.connect(database_url, max_connections=2)
        await condensing.condense(connect(url), Ledger(database), NOW_US)

    asyncio.run(run())


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_killed_at_any_moment_the_condenser_or_the_store_leaves_every_sample_exactly_once(
    place: StoreProcess, database: Any, kills: int
) -> None:
    history, ledger, random = connect(place.url), Ledger(database), np.random.default_rng(kills)
    await store.ensure(history)
    await store.insert(history, minutes(1, 6), "t")
    whole = samples(await everything(history))
    spawn = multiprocessing.get_context("spawn")
    for number in range(kills):
        child = spawn.Process(target=_condense, args=(place.url, database.url))
        child.start()
        await asyncio.sleep(float(random.uniform(0.5, 3.0)))
        if number % 2 and place.pid:
            os.kill(place.pid, signal.SIGKILL)
            place.stop()
            place.start()
        if child.is_alive():
            child.kill()
        child.join()
        while await ledger.moving() is not None:
            await condensing.condense(history, ledger, NOW_US)
        assert samples(await everything(history)) == whole
        await store.insert(history, minutes(100 + number, 1, 10), f"late {number}")
        whole = sorted(whole + samples(chunks.rows_from(minutes(100 + number, 1, 10))), key=repr)
    await condensing.condense(history, ledger, NOW_US)
    assert samples(await everything(history)) == whole
    await history.close()
