"""The taper's dynamic programming is exact: no enumeration, no finer grid and no heuristic finds anything cheaper."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning.slots import Floats
from rocade.services.charging.planning.taper import Curve, Taper, cheapest


def stairs(rng: np.random.Generator, knots: int, units: int) -> Curve:
    """A curve whose knots stand on whole units of time, with any power in between, also growing."""
    at = np.sort(rng.choice(np.arange(1, units), knots, replace=False))
    hours = np.concatenate([[0], at, [units]]).astype(np.float64)
    energy = np.concatenate([[0.0], np.cumsum(np.diff(hours) * rng.uniform(0.5, 5, knots + 1))])
    return Curve(hours, energy, energy)


def spent(curve: Curve, on: Floats, cost: Floats) -> float:
    return float(np.diff(curve.kwh_after(np.concatenate([[0.0], np.cumsum(on)]))) @ cost)


@pytest.mark.parametrize("seed", range(60))
def test_every_way_to_charge_on_a_grid_that_holds_the_knots_costs_at_least_as_much(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slots, step = int(rng.integers(1, 6)), 4
    available = np.full(slots, float(step))
    available[0], available[-1] = rng.integers(1, step + 1), rng.integers(1, step + 1)
    whole = int(rng.integers(1, int(available.sum()) + 1))
    curve = stairs(rng, min(whole - 1, int(rng.integers(0, 5))), whole) if whole > 1 else stairs(rng, 0, 1)
    cost = rng.normal(1, 2, slots).round(2)  # also negative ones
    on, least = cheapest(curve, 0.0, float(whole), available, cost)
    ways = product(*(range(int(one) + 1) for one in available))
    best = min(spent(curve, np.array(way, np.float64), cost) for way in ways if sum(way) == whole)
    assert least == pytest.approx(best, abs=1e-9)
    assert spent(curve, on, cost) == pytest.approx(least, abs=1e-9)
    assert on.sum() == pytest.approx(whole)
    assert np.all(on <= available + 1e-9)


def car(rng: np.random.Generator, slots: int) -> tuple[Curve, Floats, Floats]:
    """A battery with a falling or a wild power curve, and a stay long enough."""
    points = np.sort(rng.choice(np.arange(5, 100, 5), int(rng.integers(1, 5)), replace=False)).astype(float)
    kw = np.sort(rng.uniform(1, 11, len(points)))[::-1] if rng.random() < 0.7 else rng.uniform(1, 11, len(points))
    taper = Taper(tuple(points), tuple(kw))
    now, target = sorted(rng.uniform(0, 100, 2))
    curve = Curve.of(now, target + 0.5, 0.6, float(rng.choice([3.7, 7.4, 11])), taper)
    available = np.full(slots, 0.25)
    available[0], available[-1] = rng.uniform(0.01, 0.25, 2)
    return curve, available, rng.normal(0.2, 0.15, slots)


def grown(curve: Curve, whole: float, available: Floats, cost: Floats) -> Floats:
    """The usual heuristic: the cheapest slots, as many as it takes."""
    on, left = np.zeros(len(cost)), whole
    for slot in np.argsort(cost):
        on[slot] = min(left, available[slot])
        left -= on[slot]
    return on


@pytest.mark.parametrize("seed", range(25))
def test_no_heuristic_costs_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curve, available, cost = car(rng, 40)
    whole = min(float(curve.hours[-1]), float(available.sum() * rng.uniform(0.3, 0.95)))
    _, least = cheapest(curve, 0.0, whole, available, cost)
    tried = [
        grown(curve, whole, available, cost + rng.normal(0, noise, 40)) for noise in [0.0, *np.linspace(0, 0.2, 60)]
    ]
    for on in list(tried):  # and each moved about a little, towards what is cheaper
        for _ in range(10):
            a, b = rng.integers(0, 40, 2)
            moved = on.copy()
            much = min(moved[a], available[b] - moved[b]) * rng.random()
            moved[a], moved[b] = moved[a] - much, moved[b] + much
            tried.append(moved)
    assert min(spent(curve, on, cost) for on in tried) >= least - 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_more_states_than_the_ties_find_nothing_cheaper(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    curve, available, cost = car(rng, 60)
    whole = min(float(curve.hours[-1]), 0.8 * float(available.sum()))
    _, least = cheapest(curve, 0.0, whole, available, cost)
    _, finer = cheapest(curve, 0.0, whole, available, cost, refine=100)
    assert finer == pytest.approx(least, abs=1e-9)


def test_charging_stops_exactly_on_the_target() -> None:
    curve = Curve.of(20, 93.7, 0.6, 11, Taper((70, 100), (11, 2)))
    on, _ = cheapest(curve, 0.0, float(curve.hours[-1]), np.full(80, 0.25), np.linspace(1, 2, 80))
    assert curve.percent_after(float(on.sum())) == pytest.approx(93.7, abs=1e-9)


def test_equal_prices_charge_early_and_in_one_piece() -> None:
    curve = Curve.of(50, 100, 0.6, 11, Taper((80, 100), (11, 3)))
    on, _ = cheapest(curve, 0.0, float(curve.hours[-1]), np.full(40, 0.25), np.full(40, 0.3))
    used = np.flatnonzero(on > 0)
    assert used.tolist() == list(range(len(used)))


def test_a_cell_takes_the_true_time_to_cross() -> None:
    """A line from 10 to 2 kW over 20 %: the time is an integral with a logarithm."""
    curve = Curve.of(80, 100, 0.5, 50, Taper((80, 100), (10, 2)))
    assert curve.hours[-1] == pytest.approx(20 * 0.5 * np.log(10 / 2) / 8, rel=1e-3)
    assert curve.plug_kwh[-1] == pytest.approx(10)


@pytest.mark.parametrize(
    ("percent", "kw"),
    [((), ()), ((80, 80), (5, 4)), ((90, 80), (5, 4)), ((80,), (5, 4)), ((80, 100), (5, 0)), ((80, 101), (5, 4)),
     ((80, 100), (5, float("nan"))), ((-1, 100), (5, 4))],
)  # fmt: skip
def test_a_taper_that_is_none_is_refused(percent: tuple[float, ...], kw: tuple[float, ...]) -> None:
    with pytest.raises(Refused) as refused:
        Taper(percent, kw)
    assert refused.value.code == "charging.need.taper"
