"""Connections to one PostgreSQL database: two asyncpg pools over one URL, which may name a server, a socket, a password file.
Refuses servers older than 15 (`database.version`).
"""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

import asyncpg

from rocade.core.errors import Misconfigured, Unavailable

OLDEST_VERSION = 15
CONNECT_TIMEOUT_S = 10.0
DOWN = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that the server ended in the middle of something
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
"""What asyncpg raises when the server is gone, going or coming; whoever catches it may retry."""
UNFIT = asyncpg.DataError
"""What asyncpg raises for a value no column takes: a number of more than 63 bits, text that is no Unicode, a NUL."""


class Database:
    """One database: `pool`, and `lookups` for who asks while he or his caller holds a connection of `pool`.

    `keyring`: whose keys seal its personal columns; whoever opens the region hands it in (`trust.authority.sealing`).
    """

    def __init__(self, url: str, pool: asyncpg.Pool, lookups: asyncpg.Pool) -> None:
        self.keyring: object = None
        self.url = url
        self.pool = pool
        self.lookups = lookups

    @classmethod
    async def connect(cls, url: str, max_connections: int = 8) -> Self:
        """Open both pools (lazily filled).

        Raises: Unavailable `database.down`; Misconfigured `database.url`, `database.version`.
        """
        check_url(url)
        try:
            pool = await asyncpg.create_pool(url, min_size=1, max_size=max_connections, timeout=CONNECT_TIMEOUT_S)
            async with pool.acquire() as connection:
                version = connection.get_server_version()
        except DOWN as error:
            raise Unavailable("database.down", f"PostgreSQL does not answer: {type(error).__name__}") from error
        if version.major < OLDEST_VERSION:
            await pool.close()
            raise Misconfigured(
                "database.version", f"PostgreSQL {version.major} is too old, use {OLDEST_VERSION} or newer"
            )
        lookups = await asyncpg.create_pool(url, min_size=0, max_size=max_connections, timeout=CONNECT_TIMEOUT_S)
        return cls(url, pool, lookups)

    async def close(self) -> None:
        await self.lookups.close()
        await self.pool.close()


async def plan_anew(connection: asyncpg.Connection) -> None:
    """Have the rest of this transaction planned for what its tables hold now: a plan that was kept from when a table was small
    would read all of it. Cost: a round trip, and some 0.1 ms for each statement; for batches and what runs once a second.
    """
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")


def check_url(url: str) -> None:
    """Raises: Misconfigured `database.url` unless it is a PostgreSQL URL."""
    if urlsplit(url).scheme not in ("postgresql", "postgres"):
        raise Misconfigured("database.url", "ROCADE_DATABASE_URL must begin with postgresql://")
