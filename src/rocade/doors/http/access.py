"""Who asks, and whether he may: every route names its act, one guard proves the caller and asks the gate.

A caller is proven by the client certificate of the mutual TLS listener (checked strictly by `trust.identity`, its expiry
and revocation again on each request), narrowed by an access token bound to that certificate (RFC 8705), or by a session
cookie that a passkey or a one-time link opened. Nothing else proves anybody. A route without an act admits nobody. What
the gate allows about an owned vehicle is noted for its owner; refusals are audited with the request's id.
Source: docs/decisions/0032-gate.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol, cast
from urllib.parse import parse_qs

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from rocade.core import catalogue
from rocade.core.errors import Refused
from rocade.core.identifiers import Identity, whole_number
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.http.bearer import bearer_of
from rocade.doors.http.peer import peer_certificate
from rocade.doors.http.sessions import TOUCH, secret_of, subject_of
from rocade.trust.authority import people
from rocade.trust.authority.gate import Act, Gate, Permit, Principal, Right, nobody, of_certificate
from rocade.trust.authority.machines import thumbprint

AnyRequest = Request[Any, Any, Any]
_CACHED_CERTIFICATES = 1024


def does(act: Act, **more: Any) -> dict[str, Any]:
    """A route's options: `@get(path, opt=does(READ_TWIN))`; `purpose=` where the route is for one purpose only."""
    return {"act": act, **more}


class Proof(Protocol):
    """What a certificate check returns (`trust.identity.certificates.Verified`)."""

    @property
    def identity(self) -> Identity: ...
    @property
    def serial(self) -> int: ...
    @property
    def not_after_us(self) -> int: ...


class Session(Protocol):
    """`acting(act)`: who this is to the gate, with the duties lent for that act."""

    def acting(self, act: str) -> Principal: ...


class Sessions(Protocol):
    """Signed-in people (`trust.authority.people.People`)."""

    async def session(self, secret: str) -> Session | None: ...
    async def redeem_touch(self, session_secret: str, touch: str, act: str, subject: str) -> None: ...


class Tokens(Protocol):
    """Access tokens of machines (`trust.authority.machines.Tokens`)."""

    def check(self, token: str, thumbprint: str, now_us: int) -> Principal: ...


class Looks(Protocol):
    """The owner's record of who looked (`services.consent.Looks`)."""

    def note(self, permit: Permit, ref: int, what: str, signals: Iterable[int], at_us: int) -> None: ...


