"""The two promises that a log in a database breaks most easily: nothing is skipped, nobody is delayed.

A reader that follows one global sequence skips what commits late; one that stays below the snapshot horizon waits for every
open transaction of the whole cluster. Ours does neither: order is per (partition, writer).
"""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest

from rocade.fabric.database import Database
from rocade.fabric.log import Record
from rocade.fabric.log.blocks import COLUMNS, build_copy
from rocade.fabric.log.postgres import PostgresLog

EVERY = range(64)


def record(number: int, partition: int = 0) -> Record:
    return Record(partition, number, 1, 1_700_000_000_000_000 + number, b"%d" % number)


async def test_no_reader_ever_skips_a_record_that_commits_late(database: Database) -> None:
    early, late = PostgresLog(database), PostgresLog(database)
    await early.append("telemetry", [record(1)])
    await late.append("telemetry", [record(2)])  # takes writer 2
    cursor = (await early.read("telemetry", EVERY, {}, 100, 1 << 20)).positions
    writer, last = await database.pool.fetchrow(
        "SELECT writer, max(position) FROM log_data.telemetry_1 GROUP BY 1 ORDER BY 1 DESC LIMIT 1"
    )
    held = await asyncpg.connect(database.url)
    transaction = held.transaction()
    await transaction.start()
    copy = build_copy([record(3)], writer, 1, last + 1)

    async def source() -> object:
        yield copy.data

    await held.copy_to_table("telemetry_1", schema_name="log_data", columns=COLUMNS, format="binary", source=source())

    await early.append("telemetry", [record(4)])  # began later, commits earlier
    seen = await early.read("telemetry", EVERY, cursor, 100, 1 << 20)
    assert [each.key for each in seen.records] == [4]
    await transaction.commit()
    seen = await early.read("telemetry", EVERY, cursor | seen.positions, 100, 1 << 20)
    assert [each.key for each in seen.records] == [3]
    await held.close()
    await early.close()
    await late.close()


async def test_a_reader_behind_many_busy_writers_sees_everything_once_and_in_order(database: Database) -> None:
    logs = [PostgresLog(database) for _ in range(4)]

    async def write(number: int) -> None:
        for turn in range(60):
            await logs[number].append(
                "telemetry", [record(number * 1_000_000 + turn * 100 + i, (turn + i) % 64) for i in range(1 + turn % 7)]
            )

    writing = asyncio.gather(*map(write, range(4)))
    cursor: dict[tuple[int, int], int] = {}
    seen: list[Record] = []
    while True:
        is_over = writing.done()
        found = await logs[0].read("telemetry", EVERY, cursor, 40, 1 << 20)
        cursor |= found.positions
        seen += found.records
        if is_over and not found.records:
            break
    keys = [each.key for each in seen]
    assert len(keys) == len(set(keys)) == 4 * sum(1 + turn % 7 for turn in range(60))
    for number in range(4):
        for partition in EVERY:
            mine = [each.key for each in seen if each.partition == partition and each.key // 1_000_000 == number]
            assert mine == sorted(mine)
    for log in logs:
        await log.close()


async def _reader_delay_s(database: Database, postgres_url: str, seconds: float) -> float:
    """Longest time from append to read while writing transactions stay open, here and in another database."""
    log = PostgresLog(database)
    await log.append("telemetry", [record(0)])
    await database.pool.execute("CREATE TABLE elsewhere (n int)")
    openers = [await asyncpg.connect(database.url), await asyncpg.connect(postgres_url)]
    for connection in openers:
        await connection.execute("BEGIN")
        await connection.execute("CREATE TABLE held_open (n int)")
        await connection.execute("INSERT INTO held_open VALUES (1)")
    cursor = (await log.read("telemetry", EVERY, {}, 100, 1 << 20)).positions
    worst_s = 0.0
    ends = time.monotonic() + seconds
    number = 0
    while time.monotonic() < ends:
        number += 1
        await log.append("telemetry", [record(number, number % 64)])
        began = time.monotonic()
        while True:
            found = await log.read("telemetry", EVERY, cursor, 100, 1 << 20)
            cursor |= found.positions
            if number in [each.key for each in found.records]:
                break
            assert time.monotonic() - began < 30.0, "the reader waits for a foreign transaction"
            await asyncio.sleep(0.01)
        worst_s = max(worst_s, time.monotonic() - began)
        await asyncio.sleep(0.02)
    for connection in openers:
        await connection.execute("ROLLBACK")
        await connection.close()
    await log.close()
    return worst_s


async def test_a_writing_transaction_left_open_elsewhere_delays_no_reader(
    database: Database, postgres_url: str
) -> None:
    assert await _reader_delay_s(database, postgres_url, 2.0) < 30.0


@pytest.mark.slow
async def test_a_writing_transaction_left_open_for_60_s_delays_no_reader(database: Database, postgres_url: str) -> None:
    assert await _reader_delay_s(database, postgres_url, 60.0) < 30.0
