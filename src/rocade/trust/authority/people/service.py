"""The people of one region: who they are, how they prove it, and which duties they hold.

`People` is what other rooms hold. People are added, recovered and given duties by somebody else, never by themselves;
whoever holds the region's disk adds the first one (`rocade person add`). Every act is one transaction and in the audit
log before it counts. The gate decides who may call these; the rules here hold whoever calls.
Refuses: `people.unknown`, `people.ended`, `people.invalid`, `people.self` (one's own recovery or duties),
`people.duty.missing` (whoever recovers an operator needs the security duty himself), `people.duty.unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable

from rocade.core.errors import Refused
from rocade.core.ports import Audit, Clock, Random
from rocade.fabric.database import Database
from rocade.trust.authority.gate.model import Principal
from rocade.trust.authority.people import store
from rocade.trust.authority.people.challenges import Challenges
from rocade.trust.authority.people.links import ALONE_S, Links
from rocade.trust.authority.people.model import (
    DAY_US,
    SECOND_US,
    Duty,
    Person,
    Session,
    Site,
    check_duty,
    check_person,
    person_id,
    person_number,
    require,
)
from rocade.trust.authority.people.once import store as once
from rocade.trust.authority.people.openid import Accounts
from rocade.trust.authority.people.parts import Parts, hash_of
from rocade.trust.authority.people.passkeys import Passkeys
from rocade.trust.authority.people.sessions import Sessions
from rocade.trust.authority.people.touches import Touches

LOAN_LIMIT_US = 366 * DAY_US
LOCAL = "local"


class People:
    """`site` is where they sign in, `region` what their principals carry."""

    def __init__(
        self, database: Database, audit: Audit, clock: Clock, random: Random, site: Site | None = None, region: str = ""
    ) -> None:
        self._parts = parts = Parts(database, audit, clock, random, site or Site(), region)
        self.challenges = Challenges(parts)
        self.sessions = Sessions(parts)
        self.passkeys = Passkeys(parts, self.challenges, self.sessions)
        self.links = Links(parts, self.sessions, self.passkeys.failures, self.passkeys.begin)
        self.accounts = Accounts(parts, self.challenges, self.sessions)
        self.touches = Touches(parts, self.challenges, self.passkeys)

    @property
    def site(self) -> Site:
        return self._parts.site

    # --- what every request asks

    async def session(self, secret: str) -> Session | None:
        """Who holds this session secret; as of at most a second ago.

        Raises: Unavailable `database.down`.
        """
        return await self.sessions.session(secret)

    async def redeem_touch(self, session_secret: str, touch: str, act: str, subject: str) -> None:
        """Use up a touch given for `act` on `subject` in this session.

        Raises: Refused `people.touch.*`, `people.session.missing`.
        """
        session = await self.session(session_secret)
        if session is None:
            raise Refused("people.session.missing", "sign in first")
        await self.touches.redeem(session, touch, act, subject)

    async def check_further(self, session: Session, touch: str, act: str, subject: str = "") -> None:
        """Who has a passkey touches it before he adds another one or ends sessions; who has none has nothing to touch.

        Raises: Refused `people.touch.*`.
        """
        if session.passkeys:
            await self.touches.redeem(session, touch, act, subject)

    def new_browser(self) -> str:
        """A secret that binds challenges to a browser nobody has signed in with yet."""
        return self._parts.secret()

    async def link(self, person: str, reason: str, lifetime_s: float = ALONE_S, actor: str = LOCAL) -> str:
        """A one-time link for this person; see `Links.make`."""
        return await self.links.make(person, reason, lifetime_s, actor)

    async def redeem_link(self, secret: str, peer: str = LOCAL, browser: str = "") -> str:
        """The secret of the session a link opens; see `Links.redeem`."""
        return (await self.links.redeem(secret, peer, browser))[0]

    # --- who there is

    async def add(
        self, name: str, duties: Iterable[str] = (), organisation: str = "", language: str = "en", actor: str = LOCAL
    ) -> Person:
        """Raises: Refused `people.invalid`."""
        check_person(name, organisation, language)
        parts = self._parts
        now_us = parts.clock.now_us()
        held = tuple(Duty(parts.number(), duty, "", actor, None) for duty in sorted(set(duties)))
        for one in held:
            check_duty(one.duty, one.scope, one.until_us, now_us)
        person = Person(person_id(parts.number()), name.strip(), organisation, language, now_us, None, held)
        async with store.transaction(parts.database) as connection:
            await store.add_person(connection, parts.columns, person)
            for one in held:
                await store.add_duty(connection, person_number(person.id), one, now_us)
            await parts.record(actor, "people.add", person.id, duties=" ".join(one.duty for one in held))
        return person

    async def by_id(self, person: str) -> Person:
        """Raises: Refused `people.unknown`."""
        async with store.transaction(self._parts.database) as connection:
            found = await store.read_person(
                connection, self._parts.columns, person_number(person), self._parts.clock.now_us()
            )
        if found is None:
            raise Refused("people.unknown", "there is no such person")
        return found

    async def find(self, name: str, limit: int = 20) -> list[Person]:
        """People who have access and whose name contains these letters, small or capital."""
        async with store.transaction(self._parts.database) as connection:
            return await store.find_people(
                connection, self._parts.columns, name.strip(), limit, self._parts.clock.now_us()
            )

    async def list(self, after: str = "", limit: int = 100) -> list[Person]:
        """People in the order of their random numbers, beyond `after`."""
        number = person_number(after) if after else 0
        async with store.transaction(self._parts.database) as connection:
            return await store.read_people(
                connection, self._parts.columns, number, max(1, min(limit, 1000)), self._parts.clock.now_us()
            )

    async def end(self, person: str, actor: str = LOCAL) -> None:
        """End a person's access for good: passkeys, sessions, links and duties; the name is forgotten.

        Raises: Refused `people.unknown`, `people.ended`, `people.self`.
        """
        if person == actor:
            raise Refused("people.self", "nobody does this for himself; ask a second person")
        parts, number = self._parts, person_number(person)
        async with store.transaction(parts.database) as connection:
            now_us = parts.clock.now_us()
            require(await store.read_person(connection, parts.columns, number, now_us, lock=True))
            await store.end_passkeys(connection, number, now_us)
            await store.end_sessions(connection, number, now_us)
            await once.end_links(connection, number, now_us)
            await store.end_person(connection, number, now_us)
            await parts.record(actor, "people.end", person)
        self.sessions.forget()

    # --- a second person's acts

    async def recover(self, by: Principal, person: str) -> str:
        """Give somebody who lost his passkeys a new start: they end, his sessions too; the one-time link to hand over.

        Raises: Refused `people.self`, `people.duty.missing`, `people.unknown`, `people.ended`.
        """
        parts, number, secret = self._parts, person_number(person), self._parts.secret()
        with parts.noting(by.id, "people.recover", person):
            _check_other(by, person)
            async with store.transaction(parts.database) as connection:
                now_us = parts.clock.now_us()
                lost = require(await store.read_person(connection, parts.columns, number, now_us, lock=True))
                _check_duty(by, *_desk_duties(lost))
                passkeys = await store.end_passkeys(connection, number, now_us)
                sessions = await store.end_sessions(connection, number, now_us)
                await once.end_links(connection, number, now_us)
                await store.drop_accounts(connection, number)
                until_us = now_us + int(ALONE_S * SECOND_US)
                await once.add_link(connection, hash_of(secret), number, "recovery", now_us, until_us)
                await parts.record(by.id, "people.recover", person, passkeys=passkeys, sessions=sessions)
        self.sessions.forget()
        return secret

    async def invite(self, by: Principal, person: str, lifetime_s: float = ALONE_S) -> str:
        """A new one-time link for somebody who has no passkey yet; who has one is recovered, which he notices.

        Beyond ten minutes it is an invitation, whose holder is let in by `confirm`.
        Raises: Refused `people.self`, `people.passkey.exists`, `people.duty.missing`, `people.unknown`.
        """
        with self._parts.noting(by.id, "people.link.make", person):
            _check_other(by, person)
            _check_duty(by, *_desk_duties(await self.by_id(person)))
            if await self.passkeys.list(person):
                raise Refused("people.passkey.exists", "this person has a passkey; recover the access instead")
            return await self.link(person, "invitation", lifetime_s, by.id)

    async def confirm(self, by: Principal, person: str, number: str) -> None:
        """Let in who is shown this number on an invitation of this person.

        Raises: Refused `people.self`, `people.duty.missing`, `people.unknown`, `people.link.unasked`.
        """
        with self._parts.noting(by.id, "people.link.confirm", person):
            _check_other(by, person)
            _check_duty(by, *_desk_duties(await self.by_id(person)))
        await self.links.confirm(person, number, by.id)

    async def lend(self, by: Principal, person: str, duty: str, scope: str, until_us: int) -> Duty:
        """Give a duty, or the part of it that `scope` names, until a date; at most a year.

        Raises: Refused `people.self`, `people.duty.missing`, `people.invalid`, `people.unknown`, `people.ended`.
        """
        parts, number = self._parts, person_number(person)
        now_us = parts.clock.now_us()
        with parts.noting(by.id, "people.duty.lend", person):
            check_duty(duty, scope, until_us, now_us)
            if until_us > now_us + LOAN_LIMIT_US:
                raise Refused("people.invalid", "a duty is lent for a year at most", field="until_us")
            _check_other(by, person)
            _check_duty(by, "security")
            lent = Duty(parts.number(), duty, scope, by.id, until_us)
            facts: dict[str, str | int] = {"duty": duty, "scope": scope, "until_us": until_us, "number": lent.number}
            async with store.transaction(parts.database) as connection:
                require(await store.read_person(connection, parts.columns, number, now_us, lock=True))
                await store.add_duty(connection, number, lent, now_us)
                await parts.record(by.id, "people.duty.lend", person, **facts)
        self.sessions.forget()
        return lent

    async def take_back(self, by: Principal, person: str, number: int) -> None:
        """End a duty now.

        Raises: Refused `people.self`, `people.duty.missing`, `people.duty.unknown`.
        """
        parts = self._parts
        with parts.noting(by.id, "people.duty.end", person):
            _check_other(by, person)
            _check_duty(by, "security")
            async with store.transaction(parts.database) as connection:
                duty = await store.end_duty(connection, person_number(person), number, parts.clock.now_us())
                if duty is None:
                    raise Refused("people.duty.unknown", "this person holds no such duty")
                await parts.record(by.id, "people.duty.end", person, duty=duty, number=number)
        self.sessions.forget()

    async def enlist(self, by: Principal, name: str, organisation: str, language: str) -> Person:
        """Add somebody, without duties.

        Raises: Refused `people.duty.missing`, `people.invalid`.
        """
        with self._parts.noting(by.id, "people.add", "people"):
            _check_duty(by, "security")
            return await self.add(name, (), organisation, language, by.id)

    async def dismiss(self, by: Principal, person: str) -> None:
        """End somebody's access; see `end`.

        Raises: Refused `people.duty.missing`, `people.self`, `people.unknown`, `people.ended`.
        """
        with self._parts.noting(by.id, "people.end", person):
            _check_duty(by, "security")
            await self.end(person, by.id)


def _desk_duties(person: Person) -> tuple[str, ...]:
    """The duties of which one is needed to let somebody in anew: an operator takes more than the desk."""
    return ("security",) if person.is_operator else ("support", "security")


def _check_other(by: Principal, person: str) -> None:
    """Raises: Refused `people.self`."""
    if by.id == person:
        raise Refused("people.self", "nobody does this for himself; ask a second person")


def _check_duty(by: Principal, *duties: str) -> None:
    """One of these will do.

    Raises: Refused `people.duty.missing`.
    """
    if by.means not in {"passkey", "certificate"} or not by.duties & set(duties):
        needed = " or ".join(duties)
        raise Refused("people.duty.missing", f"this needs an operator with the {needed} duty and a passkey")
