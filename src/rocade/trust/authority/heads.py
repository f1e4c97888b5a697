"""What the audit log keeps apart from the database: the signing key, signed tree heads and every leaf's hash.

    key.pem     the key that signs tree heads
    key.json    its public half, signed by the region's root
    heads       one signed tree head a line, appended
    leaves      32 bytes per entry at 32 x position: the leaf's hash, or zeros where this machine did not write it

A head proves that something before it changed, was dropped, or is missing at the end; the leaves say which entry. Both
belong copied to a machine of somebody else now and then: whoever can rewrite database and files can rewrite both.

Every bit of `heads` counts: a line is, byte for byte, what was signed, or the beginning of a head that the database has
(a write that a crash or a full disk cut off; the next head then begins a line of its own). Anything else is damage, which
`verify` names and `rewrite_heads` mends, the old file beside the new one.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

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
    "KeptHeads",
    "Written",
    "create_key",
    "load_public_key",
    "read_head",
    "read_heads",
    "rewrite_heads",
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
        self._leaves = os.open(directory / "leaves", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._heads = directory / "heads"
        self._writing = threading.Lock()

    def add(self, written: Written) -> None:
        """Keep what a commit added; the head is written after the leaves it covers.

        Raises: OSError; what was cut off by it is told from damage.
        """
        with self._writing:
            self._add(written)

    def _add(self, written: Written) -> None:
        if written.leaves:
            _put_leaves(self._leaves, b"".join(written.leaves), written.first * HASH_BYTES)
        if written.signed_head is not None:
            os.fdatasync(self._leaves)
            with _locked(self._heads) as file:
                size = os.fstat(file).st_size
                is_whole = size == 0 or os.pread(file, 1, size - 1) == b"\n"
                rest = memoryview((b"" if is_whole else b"\n") + written.signed_head + b"\n")
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.fdatasync(file)

    def close(self) -> None:
        """Of a thread that a slow disk still holds the file stays open: closed, its number could soon be another file's."""
        if self._writing.acquire(blocking=False):
            try:
                os.fdatasync(self._leaves)
                os.close(self._leaves)
                self._leaves = -1
            finally:
                self._writing.release()


class KeptHeads(NamedTuple):
    """What the file `heads` holds: the heads, and the numbers of lines that are neither a head nor the beginning of one."""

    signed: list[bytes]
    damaged: list[int]


def read_heads(content: bytes, key: PublicKey, known: Collection[bytes]) -> KeptHeads:
    """The lines of the file, each checked to its last bit; `known`: the signed heads of the database, read after the file."""
    kept = KeptHeads([], [])
    *lines, tail = content.split(b"\n")
    for number, line in enumerate([*lines, tail] if tail else lines, 1):
        try:
            read_head(line, key)
            kept.signed.append(line)
        except Corrupt:
            if not line or not any(head.startswith(line) for head in known):
                kept.damaged.append(number)
    return kept


def rewrite_heads(path: Path, key: PublicKey, known: Collection[bytes], now_us: int) -> Path:
    """Write the file anew from its own good lines and the database's heads; where the damaged one stands now."""
    with _locked(path) as file:
        signed = {*known, *read_heads(_content(file), key, known).signed}
        whole = sorted(signed, key=lambda one: (read_head(one, key).size, one))
        aside = path.with_name(f"{path.name}.{now_us}.damaged")
        aside.hardlink_to(path)
        write_atomically(path, b"".join(one + b"\n" for one in whole), 0o600)
    return aside


def _put_leaves(file: int, hashes: bytes, at: int) -> None:
    """Whole hashes only: of one that was cut off nothing stays, or it would be taken for a changed one."""
    done = 0
    try:
        while done < len(hashes):
            done += os.pwrite(file, hashes[done:], at + done)
    except OSError:
        with suppress(OSError):
            os.pwrite(file, bytes(done % HASH_BYTES), at + done - done % HASH_BYTES)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file of heads, open to append, nobody else's meanwhile; one that was written anew while we waited is opened again."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield file
                return
        finally:
            os.close(file)


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


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
    """A head of this key, byte for byte as it was signed. Raises: Corrupt `audit.head`."""
    try:
        payload = envelope.unseal(HEAD_TYPE, signed, {key_id(key).hex(): key})
        head = msgspec.json.decode(payload, type=Head)
    except (Refused, msgspec.MsgspecError):
        raise Corrupt("audit.head", "a tree head is not what was signed") from None
    if not envelope.is_canonical(signed) or msgspec.json.encode(head) != payload:
        raise Corrupt("audit.head", "a tree head does not stand as it was signed")
    return head
