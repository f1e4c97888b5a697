"""News over HTTP: server-sent events for who can hold a connection, a long poll for who cannot, the same cursor for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation
from litestar.response import Stream

from rocade.core.identifiers import Identity
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.doors.http.streams import ALIVE, event, events
from rocade.services.exchange.news import PAGE, Item, Newsroom, read_cursor, reader_of
from rocade.trust.authority.gate import acts

WAIT_LIMIT_S = 20.0
"""Below the minute after which most proxies cut a silent connection."""
NewsroomDependency = NamedDependency[SkipValidation[Newsroom]]


class NewsView(msgspec.Struct, frozen=True):
    """`type` says which resource `data` is: message, receipt, price-release. `data` null = its time of keeping is over."""

    type: str
    at_us: int
    data: Any


class NewsPage(msgspec.Struct, frozen=True):
    """`next` is the cursor to send next time; it is always given."""

    items: list[NewsView]
    next: str


def _view(one: Item) -> NewsView:
    return NewsView(one.type, one.at_us, one.data)


@get("/v1/exchange/news", opt=does(acts.FOLLOW_EXCHANGE))
async def poll(
    request: AnyRequest,
    news: NewsroomDependency,
    cursor: FromQuery[str] = "",
    wait_s: FromQuery[float] = 0.0,
    limit: FromQuery[int] = PAGE,
) -> NewsPage:
    """The caller's own messages, receipts and price releases behind `cursor`; waits up to `wait_s` for the first."""
    reader = reader_of(caller_of(request).id)
    loop, closing = asyncio.get_running_loop(), request.app.state.closing
    end_s = loop.time() + max(0.0, min(wait_s, WAIT_LIMIT_S))
    while True:
        found, after = await news.after(reader, cursor, max(1, min(limit, PAGE)))
        left_s = end_s - loop.time()
        if found or left_s <= 0 or closing.is_set():
            return NewsPage([_view(one) for one in found], after)
        await news.wait(left_s)


@get("/v1/exchange/stream", opt=does(acts.FOLLOW_EXCHANGE))
async def stream(request: AnyRequest, news: NewsroomDependency, cursor: FromQuery[str] = "") -> Stream:
    """The same as server-sent events. The id of an event is the cursor behind it: send it as Last-Event-ID and go on."""
    reader = reader_of(caller_of(request).id)
    begin = request.headers.get("last-event-id", "") or cursor
    read_cursor(begin)
    return events(request, _frames(request, news, reader, begin))


async def _frames(request: AnyRequest, news: Newsroom, reader: Identity, cursor: str) -> AsyncIterator[bytes]:
    closing: asyncio.Event = request.app.state.closing
    while not closing.is_set():
        found, after = await news.after(reader, cursor)
        for number, one in enumerate(found):
            # only the last event of a page has a cursor: a reader cut off within a page gets the page again
            is_last = number == len(found) - 1
            yield event(one.type, msgspec.json.encode(_view(one)), after if is_last else "")
        cursor = after
        if not found:
            yield ALIVE
            await news.wait(WAIT_LIMIT_S)


HANDLERS = [poll, stream]
