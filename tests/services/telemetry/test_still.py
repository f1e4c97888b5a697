"""Database and history agree while a copy begins: no block is half done, none begins, and the worker goes on afterwards."""

from __future__ import annotations

import asyncio

import pytest

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database
from rocade.services.telemetry import Ledger
from rocade.services.telemetry.ledger import Intent

LIMITS = {(3, 1): (0, 10)}


async def begin(database: Database, name: str) -> Intent:
    async with database.pool.acquire() as connection, connection.transaction():
        return await Ledger(database).begin(connection, name, LIMITS, 7)


async def finish(database: Database, intent: Intent) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        await Ledger(database).finish(connection, intent)


async def until_locked(database: Database, *, waits: bool) -> None:
    """Somebody holds, or waits for, the lock of copies and blocks."""
    held = (
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted <> $1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    while not await database.pool.fetchval(held, waits):
        await asyncio.sleep(0.01)


async def test_a_copy_waits_for_the_block_at_hand_and_the_next_block_for_the_copy(database: Database) -> None:
    ledger, order = Ledger(database), list[str]()
    at_hand = await begin(database, "first")

    async def copy() -> None:
        async with ledger.still(30):
            order.append("copied")
            assert not await database.pool.fetchval("SELECT EXISTS (SELECT FROM telemetry_block)")

    async def another() -> Intent:
        intent = await begin(database, "second")
        order.append("begun")
        return intent

    copying = asyncio.create_task(copy())
    await until_locked(database, waits=False)
    beginning = asyncio.create_task(another())
    await until_locked(database, waits=True)
    assert order == []
    await finish(database, at_hand)
    await copying
    await finish(database, await beginning)
    assert order == ["copied", "begun"]


async def test_a_copy_gives_up_where_nobody_ends_a_block_and_lets_the_workers_go(database: Database) -> None:
    dead = await begin(database, "of a worker that is gone")
    with pytest.raises(Unavailable) as refusal:
        async with Ledger(database).still(0.1):
            raise AssertionError("a block is half done")
    assert refusal.value.code == "telemetry.blocks.pending"
    await finish(database, await begin(database, "next"))
    await finish(database, dead)


async def test_a_copy_waits_while_a_past_day_is_put_in_place(database: Database) -> None:
    await database.pool.execute("UPDATE telemetry_past SET moving = 'a day'")
    with pytest.raises(Unavailable):
        async with Ledger(database).still(0.1):
            raise AssertionError("the history is being changed")
    await database.pool.execute("UPDATE telemetry_past SET moving = NULL")
    async with Ledger(database).still(0.1):
        pass
