"""Drivers: the owner invites by a one-time code, somebody accepts, and it ends by itself, by the owner or by the driver."""

from __future__ import annotations

import msgspec

from rocade.core import data_classes
from rocade.services.consent import errors, store
from rocade.services.consent.acting import Acts, hash_of, reference, shown
from rocade.services.consent.model import (
    GUEST_LIMIT,
    GUEST_LONGEST_US,
    INVITATION_LIFE_US,
    Guest,
    check_classes,
    check_period,
    check_person,
)


class Drivers(Acts):
    """The use cases of delegation."""

    async def invite(
        self, ref: int, person: str, classes: int, until_us: int, from_us: int | None = None
    ) -> tuple[Guest, str]:
        """The owner invites a driver for a period; returns the invitation and its one-time code, shown once.

        Raises: Refused `consent.owner.missing`, `consent.class.none`, `consent.period`, `consent.many`.
        """
        code = self.new_code()
        async with self.acting(person, "consent.invite", ref) as connection:
            now_us = self.clock.now_us()
            begin_us = now_us if from_us is None else max(from_us, now_us)
            check_classes(classes)
            check_period(begin_us, until_us, now_us, GUEST_LONGEST_US)
            await self.check_owner(connection, ref, person)
            live = await store.guests_of(connection, ref, now_us)
            if sum(one.is_open(now_us) for one in live) >= GUEST_LIMIT:
                raise errors.too_many("drivers", GUEST_LIMIT)
            end_us = min(until_us, now_us + INVITATION_LIFE_US)
            guest = Guest(self.new_id("guest"), ref, person, "", classes, begin_us, until_us, end_us, now_us)
            await store.add_guest(connection, guest, hash_of(code))
            words = " ".join(data_classes.names(classes))
            await self.record(
                "consent.invite", person, f"vehicle:{ref}", now_us,
                guest=guest.id, classes=words, from_us=begin_us, until_us=until_us,
            )  # fmt: skip
        return guest, shown(code)

    async def invitation(self, code: str, person: str) -> Guest:
        """What an invitation offers, before it is accepted.

        Raises: Refused `consent.invitation.unknown`, `.used`, `.ended`, `.own`.
        """
        digest = hash_of(code)
        guest = await store.guest_by_code(self.pool, digest)
        reason = _unacceptable(guest, person, self.clock.now_us())
        if guest is None or reason:
            refusal = errors.invitation(reason)
            raise self.note_refusal(person, "consent.invitation", reference("invitation", digest), refusal)
        return guest

    async def accept(self, code: str, person: str) -> Guest:
        """Become a driver by an invitation, once. It takes the place of an earlier one of the same person.

        Raises: Refused `consent.invitation.unknown`, `.used`, `.ended`, `.own`.
        """
        check_person(person)
        digest = hash_of(code)
        subject = reference("invitation", digest)
        found = await store.guest_by_code(self.pool, digest)
        if found is None:
            raise self.note_refusal(person, "consent.accept", subject, errors.invitation("unknown"))
        async with self.acting(person, "consent.accept", found.ref, subject) as connection:
            now_us = self.clock.now_us()
            guest = await store.guest_by_code(connection, digest)
            reason = _unacceptable(guest, person, now_us)
            if guest is None or reason:
                raise errors.invitation(reason)
            for other in await store.guests_of(connection, guest.ref, now_us):
                if other.person == person and other.end_us > guest.from_us:
                    await store.end_guest(connection, other.id, max(guest.from_us, now_us), "replaced")
            await store.accept_guest(connection, guest.id, person, now_us)
            await self.record("consent.accept", person, f"vehicle:{guest.ref}", now_us, guest=guest.id)
        return msgspec.structs.replace(guest, person=person, accepted_us=now_us)

    async def end(self, ref: int, person: str, id: str) -> Guest:
        """End a driver's time or an open invitation: the owner may, and the driver himself.

        Raises: Refused `consent.guest.unknown`, `consent.owner.missing`.
        """
        async with self.acting(person, "consent.end", ref) as connection:
            now_us = self.clock.now_us()
            guest = await store.guest(connection, id)
            if guest is None or guest.ref != ref or guest.person != person:
                await self.check_owner(connection, ref, person)
            if guest is None or guest.ref != ref or guest.end_us <= now_us:
                raise errors.guest_unknown()
            await store.end_guest(connection, id, now_us, "ended")
            await self.record("consent.end", person, f"vehicle:{ref}", now_us, guest=id)
        return msgspec.structs.replace(guest, ended_us=now_us, why_ended="ended")

    async def guests(self, ref: int, is_live_only: bool = False) -> list[Guest]:
        """Drivers and invitations of a vehicle, in the order they were made."""
        now_us = self.clock.now_us()
        found = await store.guests_of(self.pool, ref, now_us if is_live_only else 0)
        return [one for one in found if not is_live_only or one.is_open(now_us)]

    async def find_guest(self, id: str) -> Guest | None:
        return await store.guest(self.pool, id)

    async def drives(self, person: str) -> list[Guest]:
        """What a person drives, now or soon, by invitation."""
        return await store.guests_as(self.pool, person, self.clock.now_us())


def _unacceptable(guest: Guest | None, person: str, now_us: int) -> str:
    """Why an invitation cannot be accepted; '' if it can."""
    if guest is None:
        return "unknown"
    if guest.person:
        return "used"
    if guest.owner == person:
        return "own"
    return "ended" if now_us >= min(guest.end_us, guest.invitation_end_us) else ""
