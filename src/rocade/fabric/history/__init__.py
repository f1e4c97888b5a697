"""Columnar store for time series: ClickHouse, embedded (chDB, owned by one `store` process) or a server/cluster.

Tables are defined by the services that own them; this package knows DDL, inserts that repeat harmlessly, queries and
physical erasure. The row shape and its figures: docs/decisions/0005-history.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import msgspec
import pyarrow as pa


class Table(msgspec.Struct, frozen=True):
    """One MergeTree table: `columns` are (name, ClickHouse type and codec); rendered for one node or for a cluster."""

    name: str
    columns: tuple[tuple[str, str], ...]
    order_by: tuple[str, ...]
    partition_by: str
    settings: Mapping[str, str | int] = {}
    shard_by: str = ""
    """Column that places a row on a shard of a cluster; the first of `order_by` if empty."""


class Erased(msgspec.Struct, frozen=True):
    """What one erasure came to: rows that are gone, parts that held them before, parts that do afterwards (0)."""

    rows: int
    parts_before: int
    parts_after: int


type Progress = Callable[[int, int], object]
"""`progress(done, all)`: about so many of the parts that held rows are rewritten; must not block."""


class History(Protocol):
    async def ensure(self, table: Table) -> None:
        """Create the table if absent; refuse a different existing definition (Misconfigured)."""
        ...

    async def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert durably (fsync). The same `token` with the same rows again changes nothing.

        Raises: Unavailable `history.down`.
        """
        ...

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run one SELECT with server-side parameters (`{name:Type}`)."""
        ...

    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> AsyncIterator[pa.RecordBatch]:
        """Run one SELECT and yield record batches as they come; bounded memory."""
        ...

    async def erase(
        self, table: str, condition: str, parameters: Mapping[str, Any], progress: Progress | None = None
    ) -> Erased:
        """Remove rows physically, hidden ones too: rewrites the parts that hold them and no others, and returns when the
        old ones have left the disk. May be repeated.
        """
        ...

    async def holding(
        self, table: str, condition: str, parameters: Mapping[str, Any], by: str
    ) -> dict[int, tuple[int, int]]:
        """Rows that meet a condition, hidden ones too, by the value of an integer expression: how many, in how many parts."""
        ...

    def hide(self, table: str, condition: str) -> None:
        """From now on no question asked by this client sees rows of `table` but those that meet the condition ('' = all)."""
        ...

    async def partitions(self, table: str) -> list[tuple[str, str]]:
        """(id, value of the partition expression) of each partition that holds rows."""
        ...

    async def drop(self, table: str, partition: str) -> None:
        """Drop a whole partition by its id; returns when its files have left the disk."""
        ...

    async def stage(self, table: str, name: str, columns: Mapping[str, str]) -> None:
        """Make `name` an empty table of the same shape, what it held is gone; `columns` name other codecs for some.

        Raises: Refused `history.stage.cluster`.
        """
        ...

    async def put_in_place(self, table: str, partition: str, name: str) -> None:
        """Let a partition of the staged table take the place of the table's own; may be repeated after a crash."""
        ...

    async def discard(self, name: str) -> None:
        """Remove a staged table, if it is there."""
        ...

    async def optimize(self, table: str) -> None:
        """Merge every partition into one part now, and return when that is done: for figures and before backups."""
        ...

    async def freeze(self, table: str, name: str) -> None:
        """Keep every part of the table as it is now under `shadow/<name>` of its disk, by hard links, until that is removed.

        Raises: Refused `history.freeze.remote` where the files are another machine's.
        """
        ...

    async def close(self) -> None: ...


def connect(url: str) -> History:
    """A client for `chdb+unix:///path/store.sock` or `http(s)://user:password@host:port/database[?cluster=name]`.

    Connects at first use. Raises: Misconfigured `history.url`.
    """
    from rocade.fabric.history.client import Client

    return Client(url)
