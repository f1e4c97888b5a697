"""Partition leases: the workers of a group share the partitions of a stream, each partition with one worker at a time.

Every worker calls `renew` in its loop. It says "I live" and sees who else does; the living, in the order they joined, own equal
runs of neighbouring partitions. A worker gives up what is no longer in its run and takes what is free in it; what a worker
held that has not been heard of for `ttl_s` is free (within ttl_s + ttl_s / 3: 8 s by default).

A lease is a promise, the fence is the proof: each change of owner raises the partition's fence, and `guard`, called inside
the transaction that commits work, fails unless every partition still carries the fence it was taken with. So of two workers
that both believe in a partition exactly one commits. Expiry is judged by the database's clock alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rocade.core.errors import Unavailable
from rocade.core.identifiers import PARTITIONS
from rocade.core.ports import Clock, SystemClock
from rocade.fabric.database.connection import DOWN, Database

JOIN = """
    INSERT INTO lease_member VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp() + $4 * interval '1 second')
    ON CONFLICT (name, stream, owner) DO UPDATE SET expires = excluded.expires"""
PART = "DELETE FROM lease_member WHERE name = $1 AND stream = $2 AND (owner = $3 OR expires < clock_timestamp())"
EXPIRE = "DELETE FROM lease_member WHERE name = $1 AND stream = $2 AND expires < clock_timestamp()"
LIVING = "SELECT owner FROM lease_member WHERE name = $1 AND stream = $2 ORDER BY joined, owner"
CREATE = """
    INSERT INTO lease SELECT $1, $2, partition, NULL, 0 FROM generate_series(0, $3 - 1) partition
    ON CONFLICT DO NOTHING"""
RELEASE = """
    UPDATE lease SET owner = NULL, fence = fence + 1
    WHERE name = $1 AND stream = $2 AND owner = $3 AND partition <> ALL($4::smallint[])"""
TAKE = """
    UPDATE lease l SET owner = $3, fence = fence + 1
    WHERE name = $1 AND stream = $2 AND partition = ANY($4::smallint[]) AND owner IS DISTINCT FROM $3
    AND NOT EXISTS (
        SELECT FROM lease_member m WHERE m.name = l.name AND m.stream = l.stream AND m.owner = l.owner)"""
HELD = "SELECT partition, fence FROM lease WHERE name = $1 AND stream = $2 AND owner = $3 ORDER BY partition"
GUARD = """
    SELECT partition, fence FROM lease
    WHERE name = $1 AND stream = $2 AND owner = $3 AND partition = ANY($4::smallint[])
    ORDER BY partition FOR SHARE"""


class Leases:
    """One worker's share of a group's partitions. `owner` must be unique to the process (name it with random bits)."""

    def __init__(
        self, database: Database, group: str, stream: str, owner: str, ttl_s: float = 6.0, clock: Clock | None = None
    ) -> None:
        self._pool = database.pool
        self._group = group
        self._stream = stream
        self._owner = owner
        self._ttl_s = ttl_s
        self._clock = clock or SystemClock()
        self._held: dict[int, int] = {}
        self._renewed_s = float("-inf")

    @property
    def partitions(self) -> list[int]:
        """What may be worked on now: empty once the last renewal is older than the time to live."""
        return list(self._held) if self._clock.monotonic_s() - self._renewed_s < self._ttl_s else []

    async def renew(self) -> list[int]:
        """Call it in every turn of the loop, between two commits; it asks the database each third of the time to live.

        Raises: Unavailable `database.down`; what is held then ends by itself.
        """
        now_s = self._clock.monotonic_s()
        if now_s - self._renewed_s >= self._ttl_s / 3:
            try:
                self._held = await self._share()
            except DOWN as error:
                raise Unavailable("database.down", f"leases cannot be renewed: {type(error).__name__}") from error
            self._renewed_s = now_s
        return self.partitions

    async def release(self) -> None:
        """Leave the group; others take the partitions at their next renewal."""
        self._held = {}
        self._renewed_s = float("-inf")
        async with self._pool.acquire() as connection, connection.transaction():
            await self._lock(connection)
            await connection.execute(PART, self._group, self._stream, self._owner)
            await connection.execute(RELEASE, self._group, self._stream, self._owner, [])

    async def guard(self, connection: Any, partitions: Iterable[int]) -> None:
        """Inside the caller's transaction: hold these partitions until it ends, or fail.

        Raises: Unavailable `lease.lost`: somebody else has taken one of them; roll back and renew.
        """
        wanted = sorted(partitions)
        rows = await connection.fetch(GUARD, self._group, self._stream, self._owner, wanted)
        if dict(rows) != {partition: self._held.get(partition) for partition in wanted}:
            self._renewed_s = float("-inf")
            raise Unavailable(
                "lease.lost", "another worker has taken over a partition of this commit; renew the leases"
            )

    async def _share(self) -> dict[int, int]:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._lock(connection)
            await connection.execute(JOIN, self._group, self._stream, self._owner, self._ttl_s)
            await connection.execute(EXPIRE, self._group, self._stream)
            await connection.execute(CREATE, self._group, self._stream, PARTITIONS)
            living = [owner for (owner,) in await connection.fetch(LIVING, self._group, self._stream)]
            rank, count = living.index(self._owner), len(living)
            mine = list(range(rank * PARTITIONS // count, (rank + 1) * PARTITIONS // count))
            await connection.execute(RELEASE, self._group, self._stream, self._owner, mine)
            await connection.execute(TAKE, self._group, self._stream, self._owner, mine)
            return dict(await connection.fetch(HELD, self._group, self._stream, self._owner))

    async def _lock(self, connection: Any) -> None:
        """One membership change of a group at a time."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext($1))", f"rocade.lease.{self._group}.{self._stream}"
        )
