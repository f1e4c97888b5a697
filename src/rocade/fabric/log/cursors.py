"""Consumer groups and how far each has read; in PostgreSQL with every engine of the log.

A group is active from the first time it asks for its positions until it is retired; retention waits for active groups.
A position never goes back: a late commit of an earlier one changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.log import Positions

COMMIT = """
    INSERT INTO log_cursor AS c (name, stream, partition, writer, position)
    SELECT $1, $2, * FROM unnest($3::smallint[], $4::integer[], $5::bigint[])
    ON CONFLICT (name, stream, partition, writer) DO UPDATE SET position = excluded.position
    WHERE c.position < excluded.position"""


class Cursors:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._pool = database.pool
        self._clock = clock

    async def positions(self, group: str, stream: str, partitions: Sequence[int]) -> dict[tuple[int, int], int]:
        """Committed positions; registers the group as active."""
        await self._pool.execute(
            "INSERT INTO log_group VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", group, stream, self._clock.now_us()
        )
        rows = await self._pool.fetch(
            "SELECT partition, writer, position FROM log_cursor WHERE name = $1 AND stream = $2 AND partition = ANY($3)",
            group, stream, partitions,
        )  # fmt: skip
        return {(partition, writer): position for partition, writer, position in rows}

    async def commit(self, group: str, stream: str, positions: Positions, connection: Any = None) -> None:
        """Store positions, in one order so that two committers never wait for each other crosswise."""
        ordered = sorted(positions.items())
        await (connection or self._pool).execute(
            COMMIT, group, stream,
            [partition for (partition, _), _ in ordered], [writer for (_, writer), _ in ordered], [at for _, at in ordered],
        )  # fmt: skip

    async def retire(self, group: str, stream: str) -> None:
        """Forget a group: retention no longer waits for it."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("DELETE FROM log_group WHERE name = $1 AND stream = $2", group, stream)
            await connection.execute("DELETE FROM log_cursor WHERE name = $1 AND stream = $2", group, stream)
