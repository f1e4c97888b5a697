"""Durable streams of records, partitioned; what is appended is on disk when `append` returns.

Order holds per (partition, writer): a reader's cursor keeps one position per writer, so a record that commits late is
never skipped and a transaction left open elsewhere delays nobody (docs/decisions/0004-log.md). Engines: PostgreSQL
tables (default), NATS JetStream. Cursors and leases live in PostgreSQL with either engine, so that a consumer commits
its position in the same transaction as its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

type Place = tuple[int, int]
"""(partition, writer)."""
type Positions = Mapping[Place, int]
"""Last consumed position per (partition, writer); a place that is absent was never read."""
type Limits = Mapping[Place, tuple[int, int]]
"""Exact block bounds per (partition, writer): positions in (after, upto]."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record. `key` groups records (a VehicleRef), `kind` is a small number the stream's owner defines."""

    partition: int
    key: int
    kind: int
    arrived_us: int
    body: bytes


class Slice(msgspec.Struct, frozen=True):
    """What one read returned: records ordered within each (partition, writer), and the bounds they fill exactly."""

    records: list[Record]
    limits: dict[Place, tuple[int, int]]

    @property
    def positions(self) -> dict[Place, int]:
        return {place: upto for place, (_, upto) in self.limits.items()}


class Lag(msgspec.Struct, frozen=True):
    records: int
    oldest_arrived_us: int | None


class Log(Protocol):
    async def append(self, stream: str, records: Sequence[Record]) -> None:
        """Return when all records are on disk; all or none.

        Raises: Unavailable `log.down` (outcome settled before it is raised or the call keeps trying), `log.full`
        (intake stopped because an active group has not read what retention would drop).
        """
        ...

    async def read(
        self, stream: str, partitions: Sequence[int], after: Positions, max_records: int, max_bytes: int
    ) -> Slice:
        """Read what follows `after` in these partitions; an empty slice if nothing is there yet."""
        ...

    async def reread(self, stream: str, limits: Limits) -> Slice:
        """Read exactly one earlier block again (same records, same order), for a repeated insert."""
        ...

    async def positions(self, group: str, stream: str, partitions: Sequence[int]) -> dict[Place, int]:
        """Committed positions of a group."""
        ...

    async def commit(self, group: str, stream: str, positions: Positions, connection: Any = None) -> None:
        """Store the group's positions; inside the caller's transaction when its asyncpg `connection` is given."""
        ...

    async def retire(self, group: str, stream: str) -> None:
        """Forget a group; one is active from its first call of `positions` on, and retention waits for it."""
        ...

    async def lag(self, group: str, stream: str) -> Lag:
        """What the group has not read yet."""
        ...

    async def trim(self) -> int:
        """Drop what retention allows and every active group has read; returns bytes freed."""
        ...

    async def forget(self, stream: str, keys: Mapping[int, int]) -> dict[int, int] | None:
        """Remove the records of these keys (key -> its partition) from the disk, read or not; how many there were of each.

        None: this engine cannot take single records out; they go when retention drops their segment. Blocks that hold
        such records must have been finished (`reread` would find others than before).
        """
        ...

    async def close(self) -> None: ...
