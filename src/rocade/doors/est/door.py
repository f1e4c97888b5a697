"""Connections of the enrolment door: accept, handshake, read a request within limits, answer, audit every refusal.

Flow per connection: bounded number at once -> TLS 1.3 (client certificate optional) -> up to a few requests, parsed by
h11 -> `Exchange` decides -> answer or RFC 9457 problem. A refused handshake or request is audited with its reason and
the peer's address; nobody's identity is claimed for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Container

import h11
import msgspec

from rocade.core.errors import Refused, RocadeError
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.est.exchange import Answer, Exchange, Request, problem
from rocade.doors.secured import Secured
from rocade.trust.authority import Authority
from rocade.trust.identity.tls import ServerIdentity, handshake_refusal, peer_leaf

_log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True):
    """What one peer may ask of the door."""

    connections: int = 200
    connections_per_peer: int = 20
    handshake_s: float = 10.0
    request_s: float = 20.0
    requests: int = 8
    head_bytes: int = 8 * 1024
    body_bytes: int = 16 * 1024


class Door:
    """The enrolment server: `await start(host, port)` gives the port, `await close()` ends it."""

    def __init__(
        self,
        identity: ServerIdentity,
        authority: Authority,
        denied: Container[int],
        audit: Audit,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        self._identity = identity
        self._exchange = Exchange(authority, denied, clock)
        self._audit = audit
        self._clock = clock
        self._limits = limits or Limits()
        self._open: dict[asyncio.Task[None], str] = {}
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen, on a port `shared` with other processes or alone; `identity` must have been made with client="optional"."""
        self._server = await asyncio.start_server(self._serve, host, port, reuse_port=shared)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening, let running requests finish within their time."""
        if self._server is not None:
            self._server.close()
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=5.0)
            for task in late:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer = str((writer.get_extra_info("peername") or ("unknown",))[0])
        if task is None or self._is_crowded(peer):
            writer.transport.abort()
            self._refused(peer, "est.connection", "est.crowded")
            return
        self._open[task] = peer
        try:
            secured = Secured(reader, writer, self._identity.context)
            if await self._handshake(secured, peer):
                await self._converse(secured, peer)
                await secured.close()
        except (TimeoutError, OSError, ssl.SSLError):
            pass  # the peer left or dawdled; nothing was promised to it
        finally:
            del self._open[task]
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    def _is_crowded(self, peer: str) -> bool:
        """One address may not take all the places."""
        limits = self._limits
        mine = sum(other == peer for other in self._open.values())
        return len(self._open) >= limits.connections or mine >= limits.connections_per_peer

    async def _handshake(self, secured: Secured, peer: str) -> bool:
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                await secured.handshake()
        except (OSError, TimeoutError) as error:
            self._refused(peer, "est.handshake", handshake_refusal(error).code)
            return False
        return True

    async def _converse(self, secured: Secured, peer: str) -> None:
        """Requests of one connection, one after the other."""
        leaf = peer_leaf(secured.tls)
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        for _ in range(self._limits.requests):
            async with asyncio.timeout(self._limits.request_s):
                try:
                    request = await self._read(secured, http, leaf, peer)
                except Refused as refusal:
                    self._refused(peer, "est.request", refusal.code)
                    await _send(secured, http, problem(refusal), last=True)
                    return
                if request is None:
                    return
                await _send(secured, http, await self._answer(request))
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _read(self, secured: Secured, http: h11.Connection, leaf: bytes | None, peer: str) -> Request | None:
        """One whole request, or None when the peer is done.

        Raises: Refused `est.request.malformed`, `est.request.size`.
        """
        head: h11.Request | None = None
        body = bytearray()
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError:
                raise Refused("est.request.malformed", "this is no HTTP/1.1 request the door can read") from None
            if event is h11.NEED_DATA:
                if http.they_are_waiting_for_100_continue:
                    await secured.write(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                http.receive_data(await secured.read())
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.body_bytes:
                    raise Refused("est.request.size", f"a request may have {self._limits.body_bytes} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
                return Request(head.method.decode(), head.target.decode("latin-1"), headers, bytes(body), leaf, peer)
            else:  # connection closed or paused
                return None

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._exchange.handle(request)
        except Refused as refusal:
            self._refused(request.peer, "est.request", refusal.code)
            return problem(refusal)
        except RocadeError as error:
            _log.error("enrolment failed: %s", error.code)
            return problem(error)
        except Exception:
            _log.exception("enrolment failed")
            return problem(RocadeError("est.unforeseen", "something went wrong here; the log has it"))

    def _refused(self, peer: str, action: str, code: str) -> None:
        self._audit.note(AuditEntry(self._clock.now_us(), f"peer:{peer}", action, "door:est", "refused", code))


async def _send(secured: Secured, http: h11.Connection, answer: Answer, *, last: bool = False) -> None:
    headers = [*answer.headers, ("content-length", str(len(answer.body))), ("cache-control", "no-store")]
    if last:
        headers.append(("connection", "close"))
    with contextlib.suppress(h11.LocalProtocolError):  # the peer broke the protocol beyond answering
        data = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        data += http.send(h11.Data(data=answer.body)) or b""
        await secured.write(data + (http.send(h11.EndOfMessage()) or b""))