class Access:
    """Proves callers and asks the gate.

    `verify(der, at_us)` is the strict certificate check (raises Refused with its own code), `is_revoked(serial)` the
    pushed deny set.
    """

    def __init__(
        self,
        verify: Callable[[bytes, int], Proof],
        is_revoked: Callable[[int], bool],
        gate: Gate,
        audit: Audit,
        clock: Clock,
        *,
        sessions: Sessions | None = None,
        tokens: Tokens | None = None,
        looks: Looks | None = None,
    ) -> None:
        self._verify = verify
        self._is_revoked = is_revoked
        self.gate = gate
        self._audit = audit
        self._clock = clock
        self._sessions = sessions
        self._tokens = tokens
        self._looks = looks
        self._proofs: dict[bytes, tuple[Proof, Principal, str]] = {}

    async def identify(self, scope: Any, act: Act) -> Principal:
        """The caller as he stands to this act; of kind `nobody` where nothing is proven.

        Raises: Refused with the certificate check's own code, `trust.certificate.expired`, `trust.certificate.revoked`,
        `access.token.*`, `access.session` (ended or never was).
        """
        token = bearer_of(scope)
        if der := peer_certificate(scope):
            principal, thumb = self._by_certificate(der)
            if not token:
                return principal
            if self._tokens is None:
                raise Refused("access.token.refused", "no tokens are taken here")
            return self._tokens.check(token, thumb, self._clock.now_us())
        if token:
            raise Refused(
                "access.token.bare", "an access token is good only over mutual TLS with the certificate it was given to"
            )
        if secret := secret_of(scope):
            session = await self._sessions.session(secret) if self._sessions else None
            if session is None:
                raise Refused("access.session", "you are signed out; sign in again")
            scope["rocade.session"] = session
            return session.acting(act.name)
        return nobody(peer_of(scope))

    def _by_certificate(self, der: bytes) -> tuple[Principal, str]:
        now_us = self._clock.now_us()
        known = self._proofs.get(der)
        if known is None:
            proof = self._verify(der, now_us)
            if len(self._proofs) >= _CACHED_CERTIFICATES:
                self._proofs.pop(next(iter(self._proofs)))
            known = self._proofs[der] = proof, of_certificate(proof.identity, proof.serial), thumbprint(der)
        proof, principal, thumb = known
        if now_us >= proof.not_after_us:
            raise Refused("trust.certificate.expired", "the client certificate has expired; renew it")
        if self._is_revoked(proof.serial):
            raise Refused("trust.certificate.revoked", "the client certificate was revoked; enrol again")
        return principal, thumb

    async def admit(
        self, scope: Any, act: Act, ref: int | None = None, *, site: str | None = None, brand: str = ""
    ) -> Permit:
        """The permit for one request; a refusal is audited.

        Raises: Refused `access.missing` (nobody proven), `gate.denied`, `gate.touch`, or what `identify` raises.
        """
        principal = nobody(peer_of(scope))
        try:
            principal = await self._identified(scope, act)
            if act.of == "nothing":
                return Permit(principal, act, "", Right())
            touched = await self._is_touched(scope, act)
            permit = self._permit(scope, principal, act, ref, touched=touched, site=site, brand=brand)
            if ref is not None and act.classes:
                self.note_look(permit, ref, _asked_signals(scope))
            return permit
        except Refused as refusal:
            missing = str(refusal.facts.get("missing", ""))
            request_id = scope.get("rocade.request_id", "")
            self.note_refusal(principal.id, refusal.code, act, ref, request_id, missing, site)
            raise

    async def recheck(
        self, scope: Any, act: Act, ref: int | None = None, *, is_look: bool = False, site: str | None = None,
        brand: str = "",
    ) -> None:  # fmt: skip
        """Prove the caller and ask the gate once more, for a request that is still being answered; `is_look`: note it again.

        Raises: as `admit`; nothing is audited.
        """
        principal = await self._identified(scope, act)
        if act.of != "nothing":
            permit = self._permit(scope, principal, act, ref, touched=act.needs_touch, site=site, brand=brand)
            if is_look and ref is not None and act.classes:
                self.note_look(permit, ref, _asked_signals(scope))

    def _permit(
        self,
        scope: Any,
        principal: Principal,
        act: Act,
        ref: int | None,
        *,
        touched: bool,
        site: str | None,
        brand: str,
    ) -> Permit:
        if principal.kind == "nobody":
            raise Refused("access.missing", "sign in, or send a client certificate")
        purpose, now_us = _purpose(scope, principal), self._clock.now_us()
        return self.gate.permit(
            principal, act, ref=ref, purpose=purpose, at_us=now_us, touched=touched, site=site, brand=brand
        )

    async def _identified(self, scope: Any, act: Act) -> Principal:
        """An open route greets who is known and takes everybody else as nobody."""
        try:
            return await self.identify(scope, act)
        except Refused:
            if act.of != "nothing":
                raise
            return nobody(peer_of(scope))

    async def _is_touched(self, scope: Any, act: Act) -> bool:
        """Whether a fresh passkey touch bound to exactly this request came with it; it is used up."""
        touch = dict(scope["headers"]).get(TOUCH.encode(), b"").decode("latin-1") if act.needs_touch else ""
        if not touch or self._sessions is None:
            return False
        await self._sessions.redeem_touch(secret_of(scope), touch, act.name, subject_of(scope))
        return True

    def would_allow(
        self, principal: Principal, act: Act, ref: int | None, purpose: str, site: str | None = None, brand: str = ""
    ) -> bool:
        """Whether the gate would allow this now, if need be after a touch. For what is offered; nothing is audited."""
        now_us = self._clock.now_us()
        try:
            self.gate.permit(principal, act, ref=ref, purpose=purpose, at_us=now_us, site=site, brand=brand)
        except Refused as refusal:
            return refusal.code == "gate.touch"
        return True

    def right(self, principal: Principal, ref: int, purpose: str) -> Right:
        return self.gate.right(principal, ref, purpose, self._clock.now_us())

    def refs(self, principal: Principal, purpose: str) -> list[int]:
        return self.gate.refs(principal, purpose, self._clock.now_us())

    def hidden(self, principal: Principal, purpose: str, classes: int) -> list[int]:
        return self.gate.rights.hidden(principal.recipient, purpose, classes, self._clock.now_us())

    def note_look(self, permit: Permit, ref: int, signals: Sequence[str]) -> None:
        """`signals`: names or numbers; what is neither is refused later, by whoever answers."""
        if self._looks is not None:
            numbers = [number for one in signals if (number := _signal_number(one))]
            self._looks.note(permit, ref, permit.act.name, numbers, self._clock.now_us())

    def note_refusal(
        self,
        actor: str,
        code: str,
        act: Act | None = None,
        ref: int | None = None,
        request_id: str = "",
        missing: str = "",
        site: str | None = None,
    ) -> None:
        """Audit a refused handshake or request; nothing the peer claimed is repeated."""
        facts: dict[str, str | int | float] = {"request": request_id} if request_id else {}
        if act is not None:
            facts["act"] = act.name
        if missing:
            facts["missing"] = missing
        subject = f"vehicle:{ref}" if ref is not None else f"site:{site[:64]}" if site is not None else "http"
        self._audit.note(AuditEntry(self._clock.now_us(), actor, "http.access", subject, "refused", code, facts))


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The one guard of all routes: no act named = nobody is admitted."""
    access = cast("Access", connection.app.state.access)
    act = handler.opt.get("act")
    if act is None:
        access.note_refusal(peer_of(connection.scope), "gate.denied")
        raise Refused("gate.denied", "this route names no act, so nobody may do it")
    if any(isinstance(value, int) and not 0 <= value < 1 << 63 for value in connection.path_params.values()):
        raise Refused("http.path.unknown", "numbers in a path have at most 63 bits")
    ref = connection.path_params.get("ref") if act.of == "vehicle" else None
    cast("dict[str, Any]", connection.scope)["rocade.purpose"] = handler.opt.get("purpose", "")
    site, brand = site_of(connection) if act.of == "site" else (None, "")
    permit = await access.admit(connection.scope, act, ref, site=site, brand=brand)
    cast("dict[str, Any]", connection.scope)["rocade.permit"] = permit


def permit_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Permit:
    """What the guard allowed, and to whom."""
    return cast("Permit", cast("dict[str, Any]", connection.scope)["rocade.permit"])


def site_of(connection: ASGIConnection[Any, Any, Any, Any]) -> tuple[str | None, str]:
    """The point of sale and the brand a path names."""
    return connection.path_params.get("site"), connection.path_params.get("brand", "")


async def require(
    connection: ASGIConnection[Any, Any, Any, Any], act: Act, ref: int | None = None, *, site: str | None = None,
    brand: str = "",
) -> Permit:  # fmt: skip
    """Ask for a second act in the middle of a handler. Raises: as the guard."""
    return await cast("Access", connection.app.state.access).admit(connection.scope, act, ref, site=site, brand=brand)


def signed_in(connection: ASGIConnection[Any, Any, Any, Any]) -> people.Session | None:
    """The signed-in person's session as the guard found it; None for machines and strangers."""
    return cast("people.Session | None", cast("dict[str, Any]", connection.scope).get("rocade.session"))


