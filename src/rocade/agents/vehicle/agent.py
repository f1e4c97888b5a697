"""The agent: keeps a link up while there is something to say, empties the journal through it, answers resend requests.

Flow: `Agent.run` connects, and reconnects with full-jitter back-off -> each time there is room in the window, the next
waiting batches are stamped with the time they leave and sent -> PUBACK 0: acknowledged in the journal (several at a
time); 0x97 and others that may pass: back off, then again; 0x99: set aside and reported; 0x87: `denied`, the
connection is closed and tried again later, the batch keeps waiting -> down/resend `{"epoch", "ranges"}`: the batches wait again
-> down/command: to the `executor` (commands.py), whose reports go up before batches.
Order: lowest number first. With `past_per_s`, a vehicle that comes back says first where it is: its newest batch, then what
it makes, and of what waited before only so many a second, newest first; what the platform asks for goes at once. So a
fleet that comes out of one outage does not flood the road with its past.
The certificate is renewed at two thirds of its life (`renewal`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import ssl
from collections.abc import Callable, MutableSequence
from pathlib import Path

import msgspec

from rocade.agents.link import TURNED_AWAY, Backoff, Link
from rocade.agents.vehicle.commands import Executor
from rocade.agents.vehicle.journal import Journal
from rocade.core.errors import Refused, RocadeError
from rocade.core.ports import Clock, Random
from rocade.trust.identity import directory, tls
from rocade.wire.batch import Template
from rocade.wire.mqtt import Reason

log = logging.getLogger(__name__)
_ACKNOWLEDGE_EVERY_S = 0.05
_LOOK_AGAIN_S = 30.0
"""A clock may be set; what is due is looked at again at least so often."""


STEADY = Backoff()


class Counters(msgspec.Struct):
    """What the sender itself knows."""

    connections: int = 0
    sent: int = 0
    acknowledged: int = 0
    acknowledged_points: int = 0
    delayed: int = 0
    set_aside: int = 0
    asked_again: int = 0
    """Batches sent because the platform asked for their numbers."""
    denied: int = 0
    """Times in a row the platform refused this identity; a success sets it back to 0."""
    turned_away: int = 0
    """Times in a row the connection ended before the platform said a word; as `denied`."""
    last_problem: str = ""


class _Ask(msgspec.Struct):
    epoch: str
    ranges: list[tuple[int, int]]


class Agent:
    """The sending half of a vehicle. `context_of` gives the TLS settings anew for each connection."""

    def __init__(
        self,
        vehicle_id: str,
        host: str,
        port: int,
        journal: Journal,
        context_of: Callable[[], ssl.SSLContext | None],
        clock: Clock,
        random: Random,
        *,
        window: int = 10,
        keep_alive_s: int = 60,
        backoff: Backoff = STEADY,
        past_per_s: float = math.inf,
        executor: Executor | None = None,
    ) -> None:
        self.journal, self.counters = journal, Counters()
        self.executor = executor
        """Obeys commands; None: this vehicle takes none."""
        self.latencies_s: MutableSequence[float] | None = None
        """Set to a list or deque to collect the time from send to acknowledgement."""
        self._id, self._host, self._port, self._context_of = vehicle_id, host, port, context_of
        self._clock, self._random = clock, random
        self._window, self._keep_alive_s, self._backoff = window, keep_alive_s, backoff
        self._past_per_s = past_per_s
        self._link: Link | None = None
        self._sent: dict[int, tuple[int, float]] = {}
        self._done: list[int] = []
        self._cursor = 0
        self._first = 1
        """Lowest number that may go now; what waits below it is the past."""
        self._refusals = 0
        self._not_before_s = 0.0
        self._reported = 0
        """Number of the last report sent over this connection."""
        self._tick: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._past: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._idle = asyncio.Event()
        self._stopping = asyncio.Event()

    @classmethod
    def of_directory(
        cls, identity_dir: Path, host: str, port: int, journal: Journal, clock: Clock, random: Random,
        window: int = 10, executor: Executor | None = None,
    ) -> Agent:  # fmt: skip
        """The agent of an enrolled vehicle; it reads its identity from its own certificate."""
        vehicle_id, context_of = directory.load_identity(identity_dir).id, lambda: tls.client_context(identity_dir)
        return cls(vehicle_id, host, port, journal, context_of, clock, random, window=window, executor=executor)

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    async def run(self) -> None:
        """Stay connected until `stop`. Raises nothing that another attempt may cure; problems stand in `counters`."""
        attempt = 0
        self.look_at_commands()
        while not self._stopping.is_set():
            began_s = self._clock.monotonic_s()
            try:
                await self._connect_and_serve()
            except RocadeError as error:
                self.counters.last_problem = str(error)
                self.counters.denied += isinstance(error, Refused)
                self.counters.turned_away += error.code == TURNED_AWAY
                log.debug("link: %s", error)
            finally:
                self._forget_link()
            attempt = 0 if self._clock.monotonic_s() - began_s > 30 else attempt + 1
            wait_s = max(self._backoff.wait_s(attempt, self._random), self._not_before_s - self._clock.monotonic_s())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    def wake(self) -> None:
        """Tell the agent that the journal has more; call it after each append."""
        self._idle.clear()
        self._pump()

    async def drained(self) -> None:
        """Return when every batch of the journal is acknowledged or set aside."""
        while self.journal.count_waiting() or self._done:
            self._idle.clear()
            self._pump()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), 0.5)

    def cut(self, for_s: float = 0.0) -> None:
        """Lose the connection as in a tunnel; `run` connects again, not before `for_s` are over."""
        self._not_before_s = self._clock.monotonic_s() + for_s
        if self._link:
            self._link.abort()

    def settle(self) -> None:
        """Write what was acknowledged so far into the journal now."""
        self._write_acknowledged()

    async def stop(self) -> None:
        """Close in good order; what waits stays in the journal."""
        self._stopping.set()
        if self._link:
            self._link.close()
        if self._tick:
            self._tick.cancel()
        self._write_acknowledged()

    def look_at_commands(self) -> None:
        """Let the executor do what is due, now and whenever more is; also to be called when the vehicle woke up."""
        if self._tick:
            self._tick.cancel()
            self._tick = None
        if self.executor is None or self._stopping.is_set():
            return
        try:
            self.executor.tick()
        except RocadeError as error:
            self.counters.last_problem = str(error)
            log.warning("commands wait: %s", error)
            self._tick = asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self.look_at_commands)
            return
        self._await_command()
        self._pump()

    def _await_command(self) -> None:
        due_us = self.executor.due_us if self.executor else None
        if self._tick:
            self._tick.cancel()
            self._tick = None
        if due_us is not None:
            wait_s = min(max((due_us - self._clock.now_us()) / 1e6, 0.01), _LOOK_AGAIN_S)
            self._tick = asyncio.get_running_loop().call_later(wait_s, self.look_at_commands)

    async def _connect_and_serve(self) -> None:
        self._ended.clear()
        link = await Link.open(
            self._host,
            self._port,
            self._context_of(),
            self._id,
            self,
            window=self._window,
            keep_alive_s=self._keep_alive_s,
        )
        self.counters.connections += 1
        self.counters.last_problem = ""
        self._first = 1
        if self._past_per_s < math.inf:
            self._first = self.journal.newest_waiting(self.journal.next_sequence) or self.journal.next_sequence
            self._await_past()
        self._link, self._cursor = link, self._first - 1
        if self._stopping.is_set():
            link.close()
        self._pump()
        await self._ended.wait()

    def _forget_link(self) -> None:
        self._link, self._cursor, self._reported = None, 0, 0
        self._write_acknowledged()
        self._sent.clear()
        for timer in (self._pause, self._past):
            if timer:
                timer.cancel()
        self._pause = self._past = None

    def _pump(self) -> None:
        """Send what waits while there is room."""
        link = self._link
        if link is None or self._pause is not None:
            return
        self._report(link)
        while (room := link.room) > 0:
            entries = self.journal.waiting(self._cursor, room)
            if not entries:
                if not self._sent:
                    self._write_acknowledged()
                    if self.journal.newest_waiting(self._first) is None:
                        self._idle.set()
                return
            for entry in entries:
                self._cursor = entry.sequence
                if entry.sequence in self._sent:
                    continue
                stamped = Template(entry.body).stamp(
                    epoch=self.journal.epoch,
                    sequence=entry.sequence,
                    sent_at_us=self._clock.now_us(),
                    start_us=entry.start_us,
                )
                self._sent[entry.sequence] = entry.points, self._clock.monotonic_s()
                self.counters.sent += 1
                link.send("batch", entry.sequence, stamped)

    def _report(self, link: Link) -> None:
        """Send what became of commands; numbers below 0 tell reports from batches."""
        if self.executor is None or link.room <= 0:
            return
        for number, body in self.executor.book.owed(self._reported, link.room):
            self._reported = number
            link.send("command", -number, body)

    def _await_past(self) -> None:
        self._past = None
        if self._past_per_s > 0:
            self._past = asyncio.get_running_loop().call_later(1 / self._past_per_s, self._let_past)

    def _let_past(self) -> None:
        """Let the newest batch of the past go too."""
        newest = self.journal.newest_waiting(self._first)
        if newest is None:
            self._past = None
            return
        self._go_back_to(newest)
        self._await_past()
        self._pump()

    def _go_back_to(self, sequence: int) -> None:
        self._first = min(self._first, sequence)
        self._cursor = min(self._cursor, sequence - 1)

    def acknowledged(self, sequence: int) -> None:
        if sequence < 0:
            self._settle_report(-sequence)
            return
        points, sent_s = self._sent.pop(sequence, (0, 0.0))
        self.counters.acknowledged += 1
        self.counters.acknowledged_points += points
        if self.latencies_s is not None:
            self.latencies_s.append(self._clock.monotonic_s() - sent_s)
        self._refusals = self.counters.denied = self.counters.turned_away = 0
        self._done.append(sequence)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_ACKNOWLEDGE_EVERY_S, self._write_acknowledged)
        if not self._sent:
            self._pump()

    def refused(self, sequence: int, reason: int, text: str) -> None:
        self._sent.pop(sequence, None)
        self.counters.last_problem = text or f"PUBACK {reason:#04x}"
        if sequence < 0 and reason in (*_FOR_GOOD, Reason.IMPLEMENTATION_SPECIFIC):
            log.warning("a report was refused for good (%#04x %s)", reason, text)
            self._settle_report(-sequence)
            return
        if reason in _FOR_GOOD:
            self.counters.set_aside += 1
            log.warning("batch %d was refused for good (%#04x %s) and set aside", sequence, reason, text)
            self.journal.set_aside(sequence, f"{reason:#04x} {text}".strip())
            return
        if reason == Reason.NOT_AUTHORIZED and self._link:
            self.counters.denied += 1
            self._link.close()
            return
        self.counters.delayed += 1
        self._refusals += 1
        if sequence < 0:
            self._reported = min(self._reported, -sequence - 1)
        else:
            self._go_back_to(sequence)
        if self._pause is None:
            wait_s = 0.05 + self._backoff.wait_s(self._refusals, self._random)
            self._pause = asyncio.get_running_loop().call_later(wait_s, self._go_on)

    def received(self, tail: str, body: bytes) -> asyncio.Future[None] | None:
        if tail == "resend":
            self._ask_again(body)
        if tail == "command" and self.executor is not None:
            return self._obey(self.executor, body)
        return None

    def _obey(self, executor: Executor, body: bytes) -> asyncio.Future[None] | None:
        """A command is acknowledged when it is in the book; what cannot be written comes again with the next connection."""
        try:
            executor.receive(body)
        except RocadeError as error:
            self.counters.last_problem = str(error)
            log.warning("a command was not taken: %s", error)
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            self.cut()
            return failed
        self._await_command()
        self._pump()
        return None

    def _settle_report(self, number: int) -> None:
        if self.executor is not None:
            self.executor.book.settle(number)
        self._refusals = self.counters.denied = self.counters.turned_away = 0

    def _ask_again(self, body: bytes) -> None:
        try:
            ask = msgspec.json.decode(body, type=_Ask)
            is_ours = int(ask.epoch, 16) == self.journal.epoch
        except (msgspec.DecodeError, ValueError) as error:
            log.warning("resend request cannot be read: %s", error)
            return
        if is_ours and ask.ranges:
            self._write_acknowledged()
            asked = self.journal.ask_again(ask.ranges)
            self.counters.asked_again += sum(number not in self._sent for number in asked)
            self._go_back_to(min(low for low, _ in ask.ranges))
            self.wake()

    def has_room(self) -> None:
        self._pump()

    def closed(self, why: str, reason: int) -> None:
        if reason or not self._stopping.is_set():
            self.counters.last_problem = f"{why} ({reason:#04x})" if reason else why
        self._ended.set()

    def _go_on(self) -> None:
        self._pause = None
        self._pump()

    def _write_acknowledged(self) -> None:
        """Mark in the journal what was acknowledged since the last time."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        if self._done:
            try:
                self.journal.acknowledge(self._done)
            except RocadeError as error:  # a full disk: these marks are written with the next ones
                self.counters.last_problem = str(error)
                return
            self._done = []


_FOR_GOOD = {Reason.PAYLOAD_FORMAT_INVALID, Reason.TOPIC_NAME_INVALID}
