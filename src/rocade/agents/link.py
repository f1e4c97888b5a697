"""One MQTT 5 connection of an agent (a vehicle's, a dealer's): publishes bodies with QoS 1, reports what became of each.

Flow: TCP and TLS -> CONNECT -> CONNACK sets the window (the smaller of ours and the server's Receive Maximum) ->
SUBSCRIBE to the party's own down topics -> `send` while `has_room` -> the listener hears `acknowledged`, `refused`,
`received`, `closed`. What comes down is acknowledged when `received` is through with it: it may answer with a future.
Knows nothing of journals and never retries: that is the agent's, by its `Backoff`.
Source: MQTT 5.0; topics in docs/mqtt.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.ports import Random
from rocade.trust.identity import tls
from rocade.wire.mqtt import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Puback,
    Publish,
    Reason,
    Subscribe,
    Subscription,
    encode,
)

CONNECT_TIMEOUT_S = 30.0
MOST_DOWN_BYTES = 1 << 20

TURNED_AWAY = "link.turned_away"
"""Code of a connection that the platform ended after TLS without a word: a door does so with a revoked certificate."""


class Backoff(msgspec.Struct, frozen=True):
    """Full jitter: wait a random time up to `first_s` * 2**attempt, at most `most_s`."""

    first_s: float = 0.5
    most_s: float = 60.0

    def wait_s(self, attempt: int, random: Random) -> float:
        return random.uniform() * min(self.most_s, self.first_s * 2.0 ** min(attempt, 30))


class Listener(Protocol):
    """What a link tells its agent; all calls come from the event loop and must not block."""

    def acknowledged(self, sequence: int) -> None: ...
    def refused(self, sequence: int, reason: int, text: str) -> None: ...
    def received(self, tail: str, body: bytes) -> asyncio.Future[None] | None:
        """None = done with it; a future = acknowledge when it is done, and not at all if it fails."""
        ...

    def has_room(self) -> None: ...
    def closed(self, why: str, reason: int) -> None: ...


class Link(asyncio.Protocol):
    """Use `open`; after `listener.closed` the link is spent."""

    def __init__(
        self,
        party_id: str,
        listener: Listener,
        window: int,
        keep_alive_s: int,
        check: Callable[[bytes], object] = lambda _leaf: None,
    ) -> None:
        self._check = check
        self._id, self._listener = party_id, listener
        self._up, self._down = f"rocade/v1/{party_id}/up/", f"rocade/v1/{party_id}/down/"
        self._window, self._keep_alive_s = window, keep_alive_s
        self._decoder = Decoder(5, MOST_DOWN_BYTES)
        self._transport: asyncio.Transport | None = None
        self._in_flight: dict[int, int] = {}
        self._next_id = 1
        self._is_writable = True
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._why, self._reason = "connection lost", 0
        self._heard_s = self._spoke_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        party_id: str,
        listener: Listener,
        *,
        window: int = 10,
        keep_alive_s: int = 60,
        check: Callable[[bytes], object] = lambda _leaf: None,
    ) -> Link:
        """Connect and wait for the platform's welcome; `check` judges the server's leaf certificate before a word is said.

        Raises: what `check` raises; Unavailable `link.down` (no connection, server busy); Refused `link.refused` (the platform says no).
        """
        loop = asyncio.get_running_loop()
        link: Link | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, link = await loop.create_connection(
                    lambda: cls(party_id, listener, window, keep_alive_s, check), host, port, ssl=context
                )
                await link._ready
        except ssl.SSLError as error:
            raise _tls_refused(error) from error
        except (OSError, TimeoutError) as error:
            if link:
                link.abort()
            raise Unavailable("link.down", f"no connection to {host}:{port}: {error or 'timed out'}") from error
        return link

    @property
    def room(self) -> int:
        """How many more bodies may be sent now."""
        return self._window - len(self._in_flight) if self._is_open and self._is_writable else 0

    def send(self, tail: str, sequence: int, body: bytes) -> None:
        """Publish one body; only while `room` > 0."""
        while self._next_id in self._in_flight:
            self._next_id = self._next_id % 65535 + 1
        packet_id, self._next_id = self._next_id, self._next_id % 65535 + 1
        self._in_flight[packet_id] = sequence
        self._write(Publish(topic=self._up + tail, payload=body, qos=1, packet_id=packet_id))

    def close(self) -> None:
        """Say goodbye and close."""
        if self._is_open and self._transport:
            self._why = "closed by the agent"
            self._write(Disconnect())
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection without a word, as a tunnel would."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=256 * 1024)
        try:
            if secured := transport.get_extra_info("ssl_object"):
                self._check(tls.peer_leaf(secured) or b"")
        except RocadeError as error:
            self._ready.set_exception(error)
            self.abort()
            return
        properties = Properties(receive_maximum=16, maximum_packet_size_bytes=MOST_DOWN_BYTES)
        self._write(Connect(client_id=self._id, keep_alive_s=self._keep_alive_s, properties=properties))

    def data_received(self, data: bytes) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        try:
            packets = self._decoder.feed(data)
        except Refused as error:
            self._fail(f"the platform sent something malformed: {error.code}", Reason.PROTOCOL_ERROR)
            return
        had_room = self.room > 0
        for packet in packets:
            self._take(packet)
        if not had_room and self.room > 0:
            self._listener.has_room()

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._listener.has_room()

    def connection_lost(self, error: Exception | None) -> None:
        was_open, self._is_open = self._is_open, False
        if self._timer:
            self._timer.cancel()
        why = f"{self._why}: {error}" if error else self._why
        if isinstance(error, ssl.SSLError) and not self._ready.done():
            self._ready.set_exception(_tls_refused(error))
            return
        if not self._ready.done():
            self._ready.set_exception(Unavailable(TURNED_AWAY, f"the connection ended before the welcome ({why})"))
        elif was_open:
            self._listener.closed(why, self._reason)

    def _take(self, packet: Packet) -> None:
        match packet:
            case Puback():
                sequence = self._in_flight.pop(packet.packet_id, None)
                if sequence is None:
                    return
                if packet.reason in (Reason.SUCCESS, Reason.NO_MATCHING_SUBSCRIBERS):
                    self._listener.acknowledged(sequence)
                else:
                    self._listener.refused(sequence, packet.reason, packet.properties.reason_string or "")
            case Publish():
                waits = None
                if packet.topic.startswith(self._down):
                    waits = self._listener.received(packet.topic[len(self._down) :], packet.payload)
                if waits is not None:
                    waits.add_done_callback(partial(self._settle, packet))
                elif packet.qos == 1:
                    self._write(Puback(packet_id=packet.packet_id))
            case Connack():
                self._welcome(packet)
            case Disconnect():
                self._fail(packet.properties.reason_string or "the platform closed the connection", packet.reason)
            case _:
                pass

    def _settle(self, packet: Publish, done: asyncio.Future[None]) -> None:
        if packet.qos == 1 and self._is_open and not done.cancelled() and done.exception() is None:
            self._write(Puback(packet_id=packet.packet_id))

    def _welcome(self, packet: Connack) -> None:
        if packet.reason:
            text = packet.properties.reason_string or f"reason {packet.reason:#04x}"
            error: RocadeError = Refused("link.refused", f"the platform does not let this party in: {text}")
            if packet.reason in _LATER:
                error = Unavailable("link.busy", f"the platform asks to come back later: {text}")
            if not self._ready.done():
                self._ready.set_exception(error)
            self.abort()
            return
        self._window = min(self._window, packet.properties.receive_maximum or 65535)
        self._keep_alive_s = packet.properties.server_keep_alive_s or self._keep_alive_s
        self._write(Subscribe(packet_id=65535, subscriptions=(Subscription(filter=self._down + "#", qos=1),)))
        self._is_open = True
        self._heard_s = asyncio.get_running_loop().time()
        self._watch()
        if not self._ready.done():
            self._ready.set_result(None)

    def _watch(self) -> None:
        """Ping when silent for half the keep-alive; give up when nothing was heard for one and a half."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_s > 1.5 * self._keep_alive_s:
            self._fail("the platform is silent", Reason.KEEP_ALIVE_TIMEOUT)
            return
        if loop.time() - min(self._spoke_s, self._heard_s) >= 0.5 * self._keep_alive_s:
            self._write(Pingreq())
        self._timer = loop.call_later(self._keep_alive_s / 4, self._watch)

    def _write(self, packet: Packet) -> None:
        if self._transport and not self._transport.is_closing():
            self._spoke_s = asyncio.get_running_loop().time()
            self._transport.write(encode(packet, 5))

    def _fail(self, why: str, reason: int) -> None:
        self._why, self._reason = why, reason
        if self._transport:
            self._transport.close()


_LATER = {Reason.SERVER_UNAVAILABLE, Reason.SERVER_BUSY, Reason.QUOTA_EXCEEDED, Reason.CONNECTION_RATE_EXCEEDED}


def _tls_refused(error: ssl.SSLError) -> Refused:
    return Refused(
        "link.refused", f"the connection was refused in the TLS handshake: {tls.handshake_refusal(error).message}"
    )
