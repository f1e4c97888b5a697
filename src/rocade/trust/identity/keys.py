"""Private keys: P-256 only, kept behind `Custody`, and the certificate signing requests they sign.

Files have mode 0600, in a 0700 directory, and are written whole or not at all; a key that others can read is refused. A PKCS#11 custody later returns an object of the same `ec.EllipticCurvePrivateKey` interface and
needs no other change. The root's key belongs in a custody of its own, off the running machine.
Why P-256: docs/decisions/0007-certificates.md. A secret of plain bytes stands with a digest of it, so that one whose bits have
turned is refused instead of used (a P-256 key in PEM holds its public half, and does not load when the two differ).
"""

from __future__ import annotations

import hmac
import os
import stat
import threading
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rocade.core.errors import Corrupt, Misconfigured, Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import Random

type PrivateKey = ec.EllipticCurvePrivateKey
type PublicKey = ec.EllipticCurvePublicKey

CSR_LIMIT_BYTES = 8 * 1024
SECRET_BYTES = 32


class Custody(Protocol):
    """Where an authority's keys live. A key object signs; whether its number can be read is the custody's business."""

    def create(self) -> PrivateKey:
        """A new P-256 key that stays here and is found again by its key id."""
        ...

    def find(self, wanted: bytes) -> PrivateKey | None:
        """The key with this key id, None if it is not here."""
        ...


class FileCustody:
    """Keys as `<key id>.pem` files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self) -> PrivateKey:
        key = new_key()
        keep_private(self._path(key_id(key.public_key())), key)
        return key

    def find(self, wanted: bytes) -> PrivateKey | None:
        """Raises: as `read_private`."""
        return read_private(self._path(wanted)) if self._path(wanted).exists() else None

    def _path(self, wanted: bytes) -> Path:
        return self._directory / f"{wanted.hex()}.pem"


def create_private(path: Path) -> PrivateKey:
    """Make a key and keep it in this file."""
    key = new_key()
    keep_private(path, key)
    return key


def keep_private(path: Path, key: PrivateKey) -> None:
    """Keep a key in a new file; an existing one is never overwritten (FileExistsError)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        raise FileExistsError(path)
    write_private(path, to_pem(key))


def new_key() -> PrivateKey:
    """Draw a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_id(key: PublicKey) -> bytes:
    """SHA-1 of the public key bits, the usual X.509 key identifier: a name, not a protection. Source: RFC 5280 4.2.1.2."""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest


def point_of(key: PublicKey) -> bytes:
    """The public key as a compressed point, 33 bytes."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def key_of_point(point: bytes) -> PublicKey:
    """The P-256 key of a point. Raises: ValueError."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def to_pem(key: PrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def write_private(path: Path, content: bytes) -> None:
    """Write a file only its owner can read, durable and whole: a crash leaves the old file or the new one."""
    write_atomically(path, content, 0o600)


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")  # two threads are two writers
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_private(path: Path) -> PrivateKey:
    """Load a PEM key.

    Raises: Misconfigured `trust.key.missing`, `trust.key.exposed` (readable by others), `trust.key.unreadable`.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except FileNotFoundError:
        raise Misconfigured("trust.key.missing", f"no key file {path.name}; enrol first") from None
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured("trust.key.exposed", f"{path.name} can be read by others; chmod 600 it, or replace the key")
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Misconfigured("trust.key.unreadable", f"{path.name} holds no unencrypted PEM key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured("trust.key.unreadable", f"{path.name} holds no P-256 key")
    return key


def create_secret(path: Path, random: Random) -> None:
    """Draw a secret of 32 bytes into a new file; of several processes that do so at once the first one's counts."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = random.bits(8 * SECRET_BYTES).to_bytes(SECRET_BYTES)
    draft = path.with_name(f".{path.name}.{random.bits(64):016x}")
    write_private(draft, secret + _digest(secret))
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def read_secret(path: Path) -> bytes:
    """A secret that stands as it was written; one from before there was a digest gets it now.

    Raises: Corrupt `trust.secret.damaged`; FileNotFoundError.
    """
    content = path.read_bytes()
    secret, digest = content[:SECRET_BYTES], content[SECRET_BYTES:]
    if len(content) == SECRET_BYTES:
        write_private(path, secret + _digest(secret))
    elif not hmac.compare_digest(digest, _digest(secret)):
        raise Corrupt(
            "trust.secret.damaged", f"{path.name} is not the secret that was written; put the backup of the keys back"
        )
    return secret


def _digest(secret: bytes) -> bytes:
    return sha256(b"rocade secret" + secret).digest()


def csr(key: PrivateKey, identity: Identity | None = None) -> bytes:
    """A DER signing request. It proves possession of the key; what it says about identity is never trusted."""
    name = [x509.NameAttribute(NameOID.COMMON_NAME, identity.id)] if identity else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(name))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def read_csr(der: bytes) -> PublicKey:
    """The public key of a request whose signature holds.

    Raises: Refused `trust.request.size`, `.malformed`, `.key` (not P-256), `.signature`.
    """
    if len(der) > CSR_LIMIT_BYTES:
        raise Refused("trust.request.size", f"a signing request may have {CSR_LIMIT_BYTES} bytes")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        valid = request.is_signature_valid
    except Exception:  # the parser raises many types on hostile bytes; every one of them means the same here
        raise Refused("trust.request.malformed", "this is no PKCS#10 signing request") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused("trust.request.key", "the request's key must be on curve P-256")
    if not valid:
        raise Refused("trust.request.signature", "the request is not signed by its own key")
    return key
