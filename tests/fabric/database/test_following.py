"""Following what the database holds, through notifications, polls, faults of the reader and lost connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from rocade.fabric.database import Database
from rocade.fabric.database import following as module
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import Turns, follow


class Reader:
    """Reads one number; says what it saw and fails when told to."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.is_broken = False

    async def read(self, connection: asyncpg.Connection) -> None:
        if self.is_broken:
            raise ValueError("a fault of the reader")
        self.seen.append(await connection.fetchval("SELECT n FROM followed"))


@pytest.fixture
async def table(database: Database) -> Database:
    await database.pool.execute("CREATE TABLE followed (n int); INSERT INTO followed VALUES (1)")
    return database


@contextlib.asynccontextmanager
async def following(database: Database, reader: Reader, poll_s: float) -> AsyncIterator[None]:
    task = asyncio.create_task(follow(database, "followed", reader.read, poll_s=poll_s))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_notification_is_heard_long_before_the_poll(table: Database) -> None:
    reader = Reader()
    async with following(table, reader, poll_s=60):
        await until(lambda: reader.seen == [1])
        await table.pool.execute("UPDATE followed SET n = 2; NOTIFY followed")
        await until(lambda: reader.seen == [1, 2])


async def test_a_lost_notification_costs_one_poll(table: Database) -> None:
    reader = Reader()
    async with following(table, reader, poll_s=0.05):
        await until(lambda: bool(reader.seen))
        await table.pool.execute("UPDATE followed SET n = 3")
        await until(lambda: reader.seen[-1] == 3)


async def test_a_lost_connection_and_a_fault_of_the_reader_end_nothing(table: Database) -> None:
    reader = Reader()
    async with following(table, reader, poll_s=0.05):
        await until(lambda: bool(reader.seen))
        await table.pool.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        reader.is_broken = True
        await asyncio.sleep(0.2)
        reader.is_broken = False
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(asyncpg.PostgresError, OSError):
                    await table.pool.execute("UPDATE followed SET n = 4")
                    break
        await until(lambda: reader.seen[-1] == 4)


async def test_a_reader_that_hears_nothing_more_does_not_keep_the_others_waiting(
    table: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database answers nothing, as one whose machine has gone: it waits for what another holds."""
    monkeypatch.setattr(module, "READ_S", 0.3)
    turns = Turns()

    async def read(question: str) -> object:
        async with (
            table.pool.acquire() as connection,
            turns.take(connection),
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await connection.fetchval(question)

    async with table.pool.acquire() as holder:
        await holder.execute("SELECT pg_advisory_lock(1)")
        async with asyncio.timeout(30):
            stuck = asyncio.create_task(read("SELECT pg_advisory_lock(1)"))
            with pytest.raises(DOWN):
                await stuck
            monkeypatch.setattr(module, "READ_S", 30.0)
            assert await read("SELECT n FROM followed") == 1
