"""Durability proven by trace: kill -9 proves nothing, the page cache survives it.

After every append the test notes how far the write-ahead log is flushed. Afterwards it reads from the write-ahead log itself
(pg_waldump) where the commit of each append's rows ends. An append that returned before that point was on disk lied.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import pytest

from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.database.embedded import wheel_binaries
from rocade.fabric.log import Record, writer
from rocade.fabric.log.blocks import unpack
from rocade.fabric.log.postgres import PostgresLog

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_COMMIT = re.compile(r"rmgr: Transaction .*rec/tot\):\s+\d+/\s*(\d+), tx:\s+(\d+), lsn: ([0-9A-F/]+),.* desc: COMMIT")


@pytest.fixture(params=["wheel", "debian 15"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Database, Path, Path]]:
    """A server of its own whose files we may read: database, data folder, binaries."""
    binaries = wheel_binaries() if request.param == "wheel" else DEBIAN_15
    with tempfile.TemporaryDirectory(prefix="rocade-d-") as name:
        postgres = EmbeddedPostgres(Path(name), binaries=binaries)
        url = postgres.start()
        try:
            migrate(url, ["rocade.fabric.log"])
            database = await Database.connect(url)
            yield database, Path(name) / "data", binaries
            await database.close()
        finally:
            postgres.stop()


def lsn(text: str) -> int:
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def commit_ends(binaries: Path, data: Path, start: str, end: str) -> dict[int, int]:
    """Where each transaction's commit record ends, from the write-ahead log."""
    dump = subprocess.run(
        [binaries / "pg_waldump", "-p", data / "pg_wal", "-r", "Transaction", "-s", start, "-e", end],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = filter(None, map(_COMMIT.match, dump.stdout.splitlines()))
    return {int(match[2]): lsn(match[3]) + int(match[1]) for match in found}


async def violations(server: tuple[Database, Path, Path], messages: int, group: int) -> tuple[int, int]:
    """Append `messages` in groups; (appends that returned before their commit was flushed, messages traced)."""
    database, data, binaries = server
    log = PostgresLog(database)
    probe = await asyncpg.connect(database.url)
    flushed_statement = await probe.prepare("SELECT pg_current_wal_flush_lsn()::text")
    start = await probe.fetchval("SELECT pg_current_wal_insert_lsn()::text")
    flushed: list[int] = []
    for first in range(0, messages, group):
        await log.append("telemetry", _messages(first, group))
        flushed.append(lsn(await flushed_statement.fetchval()))
    await log.close()
    await probe.execute("SELECT pg_switch_wal()")
    end = await probe.fetchval("SELECT pg_current_wal_flush_lsn()::text")
    ends = commit_ends(binaries, data, start, end)
    bad = traced = 0
    for xid, body in await probe.fetch("SELECT xmin::text::bigint, body FROM log_data.telemetry_1"):
        records = unpack(body)
        traced += len(records)
        bad += sum(flushed[record.key // group] < ends[xid] for record in records)
    await probe.close()
    return bad, traced


def _messages(first: int, count: int) -> Sequence[Record]:
    return [Record(n % 64, n, 1, n, b"%0100d" % n) for n in range(first, first + count)]


@pytest.mark.parametrize("messages", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_no_append_returns_before_its_records_are_flushed(
    server: tuple[Database, Path, Path], messages: int
) -> None:
    assert await violations(server, messages, 50) == (0, messages)


async def test_the_trace_is_red_when_commits_are_not_waited_for(
    server: tuple[Database, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(writer.SESSION_SETTINGS, "synchronous_commit", "off")
    await server[0].pool.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")  # or a slow machine's is there first
    await server[0].pool.execute("SELECT pg_reload_conf()")
    bad, traced = await violations(server, 10_000, 50)
    assert traced == 10_000
    assert bad > 1_000
