"""The use cases of consent: grant, narrow, withdraw; with those of `ownership` and `drivers` one class, `Consents`.

There is never more than one consent in force to a recipient for a purpose: a new one takes the old one's place. A row is
never changed but for its end, so that what somebody saw can be held against what he was allowed at that time.
Refuses: `consent.*`, each in the audit log. Decision: docs/decisions/0033-consent.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rocade.core import data_classes
from rocade.services.consent import errors, store
from rocade.services.consent.drivers import Drivers
from rocade.services.consent.model import (
    FOREVER_US,
    GRANT_LIMIT,
    CountLine,
    Grant,
    check_classes,
    check_period,
    check_terms,
)
from rocade.services.consent.ownership import Owners


class Consents(Owners, Drivers):
    """Owners, consents and drivers of one region's database."""

    async def grant(
        self, ref: int, person: str, recipient: str, purpose: str, classes: int,
        from_us: int | None = None, until_us: int = FOREVER_US,
    ) -> Grant:  # fmt: skip
        """The owner lets a recipient see classes (mask) of his vehicle for a purpose.

        From its beginning on it takes the place of another consent to the same recipient for the same purpose, so that there
        is never more than one in force. Raises: Refused `consent.owner.missing`, `consent.purpose.unknown`, `consent.*`.
        """
        async with self.acting(person, "consent.grant", ref) as connection:
            now_us = self.clock.now_us()
            begin_us = now_us if from_us is None else max(from_us, now_us)
            check_terms(person, recipient, purpose, classes)
            check_period(begin_us, until_us, now_us)
            await self.check_owner(connection, ref, person)
            live = await store.grants_of(connection, ref, now_us)
            same = [one for one in live if (one.recipient, one.purpose) == (recipient, purpose)]
            replaced = [one for one in same if one.end_us > begin_us]
            if len(live) - len(replaced) >= GRANT_LIMIT:
                raise errors.too_many("consents", GRANT_LIMIT)
            for one in replaced:
                await store.end_grant(connection, one.id, begin_us, "replaced")
            made = Grant(
                self.new_id("grant"), ref, person, recipient, purpose, classes, begin_us, until_us, now_us,
                replaces=replaced[0].id if replaced else "",
            )  # fmt: skip
            await store.add_grant(connection, made)
            await self.record("consent.grant", person, f"vehicle:{ref}", now_us, **_facts(made))
        return made

    async def narrow(self, ref: int, person: str, id: str, classes: int, until_us: int | None = None) -> Grant:
        """Replace a consent in force by one that shows less or ends sooner.

        Raises: Refused `consent.grant.unknown`, `consent.grant.widens`, `consent.class.none`, `consent.period`.
        """
        async with self.acting(person, "consent.narrow", ref) as connection:
            now_us = self.clock.now_us()
            before = await self._live_grant(connection, ref, person, id, now_us)
            check_classes(classes)
            begin_us, end_us = max(before.from_us, now_us), before.end_us if until_us is None else until_us
            if classes & ~before.classes or end_us > before.end_us:
                raise errors.widens()
            check_period(begin_us, end_us, now_us)
            made = Grant(
                self.new_id("grant"), ref, person, before.recipient, before.purpose, classes, begin_us, end_us, now_us,
                replaces=id,
            )  # fmt: skip
            await store.end_grant(connection, id, begin_us, "narrowed")
            await store.add_grant(connection, made)
            await self.record("consent.narrow", person, f"vehicle:{ref}", now_us, **_facts(made))
        return made

    async def withdraw(self, ref: int, person: str, id: str) -> Grant:
        """End a consent now. Open streams end within two seconds (`ConsentTable.watch`).

        Raises: Refused `consent.grant.unknown`.
        """
        async with self.acting(person, "consent.withdraw", ref) as connection:
            now_us = self.clock.now_us()
            ended = await self._live_grant(connection, ref, person, id, now_us)
            await store.end_grant(connection, id, now_us, "withdrawn")
            await self.record("consent.withdraw", person, f"vehicle:{ref}", now_us, grant=id)
        return msgspec.structs.replace(ended, ended_us=now_us, why_ended="withdrawn")

    async def return_feed(self, ref: int, id: str, actor: str) -> None:
        """The consent of a contract that its third party gave back, or the region stopped, ends with it.

        Raises: Refused `consent.grant.unknown`.
        """
        async with self.acting(actor, "consent.return", ref) as connection:
            found, now_us = await store.grant(connection, id), self.clock.now_us()
            if found is None or found.ref != ref or found.end_us <= now_us or not found.recipient.startswith("feed:"):
                raise errors.grant_unknown()
            await store.end_grant(connection, id, now_us, "returned")
            await self.record("consent.return", actor, f"vehicle:{ref}", now_us, grant=id)

    async def _live_grant(self, connection: Any, ref: int, person: str, id: str, now_us: int) -> Grant:
        await self.check_owner(connection, ref, person)
        found = await store.grant(connection, id)
        if found is None or found.ref != ref or found.end_us <= now_us:
            raise errors.grant_unknown()
        return found

    async def grants(self, ref: int, is_live_only: bool = False) -> list[Grant]:
        """Consents of a vehicle, in the order they were given."""
        return await store.grants_of(self.pool, ref, self.clock.now_us() if is_live_only else 0)

    async def find_grant(self, id: str) -> Grant | None:
        return await store.grant(self.pool, id)

    async def counts(self) -> list[CountLine]:
        """Vehicles by purpose, data class and recipient: what an operator may know of consents."""
        sums: dict[tuple[str, str, str], int] = {}
        for purpose, recipient, classes, vehicles in await store.count_grants(self.pool, self.clock.now_us()):
            for name in data_classes.names(classes):
                key = purpose, name, recipient
                sums[key] = sums.get(key, 0) + vehicles
        return [CountLine(*key, vehicles) for key, vehicles in sorted(sums.items())]


def _facts(grant: Grant) -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "grant": grant.id,
        "recipient": grant.recipient,
        "purpose": grant.purpose,
        "classes": " ".join(data_classes.names(grant.classes)),
        "from_us": grant.from_us,
        "until_us": grant.until_us,
    }
    return facts | ({"replaces": grant.replaces} if grant.replaces else {})
