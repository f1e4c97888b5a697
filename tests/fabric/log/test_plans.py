"""Reads cost the same however large a segment is: every plan walks the index in order and stops at its limit."""

from __future__ import annotations

import os

import pytest

from rocade.fabric.database import Database
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import AHEAD, AHEAD_ROWS, WITHIN, WITHIN_ROWS, PostgresLog
from rocade.fabric.log.segments import Retention, table_of

CASES = {
    "ahead": (
        AHEAD,
        AHEAD_ROWS,
        "smallint[], smallint[], integer[], bigint[], bigint",
        "'{0}', '{0}', '{1}', '{0}', 9",
    ),
    "within": (WITHIN, WITHIN_ROWS, "smallint[], integer[], bigint[], bigint[]", "'{0}', '{1}', '{0}', '{9}'"),
}


@pytest.mark.parametrize("engine", ["database", "database_15"])
async def test_reads_walk_the_index_and_stop(engine: str, database: Database, database_15: Database) -> None:
    chosen = {"database": database, "database_15": database_15}[engine]
    log = PostgresLog(chosen, retention=Retention(segment_bytes=2_000_000))
    body = os.urandom(1_000)
    for first in range(0, 4_000, 200):
        await log.append("telemetry", [Record(n % 64, n, 1, n, body) for n in range(first, first + 200)])
    assert await chosen.pool.fetchval("SELECT count(*) FROM log_segment") > 1
    readers = await log._open_readers()
    async with readers.acquire() as connection:
        for name, (query, rows, types, arguments) in CASES.items():
            union = " UNION ALL ".join(rows.format(table=table_of("telemetry", number)) for number in (1, 2))
            await connection.execute(f"PREPARE {name} ({types}) AS {query.format(rows=union)}")
            plan = "\n".join(line for (line,) in await connection.fetch(f"EXPLAIN EXECUTE {name} ({arguments})"))
            for number in (1, 2):
                assert f"Index Scan using telemetry_{number}_pkey" in plan
            assert "Bitmap" not in plan
            assert "Seq Scan on telemetry" not in plan
            if name == "ahead":
                assert "Sort  (" not in plan, plan
    await log.close()
