"""How keys are wrapped: a data key by its bucket's key, a bucket's key by the region key in custody; each bound to its place."""

from __future__ import annotations

import os
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rocade.core.errors import Corrupt

KEY_BYTES = 32
NONCE_BYTES = 12
_NAME = Struct(">QHH")


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def bucket_aad(bucket: int, generation: int) -> bytes:
    return f"rocade bucket {bucket} {generation}".encode()


def wrap_key(cipher: AESGCM, owner: int, group: int, bucket: int, key: bytes) -> bytes:
    """Shape: nonce 12, ciphertext 32, tag 16."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, key, _NAME.pack(owner, group, bucket))


def unwrap_key(cipher: AESGCM, owner: int, group: int, bucket: int, wrapped: bytes) -> bytes:
    """Raises: Corrupt `custody.key`."""
    try:
        return cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _NAME.pack(owner, group, bucket))
    except InvalidTag:
        raise Corrupt("custody.key", "a data key does not open with its bucket's key: changed, or moved") from None
