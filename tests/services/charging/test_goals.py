"""Goals and their plans: stored together, explained, stopped and resumed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.services.charging.conftest import CAR, HOUR_US, OWNER, Stand

from rocade.core.errors import Refused
from rocade.services.charging import Departure, Goal, WeeklyTime


async def test_a_goal_gets_the_cheapest_plan_and_says_what_it_saves(stand: Stand) -> None:
    car = await stand.car()
    await stand.charging.set_car(car.ref, CAR, OWNER)
    await stand.says(car, soc=40.0, cable=True, charging=False)
    tariff = await stand.prices(0.40, 0.30, 0.10, 0.20, 0.50)
    standing = await stand.charging.set_goal(car.ref, stand.goal(5, 60, tariff=tariff), OWNER)
    plan = standing.plan
    assert plan is not None
    assert plan.pieces == ((stand.clock.at_us + 2 * HOUR_US, stand.clock.at_us + 3 * HOUR_US, 10.0),)
    assert (plan.cost_minor, plan.currency, plan.at_once_minor) == (100, "EUR", 400)
    assert (plan.reason, plan.shortfall_kwh, standing.state) == ("", 0.0, "waiting")
    assert standing.goal is not None
    assert (standing.goal.version, standing.goal.by, plan.goal_version) == (1, OWNER, 1)


async def test_a_target_out_of_reach_gets_a_best_effort_and_the_smallest_change(stand: Stand) -> None:
    car = await stand.car()
    await stand.charging.set_car(car.ref, CAR, OWNER)
    await stand.says(car, soc=10.0, cable=True, charging=False)
    standing = await stand.charging.set_goal(car.ref, stand.goal(1, 90), OWNER)
    plan = standing.plan
    assert plan is not None
    assert plan.soc_percent[-1] == pytest.approx(30, abs=0.1)
    assert (plan.reason, standing.state) == ("charging.plan.short", "late")
    assert plan.remedy is not None
    assert plan.remedy.later_min == 180
    assert plan.shortfall_kwh == pytest.approx(30, abs=0.1)


async def test_a_preview_stores_nothing(stand: Stand) -> None:
    car = await stand.car()
    await stand.says(car, soc=40.0, cable=True)
    plan = await stand.charging.preview(car.ref, stand.goal())
    assert plan.energy_kwh > 0
    standing = await stand.charging.standing(car.ref)
    assert (standing.goal, standing.plan, stand.told.orders) == (None, None, [])


async def test_the_big_stop_commands_at_once_and_resume_plans_again(stand: Stand) -> None:
    car = await stand.car()
    await stand.says(car, soc=40.0, cable=True, charging=True, power=7.0)
    await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    stopped = await stand.charging.stop(car.ref, OWNER)
    assert stopped.state == "stopped"
    assert stand.told.acts() == ["charge.stop", "charge.schedule"]
    resumed = await stand.charging.resume(car.ref, OWNER)
    assert resumed.state == "charging"
    assert resumed.goal is not None
    assert resumed.goal.version == 3


async def test_a_goal_that_is_dropped_leaves_no_schedule_in_the_car(stand: Stand) -> None:
    car = await stand.car()
    await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    await stand.charging.drop_goal(car.ref, OWNER)
    assert [(order.act, order.parameters) for order in stand.told.orders] == [("charge.schedule", {"slots": []})]
    assert (await stand.charging.standing(car.ref)).state == "no_goal"
    with pytest.raises(Refused) as refused:
        await stand.charging.drop_goal(car.ref, OWNER)
    assert refused.value.code == "charging.goal.missing"


async def test_a_weekly_departure_goes_on_from_week_to_week(stand: Stand) -> None:
    car = await stand.car()
    await stand.says(car, soc=40.0, cable=True)
    goal = Goal(0, 80, Departure("weekly", zone="Europe/Paris", weekly=(WeeklyTime(0, 7 * 60),)))
    standing = await stand.charging.set_goal(car.ref, goal, OWNER)
    assert standing.departure_us == stand.clock.at_us + (2 * 24 + 22) * HOUR_US, "Monday 07:00 in Paris is 06:00 UTC"
    stand.clock.move(hours=100)
    assert (await stand.charging.standing(car.ref)).departure_us == standing.departure_us + 7 * 24 * HOUR_US


BAD_GOALS: list[tuple[dict[str, Any], str]] = [
    ({"departure": Departure("once", at_us=1)}, "charging.departure.past"),
    ({"departure": Departure("weekly", zone="Europe/Paris")}, "charging.departure.never"),
    ({"departure": Departure("weekly", zone="Mars/Olympus", weekly=(WeeklyTime(0, 1),))}, "charging.zone"),
    ({"departure": Departure("calendar", calendar="no calendar")}, "charging.calendar.malformed"),
    ({"target": 130}, "charging.goal.percent"),
    ({"target": float("nan")}, "charging.goal.percent"),
    ({"minimum_percent": 90}, "charging.goal.minimum"),
    ({"share_co2": 2}, "charging.goal.share"),
    ({"power_limit_kw": -1}, "charging.goal.power"),
    ({"tariff": "none-such"}, "charging.tariff.unknown"),
    ({"tariff": "grid"}, "charging.tariff.use"),
]


async def test_what_no_plan_can_be_made_from_is_refused(stand: Stand) -> None:
    car = await stand.car()
    await stand.prices(100.0, id="grid", kind="co2")
    for goal, code in BAD_GOALS:
        with pytest.raises(Refused) as refused:
            await stand.charging.set_goal(car.ref, stand.goal(**goal), OWNER)
        assert refused.value.code == code
        assert stand.audit.entries[-1].reason == code


async def test_a_vehicle_without_a_plug_is_refused(stand: Stand) -> None:
    car = await stand.car("diesel")
    with pytest.raises(Refused) as refused:
        await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    assert refused.value.code == "charging.car.battery"


async def test_a_target_below_the_state_needs_nothing(stand: Stand) -> None:
    car = await stand.car()
    await stand.says(car, soc=85.0, cable=True)
    standing = await stand.charging.set_goal(car.ref, stand.goal(), OWNER)
    assert standing.plan is not None
    assert (standing.state, standing.plan.energy_kwh, standing.plan.pieces) == ("reached", 0.0, ())


async def test_what_a_plan_expects_follows_when_the_car_charges_not_where_slots_begin(stand: Stand) -> None:
    stand.clock.at_us += 10 * 60 * 1_000_000
    car = await stand.car()
    await stand.charging.set_car(car.ref, CAR, OWNER)
    await stand.says(car, soc=40.0, cable=True)
    plan = (await stand.charging.set_goal(car.ref, stand.goal(0.5, 60), OWNER)).plan
    assert plan is not None
    assert plan.expected_percent(stand.clock.at_us) == pytest.approx(40.0)
    assert plan.expected_percent(stand.clock.at_us + HOUR_US // 20) == pytest.approx(41.0, abs=0.01)
