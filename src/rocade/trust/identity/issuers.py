"""The region's issuer table: which key may issue which (region, kind), signed by the region's root.

A certificate's own text never says what its issuer may do; this table does. X.509 URI name constraints would be the
textbook way and do not work: one library refuses every chain that has them, another constrains only the host part.

`issuers.json` is a DSSE envelope of the table. Loading checks the root's signature, then every entry: an intermediate of
that root, CA, path length 0, may sign certificates, subject key id equal to the entry's. `version` only grows, so that a
party never goes back to a table that still trusts a withdrawn issuer.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rocade.core.errors import Refused
from rocade.core.identifiers import KINDS
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PrivateKey, PublicKey, key_id

PAYLOAD_TYPE = "application/vnd.rocade.issuers+json"

type Purpose = Literal["operational", "birth"]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One issuer as written in the table."""

    region: str
    kind: str
    purpose: Purpose
    certificate: str


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed content."""

    trust_domain: str
    version: int
    made_at_us: int
    issuers: tuple[Entry, ...]


class Issuer:
    """One issuer, ready to verify with: parsed once, used for every certificate."""

    def __init__(self, entry: Entry, certificate: x509.Certificate, public_key: PublicKey) -> None:
        self.region = entry.region
        self.kind = entry.kind
        self.purpose = entry.purpose
        self.pem = entry.certificate
        self.certificate = certificate
        self.public_key = public_key
        self.key_id = key_id(public_key)
        self.name = certificate.subject.public_bytes()
        self.not_before_us = to_us(certificate.not_valid_before_utc)
        self.not_after_us = to_us(certificate.not_valid_after_utc)


class IssuerTable:
    """All issuers of a region by key id. Immutable; a new table is a new object."""

    def __init__(self, table: Table, root: x509.Certificate, sealed: bytes) -> None:
        self.trust_domain = table.trust_domain
        self.version = table.version
        self.made_at_us = table.made_at_us
        self.root = root
        self.root_key_id = key_id(_checked_root(root))
        self.sealed = sealed
        self.table = table
        self._issuers = {issuer.key_id: issuer for issuer in (_issuer(entry, root) for entry in table.issuers)}

    @classmethod
    def load(cls, sealed: bytes, root: x509.Certificate, at_least_version: int = 0) -> IssuerTable:
        """Open `issuers.json` and check all of it against the pinned root.

        Raises: Refused `trust.envelope.*`, `trust.issuers.malformed`, `.version`, `.root`, `.entry`.
        """
        root_key = _checked_root(root)
        payload = envelope.unseal(PAYLOAD_TYPE, sealed, {key_id(root_key).hex(): root_key})
        try:
            table = msgspec.json.decode(payload, type=Table)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Refused("trust.issuers.malformed", "the issuer table is not readable by this version") from None
        if table.version < at_least_version:
            raise Refused("trust.issuers.version", f"an issuer table older than version {at_least_version} was offered")
        return cls(table, root, sealed)

    def get(self, issuer_key_id: bytes) -> Issuer | None:
        return self._issuers.get(issuer_key_id)

    def __iter__(self) -> Iterator[Issuer]:
        return iter(self._issuers.values())

    @cached_property
    def kinds(self) -> frozenset[str]:
        return frozenset(issuer.kind for issuer in self._issuers.values())

    @cached_property
    def names(self) -> frozenset[bytes]:
        """Subject names of all issuers and of the root, DER."""
        return frozenset({issuer.name for issuer in self._issuers.values()} | {self.root.subject.public_bytes()})


def seal_table(table: Table, root_key: PrivateKey) -> bytes:
    """Sign a table: the content of `issuers.json`."""
    return envelope.seal(PAYLOAD_TYPE, msgspec.json.encode(table), root_key)


def to_us(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _checked_root(root: x509.Certificate) -> PublicKey:
    try:
        key = root.public_key()
        root.verify_directly_issued_by(root)
        is_authority = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except Exception:  # the parser raises many types on turned bits; every one of them means refused
        raise Refused("trust.issuers.root", "the root certificate is not a self-signed authority") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused("trust.issuers.root", "the root's key is of an unknown kind")
    if not is_authority:
        raise Refused("trust.issuers.root", "the root certificate is not a self-signed authority")
    return key


def _issuer(entry: Entry, root: x509.Certificate) -> Issuer:
    """Parse one entry and check that it is what the table may hold."""

    def refuse(why: str) -> Refused:
        return Refused("trust.issuers.entry", f"issuer of {entry.region}/{entry.kind}: {why}")

    if entry.kind not in KINDS:
        raise refuse("unknown kind")
    try:
        certificate = x509.load_pem_x509_certificate(entry.certificate.encode())
        key = certificate.public_key()
        certificate.verify_directly_issued_by(root)
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        subject_key = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        raise refuse("not an intermediate signed by this root") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise refuse("key is not on P-256")
    if not constraints.ca or constraints.path_length != 0 or not usage.key_cert_sign:
        raise refuse("must be an authority with path length 0 that may sign certificates")
    if subject_key.digest != key_id(key):
        raise refuse("subject key id is not its key's")
    return Issuer(entry, certificate, key)