def session_of(connection: ASGIConnection[Any, Any, Any, Any]) -> people.Session:
    """Who is signed in.

    Raises: Refused `people.session.missing`.
    """
    session = signed_in(connection)
    if session is None:
        raise Refused("people.session.missing", "sign in first")
    return session


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Whom the guard admitted."""
    return permit_of(connection).principal


def right_of(connection: ASGIConnection[Any, Any, Any, Any], ref: int) -> Right:
    """What the admitted caller may see of one vehicle at this moment, for handlers that speak of several."""
    permit = permit_of(connection)
    return cast("Access", connection.app.state.access).right(permit.principal, ref, permit.purpose)


def refs_of(connection: ASGIConnection[Any, Any, Any, Any]) -> list[int]:
    """The owned vehicles the admitted caller may see anything of at this moment."""
    permit = permit_of(connection)
    return cast("Access", connection.app.state.access).refs(permit.principal, permit.purpose)


def hidden_from(connection: ASGIConnection[Any, Any, Any, Any], classes: int) -> list[int]:
    """The owned vehicles of which the admitted caller may not see all of these classes at this moment."""
    permit = permit_of(connection)
    return cast("Access", connection.app.state.access).hidden(permit.principal, permit.purpose, classes)


def note_look(connection: ASGIConnection[Any, Any, Any, Any], ref: int, right: Right, signals: Sequence[str]) -> None:
    """Write down a look at a vehicle that the path did not name."""
    permit = msgspec.structs.replace(permit_of(connection), right=right)
    cast("Access", connection.app.state.access).note_look(permit, ref, signals)


def peer_of(scope: Any) -> str:
    client = scope.get("client")
    return f"peer:{client[0]}" if client else "peer:unknown"


def _purpose(scope: Any, principal: Principal) -> str:
    """What a route is for, else what the caller says he reads for, else what goes without saying: a token's only purpose,
    his own, operation.
    """
    if route_is_for := scope.get("rocade.purpose"):
        return str(route_is_for)
    if asked := _asked(scope["query_string"]).get("purpose"):
        return asked[-1]
    if len(principal.purposes) == 1:
        return next(iter(principal.purposes))
    return "operation" if principal.duties else "own"


def _asked_signals(scope: Any) -> list[str]:
    return _asked(scope["query_string"]).get("signal", [])


@lru_cache(1024)
def _asked(query: bytes) -> dict[str, list[str]]:
    """The parameters of a request, to be read only: programs ask the same over and over."""
    return parse_qs(str(query, "latin-1"))


@lru_cache(4096)
def _signal_number(name: str) -> int:
    """The number of a signal by name or number, 0 if there is none such."""
    if (number := whole_number(name)) is not None:
        return number
    try:
        return int(catalogue.standard().by_name(name).id)
    except Refused:
        return 0
