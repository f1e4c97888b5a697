"""Very many plans at once are the plans of one vehicle each, whatever their stays, powers and prices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning import Need, Slots, frontier, many, plan_many, plan_many_load, plan_one

BEGIN_US = 1_795_000_500_000_000
QUARTER_US = 900_000_000


def fleet(rng: np.random.Generator, count: int, slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first = rng.integers(-3, slots, count)
    last = first + rng.integers(-2, slots, count)
    return (
        rng.choice(np.array([0.0, 5.0, 20.0, 400.0]), count),
        rng.choice(np.array([0.0, 3.7, 7.4, 11.0]), count),
        first,
        last,
    )


@pytest.mark.parametrize("slots", [1, 7, 96, 300])
def test_each_row_is_the_plan_of_that_vehicle_alone(slots: int) -> None:
    rng = np.random.default_rng(slots)
    energy, kw, first, last = fleet(rng, 120, slots)
    cost = rng.normal(0.1, 0.2, slots).round(2)  # equal prices too
    power = plan_many(energy, kw, first, last, cost, 0.25)
    begin = BEGIN_US - BEGIN_US % QUARTER_US
    window = Slots.over(begin, begin + slots * QUARTER_US)
    for row in range(120):
        from_slot, to_slot = max(int(first[row]), 0), min(int(last[row]), slots)
        if to_slot <= from_slot or not kw[row] or not energy[row]:
            assert not power[row].any()
            continue
        need = Need(arrival_us=begin + from_slot * QUARTER_US, departure_us=begin + to_slot * QUARTER_US, max_kw=float(kw[row]), energy_kwh=float(energy[row]))  # fmt: skip
        assert power[row] == pytest.approx(plan_one(need, window, cost).power_kw, abs=1e-4)


def test_the_load_alone_is_the_sum_of_the_rows() -> None:
    rng = np.random.default_rng(2)
    energy, kw, first, last = fleet(rng, 5_000, 96)
    cost = rng.normal(0.1, 0.2, 96)
    rows = plan_many(energy, kw, first, last, cost, 0.25)
    assert plan_many_load(energy, kw, first, last, cost, 0.25) == pytest.approx(
        rows.sum(axis=0, dtype=np.float64), abs=1e-2
    )


def test_windows_in_parts_give_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    energy, kw, first, last = fleet(rng, 2_000, 96)
    cost = rng.normal(0.1, 0.2, 96)
    whole, load = (of(energy, kw, first, last, cost, 0.25) for of in (plan_many, plan_many_load))
    monkeypatch.setattr(many, "TABLE", 97 * 50)
    assert np.array_equal(plan_many(energy, kw, first, last, cost, 0.25), whole)
    assert plan_many_load(energy, kw, first, last, cost, 0.25) == pytest.approx(load)


@pytest.mark.parametrize(
    ("energy", "kw", "last", "cost", "code"),
    [
        ([-1.0], [7.0], [4], [0.1] * 4, "charging.need.energy"),
        ([np.nan], [7.0], [4], [0.1] * 4, "charging.need.energy"),
        ([1.0], [-7.0], [4], [0.1] * 4, "charging.need.power"),
        ([1.0], [np.inf], [4], [0.1] * 4, "charging.need.power"),
        ([1.0], [7.0, 7.0], [4], [0.1] * 4, "charging.curve.length"),
        ([1.0], [7.0], [4], [0.1, np.nan, 0.1, 0.1], "charging.prices.missing"),
    ],
)
def test_columns_that_mean_nothing_are_refused(
    energy: list[float], kw: list[float], last: list[int], cost: list[float], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        plan_many(np.array(energy), np.array(kw), np.array([0]), np.array(last), np.array(cost), 0.25)
    assert refused.value.code == code


def test_the_frontier_goes_from_cheap_to_green_and_no_plan_on_it_is_worse_in_both() -> None:
    rng = np.random.default_rng(4)
    slots = Slots.over(BEGIN_US, BEGIN_US + 40 * QUARTER_US)
    need = Need(arrival_us=BEGIN_US, departure_us=BEGIN_US + 40 * QUARTER_US, max_kw=11, energy_kwh=30)
    price, carbon = rng.normal(0.2, 0.1, len(slots)), rng.uniform(20, 400, len(slots))
    found = frontier(need, slots, price, carbon)
    assert len(found) > 3
    for (share, plan), (greener, other) in itertools.pairwise(found):
        assert share < greener
        assert plan.cost_minor < other.cost_minor
        assert plan.co2_g > other.co2_g
    assert (
        len(frontier(need, slots, price, np.full(len(slots), 50.0))) == 1
    )  # CO2 says nothing: there is nothing to choose
