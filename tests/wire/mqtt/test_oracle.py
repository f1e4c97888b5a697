"""Our MQTT 5 codec and the `mqtt5` package (Rust, other authors) read each other's packets and agree on every field."""

from __future__ import annotations

from typing import Any

import mqtt5 as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.errors import Refused
from rocade.wire import mqtt as ours

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = texts.map(lambda text: text.replace("+", "").replace("#", "")).filter(bool)
filters = st.one_of(names.filter(lambda name: not name.startswith("$share")), st.just("a/+/b/#"), st.just("#"))
blobs = st.binary(max_size=40)
u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
ids = st.integers(1, 0xFFFF)


def reasons(codes: Any) -> st.SearchStrategy[int]:
    """All values of one of the oracle's enumerations."""
    return st.sampled_from([int(getattr(codes, name)) for name in dir(codes) if name.isupper()])


pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
ACKS = {
    oracle.PubAckPacket: (ours.Puback, oracle.PubAckReasonCode),
    oracle.PubRecPacket: (ours.Pubrec, oracle.PubRecReasonCode),
    oracle.PubRelPacket: (ours.Pubrel, oracle.PubRelReasonCode),
    oracle.PubCompPacket: (ours.Pubcomp, oracle.PubCompReasonCode),
}
# Our property -> the oracle's attribute, with the default it uses for "absent".
PROPERTIES = {
    "payload_format_indicator": ("payload_format_indicator", 0),
    "message_expiry_interval_s": ("message_expiry_interval", None),
    "content_type": ("content_type", None),
    "response_topic": ("response_topic", None),
    "correlation_data": ("correlation_data", None),
    "subscription_identifiers": ("subscription_ids", []),
    "session_expiry_interval_s": ("session_expiry_interval", None),
    "assigned_client_id": ("assigned_client_id", None),
    "server_keep_alive_s": ("server_keep_alive", None),
    "authentication_method": ("authentication_method", None),
    "authentication_data": ("authentication_data", None),
    "request_problem_information": ("request_problem_info", True),
    "will_delay_interval_s": ("will_delay_interval", 0),
    "request_response_information": ("request_response_info", False),
    "response_information": ("response_info", None),
    "server_reference": ("server_reference", None),
    "reason_string": ("reason_str", None),
    "receive_maximum": ("receive_max", 65_535),
    "topic_alias_maximum": ("topic_alias_max", 0),
    "topic_alias": ("topic_alias", None),
    "maximum_qos": ("max_qos", oracle.QoS.EXACTLY_ONCE),
    "retain_available": ("retain_available", True),
    "user_properties": ("user_properties", []),
    "maximum_packet_size_bytes": ("max_packet_size", None),
    "wildcard_subscription_available": ("wildcard_subscription_available", True),
    "subscription_identifiers_available": ("subscription_id_available", True),
    "shared_subscription_available": ("shared_subscription_available", True),
}


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[ours.Properties]:
    return st.fixed_dictionaries({}, optional={**fields, "user_properties": pairs}).map(
        lambda one: ours.Properties(**one)
    )


