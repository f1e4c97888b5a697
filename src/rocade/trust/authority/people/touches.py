"""Touches: a fresh passkey touch, bound to one act on one subject, good once, for sixty seconds (step-up).

Flow: `options` draws a challenge for (act, subject) in this session, the person's passkey signs it with the user
verified, `verify` gives the touch (a secret), and whoever does the act redeems it with the session.
Refuses: `people.touch.unknown` (not of this session), `.used`, `.expired`, `.other` (for another act or subject),
`.passkey` (no passkey to touch), and what signing in refuses.
"""

from __future__ import annotations

import msgspec

from rocade.core.errors import Refused
from rocade.trust.authority.people import ceremonies, store
from rocade.trust.authority.people.ceremonies import Options
from rocade.trust.authority.people.challenges import Challenges
from rocade.trust.authority.people.model import SECOND_US, Session, person_number
from rocade.trust.authority.people.once import store as once
from rocade.trust.authority.people.parts import Parts, hash_of
from rocade.trust.authority.people.passkeys import Passkeys

FRESH_US = 60 * SECOND_US
TOUCH = "touch"


class Touches:
    def __init__(self, parts: Parts, challenges: Challenges, passkeys: Passkeys) -> None:
        self._parts = parts
        self._challenges = challenges
        self._passkeys = passkeys

    async def options(self, session: Session, browser: str, act: str, subject: str) -> Options:
        """What the authenticator is asked. `subject` names what the act is done to, '' where it needs no name.

        Raises: Refused `people.touch.passkey`, `people.invalid`.
        """
        if not act or len(act) > 64 or len(subject) > 128:
            raise Refused("people.invalid", "an act has 1 to 64 characters, its subject up to 128", field="act")
        if not (known := await self._passkeys.list(session.person.id)) or session.means != "passkey":
            raise Refused("people.touch.passkey", "this needs a passkey: register one, then sign in with it")
        detail = msgspec.msgpack.encode((act, subject))
        challenge = await self._challenges.draw(TOUCH, browser, person_number(session.person.id), detail)
        return ceremonies.sign_in_options(self._parts.site, challenge, known)

    async def verify(self, session: Session, browser: str, credential: Options, peer: str) -> str:
        """The touch, to be redeemed within a minute.

        Raises: Refused `people.passkey.*`, `people.challenge.*`, `quota.sign_in`.
        """
        parts, person = self._parts, session.person.id
        try:
            self._passkeys.failures.check(peer, person)
            answer = ceremonies.parse_sign_in(credential)
            detail = await self._challenges.take(answer.challenge, TOUCH, browser, person_number(person))
            act, subject = msgspec.msgpack.decode(detail, type=tuple[str, str])
            async with store.transaction(parts.database) as connection:
                passkey = await store.lock_passkey(connection, parts.columns, answer.credential.raw_id)
                now_us = parts.clock.now_us()
                if passkey is not None and passkey.person != person:
                    raise Refused("people.passkey.signature", "this passkey was made for somebody else")
                sign_count = self._passkeys.proven(answer, passkey)
                assert passkey is not None
                await store.use_passkey(connection, passkey.number, sign_count, now_us)
                secret = parts.secret()
                touch = once.Touch(session.number, act, subject, now_us + FRESH_US, None)
                await once.add_touch(connection, hash_of(secret), touch, now_us)
                await parts.record(person, "people.touch", f"passkey:{passkey.number:x}", act=act)
        except Refused as refusal:
            self._passkeys.refused(refusal, "people.touch", peer, person)
            raise
        return secret

    async def redeem(self, session: Session, touch: str, act: str, subject: str) -> None:
        """Use a touch up for the act it was given for.

        Raises: Refused `people.touch.*`.
        """
        parts = self._parts
        async with store.transaction(parts.database) as connection:
            now_us = parts.clock.now_us()
            found = await once.use_touch(connection, hash_of(touch), now_us)
        with parts.noting(session.person.id, "people.touch", session.person.id):
            _check(found, session, act, subject, now_us)


def _check(found: once.Touch | None, session: Session, act: str, subject: str, now_us: int) -> None:
    if found is None or found.session != session.number:
        raise Refused("people.touch.unknown", "touch your passkey for this")
    if found.used_us is not None:
        raise Refused("people.touch.used", "a touch is good once; touch your passkey again")
    if now_us >= found.until_us:
        raise Refused("people.touch.expired", "a touch is good for a minute; touch your passkey again")
    if (found.act, found.subject) != (act, subject):
        raise Refused("people.touch.other", "the passkey was touched for something else; touch it for this")
