"""The data representations both standards share: bytes, integers, strings, and a cursor that never reads past its end.

Source: MQTT 5.0 section 1.5; MQTT 3.1.1 sections 1.5 and 2.2.3.
"""

from __future__ import annotations

from rocade.core.errors import Refused

MAX_VARINT = 268_435_455


def malformed(what: str, message: str, reason: int = 0x81) -> Refused:
    """The error for bytes that are no valid MQTT; `reason` is the MQTT 5 code to close with."""
    return Refused(f"mqtt.malformed.{what}", message, reason=reason)


class Reader:
    """A cursor over one packet's body."""

    __slots__ = ("at", "data", "stop")

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self.data = data
        self.at = at
        self.stop = stop

    def take(self, count: int) -> bytes:
        start = self.at
        self.at = start + count
        if self.at > self.stop:
            raise malformed("short", "a field reaches beyond the end of its packet")
        return self.data[start : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2))

    def u32(self) -> int:
        return int.from_bytes(self.take(4))

    def varint(self) -> int:
        """A variable byte integer in its shortest form."""
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise malformed("varint", "a variable byte integer has more than four bytes")
        if byte == 0 and shift:
            raise malformed("varint", "a variable byte integer is not in its shortest form")
        return value

    def text(self) -> str:
        return decode_text(self.take(self.u16()))

    def binary(self) -> bytes:
        return self.take(self.u16())

    def packet_id(self) -> int:
        packet_id = self.u16()
        if packet_id == 0:
            raise malformed("packet_id", "packet identifier 0 is not allowed", 0x82)
        return packet_id

    def finish(self) -> None:
        if self.at != self.stop:
            raise malformed("long", "a packet has bytes after its last field")


def decode_text(raw: bytes) -> str:
    """UTF-8 as MQTT wants it: no surrogates, no U+0000; a byte order mark is kept."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise malformed("utf8", "a string is not valid UTF-8") from error
    if "\0" in text:
        raise malformed("utf8", "a string contains U+0000")
    return text


def encode_varint(value: int) -> bytes:
    if value < 0x80:
        return value.to_bytes()
    if value > MAX_VARINT:
        raise Refused("mqtt.too_large", "more than 268,435,455 bytes cannot be one MQTT packet", reason=0x95)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_text(text: str) -> bytes:
    if "\0" in text:
        raise malformed("utf8", "a string contains U+0000")
    try:
        return encode_binary(text.encode())
    except UnicodeEncodeError as error:
        raise malformed("utf8", "a string contains a lone surrogate") from error


def encode_binary(raw: bytes) -> bytes:
    if len(raw) > 0xFFFF:
        raise malformed("long", "a string or binary field is longer than 65,535 bytes")
    return len(raw).to_bytes(2) + raw


def encode_packet_id(packet_id: int) -> bytes:
    if not 0 < packet_id <= 0xFFFF:
        raise malformed("packet_id", "a packet identifier is 1 to 65,535", 0x82)
    return packet_id.to_bytes(2)
