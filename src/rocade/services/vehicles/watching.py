"""Twins that somebody watches: who waits for a vehicle is woken soon after its twin was written.

One query every `LOOK_S` for everything this process watches, however many streams are open, and none while nobody does. A
database that is away only delays the picture: the streams themselves ask for the twin and say what is wrong.
Source: docs/decisions/0037-console-pages.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from rocade.services.vehicles.twin import TwinStore

LOOK_S = 0.2
_log = logging.getLogger("rocade.vehicles.watching")


class TwinWatch:
    """One a process. `with watch.of(ref) as changed: await changed.wait(1.0)`."""

    def __init__(self, twins: TwinStore) -> None:
        self._twins = twins
        self._written_us: dict[int, int] = {}
        self._waiting: dict[int, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def of(self, ref: int) -> Iterator[Changed]:
        """Follow one vehicle while the block lasts."""
        event = asyncio.Event()
        self._waiting.setdefault(ref, set()).add(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_for_ever(), name="twin-watch")
        try:
            yield Changed(event)
        finally:
            self._waiting[ref].discard(event)
            if not self._waiting[ref]:
                del self._waiting[ref]
                self._written_us.pop(ref, None)

    async def _look_for_ever(self) -> None:
        while self._waiting:
            await asyncio.sleep(LOOK_S)
            try:
                written = await self._twins.written(list(self._waiting))
            except Exception:
                _log.exception("watched twins cannot be looked at; trying again")
                continue
            for ref, at_us in written.items():
                if self._written_us.get(ref) != at_us:
                    self._written_us[ref] = at_us
                    for event in self._waiting.get(ref, ()):
                        event.set()


class Changed:
    """Whether the twin was written since this was asked last."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, longest_s: float) -> bool:
        """Return when it was written, or after so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), longest_s)
        is_written = self._event.is_set()
        self._event.clear()
        return is_written
