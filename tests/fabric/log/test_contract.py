"""What every engine of the log promises; one table of tests, every engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from rocade.core.errors import Refused, Unavailable
from rocade.fabric.database import Database
from rocade.fabric.log import Log, Record
from rocade.fabric.log.segments import Retention

EVERY = range(64)
NOW_US = 1_700_000_000_000_000

type Opener = Callable[..., Awaitable[Log]]


def records(count: int, size: int = 100, first: int = 0) -> list[Record]:
    return [Record(n % 64, n, n % 5, NOW_US + n, os.urandom(size)) for n in range(first, first + count)]


async def read_all(log: Log, cursor: dict[tuple[int, int], int] | None = None, limit: int = 500) -> list[Record]:
    """Everything after `cursor`, which moves along."""
    cursor = {} if cursor is None else cursor
    found: list[Record] = []
    while True:
        each = await log.read("telemetry", EVERY, cursor, limit, 1 << 20)
        if not each.records:
            return found
        cursor |= each.positions
        found += each.records


def by_key(many: list[Record]) -> list[Record]:
    return sorted(many, key=lambda record: record.key)


async def test_records_come_back_whole(log: Log) -> None:
    sent = records(1_000)
    await log.append("telemetry", sent)
    assert by_key(await read_all(log)) == sent


async def test_records_of_a_partition_come_back_in_the_order_they_were_appended(log: Log) -> None:
    for first in range(0, 600, 100):
        await log.append("telemetry", records(100, first=first))
    found = await read_all(log, limit=50)
    for partition in EVERY:
        keys = [record.key for record in found if record.partition == partition]
        assert keys == sorted(keys)
        assert keys


async def test_an_append_of_nothing_stores_nothing(log: Log) -> None:
    await log.append("telemetry", [])
    assert await read_all(log) == []


async def test_a_stream_nobody_wrote_to_is_empty(log: Log) -> None:
    found = await log.read("telemetry", EVERY, {}, 10, 1_000)
    assert (found.records, dict(found.limits)) == ([], {})


async def test_streams_do_not_mix(log: Log) -> None:
    await log.append("telemetry", records(3))
    await log.append("events", records(5, first=100))
    found = await log.read("events", EVERY, {}, 100, 1 << 20)
    assert sorted(record.key for record in found.records) == [100, 101, 102, 103, 104]


@pytest.mark.parametrize("name", ["", "Telemetry", "a;drop table x", "a" * 32, "../x", "1a"])
async def test_a_stream_name_that_is_no_word_is_refused(log: Log, name: str) -> None:
    with pytest.raises(Refused, match=r"log\.stream"):
        await log.append(name, records(1))


async def test_only_wanted_partitions_are_read(log: Log) -> None:
    await log.append("telemetry", records(640))
    found = await log.read("telemetry", [3, 9, 63], {}, 1_000, 1 << 20)
    assert {record.partition for record in found.records} == {3, 9, 63}
    assert {partition for partition, _ in found.limits} == {3, 9, 63}
    assert len(found.records) == 30


async def test_partitions_read_apart_are_each_read_once(log: Log) -> None:
    """Neighbouring partitions move between workers that stand at different positions."""
    cursor: dict[tuple[int, int], int] = {}
    seen: list[Record] = []
    for turn in range(8):
        await log.append("telemetry", records(64, first=turn * 64))
        found = await log.read("telemetry", [turn, 8, 9], cursor, 1_000, 1 << 20)
        cursor |= found.positions
        seen += found.records
    seen += await read_all(log, cursor)
    assert [r.key for r in by_key(seen)] == list(range(512))


async def test_a_reader_resumes_where_its_group_committed(log: Log, open_log: Opener) -> None:
    await log.append("telemetry", records(100))
    assert await log.positions("history", "telemetry", EVERY) == {}
    found = await log.read("telemetry", EVERY, {}, 1_000, 1 << 20)
    await log.commit("history", "telemetry", found.positions)
    await log.append("telemetry", records(10, first=100))
    after_restart = await open_log()
    cursor = await after_restart.positions("history", "telemetry", EVERY)
    assert [record.key for record in by_key(await read_all(after_restart, cursor))] == list(range(100, 110))
    assert await after_restart.positions("another", "telemetry", EVERY) == {}


async def test_a_commit_in_a_transaction_that_fails_stores_nothing(log: Log, database: Database) -> None:
    await log.append("telemetry", records(10))
    found = await log.read("telemetry", EVERY, {}, 1_000, 1 << 20)
    pool = log._pool  # type: ignore[attr-defined]  # the database of this engine
    async with pool.acquire() as connection:
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await log.commit("history", "telemetry", found.positions, connection)
                raise ZeroDivisionError
        assert await log.positions("history", "telemetry", EVERY) == {}
        async with connection.transaction():
            await log.commit("history", "telemetry", found.positions, connection)
    assert await log.positions("history", "telemetry", EVERY) == found.positions


async def test_a_late_commit_of_an_earlier_position_changes_nothing(log: Log) -> None:
    await log.append("telemetry", records(64))
    first = await log.read("telemetry", EVERY, {}, 1_000, 1 << 20)
    await log.append("telemetry", records(64))
    second = await log.read("telemetry", EVERY, first.positions, 1_000, 1 << 20)
    await log.commit("history", "telemetry", second.positions)
    await log.commit("history", "telemetry", first.positions)
    assert await log.positions("history", "telemetry", EVERY) == {**first.positions, **second.positions}


@pytest.mark.parametrize(
    ("max_records", "max_bytes"), [(1, 1 << 20), (100, 1 << 20), (10_000, 5_000), (10_000, 60_000)]
)
async def test_a_slice_keeps_its_limits_and_everything_is_read(log: Log, max_records: int, max_bytes: int) -> None:
    for first in range(0, 400, 40):
        await log.append("telemetry", records(40, 300, first))
    cursor: dict[tuple[int, int], int] = {}
    keys: list[int] = []
    while True:
        found = await log.read("telemetry", EVERY, cursor, max_records, max_bytes)
        if not found.records:
            break
        size = sum(len(record.body) for record in found.records)
        is_one_row = len(found.records) <= 40
        assert is_one_row or (len(found.records) <= max_records and size <= max_bytes)
        cursor |= found.positions
        keys += [record.key for record in found.records]
    assert sorted(keys) == list(range(400))


async def test_the_same_limits_give_the_identical_block_again(log: Log) -> None:
    for first in range(0, 300, 30):
        await log.append("telemetry", records(30, first=first))
    first_read = await log.read("telemetry", EVERY, {}, 100, 1 << 20)
    second_read = await log.read("telemetry", EVERY, first_read.positions, 100, 1 << 20)
    await log.append("telemetry", records(500, first=1_000))
    assert second_read.records
    assert await log.reread("telemetry", second_read.limits) == second_read
    assert await log.reread("telemetry", first_read.limits) == first_read


async def test_a_record_larger_than_any_page_is_whole(log: Log) -> None:
    sent = [*records(3), Record(0, 3, 0, NOW_US, os.urandom(300_000)), *records(2, first=4)]
    await log.append("telemetry", sent)
    assert by_key(await read_all(log)) == sent


async def test_many_appends_at_once_are_all_stored_once(log: Log) -> None:
    await asyncio.gather(*(log.append("telemetry", records(1 + n % 9, first=n * 10)) for n in range(200)))
    keys = [record.key for record in await read_all(log)]
    assert len(keys) == len(set(keys)) == sum(1 + n % 9 for n in range(200))


async def test_several_writers_do_not_disturb_each_other(open_log: Opener) -> None:
    logs = [await open_log() for _ in range(3)]

    async def write(number: int) -> None:
        for turn in range(20):
            await logs[number].append("telemetry", records(10, first=number * 1_000 + turn * 10))

    await asyncio.gather(*map(write, range(3)))
    keys = [record.key for record in await read_all(logs[0])]
    assert sorted(keys) == [number * 1_000 + n for number in range(3) for n in range(200)]


async def test_lag_counts_what_a_group_has_not_read(log: Log) -> None:
    await log.positions("history", "telemetry", EVERY)
    assert (await log.lag("history", "telemetry")).records == 0
    await log.append("telemetry", records(128))
    lag = await log.lag("history", "telemetry")
    assert (lag.records, lag.oldest_arrived_us) == (128, NOW_US)
    found = await log.read("telemetry", EVERY, {}, 1_000, 1 << 20)
    await log.commit("history", "telemetry", found.positions)
    await log.append("telemetry", records(64, first=128))
    lag = await log.lag("history", "telemetry")
    assert (lag.records, lag.oldest_arrived_us) == (64, NOW_US + 128)


SMALL = Retention(age_s=0.0, limit_bytes=1_500_000, segment_s=3_600.0, segment_bytes=300_000)


async def test_intake_stops_before_an_active_group_loses_anything(open_log: Opener) -> None:
    log = await open_log(retention=SMALL)
    await log.positions("history", "telemetry", EVERY)
    count = 0
    with pytest.raises(Unavailable, match=r"log\.full"):
        for _ in range(200):
            await log.append("telemetry", records(20, 2_000, count))
            count += 20
    await log.trim()
    cursor: dict[tuple[int, int], int] = {}
    keys = [record.key for record in await read_all(log, cursor)]
    assert sorted(keys) == list(range(count))
    await log.commit("history", "telemetry", cursor)
    assert await log.trim() > 500_000
    await log.append("telemetry", records(20, 2_000, count))
    assert len(await read_all(log, cursor)) == 20


async def test_a_retired_group_holds_nothing_back(open_log: Opener) -> None:
    log = await open_log(retention=SMALL)
    await log.positions("idle", "telemetry", EVERY)
    for first in range(0, 400, 20):
        await log.append("telemetry", records(20, 2_000, first))
    assert await log.trim() == 0
    await log.retire("idle", "telemetry")  # type: ignore[attr-defined]
    assert await log.trim() > 0


async def test_records_of_a_key_leave_the_disk_and_all_others_stay_where_they_are(
    log: Log, request: pytest.FixtureRequest
) -> None:
    marked = [Record(9, 1 << 40, 1, NOW_US, b"no longer here %d" % n) for n in range(50)]
    await log.append("telemetry", records(300))
    cursor: dict[tuple[int, int], int] = {}
    read = await read_all(log, cursor, limit=40)
    assert len(read) == 300
    for at in range(0, 50, 10):
        await log.append("telemetry", [*marked[at : at + 10], *records(60, first=1_000 + at * 6)])
    removed = await log.forget("telemetry", {1 << 40: 9})
    if removed is None:
        return  # this engine says that it cannot
    assert removed == {1 << 40: 50}
    assert by_key(await read_all(log, cursor)) == records_like(by_key(await read_all(log)), 1_000)
    assert len(await read_all(log)) == 600
    await log.append("telemetry", records(10, first=2_000))
    assert len(await read_all(log, cursor)) == 10, "writers and readers go on"
    assert await log.forget("telemetry", {1 << 40: 9}) == {1 << 40: 0}


def records_like(many: list[Record], since: int) -> list[Record]:
    return [record for record in many if record.key >= since]
