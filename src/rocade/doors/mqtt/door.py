"""The gateway process's MQTT door: listens, lets proven vehicles in, keeps their connections, sends them away.

Flow: `open` -> handshakes (handshakes.py) -> one `Session` each (session.py) over a `Link` (link.py) -> group commit
(commit.py). Once a second `_check` closes what is overdue. `drain` ends it: no new connections, the commit in flight is
finished and answered, MQTT 5 clients get 0x8B.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from rocade.core.errors import Misconfigured
from rocade.core.ports import Audit, Clock, SystemClock
from rocade.doors.mqtt.commit import GroupCommit
from rocade.doors.mqtt.contract import VEHICLE_TAILS, Intake, OneGateway, Sessions, Settings, Verified
from rocade.doors.mqtt.handshakes import Handshakes
from rocade.doors.mqtt.house import House
from rocade.doors.mqtt.link import Link, Poller
from rocade.doors.mqtt.meter import Meter
from rocade.doors.mqtt.refusals import Refusals
from rocade.doors.mqtt.session import Session
from rocade.wire.mqtt import Reason

_log = logging.getLogger(__name__)
_FIRST_WORD_S = 5
"""The kernel keeps a connection that has not said a word for about so long before we see it at all."""
_LINGER_S = 2.0
_LINGER_BYTES = 8 << 20


class Door:
    """`verify` returns who a leaf certificate (DER) proves or raises Refused; `is_revoked` asks the deny set; `subscribed` is
    called with what `Intake.admit` returned when a party can be sent messages.
    """

    def __init__(
        self,
        intake: Intake,
        context: ssl.SSLContext,
        verify: Callable[[bytes], Verified],
        audit: Audit,
        *,
        is_revoked: Callable[[Any], bool] = lambda _serial: False,
        sessions: Sessions | None = None,
        tails: Mapping[str, frozenset[str]] = VEHICLE_TAILS,
        subscribed: Callable[[object], object] = lambda _context: None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.meter = Meter()
        self._settings = settings = settings or Settings()
        self._clock = clock = clock or SystemClock()
        self._context = context
        self._refusals = Refusals(audit, clock, self.meter)
        self._handshakes = Handshakes(
            lambda: self._context, verify, is_revoked, settings, clock, self.meter, self._refusals, self._welcome
        )
        self._commit = GroupCommit(intake, settings, clock, self.meter, self._pause, self._resume)
        self._house = House(
            settings,
            clock,
            self.meter,
            self._refusals,
            intake,
            sessions or OneGateway(),
            asyncio.Semaphore(settings.max_admissions),
            self._commit.add,
            self._part,
            self._spawn,
            {},
            tails,
            subscribed,
        )
        self._sessions: dict[int, Session] = {}
        self._lingering: dict[int, tuple[socket.socket, float, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._daemons: list[asyncio.Task[None]] = []
        self._number = 0
        self._is_ended = False
        self._paused_since_us = 0
        self._quiet_since_us = 0

    async def open(self, host: str = "0.0.0.0", port: int = 8883) -> int:
        """Listen; returns the port (useful when `port` is 0). Raises: Misconfigured `door.address`."""
        try:
            self._poller = Poller(self._greet, self._read, self._write)
            listener = socket.create_server(
                (host, port), backlog=self._settings.backlog, reuse_port=self._settings.reuse_port
            )
        except OSError as error:
            raise Misconfigured("door.address", f"cannot listen on port {port}: {error.strerror}") from error
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _FIRST_WORD_S)
        self._handshakes.listen(listener, self._poller)
        loop = asyncio.get_running_loop()
        self._daemons = [loop.create_task(self._commit.run()), loop.create_task(self._check())]
        return int(listener.getsockname()[1])

    async def drain(self, limit_s: float = 10.0) -> None:
        """Stop accepting and reading, finish and answer what was read, say 0x8B, close. Nothing acknowledged is lost."""
        if self._is_ended:
            return
        self._is_ended = True
        self._handshakes.close()
        self._poller.pause()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._commit.settled(), limit_s * 0.7)
        for session in list(self._sessions.values()):
            session.close(Reason.SERVER_SHUTTING_DOWN)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s * 0.1)
        for _ in range(10):
            if not self._lingering:
                break
            await asyncio.sleep(limit_s * 0.01)
        for task in (*self._daemons, *self._tasks):
            task.cancel()
        await asyncio.gather(*self._daemons, *self._tasks, return_exceptions=True)
        for descriptor in list(self._lingering):
            self._end_linger(descriptor)
        self._poller.close()
        self._refusals.flush(now=True)

    async def failed(self) -> None:
        """Return never, unless the door has broken inside: then raise why. The process should end."""
        done, _ = await asyncio.wait(self._daemons, return_when=asyncio.FIRST_COMPLETED)
        for daemon in done:
            daemon.result()

    def send(self, party: str, tail: str, body: bytes) -> asyncio.Future[bool]:
        """Publish to the party's `down/<tail>`; the result says whether it acknowledged it (`house.party_key` names it).

        False: not connected here, not subscribed, too much in flight, or gone before it acknowledged. Send it again
        when it is still wanted; the door keeps nothing for a party that is away.
        """
        session = self._house.parties.get(party)
        if session:
            return session.send(tail, body)
        absent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        absent.set_result(False)
        return absent

    def connected(self) -> Collection[str]:
        """The parties connected here."""
        return self._house.parties.keys()

    def revoked(self, serials: Collection[Any]) -> None:
        """Close open connections of certificates that were revoked just now."""
        for session in list(self._sessions.values()):
            if session.verified.serial in serials:
                session.expel(Reason.NOT_AUTHORIZED, "trust.certificate.revoked")

    def taken_over(self, vehicle_id: str, claim: int) -> None:
        """The vehicle has connected to another gateway under `claim`; an older connection here ends."""
        session = self._house.parties.get(vehicle_id)
        if session and session.lost_to(claim):
            session.close(Reason.SESSION_TAKEN_OVER)

    def use_context(self, context: ssl.SSLContext) -> None:
        """Handshakes from now on use this context; open connections stay as they are."""
        self._context = context

    # --- events of the poller ---

    def _greet(self, descriptor: int) -> None:
        if not self._handshakes.ready(descriptor) and descriptor in self._lingering:
            self._linger(descriptor)

    def _welcome(self, tls: ssl.SSLSocket, peer: str, verified: Verified) -> None:
        self._number += 1
        link = Link(tls, peer, self._poller)
        self._sessions[link.descriptor] = Session(self._house, link, verified, self._number, self._clock.now_us())
        self.meter.connections = len(self._sessions)

    def _read(self, descriptor: int) -> None:
        session = self._sessions.get(descriptor)
        if session is None:
            return
        data = session.link.read()
        try:
            if data:
                session.received(data, self._clock.now_us())
            elif data is not None:
                session.close()
        except Exception:
            _log.exception("a session failed; its connection is closed")
            session.expel(Reason.UNSPECIFIED, "mqtt.internal")

    def _write(self, descriptor: int) -> None:
        session = self._sessions.get(descriptor)
        if session:
            session.link.flush()

    def _pause(self) -> None:
        if not self.meter.is_paused:
            self.meter.is_paused = True
            self._paused_since_us = self._clock.now_us()
            self._poller.pause()

    def _resume(self) -> None:
        if self.meter.is_paused:
            self.meter.is_paused = False
            self._quiet_since_us = self._clock.now_us()
            self.meter.paused_us += self._quiet_since_us - self._paused_since_us
            self._poller.resume()

    # --- the end of connections ---

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._handshakes.check()
            now_us = self._clock.now_us()
            quiet_since_us = now_us if self.meter.is_paused else self._quiet_since_us
            for session in list(self._sessions.values()):
                session.check(now_us, quiet_since_us)
            now_s = self._clock.monotonic_s()
            for descriptor, (_bare, until_s, _left) in list(self._lingering.items()):
                if now_s > until_s:
                    self._end_linger(descriptor)
            self._refusals.flush()

    def _part(self, session: Session) -> None:
        """Leave the socket half open for a moment, so that the last packet is not lost in a reset."""
        del self._sessions[session.link.descriptor]
        self.meter.connections = len(self._sessions)
        bare = session.link.part()
        self._lingering[bare.fileno()] = (bare, self._clock.monotonic_s() + _LINGER_S, _LINGER_BYTES)
        self._poller.greet(bare.fileno())

    def _linger(self, descriptor: int) -> None:
        bare, until_s, left_bytes = self._lingering[descriptor]
        try:
            data = bare.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        left_bytes -= len(data)
        if data and left_bytes > 0:
            self._lingering[descriptor] = (bare, until_s, left_bytes)
        else:
            self._end_linger(descriptor)

    def _end_linger(self, descriptor: int) -> None:
        bare, _until_s, _left_bytes = self._lingering.pop(descriptor)
        self._poller.end_greeting(descriptor)
        bare.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
