"""What was forgotten is in no file of the log's tables, read as bytes; a crash in the middle changes nothing."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from rocade.fabric.database import Database
from rocade.fabric.log import Record, forgetting
from rocade.fabric.log.postgres import PostgresLog

MARK = b"48.8566, 2.3522: where nobody looks any more"
KEY, PARTITION = (1 << 61) + 5, 17


async def files_with_mark(database: Database) -> list[Path]:
    await database.pool.execute("CHECKPOINT")
    folder = Path(await database.pool.fetchval("SHOW data_directory"))
    oid = await database.pool.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    return _files(folder / "base" / str(oid))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and MARK in path.read_bytes()]


async def fill(log: PostgresLog) -> None:
    for n in range(20):
        others = [Record(p, p + 1, 1, n, b"x" * 200) for p in range(64)]
        await log.append("telemetry", [*others, Record(PARTITION, KEY, 1, n, MARK)])


async def test_no_file_of_the_tables_holds_what_was_forgotten(database: Database) -> None:
    log = PostgresLog(database)
    await fill(log)
    assert await files_with_mark(database)
    assert await log.forget("telemetry", {KEY: PARTITION}) == {KEY: 20}
    assert await files_with_mark(database) == []
    assert (await log.lag("nobody", "telemetry")).records == 20 * 64
    await log.close()


async def test_a_crash_in_the_middle_leaves_the_segment_as_it_was_and_the_next_call_finds_it(
    database: Database,
) -> None:
    log = PostgresLog(database)
    await fill(log)
    with (
        mock.patch.object(forgetting, "_COPY", "SELECT 1 / 0 -- {new} {table}"),
        pytest.raises(Exception, match="zero"),
    ):
        await log.forget("telemetry", {KEY: PARTITION})
    assert (await log.lag("nobody", "telemetry")).records == 20 * 65
    assert await log.forget("telemetry", {KEY: PARTITION}) == {KEY: 20}
    assert await files_with_mark(database) == []
    await log.close()


async def test_many_keys_at_once_are_counted_one_by_one(database: Database) -> None:
    log = PostgresLog(database)
    await fill(log)
    many = {partition + 1: partition for partition in range(30)}
    assert len(many) > forgetting.FEW
    assert await log.forget("telemetry", many | {KEY: PARTITION}) == dict.fromkeys([*many, KEY], 20)
    assert (await log.lag("nobody", "telemetry")).records == 20 * 34
    await log.close()
