"""SQL of sealing: bucket keys, data keys, destroyed owners.

A destroyed owner keeps one row a group with `wrapped` NULL: the primary key then decides between a process that makes a key
and one that destroys it, whoever comes first. Numbers of `seal_gone` commit in order (a lock until the transaction ends).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence

import asyncpg

from rocade.core.errors import Unavailable
from rocade.fabric.database.connection import DOWN
from rocade.trust.authority.sealing.model import Group, Name, bucket_of

CHANNEL = "rocade_seal"
_KEYS_LOCK = 0x7365616C_6B657973
"""Shared while keys are made, exclusive while buckets change."""
_GONE_LOCK = 0x7365616C_676F6E65
_PUNCTURE_LOCK = 0x7365616C_70756E63
PATIENCE_MS = 10_000
FEW = 500


@contextlib.asynccontextmanager
async def connected(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A connection. Raises: Unavailable `database.down`."""
    try:
        async with pool.acquire() as connection:
            yield connection
    except DOWN as error:
        raise Unavailable("database.down", f"PostgreSQL does not answer: {type(error).__name__}") from error


async def lock_shared(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _KEYS_LOCK)


async def lock_alone(connection: asyncpg.Connection) -> None:
    """No keys are made or destroyed until the transaction ends. In this order: who destroys may still make other keys.

    Raises: Unavailable `custody.busy` when others do not let go.
    """
    await connection.execute(f"SET LOCAL lock_timeout = {PATIENCE_MS}")
    try:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _GONE_LOCK)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _KEYS_LOCK)
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable("custody.busy", "keys are being made or changed by another process; try again") from error


@contextlib.asynccontextmanager
async def puncturing(connection: asyncpg.Connection, patience_s: float) -> AsyncIterator[bool]:
    """One puncture at a time, from its beginning to its end; whether it is ours. A process that dies lets go."""
    end_s = time.monotonic() + patience_s
    while not (is_ours := await connection.fetchval("SELECT pg_try_advisory_lock($1)", _PUNCTURE_LOCK)):
        if time.monotonic() >= end_s:
            break
        await asyncio.sleep(0.1)
    try:
        yield bool(is_ours)
    finally:
        if is_ours and not connection.is_closed():
            await connection.fetchval("SELECT pg_advisory_unlock($1)", _PUNCTURE_LOCK)


async def has_buckets(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM seal_bucket)"))


async def read_version(connection: asyncpg.Connection) -> int:
    """The region key's version that the tables are wrapped with; 0 before there are any."""
    return int(await connection.fetchval("SELECT COALESCE(max(version), 0) FROM seal_bucket"))


async def read_buckets(connection: asyncpg.Connection, buckets: Iterable[int]) -> list[tuple[int, int, int, bytes]]:
    rows = await connection.fetch(
        "SELECT bucket, generation, version, wrapped FROM seal_bucket WHERE bucket = ANY($1::smallint[]) ORDER BY bucket",
        list(buckets),
    )
    return [tuple(row) for row in rows]


async def write_buckets(connection: asyncpg.Connection, rows: Sequence[tuple[int, int, int, bytes]]) -> None:
    await connection.execute(
        "INSERT INTO seal_bucket SELECT * FROM unnest($1::smallint[], $2::integer[], $3::integer[], $4::bytea[])"
        " ON CONFLICT (bucket) DO UPDATE SET generation = excluded.generation, version = excluded.version,"
        " wrapped = excluded.wrapped",
        *map(list, zip(*rows, strict=True)),
    )


async def read_keys(connection: asyncpg.Connection, names: Sequence[Name]) -> list[tuple[int, int, int, int, bytes]]:
    """(owner, group, bucket, generation of the bucket's key, wrapped or None) of those that exist. One statement, each row
    found by its key: a join would be planned while the tables are small, and read all buckets for each key later.
    """
    rows = await connection.fetch(
        "SELECT k.owner, k.grp, k.bucket, (SELECT b.generation FROM seal_bucket b WHERE b.bucket = k.bucket), k.wrapped"
        " FROM unnest($1::bigint[], $2::smallint[]) AS n(owner, grp)"
        " CROSS JOIN LATERAL (SELECT * FROM seal_key s WHERE s.owner = n.owner AND s.grp = n.grp OFFSET 0) AS k",
        [owner for owner, _ in names], [group for _, group in names],
    )  # fmt: skip
    return [tuple(row) for row in rows]


