"""What releases of a list changed, for systems that keep their own table: by page, as a stream, and as news.

Only points of sale that are entitled to a list see it; everybody else is told that there is none. Changes come in the order
of releases; the cursor names the last one, so a reader goes on after any interruption without a gap or a repetition.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation
from litestar.response import Stream

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.doors.http.streams import ALIVE, event, events, pause
from rocade.services.prices import errors, store
from rocade.services.prices.epochs import payload_of
from rocade.services.prices.model import PriceList
from rocade.services.prices.service import Lists
from rocade.trust.authority.gate import acts
from rocade.wire.resources import PriceChange

PAGE = 1_000
LOOK_S = 2.0
_CURSOR = re.compile(r"(\d{1,15})\.(\d{1,10})\.(-?\d{1,18})\Z")
_FIRST = (1 << 31) - 1, (1 << 62)
"""Behind every entry of a release."""


class ChangesPage(msgspec.Struct, frozen=True):
    """`next` is the cursor to go on with, "" = that was all."""

    items: list[PriceChange]
    next: str


async def entitled(lists: Lists, list_id: str, caller: str) -> PriceList:
    """The list, for a point of sale it is for. Raises: Refused `prices.list.unknown`."""
    about = await lists.find(list_id)
    try:
        identity = Identity.parse(caller)
    except Refused:
        raise errors.list_unknown() from None
    if identity.kind != "dealer" or not lists.is_entitled(identity.id, about):
        raise errors.list_unknown()
    return about


async def changes(
    lists: Lists, about: PriceList, since_seq: int, cursor: str, limit: int = PAGE
) -> tuple[list[PriceChange], str]:
    """Changes of releases after `since_seq`, or behind a cursor, and the next cursor.

    Raises: Refused `prices.cursor`.
    """
    place = (max(0, min(since_seq, 1 << 30)), *_FIRST)
    if cursor:
        found = _CURSOR.match(cursor)
        if not found or int(found[1]) > 1 << 30 or int(found[2]) > _FIRST[0]:
            raise Refused("prices.cursor", "this is no cursor of price changes; send back the one that came last")
        place = int(found[1]), int(found[2]), int(found[3])
    limit = max(1, min(limit, PAGE))
    rows = await store.changes(lists.pool, about.number, about.seq, place, limit + 1)
    made = [
        PriceChange(
            list=about.id,
            seq=seq,
            ref=ref,
            currency=about.currency,
            price_minor=price_minor,
            valid_from_us=valid_from_us,
        )
        for seq, _, valid_from_us, ref, price_minor in rows[:limit]
    ]
    last = rows[min(limit, len(rows)) - 1] if rows else None
    return made, f"{last[0]}.{last[1]}.{last[2]}" if last and len(rows) > limit else ""


ListsDependency = NamedDependency[SkipValidation[Lists]]


@get("/v1/price-lists/{list_id:str}/changes", opt=does(acts.FOLLOW_EXCHANGE))
async def list_changes(
    request: AnyRequest,
    list_id: FromPath[str],
    lists: ListsDependency,
    since: FromQuery[int] = 0,
    cursor: FromQuery[str] = "",
    limit: FromQuery[int] = PAGE,
) -> ChangesPage:
    """What releases after number `since` changed, for a point of sale the list is for."""
    about = await entitled(lists, list_id, caller_of(request).id)
    return ChangesPage(*await changes(lists, about, since, cursor, limit))


@get("/v1/price-lists/{list_id:str}/stream", opt=does(acts.FOLLOW_EXCHANGE))
async def stream_changes(
    request: AnyRequest, list_id: FromPath[str], lists: ListsDependency, since: FromQuery[int] = 0
) -> Stream:
    """The same as server-sent events, one a change, for as long as somebody reads. The id of a `release` event is its
    number: send it as Last-Event-ID and go on behind it.
    """
    caller = caller_of(request).id
    await entitled(lists, list_id, caller)
    last = request.headers.get("last-event-id", "")
    begin = int(last) if last.isdigit() and len(last) < 10 else since
    return events(request, _frames(request, lists, list_id, caller, begin))


async def _frames(request: AnyRequest, lists: Lists, list_id: str, caller: str, since: int) -> AsyncIterator[bytes]:
    closing: asyncio.Event = request.app.state.closing
    while not closing.is_set():
        about, cursor = await entitled(lists, list_id, caller), ""
        while about.seq > since and not closing.is_set():
            found, cursor = await changes(lists, about, since, cursor)
            for one in found:
                yield event("price-change", msgspec.json.encode(one))
            if not cursor:
                since = about.seq
                yield event("release", msgspec.json.encode({"list": list_id, "seq": since}), str(since))
        yield ALIVE
        await pause(closing, LOOK_S)


@dataclass(frozen=True)
class Release:
    """One new release as news: what `exchange.news` asks of a source's items."""

    source: str
    number: int
    type: str
    at_us: int
    data: dict[str, Any]
    thin: dict[str, Any]


@dataclass(frozen=True)
class Releases:
    """Releases of the lists that a point of sale is entitled to, as a source of its news."""

    lists: Lists
    mark = "p"

    async def after(self, reader: Identity, number: int, limit: int) -> Sequence[Release]:
        if reader.kind != "dealer":
            return []
        found = []
        for place, list_id, signed in sorted(await store.heads_after(self.lists.pool, number))[:limit]:
            if self.lists.is_entitled(reader.id, await self.lists.find(list_id)):
                head = payload_of(signed)
                says = {"list": list_id, "seq": head.seq, "effective_us": head.effective_us, "parts": head.parts}
                found.append(Release("p", place, "price-release", head.signed_us, says, says))
        return found


HANDLERS = [list_changes, stream_changes]
