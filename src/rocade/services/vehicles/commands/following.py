"""Who waits for news of a vehicle's commands is woken when there are some; one listener a process, and only while somebody waits.

A lost notification costs `POLL_S`; while the database is away those who wait are woken at that pace and say what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from rocade.fabric.database import Database
from rocade.fabric.database.following import listen
from rocade.services.vehicles.commands import store

POLL_S = 2.0


class Changed:
    """Whether something changed since this was asked last."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, longest_s: float = POLL_S) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), longest_s)
        self._event.clear()


class Following:
    """One a process. `with following.of(ref) as changed: await changed.wait()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def of(self, ref: int) -> Iterator[Changed]:
        event = asyncio.Event()
        self._waiting.setdefault(ref, set()).add(event)
        if self._task is None or self._task.done():
            channels = (store.QUEUED_CHANNEL, store.CHANGED_CHANNEL)
            self._task = asyncio.create_task(listen(self._database, channels, self._heard), name="commands-following")
        try:
            yield Changed(event)
        finally:
            self._waiting[ref].discard(event)
            if not self._waiting[ref]:
                del self._waiting[ref]

    def _heard(self, _channel: str, payload: str) -> None:
        refs = store.told(payload)
        for ref in list(self._waiting) if refs is None else refs:
            for event in self._waiting.get(ref, ()):
                event.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
