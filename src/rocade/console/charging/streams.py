"""What wakes the live parts of these pages: a twin that was written, a command that moved on, or a second gone by.

Pieces of page are rendered anew at each look and sent when they differ from what the browser has; the order of things is the
server's, so a page never has to put anything together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from rocade.console.charging.desk import ChargeDesk
from rocade.doors.http import AnyRequest
from rocade.doors.http.streams import ALIVE, event

LOOK_S = 1.0
LEAST_S = 0.05
"""Between two looks, however much happens."""

type Pieces = Callable[[], Awaitable[Mapping[str, Mapping[str, object]]]]
"""Each event of a look with its data."""


@contextlib.asynccontextmanager
async def woken(charge: ChargeDesk, ref: int) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the twin or a command of this vehicle changed."""
    wake = asyncio.Event()

    async def twins() -> None:
        with charge.watch.of(ref) as changed:
            while True:
                if await changed.wait(60.0):
                    wake.set()

    async def commands() -> None:
        async for _ in charge.commands.follow(ref):
            wake.set()

    tasks = [asyncio.create_task(work(), name="charging-woken") for work in (twins, commands)]
    try:
        yield wake
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def changes(request: AnyRequest, wake: asyncio.Event, pieces: Pieces) -> AsyncIterator[bytes]:
    """The pieces that are others than at the look before, for ever."""
    shown: dict[str, bytes] = {}
    closing: asyncio.Event = request.app.state.closing
    while not closing.is_set():
        wake.clear()
        for name, data in (await pieces()).items():
            body = msgspec.json.encode(data)
            if shown.get(name) != body:
                shown[name] = body
                yield event(name, body)
        yield ALIVE
        await asyncio.sleep(LEAST_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), LOOK_S)
