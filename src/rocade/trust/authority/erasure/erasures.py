"""Every erasure of the region: ordered, followed, certified. What is removed where is the business of who erases.

Flow: `order` -> audit entry, row (from here on every process hides it), line in the ledger -> whoever erases moves it on with
`reached`, `counted` -> `finish`: audit entry `telemetry.erased` or `people.erased` with what was counted, line in the ledger,
row done -> `certificate`: the proof that this entry stands in the audit log, for `rocade verify` and the root certificate.
Each act may be repeated after a crash: rows, lines and counts that stand already stay as they are.
Refuses: Refused `erasure.unknown`; Unavailable `erasure.certificate.early` until the erasure is complete and a signed head
covers its entry (seconds).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.erasure import store
from rocade.trust.authority.erasure.ledger import Entry, LedgerFiles
from rocade.trust.authority.erasure.store import CLEARED, FORGOTTEN, ORDERED, Erasure
from rocade.trust.authority.proving import prove_entry

ORDER = {"vehicle": "telemetry.erase", "person": "people.erase"}
DONE = {"vehicle": "telemetry.erased", "person": "people.erased"}
"""Actions of the audit log by what is erased."""


class Erasures:
    """`ledger_directory` is kept apart from backups; `audit_directory` holds the key that signs; `root` is for certificates."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        clock: Clock,
        random: Random,
        ledger_directory: Path,
        audit_directory: Path,
        root: x509.Certificate,
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._random = random
        self._directory = audit_directory
        self._root = root
        self.ledger = LedgerFiles(ledger_directory, audit_directory, clock)

    async def order(
        self, subject: str, ref: int, renewed: int, actor: str, *, is_physical: bool, again: Entry | None = None
    ) -> Erasure:
        """Write an erasure down before anything of it is done; the one that is open for the same subject if there is one.

        `subject` is `vehicle:<ref>` or a person's id; `again`: the ledger's entry, when it is done once more in a restored region.
        Raises: Unavailable `audit.down`, `erasure.ledger.full`.
        """
        now_us = self._clock.now_us()
        await self._audit.record(AuditEntry(now_us, actor, ORDER[_kind(subject)], subject))
        id, at_us = (again.erasure, again.at_us) if again else (f"{self._random.bits(63):016x}", now_us)
        wanted = Erasure(id, subject, ref, renewed, actor, at_us, is_physical)
        async with self._database.pool.acquire() as connection, connection.transaction():
            if again:
                await store.drop(connection, id, subject)
            ordered = await store.add(connection, wanted)
        await self.wrote(ordered)
        return ordered

    async def wrote(self, erasure: Erasure) -> None:
        """The ledger holds the order; done first by whoever takes an erasure up."""
        await asyncio.to_thread(self.ledger.append, "ordered", erasure.id, erasure.subject, erasure.renewed)

    async def reached(self, erasure: Erasure, step: str, connection: Any = None) -> None:
        """A step is done; inside the caller's transaction if a connection is given."""
        if connection is not None:
            await store.step(connection, erasure.id, step)
            await store.notify(connection)
            return
        async with self._database.pool.acquire() as own, own.transaction():
            await self.reached(erasure, step, own)

    async def claimed(self, erasure: Erasure, connection: Any) -> bool:
        """Whether it is only ordered yet; if so nobody else forgets it before this transaction ends."""
        return await store.locked_step(connection, erasure.id) == ORDERED

    async def tell(self, erasure: Erasure, progress: str) -> None:
        """How far it is, in a few words, for whoever waits."""
        async with self._database.pool.acquire() as connection:
            await store.step(connection, erasure.id, erasure.step, progress)

    async def counted(self, erasure: Erasure, connection: Any = None, **facts: int | str) -> None:
        """Note what was counted; the first count of a name stays, as a repetition finds less."""
        if connection is not None:
            await store.count(connection, erasure.id, facts)
            return
        async with self._database.pool.acquire() as own, own.transaction():
            await store.count(own, erasure.id, facts)

    async def finish(self, erasure: Erasure) -> None:
        """Everything is gone: certify it."""
        facts = dict((await self.find(erasure.id)).facts)
        line = await asyncio.to_thread(self.ledger.append, "done", erasure.id, erasure.subject, erasure.renewed, facts)
        said: Mapping[str, str | int | float] = {
            "erasure": erasure.id, "ledger": line.number, "ordered_us": erasure.ordered_us, **facts,
        }  # fmt: skip
        now_us = self._clock.now_us()
        await self._audit.record(
            AuditEntry(now_us, erasure.actor, DONE[_kind(erasure.subject)], erasure.subject, facts=dict(said))
        )
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.finish(connection, erasure.id, now_us)
            await store.notify(connection)

    async def unfinished(self) -> list[Erasure]:
        return await store.unfinished(self._database.pool)

    async def find(self, id: str) -> Erasure:
        """Raises: Refused `erasure.unknown`."""
        found = await store.one(self._database.pool, id)
        if found is None:
            raise Refused("erasure.unknown", "no erasure has this number; `rocade erase` says it when it begins")
        return found

    async def certificate(self, id: str) -> bytes:
        """The file for `rocade verify`. Raises: Refused `erasure.unknown`; Unavailable `erasure.certificate.early`."""
        erasure = await self.find(id)
        if not erasure.done_us:
            raise Unavailable("erasure.certificate.early", "this erasure is not complete yet; ask again in a moment")
        book = AuditBook(self._database, self._directory, self._root)
        position = await book.find({DONE[_kind(erasure.subject)]}, erasure.subject, erasure.done_us)
        try:
            if position is not None:
                return await prove_entry(self._database, self._directory, self._root, position, what="erasure")
        except Refused as error:
            if error.code != "audit.entry.unknown":
                raise
        raise Unavailable(
            "erasure.certificate.early", "no signed head covers the erasure yet; one follows within seconds, ask again"
        )

    async def sweep(self) -> int:
        """Have the database give the room of dead rows back; how many tables were swept. Takes no lock that stops anybody."""
        async with self._database.pool.acquire() as connection:
            tables = await store.dirty_tables(connection)
            for table in tables:
                await store.vacuum(connection, table)
        return len(tables)


def _kind(subject: str) -> str:
    return subject.partition(":")[0]


__all__ = ["CLEARED", "FORGOTTEN", "ORDERED", "Erasure", "Erasures"]
