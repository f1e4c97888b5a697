"""Passkeys: register the first or a further one, sign in with one, rename, remove.

Flow: `..._options` draws a challenge for this browser, the authenticator signs it, `register` or `sign_in` takes the
challenge (used up whatever comes of it), checks the ceremony and writes, all in one transaction and in the audit log. No
user name is typed: the passkey says who it is.
Refuses (`people.passkey.`): what `ceremonies` refuses, `unknown` (not registered here), `ended` (removed, or lost and
replaced), `exists`, `many`, `last` (it would lock its owner out); `people.challenge.*`; `quota.sign_in`.
"""

from __future__ import annotations

from rocade.core.errors import Refused
from rocade.trust.authority.people import ceremonies, store
from rocade.trust.authority.people.ceremonies import Options
from rocade.trust.authority.people.challenges import Challenges
from rocade.trust.authority.people.limits import BEGINNINGS, FAILURES, Limit
from rocade.trust.authority.people.model import NAME_LIMIT, Passkey, Person, Session, person_number, require
from rocade.trust.authority.people.parts import Parts
from rocade.trust.authority.people.sessions import Sessions

LIMIT = 20
REGISTER, SIGN_IN = "register", "sign_in"


class Passkeys:
    def __init__(self, parts: Parts, challenges: Challenges, sessions: Sessions) -> None:
        self._parts = parts
        self._challenges = challenges
        self._sessions = sessions
        self._beginnings = Limit(parts.clock, BEGINNINGS)
        self.failures = Limit(parts.clock, FAILURES)

    async def list(self, person: str) -> list[Passkey]:
        """A person's passkeys, oldest first."""
        async with store.transaction(self._parts.database) as connection:
            return await store.read_passkeys(connection, self._parts.columns, person_number(person))

    # --- sign in

    async def sign_in_options(self, browser: str, peer: str) -> Options:
        """What the browser's authenticator is asked; `browser` is the secret this browser was given."""
        self.begin(peer)
        return ceremonies.sign_in_options(self._parts.site, await self._challenges.draw(SIGN_IN, browser), [])

    def begin(self, peer: str) -> None:
        """Count an attempt to sign in that begins, by whatever means.

        Raises: Refused `quota.sign_in`.
        """
        self._beginnings.check(peer)
        self._beginnings.count(peer)

    async def sign_in(self, browser: str, credential: Options, peer: str) -> tuple[str, Person]:
        """The secret of a new session, and whose it is.

        Raises: Refused `people.passkey.*`, `people.challenge.*`, `people.ended`, `quota.sign_in`.
        """
        passkey: Passkey | None = None
        self._check_attempts(peer)
        try:
            answer = ceremonies.parse_sign_in(credential)
            await self._challenges.take(answer.challenge, SIGN_IN, browser)
            async with store.transaction(self._parts.database) as connection:
                passkey = await store.lock_passkey(connection, self._parts.columns, answer.credential.raw_id)
                now_us = self._parts.clock.now_us()
                sign_count = self.proven(answer, passkey)
                assert passkey is not None
                person = require(
                    await store.read_person(connection, self._parts.columns, person_number(passkey.person), now_us)
                )
                await store.use_passkey(connection, passkey.number, sign_count, now_us)
                secret = await self._sessions.open(connection, person, "passkey", passkey.number)
                await self._parts.record(person.id, "people.sign_in", f"passkey:{passkey.number:x}")
        except Refused as refusal:
            self.refused(refusal, "people.sign_in", peer, passkey.person if passkey else "")
            raise
        return secret, person

    def proven(self, answer: ceremonies.Answer, passkey: Passkey | None) -> int:  # type: ignore[type-arg]
        """The new counter of a passkey in force whose answer holds.

        Raises: Refused `people.passkey.*`, `quota.sign_in`.
        """
        if passkey is None:
            raise Refused("people.passkey.unknown", "this passkey is not registered here")
        self.failures.check(passkey.person)
        if passkey.ended_us is not None:
            raise Refused("people.passkey.ended", "this passkey was removed or replaced; use another one")
        sign_count = ceremonies.verify_sign_in(self._parts.site, answer, passkey)
        ceremonies.check_counter(passkey, sign_count)
        return sign_count

    def _check_attempts(self, peer: str) -> None:
        with self._parts.noting(peer, "people.sign_in", "people"):
            self.failures.check(peer)

    def refused(self, refusal: Refused, action: str, peer: str, person: str) -> None:
        """Count and audit a wrong answer, by address and, where a passkey names one, by person."""
        self.failures.count(*filter(None, (peer, person)))
        self._parts.note(peer, action, person or "people", refusal.code)

    # --- register

    async def register_options(self, session: Session, browser: str) -> Options:
        """What a browser's authenticator is asked for a new passkey of the one who is signed in.

        Raises: Refused `people.passkey.many`, `people.passkey.link`.
        """
        known = await self.list(session.person.id)
        self._check_may_register(session, len(known))
        number = person_number(session.person.id)
        challenge = await self._challenges.draw(REGISTER, browser, number)
        return ceremonies.registration_options(self._parts.site, session.person, challenge, known)

    async def register(self, session: Session, browser: str, credential: Options, name: str) -> tuple[str, Passkey]:
        """Keep a new passkey; the secret of the session that goes on, and the passkey. The old session ends.

        Raises: Refused `people.passkey.*`, `people.challenge.*`.
        """
        parts, number = self._parts, person_number(session.person.id)
        check_name(name)
        with parts.noting(session.person.id, "people.passkey.add", session.person.id):
            answer = ceremonies.parse_registration(credential)
            await self._challenges.take(answer.challenge, REGISTER, browser, number)
            proven = ceremonies.verify_registration(parts.site, answer)
            async with store.transaction(parts.database) as connection:
                now_us = parts.clock.now_us()
                person = require(await store.read_person(connection, parts.columns, number, now_us, lock=True))
                self._check_may_register(session, len(await store.read_passkeys(connection, parts.columns, number)))
                passkey = Passkey(
                    parts.number(), proven.credential_id, person.id, proven.public_key, proven.sign_count, name.strip(),
                    proven.is_synced, now_us, now_us, None,
                )  # fmt: skip
                if not await store.add_passkey(connection, parts.columns, passkey):
                    raise Refused("people.passkey.exists", "this passkey is registered already")
                if not await store.end_sessions(connection, number, now_us, number=session.number):
                    raise Refused("people.session.missing", "you were signed out meanwhile; sign in first")
                secret = await self._sessions.open(connection, person, "passkey", passkey.number)
                await parts.record(person.id, "people.passkey.add", f"passkey:{passkey.number:x}")
        self._sessions.forget()
        return secret, passkey

    def _check_may_register(self, session: Session, known: int) -> None:
        if known and session.means != "passkey":
            raise Refused("people.passkey.link", "sign in with a passkey you have to add another one")
        if known >= LIMIT:
            raise Refused("people.passkey.many", f"{LIMIT} passkeys are enough; remove one first")

    # --- keep

    async def rename(self, session: Session, number: int, name: str) -> None:
        """Raises: Refused `people.passkey.unknown`, `people.invalid`."""
        check_name(name)
        async with store.transaction(self._parts.database) as connection:
            if not await store.rename_passkey(
                connection, self._parts.columns, person_number(session.person.id), number, name.strip()
            ):
                raise Refused("people.passkey.unknown", "there is no such passkey of yours")

    async def remove(self, session: Session, number: int) -> None:
        """End a passkey and the sessions opened with it.

        Raises: Refused `people.passkey.unknown`, `people.passkey.last`.
        """
        person, parts = person_number(session.person.id), self._parts
        async with store.transaction(parts.database) as connection:
            now_us = parts.clock.now_us()
            await store.read_person(connection, parts.columns, person, now_us, lock=True)
            known = {one.number for one in await store.read_passkeys(connection, parts.columns, person)}
            if number not in known:
                raise Refused("people.passkey.unknown", "there is no such passkey of yours")
            if len(known) == 1:
                raise Refused("people.passkey.last", "this is your only passkey; add another one first")
            await store.end_passkeys(connection, person, now_us, number)
            await store.end_sessions(connection, person, now_us, passkey=number)
            await parts.record(session.person.id, "people.passkey.remove", f"passkey:{number:x}")
        self._sessions.forget()


def check_name(name: str) -> None:
    """Raises: Refused `people.invalid`."""
    if not 1 <= len(name.strip()) <= NAME_LIMIT or not name.isprintable():
        raise Refused("people.invalid", f"a name has 1 to {NAME_LIMIT} printable characters", field="name")
