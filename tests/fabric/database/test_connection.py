"""A Database has two pools over one URL."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from rocade.core.errors import Misconfigured, Unavailable
from rocade.fabric.database import Database


async def test_both_pools_reach_the_same_database_and_neither_waits_for_the_other(database: Database) -> None:
    await database.pool.execute("CREATE TABLE thing (name text)")
    await database.pool.execute("INSERT INTO thing VALUES ('here')")
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as held:
        for _ in range(database.pool.get_max_size()):
            await held.enter_async_context(database.pool.acquire())
        assert await database.lookups.fetchval("SELECT name FROM thing") == "here"


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"database\.down"):
        await Database.connect("postgresql://rocade@/rocade?host=/nowhere")


async def test_another_kind_of_url_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"database\.url"):
        await Database.connect("mysql://localhost/rocade")
