"""A vehicle's new reference: after an erasure nothing is left under the old one, after a change of owner all of it is.

Both give the vehicle a reference that nobody has, which goes on counting where the old one stood and which its open
connection follows within two seconds. `renew` is a change of owner, decided inside the caller's transaction (`services.
consent` is handed this method): commands of the time before end, what was measured from then on belongs to the new reference (`apportioning`). `erase` waits
for what is under way, removes twin, numbers, quarantine, what other services made of the data (`forgetting`) and history,
and changes the reference last, so that it can be repeated, whatever broke it off; owner, consents and looks follow. A former
owner's reference names no vehicle: its data are removed and that is all. Sources: docs/decisions/0014-erasure-and-retention.md, docs/decisions/0033-consent.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.services.telemetry import store
from rocade.services.telemetry.ledger import Ledger
from rocade.services.vehicles import Registry, commands
from rocade.services.vehicles.twin import TwinStore

type Renamed = Callable[[Any, int, int], Awaitable[None]]
"""`await renamed(connection, ref, renewed)`: what else hangs on a reference follows it (`Consents.renamed`)."""
type Forget = Callable[[Any, int], Awaitable[None]]
"""`await forget(connection, ref)`: a service on telemetry removes what it made of a reference's data, in this transaction."""


class Handover:
    """Both ways to a new reference, over the engines of one region."""

    def __init__(
        self, database: Database, history: History, registry: Registry, twins: TwinStore, ledger: Ledger, audit: Audit,
        clock: Clock, renamed: Renamed | None = None,
    ) -> None:  # fmt: skip
        self._database = database
        self._history = history
        self._registry = registry
        self._twins = twins
        self._ledger = ledger
        self._audit = audit
        self._clock = clock
        self.renamed = renamed
        self.forgetting: Sequence[Forget] = ()

    async def renew(self, connection: Any, ref: int, at_us: int) -> int:
        """Inside the caller's transaction: the vehicle goes on under the reference returned, from `at_us` on.

        Raises: Refused `vehicles.unknown`.
        """
        renewed = self._registry.draw_ref()
        await self._registry.renew_ref(connection, VehicleRef(ref), renewed)
        await self._ledger.renew(connection, ref, renewed, at_us)
        await commands.recall(connection, ref, self._clock.now_us())
        return renewed

    async def erase(self, ref: int, actor: str) -> int | None:
        """Remove every value of a reference for good, recorded before it is done; the vehicle's new reference, if it has one.

        Records still on their way under it are not stored any more. Raises: Unavailable `telemetry.blocks.pending`.
        """
        now_us = self._clock.now_us()
        await self._audit.record(AuditEntry(now_us, actor, "telemetry.erase", f"vehicle:{ref}"))
        is_present = VehicleRef(ref) in await self._registry.by_refs([VehicleRef(ref)])
        renewed = self._registry.draw_ref() if is_present else None
        await self._forget(ref, renewed, now_us, is_last=False)
        await self._ledger.settled()
        await self._forget(ref, renewed, now_us, is_last=True)  # a block that was under way may have written again
        await store.erase_vehicle(self._history, ref)
        if renewed is not None:
            async with self._database.pool.acquire() as connection, connection.transaction():
                await self._registry.renew_ref(connection, VehicleRef(ref), renewed)
                await self._ledger.rename(connection, ref, renewed)
                if self.renamed is not None:
                    await self.renamed(connection, ref, renewed)
        return renewed

    async def _forget(self, ref: int, renewed: int | None, now_us: int, *, is_last: bool) -> None:
        async with self._database.pool.acquire() as connection, connection.transaction():
            if renewed is not None:
                await self._ledger.hand_over(connection, ref, renewed)
            await self._ledger.erase(connection, ref, now_us)
            if is_last:
                await self._twins.erase(connection, ref)
                for forget in self.forgetting:
                    await forget(connection, ref)
