"""The door of charging stations: a port with TLS (security profiles 2 and 3), one without (profile 1), both off until asked for.

Flow: connection -> (TLS, certificate optional; one that is shown must pass the strict check and be a station's) -> `Session` ->
group commit -> handler. One line a station, the newest wins. Every refused handshake, proof and flood is audited with its
reason; nobody's identity is claimed for it. TLS 1.2 is let in here, with forward-secret AEAD suites alone: stations in the field
speak nothing newer (decision 0051).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.handshake import Securing
from rocade.doors.ocpp.commit import GroupCommit
from rocade.doors.ocpp.contract import Asked, Caller, Handler, Settings, Verified
from rocade.doors.ocpp.session import GOING_AWAY, RESTART, Session

CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
SWEEP_S = 5.0
_log = logging.getLogger(__name__)


def open_to_stations(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, with TLS 1.2 let in. Source: OCPP 2.0.1 part 2, A00.FR.318 and A00.FR.319."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    return context


class OcppDoor:
    """`await start()` opens it, `start_tls` and `start_plain` listen and give their port, `await drain()` ends it."""

    def __init__(
        self,
        handler: Handler,
        audit: Audit,
        clock: Clock,
        settings: Settings | None = None,
        *,
        verify: Callable[[bytes], Verified] | None = None,
    ) -> None:
        """`verify` is the strict check of a station's certificate; without it none is welcome."""
        self._handler, self._audit, self._verify = handler, audit, verify
        self.clock, self.settings = clock, settings or Settings()
        self.websocket_log = logging.getLogger("rocade.doors.ocpp.websocket")
        self.websocket_log.setLevel(logging.CRITICAL)  # it would log what peers send
        self.commit = GroupCommit(handler, self.settings, clock)
        self.waiting_bytes = 0
        self.refusals: Counter[str] = Counter()
        self._sessions: dict[str, Session] = {}
        self._opening: dict[Session, str] = {}
        self._per_peer: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_draining = False
        self._emptied: asyncio.Event | None = None
        self.loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._spawn(self.commit.run())
        self._spawn(self._sweep())

    async def start_tls(
        self, host: str, port: int, context: Callable[[], ssl.SSLContext], *, shared: bool = False
    ) -> int:
        """Listen with TLS; the context asks for a certificate without demanding one."""
        return await self._listen(
            lambda: Securing(context, self._refused, lambda: Session(self, "tls")), host, port, shared=shared
        )

    async def start_plain(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen without TLS: passwords in clear, for networks of the station's own."""
        return await self._listen(lambda: Session(self, "plain"), host, port, shared=shared)

    async def _listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, shared: bool) -> int:
        server = await self.loop.create_server(factory, host, port, backlog=2048, reuse_port=shared)
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def drain(self) -> None:
        """Stop listening, answer what was asked, say goodbye."""
        self._is_draining = True
        for server in self._servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.commit.settled(), 5.0)
        for session in list(self._sessions.values()):
            session.close(GOING_AWAY, "going away; come again")
        for session in list(self._opening):
            session.drop()
        if self._sessions:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), 2.5)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what others ask of it ------------------------------------------------------------------------------------

    @property
    def stations(self) -> list[str]:
        """Whose line is up."""
        return list(self._sessions)

    def context_of(self, station: str) -> Any:
        """What `Handler.admit` gave for it; None if it is not here."""
        session = self._sessions.get(station)
        return session.context if session else None

    async def call(self, station: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask a station. Raises: as `Session.call`."""
        session = self._sessions.get(station)
        if session is None:
            raise Unavailable("ocpp.station.gone", "the station is not connected here")
        return await session.call(action, payload)

    def close_station(self, station: str, reason: str = "") -> None:
        """End a station's line, for instance because it was closed or another door has it."""
        if session := self._sessions.get(station):
            session.close(RESTART if not reason else 1008, reason)

    def revoked(self, serials: Collection[int]) -> None:
        """End the lines of certificates that were revoked just now."""
        for session in list(self._sessions.values()):
            if session.serial and session.serial in serials:
                session.close(1008, "the certificate was revoked")

    def status(self) -> dict[str, Any]:
        return {
            "stations": len(self._sessions),
            "opening": len(self._opening),
            "answered": self.commit.answered,
            "ticks": self.commit.ticks,
            "retries": self.commit.retries,
            "answer_p50_ms": self.commit.latency.quantile_us(0.5) / 1000,
            "answer_p99_ms": self.commit.latency.quantile_us(0.99) / 1000,
            "waiting_bytes": self.waiting_bytes,
            "refusals": dict(self.refusals),
        }

    # --- what sessions say ----------------------------------------------------------------------------------------

    def prove(self, leaf: bytes) -> Verified:
        """Raises: Refused."""
        if self._verify is None:
            raise Refused("stations.refused.certificate", "no station's certificate is welcome at this door")
        return self._verify(leaf)

    def entered(self, session: Session) -> bool:
        limits = self.settings
        is_crowded = (
            self._is_draining
            or len(self._opening) >= limits.max_opening
            or len(self._sessions) >= limits.max_connections
            or self._per_peer[session.peer] >= limits.max_opening_per_peer
        )
        if is_crowded:
            self.refuse(session, "ocpp.crowded")
            return False
        self._opening[session] = session.peer
        self._per_peer[session.peer] += 1
        return True

    async def admit(self, caller: Caller) -> object:
        if self._is_draining:
            raise Unavailable("ocpp.draining", "this process ends; come again")
        return await self._handler.admit(caller)

    def opened(self, session: Session) -> None:
        self._no_longer_opening(session)
        older = self._sessions.get(session.station)
        self._sessions[session.station] = session
        if older is not None:
            older.close(RESTART, "another connection of this station has come")
        self._handler.opened(session.context)

    def ask(self, session: Session, asked: Asked) -> None:
        self.commit.add(session, asked)

    def left(self, session: Session, context: Any) -> None:
        self._no_longer_opening(session)
        if self._sessions.get(session.station) is session:
            del self._sessions[session.station]
            if self._emptied and not self._sessions:
                self._emptied.set()
        if context is not None:
            self._spawn(self._handler.leave(context))

    def refuse(self, session: Session, code: str) -> None:
        who = f"station:{session.station}" if session.station else f"peer:{session.peer}"
        self._refused(who, code)

    def count(self, code: str) -> None:
        self.refusals[code] += 1

    def _refused(self, actor: str, code: str) -> None:
        self.refusals[code] += 1
        self._audit.note(AuditEntry(self.clock.now_us(), actor, "ocpp.connect", "door:ocpp", "refused", code))

    def _no_longer_opening(self, session: Session) -> None:
        if peer := self._opening.pop(session, ""):
            self._per_peer[peer] -= 1
            if not self._per_peer[peer]:
                del self._per_peer[peer]

    def _spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            _log.error("a task of the door failed", exc_info=task.exception())

    async def _sweep(self) -> None:
        """Drop who dawdles at the door and who is silent, ask the quiet ones whether they live."""
        limits = self.settings
        while True:
            await asyncio.sleep(min(SWEEP_S, limits.ping_s, limits.silent_s, limits.opening_s))
            now_s = self.clock.monotonic_s()
            for session in list(self._opening):
                if now_s - session.began_s > limits.opening_s:
                    self.refuse(session, "ocpp.late")
                    session.drop()
            for session in list(self._sessions.values()):
                quiet_s = now_s - session.heard_s
                if quiet_s > limits.silent_s:
                    self.count("ocpp.silent")
                    session.drop()
                elif quiet_s > limits.ping_s:
                    session.ping()
