"""SQL of the authority: certificates, claim codes, revocations, and the audit log's tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec


class Tree(msgspec.Struct, frozen=True):
    """The audit tree's one row."""

    size: int
    edge: bytes
    head_size: int
    head_us: int


async def lock_tree(connection: asyncpg.Connection) -> Tree:
    """Take the row lock that orders all writers, and read the row."""
    return Tree(
        *await connection.fetchrow("SELECT size, edge, head_size, head_us FROM audit_tree WHERE id = 1 FOR UPDATE")
    )


async def read_tree(connection: asyncpg.Connection) -> Tree | None:
    row = await connection.fetchrow("SELECT size, edge, head_size, head_us FROM audit_tree WHERE id = 1")
    return Tree(*row) if row else None


async def add_entries(connection: asyncpg.Connection, first: int, bodies: Sequence[bytes], tree: Tree) -> None:
    """Write entries from position `first` and the tree after them."""
    if bodies:
        rows = list(enumerate(bodies, first))
        await connection.copy_records_to_table("audit_entry", records=rows, columns=["position", "body"])
    await connection.execute(
        "UPDATE audit_tree SET size = $1, edge = $2, head_size = $3, head_us = $4 WHERE id = 1",
        tree.size, tree.edge, tree.head_size, tree.head_us,
    )  # fmt: skip


async def add_head(connection: asyncpg.Connection, size: int, signed: bytes) -> None:
    await connection.execute("INSERT INTO audit_head VALUES ($1, $2)", size, signed)


async def read_body(connection: asyncpg.Connection, position: int) -> bytes | None:
    body: bytes | None = await connection.fetchval("SELECT body FROM audit_entry WHERE position = $1", position)
    return body


async def read_heads(connection: asyncpg.Connection) -> list[bytes]:
    return [row["signed"] for row in await connection.fetch("SELECT signed FROM audit_head ORDER BY size")]


async def read_entries(connection: asyncpg.Connection) -> AsyncIterator[tuple[int, bytes]]:
    """All entries in order, through a cursor: bounded memory; needs a transaction."""
    async for row in connection.cursor("SELECT position, body FROM audit_entry ORDER BY position", prefetch=2_000):
        yield row["position"], row["body"]
