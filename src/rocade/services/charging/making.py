"""From what is known of one vehicle to its plan: slots until the departure, prices and CO2 on them, the planner's answer as stored.

Prices nobody has published yet are foretold (`planning.series`); where nothing at all is known a plan is made all the same,
without cost, and charges early. The car is taken as plugged in now: a plan for a car that is still away is a preview.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from rocade.services.charging.model import LATE_FROM_PERCENT, CarFacts, Goal, Now, Remedy, StoredPlan
from rocade.services.charging.planning import Need, OnSlots, Plan, Series, Slots, Taper, objective, plan_one
from rocade.services.charging.planning.slots import Floats

HORIZON_US = 7 * 86_400_000_000
"""Nobody knows prices further ahead."""
NO_CURRENCY = ""


class Known(msgspec.Struct, frozen=True):
    """What a plan is made from. `price`, `carbon` None = no such series."""

    goal: Goal
    car: CarFacts
    now: Now
    departure_us: int
    price: Series | None = None
    carbon: Series | None = None


def make(known: Known, now_us: int, cause: str) -> StoredPlan:
    """The best plan from now on, best effort where the target is out of reach.

    Raises: Refused `charging.need.*`.
    """
    until_us = min(known.departure_us, now_us + HORIZON_US)
    slots = Slots.over(now_us, max(until_us, now_us + 1))
    price, carbon = on_slots(known.price, slots), on_slots(known.carbon, slots)
    wanted = objective(price.value, carbon.value if known.carbon else None, known.goal.share_co2)
    need = need_of(known, now_us)
    currency = known.price.currency if known.price else NO_CURRENCY
    found = plan_one(need, slots, wanted, price=price, carbon=carbon, currency=currency or "EUR")
    return stored(found, known, now_us, currency, carbon, price, cause)


def need_of(known: Known, now_us: int) -> Need:
    """What the planner is asked for."""
    goal, car, now = known.goal, known.car, known.now
    soc = min(max(now.soc_percent or 0.0, 0.0), 100.0)
    return Need(
        arrival_us=now_us,
        departure_us=known.departure_us,
        max_kw=power_of(goal, car),
        now_percent=soc,
        target_percent=goal.target_percent,
        capacity_kwh=car.capacity_kwh,
        efficiency=car.efficiency,
        min_kw=car.min_kw,
        taper=taper_of(car),
        minimum_percent=goal.minimum_percent,
        late_from_percent=LATE_FROM_PERCENT if goal.care and goal.target_percent > LATE_FROM_PERCENT else None,
    )


def power_of(goal: Goal | None, car: CarFacts) -> float:
    """The most a car may draw: what it takes, less where its driver says so."""
    limit = goal.power_limit_kw if goal else 0.0
    return min(car.max_kw, limit) if limit else car.max_kw


def taper_of(car: CarFacts) -> Taper | None:
    if car.taper_from_percent >= 100 or car.taper_to_kw >= car.max_kw:
        return None
    return Taper((car.taper_from_percent, 100.0), (car.max_kw, car.taper_to_kw))


def on_slots(series: Series | None, slots: Slots) -> OnSlots:
    """Every slot has a value: what is not covered takes the mean of what is, as forecast; nothing known = nothing."""
    if series is None or not len(series):
        zero = np.zeros(len(slots))
        return OnSlots(zero, zero, zero, np.ones(len(slots), np.bool_))
    found = series.on(slots)
    missing = ~np.isfinite(found.value)
    if not missing.any():
        return found
    around = series.value[-96:]
    usual, low, high = float(around.mean()), float(around.min()), float(around.max())
    return OnSlots(
        np.where(missing, usual, found.value),
        np.where(missing, low, found.low),
        np.where(missing, high, found.high),
        found.is_forecast | missing,
    )


def stored(
    plan: Plan, known: Known, now_us: int, currency: str, carbon: OnSlots, price: OnSlots, cause: str
) -> StoredPlan:
    """A planner's answer as it is kept."""
    remedy = plan.remedy
    return StoredPlan(
        ref=known.goal.ref,
        version=0,
        goal_version=known.goal.version,
        made_us=now_us,
        departure_us=known.departure_us,
        start_us=tuple(plan.slots.start_us.tolist()),
        length_s=tuple(plan.slots.length_s.tolist()),
        power_kw=_rounded(plan.power_kw),
        soc_percent=_rounded(plan.soc_percent),
        pieces=tuple(plan.schedule()),
        cost_minor=plan.cost_minor if currency else 0,
        currency=currency,
        co2_g=plan.co2_g,
        at_once_minor=plan.at_once.cost_minor if currency else 0,
        at_once_g=plan.at_once.co2_g,
        energy_kwh=round(plan.energy_kwh, 3),
        target_percent=known.goal.target_percent,
        shortfall_kwh=round(plan.shortfall_kwh, 3),
        reason=str(plan.reason),
        remedy=Remedy(remedy.later_min, remedy.target_percent, remedy.power_kw, remedy.smallest) if remedy else None,
        gap=plan.gap if math.isfinite(plan.gap) else 0.0,
        price=_rounded(price.value, 5) if known.price else (),
        carbon_g=_rounded(carbon.value, 1) if known.carbon else (),
        is_forecast=tuple(price.is_forecast.tolist()) if known.price else (),
        latest_us=latest_us(plan, known.departure_us),
        cause=cause,
    )


def latest_us(plan: Plan, departure_us: int) -> int:
    """Beginning later than this, as fast as the car takes it, misses the target."""
    return departure_us - round(float(plan.on_h.sum()) * 3_600_000_000)


def _rounded(values: Floats, digits: int = 4) -> tuple[float, ...]:
    return tuple(np.round(values, digits).tolist())
