"""Two statements about keys: which encryption keys a party wants used for it, and which certificates no longer count."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rocade.core.errors import Refused
from rocade.wire.exchange.messages import UNREADABLE

KEYS_TYPE = "application/vnd.rocade.encryption-keys+json"
REVOCATIONS_TYPE = "application/vnd.rocade.revocations+json"
KEY_BYTES = 32
MOST_KEYS = 4


class EncryptionKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A raw X25519 public key and when it ends."""

    key: bytes
    not_after_us: int


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`up/keys`, sealed as `KEYS_TYPE`: every encryption key the sender can open now, the newest first."""

    encryption_keys: Annotated[tuple[EncryptionKey, ...], Meta(min_length=1, max_length=MOST_KEYS)]
    at_us: int


class RevocationList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`down/revocations`, sealed as `REVOCATIONS_TYPE`. A later list has a higher number; an older one is never taken.

    `revoked` holds (serial in hexadecimal, instant) of every revoked certificate of a dealer, partner or service that has not ended.
    """

    region: str
    number: int
    at_us: int
    revoked: tuple[tuple[str, int], ...]


def read_keys(payload: bytes) -> Keys:
    """Raises: Refused `exchange.keys.malformed`."""
    try:
        keys = msgspec.json.decode(payload, type=Keys)
    except UNREADABLE as error:
        raise Refused("exchange.keys.malformed", f"these are no encryption keys: {str(error)[:160]}") from None
    if any(len(one.key) != KEY_BYTES for one in keys.encryption_keys):
        raise Refused("exchange.keys.malformed", f"an encryption key has {KEY_BYTES} bytes (X25519)")
    return keys


def read_revocations(payload: bytes, newer_than: int = -1) -> RevocationList:
    """Raises: Refused `exchange.revocations.malformed`, `exchange.revocations.older` (a list rolled back)."""
    try:
        found = msgspec.json.decode(payload, type=RevocationList)
    except UNREADABLE as error:
        raise Refused("exchange.revocations.malformed", f"this is no revocation list: {str(error)[:160]}") from None
    if found.number < newer_than:
        raise Refused("exchange.revocations.older", f"a list numbered {newer_than} was seen already")
    return found
