"""The identity directory of a party: what it needs to prove itself and to check others, as four or five files.

    key.pem          private key, mode 0600
    certificate.pem  leaf, then its intermediate
    trust.pem        the region's root
    issuers.json     the region's signed issuer table
    birth.pem        (vehicles) birth certificate and its intermediate, for the same key custody
    birth.key.pem    (vehicles) its key, mode 0600

Each file is replaced whole. On renewal a new key is written before the certificate that names it; `load_pair` is never
left without a matching pair because both stand in one file name each and the renewal writes `key.pem` only after the
new certificate arrived (the old pair stays valid until its own end).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rocade.core.errors import Misconfigured
from rocade.core.identifiers import Identity
from rocade.trust.identity.issuers import IssuerTable, to_us
from rocade.trust.identity.keys import PrivateKey, read_private, to_pem, write_atomically, write_private
from rocade.trust.identity.names import read_name


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
        write_private(directory / "key.pem", self.key_pem)
        write_atomically(directory / "certificate.pem", self.chain_pem)


def make_credential(key: PrivateKey, chain_pem: bytes, trust_pem: bytes, issuers_json: bytes) -> Credential:
    return Credential(to_pem(key), chain_pem, trust_pem, issuers_json)


def load_key(directory: Path) -> PrivateKey:
    return read_private(directory / "key.pem")


def load_leaf(directory: Path, name: str = "certificate.pem") -> x509.Certificate:
    """The party's own certificate.

    Raises: Misconfigured `trust.directory.missing`, `trust.directory.unreadable`.
    """
    try:
        return x509.load_pem_x509_certificates((directory / name).read_bytes())[0]
    except FileNotFoundError:
        raise Misconfigured("trust.directory.missing", f"{directory.name} has no {name}; enrol first") from None
    except ValueError:
        raise Misconfigured("trust.directory.unreadable", f"{name} holds no certificate") from None


def load_identity(directory: Path) -> Identity:
    """Who this directory is, read from its own certificate (others verify it; the owner only reads it)."""
    names = load_leaf(directory).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return read_name(names, "service")


def load_root(trust_pem: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(trust_pem.read_bytes())
    except (FileNotFoundError, ValueError):
        raise Misconfigured("trust.root.missing", f"{trust_pem.name} holds no root certificate") from None


def load_issuers(directory: Path) -> IssuerTable:
    """The issuer table beside the identity, checked against the root beside it."""
    return IssuerTable.load((directory / "issuers.json").read_bytes(), load_root(directory / "trust.pem"))


def renewal_due_us(leaf: x509.Certificate) -> int:
    """When two thirds of the certificate's life are over."""
    begin, end = to_us(leaf.not_valid_before_utc), to_us(leaf.not_valid_after_utc)
    return begin + (end - begin) * 2 // 3


def leaf_der(chain_pem: bytes) -> bytes:
    return x509.load_pem_x509_certificates(chain_pem)[0].public_bytes(Encoding.DER)
