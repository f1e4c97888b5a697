"""The register of applications, and what they are given: a code good once for a minute, then an ID token and a short access token.

Flow: `check_request` (a known application, an address it registered, PKCE) -> `check_entry` (the signed-in person has one of the
roles the application is for) -> `agree` (he was asked and allowed it) or, where he wanted not to be asked again, `give` -> the browser carries the code -> `redeem` (the application proves itself, the code was given to it, the
verifier fits) -> ID token (ES256, the region's token keys) and an access token good for `userinfo` alone while the person's
session lives. A code that comes twice ends what it became. Refuses `openid.*`; every code and token is in the audit log.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.trust.authority.applications import store
from rocade.trust.authority.applications.model import (
    CODE_LIFE_US,
    REMEMBERED_US,
    TOKEN_LIFE_US,
    Application,
    Asked,
    Consent,
    Given,
    Staff,
    StaffRole,
    check,
    check_challenge,
    proves,
    subject_for,
)
from rocade.trust.authority.people import Person, Session

type Sign = Callable[[dict[str, object]], str]
"""A JWT of these claims, signed with the region's token key (`machines.Tokens.sign`)."""
LOCAL = "local"


class Applications:
    """`issuer` is the address people sign in at; `staff` says who is what at dealers."""

    def __init__(
        self, database: Database, audit: Audit, clock: Clock, random: Random, issuer: str, sign: Sign, staff: Staff
    ) -> None:
        self.issuer = issuer
        self._database = database
        self._audit = audit
        self._clock = clock
        self._random = random
        self._sign = sign
        self._staff = staff

    # --- the register ------------------------------------------------------------------------------------------------

    async def add(
        self, id: str, name: str, redirects: Sequence[str], roles: Sequence[str], *, brand: str = "",
        logouts: Sequence[str] = (), scopes: Sequence[str] = ("openid", "roles"), has_secret: bool = True,
        actor: str = LOCAL,
    ) -> tuple[Application, str]:  # fmt: skip
        """Register an application, or replace it; and its secret ('' for one without), which is seen only here.

        Raises: Refused `openid.invalid`.
        """
        secret = self._secret() if has_secret else ""
        made = Application(
            id, name.strip(), tuple(dict.fromkeys(redirects)), tuple(dict.fromkeys(logouts)), brand,
            tuple(sorted(set(roles))), tuple(sorted({"openid", *scopes})), _hash(secret) if secret else None,
            self._clock.now_us(), actor,
        )  # fmt: skip
        check(made)
        async with store.transaction(self._database) as connection:
            await store.put(connection, made)
            await self._record(actor, "openid.application.add", id, brand=brand, roles=" ".join(made.roles))
        return made, secret

    async def registered(self) -> list[Application]:
        async with store.transaction(self._database) as connection:
            return await store.read_all(connection)

    async def drop(self, id: str, actor: str = LOCAL) -> None:
        """Raises: Refused `openid.application.unknown`."""
        async with store.transaction(self._database) as connection:
            if not await store.drop(connection, id):
                raise Refused("openid.application.unknown", "no such application is registered here")
            await self._record(actor, "openid.application.end", id)

    async def by_id(self, id: str) -> Application:
        """Raises: Refused `openid.application.unknown`."""
        async with store.transaction(self._database) as connection:
            found = await store.read(connection, id)
        if found is None:
            raise Refused("openid.application.unknown", "no such application is registered here")
        return found

    async def proven(self, id: str, secret: str) -> Application:
        """The application that shows this secret; one without a secret shows none.

        Raises: Refused `openid.application.unknown`, `openid.application.secret`.
        """
        found = await self.by_id(id)
        right = found.secret_hash is None and not secret
        if found.secret_hash is not None:
            right = hmac.compare_digest(found.secret_hash, _hash(secret))
        if not right:
            refusal = Refused("openid.application.secret", "this is not the application's secret")
            raise self._note(f"application:{id}", "openid.token", id, refusal)
        return found

    # --- codes -----------------------------------------------------------------------------------------------------------

    def check_request(self, application: Application, asked: Asked, method: str) -> None:
        """What is left to check once the address to come back to is known to be the application's.

        Raises: Refused `openid.challenge`, `openid.scope`, `openid.invalid`.
        """
        check_challenge(asked.challenge, method)
        words = set(asked.scope.split())
        if "openid" not in words or not words <= set(application.scopes):
            raise Refused("openid.scope", f"this application may ask for {' '.join(application.scopes)}, openid always")
        if len(asked.nonce) > 256:
            raise Refused("openid.invalid", "a nonce has up to 256 characters")

    def check_entry(self, application: Application, session: Session) -> None:
        """Whether this person may enter the application at all, whatever he agrees to.

        Raises: Refused `openid.passkey` (he signed in without one), `openid.role` (it is not for any role he has).
        """
        person = session.person.id
        if session.means != "passkey":
            refusal = Refused("openid.passkey", "applications are opened with a passkey; sign in with yours")
            raise self._note(person, "openid.code", application.id, refusal)
        if not self._roles(application, person, self._clock.now_us()):
            refusal = Refused(
                "openid.role", "this application is for people of dealers in another role or of another brand"
            )
            raise self._note(person, "openid.code", application.id, refusal)

    async def give(self, application: Application, session: Session, asked: Asked) -> str:
        """A code for an application this person may enter, and wanted not to be asked about again.

        Raises: as `check_entry`; Refused `openid.consent.required`.
        """
        self.check_entry(application, session)
        now_us = self._clock.now_us()
        async with store.transaction(self._database) as connection:
            consents = await store.read_consents(connection, session.person.id, now_us)
            if not any(
                one.application == application.id and one.covers(application, asked, now_us) for one in consents
            ):
                raise Refused("openid.consent.required", "whoever is signed in has to allow this first")
            return await self._code(connection, application, session, asked, now_us)

    async def agree(self, application: Application, session: Session, asked: Asked, *, remember: bool) -> str:
        """A code, since this person was asked and allowed it; `remember`: an application that proves itself asks for 30 days.

        Raises: as `check_entry`.
        """
        self.check_entry(application, session)
        now_us, is_remembered = self._clock.now_us(), remember and application.secret_hash is not None
        until_us = now_us + (REMEMBERED_US if is_remembered else CODE_LIFE_US + TOKEN_LIFE_US)
        consent = Consent(application.id, _sorted(asked.scope), is_remembered, now_us, until_us)
        async with store.transaction(self._database) as connection:
            await store.put_consent(connection, session.person.id, consent, now_us)
            await self._record(
                session.person.id, "openid.consent", application.id, scope=consent.scope, until_us=until_us
            )
            return await self._code(connection, application, session, asked, now_us)

    def deny(self, application: Application, session: Session) -> Refused:
        """He was asked and did not allow it; the refusal for the application."""
        refusal = Refused("openid.consent.denied", "the person did not allow it")
        return self._note(session.person.id, "openid.consent", application.id, refusal)

    async def consents_of(self, person: str) -> list[tuple[Application, Consent]]:
        """What this person's consents still allow, with whom."""
        async with store.transaction(self._database) as connection:
            found = await store.read_consents(connection, person, self._clock.now_us())
            known = {one.id: one for one in await store.read_all(connection)} if found else {}
        return [(known[one.application], one) for one in found if one.application in known]

    async def withdraw(self, person: str, application: str) -> None:
        """Take a consent back: the application's codes and tokens for this person end, the next request asks again.

        Raises: Refused `openid.consent.unknown`.
        """
        async with store.transaction(self._database) as connection:
            if not await store.end_consent(connection, person, application):
                raise Refused("openid.consent.unknown", "you have allowed this application nothing that still holds")
            await self._record(person, "openid.consent.end", application)

    async def _code(
        self, connection: asyncpg.Connection, application: Application, session: Session, asked: Asked, now_us: int
    ) -> str:
        code = self._secret()
        given = Given(
            application.id, session.person.id, session.number, asked.redirect, asked.challenge, asked.nonce,
            _sorted(asked.scope), session.opened_us, now_us + CODE_LIFE_US, 0,
        )  # fmt: skip
        await store.add_code(connection, _hash(code), given, now_us)
        await self._record(session.person.id, "openid.code", application.id)
        return code

    async def redeem(
        self, application: Application, code: str, redirect: str, verifier: str, person_of: Callable[[str], Any]
    ) -> dict[str, object]:
        """Trade a code for an ID token and an access token. `person_of` finds a person by id (`People.by_id`).

        Raises: Refused `openid.code.unknown`, `.used`, `.expired`, `.verifier`, `openid.role`, `people.ended`.
        """
        digest, is_twice = _hash(code), False
        async with store.transaction(self._database) as connection:
            given = await store.lock_code(connection, digest)
            now_us = self._clock.now_us()
            refusal = _fault(given, application, redirect, verifier, now_us)
            if given is not None and given.application == application.id:
                is_twice = bool(given.used_us)
                if is_twice:
                    await store.end_tokens(connection, digest)
                await store.use_code(connection, digest, given.used_us or now_us)
            if refusal is None and given is not None and not await store.is_live(connection, given.session, now_us):
                refusal = Refused("openid.code.expired", "this person has signed out meanwhile")
        if refusal is not None or given is None:
            raise self._note(f"application:{application.id}", "openid.token", application.id, refusal or _unknown())
        person: Person = await person_of(given.person)
        roles = self._roles(application, given.person, now_us)
        if not roles or person.ended_us is not None:
            refusal = Refused("openid.role", "this person has no role here any more that this application is for")
            raise self._note(f"application:{application.id}", "openid.token", application.id, refusal)
        token = self._secret()
        async with store.transaction(self._database) as connection:
            await store.add_token(connection, _hash(token), digest, given, now_us + TOKEN_LIFE_US)
            await self._record(given.person, "openid.token", application.id)
        claims: dict[str, object] = {
            "iss": self.issuer, "aud": application.id, "iat": now_us // 1_000_000,
            "exp": (now_us + TOKEN_LIFE_US) // 1_000_000, "auth_time": given.signed_in_us // 1_000_000,
            "amr": ["pop", "user"], "at_hash": _half(token), **_claims(application, person, roles, given.scope),
        }  # fmt: skip
        if given.nonce:
            claims["nonce"] = given.nonce
        return {
            "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE_US // 1_000_000,
            "scope": given.scope, "id_token": self._sign(claims),
        }  # fmt: skip

    async def userinfo(self, token: str, person_of: Callable[[str], Any]) -> dict[str, object]:
        """What an access token tells, as true as it is now.

        Raises: Refused `openid.token.refused`.
        """
        now_us = self._clock.now_us()
        async with store.transaction(self._database) as connection:
            found = await store.read_token(connection, _hash(token), now_us)
            application = await store.read(connection, found[0]) if found else None
        if found is None or application is None:
            raise Refused("openid.token.refused", "this access token is not good any more")
        person: Person = await person_of(found[1])
        return _claims(application, person, self._roles(application, found[1], now_us), found[2])

    def _roles(self, application: Application, person: str, at_us: int) -> list[StaffRole]:
        """What somebody is, as far as the application is for it."""
        return [
            one for one in self._staff.staff_roles(person, application.brand, at_us) if one.role in application.roles
        ]

    # --- small parts -----------------------------------------------------------------------------------------------------

    def _secret(self) -> str:
        return base64.urlsafe_b64encode(self._random.bits(256).to_bytes(32)).rstrip(b"=").decode()

    def _note(self, actor: str, action: str, application: str, refusal: Refused) -> Refused:
        subject = f"application:{application[:48]}"
        self._audit.note(AuditEntry(self._clock.now_us(), actor, action, subject, "refused", refusal.code))
        return refusal

    async def _record(self, actor: str, action: str, application: str, **facts: str | int | float) -> None:
        subject = f"application:{application}"
        await self._audit.record(AuditEntry(self._clock.now_us(), actor, action, subject, facts=facts))


