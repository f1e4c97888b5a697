"""Damaged MQTT never surprises the decoder: it gives packets or a refusal, whatever the cut of the stream.

A seeded, structure-aware fuzz: valid packets of both versions are damaged (bytes changed, cut, doubled, lengths
rewritten, packets spliced) and fed whole and in pieces. Accepted packets must survive encoding and decoding again. To
show that the fuzz can find something, known mistakes are planted into the decoder's source and must be found.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from random import Random

import pytest

from rocade.core.errors import Refused
from rocade.wire import mqtt
from rocade.wire.mqtt import decoding

ROUNDS = 40_000
FREE_FORM = (mqtt.Puback, mqtt.Pubrec, mqtt.Pubrel, mqtt.Pubcomp, mqtt.Disconnect, mqtt.Auth)
"""Packets with more than one valid form (reason and properties may be left out)."""
PROPERTIES = mqtt.Properties(user_properties=(("a", "b"),), content_type="x", message_expiry_interval_s=5)
SEEDS = {
    4: [
        mqtt.Publish("rocade/v1/VF1/up/batch", b"body" * 9, 1, 7), mqtt.Publish("a", b""), mqtt.Puback(9), mqtt.Pingreq(),
        mqtt.Subscribe(3, (mqtt.Subscription("a/+/#", 1),)), mqtt.Unsubscribe(4, ("a/b",)), mqtt.Suback(3, (1, 0x80)),
        mqtt.Disconnect(), mqtt.Publish("a", bytes(150), 2, 3, retain=True), mqtt.Unsuback(3), mqtt.Pubrel(1),
    ],
    5: [
        mqtt.Publish("rocade/v1/VF1/up/json", b"body" * 40, 1, 7, properties=PROPERTIES), mqtt.Publish("a", b"b", 1, 1),
        mqtt.Puback(9, 0x97, mqtt.Properties(reason_string="quota")), mqtt.Pingresp(), mqtt.Auth(0x18, mqtt.Properties(authentication_method="m")),
        mqtt.Subscribe(3, (mqtt.Subscription("$share/g/a", 1),), mqtt.Properties(subscription_identifiers=(200,))),
        mqtt.Connack(False, 0, mqtt.Properties(receive_maximum=9, maximum_qos=1)), mqtt.Disconnect(0x8B), mqtt.Unsuback(5, (0x11,)),
    ],
    None: [
        mqtt.Connect("car", 4, will=mqtt.Will("w", b"gone", 1), username="u", password=b"p"),
        mqtt.Connect("car", 5, properties=mqtt.Properties(receive_maximum=20, user_properties=(("k", "v"),))),
        mqtt.Connect("", 5, will=mqtt.Will("w", b"", 2, True, mqtt.Properties(will_delay_interval_s=1))),
    ],
}  # fmt: skip


def damage(raw: bytes, other: bytes, random: Random) -> bytes:
    out = bytearray(raw)
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        at = random.randrange(len(out)) if out else 0
        match random.randrange(7):
            case 0 if out:
                out[at] = random.choice((0, 1, 2, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 1 if out:
                out[at] ^= 1 << random.randrange(8)
            case 2:
                del out[at : at + random.randrange(1, 5)]
            case 3:
                out[at:at] = random.randbytes(random.randrange(1, 4))
            case 4:
                out = out[:at] + other[random.randrange(len(other)) :]
            case 5 if len(out) > 2:
                out[1] = (out[1] + random.choice((-2, -1, 1, 2))) % 256
            case _:
                out += other
    return bytes(out)


def fuzz(decoder: type[mqtt.Decoder], seed: int, rounds: int = ROUNDS) -> str | None:
    """Return what is wrong with the decoder, or None."""
    random = Random(seed)
    valid = {protocol: [mqtt.encode(p, protocol or 5) for p in packets] for protocol, packets in SEEDS.items()}
    for _ in range(rounds):
        protocol = random.choice((4, 5, 5, None))
        raw = damage(random.choice(valid[protocol]), random.choice(valid[random.choice((4, 5))]), random)
        whole = read(decoder, protocol, [raw])
        cuts = sorted(random.randrange(len(raw) + 1) for _ in range(random.randrange(4)))
        pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        if isinstance(whole, str):
            return f"{whole} for {raw.hex()}"
        if read(decoder, protocol, pieces) != whole:
            return f"another result in pieces {[piece.hex() for piece in pieces]}"
        spoken = protocol
        for packet in whole[0]:
            spoken = packet.protocol if isinstance(packet, mqtt.Connect) else spoken
            try:
                again = decoding.Decoder(None if isinstance(packet, mqtt.Connect) else spoken)
                if again.feed(mqtt.encode(packet, spoken or 5)) != [packet]:
                    return f"{packet} does not survive encoding, from {raw.hex()}"
                is_only = whole == ([packet], "") and not isinstance(packet, FREE_FORM) and len(raw) == length_of(raw)
                if is_only and sorted(mqtt.encode(packet, spoken or 5)) != sorted(raw):
                    return f"{packet} hides something of {raw.hex()}"
            except Refused as error:
                return f"{packet} was accepted, yet {error}, from {raw.hex()}"
    return None


def length_of(raw: bytes) -> int:
    """Bytes of the first packet if its length has the shortest form, else -1 (3.1.1 allows others)."""
    size = shift = 0
    for count, byte in enumerate(raw[1:5], 1):
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return 1 + count + size if byte or count == 1 else -1
    return -1


def read(decoder: type[mqtt.Decoder], protocol: int | None, pieces: list[bytes]) -> tuple[list[mqtt.Packet], str] | str:
    """(packets before the end or the refusal, refusal code); a text when something else was raised."""
    one = decoder(protocol, 4096)
    packets: list[mqtt.Packet] = []
    for piece in pieces:
        try:
            packets += one.feed(piece)
        except Refused as error:
            return ([] if error.code.startswith("mqtt.") else packets), error.code
        except Exception as error:
            return repr(error)
    return packets, ""


@pytest.mark.parametrize("seed", [20261121, 7])
def test_damaged_packets_are_read_or_refused_and_nothing_else(seed: int) -> None:
    print(f"seed {seed}")
    assert fuzz(mqtt.Decoder, seed) is None


PLANTED = {
    "packet identifier 0 slips through": ("if packet_id == 0:", "if packet_id == -1:"),
    "a topic may reach into the next packet": ('if at > stop:\n            raise malformed("short", "a topic', 'if at < 0:\n            raise malformed("short", "a topic'),
    "an old length delays a later packet": ("        self._need = 0\n        found", "        found"),
    "the identifier is read beyond the end": ("if at > stop:\n                raise", "if at < 0:\n                raise"),
    "trailing bytes are ignored": ("        reader.finish()\n", ""),
    "flags are not looked at": ("if _FLAGS.get(kind) != head & 0x0F:", "if kind not in _FLAGS:"),
    "wildcards in topic names": ("topic = check_name(decode_text(raw))", "topic = decode_text(raw)"),
}  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_the_fuzz_finds_a_planted_bug_within_its_budget(bug: str) -> None:
    source = Path(decoding.__file__).read_text()
    right, wrong = PLANTED[bug]
    assert right in source
    module = types.ModuleType("planted")
    sys.modules["planted"] = module
    exec(compile(source.replace(right, wrong, 1), "planted", "exec"), module.__dict__)  # noqa: S102 - our own source
    found = fuzz(module.Decoder, 20261121)
    print(found)
    assert found is not None
