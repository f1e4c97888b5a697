"""Fleets under shared limits: never above one, as cheap as the linear program says, and the bound is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import highspy
import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning import Slots, windows
from rocade.services.charging.planning.limits import Fleet, Floats, Node, PowerAt, Tree, kw_of
from rocade.services.charging.planning.shared import SharedPlan, plan_shared, slots_from
from rocade.services.charging.planning.slots import SECOND_US

QUARTER_US = 900 * SECOND_US
T = 24
SLOTS = Slots.over(0, T * QUARTER_US)
HOURS = SLOTS.length_s / 3600
DEPOT = Tree([
    Node("depot", limit_kw=60),
    Node("east", "depot", current_a=40),
    Node("west", "depot", limit_kw=np.linspace(15, 40, T)),
    Node("row", "west", current_a=32),
])  # fmt: skip


def fleet_of(seed: int, number: int = 14, tree: Tree = DEPOT, *, min_a: float = 0.0, fill: float = 0.6) -> Fleet:
    """Cars anywhere in the tree, on one, two or three phases."""
    chance = np.random.default_rng(seed)
    first = chance.integers(0, T - 4, number)
    last = np.minimum(first + chance.integers(3, T, number), T)
    phases = chance.choice([1, 2, 4, 3, 7], number)
    power = kw_of(chance.choice([10, 16, 32], number), phases)
    energy = chance.uniform(0.1, fill, number) * power * (last - first) / 4
    return Fleet.of(
        first * QUARTER_US, last * QUARTER_US, energy, power, node=chance.integers(0, len(tree.nodes), number),
        phases=phases, priority=0, min_a=min_a,
    )  # fmt: skip


def price_of(seed: int) -> Floats:
    """With some negative hours."""
    return np.random.default_rng(seed).normal(0.15, 0.15, T).round(4)


def rows(tree: Tree, fleet: Fleet) -> list[tuple[Floats, Floats]]:
    """Each limit as (room per slot, part of each car's power that counts), written anew and simply."""
    found = []
    for at, node in enumerate(tree.nodes):
        below = np.array([at in tree.paths[one] for one in fleet.node], float)
        if node.limit_kw is not None:
            found.append((np.broadcast_to(np.asarray(node.limit_kw, float), T), below))
        if node.current_a is not None:
            for bit in (1, 2, 4):
                part = np.array([bool(p & bit) / p.bit_count() for p in fleet.phases.tolist()])
                found.append((np.full(T, float(np.asarray(node.current_a)) * 0.23), below * part))
    return found


def optimum(fleet: Fleet, tree: Tree, price: Floats, *, on_off: bool = False) -> float:
    """The cost by the whole (mixed-integer) linear program, every need met. Infinite if that cannot be."""
    inside = presence(fleet)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("mip_rel_gap", 1e-6)
    infinity = highspy.kHighsInf
    number = len(fleet)
    for i in range(number):
        for t in range(T):
            solver.addVar(0, float(fleet.max_kw[i]) * bool(inside[i, t]))
    solver.changeColsCost(number * T, np.arange(number * T), np.tile(price * HOURS, number))
    for i in range(number):
        at = np.arange(i * T, (i + 1) * T)
        solver.addRow(float(fleet.energy_kwh[i]), float(fleet.energy_kwh[i]), T, at, HOURS)
        for t in range(T) if on_off else ():
            solver.addVar(0, 1)
            switch, power = solver.getNumCol() - 1, i * T + t
            solver.changeColIntegrality(switch, highspy.HighsVarType.kInteger)
            solver.addRow(0, infinity, 2, np.array([power, switch]), np.array([1, -float(fleet.min_kw[i])]))
            solver.addRow(-infinity, 0, 2, np.array([power, switch]), np.array([1, -float(fleet.max_kw[i])]))
    for room, part in rows(tree, fleet):
        for t in range(T):
            solver.addRow(-infinity, float(room[t]), number, np.arange(number) * T + t, part)
    solver.run()
    is_solved = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return float(solver.getInfo().objective_function_value) if is_solved else np.inf


def presence(fleet: Fleet) -> np.ndarray:
    return (SLOTS.start_us >= fleet.arrival_us[:, None]) & (SLOTS.end_us <= fleet.departure_us[:, None])


def check(plan: SharedPlan, fleet: Fleet, tree: Tree, price: Floats, own: Mapping[str, Floats] | None = None) -> Floats:
    """What every plan keeps. Returns the powers."""
    power = plan.power_kw.astype(np.float64)
    assert np.all(power >= 0)
    assert np.all(power <= fleet.max_kw[:, None] * (1 + 1e-6))
    assert np.all(power[~presence(fleet)] == 0)
    for room, part in rows(tree, fleet):
        assert np.all(part @ power <= room * (1 + 1e-6) + 1e-6) or own
    assert np.allclose(power.sum(axis=0), plan.load_kw, atol=1e-4)
    assert np.allclose(power @ HOURS + plan.unserved_kwh, fleet.energy_kwh, atol=1e-4)
    assert plan.excess <= 1e-6
    assert plan.lower_bound <= plan.cost + 1e-9
    return power


@pytest.mark.parametrize("seed", range(12))
def test_a_plan_costs_what_the_linear_program_says_and_its_bound_is_below(seed: int) -> None:
    fleet, price = fleet_of(seed, fill=0.3), price_of(seed)
    plan = plan_shared(fleet, DEPOT, SLOTS, price, gap=1e-5)
    power = check(plan, fleet, DEPOT, price)
    least = optimum(fleet, DEPOT, price)
    assert least < np.inf
    scale = float(np.abs(price).mean() * fleet.energy_kwh.sum())
    assert plan.unserved_kwh.sum() < 1e-4
    assert plan.lower_bound - 1e-6 * scale <= least <= plan.cost + 2e-5 * scale
    assert plan.cost - least <= 3e-5 * scale
    assert price @ (power.sum(axis=0) * HOURS) == pytest.approx(plan.cost, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_cars_that_need_six_amperes_get_them_or_nothing(seed: int) -> None:
    fleet, price = fleet_of(seed, 6, min_a=6.0, fill=0.3), price_of(seed)
    plan = plan_shared(fleet, DEPOT, SLOTS, price)
    power = check(plan, fleet, DEPOT, price)
    low = np.minimum(kw_of(6, fleet.phases), fleet.max_kw)[:, None]
    in_part = (power > 1e-6) & (power < low * (1 - 1e-6))
    assert np.all(in_part.sum(axis=1) <= 1)
    least = optimum(fleet, DEPOT, price)
    scale = float(np.abs(price).mean() * fleet.energy_kwh.sum())
    assert plan.lower_bound <= least + 1e-6 * scale
    assert plan.unserved_kwh.sum() < 1e-4
    assert plan.cost <= optimum(fleet, DEPOT, price, on_off=True) + 0.05 * scale


def test_where_not_all_can_be_served_lower_priorities_go_short_and_nothing_is_refused() -> None:
    fleet = replace(fleet_of(3, 20, Tree.single(9)), priority=np.arange(20) % 2, phases=np.full(20, 7))
    plan = plan_shared(fleet, Tree.single(9), SLOTS, price_of(3))
    check(plan, fleet, Tree.single(9), price_of(3))
    short = [plan.unserved_kwh[fleet.priority == priority].sum() for priority in (0, 1)]
    alone = plan_shared(
        replace(fleet, energy_kwh=np.where(fleet.priority == 1, fleet.energy_kwh, 0)),
        Tree.single(9),
        SLOTS,
        price_of(3),
    )
    assert short[0] > 1
    assert short[1] <= alone.unserved_kwh.sum() + 1e-3


@pytest.mark.parametrize("min_a", [0.0, 6.0])
@pytest.mark.parametrize(("limit_kw", "building_kw", "free_kw"), [(0, 0, 0), (20, 25, 0), (20, 12, 8), (1e9, 0, 1e9)])
def test_a_building_takes_its_power_first(limit_kw: float, building_kw: float, free_kw: float, min_a: float) -> None:
    tree = Tree([Node("depot", limit_kw=limit_kw)])
    fleet = replace(fleet_of(5, 10, tree, min_a=min_a), node=np.zeros(10, np.int64))
    plan = plan_shared(fleet, tree, SLOTS, price_of(5), building_kw=building_kw)
    assert plan.power_kw.sum(axis=0, dtype=float).max() <= free_kw * (1 + 1e-6)
    assert plan.over_kw.max() == max(building_kw - limit_kw, 0)
    assert (plan.unserved_kwh.sum() < 1e-3) == (free_kw > 100)


def test_own_solar_power_is_used_before_bought_power_and_widens_the_limit() -> None:
    """Two kilowatts of sun over the building's load at noon; feeding in brings 5 cents, buying costs 20 and more."""
    tree = Tree([Node("depot", limit_kw=5)])
    fleet = Fleet.of(np.zeros(4), np.full(4, T * QUARTER_US), [3, 3, 3, 3], 11)
    price = np.linspace(0.2, 0.3, T)
    solar, building = np.where(np.arange(T) // 4 == 3, 12.0, 0.0), np.full(T, 2.0)
    plan = plan_shared(fleet, tree, SLOTS, price, building, solar, feed_in=0.05)
    noon = solar > 0
    load = plan.power_kw.sum(axis=0, dtype=float)
    assert plan.unserved_kwh.sum() < 1e-3
    assert load[noon] == pytest.approx(np.full(4, 10.0), abs=1e-3)
    assert load[~noon] == pytest.approx([2 / 0.25 / 3 if t < 3 else 0 for t in range(20)], abs=3.1)
    assert np.all(load <= 5 - building + solar + 1e-6)
    assert plan.cost == pytest.approx(10 * 0.05 + float(price[~noon] @ load[~noon]) / 4, rel=1e-3)
    assert plan.gap <= 1e-4


def test_a_feed_in_above_the_price_is_counted_as_it_is_and_the_gap_says_so() -> None:
    fleet = Fleet.of(np.zeros(2), np.full(2, T * QUARTER_US), [3, 3], 11)
    price = np.full(T, 0.05)
    plan = plan_shared(fleet, Tree.single(20), SLOTS, price, solar_kw=np.full(T, 30.0), feed_in=0.08)
    assert plan.cost == pytest.approx(6 * 0.08)
    assert plan.lower_bound <= 6 * 0.05 + 1e-6


def test_planning_in_the_midst_of_a_slot_counts_what_is_left_of_it() -> None:
    now_us = 7 * 60 * SECOND_US + 31 * SECOND_US
    slots = slots_from(now_us, 4 * QUARTER_US)
    assert slots.length_s.tolist() == [480, 900, 900, 900]
    assert slots.start_us[0] == 7 * 60 * SECOND_US
    fleet = Fleet.of([0, 0], [4 * QUARTER_US, 4 * QUARTER_US], [8.0, 2.0], [11, 11])
    plan = plan_shared(fleet, Tree.single(12), slots, [0.1, 0.4, 0.2, 0.3])
    energy = plan.power_kw.astype(float) * (slots.length_s / 3600)
    assert energy.sum(axis=1) == pytest.approx([8.0, 2.0], rel=1e-4)
    assert energy.sum(axis=0) == pytest.approx([1.6, 2.4, 3.0, 3.0], rel=1e-3)


def test_many_cars_of_a_window_get_the_schedules_that_few_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and answer by answer say the same; a file holds it, shard by shard."""
    chance = np.random.default_rng(9)
    first = chance.integers(0, 4, 900) * 4
    energy = chance.uniform(0.2, 4, 900)
    fleet = Fleet.of(first * QUARTER_US, (first + 8) * QUARTER_US, energy, chance.choice([3.7, 11.0], 900))
    tree, price = Tree.single(900), price_of(9)
    monkeypatch.setattr(windows, "SHARD", 256)
    plan = plan_shared(fleet, tree, SLOTS, price)
    power = check(plan, fleet, tree, price)
    plan.write_schedules(tmp_path / "many.npy")
    assert np.array_equal(np.load(tmp_path / "many.npy"), plan.power_kw)
    monkeypatch.setattr(windows, "MANY", 0)
    again = plan_shared(fleet, tree, SLOTS, price)
    assert np.allclose(again.power_kw, power, atol=1e-4)
    assert plan.unserved_kwh.sum() < 1e-3


def test_nobody_there_or_nothing_needed_is_a_plan_too() -> None:
    stays = ([0, 0, QUARTER_US], [QUARTER_US, 0, 0], [0.0, 5.0, 5.0], [11, 11, 0])  # no need; no stay; no power
    plan = plan_shared(Fleet.of(*stays), Tree.single(5), SLOTS, price_of(0))
    assert plan.power_kw.sum() == 0
    assert plan.unserved_kwh.tolist() == [0, 5, 5]
    assert plan.cost == plan.gap == 0
    nobody = plan_shared(Fleet.of([], [], [], []), DEPOT, SLOTS, price_of(0))
    assert nobody.power_kw.shape == (0, T)
    assert nobody.load_kw.tolist() == [0] * T


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([], "names"),
        ([Node("a"), Node("a", "a")], "names"),
        ([Node("a"), Node("b")], "one node without"),
        ([Node("a"), Node("b", "c")], "not there"),
        ([Node("a"), Node("b", "c"), Node("c", "b")], "circle"),
        ([Node("a", limit_kw=-1)], "negative"),
        ([Node("a", current_a=float("nan"))], "negative"),
    ],
)
def test_a_tree_that_is_none_is_refused(nodes: list[Node], said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        plan_shared(Fleet.of([0], [QUARTER_US], [1], [11]), Tree(nodes), SLOTS, price_of(0))
    assert refused.value.code == "charging.limits.tree"


@pytest.mark.parametrize(
    ("cost", "solar_kw", "code"),
    [
        (np.ones(T + 1), None, "charging.curve.length"),
        (np.where(np.arange(T) == 3, np.nan, 1), None, "charging.prices.missing"),
        (np.ones(T), {"south": 1}, "charging.limits.tree"),
        (np.ones(T), {"east": 1, "depot": 1}, "charging.limits.tree"),
        (np.ones(T), float("inf"), "charging.limits.tree"),
    ],
)
def test_curves_that_do_not_fit_are_refused(cost: Floats, solar_kw: PowerAt, code: str) -> None:
    with pytest.raises(Refused) as refused:
        plan_shared(Fleet.of([0], [QUARTER_US], [1], [11]), DEPOT, SLOTS, cost, solar_kw=solar_kw)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("energy", "power", "more", "code"),
    [
        (-1, 11, {}, "charging.fleet.number"),
        (1, float("nan"), {}, "charging.fleet.number"),
        (1, 11, {"min_a": -6}, "charging.fleet.number"),
        (1, 11, {"phases": 0}, "charging.fleet.phases"),
        (1, 11, {"phases": 8}, "charging.fleet.phases"),
        (1, 11, {"node": 9}, "charging.limits.tree"),
    ],
)
def test_vehicles_that_cannot_be_are_refused(energy: float, power: float, more: dict[str, int], code: str) -> None:
    with pytest.raises(Refused) as refused:
        plan_shared(Fleet.of([0], [QUARTER_US], [energy], [power], **more), DEPOT, SLOTS, price_of(0))
    assert refused.value.code == code
