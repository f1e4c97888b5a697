"""Signing in with an account at an external OpenID Connect provider: what is drawn, what is proven, whose it is.

Flow: `begin` draws state, nonce and PKCE verifier for this browser -> the provider's page -> `take` uses the state up ->
the door exchanges the code -> `verify` checks the ID token -> `sign_in` opens a session of the person who connected that
account before, or `connect` ties it to the one who is signed in. Such a session looks; a touch still needs a passkey.
Refuses (`people.openid.`): `algorithm`, `key`, `signature`, `issuer`, `audience`, `nonce`, `expired`, `malformed`, `unknown` (nobody's
account), `taken` (somebody else's); `people.challenge.*`. Source: OpenID Connect Core 1.0, 3.1.3.7; RFC 7636; RFC 9207.
"""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import KeySet

from rocade.core.errors import Refused
from rocade.trust.authority.people import store
from rocade.trust.authority.people.challenges import Challenges
from rocade.trust.authority.people.model import SECOND_US, Person, Session, person_number, require
from rocade.trust.authority.people.parts import Parts
from rocade.trust.authority.people.sessions import Sessions

OPENID = "openid"
ALGORITHMS = ["ES256", "RS256", "PS256", "EdDSA"]
SKEW_S = 60
AGE_S = 600
TOKEN_LIMIT_BYTES = 16_384


class Begun(msgspec.Struct, frozen=True):
    """What goes to the provider; `challenge` is the verifier's hash."""

    state: str
    nonce: str
    challenge: str


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """What was kept here meanwhile; `person`: whose account it becomes, '' = somebody signs in."""

    nonce: str
    verifier: str
    back: str
    person: str


def verify(token: str, keys: KeySet, issuer: str, client: str, nonce: str, now_us: int) -> str:
    """The subject of an ID token that holds in every respect.

    Raises: Refused `people.openid.*`; `.key` if no key of the set has its key id.
    """
    if len(token) > TOKEN_LIMIT_BYTES:
        raise Refused("people.openid.malformed", "the ID token is too large")
    try:
        claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
    except BadSignatureError as error:
        raise Refused("people.openid.signature", "the provider did not sign this ID token") from error
    except UnsupportedAlgorithmError as error:
        raise Refused("people.openid.algorithm", f"ID tokens are signed with {', '.join(ALGORITHMS)}") from error
    except InvalidKeyIdError as error:
        raise Refused("people.openid.key", "the ID token names a key the provider does not show") from error
    except (JoseError, ValueError) as error:
        raise Refused("people.openid.malformed", "this is no ID token") from error
    _check_claims(claims, issuer, client, nonce, now_us / SECOND_US)
    return str(claims["sub"])


def _check_claims(claims: dict[str, Any], issuer: str, client: str, nonce: str, now_s: float) -> None:
    """Raises: Refused `people.openid.*`."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    expires, issued, subject = (claims.get(name) for name in ("exp", "iat", "sub"))
    if claims.get("iss") != issuer:
        raise Refused("people.openid.issuer", "the ID token is of another provider")
    if client not in audiences or ((len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client):
        raise Refused("people.openid.audience", "the ID token was made for somebody else")
    if not isinstance(expires, int | float) or not isinstance(issued, int | float):
        raise Refused("people.openid.malformed", "the ID token says neither when it was made nor when it ends")
    if now_s >= expires + SKEW_S or not now_s - AGE_S <= issued <= now_s + SKEW_S:
        raise Refused("people.openid.expired", "the ID token has ended, or was not made just now; begin again")
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise Refused("people.openid.nonce", "the ID token answers another sign-in; begin again")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise Refused("people.openid.malformed", "the ID token names nobody")


class Accounts:
    """External accounts and the people they belong to."""

    def __init__(self, parts: Parts, challenges: Challenges, sessions: Sessions) -> None:
        self._parts = parts
        self._challenges = challenges
        self._sessions = sessions

    async def begin(self, browser: str, back: str, session: Session | None = None) -> Begun:
        """Draw what one sign-in at the provider needs; with a session, the account will be connected to it."""
        verifier, nonce = self._parts.secret(), self._parts.secret()
        kept = msgspec.msgpack.encode(Taken(nonce, verifier, back, session.person.id if session else ""))
        state = await self._challenges.draw(OPENID, browser, None, kept)
        return Begun(_text(state), nonce, _text(sha256(verifier.encode()).digest()))

    async def take(self, browser: str, state: str, session: Session | None) -> Taken:
        """Use a state up in the browser it was drawn for.

        Raises: Refused `people.challenge.*`.
        """
        try:
            drawn = base64.urlsafe_b64decode(state + "=" * (-len(state) % 4))
        except ValueError:
            drawn = b""
        taken = msgspec.msgpack.decode(await self._challenges.take(drawn, OPENID, browser), type=Taken)
        if taken.person and (session is None or session.person.id != taken.person):
            raise Refused("people.challenge.foreign", "somebody else is signed in by now; begin again")
        return taken

    async def sign_in(self, issuer: str, subject: str, peer: str) -> tuple[str, Person]:
        """The secret of a new session of the person who connected this account.

        Raises: Refused `people.openid.unknown`, `people.ended`.
        """
        parts = self._parts
        try:
            async with store.transaction(parts.database) as connection:
                holder = await store.account_holder(connection, parts.columns, issuer, subject)
                if holder is None:
                    raise Refused(
                        "people.openid.unknown", "this account is not connected; sign in and connect it first"
                    )
                person = require(await store.read_person(connection, parts.columns, holder, parts.clock.now_us()))
                secret = await self._sessions.open(connection, person, OPENID)
                await parts.record(person.id, "people.sign_in", "openid")
        except Refused as refusal:
            parts.note(peer, "people.sign_in", "openid", refusal.code)
            raise
        return secret, person

    async def connect(self, session: Session, issuer: str, subject: str) -> None:
        """Tie an account to the one who is signed in.

        Raises: Refused `people.openid.taken`.
        """
        parts, number = self._parts, person_number(session.person.id)
        async with store.transaction(parts.database) as connection:
            is_new = await store.add_account(connection, parts.columns, issuer, subject, number, parts.clock.now_us())
            if not is_new and await store.account_holder(connection, parts.columns, issuer, subject) != number:
                parts.note(session.person.id, "people.openid.connect", "openid", "people.openid.taken")
                raise Refused("people.openid.taken", "this account belongs to another person here")
            await parts.record(session.person.id, "people.openid.connect", "openid")

    @property
    def now_us(self) -> int:
        return self._parts.clock.now_us()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
