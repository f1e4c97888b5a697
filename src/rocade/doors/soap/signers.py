"""Whose certificate signed an envelope: the region's own issuers, and issuers a region admits for signatures alone.

Point-of-sale systems of the trade sign with RSA keys; the region's certificates are on P-256. A region that wants them
names issuers of signing certificates (`Authorities`): such a leaf opens no door, it only signs, and the envelope is taken
only over a TLS connection whose own certificate, of the region, proves the same identity.

A certificate's chain is checked once and kept; its time and its revocation are asked at each use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ExtensionOID

from rocade.core.errors import Misconfigured, Refused
from rocade.core.identifiers import Identity
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.issuers import IssuerTable, to_us
from rocade.trust.identity.names import read_name

type Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

CACHED = 16_384
LEAF_LIMIT_BYTES = 8 * 1024
RSA_BITS = range(2048, 4097)
LIFE_LIMIT_US = 825 * 86_400_000_000
_HASHES = (SHA256, SHA384, SHA512)
_KNOWN = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}


class Signer(msgspec.Struct, frozen=True):
    """Who signs with a certificate, and with which key."""

    identity: Identity
    key: Key
    serial: int
    not_before_us: int
    not_after_us: int


class Signers(Protocol):
    def find(self, leaf: bytes, at_us: int) -> Signer:
        """The signer of a DER certificate. Raises: Refused `trust.certificate.*`, `soap.certificate.*`."""
        ...


class Authorities:
    """Issuers of signing certificates, from a PEM file; each is a CA certificate the region's operator chose."""

    def __init__(self, certificates: Iterable[x509.Certificate] = ()) -> None:
        self._by_name: dict[bytes, list[x509.Certificate]] = {}
        for one in certificates:
            try:
                is_authority = one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            except x509.ExtensionNotFound:
                is_authority = False
            if not is_authority:
                raise Misconfigured("soap.authorities", "a certificate among the signing authorities is no authority")
            self._by_name.setdefault(one.subject.public_bytes(), []).append(one)

    @classmethod
    def read(cls, pem: bytes) -> Authorities:
        """Raises: Misconfigured `soap.authorities`."""
        try:
            return cls(x509.load_pem_x509_certificates(pem))
        except ValueError:
            raise Misconfigured(
                "soap.authorities", "the file of signing authorities holds no PEM certificate"
            ) from None

    def check(self, leaf: bytes, issuers: IssuerTable, kinds: Collection[str], at_us: int) -> Signer | None:
        """The signer of a leaf one of these issued; None if none of them claims it.

        Raises: Refused `soap.certificate.*`, `trust.certificate.uri_*`, `trust.certificate.name_*`.
        """
        try:
            certificate = x509.load_der_x509_certificate(leaf)
            extensions = {one.oid: one for one in certificate.extensions}
            key = certificate.public_key()
        except Exception:  # the parser raises many types on hostile bytes; the region's own check names the reason
            return None
        issuer = self._issuer(certificate)
        if issuer is None:
            return None
        if not certificate.not_valid_before_utc >= issuer.not_valid_before_utc or at_us > to_us(
            issuer.not_valid_after_utc
        ):
            raise Refused("soap.certificate.issuer", "the authority of the signing certificate is not valid now")
        _check_leaf(certificate, extensions)
        if isinstance(key, rsa.RSAPublicKey):
            is_sound = key.key_size in RSA_BITS and key.public_numbers().e >= 65_537
        else:
            is_sound = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in {"secp256r1", "secp384r1"}
        if not is_sound or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise Refused("soap.certificate.key", "a signing key is RSA of 2048 to 4096 bits, or on P-256 or P-384")
        names = extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        identity = read_name(names.value if names else None, "signer")
        if identity.trust_domain != issuers.trust_domain or identity.kind not in kinds:
            raise Refused("soap.certificate.name", "the signing certificate names nobody who may sign here")
        begin_us, end_us = to_us(certificate.not_valid_before_utc), to_us(certificate.not_valid_after_utc)
        if end_us - begin_us > LIFE_LIMIT_US:
            raise Refused("soap.certificate.life", "a signing certificate lives for at most 825 days")
        last_us = min(end_us, to_us(issuer.not_valid_after_utc))
        return Signer(identity, key, certificate.serial_number, begin_us, last_us)

    def _issuer(self, certificate: x509.Certificate) -> x509.Certificate | None:
        for issuer in self._by_name.get(certificate.issuer.public_bytes(), ()):
            try:
                certificate.verify_directly_issued_by(issuer)
            except (InvalidSignature, ValueError, TypeError):
                continue
            return issuer
        return None


def _check_leaf(certificate: x509.Certificate, extensions: dict[x509.ObjectIdentifier, x509.Extension]) -> None:  # type: ignore[type-arg]
    """A leaf that may sign, made with a digest of today, and without a critical extension unknown here."""
    if not isinstance(certificate.signature_hash_algorithm, _HASHES):
        raise Refused("soap.certificate.algorithm", "the signing certificate was made with a weak digest")
    constraints = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage = extensions.get(ExtensionOID.KEY_USAGE)
    if constraints is not None and constraints.value.ca:
        raise Refused("soap.certificate.usage", "an authority's certificate signs no envelope")
    if usage is None or not usage.value.digital_signature or usage.value.key_cert_sign:
        raise Refused("soap.certificate.usage", "the key usage of a signing certificate is digital signature")
    if any(one.critical and oid not in _KNOWN for oid, one in extensions.items()):
        raise Refused("soap.certificate.usage", "the signing certificate has a critical extension unknown here")


class RegionSigners:
    """The signers of a region. `kinds` are those whose envelopes are welcome."""

    def __init__(
        self,
        issuers: Callable[[], IssuerTable],
        kinds: Collection[str],
        is_revoked: Callable[[int], bool],
        authorities: Authorities | None = None,
    ) -> None:
        self._issuers = issuers
        self._kinds = frozenset(kinds)
        self._is_revoked = is_revoked
        self._authorities = authorities or Authorities()
        self._known: dict[bytes, tuple[IssuerTable, Signer]] = {}

    def find(self, leaf: bytes, at_us: int) -> Signer:
        """Raises: Refused `trust.certificate.*`, `soap.certificate.*`."""
        issuers = self._issuers()
        known = self._known.get(leaf)
        if known is None or known[0] is not issuers:
            known = issuers, self._check(leaf, issuers, at_us)
            if len(self._known) >= CACHED:
                self._known.pop(next(iter(self._known)))
            self._known[leaf] = known
        signer = known[1]
        if at_us >= signer.not_after_us + 1_000_000:
            raise Refused("trust.certificate.expired", "the signing certificate has expired; renew it")
        if at_us < signer.not_before_us:
            raise Refused(
                "trust.certificate.not_yet_valid", "the signing certificate is not valid yet; check the clock"
            )
        if self._is_revoked(signer.serial):
            raise Refused("trust.certificate.revoked", "the signing certificate was revoked; enrol again")
        return signer

    def _check(self, leaf: bytes, issuers: IssuerTable, at_us: int) -> Signer:
        if len(leaf) > LEAF_LIMIT_BYTES:
            raise Refused("trust.certificate.size", f"a certificate may have {LEAF_LIMIT_BYTES} bytes")
        foreign = self._authorities.check(leaf, issuers, self._kinds, at_us)
        if foreign is not None:
            return foreign
        proven = verify_leaf(leaf, issuers, at_us, self._kinds)
        key = x509.load_der_x509_certificate(leaf).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return Signer(proven.identity, key, proven.serial, proven.not_before_us, proven.not_after_us)
