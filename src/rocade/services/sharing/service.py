"""The use cases of sharing: the owner names a third party, it takes the contract up, either ends it; the holder sets terms.

In force is what the consent table says; the contract says what was agreed. `settle` ends every contract whose consent has ended
by itself (withdrawn elsewhere, run out, the owner changed). A crash between consent and contract leaves a consent for a feed
that is none: nothing flows, and the owner can withdraw it.
Everything is in the audit log before it counts, and in the contract's own log, which both sides read.
Refuses: `sharing.*`, `consent.*`. Source: Regulation (EU) 2023/2854 Art. 4 to 9; docs/decisions/0059-sharing.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.core.data_classes import bit, names
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.consent import FOREVER_US, Consents, ConsentTable, Grant
from rocade.services.sharing import errors, store
from rocade.services.sharing.model import CONTRACT_LIMIT, Contract, Line, Terms, check_terms, recipient_of

LOG_PAGE = 500


class Sharing:
    """Contracts of one region's database. `table` says what is in force."""

    def __init__(
        self, database: Database, consents: Consents, table: ConsentTable, catalogue: Catalogue, audit: Audit, clock: Clock,
        random: Random,
    ) -> None:  # fmt: skip
        self.database = database
        self.table = table
        self.catalogue = catalogue
        self.clock = clock
        self._consents = consents
        self._audit = audit
        self._random = random

    # --- the holder ---------------------------------------------------------------------------------------------------

    async def set_terms(
        self, party: str, compensation: str, withheld: tuple[int, ...], reason: str, actor: str
    ) -> Terms:
        """New terms for a third party, or ('') for anybody; contracts made before keep theirs.

        Raises: Refused `sharing.party`, `sharing.signals`.
        """
        if party:
            check_terms(party, 1, ("sse",), ())
        if len(compensation) > 2_000 or len(reason) > 500 or (withheld and not reason.strip()):
            raise errors.signals(
                "withholding needs a reason that is told to everybody concerned, at most 500 characters"
            )
        for signal in withheld:
            self.catalogue.by_id(signal)
        made = Terms(0, party, compensation, tuple(sorted(set(withheld))), reason, self.clock.now_us())
        async with self._acting(actor, "sharing.terms", party or "anybody") as connection:
            version = await store.add_terms(connection, made)
            await self._record(
                made.made_us, actor, "sharing.terms", party or "anybody", version=version, withheld=len(made.withheld)
            )
        return msgspec.structs.replace(made, version=version)

    async def stop(self, party: str, actor: str) -> int:
        """End every contract of a third party, which the region no longer trusts; how many there were."""
        found = await self.of_party(party, is_live_only=True)
        for one in found:
            await self._return(one, actor, "stopped")
        return len(found)

    async def terms_for(self, party: str) -> Terms:
        return await store.terms_for(self.database.pool, party)

    async def terms(self, version: int) -> Terms:
        return await store.terms(self.database.pool, version) if version else Terms()

    async def all_terms(self) -> list[Terms]:
        return await store.all_terms(self.database.pool)

    # --- the owner ----------------------------------------------------------------------------------------------------

    async def share(
        self, ref: int, person: str, party: str, purpose: str, classes: int, *, signals: tuple[int, ...] = (),
        ways: tuple[str, ...] = ("sse",), from_us: int | None = None, until_us: int = FOREVER_US,
    ) -> Contract:  # fmt: skip
        """The owner names a third party. Nothing flows before it takes the contract up.

        Raises: Refused `sharing.party`, `.way`, `.class`, `.signals`, `.many`; `consent.owner.missing`, `consent.*`.
        """
        check_terms(party, classes, ways, signals)
        for signal in signals:
            if not bit(self.catalogue.by_id(signal).data_class) & classes:
                raise errors.signals("each signal named must belong to a class that is shared")
        id = f"contract-{self._random.bits(64):016x}"
        terms = await self.terms_for(party)
        if len(await self.of_vehicle(ref, is_live_only=True)) >= CONTRACT_LIMIT:
            raise errors.many(CONTRACT_LIMIT)
        grant = await self._consents.grant(ref, person, recipient_of(id), purpose, classes, from_us, until_us)
        made = Contract(
            id, 1, ref, party, purpose, classes, tuple(sorted(set(signals))), ways, terms.version, grant.id, grant.from_us,
            until_us, self.clock.now_us(),
        )  # fmt: skip
        try:
            async with self._acting(person, "sharing.offer", f"vehicle:{ref}") as connection:
                await store.add_contract(connection, made)
                await store.log(connection, [Line(id, made.made_us, "offered", version=1)])
                await self._record(made.made_us, person, "sharing.offer", f"vehicle:{ref}", **_facts(made))
        except BaseException:
            await self._consents.withdraw(ref, person, grant.id)
            raise
        return made

    async def narrow(
        self, ref: int, person: str, id: str, classes: int, signals: tuple[int, ...] | None = None, until_us: int | None = None
    ) -> Contract:  # fmt: skip
        """Share less, or sooner no more: the contract's next version, in force at once.

        Raises: Refused `sharing.contract.unknown`, `.ended`, `.widens`; `consent.grant.widens`.
        """
        before = await self._of_owner(ref, id)
        kept = before.signals if signals is None else tuple(sorted(set(signals)))
        check_terms(before.party, classes, before.ways, kept)
        if before.signals and not (kept and set(kept) <= set(before.signals)):
            raise errors.widens()
        left = tuple(one for one in kept if bit(self.catalogue.by_id(one).data_class) & classes)
        if kept and not left:
            raise errors.signals("nothing would be left of the signals named")
        grant = await self._consents.narrow(ref, person, (await self._grant_of(before)).id, classes, until_us)
        made = msgspec.structs.replace(
            before, version=before.version + 1, classes=classes, grant=grant.id, until_us=grant.end_us, signals=left,
            made_us=self.clock.now_us(),
        )  # fmt: skip
        async with self._acting(person, "sharing.narrow", f"vehicle:{ref}") as connection:
            if not await store.end(connection, id, before.version, made.made_us, "narrowed"):
                newest = await store.contract(connection, id)  # somebody ended or narrowed it meanwhile
                raise errors.ended(newest.why_ended or "narrowed" if newest else "withdrawn")
            await store.add_contract(connection, made)
            await store.log(connection, [Line(id, made.made_us, "narrowed", version=made.version)])
            await self._record(made.made_us, person, "sharing.narrow", f"vehicle:{ref}", **_facts(made))
        return made

    async def withdraw(self, ref: int, person: str, id: str) -> Contract:
        """End a contract now: streams under it end within two seconds, what waits for it is not sent.

        Raises: Refused `sharing.contract.unknown`, `.ended`.
        """
        found = await self._of_owner(ref, id)
        await self._consents.withdraw(ref, person, (await self._grant_of(found)).id)
        return await self._end(found, person, "withdrawn")

    async def _grant_of(self, one: Contract) -> Grant:
        """The consent in force: the page of consents may have narrowed it. Raises: Refused `sharing.contract.ended`."""
        for grant in await self._consents.grants(one.ref, True):
            if grant.recipient == one.recipient:
                return grant
        raise errors.ended("withdrawn")

    async def _of_owner(self, ref: int, id: str) -> Contract:
        found = await store.contract(self.database.pool, id)
        if found is None or found.ref != ref:
            raise errors.unknown()
        if found.state == "ended":
            raise errors.ended(found.why_ended)
        return found

    async def of_vehicle(self, ref: int, *, is_live_only: bool = False) -> list[Contract]:
        """Newest versions, the newest contract first."""
        return await store.contracts(self.database.pool, ref=ref, is_live_only=is_live_only)

    # --- the third party ----------------------------------------------------------------------------------------------

    async def of_party(self, party: str, *, is_live_only: bool = False) -> list[Contract]:
        return await store.contracts(self.database.pool, party=party, is_live_only=is_live_only)

    async def for_party(self, party: str, id: str, way: str = "") -> Contract:
        """One of its contracts; with `way`: in force, and agreed to go that way.

        Raises: Refused `sharing.contract.unknown`, `.offered`, `.ended`, `sharing.way.missing`; Unavailable `sharing.stale`.
        """
        found = await store.contract(self.database.pool, id)
        if found is None or found.party != party:
            raise errors.unknown()
        if way:
            if found.state == "ended":
                raise errors.ended(found.why_ended)
            if found.state == "offered":
                raise errors.not_accepted()
            if way not in found.ways:
                raise errors.way_missing(way)
            if not self.classes_of(found):
                raise errors.ended("withdrawn")
        return found

    async def accept(self, party: str, id: str, actor: str) -> Contract:
        """The third party takes the contract up, with its terms; from now on records flow.

        Raises: Refused `sharing.contract.unknown`, `.ended`, `.accepted`.
        """
        found = await self.for_party(party, id)
        if found.state == "ended":
            raise errors.ended(found.why_ended)
        if found.state == "running":
            raise errors.accepted()
        now_us = self.clock.now_us()
        async with self._acting(actor, "sharing.accept", id) as connection:
            if not await store.accept(connection, id, now_us):
                raise errors.accepted()
            await store.log(connection, [Line(id, now_us, "accepted", version=found.version)])
            await self._record(now_us, actor, "sharing.accept", id, terms=found.terms)
        return msgspec.structs.replace(found, accepted_us=now_us)

    async def decline(self, party: str, id: str, actor: str) -> Contract:
        """The third party does not want the contract, or no longer. Raises: Refused `sharing.contract.unknown`, `.ended`."""
        found = await self.for_party(party, id)
        if found.state == "ended":
            raise errors.ended(found.why_ended)
        return await self._return(found, actor, "declined")

    async def _return(self, one: Contract, actor: str, why: str) -> Contract:
        """The contract ends, and its consent with it; one that has ended already has."""
        ended = await self._end(one, actor, why)
        with contextlib.suppress(Refused):
            await self._consents.return_feed(one.ref, (await self._grant_of(one)).id, actor)
        return ended

    # --- what is in force ---------------------------------------------------------------------------------------------

    def classes_of(self, one: Contract) -> int:
        """The classes that may go out under a contract at this moment; 0 = it has ended.

        Raises: Unavailable `sharing.stale`: what was withdrawn is not known now, so nothing goes out, and nothing is lost.
        """
        if self.table.is_stale:
            raise Unavailable("sharing.stale", "consents are not known at this moment; feeds wait")
        return self.table.mask(one.ref, one.recipient, one.purpose, self.clock.now_us()) & one.classes

    async def over(self, id: str) -> str:
        """Why a contract has ended, '' while it is agreed: as the database has it, whatever this process knows yet."""
        one = await store.contract(self.database.pool, id)
        if one is None or one.state == "ended":
            return one.why_ended if one else "withdrawn"
        grant = await self._consents.find_grant(one.grant)
        if grant is None:
            return "withdrawn"
        if grant.end_us > self.clock.now_us():
            return ""
        live = await self._consents.grants(grant.ref, True)
        return "" if any(other.recipient == one.recipient for other in live) else grant.why_ended or "expired"

    async def settle(self) -> list[Contract]:
        """End contracts whose consent has ended, and follow vehicles that got a new reference; those ended by this call."""
        ended = []
        for one in await store.live(self.database.pool):
            if self.table.is_stale or self.classes_of(one):
                continue
            if why := await self.over(one.id):
                ended.append(await self._end(one, "sharing", why))
            elif (grant := await self._consents.find_grant(one.grant)) and grant.ref != one.ref:
                async with self._acting("sharing", "sharing.renamed", f"vehicle:{one.ref}") as connection:
                    await store.rename(connection, one.ref, grant.ref)
        return ended

    async def _end(self, one: Contract, actor: str, why: str) -> Contract:
        now_us = self.clock.now_us()
        async with self._acting(actor, "sharing.end", one.id) as connection:
            if await store.end(connection, one.id, one.version, now_us, why):
                await store.log(connection, [Line(one.id, now_us, "ended", version=one.version, code=why)])
                await self._record(now_us, actor, "sharing.end", one.id, why=why)
        return msgspec.structs.replace(one, ended_us=now_us, why_ended=why)

    async def find(self, id: str) -> Contract | None:
        return await store.contract(self.database.pool, id)

    async def versions(self, id: str) -> list[Contract]:
        return await store.versions(self.database.pool, id)

    async def log(self, id: str, limit: int = LOG_PAGE) -> list[Line]:
        return await store.log_of(self.database.pool, id, limit)

    async def note(self, lines: list[Line]) -> None:
        """Add to contracts' logs."""
        async with self.database.pool.acquire() as connection, connection.transaction():
            await store.log(connection, sorted(lines, key=lambda one: (one.contract, one.at_us, one.kind, one.way)))

    async def counts(self) -> list[tuple[str, str, int, int]]:
        """(party, purpose, running, offered): what an operator may know."""
        return await store.count_live(self.database.pool)

    async def forget(self, connection: Any, ref: int) -> None:
        """A vehicle's data are erased: what waits of it goes with them."""
        await store.drop_waiting(connection, [ref])

    # --- what every act does ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _acting(self, actor: str, action: str, subject: str) -> AsyncIterator[Any]:
        """One transaction, told to every process; a refusal is audited and undoes it. Raises: Unavailable `database.down`."""
        try:
            async with self.database.pool.acquire() as connection, connection.transaction():
                yield connection
                await store.note_change(connection)
        except Refused as refusal:
            self._audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, "refused", refusal.code))
            raise
        except (*DOWN, TimeoutError) as error:
            raise Unavailable("database.down", f"contracts cannot be changed now: {type(error).__name__}") from error

    async def _record(self, at_us: int, actor: str, action: str, subject: str, **facts: str | int) -> None:
        await self._audit.record(AuditEntry(at_us, actor, action, subject, facts=dict(facts)))


def _facts(one: Contract) -> dict[str, str | int]:
    return {
        "contract": one.id,
        "version": one.version,
        "party": one.party,
        "purpose": one.purpose,
        "classes": " ".join(names(one.classes)),
        "signals": len(one.signals),
        "ways": " ".join(one.ways),
        "terms": one.terms,
        "grant": one.grant,
        "until_us": one.until_us,
    }
