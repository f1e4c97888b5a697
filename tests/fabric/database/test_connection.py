"""A Database speaks asyncpg and SQLAlchemy over one URL."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rocade.core.errors import Misconfigured, Unavailable
from rocade.fabric.database import Database


async def test_pool_and_engine_reach_the_same_database(database: Database) -> None:
    await database.pool.execute("CREATE TABLE thing (name text)")
    await database.pool.execute("INSERT INTO thing VALUES ('here')")
    async with database.engine.begin() as connection:
        assert (await connection.execute(text("SELECT name FROM thing"))).scalar_one() == "here"


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"database\.down"):
        await Database.connect("postgresql://rocade@/rocade?host=/nowhere")


async def test_another_kind_of_url_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"database\.url"):
        await Database.connect("mysql://localhost/rocade")
