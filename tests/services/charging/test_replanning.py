"""The replanner follows: cars come, say otherwise than planned, do not obey, leave; prices change; processes share and die."""

from __future__ import annotations

import asyncio

import pytest
from tests.services.charging.conftest import CAR, HOUR_US, OWNER, Stand

from rocade.core.identifiers import PARTITIONS, partition_of
from rocade.fabric.database import Leases
from rocade.services.charging import SeriesValue
from rocade.services.charging.replanning import Replanner
from rocade.services.vehicles import Vehicle


async def test_a_car_gets_its_limit_and_its_schedule_once(stand: Stand, replanner: Replanner) -> None:
    car = await stand.plugged_car()
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
    car = await stand.plugged_car()
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
    car = await stand.plugged_car()
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
    car = await stand.plugged_car()
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
    car = await stand.plugged_car(charging=True)
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
    car = await stand.plugged_car()
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
    car = await stand.plugged_car()
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
    car = await stand.plugged_car(charging=True)
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
    car = await stand.plugged_car()
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
        car = await stand.plugged_car()
        await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
        async with asyncio.timeout(30):
            while not stand.told.orders:
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running
    assert replanner.counters.failures == 0


TTL_S = 90.0
"""By the database's clock, which no test moves: longer than any stall."""


def process(stand: Stand, at: int) -> Leases:
    return Leases(stand.database, "charging", "charging", f"process-{at}", TTL_S, stand.clock)


async def cars_of_both(stand: Stand) -> list[Vehicle]:
    """Six in each half of the partitions."""
    halves: tuple[list[Vehicle], list[Vehicle]] = [], []
    while min(map(len, halves)) < 6:
        car = await stand.plugged_car()
        halves[partition_of(car.ref) * 2 // PARTITIONS].append(car)
    return halves[0][:6] + halves[1][:6]


async def test_two_processes_share_the_vehicles_and_one_takes_over_from_the_other(stand: Stand) -> None:
    leases = [process(stand, at) for at in range(2)]
    replanners = [Replanner(stand.charging, one) for one in leases]
    cars = await cars_of_both(stand)
    for one in (*replanners, *replanners):
        stand.clock.move(TTL_S / 2)  # a lease is renewed each third of its life
        await one.turn()
    for car in cars:
        await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    for one in replanners:
        await one.turn()
    told = [order.ref for order in stand.told.orders if order.act == "charge.schedule"]
    assert sorted(told) == sorted(car.ref for car in cars), "each vehicle by one of them"
    assert all(one.counters.orders for one in replanners)
    await leases[0].release()
    stand.clock.move(TTL_S / 2)
    await replanners[1].turn()
    before = len(stand.told.orders)
    for car in cars:
        await stand.charging.set_goal(car.ref, stand.goal(3, 90), OWNER)
    await replanners[1].turn()
    assert {order.ref for order in stand.told.orders[before:]} == {car.ref for car in cars}


async def test_what_happened_while_nobody_held_a_vehicle_is_seen_by_who_takes_it(stand: Stand) -> None:
    first, second = (process(stand, at) for at in range(2))
    replanners = [Replanner(stand.charging, one) for one in (first, second)]
    cars = await cars_of_both(stand)
    for one in (*replanners, *replanners):
        stand.clock.move(TTL_S / 2)
        await one.turn()
    await first.release()
    for car in cars:
        await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    await replanners[1].turn()
    assert len({order.ref for order in stand.told.orders}) < len(cars), "those of the first are nobody's yet"
    stand.clock.move(TTL_S / 2)
    await replanners[1].turn()
    assert {order.ref for order in stand.told.orders} == {car.ref for car in cars}
