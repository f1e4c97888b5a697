"""The live map's feed: once a second, what moved, encoded once for all watching browsers.

A vehicle has an index for the life of this process; a frame carries new vehicles' descriptions and a flat number array
`[index, longitude, latitude, speed_kmh, ...]`, so that 1,000 moving vehicles cost about 30 KB a second. References are
strings: 63 bits do not fit a JavaScript number. A browser that fell behind or reconnects gets the whole picture again.
The source is asked only while somebody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

import msgspec

from rocade.core.identifiers import VehicleRef

_log = logging.getLogger("rocade.console.feed")

INTERVAL_S = 1.0
KEPT_FRAMES = 5


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What the map shows of a vehicle. Positions in WGS-84 degrees; `speed_kmh` may be unknown (NaN is not allowed)."""

    ref: VehicleRef
    longitude: float
    latitude: float
    speed_kmh: float | None
    at_us: int


class Described(msgspec.Struct, frozen=True):
    """What a vehicle is; shown in its label and colour."""

    ref: VehicleRef
    kind: str
    brand: str
    model: str
    powertrain: str


class FleetSource(Protocol):
    async def changed_since(self, cursor: int) -> tuple[list[Seen], int]:
        """Vehicles whose position was stored after `cursor` (0 = all that have one), and the next cursor."""
        ...

    async def describe(self, refs: Iterable[VehicleRef]) -> list[Described]:
        """Descriptions of these vehicles; unknown ones are left out."""
        ...


class Feed:
    """Shared by all watchers; see the module's head."""

    def __init__(self, source: FleetSource) -> None:
        self._source = source
        self._cursor = 0
        self._index: dict[VehicleRef, int] = {}
        self._described: list[Described] = []
        self._last: dict[VehicleRef, Seen] = {}
        self._frames: deque[tuple[int, bytes]] = deque(maxlen=KEPT_FRAMES)
        self._number = 0
        self._fresh = asyncio.Event()
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None

    async def watch(self, closing: asyncio.Event) -> AsyncIterator[bytes]:
        """Yield server-sent events until the browser goes or the server closes."""
        self._watchers += 1
        try:
            if self._task is None or self._task.done():
                await self._poll()
                self._task = asyncio.create_task(self._keep_polling())
            seen = self._number
            yield self._whole()
            while not closing.is_set():
                fresh = self._fresh
                if seen == self._number:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(fresh.wait(), INTERVAL_S)
                    continue
                missed = [frame for number, frame in self._frames if number > seen]
                if len(missed) < self._number - seen:
                    missed = [self._whole()]
                seen = self._number
                for frame in missed:
                    yield frame
        finally:
            self._watchers -= 1

    async def _keep_polling(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._watchers:
            due = max(due + INTERVAL_S, loop.time())
            await asyncio.sleep(due - loop.time())
            await self._poll()
        self._task = None

    async def _poll(self) -> None:
        """Ask the source once; a source that is down for a moment only delays the picture."""
        try:
            moved, self._cursor = await self._source.changed_since(self._cursor)
            unknown = [one.ref for one in moved if one.ref not in self._index]
            described = await self._source.describe(unknown) if unknown else []
        except Exception:
            _log.exception("the map's source failed; trying again")
            return
        for one in described:
            self._index[one.ref] = len(self._described)
            self._described.append(one)
        known = [one for one in moved if one.ref in self._index]
        self._last.update((one.ref, one) for one in known)
        self._number += 1
        self._frames.append((self._number, _event("move", self._number, described, self._numbers(known))))
        self._fresh.set()
        self._fresh = asyncio.Event()

    def _whole(self) -> bytes:
        return _event("fleet", self._number, self._described, self._numbers(self._last.values()))

    def _numbers(self, seen: Iterable[Seen]) -> list[float | int]:
        flat: list[float | int] = []
        for one in seen:
            speed = -1 if one.speed_kmh is None else round(one.speed_kmh, 1)
            flat += (self._index[one.ref], round(one.longitude, 6), round(one.latitude, 6), speed)
        return flat


def _event(name: str, number: int, described: Iterable[Described], moves: list[float | int]) -> bytes:
    vehicles = [(str(one.ref), one.kind, one.brand, one.model, one.powertrain) for one in described]
    body = msgspec.json.encode({"vehicles": vehicles, "moves": moves})
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), number, body)
