"""What every act and question of charge control stands on: the engines, one transaction, what is known of a vehicle.

`known` brings together goal, car, twin, station and series of many vehicles in a few queries; series are kept in memory by their
version. Commands and stations are handed in where they are wanted: without them nothing is commanded, plans are made all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.services.charging import errors, ledger, store
from rocade.services.charging.leaving import next_departure
from rocade.services.charging.making import HORIZON_US, Known
from rocade.services.charging.metering import Power
from rocade.services.charging.model import CarFacts, Goal, Now, Place, Tariff
from rocade.services.charging.planning import Series
from rocade.services.charging.planning.series import HISTORY_DAYS, extended
from rocade.services.charging.seeing import Seen, Signals, facts_of, read
from rocade.services.vehicles import Registry, Vehicle
from rocade.services.vehicles.commands import Order
from rocade.services.vehicles.commands import Page as CommandPage
from rocade.services.vehicles.commands import Standing as CommandStanding
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority.sealing.columns import Columns

CHARGED = frozenset({"electric", "plug_in_hybrid"})
"""Powertrains that are charged from a plug."""
KEPT_SERIES = 256


class Commands(Protocol):
    """What charging needs of commands (`services.vehicles.commands.Commands`)."""

    async def order_many(self, orders: Sequence[Order]) -> Sequence[CommandStanding | Refused]: ...
    async def of(self, ref: int, cursor: str | None = None, limit: int = 50) -> CommandPage: ...


class Capable(Protocol):
    """What a model can do: act -> yes | no | unknown."""

    def of(self, brand: str, model: str) -> Mapping[str, str]: ...


class AtStation(msgspec.Struct, frozen=True):
    """What a station says of the car at its connector."""

    connector: str
    site: str = ""
    is_plugged: bool = True
    is_charging: bool = False
    power_kw: float = 0.0
    at_us: int = 0
    began_us: int = 0
    can_limit: bool = True
    soc_percent: float | None = None


class Stations(Protocol):
    """What charging needs of stations (`at_stations.AtStations`)."""

    async def connectors_of(self, refs: Sequence[int]) -> Mapping[int, AtStation]: ...
    async def set_limit(self, at: AtStation, slots: Sequence[tuple[int, float]], until_us: int) -> None: ...
    async def energy(self, connector: str, from_us: int, until_us: int) -> Sequence[tuple[int, float]]: ...
    async def heard_of(self) -> Sequence[int]: ...
    async def match(self, places: Sequence[Place], now_of: Mapping[int, Now]) -> Sequence[int]: ...


class Meters(Protocol):
    """Power over time (`metering.HistoryMeters`)."""

    async def power(self, ref: int, from_us: int, until_us: int) -> Power: ...


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What is handed in."""

    database: Database
    audit: Audit
    clock: Clock
    random: Random
    catalogue: Catalogue
    registry: Registry
    twins: TwinStore
    commands: Commands | None = None
    capable: Capable | None = None
    stations: Stations | None = None
    meters: Meters | None = None

    @property
    def columns(self) -> Columns:
        """Who seals goals, cars, plans and alerts."""
        return Columns(self.database)


class Picture(msgspec.Struct, frozen=True):
    """What is known of one vehicle at a moment, goal or not."""

    vehicle: Vehicle
    seen: Seen
    car: CarFacts
    station: AtStation | None = None
    goal: Goal | None = None
    departure_us: int = 0

    @property
    def now(self) -> Now:
        return with_station(self.seen.now, self.station)


