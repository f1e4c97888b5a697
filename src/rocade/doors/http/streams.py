"""Server-sent events: the headers that keep proxies and browsers from buffering, and one event as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from litestar.response import Stream


def events(frames: AsyncIterator[bytes]) -> Stream:
    """Answer with frames as they come; each is one or more complete events."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return Stream(frames, media_type="text/event-stream", headers=headers)


def event(name: str, data: bytes, number: str = "") -> bytes:
    """One event; `data` must be a single line (JSON is)."""
    head = f"event: {name}\nid: {number}\n" if number else f"event: {name}\n"
    return head.encode() + b"data: " + data + b"\n\n"
