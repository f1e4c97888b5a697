"""The row that custody is asked to open, as proof that it is there: read anew each time, without waiting for a database that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rocade.core.errors import Unavailable

type BucketRow = tuple[int, int, int, bytes]
READ_S = 5.0


class Probe:
    """The newest row that `read` gave."""

    def __init__(self, read: Callable[[], Awaitable[BucketRow]]) -> None:
        self._read = read
        self._reading: asyncio.Task[BucketRow] | None = None
        self._row: BucketRow | None = None

    async def newest(self) -> BucketRow:
        """The row as it is now; the one read before while the database is away, or stands still (one question waits then).

        Raises: Unavailable `database.down` when there is none yet.
        """
        reading = self._reading = self._reading or asyncio.create_task(self._ask(), name="keyring-probe")
        done, _ = await asyncio.wait({reading}, timeout=READ_S)
        if done and self._reading is reading:
            self._reading = None
        if done and not reading.cancelled() and reading.exception() is None:
            self._row = reading.result()
        if self._row is None:
            raise Unavailable("database.down", "the key tables cannot be read")
        return self._row

    async def _ask(self) -> BucketRow:
        return await self._read()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
