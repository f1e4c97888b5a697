"""One-time links: let a person in who has no passkey yet, or has lost it. 256 random bits, hashed at rest, used once.

Who comes by a link may look, and register a passkey; acts that need a touch need a passkey.
Refuses (`people.link.`): `unknown`, `used`, `expired`; `people.ended`; `quota.sign_in` after too many wrong ones.
"""

from __future__ import annotations

from rocade.core.errors import Refused
from rocade.trust.authority.people import store
from rocade.trust.authority.people.limits import Limit
from rocade.trust.authority.people.model import SECOND_US, Person, person_number, require
from rocade.trust.authority.people.parts import Parts, hash_of
from rocade.trust.authority.people.sessions import Sessions

LIFETIME_LIMIT_S = 7 * 86_400


class Links:
    def __init__(self, parts: Parts, sessions: Sessions, failures: Limit) -> None:
        self._parts = parts
        self._sessions = sessions
        self._failures = failures

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
                await store.end_links(connection, number, now_us)
            await store.add_link(connection, hash_of(secret), number, reason, now_us, until_us)
            await parts.record(actor, "people.link.make", person, reason=reason)
        return secret

    async def whose(self, secret: str, peer: str) -> Person | None:
        """Whom a link would let in, without using it; None if nobody.

        Raises: Refused `quota.sign_in`.
        """
        self._failures.check(peer)
        async with store.transaction(self._parts.database) as connection:
            now_us = self._parts.clock.now_us()
            link = await store.read_link(connection, hash_of(secret))
            if link is None or link.used_us is not None or now_us >= link.until_us:
                self._failures.count(peer)
                return None
            return await store.read_person(connection, self._parts.columns, link.person, now_us)

    async def redeem(self, secret: str, peer: str) -> tuple[str, Person]:
        """Use a link: the secret of a new session, and whose it is.

        Raises: Refused `people.link.*`, `people.ended`, `quota.sign_in`.
        """
        parts = self._parts
        try:
            self._failures.check(peer)
            async with store.transaction(parts.database) as connection:
                now_us = parts.clock.now_us()
                link = _usable(await store.read_link(connection, hash_of(secret), lock=True), now_us)
                person = require(await store.read_person(connection, parts.columns, link.person, now_us))
                await store.use_link(connection, hash_of(secret), now_us)
                opened = await self._sessions.open(connection, person, "link")
                await parts.record(person.id, "people.link.redeem", person.id, reason=link.reason)
        except Refused as refusal:
            if not refusal.code.startswith("quota."):
                self._failures.count(peer)
            parts.note(peer, "people.link.redeem", "people", refusal.code)
            raise
        return opened, person


def _usable(link: store.Link | None, now_us: int) -> store.Link:
    if link is None:
        raise Refused("people.link.unknown", "this link is not known here; ask for a new one")
    if link.used_us is not None:
        raise Refused("people.link.used", "this link was used already; ask for a new one")
    if now_us >= link.until_us:
        raise Refused("people.link.expired", "this link has expired; ask for a new one")
    return link
