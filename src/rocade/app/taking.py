"""What an owner's whole download holds besides samples: rows of other services by name, read for one vehicle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rocade.console.my import Mine
from rocade.core import data_classes
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.services.battery import Batteries
from rocade.services.charging import Charging
from rocade.services.consent import FOREVER_US
from rocade.services.sharing import Sharing
from rocade.services.sharing.whole import DAY_US, DerivedReader, Reader, Rows, Whole
from rocade.services.telemetry.history_api import trips_between
from rocade.services.vehicles.commands import Commands
from rocade.trust.authority.gate import acts
from rocade.trust.authority.gate.model import Act

WINDOW_US = 31 * DAY_US
LOOKS_PAGE = 1_000
USED = ("charge_used", "fuel_used", "tank_used", "energy_kwh", "energy_from", "fuel_from")
"""Of a trip: only for who sees energy."""


def whole_of(mine: Mine, sharing: Sharing, charging: Charging, batteries: Batteries, commands: Commands) -> Whole:
    """The download over the services of the API process."""
    derived = {"trips": _trips(mine), "battery": _battery(batteries)}
    return Whole(mine.history, mine.catalogue, mine.clock, derived, _agreements(mine, sharing, charging, commands))


def _agreements(mine: Mine, sharing: Sharing, charging: Charging, commands: Commands) -> Mapping[str, Reader]:
    async def vehicle(ref: int) -> Rows:
        try:
            return [_plain(await mine.registry.by_ref(VehicleRef(ref)))]
        except Refused:  # a former owner's reference names a time, and no vehicle any more
            return []

    async def owners(ref: int) -> Rows:
        owner = await mine.consents.owner(ref)
        return [_plain(owner)] if owner else []

    async def permissions(ref: int) -> Rows:
        return [_plain(one) for one in await mine.consents.grants(ref)]

    async def drivers(ref: int) -> Rows:
        return [_plain(one) for one in await mine.consents.guests(ref)]

    async def contracts(ref: int) -> Rows:
        return [_plain(version) for one in await sharing.of_vehicle(ref) for version in await sharing.versions(one.id)]

    async def contract_logs(ref: int) -> Rows:
        return [_plain(line) for one in await sharing.of_vehicle(ref) for line in await sharing.log(one.id, 10_000)]

    async def looks(ref: int) -> Rows:
        found, cursor = [], None
        while True:
            page = await mine.looks.of(ref, cursor=cursor, limit=LOOKS_PAGE)
            found += [_plain(one) for one in page.looks]
            if (cursor := page.cursor) is None:
                return found

    async def sessions(ref: int) -> Rows:
        found, cursor = [], None
        while True:
            page = await charging.sessions(ref, cursor)
            found += [_plain(one) for one in page.sessions]
            if (cursor := page.cursor) is None:
                return found

    async def goals(ref: int) -> Rows:
        goal = await charging.goal(ref)
        return [_plain(goal)] if goal else []

    async def ordered(ref: int) -> Rows:
        found, cursor = [], None
        while True:
            page = await commands.of(ref, cursor, LOOKS_PAGE)
            found += [_plain(one) for one in page.commands]
            if (cursor := page.cursor) is None:
                return found

    return {
        "vehicle": vehicle, "owners": owners, "permissions": permissions, "drivers": drivers, "contracts": contracts,
        "contract_logs": contract_logs, "looks": looks, "charging": sessions, "goals": goals, "commands": ordered,
    }  # fmt: skip


def _trips(mine: Mine) -> DerivedReader:
    async def trips(ref: int, classes: Sequence[str]) -> Rows | None:
        """Window by window, from a month before his time began: a car may bring what it kept. Used energy as the page shows it."""
        if not _suffice(classes, acts.READ_TRIPS):
            return None
        owner = await mine.consents.owner(ref)
        until_us = mine.clock.now_us()
        from_us = owner.since_us - WINDOW_US if owner else until_us - 12 * WINDOW_US
        found: list[dict[str, Any]] = []
        while from_us < until_us:
            end_us = min(from_us + WINDOW_US, until_us)
            found += [_plain(one) for one in await trips_between(mine.history, mine.catalogue, ref, from_us, end_us)]
            from_us = end_us
        return found if "energy" in classes else [{k: v for k, v in one.items() if k not in USED} for one in found]

    return trips


def _battery(batteries: Batteries) -> DerivedReader:
    async def health(ref: int, classes: Sequence[str]) -> Rows | None:
        if not _suffice(classes, acts.READ_BATTERY):
            return None
        try:
            return [_plain(await batteries.health(ref))]
        except Refused:
            return []

    return health


def _suffice(classes: Sequence[str], act: Act) -> bool:
    """Whether who sees these classes might ask for the same by itself."""
    return set(act.classes) <= set(classes)


def _plain(one: Any) -> dict[str, Any]:
    """A row as anybody reads it: classes by name, no end as nothing."""
    row: dict[str, Any] = msgspec.to_builtins(one)
    if "classes" in row:
        row["classes"] = data_classes.names(row["classes"])
    return {key: None if value == FOREVER_US else str(value) if key == "ref" else value for key, value in row.items()}
