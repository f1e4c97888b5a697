"""Enrolment from the party's side: get a certificate with a claim code, renew it, come back after a long sleep.

Every call first fetches the signed issuer table, checks it against the pinned root (never older than the one at hand),
and checks the server's certificate with it, before any secret is sent: TLS alone would accept any certificate of the
region that carries the right host name. With only the root's SHA-256 at hand, `fetch_root` gets the root itself.

    enrol(Server("host", 8443), out, code, root_pem=...)   -> identity directory
    renew(Server("host", 8443), directory)                 -> new key and certificate in place
    reenrol(Server("host", 8443), directory)               -> the same, with the birth certificate
Blocking, standard library only; call it in a thread. Source: RFC 7030.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Clock, SystemClock
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.directory import load_issuers, load_root, replace_pair
from rocade.trust.identity.issuers import IssuerTable, Purpose, pem_of
from rocade.trust.identity.keys import create_private, csr, read_private, to_pem, write_atomically

_ROOT = "/.well-known/est"
_ANSWER_LIMIT_BYTES = 256 * 1024
_TIMEOUT_S = 20.0


class Server(msgspec.Struct, frozen=True):
    """Where to enrol, and the clock that certificates are judged by."""

    host: str
    port: int
    clock: Clock = SystemClock()


class _Problem(msgspec.Struct):
    code: str = "est.answer"
    detail: str = "the server refused"


def fetch_root(server: Server, root_sha256: str) -> bytes:
    """The region's root as PEM, recognised by its SHA-256 fingerprint (hex, colons allowed).

    Raises: Refused `est.root.unknown`; Unavailable `est.down`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the fingerprint below is the check
    with _Connection(server, context) as connection:
        for certificate in _certificates(connection.ask("GET", "/cacerts")):
            if sha256(certificate.public_bytes(Encoding.DER)).hexdigest() == root_sha256.replace(":", "").lower():
                return pem_of(certificate).encode()
    raise Refused("est.root.unknown", "the server's root is not the one with this fingerprint")


def enrol(server: Server, directory: Path, code: str, root_pem: bytes, *, birth: bool = False) -> Verified:
    """Trade a claim code for a new identity directory; `birth` asks for a vehicle's birth certificate too.

    Raises: Refused with the server's code or `trust.*`; Unavailable `est.down`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(directory / "trust.pem", root_pem)
    login = base64.b64encode(f"claim:{code}".encode()).decode()
    with _Connection(server, tls.client_context(directory, anonymous=True)) as connection:
        issuers = connection.check(directory)
        verified = _obtain(
            connection, directory, issuers, "/simpleenroll", "operational", {"Authorization": f"Basic {login}"}
        )
    if birth:
        with _Connection(server, tls.client_context(directory)) as connection:
            issuers = connection.check(directory)
            _obtain(connection, directory, issuers, "/birth/simpleenroll", "birth", {})
    return verified


def renew(server: Server, directory: Path) -> Verified:
    """Replace key and certificate, proving oneself with the old ones.

    Raises: as `enrol`.
    """
    return _again(server, directory, "")


def reenrol(server: Server, directory: Path) -> Verified:
    """Replace an expired certificate, proving oneself with the birth certificate.

    Raises: as `enrol`.
    """
    return _again(server, directory, "birth.")


def _again(server: Server, directory: Path, name: str) -> Verified:
    with _Connection(server, tls.client_context(directory, name=name)) as connection:
        issuers = connection.check(directory)
        return _obtain(connection, directory, issuers, "/simplereenroll", "operational", {})


def refresh_issuers(server: Server, directory: Path) -> IssuerTable:
    """Fetch the issuer table anew, as after a roll, and keep it if it is sound and no older."""
    with _Connection(server, tls.client_context(directory, anonymous=True)) as connection:
        return connection.check(directory)


class _Connection:
    """One HTTPS connection to the door."""

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        self.clock = server.clock
        self._http = http.client.HTTPSConnection(server.host, server.port, timeout=_TIMEOUT_S, context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        """Raises: Refused with the server's code; Unavailable `est.down`."""
        try:
            self._http.request(method, _ROOT + path, body, headers or {})
            response = self._http.getresponse()
            content = response.read(_ANSWER_LIMIT_BYTES)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise Unavailable("est.down", "the enrolment server closed the connection") from None
        except ssl.SSLError as error:
            raise tls.handshake_refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("est.down", f"the enrolment server does not answer: {type(error).__name__}") from None
        if response.status == 200:
            return content
        try:
            problem = msgspec.json.decode(content, type=_Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            problem = _Problem()
        if response.status >= 500 or response.status == 429:
            raise Unavailable(problem.code, problem.detail)
        raise Refused(problem.code, problem.detail)

    def check(self, directory: Path) -> IssuerTable:
        """Fetch and keep the issuer table, and check the server with it."""
        root = load_root(directory / "trust.pem")
        known = load_issuers(directory).version if (directory / "issuers.json").exists() else 0
        issuers = IssuerTable.load(self.ask("GET", "/issuers"), root, known)
        server = self._http.sock
        leaf = tls.peer_leaf(server) if isinstance(server, ssl.SSLSocket) else None
        verify_leaf(leaf or b"", issuers, self.clock.now_us(), {"service"})
        write_atomically(directory / "issuers.json", issuers.sealed)
        return issuers


def _obtain(
    connection: _Connection, directory: Path, issuers: IssuerTable, path: str, purpose: Purpose, headers: dict[str, str]
) -> Verified:
    """Make a key, have it certified, check what came back, keep both.

    The key is kept before it is shown: if the answer gets lost, the next try shows the same key, and the authority
    knows its party again although the claim code is used.
    """
    name = "birth." if purpose == "birth" else ""
    waiting = directory / f"{name}waiting.pem"
    key = read_private(waiting) if waiting.exists() else create_private(waiting)
    headers = {**headers, "Content-Type": "application/pkcs10"}
    answer = connection.ask("POST", path, base64.encodebytes(csr(key)), headers)
    leaf = _certificates(answer)[0]
    encoded = leaf.public_bytes(Encoding.DER)
    verified = verify_leaf(encoded, issuers, connection.clock.now_us(), issuers.kinds, purpose=purpose)
    issuer = issuers.get(verified.issuer_key_id)
    if issuer is None or leaf.public_key() != key.public_key():
        raise Refused("est.answer.key", "the certificate that came back is not for the key that was sent")
    replace_pair(directory, to_pem(key), pem_of(leaf).encode() + issuer.pem.encode(), name)
    waiting.unlink()
    return verified


def _certificates(answer: bytes) -> list[x509.Certificate]:
    try:
        found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
    except ValueError:
        found = []
    if not found:
        raise Refused("est.answer.malformed", "the server's answer holds no certificates")
    return found
