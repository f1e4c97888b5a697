"""The one strict certificate check: DER bytes in, a proven identity out, or a refusal with its own code.

Every door, agent and service calls `verify_leaf`; no other code reads an identity out of a certificate. In order:
  1. bytes: size, one whole canonical DER value, version 3, serial, algorithms on the allow list;
  2. issuer: found in the region's issuer table by authority key id, same name, its key verifies the signature;
  3. time: of the issuer and of the leaf; then the deny set;
  4. role: no CA, exact key usage, exact extended key usage of its kind, no critical extension unknown here;
  5. name: exactly one URI `spiffe://<trust domain>/<region>/<kind>/<id>`, read strictly (`names.read_uri`), nothing else
     beside it (a service may add host names and addresses); region and kind are the issuer's pair in the table.
It refuses whatever it does not know. TLS has checked the chain before; this check does not lean on that.
Codes: `trust.certificate.<reason>`, listed in docs/trust.md. Source: RFC 5280, SPIFFE X.509-SVID, and
docs/decisions/0007-certificates.md. Cost: 0.15 ms, two thirds of it the signature.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.trust.identity import der
from rocade.trust.identity.issuers import Issuer, IssuerTable, Purpose, to_us
from rocade.trust.identity.names import EMPTY_NAME, check_subject, common_name, read_name

LIMIT_BYTES = 8 * 1024
SERIAL_LIMIT = 1 << 159
"""Serials are positive and fit 20 octets. Source: RFC 5280 4.1.2.2."""

_SIGNATURES = {
    bytes.fromhex("300a06082a8648ce3d040302"): ec.ECDSA(SHA256()),
    bytes.fromhex("300a06082a8648ce3d040303"): ec.ECDSA(SHA384()),
}
"""Allowed AlgorithmIdentifiers, as DER: ecdsa-with-SHA256 and ecdsa-with-SHA384, both without parameters."""
_CURVES = {"secp256r1", "secp384r1"}
_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_KNOWN = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
}

type _Extensions = dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]


class Verified(msgspec.Struct, frozen=True):
    """What a certificate that passed proves."""

    identity: Identity
    serial: int
    not_before_us: int
    not_after_us: int
    issuer_key_id: bytes

    @property
    def reference(self) -> str:
        """How logs and audit name this party: a vehicle by its certificate (its URI holds the VIN), others by URI."""
        return reference(self.identity, self.serial)


def reference(identity: Identity, serial: int) -> str:
    return f"certificate:{serial:x}" if identity.kind == "vehicle" else identity.uri


def verify_leaf(
    leaf: bytes,
    issuers: IssuerTable,
    at_us: int,
    kinds: Collection[str],
    *,
    denied: Container[int] = (),
    purpose: Purpose = "operational",
    presented: Sequence[bytes] = (),
) -> Verified:
    """Check one leaf certificate (DER) and return whom it proves.

    `kinds` are the kinds welcome here; `denied` holds revoked serials (a `DenySet`); `purpose` "birth" is for
    re-enrolment alone; `presented` are further certificates the peer sent, read only to name a better reason.
    Raises: Refused `trust.certificate.<reason>`.
    """
    certificate = _parse(leaf)
    extensions = _extensions(certificate)
    fields = der.fields(leaf)
    issuer = _find_issuer(fields, extensions, issuers, presented)
    _check_signature(fields, issuer)
    not_before_us, not_after_us = _check_time(certificate, issuer, at_us)
    if certificate.serial_number in denied:
        raise refuse("revoked", "this certificate was revoked; ask the operator for a new claim code")
    _check_role(extensions, issuer.kind)
    identity = read_name(_value(extensions, x509.SubjectAlternativeName), issuer.kind)
    _check_place(identity, issuer, issuers, kinds, purpose)
    if fields.subject not in {EMPTY_NAME, common_name(identity.id)}:
        check_subject(certificate.subject, identity)
    return Verified(identity, certificate.serial_number, not_before_us, not_after_us, issuer.key_id)


def refuse(reason: str, message: str) -> Refused:
    return Refused(f"trust.certificate.{reason}", message)


def _parse(leaf: bytes) -> x509.Certificate:
    """Bytes to a certificate whose form is beyond doubt; nothing in it is believed yet."""
    if len(leaf) > LIMIT_BYTES:
        raise refuse("size", f"a certificate may have {LIMIT_BYTES} bytes")
    end = der.end_of(leaf)
    if end > len(leaf):
        raise refuse("truncated", "the certificate ends before its declared length")
    if end < len(leaf):
        raise refuse("trailing_bytes", "bytes follow the certificate")
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        version = certificate.version
        key = certificate.public_key()
        encoded = certificate.public_bytes(Encoding.DER)
    except x509.InvalidVersion:
        raise refuse("version", "only version 3 certificates are accepted") from None
    except Exception:  # the parser raises many types on hostile bytes; every one of them means refused
        raise der.explain(leaf, refuse) from None
    if encoded != leaf:
        raise refuse("not_canonical", "the certificate is not in canonical DER")
    if version is not x509.Version.v3:
        raise refuse("version", "only version 3 certificates are accepted")
    if not 0 < certificate.serial_number < SERIAL_LIMIT:
        raise refuse(*_serial_fault(certificate.serial_number))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise refuse("key_algorithm", "only elliptic-curve keys are accepted")
    if key.curve.name not in _CURVES:
        raise refuse("key_curve", "only the curves P-256 and P-384 are accepted")
    return certificate


def _serial_fault(serial: int) -> tuple[str, str]:
    if serial == 0:
        return "serial_zero", "serial number 0 names no certificate"
    if serial < 0:
        return "serial_negative", "the serial number is negative"
    return "serial_long", "the serial number has more than 20 octets"


def _extensions(certificate: x509.Certificate) -> _Extensions:
    try:
        extensions = {extension.oid: extension for extension in certificate.extensions}
    except x509.DuplicateExtension:
        raise refuse("extension_duplicated", "an extension occurs twice") from None
    except Exception:  # as above: hostile bytes inside an extension
        raise der.explain_extensions(certificate, refuse) from None
    for oid, extension in extensions.items():
        if extension.critical and oid not in _KNOWN:
            raise refuse("extension_critical", f"critical extension {oid.dotted_string} is unknown here")
    return extensions


def _value[T: x509.ExtensionType](extensions: _Extensions, kind: type[T]) -> T | None:
    extension = extensions.get(kind.oid)
    return extension.value if extension is not None and isinstance(extension.value, kind) else None


def _find_issuer(
    fields: der.Fields, extensions: _Extensions, issuers: IssuerTable, presented: Sequence[bytes]
) -> Issuer:
    authority_key = _value(extensions, x509.AuthorityKeyIdentifier)
    if authority_key is None or authority_key.key_identifier is None:
        raise refuse("authority_key_missing", "the certificate does not say by key id who issued it")
    issuer = issuers.get(authority_key.key_identifier)
    if issuer is None:
        raise _unknown_issuer(fields, authority_key.key_identifier, issuers, presented)
    if fields.issuer != issuer.name:
        raise refuse("issuer_name", "the issuer's name is not that of the key it names")
    return issuer


def _unknown_issuer(
    fields: der.Fields, authority_key: bytes, issuers: IssuerTable, presented: Sequence[bytes]
) -> Refused:
    """The reason why nobody in the table issued this, as exactly as the certificates at hand allow."""
    if fields.issuer == fields.subject:
        return refuse("self_signed", "the certificate vouches for itself")
    if authority_key == issuers.root_key_id:
        return refuse("issuer_root", "the root issues intermediates only, never a leaf")
    if fields.issuer in issuers.names:
        return refuse("issuer_forged", "an unknown key issues under the name of a known issuer")
    for other in presented:
        try:
            middle = _parse(other)
            values = _extensions(middle)
        except Refused:
            continue
        constraints, key = _value(values, x509.BasicConstraints), _value(values, x509.AuthorityKeyIdentifier)
        if (
            middle.subject.public_bytes() == fields.issuer
            and key
            and key.key_identifier
            and issuers.get(key.key_identifier)
        ):
            if constraints is None or not constraints.ca:
                return refuse("issuer_leaf", "a leaf certificate was used as issuer")
            return refuse("chain_long", "an intermediate may not issue a further intermediate")
    return refuse("issuer_unknown", "the issuer is not in the region's issuer table")


def _check_signature(fields: der.Fields, issuer: Issuer) -> None:
    if fields.inner_algorithm != fields.outer_algorithm:
        raise refuse("algorithm_mismatch", "the signed and the stated signature algorithm differ")
    if fields.unused_bits:  # the parser lets them pass: the same certificate in other bytes
        raise refuse("not_canonical", "the signature does not fill its octets")
    algorithm = _SIGNATURES.get(fields.outer_algorithm)
    if algorithm is None:
        raise refuse("algorithm", "only ECDSA with SHA-256 or SHA-384 is accepted")
    try:
        issuer.public_key.verify(fields.signature, fields.signed, algorithm)
    except InvalidSignature:
        raise refuse("signature", "the issuer's key did not sign this certificate") from None


def _check_time(certificate: x509.Certificate, issuer: Issuer, at_us: int) -> tuple[int, int]:
    """Both ends of validity are inside it. Source: RFC 5280 4.1.2.5."""
    not_before_us = to_us(certificate.not_valid_before_utc)
    not_after_us = to_us(certificate.not_valid_after_utc)
    if not_after_us < not_before_us:
        raise refuse("validity_reversed", "the certificate ends before it begins")
    if not issuer.not_before_us <= at_us < issuer.not_after_us + 1_000_000:
        raise refuse("issuer_expired", "the issuer is not valid now; the region must roll it")
    if at_us < not_before_us:
        raise refuse("not_yet_valid", "the certificate is not valid yet; check the clock")
    if at_us >= not_after_us + 1_000_000:
        raise refuse("expired", "the certificate has expired; renew it, or re-enrol with the birth certificate")
    if not_after_us > issuer.not_after_us:
        raise refuse("validity_long", "the certificate outlives its issuer")
    return not_before_us, not_after_us


def _check_role(extensions: _Extensions, kind: str) -> None:
    constraints = _value(extensions, x509.BasicConstraints)
    if constraints is None:
        raise refuse("constraints_missing", "basic constraints are missing")
    if constraints.ca:
        raise refuse("authority", "an authority's certificate is nobody's identity")
    usage = _value(extensions, x509.KeyUsage)
    if usage is None:
        raise refuse("usage_missing", "key usage is missing")
    if usage.key_cert_sign or usage.crl_sign:
        raise refuse("usage_signs", "a leaf may not sign certificates or revocation lists")
    if not usage.digital_signature:
        raise refuse("usage", "key usage must allow digital signatures")
    extended = _value(extensions, x509.ExtendedKeyUsage)
    if extended is None:
        raise refuse("purpose_missing", "extended key usage is missing")
    purposes = set(extended)
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes:
        raise refuse("purpose_any", "a certificate for any purpose is not accepted")
    wanted = {_CLIENT, _SERVER} if kind == "service" else {_CLIENT}
    if not wanted <= purposes:
        raise refuse("purpose", f"a {kind} certificate must be for TLS {'peers' if kind == 'service' else 'clients'}")
    if purposes - wanted:
        raise refuse("purpose_extra", f"a {kind} certificate may serve no further purpose")


def _check_place(
    identity: Identity, issuer: Issuer, issuers: IssuerTable, kinds: Collection[str], purpose: Purpose
) -> None:
    if identity.trust_domain != issuers.trust_domain:
        raise refuse("trust_domain", "the identity is of another trust domain")
    if identity.region != issuer.region:
        raise refuse("issuer_region", "the issuer may not issue for this region")
    if identity.kind != issuer.kind:
        raise refuse("issuer_kind", f"an issuer of {issuer.kind} certificates may not issue for another kind")
    if issuer.purpose != purpose:
        if issuer.purpose == "birth":
            raise refuse("birth", "a birth certificate is good for re-enrolment only")
        raise refuse("birth_missing", "re-enrolment after expiry needs the birth certificate")
    if identity.kind not in kinds:
        raise refuse("kind", f"no {identity.kind} is welcome here")
