"""One station's line: the websocket handshake, OCPP's rules on top, limits, and calls both ways.

Flow: request read -> station named by the end of its address, password from Basic authentication or identity from the certificate
-> `Handler.admit` -> 101, newest common version -> messages. A station's messages are worked on one at a time, in order; while
`max_waiting` wait, its socket is not read. Our calls to it leave one at a time too, as OCPP demands of both sides.
Refuses: no name in the address (404), wrong proof (401, 403), no common version (closed after the handshake, OCPP-J 1.6 3.1.2),
messages beyond size or rate (answered with an error; a flood ends the line), silence. Source: RFC 6455, OCPP-J 1.6 and 2.0.1 part 4.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import Identity
from rocade.doors.ocpp import frames, schemas
from rocade.doors.ocpp.calling import Calls
from rocade.doors.ocpp.contract import SUBPROTOCOLS, Answer, Asked, Caller, Problem, Version, Way
from rocade.trust.identity.tls import peer_leaf

if TYPE_CHECKING:
    from rocade.doors.ocpp.door import OcppDoor

MOST_NAME = 48
MOST_MALFORMED = 20
GOING_AWAY, PROTOCOL, POLICY, RESTART = 1001, 1002, 1008, 1012
_STATUS = {"stations.refused.unknown": 401, "stations.refused.password": 401, "stations.refused.attempts": 429}


class Session(asyncio.Protocol):
    """Made by the door when a connection is (over TLS: after the handshake)."""

    def __init__(self, door: OcppDoor, way: Way) -> None:
        self._door, self._way = door, way
        self._identity: Identity | None = None
        self.serial = 0
        self._settings = door.settings
        self._socket = ServerProtocol(
            extensions=[ServerPerMessageDeflateFactory(server_max_window_bits=10, client_max_window_bits=10)],
            select_subprotocol=_newest,
            max_size=door.settings.max_message_bytes,
            logger=door.websocket_log,
        )
        self._transport: asyncio.Transport
        self.station = ""
        self.version: Version = "1.6"
        self.context: Any = None
        self.is_open = False
        self._admitting: asyncio.Task[None] | None = None
        self._parts: list[bytes] = []
        self._waiting: deque[tuple[frames.Call, int]] = deque()
        self._working: tuple[frames.Call, int] | None = None
        self._calls = Calls(self._send, door.settings, door.loop)
        self._tokens = self._most = door.settings.messages_per_s * door.settings.burst_s
        self._filled_s = self.heard_s = self.began_s = door.clock.monotonic_s()
        self._refused = self._malformed = 0
        self._is_full = self._is_congested = self._is_over = False

    # --- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP or TLS, both ways
        self._transport = transport
        transport.set_write_buffer_limits(high=self._settings.max_unsent_bytes)
        self.peer = str((transport.get_extra_info("peername") or ("unknown",))[0])
        if not self._door.entered(self) or not self._is_proven():
            transport.abort()

    def _is_proven(self) -> bool:
        """Check the certificate, if one was shown."""
        tls = self._transport.get_extra_info("ssl_object")
        leaf = peer_leaf(tls) if tls is not None else None
        if leaf is None:
            return True
        try:
            verified = self._door.prove(leaf)
        except Refused as refusal:
            self._door.refuse(self, refusal.code)
            return False
        self._identity, self.serial = verified.identity, verified.serial
        return True

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._door.clock.monotonic_s()
        self._socket.receive_data(data)
        self._hear()

    def eof_received(self) -> None:
        self._socket.receive_eof()
        self._hear()

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_over = True
        if self._admitting:
            self._admitting.cancel()
        self._waiting.clear()
        self._calls.over()
        if self._working is None:
            self._left()

    def pause_writing(self) -> None:
        """The station does not read what we send: what it sends is not read either."""
        self._is_congested = True
        self._throttle()

    def resume_writing(self) -> None:
        self._is_congested = False
        self._throttle()

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye; the connection ends at once if it was never opened."""
        if self._is_over:
            return
        if not self.is_open or self._socket.state is not State.OPEN:
            self._transport.abort()
            return
        self._socket.send_close(code, reason)
        self._flush()
        self._door.loop.call_later(2.0, self._transport.abort)

    def ping(self) -> None:
        if self.is_open and self._socket.state is State.OPEN:
            self._socket.send_ping(b"")
            self._flush()

    def drop(self) -> None:
        self._transport.abort()

    def _hear(self) -> None:
        for event in self._socket.events_received():
            if isinstance(event, Request):
                self._admitting = self._door.loop.create_task(self._admit(event))
            elif isinstance(event, Frame):
                self._take(event)
        self._flush()

    def _flush(self) -> None:
        for data in self._socket.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
                return
        if self._socket.close_expected() and self._socket.state is State.CLOSED:
            self._transport.close()

    def _throttle(self) -> None:
        should_pause = self._is_full or self._is_congested
        if self._is_over or self._transport.is_closing():
            return
        (self._transport.pause_reading if should_pause else self._transport.resume_reading)()

    def _left(self) -> None:
        context, self.context = self.context, None
        self._door.left(self, context)

    # --- coming in ------------------------------------------------------------------------------------------------

    async def _admit(self, request: Request) -> None:
        response = self._socket.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and self._socket.subprotocol is not None:
            try:
                caller = self._caller(request)
                self.context = await self._door.admit(caller)
            except RocadeError as error:
                self._door.refuse(self, error.code)
                response = self._socket.reject(_status(error), f"{error.message}\n")
                if response.status_code == HTTPStatus.UNAUTHORIZED:
                    response.headers["WWW-Authenticate"] = 'Basic realm="OCPP"'
            else:
                self.station, self.version = caller.station, caller.version
        if self._is_over:
            self._left()
            return
        self._socket.send_response(response)
        self._flush()
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            if not self._transport.is_closing():
                self._transport.close()
            self._door.refuse(self, "ocpp.handshake") if self._socket.handshake_exc else None
            return
        if self._socket.subprotocol is None:
            self._door.refuse(self, "ocpp.version")
            self._socket.send_close(PROTOCOL, "this door speaks " + ", ".join(SUBPROTOCOLS))
            self._flush()
            self._transport.close()
            return
        self.is_open = True
        self._door.opened(self)
        self._hear()

    def _caller(self, request: Request) -> Caller:
        """Raises: Refused `ocpp.address`, `stations.refused.password`."""
        path = urlsplit(request.path).path
        station = unquote(path.rstrip("/").rpartition("/")[2])
        if not station or len(station) > MOST_NAME or not station.isprintable():
            raise Refused("ocpp.address", "the address ends with the station's name: ws(s)://host:port/ocpp/NAME")
        version = SUBPROTOCOLS[str(self._socket.subprotocol)]
        if self._identity is not None:
            return Caller(station, version, "certificate", self.peer, None, self._identity)
        return Caller(station, version, self._way, self.peer, _password(request, station))

    # --- messages of the station ----------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        """A websocket frame; pings are answered and closings agreed on by the protocol itself."""
        if frame.opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT} or not self.is_open:
            return
        if frame.opcode is Opcode.BINARY:
            self._door.refuse(self, "ocpp.binary")
            self.close(1003, "messages are text")
            return
        if not frame.fin or self._parts:
            self._parts.append(bytes(frame.data))
            if not frame.fin:
                return
            data, self._parts = b"".join(self._parts), []
        else:
            data = frame.data if isinstance(frame.data, bytes) else bytes(frame.data)
        try:
            message = frames.read(data, self.version)
        except frames.Malformed as error:
            self._malformed += 1
            self._send(frames.write_error(error.id, error.kind, error.text, "ocpp.malformed"))
            if self._malformed >= MOST_MALFORMED:
                self._door.refuse(self, "ocpp.malformed")
                self.close(POLICY, "too many messages that cannot be read")
            return
        if isinstance(message, frames.Call):
            self._called(message, len(data))
        elif not self._calls.answered(self.version, message):
            self._door.count("ocpp.answer.unasked")

    def _called(self, call: frames.Call, size: int) -> None:
        if not self._within_rate():
            self._refused += 1
            self._say_no(call, Problem("GenericError", "ocpp.rate", "too many messages; send more slowly"))
            if self._refused == 1:
                self._door.refuse(self, "ocpp.rate")
            if self._refused >= self._settings.max_refused:
                self._door.refuse(self, "ocpp.flood")
                self.close(POLICY, "too many messages")
            return
        self._refused = 0
        if self._door.waiting_bytes + size > self._settings.max_waiting_bytes:
            self._say_no(call, Problem("InternalError", "ocpp.busy", "too much to do; send it again later"))
            return
        problem = schemas.check_call(self.version, call.action, call.payload)
        if problem is not None:
            self._say_no(call, problem)
            return
        self._door.waiting_bytes += size
        if self._working is None:
            self._work(call, size)
            return
        self._waiting.append((call, size))
        if len(self._waiting) >= self._settings.max_waiting and not self._is_full:
            self._is_full = True
            self._throttle()

    def _work(self, call: frames.Call, size: int) -> None:
        self._working = call, size
        self._door.ask(self, Asked(self.context, self.version, call.action, call.payload, self._door.clock.now_us()))

    def answer(self, answer: Answer) -> None:
        """What the handler says to the message that is being worked on."""
        if self._working is None:
            return
        (call, size), self._working = self._working, None
        self._door.waiting_bytes -= size
        if self._is_over:
            self._left()
            return
        if isinstance(answer, Problem):
            self._say_no(call, answer)
        elif call.wants_answer:
            self._send(frames.write_result(call.id, answer))
        if self._waiting:
            self._work(*self._waiting.popleft())
        if self._is_full and len(self._waiting) < self._settings.max_waiting:
            self._is_full = False
            self._throttle()

    def _say_no(self, call: frames.Call, problem: Problem) -> None:
        self._door.count(problem.code)
        if call.wants_answer:
            self._send(frames.write_error(call.id, problem.kind, problem.text, problem.code))

    def _within_rate(self) -> bool:
        now_s = self._door.clock.monotonic_s()
        self._tokens = min(self._tokens + (now_s - self._filled_s) * self._settings.messages_per_s, self._most)
        self._filled_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _send(self, text: bytes) -> None:
        if self._socket.state is State.OPEN:
            self._socket.send_text(text)
            self._flush()

    async def call(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask the station. Raises: as `Calls.call`."""
        return await self._calls.call(self.version, action, payload)


def _newest(_protocol: ServerProtocol, offered: Any) -> Any:
    """The newest version both speak; None leads to a proper goodbye after the handshake."""
    return next((name for name in SUBPROTOCOLS if name in offered), None)


def _password(request: Request, station: str) -> str | None:
    """The password of Basic authentication, whose user must be the station's name; None if there was none.

    Raises: Refused `stations.refused.password`.
    """
    values = request.headers.get_all("Authorization")
    if not values:
        return None
    wrong = Refused(
        "stations.refused.password", "Basic authentication with the station's name and its password is wanted"
    )
    scheme, _, text = values[0].partition(" ")
    if len(values) != 1 or scheme.lower() != "basic" or len(text) > 512:
        raise wrong
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise wrong from None
    if user != station or not colon:
        raise wrong
    return password


def _status(error: RocadeError) -> HTTPStatus:
    if isinstance(error, Unavailable):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus(404 if error.code == "ocpp.address" else _STATUS.get(error.code, 403))


__all__ = ["GOING_AWAY", "RESTART", "Session"]
