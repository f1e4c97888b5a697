"""Any numbers in place of a need: a plan that keeps every limit, or a typed refusal. Nothing is ever called infeasible."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning import Need, Plan, Reason, Slots, Taper, plan_one

HOUR_US = 3_600_000_000
T0 = 1_795_000_500_000_000
POOL: dict[str, list[Any]] = {
    "arrival_us": [T0, T0 + 7, T0 - 90 * HOUR_US, T0 + 5 * HOUR_US, -1, 0, 1 << 62],
    "departure_us": [T0, T0 + 1, T0 + 9 * HOUR_US, T0 + 900 * HOUR_US, T0 - HOUR_US, -5, 0],
    "max_kw": [7.4, 11.0, 0.0, 1e-12, 350.0, 1e9, -1.0, math.nan, math.inf],
    "now_percent": [20.0, 0.0, 100.0, 99.9999999, 79.99999, -1.0, math.nan],
    "target_percent": [80.0, 100.0, 0.0, 80.0000001, 101.0, math.nan],
    "capacity_kwh": [50.0, 1e-6, 1e6, 0.0, -1.0, math.inf],
    "efficiency": [0.9, 1.0, 1e-9, 0.0, -0.9, 2.0, math.nan],
    "min_kw": [0.0, 1.4, 50.0, -1.0, math.nan],
    "minimum_percent": [0.0, 30.0, 80.0, 100.0, -1.0],
    "late_from_percent": [None, 80.0, 0.0, 100.0, 120.0],
    "energy_kwh": [None, None, None, 10.0, 0.0, 1e6, -1.0, math.nan],
    "taper": [None, Taper((80, 100), (7.4, 2)), Taper((1, 2, 3), (1e-3, 300, 1)), Taper((100,), (5,))],
}


def kept(plan: Plan) -> None:
    """What holds for every plan, however odd the need."""
    need, slots = plan.need, plan.slots
    assert np.isfinite(plan.power_kw).all()
    assert np.all(plan.power_kw >= 0)
    assert np.all(plan.power_kw <= need.max_kw * (1 + 1e-9) + 1e-9)
    assert np.all(np.diff(plan.soc_percent) >= -1e-9)
    assert np.all((plan.soc_percent >= 0) & (plan.soc_percent <= 100 + 1e-9))
    assert math.isfinite(plan.cost)
    assert plan.gap <= 1e-6
    now, target = need.percents
    if plan.reason == Reason.REACHED:
        missing_kwh = (target - plan.soc_percent[-1]) * need.plug_kwh_per_percent * need.efficiency
        assert abs(missing_kwh) < 1e-6 * (1 + need.max_kw)  # what flows within microseconds
        assert plan.shortfall_percent == 0
    elif plan.reason == Reason.ALREADY:
        assert plan.energy_kwh == 0
    else:
        assert plan.remedy is not None
        assert plan.shortfall_percent > 0
        assert plan.shortfall_percent <= target - now + 1e-9
    for begin, end, _ in plan.schedule():
        assert slots.start_us[0] <= begin < end <= slots.end_us[-1]


def run(rounds: int, seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    slots = Slots.over(T0, T0 + 10 * HOUR_US)
    planned = refused = 0
    for _ in range(rounds):
        usual = {name: values[0] for name, values in POOL.items()} | {"departure_us": T0 + 9 * HOUR_US}
        changed = {name: rng.choice(POOL[name]) for name in rng.sample(sorted(POOL), rng.randint(1, 6))}
        cost = numbers.normal(0.2, 0.3, len(slots)).round(1)
        try:
            plan = plan_one(Need(**(usual | changed)), slots, cost)
        except Refused as error:
            refused += 1
            code = error.code
        else:
            planned += 1
            code = "charging.need."
            kept(plan)
        assert code.startswith("charging.need.")
    assert planned > rounds / 10 < refused


def test_any_numbers_are_planned_or_refused() -> None:
    run(600, 1)


@pytest.mark.slow
def test_very_many_of_any_numbers_are_planned_or_refused() -> None:
    run(20_000, 2)
