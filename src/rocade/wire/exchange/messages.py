"""A business message, where it wants to go, and what its recipient decided.

The signed bytes are the JSON of these structs; what is compared later is their SHA-256, so nobody has to write them in one
canonical way, and a message signed again with a newer key is still the same message. Unknown fields are refused: nothing may
ride along that no reader looks at.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rocade.core.errors import Refused

MESSAGE_TYPE = "application/vnd.rocade.message+json"
DECISION_TYPE = "application/vnd.rocade.decision+json"
FORWARDED = "application/vnd.rocade.message+dsse"
"""Content type of a message whose body is another one's whole envelope: how hubs hand messages on."""
VOID = "application/vnd.rocade.void+json"
"""Content type of what stands in a stream for a message that will never come: recorded and accepted, handed to nobody."""
BODY_LIMIT_BYTES = 512 << 10
CLASSES = ("technical", "customer", "fiscal")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading bytes of others can end in: another form, no UTF-8, nested without end."""

type ContentClass = Literal["technical", "customer", "fiscal"]
type Outcome = Literal["accepted", "refused"]
type Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")]
type _Brand = Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9_-]{0,31})?\Z")]
type _Country = Annotated[str, Meta(pattern=r"^([A-Z]{2})?\Z")]
type _Service = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9-]{0,31})?\Z")]
type _Site = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z")]
type _Uri = Annotated[str, Meta(max_length=264, pattern=r"^spiffe://[!-~]+\Z")]
type Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
type _Text = Annotated[str, Meta(max_length=500)]
type _Code = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_.-]{0,99})?\Z")]
type _Instant = Annotated[int, Meta(ge=0, le=1 << 62)]


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a message wants to go; the routing table of the hub decides what that is. "" = does not matter."""

    brand: _Brand = ""
    country: _Country = ""
    service: _Service = ""
    site: _Site = ""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One business message. `id` is unique per sender; `sequence` counts 1, 2, 3... within the sender's `stream`."""

    id: Name
    sender: _Uri
    recipient: Address
    stream: Name
    sequence: Annotated[int, Meta(ge=1, le=1 << 62)]
    content_class: ContentClass
    content_type: Annotated[str, Meta(min_length=1, max_length=127)]
    created_us: _Instant
    body: bytes
    answers: Annotated[str, Meta(max_length=64)] = ""
    """Id of the message this one replies to."""


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a recipient decided about a message; signed by him as `DECISION_TYPE`."""

    sender: _Uri
    message_id: Name
    message_sha256: Digest
    outcome: Outcome
    code: _Code = ""
    reason: _Text = ""
    at_us: _Instant = 0


class Delivery(msgspec.Struct, frozen=True):
    """`down/message`: a message on its way to its recipient. `message` is the sender's envelope, signed besides by the hub."""

    cursor: int
    message: msgspec.Raw
    received_us: int = 0


def encode(value: Message | Decision) -> bytes:
    """The bytes to sign."""
    return _ENCODE(value)


def sha256_of(payload: bytes) -> str:
    """What names a message's content in receipts."""
    return sha256(payload).hexdigest()


def read_message(payload: bytes) -> Message:
    """Raises: Refused `exchange.message.malformed`, `exchange.message.size`."""
    try:
        message = _MESSAGE(payload)
    except UNREADABLE as error:
        raise Refused("exchange.message.malformed", f"this is no message: {_short(error)}") from None
    if len(message.body) > BODY_LIMIT_BYTES:
        raise Refused("exchange.message.size", f"a message's body may have {BODY_LIMIT_BYTES} bytes")
    return message


def read_decision(payload: bytes) -> Decision:
    """Raises: Refused `exchange.decision.malformed`."""
    try:
        return _DECISION(payload)
    except UNREADABLE as error:
        raise Refused("exchange.decision.malformed", f"this is no decision: {_short(error)}") from None


def read_delivery(body: bytes) -> Delivery:
    """Raises: Refused `exchange.message.malformed`."""
    try:
        return _DELIVERY(body)
    except UNREADABLE as error:
        raise Refused("exchange.message.malformed", f"this is no delivery: {_short(error)}") from None


def _short(error: Exception) -> str:
    return str(error)[:160]


_ENCODE = msgspec.json.Encoder().encode
_MESSAGE = msgspec.json.Decoder(Message).decode
_DECISION = msgspec.json.Decoder(Decision).decode
_DELIVERY = msgspec.json.Decoder(Delivery).decode
