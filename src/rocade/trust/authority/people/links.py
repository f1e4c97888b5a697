"""One-time links: let a person in who has no passkey yet, or has lost it. 256 random bits, hashed at rest, used once.

Who comes by a link may look, and register a passkey; acts that need a touch need a passkey. A link that lets in by itself lives
ten minutes at most (ASVS 6.5.5). One that has to travel for longer is an invitation: opening it only asks to be let in. The page
shows a number of eight digits that belongs to this browser, its holder tells it to whoever invited him, and who holds the duty
(or the region's disk) confirms person and number; all within ten minutes, or the asking begins anew.
Refuses (`people.link.`): `unknown`, `used`, `expired`, `unconfirmed`, `unasked`; `people.ended`; `quota.sign_in` after too many wrong ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from rocade.core.errors import Refused
from rocade.trust.authority.people import store
from rocade.trust.authority.people.limits import Limit
from rocade.trust.authority.people.model import SECOND_US, Person, person_number, require
from rocade.trust.authority.people.once import store as once
from rocade.trust.authority.people.parts import Parts, hash_of
from rocade.trust.authority.people.sessions import Sessions

ALONE_S = 600.0
"""What lets somebody in by itself lives for no longer, and neither does a request to be let in."""
LIFETIME_LIMIT_S = 7 * 86_400
NUMBERS = 10**8


class Shown(msgspec.Struct, frozen=True):
    """What a link's page shows without using it; `must_ask`: it is an invitation."""

    person: Person
    must_ask: bool


class Asked(msgspec.Struct, frozen=True):
    """A request to be let in; `number` is what its holder tells, '' where nothing has to be confirmed."""

    number: str
    is_confirmed: bool
    until_us: int


