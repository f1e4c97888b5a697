"""The replanner where a car hangs at a station: commanded by it, paid by its meter, and by the car's own ways where it cannot."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.services.charging.conftest import HOUR_US, OWNER, Stand

from rocade.services.charging import Now, Place
from rocade.services.charging.acting import AtStation
from rocade.services.charging.replanning import Replanner


class Plugs:
    """Stations that a test plays: where cars hang, what was wanted of their connectors, what the meter counted."""

    def __init__(self) -> None:
        self.at: dict[int, AtStation] = {}
        self.limits: list[tuple[str, list[tuple[int, float]], int]] = []
        self.meter: list[tuple[int, float]] = []

    async def connectors_of(self, refs: Sequence[int]) -> dict[int, AtStation]:
        return {ref: self.at[ref] for ref in refs if ref in self.at}

    async def set_limit(self, at: AtStation, slots: Sequence[tuple[int, float]], until_us: int) -> None:
        self.limits.append((at.connector, list(slots), until_us))

    async def energy(self, _connector: str, from_us: int, until_us: int) -> list[tuple[int, float]]:
        return [(at_us, kwh) for at_us, kwh in self.meter if from_us <= at_us <= until_us]

    async def heard_of(self) -> list[int]:
        return list(self.at)

    async def match(self, _places: Sequence[Place], _now_of: dict[int, Now]) -> list[int]:
        return []


async def test_a_car_known_both_ways_is_one_session_commanded_by_its_station_and_paid_by_its_meter(
    stand: Stand,
) -> None:
    plugs = Plugs()
    stand.charging = stand.another(stations=plugs)
    replanner = Replanner(stand.charging)
    car = await stand.plugged_car()
    began = stand.clock.at_us
    plugs.at[car.ref] = AtStation("CP-1/1/1", at_us=began, began_us=began)
    tariff = await stand.prices(0.40, 0.30, 0.10, 0.20, 0.50)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    await replanner.turn()
    assert stand.told.orders == [], "the station is the better way"
    (limit,) = plugs.limits
    assert limit == (
        "CP-1/1/1",
        [(began, 0.0), (began + 2 * HOUR_US, 10.0), (began + 3 * HOUR_US, 0.0)],
        began + 5 * HOUR_US,
    )
    plugs.meter = [(began, 100.0), (began + 2 * HOUR_US, 100.0), (began + 3 * HOUR_US, 110.5)]
    stand.measured.of[car.ref] = [(began + 2 * HOUR_US, began + 3 * HOUR_US, 9.0)]
    stand.clock.move(hours=4)
    del plugs.at[car.ref]
    await stand.says(car, soc=60.0, cable=False, charging=False)
    await replanner.turn()
    (session,) = (await stand.charging.sessions(car.ref)).sessions
    assert (session.source, session.station) == ("both", "CP-1/1/1")
    assert (session.energy_kwh, session.cost_minor) == (pytest.approx(10.5), 105)


async def test_a_car_that_only_its_station_knows_has_a_session_by_its_meter(stand: Stand) -> None:
    plugs = Plugs()
    stand.charging = stand.another(stations=plugs)
    replanner = Replanner(stand.charging)
    await replanner.turn()
    stand.clock.move(hours=0.01)
    car = await stand.car()
    began = stand.clock.at_us
    plugs.at[car.ref] = AtStation("CP-1/1/1", at_us=began, began_us=began, is_charging=True, power_kw=11.0)
    plugs.meter = [(began, 5.0), (began + HOUR_US, 16.0)]
    await replanner.turn()
    stand.clock.move(hours=1.5)
    plugs.at.clear()
    await replanner.turn()
    (session,) = (await stand.charging.sessions(car.ref)).sessions
    assert (session.station, session.began_us, session.ended_us) == ("CP-1/1/1", began, stand.clock.at_us)
    assert session.energy_kwh == pytest.approx(11.0)
    assert car.ref not in replanner.cars, "it hangs nowhere, and nothing is wanted of it"


async def test_a_station_that_keeps_no_limits_leaves_the_car_to_its_own_commands(stand: Stand) -> None:
    plugs = Plugs()
    stand.charging = stand.another(stations=plugs)
    car = await stand.plugged_car()
    plugs.at[car.ref] = AtStation("CP-1/1/1", at_us=stand.clock.at_us, began_us=stand.clock.at_us, can_limit=False)
    tariff = await stand.prices(0.40, 0.10)
    await stand.charging.set_goal(car.ref, stand.goal(2, 50, tariff=tariff), OWNER)
    await Replanner(stand.charging).turn()
    assert plugs.limits == []
    assert "charge.schedule" in stand.told.acts()


async def test_the_big_stop_pauses_the_connector_too(stand: Stand) -> None:
    plugs = Plugs()
    stand.charging = stand.another(stations=plugs)
    car = await stand.plugged_car()
    plugs.at[car.ref] = AtStation("CP-1/1/1", at_us=stand.clock.at_us)
    await stand.charging.stop(car.ref, OWNER)
    assert [slots for _, slots, _ in plugs.limits] == [[(stand.clock.at_us, 0.0)]]
