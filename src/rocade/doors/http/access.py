"""Who may call what: every route names its audience, one guard admits, everything else is refused.

A caller is proven by the client certificate of the mutual TLS listener (operator or partner; checked strictly by
`trust.identity`, its expiry and revocation again on each request) or by an operator token; whoever sits at the loopback
listener without a token is LOCAL and sees only what is marked so. Refusals are audited; no identity is claimed for them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Flag
from typing import Any, Protocol, cast

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.http.peer import peer_certificate
from rocade.doors.http.tokens import TokenFile

AnyRequest = Request[Any, Any, Any]


class Audience(Flag):
    OPERATOR = 1
    PARTNER = 2
    LOCAL = 4


OPERATORS = Audience.OPERATOR
READERS = Audience.OPERATOR | Audience.PARTNER
PAGES = Audience.OPERATOR | Audience.LOCAL
EVERYBODY = Audience.OPERATOR | Audience.PARTNER | Audience.LOCAL

_AUDIENCE_OF_KIND = {"operator": Audience.OPERATOR, "partner": Audience.PARTNER}
_CACHED_CERTIFICATES = 1024


class Caller(msgspec.Struct, frozen=True):
    """Shape: `actor` is what the audit log gets: an identity URI, `token:<id>` or `peer:<address>`."""

    audience: Audience
    actor: str

    @property
    def name(self) -> str:
        return self.actor


class Proof(Protocol):
    """What a certificate check returns (`trust.identity.certificates.Verified`)."""

    @property
    def identity(self) -> Identity: ...
    @property
    def serial(self) -> int: ...
    @property
    def not_after_us(self) -> int: ...


class Access:
    """Tells who a request comes from.

    `verify(der, at_us)` is the strict certificate check (raises Refused with its own code), `is_revoked(serial)` the
    pushed deny set.
    """

    def __init__(
        self,
        verify: Callable[[bytes, int], Proof],
        is_revoked: Callable[[int], bool],
        tokens: TokenFile,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._verify = verify
        self._is_revoked = is_revoked
        self._tokens = tokens
        self._audit = audit
        self._clock = clock
        self._proofs: dict[bytes, Proof] = {}

    def identify(self, scope: Any) -> Caller | None:
        """The caller, or None if nobody is proven.

        Raises: Refused with the certificate check's own code, `trust.certificate.expired`,
        `trust.certificate.revoked`, `access.denied` (a kind that has no business here), `access.token`.
        """
        if der := peer_certificate(scope):
            return self._by_certificate(der)
        if token := _bearer(scope):
            if name := self._tokens.check(token):
                return Caller(Audience.OPERATOR, f"token:{name}")
            raise Refused("access.token", "this operator token is not valid; `rocade init` or `rocade token` makes one")
        if scope.get("rocade.listener") == "loopback":
            return Caller(Audience.LOCAL, peer_of(scope))
        return None

    def _by_certificate(self, der: bytes) -> Caller:
        now_us = self._clock.now_us()
        proof = self._proofs.get(der)
        if proof is None:
            proof = self._verify(der, now_us)
            if len(self._proofs) >= _CACHED_CERTIFICATES:
                self._proofs.pop(next(iter(self._proofs)))
            self._proofs[der] = proof
        if now_us >= proof.not_after_us:
            raise Refused("trust.certificate.expired", "the client certificate has expired; renew it")
        if self._is_revoked(proof.serial):
            raise Refused("trust.certificate.revoked", "the client certificate was revoked; enrol again")
        audience = _AUDIENCE_OF_KIND.get(proof.identity.kind)
        if audience is None:
            raise Refused("access.denied", "the API is for operators and partners")
        return Caller(audience, proof.identity.uri)

    def admit(self, scope: Any, audience: Audience | None) -> Caller:
        """Return the caller if `audience` includes him; otherwise audit and refuse.

        Raises: Refused `access.missing` (nobody proven), `access.denied`, or what `identify` raises.
        """
        try:
            caller = self.identify(scope)
            if caller is None or (caller.audience is Audience.LOCAL and not _holds(audience, caller)):
                raise Refused(
                    "access.missing", "send a client certificate or an operator token (Authorization: Bearer)"
                )
            if not _holds(audience, caller):
                raise Refused("access.denied", "this is not open to you")
            return caller
        except Refused as refusal:
            self.note_refusal(peer_of(scope), refusal.code)
            raise

    def note_refusal(self, peer: str, code: str) -> None:
        """Audit a refused handshake or request; nothing the peer claimed is repeated."""
        self._audit.note(AuditEntry(self._clock.now_us(), peer, "http.access", "http", "refused", code))


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The one guard of all routes: no audience named = nobody is admitted."""
    access = cast("Access", connection.app.state.access)
    caller = access.admit(connection.scope, handler.opt.get("audience"))
    cast("dict[str, Any]", connection.scope)["rocade.caller"] = caller


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """Whom the guard admitted."""
    return cast("Caller", cast("dict[str, Any]", connection.scope)["rocade.caller"])


def peer_of(scope: Any) -> str:
    client = scope.get("client")
    return f"peer:{client[0]}" if client else "peer:unknown"


def _holds(audience: Audience | None, caller: Caller) -> bool:
    return audience is not None and caller.audience in audience


def _bearer(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return cast("bytes", value[7:]).decode("latin-1").strip()
    return ""
