"""What moves on the pages of owners and drivers: states as they change, and the moment a right ends.

Each stream proves the viewer and asks the gate anew for every frame, and at once when the consent table says that something
changed, so that it ends with an `ended` event in the other window too; `rights` tells a page that consents or drivers changed.
States travel as the piece of page they are (rendered in the reader's language), positions as numbers for the map.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Set

import msgspec
from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from rocade.console.my import state
from rocade.console.my.frame import Car, Mine, MineDependency, car_of, piece, version
from rocade.console.my.home import glance_of, refs_of
from rocade.core import data_classes
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, does, permit_of, right_of
from rocade.doors.http.streams import ALIVE, event, events
from rocade.trust.authority.gate import Right, acts

TICK_S = 0.5


@get("/my/live", opt=does(acts.MY_VEHICLES), include_in_schema=False)
async def watch_home(request: AnyRequest, mine: MineDependency) -> Stream:
    """`glance` of each vehicle whose state changed; `list` when the list itself is another."""
    return events(request, _home(request, mine))


@get("/my/live/{ref:int}", opt=does(acts.READ_TWIN), include_in_schema=False)
async def watch_vehicle(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Stream:
    """`glance` whenever the twin changed; `rights` when consents or drivers did; `ended` is the last event of all."""
    return events(request, _vehicle(request, mine, ref))


async def _home(request: AnyRequest, mine: Mine) -> AsyncIterator[bytes]:
    person = permit_of(request).principal.id
    known = await refs_of(mine, person)
    shown: dict[int, state.Glance] = {}
    with Changes(mine) as changes:
        while not request.app.state.closing.is_set():
            found = {ref: await glance_of(request, mine, ref) for ref in known}
            if None in found.values() or (changes.take() and await refs_of(mine, person) != known):
                yield event("list", b"{}")
                return
            for ref, one in found.items():
                if one is not None and shown.get(ref) != one[1]:
                    shown[ref] = one[1]
                    yield _glance(request, *one)
            yield ALIVE
            await changes.wait(2 * TICK_S, request.app.state.closing)


async def _vehicle(request: AnyRequest, mine: Mine, ref: int) -> AsyncIterator[bytes]:
    shown: state.Glance | None = None
    before: tuple[int, str] | None = None
    relation = right_of(request, ref).relation
    with Changes(mine) as changes:
        while not request.app.state.closing.is_set():
            try:
                await request.app.state.access.recheck(request.scope, acts.READ_TWIN, ref)
            except Refused as refusal:
                yield event("ended", msgspec.json.encode({"code": refusal.code}))
                return
            right = right_of(request, ref)
            if right.relation != relation:  # sold under way: what the page shows is another time's
                yield event("ended", b'{"code":"gate.denied"}')
                return
            if before is None or ref in changes.take() or before[0] != right.classes:
                car = await car_of(request, mine, ref, right)
                now = right.classes, await version(mine, ref)
                if before is not None and now != before:
                    yield event("rights", msgspec.json.encode({"version": now[1], "classes": now[0] != before[0]}))
                before = now
            g = shown if right.relation == "former" else await _state(mine, ref, right)
            yield ALIVE if g is None or g == shown else _glance(request, car, g, data_classes.names(right.classes))
            shown = g
            await changes.wait(TICK_S, request.app.state.closing, ref)


async def _state(mine: Mine, ref: int, right: Right) -> state.Glance:
    return state.glance(ref, await mine.twins.latest(ref), mine.catalogue, right.classes)


def _glance(request: AnyRequest, car: Car, g: state.Glance, mask: tuple[str, ...]) -> bytes:
    body = {
        "ref": car.ref,
        "html": piece(request, "my/glance.html", car=car, g=g, mask=mask).content,
        "figures": piece(request, "my/figures.html", g=g).content,
        "place": [g.longitude, g.latitude] if g.latitude is not None else None,
        "seen_us": g.seen_us,
    }
    return event("glance", msgspec.json.encode(body))


class Changes:
    """What the consent table says changed, while a stream is open."""

    def __init__(self, mine: Mine) -> None:
        self.heard: Set[int] = frozenset()
        self._table = mine.table
        self._wake = asyncio.Event()

    def __enter__(self) -> Changes:
        self._end = self._table.watch(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _hear(self, refs: Set[int]) -> None:
        self.heard = self.heard | refs
        self._wake.set()

    def take(self) -> Set[int]:
        """What was heard since this was last asked."""
        heard, self.heard = self.heard, frozenset()
        return heard

    async def wait(self, longest_s: float, closing: asyncio.Event, ref: int | None = None) -> None:
        """Until something changed (for `ref`), the server closes, or so long."""
        self._wake.clear()
        if self.heard and (ref is None or ref in self.heard):
            return
        waiting = [asyncio.create_task(one.wait()) for one in (self._wake, closing)]
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait(waiting, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()


HANDLERS = [watch_home, watch_vehicle]
