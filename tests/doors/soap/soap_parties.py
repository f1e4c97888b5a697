"""Those who sign envelopes in tests: a region's dealer on P-256, one with an RSA certificate of an admitted authority, the hub."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree
from tests.clocks import PassingClock

from rocade.core.ports import SystemRandom
from rocade.doors.soap import Authorities, RegionSigners, Verifier
from rocade.doors.soap.signing import Credential, SigningKey, seal
from rocade.trust.authority.region import Region, create_region

RANDOM = SystemRandom()
SITE = "FR-00123-1"
RSA_KEY = rsa.generate_private_key(65_537, 2048)
"""Made once: a key takes half a second."""


class SigningAuthority:
    """An issuer of signing certificates, as a manufacturer already runs one."""

    def __init__(self, name: str = "Signatures of the trade") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._issue(self.key.public_key(), self.name, None, is_authority=True)

    def leaf(self, key: SigningKey, uri: str, **more: object) -> bytes:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signing")])
        return self._issue(key.public_key(), subject, uri, **more).public_bytes(Encoding.DER)

    def _issue(
        self,
        key: object,
        subject: x509.Name,
        uri: str | None,
        *,
        is_authority: bool = False,
        days: int = 90,
        signs: bool = True,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650 if is_authority else days))
            .add_extension(
                x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=signs and not is_authority,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    content_commitment=not signs,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if uri:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


class Parties:
    """A region with its hub and one site that has both kinds of certificate."""

    def __init__(self, directory: Path) -> None:
        self.clock = PassingClock()
        self.region: Region = create_region(directory / "region", "eu", "test.rocade", self.clock, RANDOM)
        self.authority = SigningAuthority()
        self.revoked: set[int] = set()
        self.site = self.region.identity("dealer", SITE)
        self.ec = self._credential("dealer", SITE)
        self.rsa = Credential(RSA_KEY, self.authority.leaf(RSA_KEY, self.site.uri))
        self.hub = self._credential("service", "api")

    def _credential(self, kind: str, name: str) -> Credential:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.region.issue(key.public_key(), self.region.identity(kind, name))
        return Credential(key, issued.leaf_der)

    def signers(self, *kinds: str) -> RegionSigners:
        authorities = Authorities([self.authority.certificate])
        return RegionSigners(
            lambda: self.region.issuers, kinds or ("dealer", "partner"), self.revoked.__contains__, authorities
        )

    def verifier(self, *kinds: str) -> Verifier:
        return Verifier(self.signers(*kinds), self.clock)

    def envelope(self, version: str = "1.2", credential: Credential | None = None, **more: object) -> bytes:
        return seal(question(), version, credential or self.ec, self.clock.now_us(), RANDOM, **more).envelope


def question(reference: str = "1610001234") -> etree._Element:
    content = etree.Element("{urn:rocade:exchange:1}GetPrice", nsmap={"r": "urn:rocade:exchange:1"})
    etree.SubElement(content, "{urn:rocade:exchange:1}ItemID").text = reference
    return content


def pem(credential: Credential) -> tuple[bytes, bytes]:
    """Key and certificate, as files of other programs want them."""
    key = credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, x509.load_der_x509_certificate(credential.certificate).public_bytes(Encoding.PEM)
