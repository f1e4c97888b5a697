"""TLS 1.3 and nothing older, with certificates on both sides; contexts for servers and clients, and their errors named.

OpenSSL checks the presented chain against the region's root; after the handshake the caller takes `peer_leaf` and calls
`certificates.verify_leaf`, which alone decides who the peer is. Servers that ask for certificates give no session
tickets: a resumed session would skip the certificate. `handshake_refusal` turns a failed handshake into a stable code
for the audit log; nothing the refused peer claimed is repeated there, because nothing of it is proven.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rocade.core.errors import Misconfigured, Refused, RocadeError
from rocade.trust.identity.directory import settle, stamp_of

_log = logging.getLogger(__name__)

type ClientCertificate = Literal["required", "optional", "none"]

_CLIENT_MODES = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def server_context(chain: Path, key: Path, trust: Path, *, client: ClientCertificate = "required") -> ssl.SSLContext:
    """Context of a server with its certificate chain, key and the root it trusts, as PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _only_tls13(context)
    context.verify_mode = _CLIENT_MODES[client]
    context.load_verify_locations(trust)
    context.load_cert_chain(chain, key)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def client_context(directory: Path, *, anonymous: bool = False, name: str = "") -> ssl.SSLContext:
    """Context of a client with the identity in `directory`.

    `anonymous` presents no certificate (first enrolment); `name` "birth." presents the birth certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _only_tls13(context)
    context.load_verify_locations(directory / "trust.pem")
    if not anonymous:
        settle(directory)
        context.load_cert_chain(directory / f"{name}certificate.pem", directory / f"{name}key.pem")
    return context


class ServerIdentity:
    """A server's certificate that is rolled without restart: the live context loads the files again when they change.

    Handshakes from then on use the new certificate; open connections are not touched. A half-written or broken pair
    leaves the old one in use (`reload` raises, the next change is tried again).
    """

    def __init__(self, directory: Path, *, client: ClientCertificate = "required") -> None:
        self._directory = directory
        settle(directory)
        self.context = server_context(
            directory / "certificate.pem", directory / "key.pem", directory / "trust.pem", client=client
        )
        self._seen = self._stamp()

    def reload(self) -> bool:
        """Load the files if they changed since the last call; whether they did.

        Raises: Misconfigured `trust.server.pair`.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            self.context.load_verify_locations(self._directory / "trust.pem")
            self.context.load_cert_chain(self._directory / "certificate.pem", self._directory / "key.pem")
        except (OSError, ssl.SSLError):
            raise Misconfigured("trust.server.pair", "the server's new key and certificate do not load") from None
        return True

    async def keep(self, renew: Callable[[], object] = lambda: None, every_s: float = 5.0) -> None:
        """Call `renew`, then `reload`, for ever; failures are logged and tried again."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await asyncio.to_thread(renew)
                if self.reload():
                    _log.info("server certificate rolled")
            except RocadeError as error:
                _log.warning("server certificate kept: %s", error.code)

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        return tuple(stamp_of(self._directory / name) for name in ("certificate.pem", "key.pem", "trust.pem"))


def peer_leaf(tls: ssl.SSLObject | ssl.SSLSocket) -> bytes | None:
    """The peer's own certificate, DER; None if it showed none."""
    return tls.getpeercert(binary_form=True)


def handshake_refusal(error: BaseException) -> Refused:
    """Name the reason why a handshake failed: `trust.handshake.<reason>`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _VERIFY_REASONS.get(error.verify_code, "certificate")
        return Refused(f"trust.handshake.{reason}", f"certificate refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        text = error.reason or ""
        reason = _SSL_REASONS.get(text) or ("alert" if "ALERT" in text else "protocol")
        return Refused(f"trust.handshake.{reason}", f"TLS refused: {text.replace('_', ' ').lower() or 'broken'}")
    if isinstance(error, TimeoutError):
        return Refused("trust.handshake.timeout", "the handshake took too long")
    return Refused("trust.handshake.aborted", "the peer left during the handshake")


_VERIFY_REASONS = {
    7: "signature",
    9: "not_yet_valid",
    10: "expired",
    18: "self_signed",
    19: "root_unknown",
    20: "issuer_unknown",
    21: "issuer_unknown",
    22: "chain_long",
    24: "issuer_leaf",
    25: "path_length",
    26: "purpose",
    34: "extension_critical",
    62: "host_name",
    64: "host_name",
    66: "key_weak",
    67: "key_weak",
    68: "digest_weak",
    79: "issuer_leaf",
}
"""OpenSSL verify codes. Source: OpenSSL 3.0 x509_vfy.h."""
_SSL_REASONS = {  # own_* is what the other side said of our certificate
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "certificate_missing",
    "UNSUPPORTED_PROTOCOL": "version",
    "VERSION_TOO_LOW": "version",
    "NO_SHARED_CIPHER": "cipher",
    "HTTP_REQUEST": "plain_text",
    "WRONG_VERSION_NUMBER": "plain_text",
    "EXCESSIVE_MESSAGE_SIZE": "certificate_size",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "own_expired",
    "TLSV1_ALERT_UNKNOWN_CA": "own_unknown",
    "SSLV3_ALERT_BAD_CERTIFICATE": "own_bad",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "own_missing",
}


def _only_tls13(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
