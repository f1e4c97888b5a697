"""What each enrolment request means: routes, credentials, PKCS#10 in, PKCS#7 out. Source: RFC 7030 sections 3 and 4, RFC 8951.

Refuses: unknown paths and methods, bodies that are not base64 PKCS#10, missing or wrong credentials. Who may have what is
decided by the authority; who the caller is, by `verify_leaf` and by the claim code, never by the signing request.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Container
from http import HTTPStatus

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import KINDS
from rocade.core.ports import Clock
from rocade.trust.authority import Authority
from rocade.trust.authority.region import Issued
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.issuers import Purpose

_ROOT = "/.well-known/est"
_METHODS = {
    f"{_ROOT}/cacerts": "GET",
    f"{_ROOT}/issuers": "GET",
    f"{_ROOT}/simpleenroll": "POST",
    f"{_ROOT}/simplereenroll": "POST",
    f"{_ROOT}/birth/simpleenroll": "POST",
}
_STATUS = {
    "est.path.unknown": 404,
    "est.method.refused": 405,
    "est.request.size": 413,
    "est.claim.missing": 401,
    "est.certificate.missing": 401,
    "trust.claim.unknown": 401,
    "trust.claim.attempts": 429,
}


class Request(msgspec.Struct, frozen=True):
    """One request as the door read it; `leaf` is the client certificate TLS let through, not yet checked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    leaf: bytes | None
    peer: str


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Exchange:
    """Routes requests to the authority."""

    def __init__(self, authority: Authority, denied: Container[int], clock: Clock) -> None:
        self._authority = authority
        self._denied = denied
        self._clock = clock

    async def handle(self, request: Request) -> Answer:
        """Raises: Refused and Unavailable, which the door turns into problem documents."""
        method = _METHODS.get(request.path)
        if method is None:
            raise Refused("est.path.unknown", "the enrolment door knows cacerts, simpleenroll and simplereenroll")
        if request.method != method:
            raise Refused("est.method.refused", f"this path takes {method}")
        self._authority.region.reload()  # after a roll, table and issuer are the new ones from the first request on
        match request.path.removeprefix(_ROOT):
            case "/cacerts":
                issuers = self._authority.region.issuers
                return _certificates([issuers.root, *(issuer.certificate for issuer in issuers)])
            case "/issuers":
                return Answer(200, [("content-type", "application/json")], self._authority.region.issuers.sealed)
            case "/simpleenroll":
                code = _claim_code(request)
                return _issued(await self._authority.enrol(code, _signing_request(request), request.peer))
            case "/simplereenroll":
                return _issued(await self._reenrol(request))
            case _:
                shown = self._verify(request, "operational")
                return _issued(await self._authority.give_birth(shown, _signing_request(request), request.peer))

    async def _reenrol(self, request: Request) -> Issued:
        """The certificate shown decides: operational renews, birth re-enrols."""
        try:
            shown = self._verify(request, "operational")
        except Refused as refusal:
            if refusal.code != "trust.certificate.birth":
                raise
            birth = self._verify(request, "birth")
            return await self._authority.reenrol(birth, _signing_request(request), request.peer)
        return await self._authority.renew(shown, _signing_request(request), request.peer)

    def _verify(self, request: Request, purpose: Purpose) -> Verified:
        if request.leaf is None:
            raise Refused("est.certificate.missing", "show the certificate that is to be renewed")
        issuers = self._authority.region.issuers
        return verify_leaf(request.leaf, issuers, self._clock.now_us(), KINDS, denied=self._denied, purpose=purpose)


def problem(error: RocadeError) -> Answer:
    """An error as RFC 9457 problem document; what is not the caller's fault keeps its reason to itself."""
    is_refused = isinstance(error, Refused)
    status = _STATUS.get(error.code, _status_of_family(error))
    detail = (
        error.message if is_refused or isinstance(error, Unavailable) else "Something went wrong here; the log has it."
    )
    document = {
        "type": f"urn:rocade:error:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": error.code,
    }
    headers = [("content-type", "application/problem+json")]
    if status == 401:
        headers.append(("www-authenticate", 'Basic realm="rocade enrolment", charset="UTF-8"'))
    if status == 503:
        headers.append(("retry-after", "5"))
    return Answer(status, headers, msgspec.json.encode(document))


def _status_of_family(error: RocadeError) -> int:
    if isinstance(error, Unavailable):
        return 503
    if not isinstance(error, Refused):
        return 500
    return 400 if error.code.startswith(("est.request.", "trust.request.")) else 403


def _claim_code(request: Request) -> str:
    """The password of HTTP Basic user "claim". Source: RFC 7617."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    try:
        user, separator, code = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:  # not base64, not ASCII, not UTF-8
        user, separator, code = "", "", ""
    if scheme.lower() != "basic" or user != "claim" or not separator or not code:
        raise Refused("est.claim.missing", 'send the claim code by HTTP Basic, user "claim"')
    return code


def _signing_request(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/pkcs10":
        raise Refused("est.request.type", "send application/pkcs10")
    try:
        return base64.b64decode(b"".join(request.body.split()), validate=True)
    except binascii.Error:
        raise Refused("est.request.encoding", "the signing request must be base64 of DER") from None


def _issued(issued: Issued) -> Answer:
    return _certificates([x509.load_der_x509_certificate(issued.leaf_der)])


def _certificates(certificates: list[x509.Certificate]) -> Answer:
    """A certs-only CMC simple PKI response. Source: RFC 7030 4.1.3 and 4.2.3."""
    body = base64.encodebytes(pkcs7.serialize_certificates(certificates, Encoding.DER))
    headers = [
        ("content-type", "application/pkcs7-mime; smime-type=certs-only"),
        ("content-transfer-encoding", "base64"),
    ]
    return Answer(200, headers, body)
