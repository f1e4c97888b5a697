"""Follow what the database holds: read it, wait for its notification or a poll, read it again, for ever.

For tables that every process keeps in memory (revocations, signing keys, consent). A lost notification costs one poll; while
the database is away the reader keeps what it has, and reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

import asyncpg

from rocade.fabric.database.connection import DOWN, Database

POLL_S = 2.0
RETRY_S = 0.5
READ_S = 10.0
"""A server that answers nothing for so long is taken for gone."""
EVERYTHING = "*"
"""As a payload: look at everything."""
_log = logging.getLogger(__name__)


class Turns:
    """Readers of one thing, one at a time: what an older reading found must not come after what a newer one did."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def take(self, connection: asyncpg.Connection) -> AsyncIterator[None]:
        """Begin a snapshot only within. A reader that is not done after `READ_S` loses its connection, or all others would
        wait for a server that has gone: a transaction waits for the answer to its end, cancelled or not.
        """
        async with self._turn:
            cut = asyncio.get_running_loop().call_later(READ_S, connection.terminate)
            try:
                yield
            finally:
                cut.cancel()


async def follow(
    database: Database, channel: str, read: Callable[[asyncpg.Connection], Awaitable[object]], *, poll_s: float = POLL_S
) -> None:
    """Call `read` with a connection of its own after each notification on `channel`, each poll and each reconnect."""
    wake = asyncio.Event()
    while True:
        try:
            connection = await asyncpg.connect(database.url, timeout=10)
            try:
                await connection.add_listener(channel, lambda *_: wake.set())
                while True:
                    wake.clear()
                    async with asyncio.timeout(READ_S):
                        await read(connection)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(wake.wait(), poll_s)
            finally:
                connection.terminate()
        except (*DOWN, TimeoutError):
            pass
        except Exception:  # a reader that stopped following would go on with what is no longer true
            _log.exception("%s could not be read", channel)
        await asyncio.sleep(RETRY_S)


async def listen(database: Database, channels: Collection[str], heard: Callable[[str, str], object]) -> None:
    """Call `heard(channel, payload)` with each notification on these channels, for ever, and `heard(channel, "*")` for each
    of them after every connect: what was said before is not known then. `heard` must not block.
    """
    while True:
        with contextlib.suppress(*DOWN, TimeoutError):
            connection = await asyncpg.connect(database.url, timeout=10)
            try:
                gone = asyncio.Event()
                connection.add_termination_listener(lambda _connection, gone=gone: gone.set())
                for channel in channels:
                    await connection.add_listener(channel, lambda _c, _pid, name, said: heard(name, str(said)))
                for channel in channels:
                    heard(channel, EVERYTHING)
                await gone.wait()
            finally:
                connection.terminate()
        await asyncio.sleep(RETRY_S)
