"""A database that a test gives back is what it was copied from, whatever was done to it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from databases import Original, Shelf, execute

WRITTEN = (
    "INSERT INTO person (id, name, organisation, language, added_us) VALUES (7, 'P', '', 'en', 1)",
    "INSERT INTO dealer_change (what, at_us) VALUES ('x', 1)",
    "UPDATE telemetry_past SET changes = 7",
    "DELETE FROM interconnection_policy",
    "TRUNCATE exchange_tree CASCADE",
    "SELECT setval(oid::regclass, 77) FROM pg_class WHERE relkind = 'S'",
    "CREATE TABLE log_data.made_1 (n bigint); INSERT INTO log_data.made_1 VALUES (1)",
    "CREATE TEMP TABLE passing (n int)",
    "ANALYZE",
)
CHANGED = (
    "ALTER TABLE person ADD COLUMN more int",
    "ALTER TABLE person ALTER COLUMN added_us DROP NOT NULL",
    "ALTER TABLE person ALTER COLUMN name SET DEFAULT 'Nobody'",
    "ALTER TABLE person ADD CHECK (added_us > 0)",
    "ALTER TABLE person SET (fillfactor = 50)",
    "CREATE INDEX ON person (name)",
    "DROP TABLE telemetry_past",
    "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA other",
    "CREATE VIEW names AS SELECT name FROM person",
    "CREATE SEQUENCE counted",
    "ALTER SEQUENCE dealer_change_number_seq INCREMENT 2",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 1024', current_database()); END $$",
    "CREATE TYPE colour AS ENUM ('red')",
    "SELECT lo_create(0)",
)


@pytest.fixture
def shelf(postgres_url: str, template: str) -> Shelf:
    return Shelf(postgres_url, template)


def holding(url: str) -> object:
    """All that is in a database."""
    found = asyncio.run(Original.of(url))
    return found.rows, found.counters, found.tables, found.shape


def test_whatever_was_written_is_gone_and_the_next_test_gets_the_same_files_under_another_name(shelf: Shelf) -> None:
    url = shelf.take()
    before, number = holding(url), file_of(url)
    for statement in WRITTEN:
        execute(url, statement)
    assert holding(url) != before
    shelf.give_back(url)
    again = shelf.take()
    assert (again != url, file_of(again), holding(again)) == (True, number, before)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        execute(url, "SELECT 1")
    shelf.give_back(again)


@pytest.mark.parametrize("statement", CHANGED)
def test_a_database_that_was_built_otherwise_is_not_given_to_anybody_again(shelf: Shelf, statement: str) -> None:
    url = shelf.take()
    before, number = holding(url), file_of(url)
    execute(url, statement)
    shelf.give_back(url)
    another = shelf.take()
    assert file_of(another) != number
    assert holding(another) == before
    shelf.give_back(another)


async def test_a_connection_and_a_lock_left_open_hold_nobody_up(shelf: Shelf) -> None:
    url = await asyncio.to_thread(shelf.take)
    left = await asyncpg.connect(url)
    await left.execute("BEGIN; LOCK TABLE person")
    await asyncio.to_thread(shelf.give_back, url)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await left.execute("SELECT 1")
    again = await asyncio.to_thread(shelf.take)
    await asyncio.to_thread(execute, again, "LOCK TABLE person; SELECT 1")
    await asyncio.to_thread(shelf.give_back, again)


def file_of(url: str) -> object:
    """The folder in which the server keeps a database: the same, however it is called."""

    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
        finally:
            await connection.close()

    return asyncio.run(ask())