class Links:
    """`begin` counts and limits what is begun by one address."""

    def __init__(self, parts: Parts, sessions: Sessions, failures: Limit, begin: Callable[[str], None]) -> None:
        self._parts = parts
        self._sessions = sessions
        self._failures = failures
        self._begin = begin

    async def make(self, person: str, reason: str, lifetime_s: float, actor: str, *, ends_earlier: bool = True) -> str:
        """The secret of a new link; it is seen here alone. Earlier unused ones of this person end, unless several are handed out at once.

        Raises: Refused `people.unknown`, `people.ended`, `people.invalid`.
        """
        if not 0 < lifetime_s <= LIFETIME_LIMIT_S:
            raise Refused("people.invalid", "a link lives for up to seven days", field="lifetime_s")
        parts, number, secret = self._parts, person_number(person), self._parts.secret()
        async with store.transaction(parts.database) as connection:
            now_us = parts.clock.now_us()
            require(await store.read_person(connection, parts.columns, number, now_us, lock=True))
            until_us = now_us + int(lifetime_s * SECOND_US)
            if ends_earlier:
                await once.end_links(connection, number, now_us)
            await once.add_link(connection, hash_of(secret), number, reason, now_us, until_us)
            await parts.record(actor, "people.link.make", person, reason=reason, until_us=until_us)
        return secret

    async def whose(self, secret: str, peer: str) -> Shown | None:
        """Whom a link would let in, without using it; None if nobody.

        Raises: Refused `quota.sign_in`.
        """
        self._failures.check(peer)
        async with store.transaction(self._parts.database) as connection:
            now_us = self._parts.clock.now_us()
            link = await once.read_link(connection, hash_of(secret))
            if link is None or link.used_us is not None or now_us >= link.until_us:
                self._failures.count(peer)
                return None
            person = await store.read_person(connection, self._parts.columns, link.person, now_us)
        return Shown(person, _must_ask(link)) if person else None

    # --- invitations: ask, and be confirmed

    async def ask(self, secret: str, browser: str, peer: str) -> Asked:
        """Ask to be let in by an invitation; the same browser finds its request again while it lives.

        Raises: Refused `people.link.*`, `people.ended`, `quota.sign_in`.
        """
        parts = self._parts
        with self._counting(peer, "people.link.ask"):
            async with store.transaction(parts.database) as connection:
                now_us = parts.clock.now_us()
                link = _usable(await once.read_link(connection, hash_of(secret)), now_us)
                person = require(await store.read_person(connection, parts.columns, link.person, now_us))
                if not _must_ask(link):
                    return Asked("", is_confirmed=True, until_us=link.until_us)
                found = await once.read_ask(connection, hash_of(secret), hash_of(browser), now_us)
                if found is None:
                    self._begin(peer)
                    number = f"{parts.random.bits(64) % NUMBERS:08d}"
                    found = once.Ask(number, now_us + int(ALONE_S * SECOND_US), None)
                    await once.put_ask(connection, hash_of(secret), hash_of(browser), link.person, found, now_us)
                    await parts.record(peer, "people.link.ask", person.id)
        return Asked(found.number, found.confirmed_us is not None, found.until_us)

    async def confirm(self, person: str, number: str, actor: str) -> None:
        """Let in the browser that shows this number on an invitation of this person.

        Raises: Refused `people.link.unasked`.
        """
        parts, digits = self._parts, "".join(number.split())
        with parts.noting(actor, "people.link.confirm", person):
            async with store.transaction(parts.database) as connection:
                if not await once.confirm_ask(connection, person_number(person), digits, parts.clock.now_us()):
                    raise Refused(
                        "people.link.unasked", "nobody with an invitation for this person is shown this number now"
                    )
                await parts.record(actor, "people.link.confirm", person)

    async def waiting(self, person: str) -> list[str]:
        """The numbers shown to those who ask to be let in as this person, unconfirmed."""
        async with store.transaction(self._parts.database) as connection:
            return await once.waiting(connection, person_number(person), self._parts.clock.now_us())

    # --- use

    async def redeem(self, secret: str, peer: str, browser: str = "") -> tuple[str, Person]:
        """Use a link: the secret of a new session, and whose it is. An invitation's request of this browser has been confirmed.

        Raises: Refused `people.link.*`, `people.ended`, `quota.sign_in`.
        """
        parts = self._parts
        with self._counting(peer, "people.link.redeem"):
            async with store.transaction(parts.database) as connection:
                now_us = parts.clock.now_us()
                link = _usable(await once.read_link(connection, hash_of(secret), lock=True), now_us)
                person = require(await store.read_person(connection, parts.columns, link.person, now_us))
                if _must_ask(link):
                    ask = await once.read_ask(connection, hash_of(secret), hash_of(browser), now_us)
                    if ask is None or ask.confirmed_us is None:
                        raise Refused(
                            "people.link.unconfirmed", "tell the number to whoever invited you; he lets you in with it"
                        )
                await once.use_link(connection, hash_of(secret), now_us)
                opened = await self._sessions.open(connection, person, "link")
                await parts.record(person.id, "people.link.redeem", person.id, reason=link.reason)
        return opened, person

    @contextlib.contextmanager
    def _counting(self, peer: str, action: str) -> Iterator[None]:
        """Count and write down what is refused inside, unless this address has had too many refusals already."""
        try:
            self._failures.check(peer)
            yield
        except Refused as refusal:
            if not refusal.code.startswith("quota."):
                self._failures.count(peer)
            self._parts.note(peer, action, "people", refusal.code)
            raise


def _must_ask(link: once.Link) -> bool:
    """Whether it lives too long to let anybody in by itself."""
    return link.until_us - link.made_us > ALONE_S * SECOND_US


def _usable(link: once.Link | None, now_us: int) -> once.Link:
    if link is None:
        raise Refused("people.link.unknown", "this link is not known here; ask for a new one")
    if link.used_us is not None:
        raise Refused("people.link.used", "this link was used already; ask for a new one")
    if now_us >= link.until_us:
        raise Refused("people.link.expired", "this link has expired; ask for a new one")
    return link