async def add_keys(
    connection: asyncpg.Connection, rows: Sequence[tuple[int, int, int, bytes]], now_us: int
) -> set[Name]:
    """(owner, group, bucket, wrapped); returns the names that were new."""
    added = await connection.fetch(
        "INSERT INTO seal_key (owner, grp, bucket, wrapped, made_us)"
        " SELECT owner, grp, bucket, wrapped, $5 FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::bytea[])"
        " AS n(owner, grp, bucket, wrapped) ON CONFLICT DO NOTHING RETURNING owner, grp",
        *map(list, zip(*rows, strict=True)), now_us,
    )  # fmt: skip
    return {(owner, group) for owner, group in added}


async def keys_of_buckets(connection: asyncpg.Connection, buckets: Sequence[int]) -> list[tuple[int, int, int, bytes]]:
    """(owner, group, bucket, wrapped)."""
    rows = await connection.fetch(
        "SELECT owner, grp, bucket, wrapped FROM seal_key WHERE bucket = ANY($1::smallint[]) AND wrapped IS NOT NULL",
        list(buckets),
    )
    return [tuple(row) for row in rows]


async def rewrap_keys(connection: asyncpg.Connection, rows: Sequence[tuple[int, int, bytes]]) -> None:
    """(owner, group, wrapped). A few are found one by one, for a plan made while the table was small would read all of it."""
    if len(rows) <= FEW:
        await connection.executemany("UPDATE seal_key SET wrapped = $3 WHERE owner = $1 AND grp = $2", rows)
        return
    await connection.execute(
        "UPDATE seal_key k SET wrapped = n.wrapped FROM unnest($1::bigint[], $2::smallint[], $3::bytea[])"
        " AS n(owner, grp, wrapped) WHERE k.owner = n.owner AND k.grp = n.grp",
        *map(list, zip(*rows, strict=True)),
    )


async def destroy(connection: asyncpg.Connection, owners: Sequence[int], now_us: int) -> None:
    """In the caller's transaction: the keys go, none can be made again, every process hears it at the commit."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _GONE_LOCK)
    names = [(owner, int(group)) for owner in sorted(owners) for group in Group]
    await connection.execute(
        "INSERT INTO seal_key (owner, grp, bucket, wrapped, made_us)"
        " SELECT owner, grp, bucket, NULL, $4 FROM unnest($1::bigint[], $2::smallint[], $3::smallint[])"
        " AS n(owner, grp, bucket) ON CONFLICT (owner, grp) DO UPDATE SET wrapped = NULL",
        [owner for owner, _ in names], [group for _, group in names], [bucket_of(owner) for owner, _ in names], now_us,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO seal_gone (number, owner, gone_us)"
        " SELECT (SELECT COALESCE(max(number), 0) FROM seal_gone) + row_number() OVER (ORDER BY owner), owner, $2"
        " FROM unnest($1::bigint[]) AS n(owner) WHERE NOT EXISTS (SELECT FROM seal_gone g WHERE g.owner = n.owner)",
        sorted(owners), now_us,
    )  # fmt: skip
    await connection.execute("SELECT pg_notify($1, '')", CHANNEL)


async def last_gone(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT COALESCE(max(number), 0) FROM seal_gone"))


async def gone_after(connection: asyncpg.Connection, number: int) -> list[tuple[int, int]]:
    """(number, owner) of those destroyed since."""
    rows = await connection.fetch("SELECT number, owner FROM seal_gone WHERE number > $1 ORDER BY number", number)
    return [tuple(row) for row in rows]


async def gone_before(connection: asyncpg.Connection, version: int | None = None) -> list[int]:
    """Owners whose keys an older copy of the tables would still give; `version`: of those, whom a puncture up to it has taken."""
    rows = await connection.fetch(
        "SELECT owner FROM seal_gone WHERE NOT is_punctured AND ($1::integer IS NULL OR version <= $1) ORDER BY number",
        version,
    )
    return [owner for (owner,) in rows]


async def mark_gone(connection: asyncpg.Connection, owners: Sequence[int], version: int) -> None:
    """These were taken by the puncture that makes this version."""
    await connection.execute("UPDATE seal_gone SET version = $2 WHERE owner = ANY($1::bigint[])", list(owners), version)


async def close_gone(connection: asyncpg.Connection, owners: Sequence[int]) -> None:
    """What came before their puncture is destroyed."""
    await connection.execute("UPDATE seal_gone SET is_punctured = true WHERE owner = ANY($1::bigint[])", list(owners))


async def count(connection: asyncpg.Connection) -> tuple[int, int, int]:
    """Data keys, destroyed owners, and those of them that an older copy of the tables still gives."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM seal_key WHERE wrapped IS NOT NULL), count(*), count(*) FILTER (WHERE NOT is_punctured)"
        " FROM seal_gone"
    )
    return (row[0], row[1], row[2])
