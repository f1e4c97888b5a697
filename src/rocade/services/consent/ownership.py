"""Owners: the first one, a change by a one-time code, and what happens when two claim one vehicle.

A code that an operator handed out makes its bearer the first owner; one that the owner gave at a sale makes him the next.
Any other claim of an owned vehicle opens a conflict, which support settles having seen papers; until then nothing changes
hands. A change of owner gives the vehicle a new reference by `renew`, handed in by the app: registry, counting of batches
and open connections follow it, decided in the same transaction and in effect `HANDOVER_US` later. The vehicle's certificate stays its own; consents, drivers,
invitations and unused codes end; what was stays under the old reference, the former owner's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from rocade.core.errors import Misconfigured, Unavailable
from rocade.core.ports import Audit, Clock, Random
from rocade.fabric.database import Database
from rocade.services.consent import errors, store
from rocade.services.consent.acting import Acts, hash_of, reference, shown
from rocade.services.consent.model import CLAIM_LIFE_US, HANDOVER_US, Claim, Conflict, Ownership, Transfer, check_person

type Renew = Callable[[Any, int, int], Awaitable[int]]
"""`await renew(connection, ref, at_us)`: in this transaction, give the vehicle a new reference from `at_us` on; return it."""


class Owners(Acts):
    """The use cases of ownership."""

    def __init__(
        self, database: Database, audit: Audit, clock: Clock, random: Random, *, renew: Renew | None = None
    ) -> None:
        super().__init__(database, audit, clock, random)
        self._renew = renew

    async def own(self, ref: int, person: str, actor: str = "operator") -> Ownership:
        """Make a person the first owner of a vehicle that nobody owns.

        Raises: Refused `consent.owner.exists`, `consent.person`.
        """
        check_person(person)
        async with self.acting(actor, "consent.own", ref) as connection:
            now_us = self.clock.now_us()
            if not await store.add_owner(connection, ref, person, now_us):
                raise errors.is_owned()
            await self.record("consent.own", actor, f"vehicle:{ref}", now_us, owner=person)
        return Ownership(ref, person, now_us)

    async def owner(self, ref: int) -> Ownership | None:
        """Who owns, or owned, what this reference names."""
        return await store.owner(self.pool, ref)

    async def owned_by(self, person: str) -> list[Ownership]:
        """A person's present and former vehicles, the newest first."""
        return await store.owned_by(self.pool, person)

    async def owned_count(self) -> int:
        """How many vehicles have an owner now."""
        return await store.count_owned(self.pool, self.clock.now_us())

    # --- codes --------------------------------------------------------------------------------------------------------

    async def hand_out(self, ref: int, actor: str, life_us: int = CLAIM_LIFE_US) -> str:
        """An operator makes the one-time code that goes out with a vehicle; it makes its bearer the first owner.

        For an owned vehicle the bearer's claim becomes a conflict that support settles: nobody is dispossessed by a code.
        """
        return await self._make_code(ref, "", actor, life_us)

    async def sell(self, ref: int, person: str, life_us: int = CLAIM_LIFE_US) -> str:
        """The present owner makes the one-time code that he gives to the buyer; it ends an earlier unused one.

        Raises: Refused `consent.owner.missing`, `consent.conflict.open`.
        """
        return await self._make_code(ref, person, person, life_us)

    async def _make_code(self, ref: int, giver: str, actor: str, life_us: int) -> str:
        code = self.new_code()
        async with self.acting(actor, "consent.code", ref) as connection:
            now_us = self.clock.now_us()
            if giver:
                await self._check_may_leave(connection, ref, giver)
            await store.add_claim(connection, hash_of(code), Claim(ref, giver, now_us, now_us + life_us))
            await self.record("consent.code", actor, f"vehicle:{ref}", now_us, code=reference("claim", hash_of(code)))
        return shown(code)

    async def keep(self, ref: int, person: str) -> int:
        """The owner does not sell after all: unused codes end; how many there were.

        Raises: Refused `consent.owner.missing`.
        """
        async with self.acting(person, "consent.keep", ref) as connection:
            now_us = self.clock.now_us()
            await self.check_owner(connection, ref, person)
            dropped = await store.drop_claims(connection, ref)
            await self.record("consent.keep", person, f"vehicle:{ref}", now_us, codes=dropped)
        return dropped

    # --- change of owner ----------------------------------------------------------------------------------------------

    async def claim(self, code: str, person: str) -> Transfer:
        """Become the owner by a code, once. Two persons with one code, or a code for somebody's car: a conflict for support.

        Raises: Refused `consent.claim.unknown`, `.used`, `.expired`, `.own`, `.conflict`.
        """
        check_person(person)
        digest = hash_of(code)
        subject = reference("claim", digest)
        ref = await self._place_of(digest)
        while ref is not None:
            async with self.acting(person, "consent.claim", ref, subject) as connection:
                now_us = self.clock.now_us()
                claim = await store.claim(connection, digest)
                if claim is None or claim.ref != ref:  # it changed hands while we waited for its lock
                    ref = claim.ref if claim else None
                    continue
                owner = await store.owner(connection, ref)
                reason = await self._unclaimable(connection, claim, owner, person, now_us)
                if reason == "conflict" and owner is not None:
                    await self._open_conflict(connection, owner, person, now_us)
                elif reason:
                    raise errors.claim(reason)
                else:
                    await store.use_claim(connection, digest, person, now_us)
                    return await self._change_owner(connection, ref, owner, person, person, now_us)
            raise self.note_refusal(person, "consent.claim", subject, errors.claim("conflict"))
        raise self.note_refusal(person, "consent.claim", subject, errors.claim("unknown"))

    async def _place_of(self, digest: bytes) -> int | None:
        """Which vehicle a code is for, as far as one can tell without its lock."""
        found = await store.claim(self.pool, digest)
        return found.ref if found else None

    async def _unclaimable(
        self, connection: Any, claim: Claim, owner: Ownership | None, person: str, now_us: int
    ) -> str:
        """Why a code does not make this person the owner; '' if it does."""
        if now_us >= claim.expires_us:
            return "expired"
        if owner is None:
            return "expired" if claim.used_us else ""
        if owner.person == person:
            return "used" if claim.used_by == person else "own"
        is_from_owner = claim.giver == owner.person and not claim.used_us
        return "" if is_from_owner and not await store.open_conflicts(connection, owner.ref) else "conflict"

    async def _change_owner(
        self, connection: Any, ref: int, owner: Ownership | None, person: str, actor: str, now_us: int
    ) -> Transfer:
        """A first owner keeps the reference; a later one gets a new one, and everything the former allowed ends."""
        if owner is None:
            await store.add_owner(connection, ref, person, now_us)
            await self.record("consent.own", actor, f"vehicle:{ref}", now_us, owner=person)
            return Transfer(ref, ref, now_us)
        if self._renew is None:
            raise Misconfigured("consent.renewal.unset", "nothing that renews references was handed to Consents")
        at_us = now_us + HANDOVER_US
        await store.drop_claims(connection, ref)
        grants, guests = await store.end_all(connection, ref, now_us, "owner_changed")
        await store.end_owner(connection, ref, at_us)
        await self.record("consent.transfer", actor, f"vehicle:{ref}", now_us, grants=grants, guests=guests)
        renewed = await self._renew(connection, ref, at_us)
        if person:
            await store.add_owner(connection, renewed, person, at_us)
            await self.record("consent.own", actor, f"vehicle:{renewed}", now_us, owner=person)
        await store.follow_vehicle(connection, ref, renewed, person)
        await store.note_change(connection, [renewed], now_us)
        if (
            self.clock.now_us() >= at_us
        ):  # records of the new time may have been taken in by somebody who could not know
            raise Unavailable("consent.transfer.slow", "the database is too slow now; nothing has changed, try again")
        return Transfer(renewed, ref, at_us)

    async def give_back(self, ref: int, person: str) -> Transfer:
        """The owner gives the vehicle up to the region: a new reference that nobody owns.

        Raises: Refused `consent.owner.missing`, `consent.conflict.open`.
        """
        async with self.acting(person, "consent.give_back", ref) as connection:
            now_us = self.clock.now_us()
            owner = await self._check_may_leave(connection, ref, person)
            return await self._change_owner(connection, ref, owner, "", person, now_us)

    async def _check_may_leave(self, connection: Any, ref: int, person: str) -> Ownership:
        owner = await self.check_owner(connection, ref, person)
        if await store.open_conflicts(connection, ref):
            raise errors.is_disputed()
        return owner

    # --- conflicts ----------------------------------------------------------------------------------------------------

    async def _open_conflict(self, connection: Any, owner: Ownership, claimant: str, now_us: int) -> None:
        conflict = Conflict(self.new_id("conflict"), owner.ref, owner.person, claimant, now_us)
        if await store.add_conflict(connection, conflict):
            await self.record("consent.conflict", claimant, f"vehicle:{owner.ref}", now_us, conflict=conflict.id)

    async def conflicts(self) -> list[Conflict]:
        """Open conflicts of ownership, the oldest first."""
        return await store.open_conflicts(self.pool)

    async def find_conflict(self, id: str) -> Conflict | None:
        return await store.conflict(self.pool, id)

    async def settle(self, id: str, for_claimant: bool, actor: str) -> Transfer | None:
        """Support decides, having seen papers: the claimant becomes the owner, or the holder stays it.

        Raises: Refused `consent.conflict.unknown`.
        """
        found = await store.conflict(self.pool, id)
        while found is not None and not found.settled_us:
            ref = found.ref
            async with self.acting(actor, "consent.settle", ref) as connection:
                now_us = self.clock.now_us()
                found = await store.conflict(connection, id)
                if found is None or found.ref != ref or found.settled_us:
                    continue
                winner = "claimant" if for_claimant else "holder"
                await store.settle_conflict(connection, id, now_us, winner)
                await self.record("consent.settle", actor, f"vehicle:{ref}", now_us, conflict=id, winner=winner)
                if not for_claimant:
                    return None
                owner = await store.owner(connection, ref)
                return await self._change_owner(connection, ref, owner, found.claimant, actor, now_us)
        raise self.note_refusal(actor, "consent.settle", "conflict", errors.conflict_unknown())

    async def orphaned(self, connection: Any, ref: int) -> None:
        """After an erasure of a former owner's time: the reference is nobody's any more, in this transaction."""
        await store.orphan(connection, ref)
        await store.note_change(connection, [ref], self.clock.now_us())

    async def forget_person(self, connection: Any, person: str) -> dict[str, int]:
        """Whatever names a person goes, in this transaction; how many rows of what."""
        counts, refs = await store.forget_person(connection, person)
        await store.note_change(connection, refs, self.clock.now_us())
        return counts

    async def renamed(self, connection: Any, ref: int, renewed: int) -> None:
        """After an erasure: the same owner, consents and looks under the vehicle's new reference, in this transaction."""
        await store.rename(connection, ref, renewed)
        await store.note_change(connection, [ref, renewed], self.clock.now_us())
