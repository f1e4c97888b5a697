"""The deny set: serials of revoked certificates, pushed to every process within moments.

`Authority.revoke` writes rows under a lock (their numbers commit in order) and notifies; each process listens, reads the
rows beyond its last number, and calls its watchers with the new serials so that doors close open connections. A poll
every two seconds covers lost notifications and reconnects. While the database is away the set stays as it was, and
`age_s` tells how old it is. Rows of certificates that have ended anyway are not loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Set
from typing import Self

import asyncpg

from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.following import follow
from rocade.trust.authority import store

type Watcher = Callable[[Set[int]], object]

_log = logging.getLogger(__name__)


class DenySet:
    """Revoked serials of the region. `serial in deny_set` works too, for `verify_leaf(denied=...)`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._serials: set[int] = set()
        self._last_number = 0
        self._read_s = clock.monotonic_s()
        self._watchers: list[Watcher] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, database: Database, clock: Clock) -> Self:
        """Load the set, then follow changes until `close`.

        Raises: what the database raises when it is down; a process must not start with an unknown set.
        """
        opened = cls(database, clock)
        async with database.pool.acquire() as connection:
            await opened._read(connection)
        opened._task = asyncio.create_task(follow(database, store.REVOKED_CHANNEL, opened._hear), name="deny-set")
        return opened

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def is_revoked(self, serial: int) -> bool:
        return serial in self._serials

    def __contains__(self, serial: object) -> bool:
        return serial in self._serials

    def __len__(self) -> int:
        return len(self._serials)

    @property
    def age_s(self) -> float:
        """Seconds since the database last confirmed this set."""
        return self._clock.monotonic_s() - self._read_s

    async def watch(self, callback: Watcher) -> None:
        """Call `callback` with the serials revoked from now on."""
        self._watchers.append(callback)

    async def _hear(self, connection: asyncpg.Connection) -> None:
        """Read what is new and tell the watchers."""
        new = await self._read(connection)
        for watcher in self._watchers if new else ():
            try:
                watcher(new)
            except Exception:  # a watcher's fault must not stop the others from hearing of a revocation
                _log.exception("a watcher of the deny set failed")

    async def _read(self, connection: asyncpg.Connection) -> Set[int]:
        rows = await store.read_revocations(connection, self._last_number, self._clock.now_us())
        new = {serial for _, serial in rows} - self._serials
        if rows:
            self._last_number = rows[-1][0]
        self._serials |= new
        self._read_s = self._clock.monotonic_s()
        return new
