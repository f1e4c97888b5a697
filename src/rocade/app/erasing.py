"""Erasure over a whole region: every place that holds something of a vehicle or of a person, in one object.

`region_erasing` is for the API process, which orders and carries out, and, by `erase_again`, for a region that was just
restored and serves nobody yet. The ledger of erasures stands in `<region>/erasures`, which no backup holds (docs/erasure.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rocade.app import wiring
from rocade.app.archiving import archive_of
from rocade.app.backup.frozen import HeldParts
from rocade.app.configuration import Configuration
from rocade.core.ports import Audit, Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.history import History, connect
from rocade.fabric.log import Log
from rocade.services.battery import store as battery
from rocade.services.charging import grid
from rocade.services.charging import store as charging
from rocade.services.charging.stations import forgetting as at_stations
from rocade.services.consent import Consents
from rocade.services.sharing import store as sharing
from rocade.services.telemetry import Eraser, Forget, Handover, Ledger, Place, store
from rocade.services.vehicles import Registry, commands
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority.erasure import Entry, Erasures
from rocade.trust.authority.people import store as people
from rocade.trust.authority.people.model import person_id
from rocade.trust.identity.directory import load_root

FOLDER = "erasures"


@dataclass
class RegionErasing:
    """The eraser with what it stands on, for who needs those too."""

    eraser: Eraser
    handover: Handover
    consents: Consents


def erasures_of(
    configuration: Configuration, database: Database, audit: Audit, clock: Clock, random: Random
) -> Erasures:
    """Every erasure of this region, and its ledger."""
    root, signing = load_root(configuration.trust / "trust.pem"), configuration.trust / "audit"
    return Erasures(database, audit, clock, random, configuration.root / FOLDER, signing, root)


def region_erasing(parts: wiring.Common, history: History, log: Log) -> RegionErasing:
    """Vehicles and people of this region, with their consents; `handover.forgetting` is the caller's to set."""
    registry = Registry(parts.database, parts.random, parts.clock)
    handover = Handover(parts.database, registry, TwinStore(parts.database), Ledger(parts.database), parts.clock)
    consents = Consents(parts.database, parts.audit, parts.clock, parts.random, renew=handover.renew)

    async def renamed(connection: Any, ref: int, renewed: int) -> None:
        await consents.renamed(connection, ref, renewed)
        await sharing.rename(connection, ref, renewed)

    handover.renamed, handover.orphaned = renamed, consents.orphaned

    async def forget_person(connection: Any, number: int) -> dict[str, int]:
        counts = await people.forget_person(connection, number, parts.clock.now_us())
        return counts | await consents.forget_person(connection, person_id(number))

    async def let_go(person: str) -> list[int]:
        owned = await consents.owned_by(person)
        for one in owned:
            if await handover.is_present(one.ref):
                await consents.give_back(one.ref, person)
        return [one.ref for one in owned]

    erasures = erasures_of(parts.configuration, parts.database, parts.audit, parts.clock, parts.random)
    places: Sequence[Place] = (
        archive_of(parts.configuration, parts.database),
        HeldParts(parts.configuration.root / "history"),
    )
    eraser = Eraser(handover, erasures, parts.database, history, log, parts.clock, places, forget_person, let_go)
    return RegionErasing(eraser, handover, consents)


async def erase_again(parts: wiring.Common, entries: Iterable[Entry]) -> int:
    """Do the ledger's erasures once more in a restored region that serves nobody; how many. Database and history must run.

    Repeatable. Raises: what the first one that fails raises.
    """
    history = connect(parts.configuration.effective_history_url)
    try:
        await store.ensure(history)
        async with wiring.open_log(parts) as log:
            made = region_erasing(parts, history, log)
            made.handover.forgetting = _forgetting(parts.database)
            return await made.eraser.erase_again(entries)
    finally:
        await history.close()


async def _forget_waiting(connection: Any, ref: int) -> None:
    await sharing.drop_waiting(connection, [ref])


def _forgetting(database: Database) -> Sequence[Forget]:
    """What services made of a vehicle's data, where none of them runs; in the API process their modules say it (`Module.forget`)."""
    return (
        charging.forget,
        grid.forget,
        at_stations(database),
        battery.forget,
        commands.erase,
        _forget_waiting,
    )
