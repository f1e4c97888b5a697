"""Server-sent events: the headers that keep proxies and browsers from buffering, and one event as bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Set
from time import monotonic
from typing import Any, Protocol, cast, runtime_checkable

import msgspec
from litestar import Request
from litestar.response import Stream

from rocade.core.errors import Refused
from rocade.doors.http.access import Access, permit_of

RECHECK_S = 1.0
NOTED_EVERY_S = 60.0
"""A stream that stays open is a look again each minute."""


@runtime_checkable
class Watched(Protocol):
    """Rights that say when they change (the compiled consent table)."""

    def watch(self, callback: Callable[[Set[int]], object]) -> Callable[[], None]: ...


ALIVE = b": alive\n\n"
"""A comment: keeps the connection and the check of its caller going while nothing happens."""


def events(request: Request[Any, Any, Any], frames: AsyncIterator[bytes]) -> Stream:
    """Answer with frames as they come; each is one or more complete events.

    The caller is proven and the gate asked again once a second while the stream is open: when his right has ended, a last
    event `ended` says why, and no value follows it.
    """
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return Stream(_while_admitted(request, frames), media_type="text/event-stream", headers=headers)


async def _while_admitted(request: Request[Any, Any, Any], frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    access, act = cast("Access", request.app.state.access), permit_of(request).act
    ref = request.path_params.get("ref") if act.of == "vehicle" else None
    checked_s = noted_s = monotonic()
    async for frame in frames:
        if monotonic() - checked_s > RECHECK_S:
            checked_s = monotonic()
            is_look = checked_s - noted_s > NOTED_EVERY_S
            noted_s = checked_s if is_look else noted_s
            try:
                await access.recheck(request.scope, act, ref, is_look=is_look)
            except Refused as refusal:
                yield event("ended", msgspec.json.encode({"code": refusal.code, "detail": refusal.message}))
                return
        yield frame


def event(name: str, data: bytes, number: str = "") -> bytes:
    """One event; `data` must be a single line (JSON is)."""
    head = f"event: {name}\nid: {number}\n" if number else f"event: {name}\n"
    return head.encode() + b"data: " + data + b"\n\n"


async def pause(closing: asyncio.Event, interval_s: float = 1.0) -> None:
    """Wait for the next look, or until the server closes."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closing.wait(), interval_s)


@contextlib.contextmanager
def woken(request: Request[Any, Any, Any], refs: Set[int]) -> Iterator[asyncio.Event]:
    """An event for `pause` to wait for: set as soon as rights to one of these vehicles change. Clear it after each look.

    Where rights do not say when they change, the next look is the usual second away.
    """
    wake = asyncio.Event()
    rights = cast("Access", request.app.state.access).gate.rights

    def changed(which: Set[int]) -> None:
        if not refs.isdisjoint(which):
            wake.set()

    end = rights.watch(changed) if isinstance(rights, Watched) else None
    try:
        yield wake
    finally:
        if end is not None:
            end()
