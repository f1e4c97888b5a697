"""Marks: pseudo-references of one holder alone, sealed for him, which stand in whatever leaves his store as a list.

They come with the letter on `down/epoch`. A holder's agent keeps them and writes them into every export, dump and file for
others, sorted among the parts, and shows them nowhere else: no part and no real price is touched, the state root is that of the
parts alone, and a list that leaks names the holder it leaked from.
Refuses: Refused `prices.marks.sealed` (not sealed for any key of this holder).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from rocade.core.errors import Refused

MARKS_LIMIT = 256
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A line as it is written into exports."""

    ref: str
    family: str
    label: str
    price_minor: int


class SealedMarks(msgspec.Struct, frozen=True, rename={"list_id": "list"}):
    """The marks of one list, once for each of the holder's encryption keys."""

    list_id: str
    sealed: tuple[bytes, ...]


def seal_marks(marks: Sequence[Mark], keys: Sequence[X25519PublicKey], list_id: str, site: str) -> SealedMarks:
    content, info = msgspec.json.encode(marks), _info(list_id, site)
    return SealedMarks(list_id, tuple(_SUITE.encrypt(content, key, info=info) for key in keys))


def open_marks(marks: SealedMarks, privates: Sequence[X25519PrivateKey], site: str) -> tuple[Mark, ...]:
    """Raises: Refused `prices.marks.sealed`."""
    info = _info(marks.list_id, site)
    for private in privates:
        for sealed in marks.sealed:
            try:
                found = msgspec.json.decode(_SUITE.decrypt(sealed, private, info=info), type=tuple[Mark, ...])
            except (InvalidTag, ValueError, TypeError, msgspec.MsgspecError):
                continue
            return found[:MARKS_LIMIT]
    raise Refused("prices.marks.sealed", "these marks of a price list were not sealed for any key of ours")


def _info(list_id: str, site: str) -> bytes:
    return f"rocade price marks|{list_id}|{site}".encode()
