"""From a TCP connection to a proven vehicle: bounded TLS handshakes, strict certificate check, deny set.

Flow: accept while fewer than `max_handshakes` are open -> TLS 1.3 step by step -> `verify` of the leaf -> `is_revoked`
-> handed on. Refused handshakes are audited with reason and peer address; no identity is claimed for them. When all
places are taken, the oldest handshake gives way after two seconds.

No database is asked here: a fleet that reconnects at once queues in the kernel and passes through these places.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any

from rocade.core.errors import RocadeError
from rocade.core.ports import Clock
from rocade.doors.mqtt.contract import Settings, Verified
from rocade.doors.mqtt.link import Poller
from rocade.doors.mqtt.meter import Meter
from rocade.doors.mqtt.refusals import Refusals
from rocade.trust.identity import tls as tls_identity

_log = logging.getLogger(__name__)
_ACCEPTS_A_TURN = 8
_GIVE_WAY_S = 2.0


class Handshakes:
    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        verify: Callable[[bytes], Verified],
        is_revoked: Callable[[Any], bool],
        settings: Settings,
        clock: Clock,
        meter: Meter,
        refusals: Refusals,
        welcome: Callable[[ssl.SSLSocket, str, Verified], None],
    ) -> None:
        self._context = context
        self._verify = verify
        self._is_revoked = is_revoked
        self._settings = settings
        self._clock = clock
        self._meter = meter
        self._refusals = refusals
        self._welcome = welcome
        self._listener: socket.socket | None = None
        self._is_full = False
        self._open: dict[int, tuple[ssl.SSLSocket, str, float]] = {}
        """By descriptor, oldest first: socket, peer, when accepted (monotonic seconds)."""

    def listen(self, listener: socket.socket, poller: Poller) -> None:
        self._listener, self._poller = listener, poller
        poller.greet(listener.fileno())

    def stop_listening(self) -> None:
        if self._listener:
            self._poller.end_greeting(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        self.stop_listening()
        for descriptor in list(self._open):
            self._drop(descriptor)

    def ready(self, descriptor: int) -> bool:
        """The listener or a handshake can go on; False if the descriptor is neither."""
        if self._listener and descriptor == self._listener.fileno():
            self._accept(self._listener)
        elif descriptor in self._open:
            self._step(descriptor)
        else:
            return False
        return True

    def check(self) -> None:
        """Drop handshakes that take too long; called every second."""
        now_s = self._clock.monotonic_s()
        for descriptor, (_tls, peer, since_s) in list(self._open.items()):
            if now_s - since_s < self._settings.handshake_timeout_s:
                break
            self._drop(descriptor)
            self._refuse("trust.handshake.timeout", peer)
        self._make_room(now_s)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if not self._make_room(self._clock.monotonic_s()):
                return
            try:
                bare, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                _log.error("accept failed: %s", error)
                self._refusals.note("tls.handshake", "door.accept_failed", "peer:unknown", "door:mqtt")
                self._stop_accepting(listener)
                return
            self._begin(bare, f"{address[0]}:{address[1]}")

    def _begin(self, bare: socket.socket, peer: str) -> None:
        try:
            bare.setblocking(False)
            bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._context().wrap_socket(bare, server_side=True, do_handshake_on_connect=False)
        except OSError:
            bare.close()
            return
        self._open[tls.fileno()] = (tls, peer, self._clock.monotonic_s())
        self._meter.handshaking = len(self._open)
        self._poller.greet(tls.fileno())

    def _make_room(self, now_s: float) -> bool:
        """Whether one more handshake may begin; the listener rests while not."""
        settings = self._settings
        is_crowded = self._meter.connections + len(self._open) >= settings.max_connections
        if len(self._open) >= settings.max_handshakes:
            oldest, (_tls, peer, since_s) = next(iter(self._open.items()))
            if now_s - since_s > _GIVE_WAY_S:
                self._drop(oldest)
                self._refuse("trust.handshake.gave_way", peer)
            else:
                is_crowded = True
        if self._listener:
            if is_crowded:
                self._stop_accepting(self._listener)
            elif self._is_full:
                self._is_full = False
                self._poller.greet(self._listener.fileno())
        return not is_crowded

    def _stop_accepting(self, listener: socket.socket) -> None:
        if not self._is_full:
            self._is_full = True
            self._poller.end_greeting(listener.fileno())

    def _step(self, descriptor: int) -> None:
        tls, peer, _since_s = self._open[descriptor]
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._poller.change_greeting(descriptor, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._poller.change_greeting(descriptor, select.EPOLLOUT)
        except OSError as error:
            self._drop(descriptor)
            self._refuse(tls_identity.handshake_refusal(error).code, peer)
        else:
            self._finish(descriptor, tls, peer)

    def _finish(self, descriptor: int, tls: ssl.SSLSocket, peer: str) -> None:
        try:
            verified = self._verify(tls_identity.peer_leaf(tls) or b"")
            code = "trust.certificate.revoked" if self._is_revoked(verified.serial) else ""
        except RocadeError as error:
            code = error.code
        except Exception:
            _log.exception("certificate check failed")
            code = "trust.certificate.unreadable"
        if code:
            self._drop(descriptor)
            self._refuse(code, peer)
            return
        del self._open[descriptor]
        self._poller.end_greeting(descriptor)
        self._meter.handshaking = len(self._open)
        self._meter.handshakes_done += 1
        self._make_room(self._clock.monotonic_s())
        self._welcome(tls, peer, verified)

    def _drop(self, descriptor: int) -> None:
        tls, _peer, _since_s = self._open.pop(descriptor)
        self._poller.end_greeting(descriptor)
        self._meter.handshaking = len(self._open)
        with contextlib.suppress(OSError):
            tls.close()

    def _refuse(self, code: str, peer: str) -> None:
        self._refusals.note("tls.handshake", code, f"peer:{peer}", "door:mqtt")
        self._make_room(self._clock.monotonic_s())
