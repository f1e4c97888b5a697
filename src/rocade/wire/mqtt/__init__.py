"""MQTT 3.1.1 and 5 as pure `bytes <-> packet`, both directions: the door and the vehicle's agent use the same codec.

Flow: bytes from anywhere -> `Decoder.feed` -> packets; `encode(packet, protocol)` -> bytes. Nothing is guessed: whatever
the two standards do not allow raises `Refused` with code `mqtt.malformed.<what>`, `mqtt.too_large` or `mqtt.version`,
and the fact `reason` holds the MQTT 5 reason code to close with.

Source: OASIS MQTT 3.1.1 (2014) and OASIS MQTT 5.0 (2019). Why own: docs/decisions/0008-mqtt-door.md.
"""

from rocade.wire.mqtt.decoding import Decoder
from rocade.wire.mqtt.encoding import encode, encode_pubacks
from rocade.wire.mqtt.packets import (
    CONNACK_REASONS,
    DISCONNECT_REASONS,
    PUBACK_REASONS,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Reason,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from rocade.wire.mqtt.properties import NO_PROPERTIES, Properties
from rocade.wire.mqtt.topics import check_filter, check_name, matches

__all__ = [
    "CONNACK_REASONS",
    "DISCONNECT_REASONS",
    "NO_PROPERTIES",
    "PUBACK_REASONS",
    "Auth",
    "Connack",
    "Connect",
    "Decoder",
    "Disconnect",
    "Packet",
    "Pingreq",
    "Pingresp",
    "Properties",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Reason",
    "Suback",
    "Subscribe",
    "Subscription",
    "Unsuback",
    "Unsubscribe",
    "Will",
    "check_filter",
    "check_name",
    "encode",
    "encode_pubacks",
    "matches",
]
