"""From a TCP connection to a proven vehicle: bounded TLS handshakes, strict certificate check, deny set.

Flow: accept while fewer than `max_handshakes` are open -> TLS 1.3 step by step -> `verify` of the leaf -> `is_revoked`
-> handed on. Refused handshakes are audited with reason and peer address; no identity is claimed for them. When all
places are taken, the one that waited longest for its peer gives way after `handshake_patience_s`. A connection that ends before a
word of TLS was understood (a balancer's probe) is counted, not audited.

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
_GONE = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class _Handshake:
    __slots__ = ("accepted_s", "has_spoken", "peer", "stepped_s", "tls")

    def __init__(self, tls: ssl.SSLSocket, peer: str, now_s: float) -> None:
        self.tls = tls
        self.peer = peer
        self.accepted_s = self.stepped_s = now_s
        self.has_spoken = False


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
        self._is_resting = False
        self._open: dict[int, _Handshake] = {}
        """By descriptor; first comes the one that has waited longest for its peer."""

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
        for descriptor, handshake in list(self._open.items()):
            if now_s - handshake.accepted_s > self._settings.handshake_timeout_s:
                self._refuse(descriptor, "trust.handshake.timeout")
        self._make_room()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if not self._make_room():
                return
            try:
                bare, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                _log.error("accept failed: %s", error)
                self._refusals.note("tls.handshake", "door.accept_failed", "peer:unknown", "door:mqtt")
                self._is_resting = True
                self._poller.end_greeting(listener.fileno())
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
        self._open[tls.fileno()] = _Handshake(tls, peer, self._clock.monotonic_s())
        self._meter.handshaking = len(self._open)
        self._poller.greet(tls.fileno())

    def _make_room(self) -> bool:
        """Whether one more handshake may begin; a place is taken from who has been silent too long."""
        if len(self._open) >= self._settings.max_handshakes:
            longest, handshake = next(iter(self._open.items()))
            now_s = self._clock.monotonic_s()
            if now_s - handshake.stepped_s > self._settings.handshake_patience_s:
                if _is_readable(longest):  # it has spoken, it is we who are slow
                    self._open[longest] = self._open.pop(longest)
                    handshake.stepped_s = now_s
                else:
                    self._refuse(longest, "trust.handshake.gave_way")
        return self._rest_or_listen()

    def _rest_or_listen(self) -> bool:
        """Let new connections wait in the kernel while there is no place; returns whether there is one."""
        has_place = (
            len(self._open) < self._settings.max_handshakes
            and self._meter.connections + len(self._open) < self._settings.max_connections
        )
        if self._listener and has_place == self._is_resting:
            self._is_resting = not has_place
            if has_place:
                self._poller.greet(self._listener.fileno())
            else:
                self._poller.end_greeting(self._listener.fileno())
        return has_place

    def _step(self, descriptor: int) -> None:
        handshake = self._open.pop(descriptor)
        self._open[descriptor] = handshake
        handshake.stepped_s = self._clock.monotonic_s()
        try:
            handshake.tls.do_handshake()
        except ssl.SSLWantReadError:
            handshake.has_spoken = True
            self._poller.change_greeting(descriptor, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            handshake.has_spoken = True
            self._poller.change_greeting(descriptor, select.EPOLLOUT)
        except OSError as error:
            is_gone = isinstance(error, _GONE) or not isinstance(error, ssl.SSLError)
            if is_gone and not handshake.has_spoken:
                self._drop(descriptor)
                self._meter.probes += 1
            else:
                code = tls_identity.handshake_refusal(ConnectionError() if is_gone else error).code
                self._refuse(descriptor, code)
        else:
            self._finish(descriptor, handshake)

    def _finish(self, descriptor: int, handshake: _Handshake) -> None:
        try:
            verified = self._verify(tls_identity.peer_leaf(handshake.tls) or b"")
            code = "trust.certificate.revoked" if self._is_revoked(verified.serial) else ""
        except RocadeError as error:
            code = error.code
        except Exception:
            _log.exception("certificate check failed")
            code = "trust.certificate.unreadable"
        if code:
            self._refuse(descriptor, code)
            return
        self._forget(descriptor)
        self._meter.handshakes_done += 1
        self._welcome(handshake.tls, handshake.peer, verified)

    def _refuse(self, descriptor: int, code: str) -> None:
        peer = self._open[descriptor].peer
        self._drop(descriptor)
        self._refusals.note("tls.handshake", code, f"peer:{peer}", "door:mqtt")

    def _drop(self, descriptor: int) -> None:
        tls = self._open[descriptor].tls
        self._forget(descriptor)
        with contextlib.suppress(OSError):
            tls.close()

    def _forget(self, descriptor: int) -> None:
        del self._open[descriptor]
        self._poller.end_greeting(descriptor)
        self._meter.handshaking = len(self._open)
        self._rest_or_listen()


def _is_readable(descriptor: int) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(0))
