"""What changes in the twins, asked once a second for everybody who listens in this process.

A thousand open streams cost one query a second, not a thousand: the newest position of every vehicle is kept in the order of
its change. The twins are asked only while somebody listens. While the database is away listeners keep what they
have; the next round brings what they missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable

from rocade.services.vehicles.twin import Position, TwinStore

INTERVAL_S = 1.0
OVERLAP_US = 2_000_000
"""Twins are asked for again from this long before the newest seen: a row shows a moment after it was stamped."""
_log = logging.getLogger(__name__)


class Changes:
    """Shared by all listeners of a process."""

    def __init__(self, twins: TwinStore) -> None:
        self._twins = twins
        self._latest: dict[int, Position] = {}
        self._newest_us = 0
        self._listeners = 0
        self._started = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """While inside, `since` and `of` are at most a second old.

        Raises: what the database raises when it is down as the first listener comes.
        """
        self._listeners += 1
        try:
            async with self._started:
                if self._task is None or self._task.done():
                    await self._poll()
                    self._task = asyncio.create_task(self._keep_polling(), name="twin-changes")
            yield
        finally:
            self._listeners -= 1

    def since(self, since_us: int) -> list[Position]:
        """Vehicles whose twin was written at or after an instant (database clock), the oldest change first."""
        found = []
        for position in reversed(self._latest.values()):
            if position.updated_us < since_us:
                break
            found.append(position)
        return found[::-1]

    def of(self, refs: Iterable[int]) -> list[Position]:
        """The newest positions of these vehicles, without those that never sent anything."""
        return [position for ref in refs if (position := self._latest.get(ref))]

    async def _keep_polling(self) -> None:
        while self._listeners:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._poll()
            except Exception:  # the next round is a second away; listeners go on with what they have
                _log.exception("twins cannot be read; trying again")

    async def _poll(self) -> None:
        for position in await self._twins.changed_since(max(0, self._newest_us - OVERLAP_US)):
            known = self._latest.get(position.ref)
            if known is None or known.updated_us < position.updated_us:
                self._latest.pop(position.ref, None)
                self._latest[position.ref] = position
                self._newest_us = max(self._newest_us, position.updated_us)
