"""SQL of machines: clients, and the sealed keys that sign access tokens."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg
import msgspec

CHANNEL = "trust_machines"
_KEY_LOCK = 0x746F6B656E
"""Advisory lock ("token"): one process at a time makes a signing key."""


class Client(msgspec.Struct, frozen=True):
    """A machine that may ask for tokens, and the purposes it may ask for."""

    identity: str
    purposes: tuple[str, ...]
    added_us: int
    added_by: str


class KeyRow(msgspec.Struct, frozen=True, order=True):
    """A signing key as stored; it signs from `begins_us` on, until a newer one does."""

    begins_us: int
    ends_us: int
    kid: str
    sealed: bytes


async def put_client(connection: asyncpg.Connection, client: Client) -> None:
    await connection.execute(
        "INSERT INTO machine_client (identity, purposes, added_us, added_by) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (identity) DO UPDATE SET purposes = $2, added_us = $3, added_by = $4",
        client.identity, list(client.purposes), client.added_us, client.added_by,
    )  # fmt: skip
    await connection.execute(f"NOTIFY {CHANNEL}")


async def drop_client(connection: asyncpg.Connection, identity: str) -> bool:
    done = await connection.execute("DELETE FROM machine_client WHERE identity = $1", identity)
    await connection.execute(f"NOTIFY {CHANNEL}")
    return bool(done != "DELETE 0")


async def read_clients(connection: asyncpg.Connection) -> list[Client]:
    rows = await connection.fetch("SELECT identity, purposes, added_us, added_by FROM machine_client ORDER BY identity")
    return [Client(row["identity"], tuple(row["purposes"]), row["added_us"], row["added_by"]) for row in rows]


async def lock_keys(connection: asyncpg.Connection) -> None:
    """Serialise makers of keys until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _KEY_LOCK)


async def read_keys(connection: asyncpg.Connection) -> list[KeyRow]:
    """Oldest first."""
    rows = await connection.fetch("SELECT begins_us, ends_us, kid, sealed FROM token_key ORDER BY begins_us")
    return [KeyRow(*row) for row in rows]


async def add_key(connection: asyncpg.Connection, row: KeyRow) -> None:
    await connection.execute(
        "INSERT INTO token_key (begins_us, ends_us, kid, sealed) VALUES ($1, $2, $3, $4)",
        row.begins_us, row.ends_us, row.kid, row.sealed,
    )  # fmt: skip
    await connection.execute(f"NOTIFY {CHANNEL}")


async def drop_keys(connection: asyncpg.Connection, kids: Iterable[str]) -> None:
    await connection.execute("DELETE FROM token_key WHERE kid = ANY($1)", list(kids))
    await connection.execute(f"NOTIFY {CHANNEL}")