bit = st.integers(0, 1)
publish_properties = {
    "payload_format_indicator": bit, "message_expiry_interval_s": u32, "content_type": texts, "response_topic": names,
    "correlation_data": blobs,
}  # fmt: skip
wills = st.builds(
    ours.Will, names, blobs, st.integers(0, 2), st.booleans(),
    optional(**publish_properties, will_delay_interval_s=u32),
)  # fmt: skip
connects = st.builds(
    ours.Connect, texts, st.just(5), st.booleans(), u16, st.none() | texts, st.none() | blobs, st.none() | wills,
    optional(
        session_expiry_interval_s=u32, authentication_method=texts, request_problem_information=bit,
        request_response_information=bit, receive_maximum=ids, topic_alias_maximum=u16,
        maximum_packet_size_bytes=st.integers(1, 0xFFFFFFFF),
    ),
)  # fmt: skip
connacks = st.builds(
    ours.Connack, st.just(False), reasons(oracle.ConnAckReasonCode),
    optional(
        session_expiry_interval_s=u32, assigned_client_id=texts, server_keep_alive_s=u16, response_information=texts,
        server_reference=texts, reason_string=texts, receive_maximum=ids, topic_alias_maximum=u16, maximum_qos=bit,
        retain_available=bit, maximum_packet_size_bytes=st.integers(1, 0xFFFFFFFF),
        wildcard_subscription_available=bit, subscription_identifiers_available=bit, shared_subscription_available=bit,
    ),
)  # fmt: skip
publishes = st.one_of(
    st.builds(ours.Publish, names, blobs, st.just(0), st.just(0), st.booleans(), st.just(False),
              optional(**publish_properties, topic_alias=ids)),
    st.builds(ours.Publish, names, st.binary(max_size=300), st.integers(1, 2), ids, st.booleans(), st.booleans(),
              optional(**publish_properties, subscription_identifiers=st.lists(st.integers(1, 268_435_455), max_size=3).map(tuple))),
)  # fmt: skip
acknowledgements = st.one_of(
    *(st.builds(make, ids, reasons(codes), optional(reason_string=texts)) for make, codes in ACKS.values())
)
subscriptions = st.builds(
    ours.Subscription, filters, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)
)  # fmt: skip
subscribes = st.builds(
    ours.Subscribe, ids, st.lists(subscriptions, min_size=1, max_size=4).map(tuple),
    optional(subscription_identifiers=st.integers(1, 268_435_455).map(lambda one: (one,))),
)  # fmt: skip
subacks = st.builds(
    ours.Suback, ids, st.lists(reasons(oracle.SubAckReasonCode), min_size=1).map(tuple),
    optional(reason_string=texts),
)  # fmt: skip
unsubscribes = st.builds(ours.Unsubscribe, ids, st.lists(filters, min_size=1, max_size=4).map(tuple), optional())
unsubacks = st.builds(
    ours.Unsuback, ids, st.lists(reasons(oracle.UnsubAckReasonCode), min_size=1).map(tuple),
    optional(reason_string=texts),
)  # fmt: skip
disconnects = st.builds(
    ours.Disconnect, reasons(oracle.DisconnectReasonCode),
    optional(session_expiry_interval_s=u32, server_reference=texts, reason_string=texts),
)  # fmt: skip
# The oracle refuses an AUTH of no bytes, which MQTT 5.0 section 3.15.2.1 allows.
auths = st.builds(
    ours.Auth, reasons(oracle.AuthReasonCode),
    optional(authentication_method=texts, reason_string=texts).filter(lambda one: one != ours.NO_PROPERTIES),
)  # fmt: skip
packets = st.one_of(
    connects, connacks, publishes, acknowledgements, subscribes, subacks, unsubscribes, unsubacks, disconnects, auths,
    st.just(ours.Pingreq()), st.just(ours.Pingresp()),
)  # fmt: skip


def properties_seen(packet: Any) -> dict[str, Any]:
    """Properties of a packet of either codec that differ from "absent", under our names."""
    seen = {}
    for name, (attribute, absent) in PROPERTIES.items():
        if isinstance(packet, ours.Properties):
            value = getattr(packet, name)
        elif isinstance(packet, oracle.SubscribePacket) and attribute == "subscription_ids":
            value = [] if packet.subscription_id is None else [packet.subscription_id]
        else:
            value = getattr(packet, attribute, absent)
        if isinstance(value, tuple):
            value = list(value)
        is_absent = value is None or value == absent or (name == "session_expiry_interval_s" and value == 0)
        if not is_absent:
            seen[name] = value
    return seen


