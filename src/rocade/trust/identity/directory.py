"""The identity directory of a party: what it needs to prove itself and to check others, as a few files.

    key.pem          private key, mode 0600
    certificate.pem  leaf, then its intermediate
    trust.pem        the region's root
    issuers.json     the region's signed issuer table
    birth.certificate.pem, birth.key.pem   (vehicles) birth certificate, its intermediate and its key

Each file is replaced whole. A new pair is first written as one file, `next.pem`, then moved into the two; after a crash
in between `settle` finishes the move, so key and certificate never stay apart. A `next.pem` whose bits turned meanwhile replaces nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from rocade.core.errors import Misconfigured, RocadeError
from rocade.core.identifiers import Identity
from rocade.trust.identity.issuers import IssuerTable, to_us
from rocade.trust.identity.keys import PrivateKey, read_private, write_atomically, write_private
from rocade.trust.identity.names import read_name

_log = logging.getLogger(__name__)


class Credential(msgspec.Struct, frozen=True):
    """A key with its certificate chain and what is needed to check others."""

    key_pem: bytes
    chain_pem: bytes
    trust_pem: bytes
    issuers_json: bytes

    def write(self, directory: Path) -> None:
        """Write the identity directory."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(directory / "trust.pem", self.trust_pem)
        write_atomically(directory / "issuers.json", self.issuers_json)
        replace_pair(directory, self.key_pem, self.chain_pem)


def replace_pair(directory: Path, key_pem: bytes, chain_pem: bytes, name: str = "") -> None:
    """Replace key and certificate together; `name` is "" or "birth."."""
    write_private(directory / f"{name}next.pem", key_pem + chain_pem)
    _move_pair(directory, key_pem, chain_pem, name)


def settle(directory: Path) -> None:
    """Finish a replacement that a crash interrupted; free when there is none."""
    for name in ("", "birth."):
        try:
            both = (directory / f"{name}next.pem").read_bytes()
        except FileNotFoundError:
            continue
        begin = both.find(b"-----BEGIN CERTIFICATE")
        if _is_pair(both[:begin], both[begin:]):
            _move_pair(directory, both[:begin], both[begin:], name)
        elif _is_pair(_content(directory / f"{name}key.pem"), _content(directory / f"{name}certificate.pem")):
            _log.error("%snext.pem is damaged; the pair before it goes on, and is renewed again", name)
            (directory / f"{name}next.pem").unlink()
        else:
            raise Misconfigured("trust.directory.unreadable", f"{name}next.pem is damaged; enrol again")


def _is_pair(key_pem: bytes, chain_pem: bytes) -> bool:
    try:
        key = serialization.load_pem_private_key(key_pem, None)
        leaf, *above = x509.load_pem_x509_certificates(chain_pem)
        for issuer in above[:1]:
            leaf.verify_directly_issued_by(issuer)
        return leaf.public_key() == key.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
        return False


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _move_pair(directory: Path, key_pem: bytes, chain_pem: bytes, name: str) -> None:
    write_private(directory / f"{name}key.pem", key_pem)
    write_atomically(directory / f"{name}certificate.pem", chain_pem)
    (directory / f"{name}next.pem").unlink()


def load_key(directory: Path) -> PrivateKey:
    settle(directory)
    return read_private(directory / "key.pem")


def load_leaf(directory: Path, name: str = "certificate.pem") -> x509.Certificate:
    """The party's own certificate.

    Raises: Misconfigured `trust.directory.missing`, `trust.directory.unreadable`.
    """
    try:
        return x509.load_pem_x509_certificates((directory / name).read_bytes())[0]
    except FileNotFoundError:
        raise Misconfigured("trust.directory.missing", f"{directory.name} has no {name}; enrol first") from None
    except (ValueError, x509.InvalidVersion):
        raise Misconfigured("trust.directory.unreadable", f"{name} holds no certificate") from None


def load_identity(directory: Path) -> Identity:
    """Who this directory is, read from its own certificate (others verify it; the owner only reads it).

    Raises: Misconfigured as `load_leaf` and `names_of`; Refused `trust.certificate.*` for a name that is none.
    """
    return read_name(names_of(load_leaf(directory)), "service")


def names_of(leaf: x509.Certificate) -> x509.SubjectAlternativeName:
    """Of the owner's certificate. Raises: Misconfigured `trust.directory.unreadable`."""
    try:
        return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Misconfigured("trust.directory.unreadable", "certificate.pem names nobody") from None


def load_root(trust_pem: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(trust_pem.read_bytes())
    except (FileNotFoundError, ValueError, x509.InvalidVersion):
        raise Misconfigured("trust.root.missing", f"{trust_pem.name} holds no root certificate") from None


def load_issuers(directory: Path) -> IssuerTable:
    """The issuer table beside the identity, checked against the root beside it."""
    return IssuerTable.load((directory / "issuers.json").read_bytes(), load_root(directory / "trust.pem"))


class LiveIssuers:
    """The issuer table of a long-running process: read again when its file changes, as after a roll.

    A new file that does not hold keeps the old table in use, and says so in the log.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stamp = stamp_of(directory / "issuers.json")
        self._table = load_issuers(directory)

    @property
    def table(self) -> IssuerTable:
        stamp = stamp_of(self._directory / "issuers.json")
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                sealed = (self._directory / "issuers.json").read_bytes()
                self._table = IssuerTable.load(sealed, self._table.root, self._table.version)
            except (OSError, RocadeError) as error:
                _log.warning("issuer table kept: %s", error)
        return self._table


def stamp_of(file: Path) -> tuple[int, int]:
    """Changes when the file is replaced."""
    status = file.stat()
    return status.st_mtime_ns, status.st_ino


def renewal_due_us(leaf: x509.Certificate) -> int:
    """When two thirds of the certificate's life are over."""
    begin, end = to_us(leaf.not_valid_before_utc), to_us(leaf.not_valid_after_utc)
    return begin + (end - begin) * 2 // 3


def leaf_der(chain_pem: bytes) -> bytes:
    return x509.load_pem_x509_certificates(chain_pem)[0].public_bytes(Encoding.DER)
