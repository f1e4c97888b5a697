"""The replanner follows what a depot may draw: its limit, dimming, too little for all; and one bad car harms nobody else."""

from __future__ import annotations

import pytest
from tests.services.charging.conftest import HOUR_US, OWNER, SECOND_US, Stand

from rocade.services.charging import ChargeSite, LimitNode, Place, making
from rocade.services.charging.making import Known
from rocade.services.charging.model import StoredPlan
from rocade.services.charging.replanning import Replanner
from rocade.services.vehicles import Vehicle


async def a_depot(stand: Stand, limit_kw: float, *cars: Vehicle, tariff: str = "") -> ChargeSite:
    nodes = (LimitNode("root", limit_kw=limit_kw), LimitNode("row-a", "root"))
    site = await stand.charging.put_site(
        ChargeSite("depot-nord", "Depot Nord", "Europe/Paris", nodes, tariff), "operator:x"
    )
    for place, car in enumerate(cars):
        await stand.charging.put_place(Place("depot-nord", car.ref, "row-a", priority=place), "operator:x")
    return site


async def test_cars_of_a_depot_share_its_limit_and_the_board_shows_it(stand: Stand, replanner: Replanner) -> None:
    cars = [await stand.plugged_car() for _ in range(3)]
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
    low, high = await stand.plugged_car(10.0), await stand.plugged_car(50.0)
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
    cars = [await stand.plugged_car(40.0) for _ in range(4)]
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
    car = await stand.plugged_car(10.0)
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
    car = await stand.plugged_car()
    await a_depot(stand, 8.0, car)
    await stand.charging.set_goal(car.ref, stand.goal(4, 60), OWNER)
    flexibility = await stand.charging.flexibility("depot-nord")
    hours = [(length / 3600) for length in flexibility.length_s]
    assert sum(kw * h for kw, h in zip(flexibility.min_kw, hours, strict=True)) == pytest.approx(8.0)
    assert flexibility.min_kw[:12] == (0.0,) * 12
    assert max(flexibility.max_kw) == 8.0
    assert (await stand.charging.flexibility()).cars == 1


async def test_a_car_or_depot_that_cannot_be_planned_keeps_nobody_else_from_a_plan(
    stand: Stand, replanner: Replanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await stand.plugged_car(), await stand.plugged_car()
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
