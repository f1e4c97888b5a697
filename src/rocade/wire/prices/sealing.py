"""Price files as they lie in caches: encrypted once for everybody, with a key that is wrapped for each point of sale.

File: nonce (12) | AES-256-GCM of the packed delta under its epoch's key, bound to list, range and epoch. Its name is the SHA-256 of
these bytes. Wrapped key: HPKE (RFC 9180, base mode, X25519, HKDF-SHA256, AES-256-GCM) bound to list and epoch.
Refuses: Refused `prices.blob.size` (truncated or longer), `prices.blob.swapped` (other bytes than the head names),
`prices.blob.sealed` (another key, list or range), `prices.epoch.wrapped` (not wrapped for this key).
"""

from __future__ import annotations

from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from rocade.core.errors import Refused
from rocade.wire.prices.model import Blob

KEY_BYTES = 32
NONCE_BYTES = 12
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def seal_blob(
    packed: bytes, key: bytes, nonce: bytes, list_id: str, span: tuple[int, int], epoch: int
) -> tuple[Blob, bytes]:
    """Encrypt a packed delta; return its description for the head, and the file. A nonce is 12 random bytes, used once."""
    content = nonce + AESGCM(key).encrypt(nonce, packed, _bound(list_id, *span, epoch))
    return Blob(sha256(content).hexdigest(), len(content), *span, epoch), content


def check_blob(blob: Blob, content: bytes) -> None:
    """Raises: Refused `prices.blob.size`, `.swapped`."""
    if len(content) != blob.size:
        raise Refused("prices.blob.size", f"the price file has {len(content)} bytes, its head says {blob.size}")
    if sha256(content).hexdigest() != blob.sha256:
        raise Refused("prices.blob.swapped", "the price file is not the one its head names; fetch it again")


def open_blob(blob: Blob, content: bytes, key: bytes, list_id: str) -> bytes:
    """The packed delta of a file that is what its head says.

    Raises: Refused `prices.blob.*` as named above.
    """
    check_blob(blob, content)
    bound = _bound(list_id, blob.from_seq, blob.to_seq, blob.epoch)
    try:
        return AESGCM(key).decrypt(content[:NONCE_BYTES], memoryview(content)[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        raise Refused("prices.blob.sealed", "the price file was sealed with another key, or for another list") from None


def wrap_key(key: bytes, public: X25519PublicKey, list_id: str, epoch: int) -> bytes:
    """An epoch's key for one holder."""
    return _SUITE.encrypt(key, public, info=_info(list_id, epoch))


def unwrap_key(wrapped: bytes, private: X25519PrivateKey, list_id: str, epoch: int) -> bytes:
    """Raises: Refused `prices.epoch.wrapped`."""
    try:
        key = _SUITE.decrypt(wrapped, private, info=_info(list_id, epoch))
    except (InvalidTag, ValueError, TypeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise Refused("prices.epoch.wrapped", "this key of a price list was not wrapped for us") from None
    return key


def _bound(list_id: str, from_seq: int, to_seq: int, epoch: int) -> bytes:
    return f"rocade price file|{list_id}|{from_seq}|{to_seq}|{epoch}".encode()


def _info(list_id: str, epoch: int) -> bytes:
    return f"rocade price key|{list_id}|{epoch}".encode()
