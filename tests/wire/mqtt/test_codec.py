"""The codec against the letter of both standards: exact bytes, and a table of malformed packets with their codes."""

from __future__ import annotations

import pytest

from rocade.core.errors import Refused
from rocade.wire import mqtt


def feed(protocol: int | None, *reads: str, limit: int = 1 << 20) -> list[mqtt.Packet]:
    decoder = mqtt.Decoder(protocol, limit)
    return [packet for read in reads for packet in decoder.feed(bytes.fromhex(read))]


# What MQTT 3.1.1 looks like on the wire, by hand from the standard's tables.
BYTES_311 = [
    (mqtt.Connect("car", 4, clean_start=True, keep_alive_s=60), "100f 0004 4d515454 04 02 003c 0003 636172"),
    (
        mqtt.Connect("c", 4, clean_start=False, username="u", password=b"p", will=mqtt.Will("w", b"x", 1, True)),
        "1019 0004 4d515454 04 ec 0000 0001 63 0001 77 0001 78 0001 75 0001 70",
    ),
    (mqtt.Connack(False, 5), "2002 00 05"),
    (mqtt.Publish("a/b", b"hi", 1, 10, dup=True), "3a09 0003 612f62 000a 6869"),
    (mqtt.Publish("a", b"", 0, retain=True), "3103 0001 61"),
    (mqtt.Puback(258), "4002 0102"),
    (mqtt.Pubrec(1), "5002 0001"),
    (mqtt.Pubrel(1), "6202 0001"),
    (mqtt.Pubcomp(1), "7002 0001"),
    (mqtt.Subscribe(1, (mqtt.Subscription("a/#", 1), mqtt.Subscription("+", 0))), "820c 0001 0003 612f23 01 0001 2b 00"),
    (mqtt.Suback(1, (1, 0x80)), "9004 0001 01 80"),
    (mqtt.Unsubscribe(1, ("a",)), "a205 0001 0001 61"),
    (mqtt.Unsuback(1), "b002 0001"),
    (mqtt.Pingreq(), "c000"),
    (mqtt.Pingresp(), "d000"),
    (mqtt.Disconnect(), "e000"),
]  # fmt: skip


@pytest.mark.parametrize(("packet", "raw"), BYTES_311, ids=[type(packet).__name__ for packet, _ in BYTES_311])
def test_311_packets_have_the_standards_bytes(packet: mqtt.Packet, raw: str) -> None:
    assert mqtt.encode(packet, 4) == bytes.fromhex(raw)
    assert feed(None if raw.startswith("1") else 4, raw) == [packet]


