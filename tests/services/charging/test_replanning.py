"""The replanner follows: cars come, say otherwise than planned, do not obey, leave; prices and limits change; a process dies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from rocade.fabric.database import Leases
from rocade.services.charging import CarFacts, ChargeSite, LimitNode, Now, Place, SeriesValue, making
from rocade.services.charging.acting import AtStation
from rocade.services.charging.making import Known
from rocade.services.charging.model import StoredPlan
from rocade.services.charging.replanning import Replanner

if TYPE_CHECKING:
    from tests.services.charging.conftest import Stand

    from rocade.services.vehicles import Vehicle

SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
OWNER = "person:01"
CAR = CarFacts(capacity_kwh=50, max_kw=10, min_kw=1.4, efficiency=1.0, taper_from_percent=100)


@pytest.fixture(name="replanner")
def a_replanner(stand: Stand) -> Replanner:
    return Replanner(stand.charging)


async def plugged_car(stand: Stand, soc: float = 40.0, *, charging: bool = False) -> Vehicle:
    car = await stand.car()
    await stand.charging.set_car(car.ref, CAR, OWNER)
    await stand.says(car, soc=soc, cable=True, charging=charging, power=10.0 if charging else 0.0)
    return car


async def test_a_car_gets_its_limit_and_its_schedule_once(stand: Stand, replanner: Replanner) -> None:
    car = await plugged_car(stand)
    tariff = await stand.prices(0.40, 0.30, 0.10, 0.20, 0.50)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    await replanner.turn()
    assert stand.told.acts() == ["charge.limit", "charge.schedule"]
    start = stand.clock.at_us + 2 * HOUR_US
    assert stand.told.orders[1].parameters == {"slots": [[start, start + HOUR_US, 10.0]]}
    assert stand.told.orders[1].by == OWNER
    await stand.says(car, soc=40.0, cable=True, charging=False)
    await replanner.turn()
    await Replanner(stand.charging).turn()
    assert len(stand.told.orders) == 2, "a restart tells nothing twice"


async def test_new_prices_make_a_new_plan(stand: Stand, replanner: Replanner) -> None:
    car = await plugged_car(stand)
    tariff = await stand.prices(0.40, 0.30, 0.10, 0.20, 0.50)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    await replanner.turn()
    stand.clock.move(hours=0.01)
    hour = stand.clock.at_us // HOUR_US * HOUR_US
    await stand.charging.put_values(tariff, [SeriesValue(hour + HOUR_US, hour + 2 * HOUR_US, -0.05)], "operator:x")
    await replanner.turn()
    plan = (await stand.charging.standing(car.ref)).plan
    assert plan is not None
    assert (plan.cause, plan.version) == ("charging.replan.prices", 2)
    assert plan.pieces == ((hour + HOUR_US, hour + 2 * HOUR_US, 10.0),)
    assert plan.cost_minor == -50
    assert stand.told.acts()[-1] == "charge.schedule"


async def test_plugging_in_and_a_charge_off_the_plan_make_new_plans(stand: Stand, replanner: Replanner) -> None:
    car = await stand.car()
    await stand.charging.set_car(car.ref, CAR, OWNER)
    await stand.says(car, soc=40.0, cable=False, charging=False)
    tariff = await stand.prices(0.40, 0.30, 0.10, 0.20, 0.50)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    await replanner.turn()
    causes = []
    for soc in (40.0, 40.5, 45.0):
        stand.clock.move(hours=0.05)
        await stand.says(car, soc=soc, cable=True, charging=False)
        await replanner.turn()
        plan = (await stand.charging.standing(car.ref)).plan
        assert plan is not None
        causes.append((plan.cause, round(plan.energy_kwh, 1)))
    arrived = ("charging.replan.arrival", 10.0)
    assert causes == [arrived, arrived, ("charging.replan.off_plan", 7.5)], "half a point is no reason"


async def test_a_forecast_is_marked_and_planned_anew_when_the_prices_come(stand: Stand, replanner: Replanner) -> None:
    car = await plugged_car(stand)
    tariff = await stand.prices(0.40, 0.30)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    await replanner.turn()
    before = (await stand.charging.standing(car.ref)).plan
    assert before is not None
    assert (before.is_forecast[0], before.is_forecast[-1]) == (False, True)
    hour = stand.clock.at_us
    values = [SeriesValue(hour + at * HOUR_US, hour + (at + 1) * HOUR_US, 0.05) for at in range(2, 6)]
    await stand.charging.put_values(tariff, values, "operator:x")
    await replanner.turn()
    after = (await stand.charging.standing(car.ref)).plan
    assert after is not None
    assert (after.cause, any(after.is_forecast), after.cost_minor) == ("charging.replan.prices", False, 50)


async def test_a_car_that_charges_though_it_should_wait_is_stopped_and_then_its_owner_told(
    stand: Stand, replanner: Replanner
) -> None:
    car = await plugged_car(stand)
    tariff = await stand.prices(0.40, 0.30, 0.10, 0.20, 0.50)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    await stand.says(car, soc=40.0, cable=True, charging=True, power=10.0)
    await replanner.turn()
    assert "charge.stop" not in stand.told.acts(), "it has just got its schedule"
    stand.clock.move(20)
    await stand.says(car, soc=40.1, cable=True, charging=True, power=10.0)
    await replanner.turn()
    assert stand.told.acts()[-1] == "charge.stop"
    stand.clock.move(200)
    await stand.says(car, soc=40.9, cable=True, charging=True, power=10.0)
    await replanner.turn()
    (alert,) = (await stand.charging.standing(car.ref)).alerts
    assert alert.code == "charging.alert.eager"
    await stand.says(car, soc=40.9, cable=True, charging=False, power=0.0)
    await replanner.turn()
    assert (await stand.charging.standing(car.ref)).alerts == ()


async def test_a_car_without_schedules_is_started_and_stopped_at_the_edges(stand: Stand) -> None:
    class OnlyStartStop:
        def of(self, brand: str, model: str) -> dict[str, str]:
            return {
                "charge.start": "yes",
                "charge.stop": "yes",
                "charge.schedule": "no",
                "charge.timer": "yes",
                "charge.limit": "no",
            }

    stand.charging = stand.another(capable=OnlyStartStop())
    replanner = Replanner(stand.charging)
    car = await plugged_car(stand, charging=True)
    tariff = await stand.prices(0.40, 0.10, 0.30)
    await stand.charging.set_goal(car.ref, stand.goal(3, 60, tariff=tariff), OWNER)
    await replanner.turn()
    assert stand.told.acts() == ["charge.timer", "charge.stop"]
    await stand.says(car, soc=40.0, cable=True, charging=False)
    stand.clock.move(hours=1.0001)
    await stand.says(car, soc=40.0, cable=True, charging=False)
    await replanner.turn()
    assert stand.told.acts()[-1] == "charge.start"
    assert stand.told.orders[-1].expires_us == stand.clock.at_us // HOUR_US * HOUR_US + HOUR_US, "never started later"


async def test_a_car_that_is_slower_than_planned_is_planned_with_what_it_takes(
    stand: Stand, replanner: Replanner
) -> None:
    car = await plugged_car(stand)
    await stand.charging.set_goal(car.ref, stand.goal(3, 90), OWNER)
    await replanner.turn()
    for minute in range(5):
        stand.clock.move(60)
        await stand.says(car, soc=40 + minute / 10, cable=True, charging=True, power=4.0)
        await replanner.turn()
    standing = await stand.charging.standing(car.ref)
    assert standing.plan is not None
    assert (standing.plan.cause, max(standing.plan.power_kw)) == ("charging.replan.slow", pytest.approx(4.0))
    assert {alert.code for alert in standing.alerts} == {"charging.alert.short"}
    facts = standing.alerts[0].facts
    assert facts["reason"] == "charging.plan.short"
    assert facts["later_min"] > 0


async def test_a_car_that_is_not_plugged_in_is_told_before_it_is_too_late(stand: Stand, replanner: Replanner) -> None:
    car = await stand.car()
    await stand.charging.set_car(car.ref, CAR, OWNER)
    await stand.says(car, soc=40.0, cable=False, charging=False)
    await stand.charging.set_goal(car.ref, stand.goal(3, 60), OWNER)
    await replanner.turn()
    assert (await stand.charging.standing(car.ref)).alerts == ()
    stand.clock.move(hours=1.6)
    await replanner.turn()
    (alert,) = (await stand.charging.standing(car.ref)).alerts
    assert alert.code == "charging.alert.unplugged"
    assert alert.facts["latest_us"] == stand.clock.at_us + round(0.4 * HOUR_US)
    assert stand.told.orders == [], "nothing can be told to a car without a cable"


async def test_a_silent_car_is_told_to_charge_before_the_latest_safe_start(stand: Stand, replanner: Replanner) -> None:
    stand.told.state = "queued"
    car = await plugged_car(stand)
    tariff = await stand.prices(0.40, 0.30, 0.20, 0.10, 0.10)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    await replanner.turn()
    assert "charge.start" not in stand.told.acts()
    stand.clock.move(hours=3.75)
    await replanner.turn()
    assert stand.told.acts()[-1] == "charge.start"
    assert stand.told.orders[-1].expires_us == stand.clock.at_us + round(1.25 * HOUR_US), "good until he leaves"
    assert {one.code for one in (await stand.charging.standing(car.ref)).alerts} >= {"charging.alert.silent"}


async def test_what_a_car_refuses_is_told_with_its_reason_and_the_next_way_is_taken(
    stand: Stand, replanner: Replanner
) -> None:
    stand.told.state, stand.told.code = "rejected", "command.vehicle.unsupported"
    car = await plugged_car(stand, charging=True)
    tariff = await stand.prices(0.40, 0.10, 0.30)
    await stand.charging.set_goal(car.ref, stand.goal(3, 60, tariff=tariff), OWNER)
    await replanner.turn()
    await stand.says(car, soc=40.0, cable=True, charging=True, power=10.0)
    await replanner.turn()
    assert stand.told.acts() == ["charge.limit", "charge.schedule", "charge.timer", "charge.stop"]
    await stand.says(car, soc=40.0, cable=True, charging=True, power=10.0)
    await replanner.turn()
    (alert,) = (await stand.charging.standing(car.ref)).alerts
    assert (alert.code, alert.facts["code"]) == ("charging.alert.refused", "command.vehicle.unsupported")
    assert len(stand.told.orders) == 4, "it is not asked again at once"


async def test_a_session_is_written_with_its_cost_against_charged_at_once(stand: Stand, replanner: Replanner) -> None:
    car = await stand.car()
    await stand.charging.set_car(car.ref, CAR, OWNER)
    began = stand.clock.at_us
    tariff = await stand.prices(0.40, 0.30, 0.10, 0.20, 0.50)
    carbon = await stand.prices(500.0, 400.0, 100.0, 200.0, 300.0, id="grid", kind="co2")
    await stand.says(car, soc=40.0, cable=True, charging=False)
    await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff, carbon=carbon), OWNER)
    await replanner.turn()
    (session,) = (await stand.charging.sessions(car.ref)).sessions
    assert (session.began_us, session.ended_us) == (began, 0)
    stand.measured.of[car.ref] = [(began + 2 * HOUR_US, began + 3 * HOUR_US, 10.0)]
    stand.clock.move(hours=4)
    ended = stand.clock.at_us
    await stand.says(car, soc=60.0, cable=False, charging=False)
    await Replanner(stand.charging).turn()
    (session,) = (await stand.charging.sessions(car.ref)).sessions
    assert (session.ended_us, session.energy_kwh) == (ended, pytest.approx(10.0, abs=0.01))
    assert (session.cost_minor, session.at_once_minor, session.currency) == (100, 400, "EUR")
    assert (session.co2_g, session.at_once_g, session.saved_g) == (1000, 5000, 4000)
    assert (session.soc_begin, session.soc_end, session.source) == (40.0, 60.0, "telemetry")
    assert (session.tariff, session.is_forecast) == (tariff, False)


async def test_a_plugged_in_car_without_a_goal_has_a_session_too(stand: Stand, replanner: Replanner) -> None:
    await replanner.turn()
    car = await stand.car()
    await stand.says(car, soc=40.0, cable=True, charging=True, power=7.0)
    replanner._scan_s = float("-inf")
    await replanner.turn()
    (session,) = (await stand.charging.sessions(car.ref)).sessions
    assert session.soc_begin == 40.0
    assert stand.told.orders == []


async def test_what_is_open_of_a_vehicle_that_is_sold_ends(stand: Stand, replanner: Replanner) -> None:
    car = await plugged_car(stand)
    await stand.charging.set_goal(car.ref, stand.goal(2, 90), OWNER)
    await replanner.turn()
    assert len(await stand.charging.alerts(car.ref)) == 1
    async with stand.database.pool.acquire() as connection:
        await stand.registry.renew_ref(connection, car.ref, stand.registry.draw_ref())
    replanner.poke(car.ref)
    await replanner.turn()
    (session,) = (await stand.charging.sessions(car.ref)).sessions
    assert session.ended_us == stand.clock.at_us
    assert all(alert.ended_us for alert in await stand.charging.alerts(car.ref))


async def test_the_running_replanner_hears_of_a_goal_at_once(stand: Stand) -> None:
    replanner, stop = Replanner(stand.charging), asyncio.Event()
    running = asyncio.create_task(replanner.run(stop))
    try:
        car = await plugged_car(stand)
        await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
        async with asyncio.timeout(30):
            while not stand.told.orders:
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running
    assert replanner.counters.failures == 0


# Depots ---------------------------------------------------------------------------------------------------------------


async def a_depot(stand: Stand, limit_kw: float, *cars: Vehicle, tariff: str = "") -> ChargeSite:
    nodes = (LimitNode("root", limit_kw=limit_kw), LimitNode("row-a", "root"))
    site = await stand.charging.put_site(
        ChargeSite("depot-nord", "Depot Nord", "Europe/Paris", nodes, tariff), "operator:x"
    )
    for place, car in enumerate(cars):
        await stand.charging.put_place(Place("depot-nord", car.ref, "row-a", priority=place), "operator:x")
    return site


async def test_cars_of_a_depot_share_its_limit_and_the_board_shows_it(stand: Stand, replanner: Replanner) -> None:
    cars = [await plugged_car(stand) for _ in range(3)]
    await a_depot(stand, 12.0, *cars)
    for car in cars:
        await stand.charging.set_goal(car.ref, stand.goal(5, 60), OWNER)
    await replanner.turn()
    plans = [(await stand.charging.standing(car.ref)).plan for car in cars]
    assert all(plan is not None and plan.site == "depot-nord" for plan in plans)
    sums = [
        sum(plan.power_at(stand.clock.at_us + minute * 60 * SECOND_US) for plan in plans if plan)
        for minute in range(300)
    ]
    assert max(sums) <= 12.001
    assert sum(plan.energy_kwh for plan in plans if plan) == pytest.approx(30, abs=0.1)
    board = await stand.charging.board("depot-nord")
    assert (len(board.cars), board.limit_kw[0], board.is_dimmed) == (3, 12.0, False)
    assert max(board.planned_kw) <= 12.001
    assert board.cars[0].laxity_h == pytest.approx(4.0)
    assert board.unserved_kwh == 0
    assert board.gap <= 1e-3


async def test_a_dimming_signal_is_honoured_and_the_minimum_charge_comes_first(
    stand: Stand, replanner: Replanner
) -> None:
    low, high = await plugged_car(stand, 10.0), await plugged_car(stand, 50.0)
    await a_depot(stand, 20.0, low, high)
    await stand.charging.set_goal(low.ref, stand.goal(8, 60, minimum_percent=20), OWNER)
    await stand.charging.set_goal(high.ref, stand.goal(8, 90), OWNER)
    await replanner.turn()
    now_us = stand.clock.at_us
    await stand.charging.dim("depot-nord", 4.2, now_us, now_us + HOUR_US, "signal-1")
    await replanner.turn()
    plans = {car.ref: (await stand.charging.standing(car.ref)).plan for car in (low, high)}
    for minute in range(60):
        at_us = now_us + minute * 60 * SECOND_US
        assert sum(plan.power_at(at_us) for plan in plans.values() if plan) <= 4.201
    first = plans[low.ref]
    assert first is not None
    assert first.power_at(now_us) == pytest.approx(4.2, abs=0.01)
    (dimming,) = await stand.charging.dimmings("depot-nord")
    assert dimming.honoured_us >= dimming.told_us
    board = await stand.charging.board("depot-nord")
    assert board.is_dimmed
    assert board.limit_kw[0] == 4.2
    await stand.charging.end_dimming("depot-nord", "signal-1")
    await replanner.turn()
    assert not (await stand.charging.board("depot-nord")).is_dimmed


async def test_too_small_a_limit_serves_some_drivers_wholly_and_tells_the_others(
    stand: Stand, replanner: Replanner
) -> None:
    cars = [await plugged_car(stand, 40.0) for _ in range(4)]
    await a_depot(stand, 6.9, *cars)
    for car in cars:
        await stand.charging.put_place(Place("depot-nord", car.ref, "row-a"), "operator:x")
        await stand.charging.set_goal(car.ref, stand.goal(3, 60), OWNER)
    await replanner.turn()
    plans = [(await stand.charging.standing(car.ref)).plan for car in cars]
    got = sorted(round(plan.energy_kwh, 1) for plan in plans if plan)
    assert sum(got) == pytest.approx(20.7, abs=0.2), "the limit is used up"
    assert sum(kwh >= 9.0 for kwh in got) == 2, "two have enough, instead of four too little"
    short = [plan for plan in plans if plan and plan.shortfall_kwh]
    assert {plan.reason for plan in short} == {"charging.plan.shared"}
    assert (await stand.charging.board("depot-nord")).unserved_kwh == pytest.approx(40 - sum(got), abs=0.2)


async def test_a_minimum_that_is_dimmed_is_charged_later_and_nobody_is_alarmed(
    stand: Stand, replanner: Replanner
) -> None:
    car = await plugged_car(stand, 10.0)
    await a_depot(stand, 20.0, car)
    await stand.charging.set_goal(car.ref, stand.goal(8, 60, minimum_percent=30), OWNER)
    now_us = stand.clock.at_us
    await stand.charging.dim("depot-nord", 2.0, now_us, now_us + HOUR_US, "signal-1")
    await replanner.turn()
    standing = await stand.charging.standing(car.ref)
    assert standing.plan is not None
    assert (standing.plan.shortfall_kwh, standing.alerts) == (0.0, ())
    assert standing.plan.energy_kwh == pytest.approx(25.0, abs=0.1)


async def test_flexibility_lies_between_as_late_and_as_early_as_can_be(stand: Stand) -> None:
    car = await plugged_car(stand)
    await a_depot(stand, 8.0, car)
    await stand.charging.set_goal(car.ref, stand.goal(4, 60), OWNER)
    flexibility = await stand.charging.flexibility("depot-nord")
    hours = [(length / 3600) for length in flexibility.length_s]
    assert sum(kw * h for kw, h in zip(flexibility.min_kw, hours, strict=True)) == pytest.approx(8.0)
    assert flexibility.min_kw[:12] == (0.0,) * 12
    assert max(flexibility.max_kw) == 8.0
    assert (await stand.charging.flexibility()).cars == 1


# Stations -------------------------------------------------------------------------------------------------------------


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
    car = await plugged_car(stand)
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
    car = await plugged_car(stand)
    plugs.at[car.ref] = AtStation("CP-1/1/1", at_us=stand.clock.at_us, began_us=stand.clock.at_us, can_limit=False)
    tariff = await stand.prices(0.40, 0.10)
    await stand.charging.set_goal(car.ref, stand.goal(2, 50, tariff=tariff), OWNER)
    await Replanner(stand.charging).turn()
    assert plugs.limits == []
    assert "charge.schedule" in stand.told.acts()


async def test_the_big_stop_pauses_the_connector_too(stand: Stand) -> None:
    plugs = Plugs()
    stand.charging = stand.another(stations=plugs)
    car = await plugged_car(stand)
    plugs.at[car.ref] = AtStation("CP-1/1/1", at_us=stand.clock.at_us)
    await stand.charging.stop(car.ref, OWNER)
    assert [slots for _, slots, _ in plugs.limits] == [[(stand.clock.at_us, 0.0)]]


# Several processes ----------------------------------------------------------------------------------------------------


async def test_two_processes_share_the_vehicles_and_one_takes_over_from_the_other(stand: Stand) -> None:
    leases = [Leases(stand.database, "charging", "charging", f"process-{at}", clock=stand.clock) for at in range(2)]
    replanners = [Replanner(stand.charging, one) for one in leases]
    cars = [await plugged_car(stand) for _ in range(12)]
    for one in (*replanners, *replanners):
        stand.clock.move(3)  # a lease is renewed each third of its life
        await one.turn()
    for car in cars:
        await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    for one in replanners:
        await one.turn()
    told = [order.ref for order in stand.told.orders if order.act == "charge.schedule"]
    assert sorted(told) == sorted(car.ref for car in cars), "each vehicle by one of them"
    assert all(one.counters.orders for one in replanners)
    await leases[0].release()
    stand.clock.move(3)
    await replanners[1].turn()
    before = len(stand.told.orders)
    for car in cars:
        await stand.charging.set_goal(car.ref, stand.goal(3, 90), OWNER)
    await replanners[1].turn()
    assert {order.ref for order in stand.told.orders[before:]} == {car.ref for car in cars}


async def test_what_happened_while_nobody_held_a_vehicle_is_seen_by_who_takes_it(stand: Stand) -> None:
    first = Leases(stand.database, "charging", "charging", "process-0", clock=stand.clock)
    second = Leases(stand.database, "charging", "charging", "process-1", clock=stand.clock)
    replanners = [Replanner(stand.charging, one) for one in (first, second)]
    cars = [await plugged_car(stand) for _ in range(12)]
    for one in (*replanners, *replanners):
        stand.clock.move(3)
        await one.turn()
    await first.release()
    for car in cars:
        await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    await replanners[1].turn()
    assert len({order.ref for order in stand.told.orders}) < len(cars), "those of the first are nobody's yet"
    stand.clock.move(3)
    await replanners[1].turn()
    assert {order.ref for order in stand.told.orders} == {car.ref for car in cars}


# One that fails -------------------------------------------------------------------------------------------------------


async def test_a_car_or_depot_that_cannot_be_planned_keeps_nobody_else_from_a_plan(
    stand: Stand, replanner: Replanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await plugged_car(stand), await plugged_car(stand)
    await a_depot(stand, 12.0)
    for car in (bad, good):
        await stand.charging.set_goal(car.ref, stand.goal(5, 60), OWNER)
    await replanner.turn()

    def make(known: Known, now_us: int, cause: str) -> StoredPlan:
        if known.goal.ref == bad.ref:
            raise ZeroDivisionError
        return making.make(known, now_us, cause)

    def plan_depot(*_: object) -> object:
        raise FloatingPointError

    monkeypatch.setattr("rocade.services.charging.replanning.make", make)
    monkeypatch.setattr("rocade.services.charging.replanning.plan_depot", plan_depot)
    stand.clock.move(hours=0.6)
    for car in (bad, good):
        await stand.says(car, soc=50.0, cable=True, charging=False)
    await stand.charging.set_load("depot-nord", 1, 0)
    await replanner.turn()
    plans = [(await stand.charging.standing(car.ref)).plan for car in (bad, good)]
    assert [plan.version for plan in plans if plan] == [1, 2]
    assert replanner.counters.failures == 1