def _claims(application: Application, person: Person, roles: Sequence[StaffRole], scope: str) -> dict[str, object]:
    words, told = scope.split(), {"sub": subject_for(application.id, person.id)}
    claims: dict[str, object] = dict(told)
    if "roles" in words:
        claims["dealer_roles"] = [msgspec.structs.asdict(one) for one in sorted(roles)]
    if "profile" in words:
        claims |= {"name": person.name, "locale": person.language}
    return claims


def _fault(given: Given | None, application: Application, redirect: str, verifier: str, now_us: int) -> Refused | None:
    """Why a code is not good."""
    if given is None or given.application != application.id:
        return _unknown()
    if given.used_us:
        return Refused("openid.code.used", "this code was used already; what it became has ended, begin again")
    if now_us >= given.until_us:
        return Refused("openid.code.expired", "a code is good for a minute; begin again")
    if given.redirect != redirect or not proves(verifier, given.challenge):
        return Refused("openid.code.verifier", "redirect_uri or code_verifier is not that of the request; begin again")
    return None


def _unknown() -> Refused:
    return Refused("openid.code.unknown", "this code is not known, or was given to another application")


def _sorted(scope: str) -> str:
    return " ".join(sorted(set(scope.split())))


def _hash(secret: str) -> bytes:
    """256 random bits cannot be searched backwards, so a plain hash is enough."""
    return sha256(secret.encode()).digest()


def _half(token: str) -> str:
    """`at_hash` of an ID token signed with ES256. Source: OpenID Connect Core 1.0, 3.1.3.6."""
    return base64.urlsafe_b64encode(sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()
