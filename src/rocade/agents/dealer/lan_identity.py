"""The certificate of the page on the LAN: one that the dealer has for its name, else the agent's own, made here.

With `lan.name`, `lan.certificate` and `lan.key` tablets trust the page as they trust any site, and passkeys work. Without, the
agent makes a certificate for its addresses; a tablet asks once whether to trust it, and the fingerprint to compare stands
on the sheet with the sign-in code. Files that change are taken up without restart.
Refuses: Misconfigured `dealer.lan.certificate`.
"""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rocade.agents.dealer.settings import Lan
from rocade.core.errors import Misconfigured
from rocade.core.ports import Clock
from rocade.trust.identity.directory import names_of, stamp_of
from rocade.trust.identity.issuers import to_us
from rocade.trust.identity.keys import new_key, to_pem, write_atomically, write_private

_LIFE_DAYS = 397
_AGAIN_DAYS = 60


class LanIdentity:
    """`context()` is the TLS context of the moment, `hosts` the names the page answers to."""

    def __init__(self, place: Path, lan: Lan, clock: Clock) -> None:
        """Raises: Misconfigured `dealer.lan.certificate`."""
        self._place, self._lan, self._clock = place, lan, clock
        self.is_named = bool(lan.name and lan.certificate)
        self.hosts = {*lan.addresses, *([lan.name] if lan.name else [])}
        if lan.certificate:
            self._chain, self._key = place / lan.certificate, place / lan.key
        else:
            self._chain, self._key = place / "lan" / "certificate.pem", place / "lan" / "key.pem"
            self._make_if_due()
        self._stamp = (0, 0)
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        if stamp_of(self._chain) != self._stamp:
            self._context = self._load()
        return self._context

    def url(self, port: int) -> str:
        host = self._lan.name or self._lan.addresses[0]
        return f"https://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as browsers show it."""
        return fingerprint_of(self._chain)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # older tablets; the suites are forward-secret AEAD only
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.num_tickets = 0
        try:
            self._stamp = stamp_of(self._chain)
            context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError):
            raise Misconfigured(
                "dealer.lan.certificate", f"{self._chain.name} and {self._key.name} do not load as certificate and key"
            ) from None
        return context

    def _make_if_due(self) -> None:
        """Make a certificate for the addresses; again when it ends soon or the addresses are others."""
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(one)) for one in self._lan.addresses]
        names += [x509.DNSName(self._lan.name)] if self._lan.name else []
        wanted, now = x509.SubjectAlternativeName(names), datetime.fromtimestamp(self._clock.now_us() // 1_000_000, UTC)
        if self._chain.exists():
            try:
                kept = x509.load_pem_x509_certificate(self._chain.read_bytes())
                held = names_of(kept)
                kept.verify_directly_issued_by(kept)
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion, Misconfigured):
                raise Misconfigured(
                    "dealer.lan.certificate", f"{self._chain.name} is damaged; remove it, and another is made"
                ) from None
            if held == wanted and to_us(kept.not_valid_after_utc) > to_us(now + timedelta(days=_AGAIN_DAYS)):
                return
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Rocade dealer agent")])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=_LIFE_DAYS))
            .add_extension(wanted, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._chain.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(self._key, to_pem(key))
        write_atomically(self._chain, made.public_bytes(Encoding.PEM))


def fingerprint_of(chain: Path) -> str:
    leaf = x509.load_pem_x509_certificates(chain.read_bytes())[0].public_bytes(Encoding.DER)
    return ":".join(f"{byte:02X}" for byte in sha256(leaf).digest())
