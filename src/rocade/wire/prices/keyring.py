"""What a point of sale is given for one list besides its files: keys, who signs the heads, and its own marks. Topic `down/epoch`.

`signer` is the list-signing key in a statement of the region's root (`KEY_TYPE`); `keys` are the keys of the epochs that the
head's files were sealed in, each wrapped for every encryption key of the holder that is still good (`wrap_key`); `marks`
are pseudo-references of this holder alone, sealed for the same keys, which a holder writes into whatever leaves his
store as a list (exports, dumps, files for others), and shows nowhere else: a list that leaks then names him.
Refuses: Refused `prices.keyring.malformed`, `prices.marks.sealed` (marks not sealed for this key and holder).
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from rocade.core.errors import Refused

LIMIT_BYTES = 256 << 10
MARKS_LIMIT = 256
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Wrapped(msgspec.Struct, frozen=True, array_like=True):
    """`to`: the holder's public key, base64url of its 32 bytes; `epoch` 0 = the marks; `content`: base64."""

    epoch: int
    to: str
    content: str

    @property
    def raw(self) -> bytes:
        """Raises: Refused `prices.keyring.malformed`."""
        try:
            return base64.b64decode(self.content, validate=True)
        except binascii.Error:
            raise _malformed() from None


class Keyring(msgspec.Struct, frozen=True):
    """Everything for one list."""

    list: str
    signer: str
    keys: tuple[Wrapped, ...]
    marks: tuple[Wrapped, ...] = ()


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A pseudo-reference as it is written into exports; no part, and no real price, is touched."""

    ref: str
    family: str
    label: str
    price_minor: int


def named(key: X25519PublicKey) -> str:
    """How a keyring names a holder's key."""
    return base64.urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode()


def wrapped(epoch: int, to: X25519PublicKey, content: bytes) -> Wrapped:
    return Wrapped(epoch, named(to), base64.b64encode(content).decode())


def encode(keyring: Keyring) -> bytes:
    return msgspec.json.encode(keyring)


def decode(content: bytes) -> Keyring:
    """Raises: Refused `prices.keyring.malformed`."""
    try:
        if len(content) > LIMIT_BYTES:
            raise ValueError
        return msgspec.json.decode(content, type=Keyring)
    except (msgspec.MsgspecError, ValueError):
        raise _malformed() from None


def seal_marks(marks: tuple[Mark, ...], to: X25519PublicKey, list_id: str, site: str) -> Wrapped:
    return wrapped(0, to, _SUITE.encrypt(msgspec.json.encode(marks), to, info=_info(list_id, site)))


def open_marks(sealed: Wrapped, private: X25519PrivateKey, list_id: str, site: str) -> tuple[Mark, ...]:
    """Raises: Refused `prices.marks.sealed`, `prices.keyring.malformed`."""
    try:
        marks = msgspec.json.decode(
            _SUITE.decrypt(sealed.raw, private, info=_info(list_id, site)), type=tuple[Mark, ...]
        )
    except (InvalidTag, ValueError, TypeError, msgspec.MsgspecError):
        raise Refused("prices.marks.sealed", "these marks of a price list were not sealed for us") from None
    return marks[:MARKS_LIMIT]


def _info(list_id: str, site: str) -> bytes:
    return f"rocade price marks|{list_id}|{site}".encode()


def _malformed() -> Refused:
    return Refused("prices.keyring.malformed", "these bytes are no keyring of a price list")
