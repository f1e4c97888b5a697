"""Packet -> bytes. The same rules as decoding: what a peer would have to refuse is not sent.

Source: MQTT 5.0 and 3.1.1, chapter 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from rocade.wire.mqtt import packets as p
from rocade.wire.mqtt.fields import encode_binary, encode_packet_id, encode_text, encode_varint, malformed
from rocade.wire.mqtt.properties import NO_PROPERTIES, Properties, write_properties
from rocade.wire.mqtt.topics import check_filter, check_name


def encode(packet: p.Packet, protocol: int = 5) -> bytes:
    """One packet as bytes for a peer that speaks `protocol` (4 or 5; a Connect knows its own).

    Raises: Refused `mqtt.malformed.*`, `mqtt.too_large`.
    """
    head, body = _ENCODERS[type(packet)](packet, packet.protocol if isinstance(packet, p.Connect) else protocol)
    return head.to_bytes() + encode_varint(len(body)) + body


def encode_pubacks(packet_ids: Sequence[int]) -> bytes:
    """Many successful PUBACKs joined; the bytes are the same in both versions."""
    return struct.pack(f">{len(packet_ids)}I", *[0x40020000 | packet_id for packet_id in packet_ids])


def _properties(properties: Properties, packet: str, protocol: int) -> bytes:
    if protocol == 5:
        return write_properties(properties, packet)
    if properties is not NO_PROPERTIES and properties != NO_PROPERTIES:
        raise malformed("property", "MQTT 3.1.1 has no properties")
    return b""


def _reason(reason: int, packet: str) -> int:
    if reason not in p.ALLOWED[packet]:
        raise malformed("reason", f"reason {reason:#04x} is not allowed in {packet}", 0x82)
    return reason


def _connect(packet: p.Connect, protocol: int) -> tuple[int, bytes]:
    will = packet.will
    flags = packet.clean_start << 1
    body = encode_text(packet.client_id)
    if will:
        flags |= 0x04 | _qos(will.qos) << 3 | will.retain << 5
        body += _properties(will.properties, "will", protocol)
        body += encode_text(check_name(will.topic)) + encode_binary(will.payload)
    if packet.username is not None:
        flags |= 0x80
        body += encode_text(packet.username)
    if packet.password is not None:
        if protocol != 5 and packet.username is None:
            raise malformed("connect", "MQTT 3.1.1 has no password without a user name")
        flags |= 0x40
        body += encode_binary(packet.password)
    head = encode_text("MQTT") + bytes((protocol, flags)) + packet.keep_alive_s.to_bytes(2)
    return 0x10, head + _properties(packet.properties, "connect", protocol) + body


def _connack(packet: p.Connack, protocol: int) -> tuple[int, bytes]:
    if packet.session_present and packet.reason:
        raise malformed("connack", "a refusing CONNACK has no session", 0x82)
    reason = _reason(packet.reason, "connack" if protocol == 5 else "connack 3.1.1")
    return 0x20, bytes((packet.session_present, reason)) + _properties(packet.properties, "connack", protocol)


def _qos(qos: int) -> int:
    if qos not in (0, 1, 2):
        raise malformed("qos", "quality of service is 0, 1 or 2")
    return qos


def _publish(packet: p.Publish, protocol: int) -> tuple[int, bytes]:
    properties = packet.properties
    if packet.topic or properties.topic_alias is None:
        check_name(packet.topic)
    if packet.dup and not packet.qos:
        raise malformed("dup", "a QoS 0 message is never a duplicate")
    if packet.packet_id and not packet.qos:
        raise malformed("packet_id", "a QoS 0 message has no packet identifier")
    head = 0x30 | packet.dup << 3 | _qos(packet.qos) << 1 | packet.retain
    packet_id = encode_packet_id(packet.packet_id) if packet.qos else b""
    topic = encode_text(packet.topic)
    return head, topic + packet_id + _properties(properties, "publish", protocol) + packet.payload


def _acknowledgement(head: int, name: str) -> Callable[[Any, int], tuple[int, bytes]]:
    def encode_one(packet: p.Acknowledgement, protocol: int) -> tuple[int, bytes]:
        body = encode_packet_id(packet.packet_id)
        if packet.reason or packet.properties is not NO_PROPERTIES:
            properties = _properties(packet.properties, name, protocol)
            if protocol != 5:
                raise malformed("reason", "MQTT 3.1.1 acknowledgements carry no reason")
            body += _reason(packet.reason, name).to_bytes() + (b"" if properties == b"\0" else properties)
        return head, body

    return encode_one


def _subscribe(packet: p.Subscribe, protocol: int) -> tuple[int, bytes]:
    if not packet.subscriptions:
        raise malformed("subscribe", "a SUBSCRIBE holds at least one filter", 0x82)
    body = encode_packet_id(packet.packet_id) + _properties(packet.properties, "subscribe", protocol)
    for one in packet.subscriptions:
        options = one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4
        if options and protocol != 5:
            raise malformed("subscribe", "MQTT 3.1.1 has no subscription options")
        if one.retain_handling not in (0, 1, 2):
            raise malformed("subscribe", "retain handling is 0, 1 or 2", 0x82)
        body += encode_text(check_filter(one.filter)) + bytes((options | _qos(one.qos),))
    return 0x82, body


def _suback(packet: p.Suback, protocol: int) -> tuple[int, bytes]:
    name = "suback" if protocol == 5 else "suback 3.1.1"
    if not packet.reasons:
        raise malformed("suback", "a SUBACK answers at least one filter", 0x82)
    body = encode_packet_id(packet.packet_id) + _properties(packet.properties, "suback", protocol)
    return 0x90, body + bytes(_reason(reason, name) for reason in packet.reasons)


def _unsubscribe(packet: p.Unsubscribe, protocol: int) -> tuple[int, bytes]:
    if not packet.filters:
        raise malformed("unsubscribe", "an UNSUBSCRIBE holds at least one filter", 0x82)
    body = encode_packet_id(packet.packet_id) + _properties(packet.properties, "unsubscribe", protocol)
    return 0xA2, body + b"".join(encode_text(check_filter(one)) for one in packet.filters)


def _unsuback(packet: p.Unsuback, protocol: int) -> tuple[int, bytes]:
    if bool(packet.reasons) != (protocol == 5):
        raise malformed("unsuback", "an UNSUBACK has reasons in MQTT 5 and none in 3.1.1", 0x82)
    body = encode_packet_id(packet.packet_id) + _properties(packet.properties, "unsuback", protocol)
    return 0xB0, body + bytes(_reason(reason, "unsuback") for reason in packet.reasons)


def _disconnect(packet: p.Disconnect, protocol: int) -> tuple[int, bytes]:
    if protocol != 5:
        if packet.reason:
            raise malformed("reason", "MQTT 3.1.1 disconnects without a reason")
        return 0xE0, _properties(packet.properties, "disconnect", protocol)
    properties = write_properties(packet.properties, "disconnect")
    if packet.reason == 0 and properties == b"\0":
        return 0xE0, b""
    return 0xE0, _reason(packet.reason, "disconnect").to_bytes() + (b"" if properties == b"\0" else properties)


def _auth(packet: p.Auth, protocol: int) -> tuple[int, bytes]:
    if protocol != 5:
        raise malformed("type", "MQTT 3.1.1 has no AUTH packet")
    properties = write_properties(packet.properties, "auth")
    if packet.reason == 0 and properties == b"\0":
        return 0xF0, b""
    return 0xF0, _reason(packet.reason, "auth").to_bytes() + properties


_ENCODERS: dict[type[Any], Callable[[Any, int], tuple[int, bytes]]] = {
    p.Connect: _connect,
    p.Connack: _connack,
    p.Publish: _publish,
    p.Puback: _acknowledgement(0x40, "puback"),
    p.Pubrec: _acknowledgement(0x50, "pubrec"),
    p.Pubrel: _acknowledgement(0x62, "pubrel"),
    p.Pubcomp: _acknowledgement(0x70, "pubcomp"),
    p.Subscribe: _subscribe,
    p.Suback: _suback,
    p.Unsubscribe: _unsubscribe,
    p.Unsuback: _unsuback,
    p.Pingreq: lambda _packet, _protocol: (0xC0, b""),
    p.Pingresp: lambda _packet, _protocol: (0xD0, b""),
    p.Disconnect: _disconnect,
    p.Auth: _auth,
}
