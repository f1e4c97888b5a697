"""The writing half of PostgresLog: one connection, one COPY at a time, every append waiting meanwhile joins the next one.

A process writes as one *writer*: a small number claimed by a session advisory lock, so that two processes never share it and
a restarted process takes over a free one. Positions are counted in memory from the highest one stored.

A lost connection leaves the last COPY in doubt. Before anything else its outcome is settled: a new session waits until it
holds the writer's lock (then the old backend is surely gone) or sees that another process took it (then too), and looks
whether the last row, marked with our session's random number, exists. Only then the append returns or is written again:
never lost, never doubled. Nobody's append is answered meanwhile.
Refuses: Unavailable `log.down` (nothing was sent), `log.full`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Unavailable
from rocade.core.ports import Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.database.connection import CONNECT_TIMEOUT_S, DOWN
from rocade.fabric.log import Record, segments
from rocade.fabric.log.blocks import COLUMNS, SEGMENT_SHIFT, Copy, build_copy, segment_of
from rocade.fabric.log.grouping import Grouping
from rocade.fabric.log.segments import Retention

LOCK_CLASS = 0x526F6C77  # advisory locks of writers: (class, writer)
SESSION_SETTINGS = {"application_name": "rocade log writer", "synchronous_commit": "on", "statement_timeout": "0"}
COPY_TIMEOUT_S = 30.0
GROUP_BYTES = 8 << 20  # appends joined into one COPY, at most
CHECK_EVERY_S = 1.0  # of the segment's age and size
CHECK_EVERY_BYTES = 16 << 20
BACK_OFF_S = (0.02, 1.0)


class _Target(msgspec.Struct):
    """Where this writer stands in one stream."""

    segment: int
    position: int
    checked_s: float
    unchecked_bytes: int = 0


class Writer:
    def __init__(self, database: Database, random: Random, clock: Clock, retention: Retention) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention
        self._random = random
        self._session = 0
        self._writer = 0
        self._connection: Any = None
        self._targets: dict[str, _Target] = {}
        self._grouping = Grouping(self._write, GROUP_BYTES)
        self.append = self._grouping.append

    async def close(self) -> None:
        await self._grouping.close()
        if self._connection is not None:
            self._connection.terminate()

    async def _write(self, stream: str, records: Sequence[Record]) -> None:
        while True:
            target = await self._ready(stream)
            copy = build_copy(records, self._writer, self._session, target.position)
            try:
                await self._connection.copy_to_table(
                    f"{stream}_{target.segment}", schema_name="log_data", columns=COLUMNS, format="binary",
                    source=memoryview(copy.data), timeout=COPY_TIMEOUT_S,
                )  # fmt: skip
                is_stored = True
            except asyncpg.UndefinedTableError:
                self._targets.pop(stream)  # trimmed under us; nothing of this COPY was stored
                continue
            except DOWN:
                is_stored = await self._settle_outcome(stream, copy)
            except asyncpg.PostgresError as error:
                raise _unavailable(error) from error  # the server's own answer: nothing was stored
            if is_stored:
                target.position = copy.last_position + 1
                target.unchecked_bytes += len(copy.data)
                return

    async def _ready(self, stream: str) -> _Target:
        """A live session, and a segment that is young and small enough.

        Raises: Unavailable `log.down`, `log.full`.
        """
        try:
            if self._connection is None or self._connection.is_closed():
                await self._open_session()
            target = self._targets.get(stream)
            now_s = self._clock.monotonic_s()
            if (
                target is None
                or now_s - target.checked_s >= CHECK_EVERY_S
                or target.unchecked_bytes > min(CHECK_EVERY_BYTES, self._retention.segment_bytes // 4)
            ):
                target = await self._choose_segment(stream, target)
                target.checked_s, target.unchecked_bytes = now_s, 0
                self._targets[stream] = target
            return target
        except (asyncpg.PostgresError, *DOWN) as error:
            if self._connection is not None:
                self._connection.terminate()
            raise _unavailable(error) from error

    async def _choose_segment(self, stream: str, target: _Target | None) -> _Target:
        keep = self._retention
        newest = await segments.newest(self._connection, stream)
        age_us = self._clock.now_us() - newest.opened_us
        if newest.number == 0 or age_us >= keep.segment_s * 1_000_000 or newest.segment_bytes >= keep.segment_bytes:
            await segments.roll(self._connection, stream, newest.number, self._clock.now_us())
            newest = await segments.newest(self._connection, stream)
        if newest.stream_bytes >= keep.limit_bytes:
            freed = await segments.trim(self._database.pool, stream, keep, self._clock)
            if newest.stream_bytes - freed >= keep.limit_bytes:
                raise Unavailable(
                    "log.full",
                    f"stream {stream} has reached its {keep.limit_bytes} bytes and a reader has not caught up; "
                    "intake waits for it",
                    stream=stream,
                )
        if target is not None and target.segment == newest.number:
            return target
        return _Target(newest.number, await self._next_position(stream, newest.number), 0.0)

    async def _next_position(self, stream: str, segment: int) -> int:
        highest = await self._connection.fetchval(
            f"""
            SELECT max(r.position) FROM generate_series(0, 7) l(lane) CROSS JOIN LATERAL (
                SELECT position FROM {segments.table_of(stream, segment)} t
                WHERE t.lane = l.lane AND t.writer = $1 ORDER BY position DESC LIMIT 1) r""",
            self._writer,
        )
        return (highest or segment << SEGMENT_SHIFT) + 1

    async def _open_session(self) -> None:
        """Connect, and write on as the same writer if it is still ours, else as another one."""
        self._connection = await asyncpg.connect(
            self._database.url, timeout=CONNECT_TIMEOUT_S, server_settings=SESSION_SETTINGS
        )
        if self._writer and await self._try_lock(self._writer) and await self._is_ours():
            return
        self._targets.clear()
        self._session = self._random.bits(63)
        taken = await self._connection.fetch("SELECT writer FROM log_writer ORDER BY writer")
        candidates = [writer for (writer,) in taken]
        highest = candidates[-1] if candidates else 0
        for writer in [*candidates, *range(highest + 1, highest + 1_000)]:
            if await self._try_lock(writer):
                self._writer = writer
                break
        await self._connection.execute(
            """
            INSERT INTO log_writer VALUES ($1, $2, $3)
            ON CONFLICT (writer) DO UPDATE SET session = excluded.session, taken_us = excluded.taken_us""",
            self._writer, self._session, self._clock.now_us(),
        )  # fmt: skip

    async def _try_lock(self, writer: int) -> bool:
        return bool(await self._connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, writer))

    async def _is_ours(self) -> bool:
        session = await self._connection.fetchval("SELECT session FROM log_writer WHERE writer = $1", self._writer)
        return bool(session == self._session)

    async def _settle_outcome(self, stream: str, copy: Copy) -> bool:
        """Whether the COPY in doubt was committed; keeps trying until that is certain."""
        self._connection.terminate()
        pause_s = BACK_OFF_S[0]
        while True:
            connection = None
            try:
                connection = await asyncpg.connect(self._database.url, timeout=CONNECT_TIMEOUT_S)
                if await self._is_old_backend_gone(connection):
                    return await self._is_stored(connection, stream, copy)
            except (asyncpg.PostgresError, *DOWN):
                pass  # still down; asked again below
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(pause_s * (0.5 + self._random.uniform()))
            pause_s = min(2 * pause_s, BACK_OFF_S[1])

    async def _is_old_backend_gone(self, connection: Any) -> bool:
        """True once we can take the writer's lock or another session has it; else tell the old backend to end."""
        if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, self._writer):
            return True
        session = await connection.fetchval("SELECT session FROM log_writer WHERE writer = $1", self._writer)
        if session != self._session:
            return True
        await connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_locks
            WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = $1 AND objid = $2 AND granted""",
            LOCK_CLASS, self._writer,
        )  # fmt: skip
        return False

    async def _is_stored(self, connection: Any, stream: str, copy: Copy) -> bool:
        """A segment that is gone counts as "not stored": written again it can only be doubled, not lost."""
        table = segments.table_of(stream, segment_of(copy.last_position))
        try:
            return bool(
                await connection.fetchval(
                    f"SELECT count(*) FROM {table} WHERE lane = $1 AND writer = $2 AND position = $3 AND session = $4",
                    copy.last_lane, self._writer, copy.last_position, self._session,
                )
            )  # fmt: skip
        except asyncpg.UndefinedTableError:
            return False


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, asyncpg.DiskFullError):
        return Unavailable("log.full", "the database's disk is full; nothing was stored, intake waits for room")
    return Unavailable("log.down", f"PostgreSQL cannot store records now: {type(error).__name__}")
