"""The log in PostgreSQL tables: COPY with group commit in, index scans out.

Writing: writer.py. Reading: one query asks, for every (lane, writer), which rows follow the cursor, and fixes the bounds of
the slice; `reread` fetches exactly those bounds, which is also how a worker gets an earlier block again. No snapshot
horizon is used: a writer commits its positions in order, so what follows a cursor is complete per (partition, writer),
however long others keep transactions open.
Row shape: blocks.py. Segments and retention: segments.py. Decision and figures: docs/decisions/0004-log.md.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from rocade.core.errors import Unavailable
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.fabric.database.connection import CONNECT_TIMEOUT_S, DOWN
from rocade.fabric.log import Lag, Limits, Place, Positions, Record, Slice, segments
from rocade.fabric.log.blocks import BLOCK_BYTES, lane_of, lanes_of, segment_of, select, unpack
from rocade.fabric.log.cursors import Cursors
from rocade.fabric.log.forgetting import forget
from rocade.fabric.log.segments import Retention
from rocade.fabric.log.writer import Writer

AHEAD = """
    SELECT p.lane, p.writer, r.position, r.records, r.bytes
    FROM (
        SELECT l.lane, w.writer, coalesce(c.after, 0) AS after
        FROM unnest($1::smallint[]) l(lane) CROSS JOIN log_writer w
        LEFT JOIN unnest($2::smallint[], $3::integer[], $4::bigint[]) c(lane, writer, after)
            ON c.lane = l.lane AND c.writer = w.writer
    ) p CROSS JOIN LATERAL (
        SELECT position, records, octet_length(body) AS bytes FROM ({rows}) s ORDER BY position LIMIT $5
    ) r"""
AHEAD_ROWS = """(SELECT position, records, body FROM {table}
    WHERE lane = p.lane AND writer = p.writer AND position > p.after ORDER BY position LIMIT $5)"""

WITHIN = """
    SELECT p.lane, p.writer, r.position, r.body
    FROM unnest($1::smallint[], $2::integer[], $3::bigint[], $4::bigint[]) WITH ORDINALITY p(lane, writer, after, upto, turn)
    CROSS JOIN LATERAL ({rows}) r
    ORDER BY p.turn, r.position"""
WITHIN_ROWS = """SELECT position, body FROM {table}
    WHERE lane = p.lane AND writer = p.writer AND position > p.after AND position <= p.upto"""


READER_SETTINGS = {
    "application_name": "rocade log reader",
    "enable_bitmapscan": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Segments have no statistics (they live for hours), so the planner is told: walk the index in order and stop at the limit."""
READERS = 2  # connections


class _Row(NamedTuple):
    lane: int
    writer: int
    position: int
    records: int
    bytes: int