@dataclass
class Acts:
    """What the use cases stand on."""

    engines: Engines
    signals: Signals = field(init=False)
    _series: dict[tuple[str, int], Series] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.signals = Signals(self.engines.catalogue)
        self.clock = self.engines.clock
        self.database = self.engines.database
        self.columns = self.engines.columns

    @asynccontextmanager
    async def acting(self, actor: str, action: str, subject: str) -> AsyncIterator[Any]:
        """One transaction; a refusal is audited and undoes it. Raises: Unavailable `database.down`."""
        try:
            async with store.transaction(self.database) as connection:
                yield connection
        except Refused as refusal:
            self.engines.audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, "refused", refusal.code))
            raise

    async def record(self, action: str, actor: str, subject: str, **facts: str | int | float) -> None:
        """Write into the audit log what this transaction is about to do."""
        await self.engines.audit.record(AuditEntry(self.clock.now_us(), actor, action, subject, facts=dict(facts)))

    # What is known ------------------------------------------------------------------------------------------------------

    async def vehicle(self, ref: int) -> Vehicle:
        """Raises: Refused `vehicles.unknown`, `charging.car.battery`."""
        vehicle = await self.engines.registry.by_ref(VehicleRef(ref))
        if vehicle.powertrain not in CHARGED:
            raise errors.no_battery()
        return vehicle

    async def pictures(
        self, connection: Any, refs: Sequence[int], goals: Mapping[int, Goal] | None = None
    ) -> dict[int, Picture]:
        """What is known of these vehicles; `goals` in place of those stored. Cost: five queries for all."""
        vehicles = await self.engines.registry.by_refs(VehicleRef(ref) for ref in refs)
        goals = await store.goals(connection, self.columns, refs) if goals is None else goals
        told = await store.cars(connection, self.columns, refs)
        stations = await self.engines.stations.connectors_of(refs) if self.engines.stations else {}
        now_us = self.clock.now_us()
        twins = await asyncio.gather(*(self.engines.twins.latest(ref) for ref in refs))
        found = {}
        for ref, twin in zip(refs, twins, strict=True):
            vehicle = vehicles.get(VehicleRef(ref))
            if vehicle is None:
                continue
            seen = read(twin, ref, self.signals)
            goal = goals.get(ref)
            found[ref] = Picture(
                vehicle,
                seen,
                facts_of(told.get(ref), seen, self._new_kwh(vehicle)),
                stations.get(ref),
                goal,
                _departure_us(goal, now_us),
            )
        return found

    async def knowns(self, connection: Any, pictures: Sequence[Picture]) -> list[Known]:
        """What plans are made from, of vehicles that have a goal. Cost: one query for all series."""
        goals = [picture.goal for picture in pictures if picture.goal is not None]
        if len(goals) < len(pictures):
            raise errors.no_goal()
        names = {id for goal in goals for id in (goal.tariff, goal.carbon) if id}
        series = {one.id: await self._values(connection, one) for one in await ledger.series(connection, sorted(names))}
        return [
            Known(goal, one.car, one.now, one.departure_us, series.get(goal.tariff), series.get(goal.carbon))
            for one, goal in zip(pictures, goals, strict=True)
        ]

    async def series_of(self, connection: Any, id: str) -> Series | None:
        """A stored series from yesterday to the horizon, None for '' and for one that is gone."""
        if not id:
            return None
        found = await ledger.series(connection, [id])
        return await self._values(connection, found[0]) if found else None

    async def _values(self, connection: Any, tariff: Tariff) -> Series:
        day_us = 86_400_000_000
        today = self.clock.now_us() // day_us
        key = f"{tariff.id} {today}", tariff.version
        if key not in self._series:
            if len(self._series) >= KEPT_SERIES:
                self._series.clear()
            values = await ledger.values(
                connection, tariff.id, (today - HISTORY_DAYS - 1) * day_us, today * day_us + 2 * HORIZON_US
            )
            known = Series(
                values.start_us, values.end_us, values.value, tariff.unit, tariff.area, tariff.currency,
                values.is_forecast, values.low, values.high,
            )  # fmt: skip
            now_us = today * day_us
            reach = now_us - 2 * day_us, now_us + HORIZON_US + day_us
            self._series[key] = extended(known, *reach, tariff.zone) if len(known) else known
        return self._series[key]

    async def of_kind(self, connection: Any, id: str, kind: str) -> Tariff:
        """Raises: Refused `charging.tariff.unknown`, `charging.tariff.use`."""
        found = await ledger.series(connection, [id])
        if not found:
            raise errors.tariff("unknown")
        if found[0].kind != kind:
            raise errors.tariff("use")
        return found[0]

    def _new_kwh(self, vehicle: Vehicle) -> float:
        """A model's capacity when new, as its brand's file says; 0 = it does not."""
        brand = self.engines.catalogue.brands.get(vehicle.brand)
        battery = brand.batteries.get(vehicle.model) if brand else None
        return battery.new_kwh if battery else 0.0


def _departure_us(goal: Goal | None, now_us: int) -> int:
    """0 also for a stored calendar that has become too long to read since."""
    try:
        return next_departure(goal.departure, now_us) if goal else 0
    except Refused:
        return 0


def with_station(now: Now, at: AtStation | None) -> Now:
    """A car that a station knows hangs there, whatever its own cable says; the newer power counts."""
    if at is None or not at.is_plugged:
        return now
    changes: dict[str, Any] = {"is_plugged": True, "connector": at.connector, "site": at.site}
    if at.at_us >= now.seen_us:
        changes |= {
            "is_charging": at.is_charging,
            "power_kw": at.power_kw if at.is_charging else 0.0,
            "is_moving": False,
        }
    if not now.is_plugged:
        changes["plugged_us"] = at.began_us
    if at.soc_percent is not None and at.at_us > now.soc_us:
        changes |= {"soc_percent": at.soc_percent, "soc_us": at.at_us}
    return msgspec.structs.replace(now, **changes)
