"""Watches over the embedded database while the region runs: its commit log every ten minutes, and what it says of itself.

A scrub that finds damage is told three ways: as an error in the supervisor's log each time, in the audit log once for each damage
(`database.commit_log`), and by `rocade_database_commit_log_damaged` of `/metrics` until a scrub finds it whole. Nothing is stopped:
which rows it touches nobody knows, and the next start refuses. What a scrub does: fabric/database/commit_log.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rocade.app.configuration import Configuration
from rocade.core.errors import Corrupt, RocadeError
from rocade.core.ports import AuditEntry, SystemClock
from rocade.fabric.database import Database
from rocade.fabric.status import StatusBoard
from rocade.trust.authority import AuditLog

SCRUB_EVERY_S = 600.0
STATUS_S = 1.0
ACTION = "database.commit_log"
ROLE, PROCESS = "database", "postgres"
_log = logging.getLogger("rocade.app")


class Server(Protocol):
    """What of an embedded PostgreSQL is watched."""

    @property
    def transactions_checked(self) -> int: ...

    def scrub(self) -> None: ...


async def begin(
    configuration: Configuration, url: str, server: Server, restarts: Callable[[], int], is_ended: asyncio.Event
) -> asyncio.Task[None]:
    """Watch until the region ends.

    Raises: Unavailable `database.down`.
    """
    database = await Database.connect(url, max_connections=1)
    return asyncio.create_task(_watch(configuration, database, server, restarts, is_ended))


async def _watch(
    configuration: Configuration,
    database: Database,
    server: Server,
    restarts: Callable[[], int],
    is_ended: asyncio.Event,
) -> None:
    """Say each second how it is, also while a scrub takes its time."""
    found = _Found()
    scrubbing = asyncio.create_task(_scrub_on(configuration, database, server, found, is_ended))
    board = StatusBoard(database, SystemClock())
    try:
        while not is_ended.is_set():
            values = {
                "restarts": restarts(),
                "commit_log_checked": server.transactions_checked,
                "commit_log_damaged": int(bool(found.damage)),
            }
            with contextlib.suppress(Exception):  # it may be down just now
                await board.publish(ROLE, PROCESS, values)
            await _pause(is_ended, STATUS_S)
        await scrubbing
        with contextlib.suppress(Exception):
            await asyncio.wait_for(board.remove(ROLE, PROCESS), 2)
    finally:
        scrubbing.cancel()
        await database.close()


@dataclass
class _Found:
    damage: str = ""
    """What is damaged and told, as far as is known now."""


async def _scrub_on(
    configuration: Configuration, database: Database, server: Server, found: _Found, is_ended: asyncio.Event
) -> None:
    while not is_ended.is_set():
        found.damage = await _scrub(configuration, database, server, found.damage)
        await _pause(is_ended, SCRUB_EVERY_S)


async def _pause(is_ended: asyncio.Event, pause_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(is_ended.wait(), pause_s)


async def _scrub(configuration: Configuration, database: Database, server: Server, told: str) -> str:
    """What is damaged and told, as far as is known now."""
    try:
        await asyncio.to_thread(server.scrub)
    except Corrupt as damage:
        _log.error(damage.message, extra={"facts": {"code": damage.code}})
        if damage.message != told:
            await _record(configuration, database, damage)
        return damage.message
    except Exception as error:  # it goes on the next time
        _log.warning("the commit log was not checked: %s", error)
        return told
    return ""


async def _record(configuration: Configuration, database: Database, damage: Corrupt) -> None:
    audit, clock = AuditLog(database, configuration.trust / "audit", SystemClock()), SystemClock()
    facts: dict[str, str | int | float] = {"found": damage.message}
    entry = AuditEntry(clock.now_us(), f"local:uid-{os.geteuid()}", ACTION, "database", "refused", damage.code, facts)
    try:
        await audit.record(entry)
    except RocadeError as error:
        _log.error("that is not in the audit log: %s", error.message)
    finally:
        await audit.close()
