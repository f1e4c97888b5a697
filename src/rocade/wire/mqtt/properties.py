"""MQTT 5 properties: one table says each property's number, type, limits and the packets it may stand in.

Refuses an unknown property, one in the wrong packet, one given twice, and values out of range.
Source: MQTT 5.0 sections 2.2.2 and 3.x.2.
"""

from __future__ import annotations

import msgspec

from rocade.wire.mqtt.fields import Reader, encode_binary, encode_text, encode_varint, malformed
from rocade.wire.mqtt.topics import check_name


class Properties(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """All properties of MQTT 5; None or () = absent."""

    payload_format_indicator: int | None = None
    message_expiry_interval_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval_s: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive_s: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_interval_s: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    maximum_packet_size_bytes: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifiers_available: int | None = None
    shared_subscription_available: int | None = None


NO_PROPERTIES = Properties()

_ACKS = "puback pubrec pubrel pubcomp suback unsuback"
# number: (field, type, packets). Types: bit (0 or 1), u16, u32, +u16 and +u32 (not zero), text, binary, +varint, pair.
_TABLE: dict[int, tuple[str, str, frozenset[str]]] = {
    number: (field, kind, frozenset(packets.split()))
    for number, field, kind, packets in (
        (0x01, "payload_format_indicator", "bit", "publish will"),
        (0x02, "message_expiry_interval_s", "u32", "publish will"),
        (0x03, "content_type", "text", "publish will"),
        (0x08, "response_topic", "text", "publish will"),
        (0x09, "correlation_data", "binary", "publish will"),
        (0x0B, "subscription_identifiers", "+varint", "publish subscribe"),
        (0x11, "session_expiry_interval_s", "u32", "connect connack disconnect"),
        (0x12, "assigned_client_id", "text", "connack"),
        (0x13, "server_keep_alive_s", "u16", "connack"),
        (0x15, "authentication_method", "text", "connect connack auth"),
        (0x16, "authentication_data", "binary", "connect connack auth"),
        (0x17, "request_problem_information", "bit", "connect"),
        (0x18, "will_delay_interval_s", "u32", "will"),
        (0x19, "request_response_information", "bit", "connect"),
        (0x1A, "response_information", "text", "connack"),
        (0x1C, "server_reference", "text", "connack disconnect"),
        (0x1F, "reason_string", "text", f"connack disconnect auth {_ACKS}"),
        (0x21, "receive_maximum", "+u16", "connect connack"),
        (0x22, "topic_alias_maximum", "u16", "connect connack"),
        (0x23, "topic_alias", "+u16", "publish"),
        (0x24, "maximum_qos", "bit", "connack"),
        (0x25, "retain_available", "bit", "connack"),
        (
            0x26,
            "user_properties",
            "pair",
            f"connect connack publish will subscribe unsubscribe disconnect auth {_ACKS}",
        ),
        (0x27, "maximum_packet_size_bytes", "+u32", "connect connack"),
        (0x28, "wildcard_subscription_available", "bit", "connack"),
        (0x29, "subscription_identifiers_available", "bit", "connack"),
        (0x2A, "shared_subscription_available", "bit", "connack"),
    )
}
_BY_FIELD = {field: (number, kind, packets) for number, (field, kind, packets) in _TABLE.items()}
_MAX_REPEATED = 256
"""Repeatable properties accepted in one packet: more is no metadata but an attack on memory."""


def read_properties(reader: Reader, packet: str) -> Properties:
    """Read a property length and that many bytes of properties of `packet` (a lower-case packet name, or `will`)."""
    size = reader.varint()
    if size == 0:
        return NO_PROPERTIES
    stop, end = reader.at + size, reader.stop
    if stop > end:
        raise malformed("properties", "the properties reach beyond the end of their packet")
    reader.stop = stop
    values: dict[str, object] = {}
    repeated: dict[str, list[object]] = {}
    while reader.at < stop:
        number = reader.varint()
        if number not in _TABLE:
            raise malformed("property", f"property {number:#04x} does not exist")
        field, kind, packets = _TABLE[number]
        if packet not in packets:
            raise malformed("property", f"property {field} is not allowed in {packet}", 0x82)
        value = _read(reader, kind, field)
        if kind == "pair" or (field == "subscription_identifiers" and packet == "publish"):
            _append(repeated, field, value)
        elif field in values:
            raise malformed("property_twice", f"property {field} is given twice", 0x82)
        else:
            values[field] = (value,) if field == "subscription_identifiers" else value
    reader.stop = end
    values.update((field, tuple(many)) for field, many in repeated.items())
    if "authentication_data" in values and "authentication_method" not in values:
        raise malformed("property", "authentication data without an authentication method", 0x82)
    return msgspec.convert(values, Properties)


def _append(repeated: dict[str, list[object]], field: str, value: object) -> None:
    many = repeated.setdefault(field, [])
    if len(many) == _MAX_REPEATED:
        raise malformed("properties", f"more than {_MAX_REPEATED} {field}", 0x82)
    many.append(value)


def _read(reader: Reader, kind: str, field: str) -> object:
    value: object
    match kind:
        case "bit":
            value = reader.u8()
            if value > 1:
                raise malformed("property", f"property {field} is 0 or 1", 0x82)
        case "u16" | "+u16":
            value = reader.u16()
        case "u32" | "+u32":
            value = reader.u32()
        case "+varint":
            value = reader.varint()
        case "text":
            value = reader.text()
            if field == "response_topic":
                check_name(value)
        case "binary":
            value = reader.binary()
        case _:
            value = (reader.text(), reader.text())
    if kind[0] == "+" and value == 0:
        raise malformed("property", f"property {field} must not be 0", 0x94 if field == "topic_alias" else 0x82)
    return value


def write_properties(properties: Properties, packet: str) -> bytes:
    """Length and properties, in the order of `Properties`' fields."""
    if properties is NO_PROPERTIES:
        return b"\0"
    out = bytearray()
    for field, (number, kind, packets) in _BY_FIELD.items():
        value = getattr(properties, field)
        if value is None or value == ():
            continue
        if packet not in packets:
            raise malformed("property", f"property {field} is not allowed in {packet}", 0x82)
        for one in value if isinstance(value, tuple) else (value,):
            out.append(number)
            out += _write(kind, one)
    return encode_varint(len(out)) + out


def _write(kind: str, value: object) -> bytes:
    match value:
        case int():
            if kind[0] == "+" and value == 0:
                raise malformed("property", "a property that must not be 0 is 0", 0x82)
            size = {"bit": 1, "u16": 2, "u32": 4}.get(kind.removeprefix("+"))
            return encode_varint(value) if size is None else value.to_bytes(size)
        case str():
            return encode_text(value)
        case bytes():
            return encode_binary(value)
        case (str(name), str(text)):
            return encode_text(name) + encode_text(text)
        case _:
            raise malformed("property", f"a property cannot hold a {type(value).__name__}")
