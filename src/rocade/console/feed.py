"""The live map's feed: twice a second, what moved, encoded once for all watching browsers.

A vehicle has an index for the life of this process; a frame carries new vehicles' descriptions and a flat number array
`[index, longitude, latitude, speed_kmh, state, ...]` (speed -1 = unknown; state: 1 = doubtful, 2 = silent), so that 1,000 moving vehicles cost about 30 KB a
second. A vehicle whose owner does not let operators see its place is not in it, and leaves it (`gone`) when he withdraws.
References are strings: 63 bits do not fit a JavaScript number. A browser that fell behind or reconnects gets the
whole picture again. The twin is asked only while somebody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable

import msgspec

from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Clock
from rocade.doors.http.streams import ALIVE, event
from rocade.services.vehicles import SILENT_AFTER_US, Registry, Vehicle
from rocade.services.vehicles.api import DRIVING, LOCATION
from rocade.services.vehicles.changes import OVERLAP_US
from rocade.services.vehicles.twin import Position, TwinStore
from rocade.trust.authority.gate import Rights

INTERVAL_S = 0.5
KEPT_FRAMES = 5
_log = logging.getLogger("rocade.console.feed")

DOUBTFUL, SILENT = 1, 2

type Place = tuple[float, float, float, int]
"""Longitude, latitude, speed_kmh and state as the map shows them."""


class Feed:
    """Shared by all watchers; see the module's head."""

    def __init__(self, twins: TwinStore, registry: Registry, rights: Rights, clock: Clock) -> None:
        self._twins = twins
        self._registry = registry
        self._rights = rights
        self._clock = clock
        self._newest_us = 0
        self._index: dict[int, int] = {}
        self._vehicles: list[Vehicle] = []
        self._places: dict[int, Place] = {}
        self._heard_us: dict[int, int] = {}
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
                if seen == self._number:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._fresh.wait(), INTERVAL_S)
                    if seen == self._number:
                        yield ALIVE
                    continue
                frames = [frame for number, frame in self._frames if number > seen]
                if len(frames) < self._number - seen:
                    frames = [self._whole()]
                seen = self._number
                for frame in frames:
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

    async def _poll(self) -> None:
        """Ask the twin once; a database that is away for a moment only delays the picture."""
        try:
            changed = await self._twins.changed_since(self._newest_us - OVERLAP_US)
            changed = [one for one in changed if self._classes(one.ref) & LOCATION]
            unknown = [VehicleRef(one.ref) for one in changed if one.ref not in self._index]
            found = await self._registry.by_refs(unknown) if unknown else {}
        except Exception:
            _log.exception("the map cannot read the twins; trying again")
            return
        for vehicle in found.values():
            self._index[vehicle.ref] = len(self._vehicles)
            self._vehicles.append(vehicle)
        moved, gone = self._take(changed), self._let_go()
        moved += self._fall_silent()
        self._number += 1
        self._frames.append((self._number, self._encode("move", found.values(), moved, gone)))
        self._fresh.set()
        self._fresh = asyncio.Event()

    def _take(self, changed: Iterable[Position]) -> list[int]:
        """Remember where vehicles are now; the references of those that moved."""
        moved = []
        for one in changed:
            self._newest_us = max(self._newest_us, one.updated_us)
            if one.longitude is None or one.latitude is None or one.ref not in self._index:
                continue
            is_speed_seen = one.speed_kmh is not None and self._classes(one.ref) & DRIVING
            speed = round(one.speed_kmh or 0.0, 1) if is_speed_seen else -1.0
            self._heard_us[one.ref] = one.arrived_us
            state = (DOUBTFUL if one.doubts else 0) | (SILENT if one.arrived_us < self._silent_us() else 0)
            place = (round(one.longitude, 6), round(one.latitude, 6), speed, state)
            if self._places.get(one.ref) != place:
                self._places[one.ref] = place
                moved.append(one.ref)
        return moved

    def _let_go(self) -> list[int]:
        """Forget vehicles that operators may no longer see the place of; their indices."""
        ended = [ref for ref in self._places if not self._classes(ref) & LOCATION]
        for ref in ended:
            del self._places[ref]
        return [self._index[ref] for ref in ended]

    def _fall_silent(self) -> list[int]:
        """Vehicles not heard of for so long that they count as silent from now on."""
        before_us = self._silent_us()
        fallen = [
            ref for ref, place in self._places.items() if not place[3] & SILENT and self._heard_us[ref] < before_us
        ]
        for ref in fallen:
            longitude, latitude, speed, state = self._places[ref]
            self._places[ref] = (longitude, latitude, speed, state | SILENT)
        return fallen

    def _silent_us(self) -> int:
        return self._clock.now_us() - SILENT_AFTER_US

    def _classes(self, ref: int) -> int:
        return self._rights.mask(ref, "operator", "operation", self._clock.now_us())

    def _whole(self) -> bytes:
        return self._encode("fleet", self._vehicles, self._places, [])

    def _encode(self, name: str, vehicles: Iterable[Vehicle], refs: Iterable[int], gone: list[int]) -> bytes:
        described = [(str(one.ref), one.kind, one.brand, one.model, one.powertrain) for one in vehicles]
        moves = [number for ref in refs for number in (self._index[ref], *self._places[ref])]
        return event(
            name, msgspec.json.encode({"vehicles": described, "moves": moves, "gone": gone}), str(self._number)
        )
