"""A car at a real door's station: found by its place, limited there by its plan, one session with the station's meter."""

from __future__ import annotations

import time
from typing import Any

import pytest
from chargers import Character, Charger16, Charger201, charger
from ocpp_stand import Stand, until
from tests.services.charging.conftest import HOUR_US
from tests.services.charging.conftest import Stand as ChargingStand

from rocade.services.charging import CarFacts, ChargeSite, Departure, Goal, LimitNode, Place
from rocade.services.charging.at_stations import AtStations, name_of, place_of
from rocade.services.charging.replanning import Replanner
from rocade.services.charging.stations import Connector

CAR = CarFacts(capacity_kwh=50, max_kw=11, min_kw=1.4, phases=3, efficiency=1.0, taper_from_percent=100)


class Hub:
    """Charge control beside the stations, on this moment's clock."""

    def __init__(self, stations: Stand) -> None:
        self.stand = ChargingStand(stations.database)
        self.stand.clock.at_us = time.time_ns() // 1000
        self.at_stations = AtStations(stations.stations, stations.clock)
        self.charging = self.stand.charging = self.stand.another(stations=self.at_stations, clock=stations.clock)
        self.replanner = Replanner(self.charging)

    async def car(self, connector: str = "") -> Any:
        car = await self.stand.car()
        await self.charging.set_car(car.ref, CAR, "person:01")
        nodes = (LimitNode("grid", limit_kw=11),)
        await self.charging.put_site(ChargeSite("depot", "Depot", "Europe/Paris", nodes), "operator:x")
        await self.charging.put_place(Place("depot", car.ref, connector=connector), "operator:x")
        return car

    async def turns(self, is_there: Any) -> Any:
        async def turned() -> Any:
            self.replanner._scan_s = float("-inf")
            await self.replanner.turn()
            return await is_there()

        return await until(turned)


@pytest.mark.parametrize("kind", [Charger16, Charger201], ids=["1.6", "2.0.1"])
async def test_a_car_found_by_its_place_is_one_session_limited_and_metered_at_its_station(
    stand: Stand, kind: type[Any]
) -> None:
    hub = Hub(stand)
    await stand.register("CP-1", site="depot")
    car = await hub.car("CP-1/1")
    async with charger(stand, "CP-1", kind=kind) as point:
        await point.begin()
        await hub.stand.says(car, at_us=stand.clock.now_us(), soc=40.0, cable=True, charging=True, power=11.0)
        leaves = Departure("once", at_us=stand.clock.now_us() + 4 * HOUR_US)
        await hub.charging.set_goal(car.ref, Goal(0, 50, leaves), "person:01")

        async def limited() -> Any:
            standing = await stand.stations.standing(Connector("CP-1", 1))
            return standing if standing is not None and standing.state in ("accepted", "proven") else None

        found = await hub.turns(limited)
        assert found.limit.by == "charging"
        assert max(slot.power_kw for slot in found.limit.slots) == pytest.approx(11.0, abs=0.01)
        assert hub.stand.told.orders == [], "the car itself is told nothing"
        await point.tick()

        async def seen() -> Any:
            (one,) = (await hub.charging.sessions(car.ref)).sessions
            return one if one.source == "both" else None

        session = await hub.turns(seen)
        assert session.station == "CP-1/1/1"
        again = await stand.stations.standing(Connector("CP-1", 1))
        assert again is not None
        assert again.version == found.version, "what is wanted already is not wanted again"


async def test_a_station_that_takes_no_limit_leaves_the_car_to_be_told(stand: Stand) -> None:
    hub = Hub(stand)
    await stand.register("CP-1", site="depot")
    car = await hub.car("CP-1/1")
    refuses = ("TxProfile", "TxDefaultProfile", "ChargePointMaxProfile")
    async with charger(stand, "CP-1", Character(refuses=refuses), Charger16) as point:
        await point.begin()
        await hub.stand.says(car, at_us=stand.clock.now_us(), soc=40.0, cable=True, charging=True, power=11.0)
        leaves = Departure("once", at_us=stand.clock.now_us() + 4 * HOUR_US)
        await hub.charging.set_goal(car.ref, Goal(0, 50, leaves), "person:01")

        async def told() -> Any:
            hub.replanner.poke(car.ref)
            return "charge.schedule" in hub.stand.told.acts()

        assert await hub.turns(told)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("CP-1/2/3", Connector("CP-1", 2, 3)), ("CP-1/2", Connector("CP-1", 2, 1)), ("CP-1", Connector("CP-1", 1, 1)),
        ("", None), ("/1", None), ("CP-1/x", None), ("CP-1/1/2/3", None), ("CP-1/-1", None),
    ],
)  # fmt: skip
def test_a_connectors_name_is_read_strictly(name: str, place: Connector | None) -> None:
    assert place_of(name) == place
    if place is not None:
        assert place_of(name_of(place)) == place
