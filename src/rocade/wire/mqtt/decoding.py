"""Bytes -> packets, strictly. A `Decoder` belongs to one connection and keeps only an unfinished packet.

Flow: `feed` cuts the bytes into packets by their fixed header (a length above the limit is refused before anything is
kept), reads PUBLISH by a short path, everything else through a `Reader`, and returns all finished packets of one read.

Refuses: whatever chapter 2 and 3 of the standards call malformed or a protocol error within one packet.
"""

from __future__ import annotations

from collections.abc import Callable

from rocade.core.errors import Refused
from rocade.wire.mqtt import packets as p
from rocade.wire.mqtt.fields import MAX_VARINT, Reader, decode_text, malformed
from rocade.wire.mqtt.properties import NO_PROPERTIES, Properties, read_properties
from rocade.wire.mqtt.topics import check_filter, check_name

_KNOWN_TOPICS = 8
_FLAGS = {1: 0, 2: 0, 4: 0, 5: 0, 6: 2, 7: 0, 8: 2, 9: 0, 10: 2, 11: 0, 12: 0, 13: 0, 14: 0, 15: 0}


class Decoder:
    """One direction of one connection. `protocol` None = a server's side: the first packet must be CONNECT and sets it."""

    __slots__ = ("_chunks", "_held", "_need", "_topics", "max_packet_bytes", "protocol")

    def __init__(self, protocol: int | None = None, max_packet_bytes: int = MAX_VARINT) -> None:
        self.protocol = protocol
        self.max_packet_bytes = max_packet_bytes
        self._chunks: list[bytes] = []
        self._held = 0
        self._need = 0
        self._topics: dict[bytes, str] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes kept of an unfinished packet."""
        return self._held

    def feed(self, data: bytes) -> list[p.Packet]:
        """Take what one read returned; give every packet it completes, in order.

        Raises: Refused `mqtt.malformed.*`, `mqtt.too_large`, `mqtt.version`; the decoder is of no further use then.
        """
        if self._chunks:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._need:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._held = 0
        self._need = 0
        found: list[p.Packet] = []
        at, end = 0, len(data)
        while end - at >= 2:
            head = data[at]
            size = data[at + 1]
            body = at + 2
            if size > 0x7F:
                size, body = self._length(data, at + 1, end)
                if size < 0:
                    break
            stop = body + size
            if stop - at > self.max_packet_bytes:
                raise Refused("mqtt.too_large", f"a packet may have {self.max_packet_bytes} bytes here", reason=0x95)
            if stop > end:
                self._need = stop - at
                break
            if head >> 4 == 3 and self.protocol is not None:
                found.append(self._publish(head, data, body, stop))
            else:
                found.append(self._other(head, data, body, stop))
            at = stop
        if at < end:
            self._keep(data[at:] if at else data)
        return found

    def _keep(self, rest: bytes) -> None:
        self._chunks.append(rest)
        self._held = len(rest)
        if self._need <= self._held:
            self._need = self._held + 1

    def _length(self, data: bytes, at: int, end: int) -> tuple[int, int]:
        """Remaining length of more than one byte and where the body starts; (-1, 0) if it is not all there yet."""
        size = shift = 0
        for place in range(at, min(at + 4, end)):
            byte = data[place]
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift and self.protocol != 4:
                    raise malformed("length", "the remaining length is not in its shortest form")
                return size, place + 1
            shift += 7
        if shift == 28:
            raise malformed("length", "the remaining length has more than four bytes")
        return -1, 0

    def _publish(self, head: int, data: bytes, at: int, stop: int) -> p.Publish:
        start = at + 2
        if start > stop:
            raise malformed("short", "a PUBLISH ends before its topic")
        at = start + (data[start - 2] << 8 | data[start - 1])
        if at > stop:
            raise malformed("short", "a topic reaches beyond the end of its packet")
        raw = data[start:at]
        topic = self._topics.get(raw)
        qos = head >> 1 & 3
        packet_id = 0
        if qos:
            if qos == 3:
                raise malformed("qos", "quality of service 3 does not exist")
            at += 2
            if at > stop:
                raise malformed("short", "a PUBLISH ends before its packet identifier")
            packet_id = data[at - 2] << 8 | data[at - 1]
            if packet_id == 0:
                raise malformed("packet_id", "packet identifier 0 is not allowed", 0x82)
        elif head & 8:
            raise malformed("dup", "a QoS 0 message is never a duplicate")
        properties = NO_PROPERTIES
        if self.protocol == 5:
            if at >= stop:
                raise malformed("short", "a PUBLISH ends before its properties")
            if data[at]:
                reader = Reader(data, at, stop)
                properties = read_properties(reader, "publish")
                at = reader.at
            else:
                at += 1
        if topic is None:
            topic = self._new_topic(raw, properties)
        return p.Publish(topic, data[at:stop], qos, packet_id, head & 1 == 1, head & 8 == 8, properties)

    def _new_topic(self, raw: bytes, properties: Properties) -> str:
        """Check a topic not seen yet; a few are remembered, since a vehicle uses one or two."""
        if not raw and properties.topic_alias is not None:
            return ""
        topic = check_name(decode_text(raw))
        if len(self._topics) < _KNOWN_TOPICS:
            self._topics[raw] = topic
        return topic

    def _other(self, head: int, data: bytes, at: int, stop: int) -> p.Packet:
        kind = head >> 4
        if self.protocol is None and kind != 1:
            raise malformed("first", "the first packet must be CONNECT", 0x82)
        if _FLAGS.get(kind) != head & 0x0F:
            raise malformed("flags", f"packet type {kind} with flags {head & 0x0F:#x} does not exist")
        reader = Reader(data, at, stop)
        packet = _READERS[kind](reader, self.protocol or 0)
        reader.finish()
        if isinstance(packet, p.Connect):
            self.protocol = packet.protocol
        return packet


def _read_properties(reader: Reader, packet: str, protocol: int) -> Properties:
    return read_properties(reader, packet) if protocol == 5 else NO_PROPERTIES


def _read_reason(reader: Reader, packet: str) -> int:
    reason = reader.u8()
    if reason not in p.ALLOWED[packet]:
        raise malformed("reason", f"reason {reason:#04x} is not allowed in {packet}", 0x82)
    return reason


def _connect(reader: Reader, _protocol: int) -> p.Connect:
    name = reader.binary()
    level = reader.u8()
    if name != b"MQTT" or level not in (4, 5):
        raise Refused("mqtt.version", "only MQTT 3.1.1 and 5 are spoken here", reason=0x84)
    flags = reader.u8()
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not flags & 0x04 and flags & 0x38):
        raise malformed("connect", "the flags of CONNECT contradict each other")
    if level == 4 and flags & 0x40 and not flags & 0x80:
        raise malformed("connect", "MQTT 3.1.1 has no password without a user name")
    keep_alive_s = reader.u16()
    properties = _read_properties(reader, "connect", level)
    client_id = reader.text()
    will = None
    if flags & 0x04:
        will_properties = _read_properties(reader, "will", level)
        will = p.Will(check_name(reader.text()), reader.binary(), will_qos, bool(flags & 0x20), will_properties)
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return p.Connect(client_id, level, bool(flags & 2), keep_alive_s, username, password, will, properties)


def _connack(reader: Reader, protocol: int) -> p.Connack:
    flags = reader.u8()
    reason = _read_reason(reader, "connack" if protocol == 5 else "connack 3.1.1")
    if flags > 1 or (flags and reason):
        raise malformed("connack", "the flags of CONNACK are wrong", 0x82)
    return p.Connack(flags == 1, reason, _read_properties(reader, "connack", protocol))


def _acknowledgement[T: p.Acknowledgement](make: type[T], packet: str) -> Callable[[Reader, int], T]:
    def read(reader: Reader, protocol: int) -> T:
        packet_id = reader.packet_id()
        if protocol != 5 or reader.at == reader.stop:
            return make(packet_id)
        reason = _read_reason(reader, packet)
        if reader.at == reader.stop:
            return make(packet_id, reason)
        return make(packet_id, reason, read_properties(reader, packet))

    return read


def _subscribe(reader: Reader, protocol: int) -> p.Subscribe:
    packet_id = reader.packet_id()
    properties = _read_properties(reader, "subscribe", protocol)
    subscriptions = []
    while reader.at < reader.stop:
        pattern = check_filter(reader.text())
        options = reader.u8()
        if options & (0xC0 if protocol == 5 else 0xFC) or options & 3 == 3 or options >> 4 == 3:
            raise malformed("subscribe", "the options of a subscription are wrong", 0x82)
        if options & 4 and pattern.startswith("$share/"):
            raise malformed("subscribe", "a shared subscription cannot be 'no local'", 0x82)
        one = p.Subscription(pattern, options & 3, bool(options & 4), bool(options & 8), options >> 4)
        subscriptions.append(one)
    if not subscriptions:
        raise malformed("subscribe", "a SUBSCRIBE holds at least one filter", 0x82)
    return p.Subscribe(packet_id, tuple(subscriptions), properties)


def _reasons(reader: Reader, packet: str) -> tuple[int, ...]:
    reasons = []
    while reader.at < reader.stop:
        reasons.append(_read_reason(reader, packet))
    if not reasons:
        raise malformed("short", f"a {packet} answers at least one filter", 0x82)
    return tuple(reasons)


def _suback(reader: Reader, protocol: int) -> p.Suback:
    packet_id = reader.packet_id()
    properties = _read_properties(reader, "suback", protocol)
    return p.Suback(packet_id, _reasons(reader, "suback" if protocol == 5 else "suback 3.1.1"), properties)


def _unsubscribe(reader: Reader, protocol: int) -> p.Unsubscribe:
    packet_id = reader.packet_id()
    properties = _read_properties(reader, "unsubscribe", protocol)
    filters = []
    while reader.at < reader.stop:
        filters.append(check_filter(reader.text()))
    if not filters:
        raise malformed("unsubscribe", "an UNSUBSCRIBE holds at least one filter", 0x82)
    return p.Unsubscribe(packet_id, tuple(filters), properties)


def _unsuback(reader: Reader, protocol: int) -> p.Unsuback:
    packet_id = reader.packet_id()
    if protocol != 5:
        return p.Unsuback(packet_id)
    properties = read_properties(reader, "unsuback")
    return p.Unsuback(packet_id, _reasons(reader, "unsuback"), properties)


def _disconnect(reader: Reader, protocol: int) -> p.Disconnect:
    if protocol != 5 or reader.at == reader.stop:
        return p.Disconnect()
    reason = _read_reason(reader, "disconnect")
    if reader.at == reader.stop:
        return p.Disconnect(reason)
    return p.Disconnect(reason, read_properties(reader, "disconnect"))


def _auth(reader: Reader, protocol: int) -> p.Auth:
    if protocol != 5:
        raise malformed("type", "MQTT 3.1.1 has no AUTH packet")
    if reader.at == reader.stop:
        return p.Auth()
    reason = _read_reason(reader, "auth")
    return p.Auth(reason, read_properties(reader, "auth"))


_READERS: dict[int, Callable[[Reader, int], p.Packet]] = {
    1: _connect,
    2: _connack,
    4: _acknowledgement(p.Puback, "puback"),
    5: _acknowledgement(p.Pubrec, "pubrec"),
    6: _acknowledgement(p.Pubrel, "pubrel"),
    7: _acknowledgement(p.Pubcomp, "pubcomp"),
    8: _subscribe,
    9: _suback,
    10: _unsubscribe,
    11: _unsuback,
    12: lambda _reader, _protocol: p.Pingreq(),
    13: lambda _reader, _protocol: p.Pingresp(),
    14: _disconnect,
    15: _auth,
}
