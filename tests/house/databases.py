"""Databases that tests take one after the other: given back, each is made again what it was copied from.

A copy of the migrated database costs ten times what emptying one costs: it is a thousand files. Given back, everybody else's
connections are ended, the database gets a new name (so that a client that outlived its test finds nothing), tables made since
are dropped, written ones emptied, counters set back, rows that migrations brought put back. Then its catalogue is compared with
the copied one's: whatever else a test changed, the database is dropped and the next test gets a fresh copy.
`tests/house/test_databases.py` changes one of everything.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

_numbers = itertools.count(1)

TABLES = """
    SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname) AS name, pg_relation_size(c.oid) > 0 AS is_written
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema)'
"""
COUNTERS = """
    SELECT format('%I.%I', n.nspname, c.relname) AS name, s.seqstart AS start, pg_sequence_last_value(s.seqrelid) AS last
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
CATALOGUES = {
    "attribute": "attrelid", "attrdef": "oid", "constraint": "oid", "enum": "oid", "event_trigger": "oid", "extension": "oid",
    "foreign_server": "oid", "index": "indexrelid", "inherits": "inhrelid", "policy": "oid", "proc": "oid", "publication": "oid",
    "rewrite": "oid", "sequence": "seqrelid", "statistic_ext": "oid", "trigger": "oid", "type": "oid",
}  # fmt: skip
"""With the column that tells what was made after `initdb`: numbers from 16384."""
SHAPE = f"""
    SELECT concat_ws(';',
        (SELECT md5(string_agg(concat_ws(' ', c.oid, relname, relnamespace, relkind, relnatts, relpersistence, relhasrules,
                relhastriggers, relrowsecurity, relowner, reloptions, relacl), ',' ORDER BY c.oid))
            FROM pg_class c WHERE c.oid >= 16384 AND relkind <> 't' AND relpersistence <> 't'),
        (SELECT count(*) FROM pg_db_role_setting r JOIN pg_database d ON d.oid = r.setdatabase WHERE datname = current_database()),
        (SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_'),
        (SELECT count(*) FROM pg_largeobject_metadata),
        {", ".join(f"(SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_{name} WHERE {oid} >= 16384)" for name, oid in CATALOGUES.items())})
"""
"""What a copy has of its original: relations as they are, of other catalogues how many rows and the last transaction that wrote one."""
AS_NEW = """
    UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = ANY (SELECT name::regclass FROM unnest($1::text[]) name)
"""
"""The planner takes a table that was never counted for a small one, and an emptied one for empty."""
END = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1"


class Shelf:
    """The free databases of one server, all copies of `template`."""

    def __init__(self, url: str, template: str) -> None:
        self._url, self._template = url, template
        self._free: list[str] = []
        self._original: Original | None = None
        self._server: asyncpg.Connection | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = ThreadPoolExecutor(1)
        """Fixtures may be set up while a test's event loop exists; a thread has its own, and its connection stays open."""
        atexit.register(self._close)

    def take(self) -> str:
        """URL of a database that nobody has written to."""
        if self._free:
            return self._of(self._free.pop())
        name = f"test_{next(_numbers)}"
        self._run(self._copy(name))
        return self._of(name)

    def give_back(self, url: str) -> None:
        """Make it what it was; where that does not succeed it is dropped."""
        self._run(self._renew(url.rpartition("@/")[2].partition("?")[0]))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._thread.submit(self._loop.run_until_complete, work).result()

    async def _execute(self, statement: str, *values: str) -> None:
        if self._server is None or self._server.is_closed():
            self._server = await asyncpg.connect(self._url)
        await self._server.execute(statement, *values)

    def _close(self) -> None:
        if self._server is not None:
            self._server.terminate()
        self._loop.close()

    def _of(self, name: str) -> str:
        return self._url.replace("@/rocade?", f"@/{name}?")

    async def _copy(self, name: str) -> None:
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY FILE_COPY")
        if self._original is None:
            self._original = await Original.of(self._of(name))

    async def _renew(self, name: str) -> None:
        new = f"test_{next(_numbers)}"
        try:
            await self._execute(END, name)
            await self._execute(f"ALTER DATABASE {name} RENAME TO {new}")
            name = new
            assert self._original is not None
            is_renewed = await self._original.restore(self._of(name))
        except asyncpg.PostgresError:
            is_renewed = False
        if is_renewed:
            self._free.append(name)
        else:
            await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class Original:
    """What a copy is before anybody wrote to it."""

    def __init__(self) -> None:
        self.tables: set[int] = set()
        self.rows: dict[str, list[str]] = {}
        self.counters: dict[str, int | None] = {}
        self.shape = ""

    @classmethod
    async def of(cls, url: str) -> Original:
        self = cls()
        connection = await asyncpg.connect(url)
        try:
            tables = await connection.fetch(TABLES)
            self.tables = {row["oid"] for row in tables}
            self.rows = {row["name"]: await _rows(connection, row["name"]) for row in tables if row["is_written"]}
            self.counters = {row["name"]: row["last"] for row in await connection.fetch(COUNTERS)}
            self.shape = await connection.fetchval(SHAPE)
        finally:
            await connection.close()
        return self

    async def restore(self, url: str) -> bool:
        """Whether the database is the original again."""
        connection = await asyncpg.connect(url, server_settings={"session_replication_role": "replica"})
        try:
            tables = await connection.fetch(TABLES)
            made = [row["name"] for row in tables if row["oid"] not in self.tables]
            if made:
                await connection.execute(f"DROP TABLE {', '.join(made)} CASCADE")
            written = {row["name"] for row in tables if row["is_written"]} - {*made, *self.rows}
            changed = {name for name in self.rows if await _rows(connection, name) != self.rows[name]}
            await _empty(connection, sorted(written | changed))
            for name in changed:
                await connection.execute(
                    f"INSERT INTO {name} SELECT (row::{name}).* FROM unnest($1::text[]) row", self.rows[name]
                )
            for row in await connection.fetch(COUNTERS):
                if row["last"] != (last := self.counters.get(row["name"])):
                    start = (row["start"], False) if last is None else (last, True)
                    await connection.execute("SELECT setval($1::text::regclass, $2, $3)", row["name"], *start)
            left = {row["name"] for row in await connection.fetch(TABLES) if row["is_written"]} if written else set()
            return left <= self.rows.keys() and bool(await connection.fetchval(SHAPE) == self.shape)
        finally:
            await connection.close()


def execute(url: str, statement: str) -> None:
    """One statement by a connection of its own."""

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work()).result()


async def _empty(connection: asyncpg.Connection, tables: list[str]) -> None:
    """As new: TRUNCATE would make new files for each index, which costs more; no rule of the tables is asked (`restore`)."""
    if tables:
        await connection.execute("; ".join(f"DELETE FROM {name}" for name in tables))
        await connection.execute(f"VACUUM (INDEX_CLEANUP ON, TRUNCATE ON) {', '.join(tables)}")
        await connection.execute(AS_NEW, tables)


async def _rows(connection: asyncpg.Connection, name: str) -> list[str]:
    return [row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} t ORDER BY 1")]
