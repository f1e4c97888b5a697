"""Erasure over a whole region: every place that holds something of a vehicle or of a person, in one object.

`eraser_of` is for the API process, which orders and carries out; `erase_again` is for a region that was just restored and
serves nobody yet. The ledger of erasures stands in `<region>/erasures`, which no backup holds (docs/erasure.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from rocade.app.configuration import Configuration
from rocade.core.ports import Audit, Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.fabric.log import Log
from rocade.services.consent import Consents
from rocade.services.telemetry import Eraser, Handover, Place
from rocade.trust.authority.erasure import Entry, Erasures, LedgerFiles
from rocade.trust.authority.people import store as people
from rocade.trust.authority.people.model import person_id
from rocade.trust.identity.directory import load_root

FOLDER = "erasures"


def ledger_of(configuration: Configuration, clock: Clock) -> LedgerFiles:
    """The ledger of this region, for who writes in it."""
    return LedgerFiles(configuration.root / FOLDER, configuration.trust / "audit", clock)


def erasures_of(
    configuration: Configuration, database: Database, audit: Audit, clock: Clock, random: Random
) -> Erasures:
    root = load_root(configuration.trust / "trust.pem")
    audit_directory = configuration.trust / "audit"
    return Erasures(database, audit, clock, random, configuration.root / FOLDER, audit_directory, root)


def eraser_of(
    erasures: Erasures, handover: Handover, consents: Consents, database: Database, history: History, log: Log,
    clock: Clock, places: Sequence[Place] = (),
) -> Eraser:  # fmt: skip
    """Vehicles and people of this region, with their consents."""

    async def forget_person(connection: Any, number: int) -> dict[str, int]:
        counts = await people.forget_person(connection, number, clock.now_us())
        return counts | await consents.forget_person(connection, person_id(number))

    async def let_go(person: str) -> list[int]:
        owned = await consents.owned_by(person)
        for one in owned:
            if await handover.is_present(one.ref):
                await consents.give_back(one.ref, person)
        return [one.ref for one in owned]

    return Eraser(handover, erasures, database, history, log, clock, places, forget_person, let_go)


async def erase_again(eraser: Eraser, entries: Iterable[Entry]) -> int:
    """Do the ledger's erasures once more in a restored region; how many. Repeatable; raises what the first failure raises."""
    done = 0
    for entry in entries:
        await eraser.erase_again(entry)
        done += 1
    return done


@asynccontextmanager
async def erasing(eraser: Eraser) -> AsyncIterator[None]:
    """Within this, erasures are carried out in this process."""
    running = asyncio.create_task(eraser.run(), name="erasing")
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
