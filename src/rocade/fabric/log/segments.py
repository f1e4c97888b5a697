"""Segments: a stream is a row of tables, each written for an hour (or until it is big enough), then dropped whole.

A segment is table `log_data.<stream>_<number>`; numbers only grow and the newest is never dropped. `roll` opens the next one
under an advisory lock. `trim` drops old segments, oldest first, once no active group has anything unread in them: it locks
the table first, so that nothing can be written between looking and dropping; a writer that comes too late finds its table
gone, nothing of it was stored, and writes to the newest.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.fabric.log.blocks import LANE, LANES

_STREAM = re.compile(r"[a-z][a-z_]{0,30}\Z")
TRIM_LOCK_TIMEOUT_MS = 2_000

CREATE = """
    CREATE TABLE {table} (
        lane smallint NOT NULL,
        writer integer NOT NULL,
        position bigint NOT NULL,
        session bigint NOT NULL,
        records integer NOT NULL,
        partitions smallint NOT NULL,
        oldest_us bigint NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (lane, writer, position)
    ) WITH (toast_tuple_target = 8160, autovacuum_enabled = off, toast.autovacuum_enabled = off);
    ALTER TABLE {table} ALTER body SET STORAGE EXTERNAL"""

UNREAD = """
    SELECT {columns}
    FROM log_writer w
    CROSS JOIN generate_series(0, {lanes} - 1) l(lane)
    CROSS JOIN LATERAL (
        SELECT array_agg(coalesce(c.position, 0) ORDER BY p.partition) AS read, min(coalesce(c.position, 0)) AS low
        FROM generate_series(l.lane * {lane}, l.lane * {lane} + {lane} - 1) p(partition)
        LEFT JOIN log_cursor c
            ON c.name = $1 AND c.stream = $2 AND c.partition = p.partition AND c.writer = w.writer
    ) g
    CROSS JOIN LATERAL (
        SELECT r.records, r.oldest_us FROM {table} r
        WHERE r.lane = l.lane AND r.writer = w.writer AND r.position > g.low
        AND EXISTS (
            SELECT FROM generate_series(0, {lane} - 1) bit
            WHERE r.partitions & (1 << bit) <> 0 AND r.position > g.read[bit + 1]
        )
    ) r"""
"""Rows of one segment that hold a record which group $1 of stream $2 has not read."""


class Retention(msgspec.Struct, frozen=True):
    """How long read records stay (`age_s`), how large a stream may grow before intake stops, how segments are cut."""

    age_s: float = 3_600.0
    limit_bytes: int = 16 << 30
    segment_s: float = 3_600.0
    segment_bytes: int = 1 << 30


class Newest(msgspec.Struct, frozen=True):
    number: int
    opened_us: int
    segment_bytes: int
    stream_bytes: int


def check_stream(stream: str) -> str:
    if not _STREAM.match(stream):
        raise Refused("log.stream", "a stream is named by 1 to 31 lower-case letters and underscores", stream=stream)
    return stream


def table_of(stream: str, number: int) -> str:
    return f"log_data.{check_stream(stream)}_{number}"


async def numbers(connection: Any, stream: str) -> list[int]:
    """Numbers of a stream's live segments, oldest first."""
    rows = await connection.fetch("SELECT number FROM log_segment WHERE stream = $1 ORDER BY number", stream)
    return [number for (number,) in rows]


async def newest(connection: Any, stream: str) -> Newest:
    """The segment writers use, with sizes; opens the first one of a new stream."""
    row = await connection.fetchrow(
        """
        SELECT number, opened_us, pg_total_relation_size(to_regclass(format('log_data.%I', stream || '_' || number))),
            sum(pg_total_relation_size(to_regclass(format('log_data.%I', stream || '_' || number)))) OVER ()
        FROM log_segment WHERE stream = $1 ORDER BY number DESC LIMIT 1""",
        stream,
    )
    return Newest(*(value or 0 for value in row)) if row else Newest(0, 0, 0, 0)


async def roll(connection: Any, stream: str, after: int, now_us: int) -> None:
    """Open the segment that follows `after`, unless somebody just did."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"log.roll.{stream}")
        last = await connection.fetchval("SELECT max(number) FROM log_segment WHERE stream = $1", stream) or 0
        if last <= after:
            await connection.execute(CREATE.format(table=table_of(stream, last + 1)))
            await connection.execute("INSERT INTO log_segment VALUES ($1, $2, $3)", stream, last + 1, now_us)


def unread(columns: str, stream: str, number: int) -> str:
    return UNREAD.format(columns=columns, table=table_of(stream, number), lane=LANE, lanes=LANES)


async def trim(pool: asyncpg.Pool, stream: str, retention: Retention, clock: Clock) -> int:
    """Drop segments that are old (or make the stream too large) and read by all active groups; bytes freed."""
    freed = 0
    async with pool.acquire() as connection:
        live = await numbers(connection, stream)
        for number, successor in pairwise(live):
            closed_us = await connection.fetchval(
                "SELECT opened_us FROM log_segment WHERE stream = $1 AND number = $2", stream, successor
            )
            size = (await newest(connection, stream)).stream_bytes
            is_old = clock.now_us() - closed_us >= retention.age_s * 1_000_000
            if not is_old and size < retention.limit_bytes:
                break
            dropped = await _drop_if_read(connection, stream, number)
            if dropped is None:
                break
            freed += dropped
    return freed


async def _drop_if_read(connection: Any, stream: str, number: int) -> int | None:
    table = table_of(stream, number)
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {TRIM_LOCK_TIMEOUT_MS}")
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            for (group,) in await connection.fetch("SELECT name FROM log_group WHERE stream = $1", stream):
                if await connection.fetchval(unread("1", stream, number) + " LIMIT 1", group, stream):
                    return None
            size: int = await connection.fetchval("SELECT pg_total_relation_size($1::regclass)", table)
            await connection.execute("DELETE FROM log_segment WHERE stream = $1 AND number = $2", stream, number)
            await connection.execute(f"DROP TABLE {table}")
            return size
    except (asyncpg.LockNotAvailableError, asyncpg.UndefinedTableError, asyncpg.DeadlockDetectedError):
        return None  # somebody is using it, or another process dropped it; the next trim looks again
