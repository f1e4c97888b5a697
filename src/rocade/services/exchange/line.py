"""The way down to parties on their lines: what the door cannot take at once waits here, a little, in order.

`send(party, tail, body)` hands to the door what fits its window and keeps the rest, at most MOST_WAITING messages and MOST_BYTES a
party; what is more is not sent (False): receipts come again with a retry, log entries with the cursor. Nothing survives the
connection. `connected` are the parties on a line of this process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from functools import partial
from typing import Protocol

MOST_WAITING = 512
MOST_BYTES = 4 << 20
RETRY_S = 0.05


class DoorBelow(Protocol):
    """`doors.mqtt.Door`, as far as the way down needs it."""

    def send(self, party: str, tail: str, body: bytes, /) -> asyncio.Future[bool]: ...
    def connected(self) -> Collection[str]: ...


class _Queue:
    __slots__ = ("bytes", "is_paused", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, bytes, asyncio.Future[bool]]] = deque()
        self.bytes = 0
        self.is_paused = False


class Line:
    """Parties are named `dealer/<site>`, `partner/<id>`, `service/<id>`; a bare id is a site's."""

    def __init__(self) -> None:
        self._door: DoorBelow | None = None
        self._queues: dict[str, _Queue] = {}

    def over(self, door: DoorBelow) -> None:
        """The door is made after those who speak through it."""
        self._door = door

    def connected(self) -> list[str]:
        """Parties on a line here."""
        return [key if "/" in key else f"dealer/{key}" for key in (self._door.connected() if self._door else ())]

    def is_connected(self, party: str) -> bool:
        return self._door is not None and _key(party) in self._door.connected()

    def send(self, party: str, tail: str, body: bytes) -> asyncio.Future[bool]:
        """True when the party has acknowledged it, False when it is away, left, or has too much waiting."""
        key = _key(party)
        queue = self._queues.get(key)
        if queue is None:
            done = self._hand(key, tail, body)
            if done is not None:
                return done
            queue = self._queues[key] = _Queue()
        promise: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if len(queue.waiting) >= MOST_WAITING or queue.bytes > MOST_BYTES:
            promise.set_result(False)
        else:
            queue.waiting.append((tail, body, promise))
            queue.bytes += len(body)
            self._wait(key, queue)
        return promise

    def room(self, party: str) -> int:
        """How many more messages may wait for this party."""
        queue = self._queues.get(_key(party))
        return MOST_WAITING - len(queue.waiting) if queue else MOST_WAITING

    def _hand(self, key: str, tail: str, body: bytes) -> asyncio.Future[bool] | None:
        """Give it to the door; None if it has no room now."""
        if self._door is None or key not in self._door.connected():
            absent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            absent.set_result(False)
            return absent
        sent = self._door.send(key, tail, body)
        return None if sent.done() and not sent.result() else sent

    def _wait(self, key: str, queue: _Queue) -> None:
        if not queue.is_paused:
            queue.is_paused = True
            asyncio.get_running_loop().call_later(RETRY_S, self._pump, key, queue)

    def _pump(self, key: str, queue: _Queue) -> None:
        queue.is_paused = False
        while queue.waiting:
            tail, body, promise = queue.waiting[0]
            sent = self._hand(key, tail, body)
            if sent is None:
                self._wait(key, queue)
                return
            queue.waiting.popleft()
            queue.bytes -= len(body)
            sent.add_done_callback(partial(_settle, promise))
        if self._queues.get(key) is queue:
            del self._queues[key]


def _settle(promise: asyncio.Future[bool], sent: asyncio.Future[bool]) -> None:
    if not promise.done():
        promise.set_result(not sent.cancelled() and sent.result())


def _key(party: str) -> str:
    """The door's name of a party."""
    return party.removeprefix("dealer/")
