"""The registry's use cases: add, resolve, list, change, and give a new reference after erasure.

Refuses (Refused): an id that is no VIN where one is needed (`vehicles.vin.*`) or no plausible serial, an unknown
kind, powertrain or brand (`vehicles.invalid`, `catalogue.brand.unknown`), an id registered already
(`vehicles.exists`), an unknown vehicle (`vehicles.unknown`). Raises Unavailable `database.down` when PostgreSQL is away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rocade.core import catalogue
from rocade.core.identifiers import VehicleRef, new_vehicle_ref
from rocade.core.ports import Clock, Random
from rocade.fabric.database import Database
from rocade.services.vehicles import errors, store, vin
from rocade.services.vehicles.model import (
    EVERYTHING,
    KINDS,
    POWERTRAINS,
    SILENT_AFTER_US,
    STATES,
    VIN_KINDS,
    Page,
    Vehicle,
    Wanted,
)

FILTERS = frozenset({"brand", "model", "kind", "powertrain", "region"})
PAGE_LIMIT = 1_000
WORDS_LIMIT = 8
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,63}\Z")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,15}\Z")


class Registry:
    """The vehicles of one region's database."""

    def __init__(self, database: Database, random: Random, clock: Clock) -> None:
        self._store = store.VehicleStore(database)
        self._random = random
        self._clock = clock

    async def add(
        self, id: str, kind: str, brand: str, model: str, powertrain: str, region: str, hardware: str = ""
    ) -> Vehicle:
        """Register a vehicle under a fresh random reference."""
        now_us = self._clock.now_us()
        ref = new_vehicle_ref(self._random)
        vehicle = Vehicle(ref, id, kind, brand, model, powertrain, region, hardware, now_us, now_us)
        check(vehicle)
        if not await self._store.insert(vehicle):
            raise errors.exists()
        return vehicle

    async def resolve(self, id: str) -> Vehicle:
        """Return the vehicle whose certificate or owner says `id`."""
        found = await self._store.by_ids([id])
        if not found:
            raise errors.unknown()
        return found[0]

    async def resolve_many(self, ids: Iterable[str]) -> dict[str, Vehicle]:
        """Return the registered ones among `ids`. Cost: one query."""
        return {vehicle.id: vehicle for vehicle in await self._store.by_ids(list(ids))}

    async def by_ref(self, ref: VehicleRef) -> Vehicle:
        """Return the vehicle with this reference."""
        found = await self._store.by_refs([ref])
        if not found:
            raise errors.unknown()
        return found[0]

    async def by_refs(self, refs: Iterable[VehicleRef]) -> dict[VehicleRef, Vehicle]:
        """Return the registered ones among `refs`. Cost: one query."""
        return {vehicle.ref: vehicle for vehicle in await self._store.by_refs(list(refs))}

    async def models(self) -> Sequence[tuple[str, str, str, int]]:
        """Return brand, kind and powertrain that occur, with how many vehicles are of them: what filters offer."""
        return await self._store.models()

    async def count(self, wanted: Wanted = EVERYTHING) -> int:
        """Return how many vehicles are registered, or how many of them are wanted."""
        return await self._store.count(self._checked(wanted))

    async def find(self, wanted: Wanted, cursor: str | None = None, limit: int = 100) -> Page:
        """Return the wanted vehicles, a page at a time.

        The order is that of the references, so it tells nothing about VINs and neither does a cursor.
        """
        limit = max(1, min(limit, PAGE_LIMIT))
        vehicles = await self._store.after(_position(cursor), limit + 1, self._checked(wanted))
        more = len(vehicles) > limit
        return Page(vehicles[:limit], f"{vehicles[limit - 1].ref:x}" if more else None)

    async def list(self, cursor: str | None = None, limit: int = 100, **filters: str) -> Page:
        """Return vehicles that match all filters (brand, model, kind, powertrain, region), as `find` does."""
        return await self.find(Wanted(filters), cursor, limit)

    def _checked(self, wanted: Wanted) -> Wanted:
        for name in wanted.filters.keys() - FILTERS:
            raise errors.invalid(name, f"cannot be filtered by; use {', '.join(sorted(FILTERS))}")
        if wanted.state and wanted.state not in STATES:
            raise errors.invalid("state", f"must be one of {', '.join(STATES)}")
        fresh_from_us = self._clock.now_us() - SILENT_AFTER_US
        return msgspec.structs.replace(wanted, words=wanted.words[:WORDS_LIMIT], fresh_from_us=fresh_from_us)

    async def update(self, id: str, **changes: str) -> Vehicle:
        """Change brand, model, powertrain, region or hardware; the id and the kind stay."""
        for name in changes.keys() - (FILTERS - {"kind"} | {"hardware"}):
            raise errors.invalid(name, "cannot be changed")
        now_us = self._clock.now_us()
        changed = msgspec.structs.replace(await self.resolve(id), **changes, changed_us=now_us)
        check(changed)
        return await self._stored(id, {**changes, "changed_us": now_us})

    def draw_ref(self) -> VehicleRef:
        """A reference nobody has, for `renew_ref`."""
        return new_vehicle_ref(self._random)

    async def renew_ref(self, connection: Any, ref: VehicleRef, renewed: VehicleRef) -> None:
        """Inside the caller's transaction, give the vehicle a new reference: the old one names nobody from now on.

        Raises: Refused `vehicles.unknown`.
        """
        if not await self._store.renew(connection, ref, renewed, self._clock.now_us()):
            raise errors.unknown()

    async def _stored(self, id: str, values: Mapping[str, str | int]) -> Vehicle:
        stored = await self._store.update(id, values)
        if stored is None:
            raise errors.unknown()
        return stored


def check(vehicle: Vehicle) -> None:
    """Refuse a vehicle that breaks a rule.

    Raises: Refused `vehicles.vin.*`, `vehicles.invalid`, `catalogue.brand.unknown`.
    """
    if vehicle.kind not in KINDS:
        raise errors.invalid("kind", f"must be one of {', '.join(KINDS)}")
    if vehicle.powertrain not in POWERTRAINS:
        raise errors.invalid("powertrain", f"must be one of {', '.join(POWERTRAINS)}")
    if not _REGION.match(vehicle.region):
        raise errors.invalid("region", "must be 1 to 16 small letters, digits or hyphens")
    for field, text in (("model", vehicle.model), ("hardware", vehicle.hardware)):
        if len(text) > 64 or not text.isprintable():
            raise errors.invalid(field, "must be at most 64 printable characters")
    if vehicle.kind in VIN_KINDS:
        vin.check(vehicle.id, vehicle.region)
    elif not _SERIAL.match(vehicle.id):
        raise errors.invalid("id", "a serial has 3 to 64 letters, digits, dots, underscores or hyphens")
    catalogue.standard().overlay(vehicle.brand)


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not re.fullmatch(r"[0-9a-f]{1,16}", cursor):
        raise errors.bad_cursor()
    return min(int(cursor, 16), 2**63 - 1)
