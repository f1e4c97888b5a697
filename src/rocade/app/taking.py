"""What an owner's whole download holds besides samples: rows of other services by name, read for one vehicle."""

from __future__ import annotations

from collections.abc import Mapping
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
from rocade.services.sharing.whole import DAY_US, Reader, Rows, Whole
from rocade.services.telemetry.history_api import trips_between

WINDOW_US = 31 * DAY_US
LOOKS_PAGE = 1_000


def whole_of(mine: Mine, sharing: Sharing, charging: Charging, batteries: Batteries) -> Whole:
    """The download over the services of the API process."""
    derived = {"trips": _trips(mine), "battery": _battery(batteries)}
    return Whole(mine.history, mine.catalogue, mine.clock, derived, _agreements(mine, sharing, charging))


def _agreements(mine: Mine, sharing: Sharing, charging: Charging) -> Mapping[str, Reader]:
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

    return {
        "vehicle": vehicle, "owners": owners, "permissions": permissions, "drivers": drivers, "contracts": contracts,
        "contract_logs": contract_logs, "looks": looks, "charging": sessions,
    }  # fmt: skip


def _trips(mine: Mine) -> Reader:
    async def trips(ref: int) -> Rows:
        """Window by window, from the first sample there is."""
        owner = await mine.consents.owner(ref)
        until_us = mine.clock.now_us()
        from_us = owner.since_us - WINDOW_US if owner else until_us - 12 * WINDOW_US
        found: list[dict[str, Any]] = []
        while from_us < until_us:
            end_us = min(from_us + WINDOW_US, until_us)
            found += [_plain(one) for one in await trips_between(mine.history, mine.catalogue, ref, from_us, end_us)]
            from_us = end_us
        return found

    return trips


def _battery(batteries: Batteries) -> Reader:
    async def health(ref: int) -> Rows:
        try:
            return [_plain(await batteries.health(ref))]
        except Refused:
            return []

    return health


def _plain(one: Any) -> dict[str, Any]:
    """A row as anybody reads it: classes by name, no end as nothing."""
    row: dict[str, Any] = msgspec.to_builtins(one)
    if "classes" in row:
        row["classes"] = data_classes.names(row["classes"])
    return {key: None if value == FOREVER_US else str(value) if key == "ref" else value for key, value in row.items()}
