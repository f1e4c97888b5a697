"""What is remembered of followed vehicles, and how a process notices that something changed for one of them.

Three ways: numbered changes of goals, cars, depots and series (in order, none missed); twins that were written (followed vehicles at
every turn, all others once a second, so that a cable that was plugged in is seen); instants that a plan makes interesting. What is
noticed is a cause by vehicle or depot; a cause that is more than telemetry or time is not covered by them.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import msgspec

from rocade.core.identifiers import PARTITIONS, VehicleRef, partition_of
from rocade.fabric.database import Leases
from rocade.services.charging import ledger, store
from rocade.services.charging.acting import AtStation
from rocade.services.charging.model import Session, StoredPlan
from rocade.services.charging.seeing import MOVES_KMH
from rocade.services.charging.service import Charging
from rocade.services.vehicles.commands import Standing

SCAN_S = 1.0
"""How often vehicles without a goal are looked through for cables that were plugged in."""
OVERLAP_US = 2_000_000
_WEAK = ("charging.replan.telemetry", "charging.replan.time")


class Followed(msgspec.Struct):
    """What is remembered of a car between two looks; all of it can be found again."""

    plan: StoredPlan | None = None
    session: Session | None = None
    lanes: dict[str, Standing] = {}
    lanes_us: int = 0
    """When they were read."""
    alerts: frozenset[str] = frozenset()
    was_plugged: bool = False
    differs_since_us: int = 0
    slow_since_us: int = 0
    limit_kw: float = 0.0
    """What the car was seen to draw at most while it was asked for more, 0 = nothing is known."""
    reckoned_us: int = 0
    failed_us: int = 0
    """When no plan could be made for it."""
    due_us: int = 0
    site: str = ""
    is_fail_safe: bool = False
    is_read: bool = False
    came_off: bool = False
    """It was unplugged while the plan had more to give."""


class Noticing:
    """The first half of a replanner."""

    def __init__(self, charging: Charging, leases: Leases | None = None) -> None:
        self.charging, self.engines, self.columns = charging, charging.engines, charging.columns
        self._leases = leases
        self._clock = charging.clock
        self.cars: dict[int, Followed] = {}
        self._causes: dict[int, str] = {}
        self._site_causes: dict[str, str] = {}
        self._noticed_us: dict[int, int] = {}
        self._written_us: dict[int, int] = {}
        self._without_plug: set[int] = set()
        self._number = -1
        self._scanned_us, self._scan_s, self._stations_s = 0, float("-inf"), 0.0
        self._at_stations: dict[int, AtStation] = {}
        self._wake = asyncio.Event()

    def poke(self, ref: int, cause: str = "charging.replan.station") -> None:
        """Something happened to a vehicle that no table here tells: look at it in the next turn."""
        self._note(ref, cause)
        self._wake.set()

    async def _notice(self) -> None:
        """Everything that happened since the last turn."""
        async with store.transaction(self.engines.database) as connection:
            if self._number < 0:
                await self._begin(connection)
            await self._read_changes(connection)
        await self._read_twins()
        await self._read_stations()
        self._read_clock()

    async def _begin(self, connection: Any) -> None:
        """Where a process starts: every goal, place and open session is looked at once."""
        self._number = await store.newest_change(connection)
        places = await store.places(connection)
        refs = {*await store.goal_refs(connection), *await ledger.open_sessions(connection, self.columns)}
        refs |= {place.ref for place in places}
        for ref in refs:
            self._note(ref, "charging.replan.start")
        for place in places:
            self._followed(place.ref).site = place.site
        for id in await store.sites(connection):
            self._site_causes[id] = "charging.replan.start"

    async def _read_changes(self, connection: Any) -> None:
        for number, what in await store.changes(connection, self._number):
            self._number = number
            kind, _, id = what.partition(":")
            if kind == "goal":
                self._note(int(id), "charging.replan.goal")
            elif kind == "car":
                self._followed(int(id)).is_read = False
                self._note(int(id), "charging.replan.car")
            elif kind == "site":
                self._site_causes[id] = "charging.replan.limit"
            elif kind == "series":
                await self._prices_changed(connection, id)

    async def _prices_changed(self, connection: Any, id: str) -> None:
        """All plans that rest on a series."""
        for ref, goal in (await store.goals(connection, self.columns)).items():
            if id in (goal.tariff, goal.carbon):
                self._note(ref, "charging.replan.prices")
        for site in (await store.sites(connection)).values():
            if id in (site.tariff, site.carbon, site.building, site.solar):
                self._site_causes[site.id] = "charging.replan.prices"

    async def _read_twins(self) -> None:
        """Followed vehicles at every turn, all others once a second: whose telemetry is new is looked at."""
        written = await self.engines.twins.written(list(self.cars)) if self.cars else {}
        for ref, at_us in written.items():
            if self._written_us.get(ref) != at_us:
                self._written_us[ref] = at_us
                self._note(ref, "charging.replan.telemetry")
        if self._clock.monotonic_s() - self._scan_s < SCAN_S:
            return
        self._scan_s = self._clock.monotonic_s()
        for one in await self.engines.twins.changed_since(max(0, self._scanned_us - OVERLAP_US)):
            self._scanned_us = max(self._scanned_us, one.updated_us)
            known = one.ref in self.cars or one.ref in self._without_plug
            if not known and (one.speed_kmh or 0.0) < MOVES_KMH and self._written_us.get(one.ref) != one.updated_us:
                self._written_us[one.ref] = one.updated_us
                self._note(one.ref, "charging.replan.telemetry")

    async def _read_stations(self) -> None:
        """Cars whose connector says something new; those found by their place are bound to it."""
        stations = self.engines.stations
        if stations is None or self._scan_s == self._stations_s:
            return
        self._stations_s = self._scan_s
        for ref in await stations.heard_of():
            self._note(ref, "charging.replan.telemetry")
        found = await stations.connectors_of(list(self.cars))
        for ref in found.keys() | self._at_stations.keys():
            if found.get(ref) != self._at_stations.get(ref):
                self._note(ref, "charging.replan.telemetry")
        self._at_stations = dict(found)
        async with store.transaction(self.engines.database) as connection:
            places = [one for one in await store.places(connection) if one.connector and one.ref not in found]
            pictures = await self.charging.pictures(connection, [one.ref for one in places]) if places else {}
        for ref in await stations.match(places, {ref: one.now for ref, one in pictures.items()}) if places else ():
            self._note(ref, "charging.replan.station")

    def _read_clock(self) -> None:
        now_us = self._clock.now_us()
        for ref, car in self.cars.items():
            if car.due_us and car.due_us <= now_us:
                self._note(ref, "charging.replan.time")

    def _note(self, ref: int, cause: str) -> None:
        """The first cause of a turn that is more than telemetry or time counts."""
        held = self._causes.get(ref)
        if held is None or held in _WEAK:
            self._causes[ref] = cause
        self._noticed_us.setdefault(ref, self._clock.now_us())

    def _followed(self, ref: int) -> Followed:
        return self.cars.setdefault(ref, Followed())

    def _is_mine(self, ref: int) -> bool:
        if self._leases is None:
            return True
        car = self.cars.get(ref)
        if car is not None and car.site:
            return self._is_mine_site(car.site)
        return partition_of(VehicleRef(ref)) in self._leases.partitions

    def _is_mine_site(self, id: str) -> bool:
        return self._leases is None or zlib.crc32(id.encode()) % PARTITIONS in self._leases.partitions

    def _forget(self) -> None:
        """After a failure nothing that is remembered is trusted."""
        self.cars.clear()
        self._written_us.clear()
        self._number = -1