CONNECT_5 = "0004 4d515454 05"
MALFORMED = [
    # name, protocol, bytes, code
    ("type 0", 5, "0000", "flags"),
    ("AUTH in 3.1.1", 4, "f000", "type"),
    ("flags of PINGREQ", 5, "c100", "flags"),
    ("flags of SUBSCRIBE", 4, "8005 0001 0000 00", "flags"),
    ("PINGREQ with a body", 4, "c001 00", "long"),
    ("five length bytes", 5, "30 8080808001", "length"),
    ("long form of a length", 5, "c0 8000", "length"),
    ("first packet is no CONNECT", None, "c000", "first"),
    ("first packet is PUBLISH", None, "3003 0001 61", "first"),
    ("CONNECT without protocol name", None, "1001 00", "short"),
    ("reserved flag of CONNECT", None, f"100d {CONNECT_5} 03 0000 00 0000", "connect"),
    ("will QoS 3", None, f"100d {CONNECT_5} 1e 0000 00 0000", "connect"),
    ("will QoS without will", None, f"100d {CONNECT_5} 0a 0000 00 0000", "connect"),
    ("password without user in 3.1.1", None, "100e 0004 4d515454 04 42 0000 0000 0000", "connect"),
    ("byte after CONNECT", None, f"100e {CONNECT_5} 02 0000 00 0000 00", "long"),
    ("property twice", None, f"1013 {CONNECT_5} 02 0000 06 210001 210001 0000", "property_twice"),
    ("receive maximum 0", None, f"1010 {CONNECT_5} 02 0000 03 210000 0000", "property"),
    ("unknown property", None, f"100f {CONNECT_5} 02 0000 02 0400 0000", "property"),
    ("property of another packet", None, f"1010 {CONNECT_5} 02 0000 03 230001 0000", "property"),
    ("request problem information 2", None, f"100f {CONNECT_5} 02 0000 02 1702 0000", "property"),
    ("properties too long", None, f"100d {CONNECT_5} 02 0000 09 0000", "properties"),
    ("authentication data alone", None, f"1011 {CONNECT_5} 02 0000 04 16000141 0000", "property"),
    ("PUBLISH QoS 3", 5, "3608 0001 61 0001 00 6869", "qos"),
    ("duplicate QoS 0", 4, "3803 0001 61", "dup"),
    ("packet identifier 0", 4, "3205 0001 61 0000", "packet_id"),
    ("'#' in a topic name", 4, "3003 0001 23", "topic"),
    ("'+' in a topic name", 4, "3005 0003 612f2b", "topic"),
    ("empty topic", 4, "3002 0000", "topic"),
    ("empty topic without alias", 5, "3003 0000 00", "topic"),
    ("topic alias 0", 5, "3007 0001 61 03 230000", "property"),
    ("topic too long", 4, "3003 0009 61", "short"),
    ("PUBLISH without identifier", 4, "3204 0001 61 00", "short"),
    ("PUBLISH without properties", 5, "3003 0001 61", "short"),
    ("surrogate in a topic", 4, "3005 0003 eda080", "utf8"),
    ("overlong UTF-8", 4, "3004 0002 c080", "utf8"),
    ("U+0000 in a topic", 4, "3004 0002 6100", "utf8"),
    ("PUBACK of three bytes in 3.1.1", 4, "4003 0001 00", "long"),
    ("PUBACK with unknown reason", 5, "4003 0001 42", "reason"),
    ("PUBACK identifier 0", 5, "4002 0000", "packet_id"),
    ("SUBSCRIBE without filter", 4, "8202 0001", "subscribe"),
    ("SUBSCRIBE with QoS 3", 4, "8206 0001 0001 61 03", "subscribe"),
    ("5's options in 3.1.1", 4, "8206 0001 0001 61 05", "subscribe"),
    ("reserved option bits", 5, "8207 0001 00 0001 61 41", "subscribe"),
    ("retain handling 3", 5, "8207 0001 00 0001 61 31", "subscribe"),
    ("no local on a shared subscription", 5, "8210 0001 00 000a 2473686172652f612f62 05", "subscribe"),
    ("'#' not last", 4, "8208 0001 0003 232f61 00", "filter"),
    ("'a#'", 4, "8207 0001 0002 6123 00", "filter"),
    ("'a+'", 4, "8207 0001 0002 612b 00", "filter"),
    ("empty filter", 4, "8205 0001 0000 00", "filter"),
    ("share without filter", 5, "820e 0001 00 0008 2473686172652f61 01", "filter"),
    ("UNSUBSCRIBE without filter", 4, "a202 0001", "unsubscribe"),
    ("DISCONNECT with a body in 3.1.1", 4, "e001 00", "long"),
    ("DISCONNECT with a reason it cannot have", 5, "e001 10", "reason"),
    ("CONNACK flags", 4, "2002 02 00", "connack"),
    ("SUBACK without reasons", 4, "9002 0001", "short"),
    ("long form of a property length", 5, "3007 0001 61 8100 0101", "varint"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "raw", "code"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_malformed_packets_are_refused_with_their_code(protocol: int | None, raw: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        feed(protocol, raw)
    assert caught.value.code == f"mqtt.malformed.{code}"
    assert caught.value.facts["reason"] in mqtt.DISCONNECT_REASONS


@pytest.mark.parametrize("level", ["03", "06", "84"])
def test_other_versions_are_refused_as_such(level: str) -> None:
    with pytest.raises(Refused, match=r"mqtt\.version"):
        feed(None, f"100c 0004 4d515454 {level} 02 0000 0000")


def test_a_declared_length_above_the_limit_is_refused_before_a_byte_of_it_is_kept() -> None:
    with pytest.raises(Refused, match=r"mqtt\.too_large"):
        feed(4, "30 80800a", limit=100_000)


def test_any_cut_of_the_stream_gives_the_same_packets() -> None:
    packets = [mqtt.Publish("a/b", bytes(200), 1, 7), mqtt.Pingreq(), mqtt.Publish("a", b"x", 0), mqtt.Puback(3)]
    stream = b"".join(mqtt.encode(packet, 4) for packet in packets)
    for first in range(len(stream)):
        for second in (first, min(first + 1, len(stream)), len(stream) - 1):
            decoder = mqtt.Decoder(4)
            parts = stream[:first], stream[first : max(first, second)], stream[max(first, second) :]
            assert [packet for part in parts for packet in decoder.feed(part)] == packets
            assert decoder.held_bytes == 0


def test_joined_pubacks_are_the_single_ones_in_a_row() -> None:
    joined = mqtt.encode_pubacks([1, 258, 65_535])
    assert joined == b"".join(mqtt.encode(mqtt.Puback(packet_id), 5) for packet_id in (1, 258, 65_535))


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a/#", "a", True), ("a/#", "a/b/c", True), ("a/+", "a/b", True), ("a/+", "a/b/c", False), ("+", "/a", False),
        ("+/+", "/a", True), ("#", "$SYS/x", False), ("a/b", "a/b", True), ("a", "a/b", False), ("a/+/c", "a//c", True),
    ],
)  # fmt: skip
def test_filters_match_as_section_47_says(pattern: str, topic: str, *, expected: bool) -> None:
    assert mqtt.matches(pattern, topic) is expected


@pytest.mark.parametrize(
    "packet",
    [
        mqtt.Publish("a/#", b""), mqtt.Publish("a", b"", 1, 0), mqtt.Publish("a", b"", 3, 1), mqtt.Publish("", b""),
        mqtt.Puback(0), mqtt.Puback(1, 0x42), mqtt.Subscribe(1, ()), mqtt.Connect("a\0"), mqtt.Publish("a" * 65_536, b""),
        mqtt.Connack(properties=mqtt.Properties(topic_alias=1)),
    ],
)  # fmt: skip
def test_what_a_peer_would_refuse_is_not_sent(packet: mqtt.Packet) -> None:
    with pytest.raises(Refused):
        mqtt.encode(packet, 5)
