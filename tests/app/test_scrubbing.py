"""A commit log that is found damaged while the region runs is told in the log, in the audit log and by a metric."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from rocade.app import scrubbing
from rocade.app.configuration import Configuration
from rocade.app.supervisor import MIGRATED
from rocade.core.errors import Corrupt, RocadeError, Unavailable
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, migrate
from rocade.fabric.status import StatusBoard
from rocade.trust.authority import create_region
from rocade.trust.authority.book import AuditBook
from rocade.trust.identity.directory import load_root

DAMAGE = Corrupt("database.commit_log", "pg_xact/0000 byte 190")


class Server:
    """Finds what it is told to find, one scrub after the other."""

    transactions_checked = 762

    def __init__(self, *found: RocadeError | None) -> None:
        self.found = list(found)

    def scrub(self) -> None:
        if (damage := self.found.pop(0) if self.found else None) is not None:
            raise damage


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    return Configuration("eu", "rocade.test", str(tmp_path))


async def test_damage_is_told_each_time_and_recorded_once(
    database: Database, configuration: Configuration, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(DAMAGE, DAMAGE, Unavailable("database.down", "away"), None)
    told = [""]
    for _ in range(4):
        told.append(await scrubbing._scrub(configuration, database, server, told[-1]))
    assert told == ["", DAMAGE.message, DAMAGE.message, DAMAGE.message, ""]
    assert caplog.messages[:2] == [DAMAGE.message, DAMAGE.message]
    assert "the commit log was not checked" in caplog.messages[2]
    book = AuditBook(database, configuration.trust / "audit", load_root(configuration.trust / "trust.pem"))
    entries = [entry for _, entry in await book.tail(10)]
    assert [(entry.action, entry.outcome, entry.reason) for entry in entries] == [
        ("database.commit_log", "refused", "database.commit_log")
    ]


async def test_what_was_found_stands_among_the_metrics_while_the_region_runs(
    database: Database, configuration: Configuration
) -> None:
    await asyncio.to_thread(migrate, database.url, MIGRATED)
    board, is_ended = StatusBoard(database, SystemClock()), asyncio.Event()
    watching = await scrubbing.begin(configuration, database.url, Server(DAMAGE), lambda: 3, is_ended)
    async with asyncio.timeout(30):
        while not (values := await _said(board)).get("commit_log_damaged"):
            await asyncio.sleep(0.05)
    assert values == {"restarts": 3, "commit_log_checked": 762, "commit_log_damaged": 1}
    is_ended.set()
    await watching
    assert await _said(board) == {}


async def _said(board: StatusBoard) -> dict[str, Any]:
    return next((row.values for row in await board.read() if row.role == "database"), {})


async def test_the_database_is_alive_while_a_scrub_takes_its_time(
    database: Database, configuration: Configuration
) -> None:
    class Slow(Server):
        def __init__(self) -> None:
            super().__init__()
            self.go_on = threading.Event()

        def scrub(self) -> None:
            self.go_on.wait(60)

    await asyncio.to_thread(migrate, database.url, MIGRATED)
    board, is_ended, server = StatusBoard(database, SystemClock()), asyncio.Event(), Slow()
    watching = await scrubbing.begin(configuration, database.url, server, lambda: 0, is_ended)
    try:
        async with asyncio.timeout(30):
            while not await _said(board):
                await asyncio.sleep(0.05)
    finally:
        server.go_on.set()
        is_ended.set()
        await watching
