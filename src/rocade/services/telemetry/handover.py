"""A vehicle's new reference: after an erasure nothing is left under the old one, after a change of owner all of it is.

Both give the vehicle a reference that nobody has, which goes on counting where the old one stood and which its open
connection follows within two seconds. `renew` is a change of owner, decided inside the caller's transaction (`services.
consent` is handed this method): commands of the time before end, what was measured from then on belongs to the new reference (`apportioning`). `forget` waits
for what is under way, removes twin, numbers, quarantine and what other services made of the data (`forgetting`), gives the
vehicle its new reference and destroys the keys of the old one, so that it can be repeated, whatever broke it off; owner,
consents and looks follow. A former owner's reference names no vehicle: it is nobody's from then on. History, log and
archive are the business of `erasing`. Sources: docs/decisions/0014-erasure-and-retention.md, 0033-consent.md, 0057-erasure.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.telemetry.ledger import Ledger
from rocade.services.vehicles import Registry, commands
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority.sealing import Group, Keyring

type Renamed = Callable[[Any, int, int], Awaitable[None]]
"""`await renamed(connection, ref, renewed)`: what else hangs on a reference follows it (`Consents.renamed`)."""
type Orphaned = Callable[[Any, int], Awaitable[None]]
"""`await orphaned(connection, ref)`: a former owner's reference is nobody's any more (`Consents.orphaned`)."""
type Claim = Callable[[Any], Awaitable[bool]]
"""`await claim(connection)`: whether it is still to be done, held for this transaction: of two who do it one does."""
type Last = Callable[[Any, int], Awaitable[None]]
"""`await last(connection, keys)`: the caller's part of the transaction, with how many keys were destroyed."""
type Forget = Callable[[Any, int], Awaitable[None]]
"""`await forget(connection, ref)`: a service on telemetry removes what it made of a reference's data, in this transaction."""


class Handover:
    """Both ways to a new reference, over the engines of one region."""

    def __init__(
        self, database: Database, registry: Registry, twins: TwinStore, ledger: Ledger, clock: Clock,
        renamed: Renamed | None = None, orphaned: Orphaned | None = None,
    ) -> None:  # fmt: skip
        self._database = database
        self._registry = registry
        self._twins = twins
        self._ledger = ledger
        self._clock = clock
        self.renamed = renamed
        self.orphaned = orphaned
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

    async def is_present(self, ref: int) -> bool:
        """Whether this reference names a vehicle now."""
        return VehicleRef(ref) in await self._registry.by_refs([VehicleRef(ref)])

    def draw(self) -> int:
        """A reference nobody has."""
        return self._registry.draw_ref()

    async def forget(self, ref: int, renewed: int, at_us: int, claim: Claim, last: Last, *, waits: bool = True) -> None:
        """Remove what PostgreSQL holds of a reference and destroy its keys; a vehicle named by it goes on as `renewed`.

        Records still on their way under it are not stored any more. `claim` begins and `last` ends the transaction that does it; `waits`
        False: nobody takes in records now (a region being restored). Raises: Unavailable `telemetry.blocks.pending`.
        """
        async with self._database.pool.acquire() as connection, connection.transaction():
            await self._remove(connection, ref, renewed, at_us)
        if waits:
            await self._ledger.settled()
        keyring = self._database.keyring
        assert isinstance(keyring, Keyring), "a region that holds data has its keyring"
        keys = len(await keyring.fetch((ref, group) for group in Group))
        async with self._database.pool.acquire() as connection, connection.transaction():
            if not await claim(connection):
                return
            await self._remove(connection, ref, renewed, at_us)  # a block that was under way may have written again
            if renewed and await self.is_present(ref):
                await self._registry.renew_ref(connection, VehicleRef(ref), VehicleRef(renewed))
                await self._ledger.rename(connection, ref, renewed)
                if self.renamed is not None:
                    await self.renamed(connection, ref, renewed)
            elif self.orphaned is not None:
                await self.orphaned(connection, ref)
            await keyring.destroy(connection, [ref])
            await last(connection, keys)

    async def _remove(self, connection: Any, ref: int, renewed: int, at_us: int) -> None:
        """In the order in which a block writes (`Worker._store`): of two that wait for each other one would be broken off."""
        await self._twins.erase(connection, ref)
        if renewed:
            await self._ledger.hand_over(connection, ref, renewed)
        await self._ledger.erase(connection, ref, at_us)
        for forget in self.forgetting:
            await forget(connection, ref)