class PostgresLog:
    """Implements `Log`. One per process: it writes as one writer, over one connection of its own."""

    def __init__(
        self,
        database: Database,
        *,
        random: Random | None = None,
        clock: Clock | None = None,
        retention: Retention | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._url = database.url
        self._pool = database.pool
        self._readers: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._clock = clock
        self._retention = retention or Retention()
        self._cursors = Cursors(database, clock)
        self._writer = Writer(database, random or SystemRandom(), clock, self._retention)
        self.positions = self._cursors.positions
        self.commit = self._cursors.commit
        self.retire = self._cursors.retire

    async def append(self, stream: str, records: Sequence[Record]) -> None:
        segments.check_stream(stream)
        if records:
            await self._writer.append(stream, records)

    async def read(
        self, stream: str, partitions: Sequence[int], after: Positions, max_records: int, max_bytes: int
    ) -> Slice:
        """Read what follows `after`: at least one row if there is one, else at most the two limits.

        Raises: Unavailable `log.down`; Corrupt `log.block`.
        """
        if not partitions:
            return Slice([], {})
        lows = _lowest(partitions, after)
        rows = await self._ahead(stream, sorted(set(map(lane_of, partitions))), lows, max_records, max_bytes)
        uptos = _cut(rows, max_records, max_bytes)
        limits: dict[Place, tuple[int, int]] = {}
        for partition in partitions:
            for (lane, writer), upto in uptos.items():
                low = after.get((partition, writer), 0)
                if lane == lane_of(partition) and low < upto:
                    limits[partition, writer] = (low, upto)
        return await self.reread(stream, limits)

    async def reread(self, stream: str, limits: Limits) -> Slice:
        """Read exactly these bounds: the same records in the same order, as long as retention keeps them."""
        records: list[Record] = []
        if limits:
            bounds = lanes_of(limits)
            for row in await self._within(stream, bounds):
                records += select(unpack(row["body"]), row["position"], bounds[row["lane"], row["writer"]])
        return Slice(records, dict(limits))

    async def lag(self, group: str, stream: str) -> Lag:
        """Unread records; where partitions of one lane stand at different positions, at most a row's worth too many.

        Raises: Unavailable `log.down`.
        """
        try:
            live = await segments.numbers(self._pool, segments.check_stream(stream))
            counts = await self._fetch(
                [segments.unread("sum(r.records) AS records, min(r.oldest_us) AS oldest_us", stream, n) for n in live],
                group,
                stream,
            )
        except DOWN as error:
            raise _down(error) from error
        oldest = [row["oldest_us"] for row in counts if row["oldest_us"] is not None]
        return Lag(int(sum(row["records"] or 0 for row in counts)), min(oldest, default=None))

    async def trim(self) -> int:
        streams = await self._pool.fetch("SELECT DISTINCT stream FROM log_segment")
        return sum([await segments.trim(self._pool, stream, self._retention, self._clock) for (stream,) in streams])

    async def forget(self, stream: str, keys: Mapping[int, int]) -> dict[int, int]:
        try:
            return await forget(self._pool, segments.check_stream(stream), keys, self._clock.now_us())
        except DOWN as error:
            raise _down(error) from error

    async def close(self) -> None:
        await self._writer.close()
        if self._readers is not None:
            self._readers.terminate()

    async def _open_readers(self) -> asyncpg.Pool:
        async with self._opening:
            if self._readers is None:
                self._readers = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=READERS, timeout=CONNECT_TIMEOUT_S, server_settings=READER_SETTINGS
                )
            return self._readers

    async def _ahead(
        self, stream: str, lanes: list[int], lows: Mapping[Place, int], max_records: int, max_bytes: int
    ) -> list[_Row]:
        oldest = min((segment_of(low) for low in lows.values()), default=0)
        depth = max(4, min(max_records, max_bytes // (BLOCK_BYTES * len(lanes))))
        places = sorted(lows)
        rows = await self._over_segments(
            stream, oldest, AHEAD, AHEAD_ROWS,
            lanes, [lane for lane, _ in places], [writer for _, writer in places], [lows[p] for p in places], depth,
        )  # fmt: skip
        return [_Row(*row) for row in rows]

    async def _within(self, stream: str, bounds: Mapping[Place, Mapping[int, tuple[int, int]]]) -> Sequence[Any]:
        places = sorted(bounds)
        lows = [min(after for after, _ in bounds[place].values()) for place in places]
        uptos = [max(upto for _, upto in bounds[place].values()) for place in places]
        return await self._over_segments(
            stream, segment_of(min(lows)), WITHIN, WITHIN_ROWS,
            [lane for lane, _ in places], [writer for _, writer in places], lows, uptos,
        )  # fmt: skip

    async def _over_segments(self, stream: str, oldest: int, query: str, rows: str, *arguments: Any) -> Sequence[Any]:
        """Run a query whose `{rows}` is the union of `rows` over the live segments, in one snapshot."""
        while True:
            try:
                readers = await self._open_readers()
                live = await segments.numbers(readers, segments.check_stream(stream))
                tables = [segments.table_of(stream, number) for number in live if number >= oldest]
                if not tables:
                    return []
                union = " UNION ALL ".join(rows.format(table=table) for table in tables)
                found: Sequence[Any] = await readers.fetch(query.format(rows=union), *arguments)
                return found
            except asyncpg.UndefinedTableError:
                continue  # trimmed between the two queries
            except DOWN as error:
                raise _down(error) from error

    async def _fetch(self, queries: list[str], *arguments: Any) -> Sequence[Any]:
        return [row for query in queries for row in await self._pool.fetch(query, *arguments)]


def _down(error: Exception) -> Unavailable:
    return Unavailable("log.down", f"PostgreSQL does not answer: {type(error).__name__}")


def _lowest(partitions: Sequence[int], after: Positions) -> dict[Place, int]:
    """For each (lane, writer) the lowest cursor among the wanted partitions; a missing one counts as 0."""
    writers = {writer for _, writer in after}
    return {
        (lane, writer): min(after.get((p, writer), 0) for p in partitions if lane_of(p) == lane)
        for lane in set(map(lane_of, partitions))
        for writer in writers
    }


def _cut(rows: Sequence[_Row], max_records: int, max_bytes: int) -> dict[Place, int]:
    """Take rows in turns, one of each (lane, writer), until a limit is reached; the first one always."""
    turns: dict[Place, list[_Row]] = defaultdict(list)
    for row in rows:
        turns[row.lane, row.writer].append(row)
    uptos: dict[Place, int] = {}
    records = size = 0
    for turn in range(max(map(len, turns.values()), default=0)):
        for place, queue in turns.items():
            if turn < len(queue):
                records += queue[turn].records
                size += queue[turn].bytes
                if uptos and (records > max_records or size > max_bytes):
                    return uptos
                uptos[place] = queue[turn].position
    return uptos
