"""Proof by telemetry: a command is verified when its vehicle says it is done and shows it, measured after it was done.

Both words may come first. `Verifier.hook` runs inside the worker's committing transaction: it locks the open commands of the
block's vehicles, so that a report which comes at the same moment waits, then finds the twin as committed and proves it
(`prove` in the report's own transaction). So nothing falls between the two. Telemetry counts from the vehicle's own instant of
the act on: both are of one clock. `watching` is kept by notifications; a vehicle that is missing there for a moment is proven
by its report, or by the look at everything that follows every reconnect and every `LOOK_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.core.errors import Corrupt
from rocade.core.ports import Clock
from rocade.core.signals import Quality
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import listen
from rocade.services.vehicles import twin
from rocade.services.vehicles.commands import ledger, store
from rocade.trust.authority.sealing import keyring_of
from rocade.wire.commands import Condition, proof

LOOK_S = 2.0
"""Between two looks at all that waits for its proof."""
LOOKS = 15
"""After so many looks it is read anew which vehicles have something open; and when notifications may have been lost."""
LOOK_US = 10_000_000
"""Twins written so long before the last look are looked at again: a transaction shows them after it stamped them."""
_VOID = int(Quality.OUT_OF_RANGE | Quality.NOT_FINITE)
_log = logging.getLogger(__name__)


class Block(Protocol):
    """What the worker commits (`services.telemetry` has the whole of it)."""

    @property
    def twins(self) -> Sequence[twin.Row]: ...


class Rules:
    """What telemetry must say, by the numbers of its signals."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def is_proven(self, command: ledger.Applied, values: Mapping[int, twin.Value]) -> bool:
        try:
            conditions = proof(command.act, msgspec.json.decode(command.parameters))
        except (KeyError, ValueError, OverflowError):  # of another version: it ends in doubt, the road goes on
            _log.exception("command %s has no proof that can be understood", command.id.hex())
            return False
        return all(self._holds(one, command.vehicle_us, values) for one in conditions)

    def _holds(self, condition: Condition, from_us: int, values: Mapping[int, twin.Value]) -> bool:
        if not condition.signal:
            return any(value.time_us >= from_us for value in values.values())
        found = self._catalogue.find(condition.signal)
        value = values.get(int(found.signal.id)) if found else None
        return (
            value is not None
            and value.time_us >= from_us
            and not value.quality & _VOID
            and condition.holds(value.value)
        )


async def prove(
    connection: Any, rules: Rules, applied: Iterable[ledger.Applied], reported: Mapping[int, bytes], now_us: int
) -> list[ledger.Applied]:
    """Verify what these packed twins prove, inside the caller's transaction; those that were."""
    values: dict[int, Mapping[int, twin.Value]] = {}
    for ref, row in reported.items():
        try:
            values[ref] = twin.values_of(row)
        except Corrupt:  # readers of the twin say so; a report of the vehicle is kept all the same
            _log.error("the twin of vehicle %d cannot be read; its commands stay unproven", ref)
    proven = [one for one in applied if one.ref in values and rules.is_proven(one, values[one.ref])]
    if proven:
        await ledger.verify(connection, sorted(one.id for one in proven), now_us)
        await store.notify(connection, store.CHANGED_CHANNEL, {one.ref for one in proven})
    return proven


class Verifier:
    """One in each worker."""

    def __init__(self, database: Database, catalogue: Catalogue, clock: Clock) -> None:
        self._database = database
        self._rules = Rules(catalogue)
        self._clock = clock
        self.watching: set[int] = set()
        """Vehicles with something open."""
        self._heard_meanwhile: set[int] = set()
        self._looked_us = self._looks_left = 0
        self.verified = 0

    async def hook(self, connection: Any, block: Block) -> None:
        """Inside the worker's transaction: prove what this block proves."""
        reported = {row.ref: row.reported for row in block.twins if row.ref in self.watching}
        if not reported:
            return
        applied, still_open = await ledger.hold_open(connection, keyring_of(self._database), list(reported))
        self.watching -= reported.keys() - still_open
        proven = await prove(connection, self._rules, applied, reported, self._clock.now_us())
        self.verified += len(proven)

    async def run(self) -> None:
        """Keep `watching` and look at everything now and then, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen(self._database, (store.QUEUED_CHANNEL, store.CHANGED_CHANNEL), self._heard))
            tasks.create_task(self._look_for_ever())

    def _heard(self, _channel: str, payload: str) -> None:
        refs = store.told(payload)
        if refs is None:
            refs, self._looks_left = [], 0
        self.watching.update(refs)
        self._heard_meanwhile.update(refs)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
            except (*DOWN, TimeoutError):
                pass
            except Exception:
                _log.exception("commands that wait for their proof could not be looked at")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Prove whatever waits from twins written since the last look; then know anew which vehicles have something open."""
        self._heard_meanwhile, keys = set(), keyring_of(self._database)
        async with self._database.pool.acquire() as connection:
            async with connection.transaction():
                waiting = await ledger.read_applied(connection, keys, self._looked_us - LOOK_US)
                reported = await ledger.read_twins(connection, keys, [one.ref for one in waiting])
                proven = await prove(connection, self._rules, waiting, reported, self._clock.now_us())
            self._looked_us = await ledger.read_time(connection)
            if self._looks_left <= 0:
                self._looks_left = LOOKS
                self.watching = await ledger.read_open(connection) | self._heard_meanwhile
            self._looks_left -= 1
        self.verified += len(proven)
