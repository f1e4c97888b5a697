"""What the audit log keeps apart from the database: the signing key, signed tree heads and every leaf's hash.

    key.pem     the key that signs tree heads
    key.json    its public half, signed by the region's root
    heads       one signed tree head a line, appended
    leaves      32 bytes per entry at 32 x position: the leaf's hash, or zeros where this machine did not write it

A head proves that something before it changed, was dropped, or is missing at the end; the leaves say which entry. Both
belong copied to a machine of somebody else now and then: whoever can rewrite database and files can rewrite both.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from rocade.core.errors import Corrupt, Refused
from rocade.trust.authority.merkle import HASH_BYTES
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PrivateKey, PublicKey, create_private, key_id, write_atomically
from rocade.trust.identity.tree_heads import HEAD_TYPE, Head

__all__ = [
    "HEAD_TYPE",
    "KEY_TYPE",
    "Head",
    "Kept",
    "Written",
    "create_key",
    "load_public_key",
    "read_head",
    "read_heads",
    "sign_head",
]

KEY_TYPE = "application/vnd.rocade.audit-key"


class Written(msgspec.Struct, frozen=True):
    """What one commit added."""

    first: int
    leaves: list[bytes]
    signed_head: bytes | None


class Kept:
    """The files beside the key, as a writer uses them."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._leaves = os.open(directory / "leaves", flags, 0o600)
        self._heads = os.open(directory / "heads", flags | os.O_APPEND, 0o600)

    def add(self, written: Written) -> None:
        """Keep what a commit added; the head is written after the leaves it covers."""
        if written.leaves:
            os.pwrite(self._leaves, b"".join(written.leaves), written.first * HASH_BYTES)
        if written.signed_head is not None:
            os.fdatasync(self._leaves)
            fcntl.flock(self._heads, fcntl.LOCK_EX)
            try:
                os.write(self._heads, written.signed_head + b"\n")
                os.fdatasync(self._heads)
            finally:
                fcntl.flock(self._heads, fcntl.LOCK_UN)

    def close(self) -> None:
        os.fdatasync(self._leaves)
        os.close(self._leaves)
        os.close(self._heads)


def create_key(directory: Path, root_key: PrivateKey) -> None:
    """Make the key that signs heads; the root signs its public half."""
    key = create_private(directory / "key.pem")
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    write_atomically(directory / "key.json", envelope.seal(KEY_TYPE, public, root_key))


def load_public_key(directory: Path, root: x509.Certificate) -> PublicKey:
    """The public half, believed because the region's root signed it.

    Raises: Corrupt `audit.key`.
    """
    root_key = root.public_key()
    try:
        if not isinstance(root_key, ec.EllipticCurvePublicKey):
            raise TypeError
        sealed = (directory / "key.json").read_bytes()
        public = load_der_public_key(envelope.unseal(KEY_TYPE, sealed, {key_id(root_key).hex(): root_key}))
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise TypeError
    except (OSError, Refused, ValueError, TypeError):
        raise Corrupt("audit.key", "the audit key is missing or not signed by the region's root") from None
    return public


def sign_head(head: Head, key: PrivateKey) -> bytes:
    return envelope.seal(HEAD_TYPE, msgspec.json.encode(head), key)


def read_head(signed: bytes, key: PublicKey) -> Head:
    """Raises: Corrupt `audit.head`."""
    try:
        return msgspec.json.decode(envelope.unseal(HEAD_TYPE, signed, {key_id(key).hex(): key}), type=Head)
    except (Refused, msgspec.MsgspecError):
        raise Corrupt("audit.head", "a tree head is not what was signed") from None


def read_heads(path: Path) -> Iterator[bytes]:
    """Signed heads of a file; a line that is no envelope is a write that a crash or a full disk cut off."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        if envelope.is_envelope(line):
            yield line