def seen_by_us(packet: ours.Packet) -> tuple[Any, ...]:
    """The packet as comparable values."""
    properties = properties_seen(getattr(packet, "properties", ours.NO_PROPERTIES))
    match packet:
        case ours.Connect():
            will = packet.will
            last = will and (will.topic, will.payload or None, will.qos, will.retain, properties_seen(will.properties))
            head = (packet.client_id, packet.clean_start, packet.keep_alive_s, packet.username, packet.password, last)
        case ours.Connack():
            head = (packet.session_present, packet.reason)
        case ours.Publish():
            head = (packet.topic, packet.payload, packet.qos, packet.packet_id, packet.retain, packet.dup)
        case ours.Subscribe():
            head = (
                packet.packet_id,
                tuple(
                    (s.filter, s.qos, s.no_local, s.retain_as_published, s.retain_handling)
                    for s in packet.subscriptions
                ),
            )
        case ours.Suback() | ours.Unsuback():
            head = (packet.packet_id, packet.reasons)
        case ours.Unsubscribe():
            head = (packet.packet_id, packet.filters)
        case ours.Disconnect() | ours.Auth():
            head = (packet.reason,)
        case ours.Pingreq() | ours.Pingresp():
            head = ()
        case _:
            head = (packet.packet_id, packet.reason)
    return (type(packet).__name__.lower(), head, properties)


def seen_by_oracle(packet: Any) -> tuple[Any, ...]:
    name = type(packet).__name__.removesuffix("Packet").lower()
    match name:
        case "connect":
            will = packet.will
            last = will and (will.topic, will.payload or None, int(will.qos), will.retain, properties_seen(will))
            head = (packet.client_id, packet.clean_start, packet.keep_alive, packet.username, packet.password, last)
        case "connack":
            head = (packet.session_present, int(packet.reason_code))
        case "publish":
            head = (
                packet.topic,
                packet.payload,
                int(packet.qos),
                packet.packet_id or 0,
                packet.retain,
                packet.duplicate,
            )
        case "subscribe":
            head = (
                packet.packet_id,
                tuple(
                    (f.pattern, int(f.max_qos), f.no_local, f.retain_as_published, int(f.retain_handling))
                    for f in packet.topic_filters
                ),
            )
        case "suback" | "unsuback":
            head = (packet.packet_id, tuple(int(code) for code in packet.reason_codes))
        case "unsubscribe":
            head = (packet.packet_id, tuple(packet.patterns))
        case "disconnect" | "auth":
            head = (int(packet.reason_code),)
        case "pingreq" | "pingresp":
            head = ()
        case _:
            head = (packet.packet_id, int(packet.reason_code))
    return (name, head, properties_seen(packet))


def decode_one(data: bytes) -> ours.Packet:
    protocol = None if data[0] >> 4 == 1 else 5
    packets_read = ours.Decoder(protocol).feed(data)
    if len(packets_read) != 1:
        raise Refused("test.incomplete", "not one whole packet")
    return packets_read[0]


@given(packets)
@settings(max_examples=300, deadline=None)
def test_both_codecs_read_what_the_other_wrote(packet: ours.Packet) -> None:
    written = ours.encode(packet)
    read, size = oracle.read(memoryview(written))
    assert size == len(written)
    assert seen_by_oracle(read) == seen_by_us(packet)
    assert seen_by_us(decode_one(read.write())) == seen_by_us(packet)
    assert decode_one(written) == packet


@given(packets, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=500, deadline=None)
def test_what_we_accept_of_damaged_packets_the_oracle_reads_alike(
    packet: ours.Packet, damage: list[tuple[int, int]]
) -> None:
    raw = bytearray(ours.encode(packet))
    for place, byte in damage:
        raw[place % len(raw)] = byte
    try:
        mine = decode_one(bytes(raw))
    except Refused:
        return
    if mine == ours.Auth():
        return  # see `auths`
    read, _size = oracle.read(memoryview(raw))
    assert seen_by_oracle(read) == seen_by_us(mine)
