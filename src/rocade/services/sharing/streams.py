"""Feeds as server-sent events: one contract, or all of a third party's on one connection.

Events: `record` (data: a record as JSON), `ended` (a contract ended, with why; nothing of it follows), `expired` (the cursor is
older than records are kept: what lies between is in the history, by Parquet), `alive`. The id of each is the cursor behind it;
send it as Last-Event-ID and nothing is lost or told twice. Without a cursor a stream begins now.
A reader that is slow waits alone: its records wait in the table, nothing is held for it here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import zip_longest

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation
from litestar.response import Stream

from rocade.core.errors import Unavailable
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.doors.http.streams import event, events, woken
from rocade.services.sharing import errors
from rocade.services.sharing.feeding import Bell, Feeding, Lines, Sent
from rocade.services.sharing.model import Contract
from rocade.services.sharing.store import FAILURES
from rocade.trust.authority.gate import acts

WAIT_S = 20.0
"""Below the minute after which most proxies cut a silent connection."""
FeedingDependency = NamedDependency[SkipValidation[Feeding]]


class Streams(msgspec.Struct, frozen=True):
    """What an open stream needs besides. `keep_us`: how long records are kept."""

    bell: Bell
    lines: Lines
    keep_us: int


StreamsDependency = NamedDependency[SkipValidation[Streams]]


def cursor_of(number: int, at_us: int) -> str:
    return f"{number:x}-{at_us:x}"


def read_cursor(text: str) -> tuple[int, int]:
    """(number, instant). Raises: Refused `sharing.cursor`."""
    if not re.fullmatch(r"[0-9a-f]{1,15}-[0-9a-f]{1,15}", text):
        raise errors.cursor()
    number, at = text.split("-")
    return int(number, 16), int(at, 16)


@get("/v1/sharing/stream", opt=does(acts.FOLLOW_SHARING))
async def stream(
    request: AnyRequest,
    feeding: FeedingDependency,
    streams: StreamsDependency,
    contract: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
) -> Stream:
    """What the caller's contracts give, as it comes; `contract` names one, else all that provide for `sse`."""
    party = caller_of(request).recipient
    if contract:
        await feeding.sharing.for_party(party, contract, "sse")
    begin = request.headers.get("last-event-id", "") or cursor
    place = read_cursor(begin) if begin else (await feeding.newest(), 0)
    return events(request, _Following(request, feeding, streams, party, contract).frames(*place))


class _Following:
    """One open stream."""

    def __init__(self, request: AnyRequest, feeding: Feeding, streams: Streams, party: str, only: str) -> None:
        self._request = request
        self._feeding = feeding
        self._streams = streams
        self._party = party
        self._only = only
        self._clock = feeding.sharing.clock
        self._known: dict[str, Contract] = {}
        self._told: set[str] = set()

    async def frames(self, number: int, at_us: int) -> AsyncIterator[bytes]:
        closing: asyncio.Event = self._request.app.state.closing
        horizon_us = self._clock.now_us() - self._streams.keep_us
        if 0 < at_us < horizon_us:
            said = {"from_us": at_us, "until_us": horizon_us}
            yield event("expired", msgspec.json.encode(said), cursor_of(number, horizon_us))
        while not closing.is_set():
            refs = {one.ref for one in self._contracts()}
            with woken(self._request, refs) as wake, self._streams.bell.ringing(refs, wake):
                stop = self._feeding.book.watch(wake.set)
                try:
                    while {one.ref for one in self._contracts()} == refs and not closing.is_set():
                        wake.clear()
                        for frame in await self._ended(number):
                            yield frame
                        if self._only in self._told:
                            return
                        before = number
                        found, after, is_all = await self._read(number)
                        for one, place in _places(found):
                            if not self._may_leave(one):
                                break  # what is agreed is another than when it was read: read again from here
                            number = place
                            yield event("record", one.body, cursor_of(place, one.at_us))
                        else:
                            number = after
                        if number == before:
                            yield event("alive", b"{}", cursor_of(number, self._clock.now_us()))
                        if number == before or is_all:
                            await _either(wake, closing)
                finally:
                    stop()
            for frame in await self._ended(number):
                yield frame
            if self._only in self._told:
                return

    def _contracts(self) -> Sequence[Contract]:
        """Those that run now; each is known from then on, so that its end is told."""
        mine = self._feeding.book.by_party.get(self._party, ())
        running = [one for one in mine if "sse" in one.ways and self._only in ("", one.id)]
        self._known |= {one.id: one for one in running if one.id not in self._known}
        return running

    async def _ended(self, number: int) -> list[bytes]:
        """What says that contracts have ended since they were known, each once."""
        try:
            running = {one.id for one in self._contracts() if self._feeding.sharing.classes_of(one)}
            now_us = self._clock.now_us()
            gone = [one for one in self._known.values() if one.id not in running | self._told and one.from_us <= now_us]
            why = {one.id: await self._feeding.sharing.over(one.id) for one in gone}
        except (Unavailable, *FAILURES):
            return []
        self._told |= {id for id in why if why[id]}
        said = [{"contract": id, "code": errors.ended(why[id]).code, "why": why[id]} for id in why if why[id]]
        return [event("ended", msgspec.json.encode(one), cursor_of(number, now_us)) for one in said]

    async def _read(self, number: int) -> tuple[list[Sent], int, bool]:
        """What waits now, and whether that is all; while it may not be told (consents or keys are not known) nothing."""
        try:
            found, after, is_all = await self._feeding.after(self._contracts(), number)
        except (Unavailable, *FAILURES):
            return [], number, True
        return [one for one in found if one.body], after, is_all

    def _may_leave(self, one: Sent) -> bool:
        """Whether this is still agreed as it was when it was read; then it is noted for the owner."""
        try:
            if not self._feeding.is_agreed(one):
                return False
            self._feeding.note(caller_of(self._request), one.contract)
        except Unavailable:
            return False
        self._streams.lines.add(self._feeding.line("sse", one))
        return True


def _places(found: Sequence[Sent]) -> Iterator[tuple[Sent, int]]:
    """Each with the number its reader has behind it: what several contracts share is behind him with the last of them."""
    for one, following in zip_longest(found, found[1:]):
        is_last = following is None or following.number != one.number
        yield one, one.number if is_last else one.number - 1


async def _either(wake: asyncio.Event, closing: asyncio.Event) -> None:
    waiting = [asyncio.create_task(wake.wait()), asyncio.create_task(closing.wait())]
    try:
        await asyncio.wait(waiting, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


HANDLERS = [stream]
