"""The permanent line to one hub: kept up, spoken through in order, and given back when another agent of the site takes it.

Flow: `run` connects over mutual TLS (the hub's certificate is judged before a word is said), reconnects with full jitter
-> after each welcome `greeting` is said first -> `tell` sends what is true only now (acks, state, keys) and forgets it with
the connection -> the outbox's waiting messages follow, lowest number first, as many as the window takes -> PUBACK 0: the
hub has it on disk; a refusal for good sets the message aside with its reason, so that it never stands in the way of the
next; what may pass (quota, busy) goes again, from that message on, in order.
The hub lets one connection of a site live, the newest: an older one is told so (0x8E) and calls `taken_over`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from rocade.agents.link import Backoff, Link
from rocade.core.errors import RocadeError
from rocade.core.ports import Clock, Random
from rocade.wire.mqtt import Reason

log = logging.getLogger(__name__)
_FOR_LATER = {Reason.QUOTA_EXCEEDED, Reason.SERVER_BUSY, Reason.UNSPECIFIED}
_OF_THE_PARTY = ("trust.certificate.", "trust.handshake.", "mqtt.")
"""Refusals that concern who we are, not what we said: nothing is set aside for them."""
_OF_THE_KEY = ("exchange.key.", "trust.envelope.sign")
"""The message is sound, its signature is of a key that no longer counts, or does not count yet: signed again, it goes again."""
_STEADY_S = 30.0


class Waiting(msgspec.Struct, frozen=True):
    number: int
    tail: str
    envelope: bytes


class Outgoing(Protocol):
    """The part of the outbox a line needs."""

    def waiting(self, after: int, count: int) -> Sequence[Waiting]: ...
    def taken(self, numbers: Sequence[int]) -> None: ...
    def set_aside(self, number: int, code: str) -> None: ...
    def sign_again(self, number: int) -> None: ...


class Standing(msgspec.Struct):
    """How a line is, for pages and `status`."""

    is_connected: bool = False
    since_us: int = 0
    connections: int = 0
    sent: int = 0
    taken: int = 0
    set_aside: int = 0
    heard: int = 0
    last_code: str = ""
    last_problem: str = ""


class Line:
    """One line. `heard(tail, body)` takes what comes down; a future it returns is waited for before the acknowledgement."""

    def __init__(
        self,
        site: str,
        host: str,
        port: int,
        context_of: Callable[[], ssl.SSLContext | None],
        check: Callable[[bytes], object],
        outgoing: Outgoing,
        heard: Callable[[str, bytes], asyncio.Future[None] | None],
        clock: Clock,
        random: Random,
        *,
        greeting: Callable[[], Sequence[tuple[str, bytes]]] = tuple,
        taken_over: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
        window: int = 64,
        keep_alive_s: int = 60,
    ) -> None:
        self.standing = Standing()
        self._site, self._host, self._port = site, host, port
        self._context_of, self._check = context_of, check
        self._outgoing, self._heard, self._clock, self._random = outgoing, heard, clock, random
        self._greeting, self._taken_over = greeting, taken_over
        self._backoff = backoff or Backoff(first_s=0.5, most_s=30.0)
        self._window, self._keep_alive_s = window, keep_alive_s
        self._link: Link | None = None
        self._told: deque[tuple[str, bytes]] = deque()
        self._handle = 0
        self._in_flight: dict[int, int] = {}
        """Handle of a publish -> number of the message; what was merely told is not in here."""
        self._cursor = 0
        self._done: list[int] = []
        self._flush: asyncio.Handle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._refusals = 0
        self._ended = asyncio.Event()
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    async def run(self) -> None:
        """Keep the line up while it is wanted; cancel to stop. Problems stand in `standing`."""
        attempt = 0
        while True:
            await self._wanted.wait()
            began_s = self._clock.monotonic_s()
            try:
                await self._connect_and_serve()
            except RocadeError as error:
                self._note(error.code, error.message)
            finally:
                self._forget_link()
            attempt = 0 if self._clock.monotonic_s() - began_s > _STEADY_S else attempt + 1
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._backoff.wait_s(attempt, self._random))

    def want(self, *, up: bool) -> None:
        """Take the line, or give it back."""
        if up:
            self._wanted.set()
            self._changed.set()
            return
        self._wanted.clear()
        if self._link:
            self._link.close()

    def again(self) -> None:
        """Connect anew now, as with a renewed certificate."""
        self._changed.set()
        if self._link:
            self._link.close()

    def wake(self) -> None:
        """The outbox has more."""
        self._pump()

    def tell(self, tail: str, body: bytes) -> None:
        """Say something if the line is up; it is forgotten with the connection."""
        if self._link:
            self._told.append((tail, body))
            self._pump()

    async def _connect_and_serve(self) -> None:
        self._ended.clear()
        link = await Link.open(
            *(self._host, self._port, self._context_of(), self._site, self),
            window=self._window, keep_alive_s=self._keep_alive_s, check=self._check,
        )  # fmt: skip
        self.standing.connections += 1
        self.standing.is_connected, self.standing.since_us = True, self._clock.now_us()
        self.standing.last_code = self.standing.last_problem = ""
        self._link, self._cursor, self._refusals = link, 0, 0
        self._told.extend(self._greeting())
        if not self._wanted.is_set():
            link.close()
        self._pump()
        await self._ended.wait()

    def _forget_link(self) -> None:
        link, self._link = self._link, None
        if link is not None and not self._ended.is_set():  # cancelled: nobody is to hear of this connection any more
            self._ended.set()
            link.close()
        if self.standing.is_connected:
            self.standing.is_connected, self.standing.since_us = False, self._clock.now_us()
        self._write_taken()
        self._in_flight.clear()
        self._told.clear()
        if self._pause:
            self._pause.cancel()
            self._pause = None

    def _pump(self) -> None:
        link = self._link
        if link is None:
            return
        while self._told and link.room > 0:
            tail, body = self._told.popleft()
            self._handle += 1
            link.send(tail, self._handle, body)
        if self._pause is not None:
            return
        while (room := link.room) > 0:
            entries = self._outgoing.waiting(self._cursor, room)
            if not entries:
                return
            for entry in entries:
                self._cursor = entry.number
                if entry.number not in self._in_flight.values():
                    self._handle += 1
                    self._in_flight[self._handle] = entry.number
                    self.standing.sent += 1
                    link.send(entry.tail, self._handle, entry.envelope)

    def _go_on(self) -> None:
        self._pause = None
        self._pump()

    def _write_taken(self) -> None:
        if self._flush:
            self._flush.cancel()
            self._flush = None
        done, self._done = self._done, []
        if done:
            self._outgoing.taken(done)

    # --- what the link says ---

    def acknowledged(self, sequence: int) -> None:
        number = self._in_flight.pop(sequence, None)
        if number is not None:
            self.standing.taken += 1
            self._refusals = 0
            self._done.append(number)
            if self._flush is None:
                self._flush = asyncio.get_running_loop().call_soon(self._write_taken)
        self._pump()

    def refused(self, sequence: int, reason: int, text: str) -> None:
        number, code = self._in_flight.pop(sequence, None), text or f"mqtt.reason_{reason:02x}"
        if number is None:
            self._note(code, "the hub refused something this agent told it")
        elif reason == Reason.NOT_AUTHORIZED and code.startswith(_OF_THE_PARTY):
            self._note(code, "the hub refuses this site's certificate; `rocade dealer doctor` says more")
            if self._link:
                self._link.close()
        elif reason in _FOR_LATER or code.startswith(_OF_THE_KEY):
            if code.startswith(_OF_THE_KEY):
                self._note(code, "the hub does not take this key's signature; the message is signed again")
                self._outgoing.sign_again(number)
            self._refusals += 1
            self._cursor = min(self._cursor, number - 1)
            if self._pause is None:
                wait_s = 0.05 + self._backoff.wait_s(self._refusals, self._random)
                self._pause = asyncio.get_running_loop().call_later(wait_s, self._go_on)
        else:
            self.standing.set_aside += 1
            self._outgoing.set_aside(number, code)
        self._pump()

    def received(self, tail: str, body: bytes) -> asyncio.Future[None] | None:
        self.standing.heard += 1
        return self._heard(tail, body)

    def has_room(self) -> None:
        self._pump()

    def closed(self, why: str, reason: int) -> None:
        if self._ended.is_set():
            return
        if reason == Reason.SESSION_TAKEN_OVER:
            self._note("dealer.line.taken_over", "another agent of this site took the line")
            self._taken_over()
        elif self._wanted.is_set():
            self._note("dealer.line.lost", f"{why} ({reason:#04x})" if reason else why)
        self._ended.set()

    def _note(self, code: str, problem: str) -> None:
        self.standing.last_code, self.standing.last_problem = code, problem
        log.info("line: %s", code)
