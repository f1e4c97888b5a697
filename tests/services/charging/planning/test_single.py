"""One vehicle's plan: exactly the cheapest, whatever is asked; a target out of reach gets a plan, a reason and a remedy."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning import Need, OnSlots, Plan, Reason, Slots, Taper, local_day, objective, plan_one
from rocade.services.charging.planning.slots import Floats

HOUR_US = 3_600_000_000
T0 = 1_795_000_500_000_000
"""Not on a quarter of an hour: stays begin and end within slots."""
CAR = Need(
    arrival_us=T0,
    departure_us=T0 + 12 * HOUR_US,
    max_kw=7.4,
    now_percent=30,
    target_percent=80,
    capacity_kwh=50,
    efficiency=0.9,
)
FALLING = Taper((70, 100), (7.4, 1.5))


def slots_of(need: Need) -> Slots:
    return Slots.over(need.arrival_us, need.departure_us)


def prices(need: Need, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0.2, 0.15, len(slots_of(need))).round(4)


def plan_of(need: Need, cost: Floats | None = None, **more: Any) -> Plan:
    return plan_one(need, slots_of(need), prices(need) if cost is None else cost, **more)


def check(plan: Plan) -> None:
    """What every plan keeps: limits, the stay, sums, and its own bound."""
    need, slots = plan.need, plan.slots
    length_h = slots.step_h
    assert np.all(plan.power_kw >= -1e-12)
    assert np.all(plan.power_kw <= need.max_kw * plan.on_h / length_h + 1e-9)
    if plan.reason != Reason.PAST:
        assert np.all(plan.on_h <= slots.available_h(need.arrival_us, need.departure_us) + 1e-9)
    stored = plan.energy_kwh * need.efficiency / need.capacity_kwh * 100 if need.capacity_kwh else 0
    assert plan.soc_percent[-1] == pytest.approx(need.now_percent + stored)
    assert np.all(np.diff(plan.soc_percent) >= -1e-9)
    assert math.isfinite(plan.lower_bound)
    assert plan.gap <= 1e-9
    pieces = plan.schedule()
    assert all(a[1] < b[0] for a, b in itertools.pairwise(pieces))
    hours = sum(end - begin for begin, end, _ in pieces) / HOUR_US
    assert hours == pytest.approx(float(plan.on_h.sum()), abs=len(plan.on_h) / 3600)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("taper", [None, FALLING])
def test_a_plan_reaches_its_target_and_proves_that_nothing_is_cheaper(seed: int, taper: Taper | None) -> None:
    plan = plan_of(replace(CAR, taper=taper), prices(CAR, seed))
    check(plan)
    assert plan.reason == Reason.REACHED
    assert plan.soc_percent[-1] == pytest.approx(80)
    assert plan.energy_kwh == pytest.approx(25 / 0.9)
    assert plan.cost_minor == round(100 * plan.cost)


def test_the_cheapest_slots_are_used_wherever_they_lie() -> None:
    cost = prices(CAR)
    plan = plan_of(CAR, cost)
    used = plan.on_h > 0
    whole = np.flatnonzero(used)[1:-1]
    assert np.max(cost[used]) <= np.min(cost[1:-1][~used[1:-1]]) + 1e-12
    assert np.any(np.diff(whole) > 1)  # with holes


def test_hourly_and_quarterly_tariffs_give_the_same_plan_cost() -> None:
    need = replace(CAR, arrival_us=T0 - T0 % HOUR_US, departure_us=T0 - T0 % HOUR_US + 10 * HOUR_US)
    hourly = Slots.over(need.arrival_us, need.departure_us, 3600)
    cost = np.random.default_rng(3).normal(0.2, 0.1, len(hourly))
    for taper in (None, FALLING):
        coarse = plan_one(replace(need, taper=taper), hourly, cost)
        fine = plan_one(replace(need, taper=taper), slots_of(need), np.repeat(cost, 4))
        assert fine.cost == pytest.approx(coarse.cost) if taper is None else fine.cost <= coarse.cost + 1e-9


def test_negative_prices_are_taken_first_and_earn_money() -> None:
    cost = np.full(len(slots_of(CAR)), 0.25)
    cost[20:24] = -0.3
    plan = plan_of(CAR, cost)
    assert np.all(plan.on_h[20:24] == pytest.approx(0.25))
    all_negative = plan_of(CAR, -np.abs(prices(CAR)))
    assert all_negative.cost_minor < 0
    assert all_negative.energy_kwh == pytest.approx(25 / 0.9)  # and not a bit more than was asked for
    check(all_negative)


@pytest.mark.parametrize(("day", "quarters"), [(date(2026, 3, 29), 92), (date(2026, 10, 25), 100)])
def test_days_on_which_the_clocks_change_are_planned_like_others(day: date, quarters: int) -> None:
    slots = local_day(day, "Europe/Paris")
    need = replace(CAR, arrival_us=int(slots.start_us[0]), departure_us=int(slots.end_us[-1]), target_percent=100)
    plan = plan_one(need, slots, np.random.default_rng(1).normal(0.2, 0.1, quarters))
    check(plan)
    assert len(plan.power_kw) == quarters
    assert plan.soc_percent[-1] == pytest.approx(100)


def test_the_minimum_is_charged_first_whatever_it_costs() -> None:
    cost = np.linspace(0.9, 0.1, len(slots_of(CAR)))
    for taper in (None, FALLING):
        plan = plan_of(replace(CAR, minimum_percent=45, taper=taper), cost)
        check(plan)
        first_h = 7.5 / 0.9 / 7.4
        reached_at = int(np.argmax(plan.soc_percent >= 45 - 1e-9)) - 1
        begin_h = float(np.cumsum(slots_of(CAR).available_h(T0, T0 + 12 * HOUR_US))[reached_at])
        assert begin_h <= first_h + 0.25
        assert plan.cost < plan_of(replace(CAR, minimum_percent=80, taper=taper), cost).cost
        assert plan.cost > plan_of(replace(CAR, taper=taper), cost).cost
    assert plan_of(replace(CAR, minimum_percent=20), cost).cost == plan_of(CAR, cost).cost  # it has that already


@pytest.mark.parametrize("taper", [None, FALLING])
def test_what_lies_above_eighty_comes_as_late_as_it_can(taper: Taper | None) -> None:
    need = replace(CAR, target_percent=100, late_from_percent=80, taper=taper)
    cost = np.linspace(0.1, 0.9, len(slots_of(CAR)))  # late is dear
    plan = plan_of(need, cost)
    check(plan)
    assert plan.soc_percent[-1] == pytest.approx(100)
    late = np.flatnonzero(plan.soc_percent > 80 + 1e-9)[0] - 1
    assert np.all(plan.on_h[late + 1 :] == pytest.approx(slots_of(need).available_h(T0, need.departure_us)[late + 1 :]))
    early = plan_of(replace(need, late_from_percent=None), cost)
    assert early.cost < plan.cost
    assert np.mean(early.soc_percent > 80) > np.mean(plan.soc_percent > 80)


def test_a_minimum_above_the_state_that_comes_late_is_charged_first_all_the_same() -> None:
    plan = plan_of(replace(CAR, target_percent=100, minimum_percent=90, late_from_percent=80))
    check(plan)
    assert plan.soc_percent[-1] == pytest.approx(100)
    assert plan.on_h[1:10] == pytest.approx(0.25)  # nine quarters and more without pause: 60 % of 50 kWh
    assert plan.on_h[-2] == pytest.approx(0.25)
    assert plan.on_h.sum() == pytest.approx(35 / 0.9 / 7.4)


def test_minimum_and_care_in_a_stay_that_is_just_long_enough_fill_it() -> None:
    hours = 25 / 0.9 / 7.4
    need = replace(CAR, departure_us=T0 + math.ceil(hours * HOUR_US), minimum_percent=50, late_from_percent=60)
    plan = plan_of(need)
    check(plan)
    assert plan.reason == Reason.REACHED
    assert plan.on_h.sum() == pytest.approx(hours)


def test_a_mix_of_price_and_co2_walks_the_frontier() -> None:
    rng = np.random.default_rng(5)
    price, carbon = rng.normal(0.2, 0.1, len(slots_of(CAR))), rng.uniform(20, 400, len(slots_of(CAR)))
    for taper in (None, FALLING):
        need = replace(CAR, taper=taper)
        plans = [
            plan_of(need, objective(price, carbon, share), price=price, carbon=carbon)
            for share in np.linspace(0, 1, 11)
        ]
        cost, emitted = [plan.cost_minor for plan in plans], [plan.co2_g for plan in plans]
        assert all(a <= b for a, b in itertools.pairwise(cost))
        assert all(a >= b for a, b in itertools.pairwise(emitted))
        assert cost[0] < cost[-1]
        assert emitted[0] > emitted[-1]
        assert emitted[-1] == round(plan_of(need, carbon / 1000).cost * 1000)


def test_a_curve_that_says_nothing_is_no_reason_to_choose() -> None:
    flat = np.full(len(slots_of(CAR)), 0.2)
    assert objective(flat, flat * 0, 0.5) is not None
    assert plan_of(CAR, objective(flat, np.zeros(len(flat)), 1.0)).reason == Reason.REACHED
    assert np.array_equal(objective(flat, None, 1.0), flat)


def test_a_plan_says_what_rests_on_a_forecast_and_between_which_costs_it_lies() -> None:
    n = len(slots_of(CAR))
    value = np.linspace(0.3, 0.1, n)
    guessed = np.arange(n) >= n // 2
    price = OnSlots(value, np.where(guessed, value - 0.05, value), np.where(guessed, value + 0.1, value), guessed)
    plan = plan_of(CAR, value, price=price)
    assert plan.forecast_kwh == pytest.approx(float(plan.power_kw[guessed].sum() / 4))
    assert plan.cost_low_minor < plan.cost_minor < plan.cost_high_minor
    assert plan.is_forecast.tolist() == guessed.tolist()


def test_at_once_is_the_same_energy_without_waiting() -> None:
    plan = plan_of(CAR, np.linspace(0.4, 0.1, len(slots_of(CAR))), carbon=np.linspace(300, 100, len(slots_of(CAR))))
    assert plan.at_once.energy_kwh == pytest.approx(plan.energy_kwh)
    assert plan.saved_minor == plan.at_once.cost_minor - plan.cost_minor > 0
    assert plan.at_once.co2_g > plan.co2_g


def test_amounts_are_in_the_currency_s_own_minor_units() -> None:
    cost = np.full(len(slots_of(CAR)), 30.0)
    assert plan_of(CAR, cost, currency="JPY").cost_minor == round(30 * 25 / 0.9)
    assert plan_of(CAR, cost, currency="KWD").cost_minor == round(1000 * 30 * 25 / 0.9)


# --- out of reach -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taper", [None, FALLING, Taper((20, 60, 100), (3, 7.4, 2))])
@pytest.mark.parametrize("target", [70, 95, 100])
@pytest.mark.parametrize("hours", [0.3, 1.5, 2.9])
def test_a_target_out_of_reach_gets_all_there_is_and_the_least_changes_that_reach_it(
    taper: Taper | None, target: float, hours: float
) -> None:
    need = replace(CAR, taper=taper, target_percent=target, departure_us=T0 + round(hours * HOUR_US))
    plan = plan_of(need)
    check(plan)
    assert plan.reason == Reason.SHORT
    assert plan.on_h.sum() == pytest.approx(hours)
    assert plan.soc_percent[-1] + plan.shortfall_percent == pytest.approx(target)
    assert plan.shortfall_kwh == pytest.approx(plan.shortfall_percent * 0.5)
    remedy = plan.remedy
    assert remedy is not None

    def reaches(**change: float) -> bool:
        tried = replace(need, **change)
        return plan_of(tried).reason in {Reason.REACHED, Reason.ALREADY}

    minute_us = 60_000_000
    assert reaches(departure_us=need.departure_us + remedy.later_min * minute_us)
    assert not reaches(departure_us=need.departure_us + (remedy.later_min - 1) * minute_us)
    assert reaches(target_percent=remedy.target_percent)
    assert not reaches(target_percent=remedy.target_percent + 0.11)
    if remedy.power_kw:
        assert reaches(max_kw=remedy.power_kw)
        assert not reaches(max_kw=remedy.power_kw - 0.11)
    else:
        assert not reaches(max_kw=400)
    assert remedy.smallest in {"later", "target", "power"}


@pytest.mark.parametrize(
    ("change", "reason", "smallest"),
    [
        ({"max_kw": 0.0}, Reason.NO_POWER, "power"),
        ({"max_kw": 1.0, "min_kw": 1.4}, Reason.WEAK, "power"),
        ({"departure_us": T0 - HOUR_US}, Reason.PAST, "later"),
        ({"departure_us": T0}, Reason.PAST, "later"),
    ],
)
def test_no_power_and_a_departure_in_the_past_are_answered_not_refused(
    change: dict[str, Any], reason: Reason, smallest: str
) -> None:
    need = replace(CAR, **change)
    slots = Slots.over(T0, T0 + 12 * HOUR_US)
    plan = plan_one(need, slots, np.full(len(slots), 0.2))
    assert plan.reason == reason
    assert plan.shortfall_percent == pytest.approx(50)
    assert plan.remedy is not None
    assert plan.remedy.smallest == smallest
    if reason == Reason.PAST:  # late already: as much as possible, at once
        assert plan.soc_percent[-1] == pytest.approx(80)
        assert plan.schedule()[0][0] == T0
        later = need.departure_us + plan.remedy.later_min * 60_000_000
        assert plan_one(replace(need, departure_us=later), slots, np.full(len(slots), 0.2)).reason == Reason.REACHED
    else:
        assert plan.energy_kwh == 0
        assert plan.schedule() == []
        again = plan_one(replace(need, max_kw=plan.remedy.power_kw), slots, np.full(len(slots), 0.2))
        assert again.reason == Reason.REACHED


def test_a_target_below_the_state_needs_nothing() -> None:
    plan = plan_of(replace(CAR, now_percent=85))
    assert plan.reason == Reason.ALREADY
    assert (plan.energy_kwh, plan.cost_minor, plan.shortfall_kwh, plan.remedy) == (0, 0, 0, None)
    assert plan.soc_percent.tolist() == [85] * len(plan.soc_percent)


def test_an_energy_without_a_capacity_is_planned_too() -> None:
    need = Need(arrival_us=T0, departure_us=T0 + 6 * HOUR_US, max_kw=11, energy_kwh=18, efficiency=0.9)
    assert plan_of(need).energy_kwh == pytest.approx(20)
    assert plan_of(replace(need, energy_kwh=0)).reason == Reason.ALREADY
    short = plan_of(replace(need, energy_kwh=90))
    assert short.energy_kwh == pytest.approx(66)
    assert short.shortfall_kwh == pytest.approx(90 - 66 * 0.9)


def test_a_stay_beyond_the_slots_counts_as_far_as_they_reach() -> None:
    slots = Slots.over(T0, T0 + 6 * HOUR_US)
    plan = plan_one(
        replace(CAR, departure_us=T0 + 90 * 24 * HOUR_US), slots, prices(replace(CAR, departure_us=T0 + 6 * HOUR_US))
    )
    assert plan.reason == Reason.REACHED
    assert plan.schedule()[-1][1] <= slots.end_us[-1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"efficiency": -0.9}, "efficiency"),
        ({"efficiency": 0.0}, "efficiency"),
        ({"efficiency": 1.01}, "efficiency"),
        ({"efficiency": math.nan}, "efficiency"),
        ({"max_kw": -1.0}, "power"),
        ({"max_kw": math.inf}, "power"),
        ({"max_kw": math.nan}, "power"),
        ({"min_kw": -1.0}, "power"),
        ({"now_percent": -1.0}, "percent"),
        ({"target_percent": 130.0}, "percent"),
        ({"target_percent": math.nan}, "percent"),
        ({"capacity_kwh": 0.0}, "capacity"),
        ({"capacity_kwh": -50.0}, "capacity"),
        ({"capacity_kwh": 0.0, "energy_kwh": 9.0, "taper": FALLING}, "capacity"),
        ({"minimum_percent": 90.0}, "minimum"),
        ({"late_from_percent": 101.0}, "late"),
        ({"energy_kwh": -5.0}, "energy"),
        ({"departure_us": -5}, "instant"),
        ({"departure_us": 1 << 62}, "instant"),
    ],
)
def test_what_is_no_goal_is_refused_with_what_to_do(change: dict[str, Any], code: str) -> None:
    slots = Slots.over(T0, T0 + HOUR_US)
    with pytest.raises(Refused) as refused:
        plan_one(replace(CAR, **change), slots, np.zeros(len(slots)))
    assert refused.value.code == f"charging.need.{code}"


def test_a_missing_price_is_named_and_one_outside_the_stay_does_not_matter() -> None:
    slots = Slots.over(T0, T0 + 14 * HOUR_US)
    cost = np.full(len(slots), 0.2)
    cost[-2:] = np.nan  # after the departure
    check(plan_one(CAR, slots, cost))
    cost[7] = np.nan
    with pytest.raises(Refused) as refused:
        plan_one(CAR, slots, cost)
    assert refused.value.code == "charging.prices.missing"
    assert refused.value.facts == {"first_missing_us": int(slots.start_us[7]), "missing_slots": 1}
    with pytest.raises(Refused) as refused:
        plan_one(CAR, slots, cost[:-1])
    assert refused.value.code == "charging.curve.length"


def test_a_partly_used_slot_joins_the_slot_that_follows_on() -> None:
    need = replace(CAR, arrival_us=T0 - T0 % HOUR_US, departure_us=T0 - T0 % HOUR_US + 12 * HOUR_US)
    cost = np.full(48, 0.5)
    cost[10], cost[11:26] = 0.2, 0.1
    plan = plan_of(need, cost)
    assert len(plan.schedule()) == 1
    begin, end, kw = plan.schedule()[0]
    assert end == int(slots_of(need).end_us[25])
    assert int(slots_of(need).start_us[10]) < begin < int(slots_of(need).end_us[10])
    assert kw == 7.4
