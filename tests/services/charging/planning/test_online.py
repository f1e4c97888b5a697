"""The scheduler of cars that come unannounced: limits kept, nothing wasted, drivers served, the future unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from rocade.services.charging.planning.limits import Node, Tree, kw_of
from rocade.services.charging.planning.online import HOUR_US, OnlineScheduler

STEP_H = 1 / 12
type Log = list[dict[str, float]]
DEPOT = Tree([
    Node("depot", limit_kw=40),
    Node("east", "depot", current_a=32),
    Node("west", "depot", limit_kw=25),
    Node("row", "west", current_a=20),
])  # fmt: skip


class Car(NamedTuple):
    arrival: int
    departure: int
    need_kwh: float
    max_kw: float
    node: str = ""
    phases: int = 7
    min_a: float = 0.0
    priority: int = 0


def cars_of(seed: int, number: int = 30, *, min_a: float = 0.0) -> list[Car]:
    """Steps of five minutes; needs that could be met if the car were alone."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        arrival, stay = int(chance.integers(0, 60)), int(chance.integers(6, 100))
        phases = int(chance.choice([1, 2, 4, 7]))
        power = float(kw_of(chance.choice([16, 32]), phases))
        need = float(chance.uniform(0.1, 0.9)) * power * stay * STEP_H
        found.append(Car(arrival, arrival + stay, need, power, str(chance.choice(["", *DEPOT.number])), phases, min_a))
    return found


def run(
    cars: list[Car], tree: Tree, each: Callable[[int, OnlineScheduler, dict[str, float]], None] | None = None
) -> np.ndarray:
    """What each car got."""
    online = OnlineScheduler(tree)
    got = np.zeros(len(cars))
    for step in range(max(car.departure for car in cars) + 1):
        now_us = round(step * STEP_H * HOUR_US)
        for at, car in enumerate(cars):
            if car.arrival == step:
                online.arrive(
                    str(at), round(car.departure * STEP_H * HOUR_US), car.need_kwh, car.max_kw,
                    node=car.node, phases=car.phases, min_a=car.min_a, priority=car.priority,
                )  # fmt: skip
            if car.departure == step:
                online.leave(str(at))
        powers = online.powers(now_us)
        if each:
            each(step, online, powers)
        for name, power in powers.items():
            got[int(name)] = min(got[int(name)] + power * STEP_H, cars[int(name)].need_kwh)
            online.metered(name, float(got[int(name)]))
    return got


def least_laxity_first(cars: list[Car], cap_kw: float) -> np.ndarray:
    """Energy under one limit by the rule everybody knows."""
    got = np.zeros(len(cars))
    for step in range(max(car.departure for car in cars)):
        here = [
            at for at, car in enumerate(cars) if car.arrival <= step < car.departure and car.need_kwh - got[at] > 1e-3
        ]
        free = cap_kw
        for at in sorted(
            here, key=lambda at: cars[at].departure - step - (cars[at].need_kwh - got[at]) / cars[at].max_kw / STEP_H
        ):
            power = min(cars[at].max_kw, (cars[at].need_kwh - got[at]) / STEP_H, free)
            got[at] += power * STEP_H
            free -= power
    return got


@pytest.mark.parametrize("min_a", [0.0, 6.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_limit_of_the_tree_is_ever_exceeded_and_least_currents_are_kept(seed: int, min_a: float) -> None:
    cars = cars_of(seed, min_a=min_a)

    def look(step: int, _: OnlineScheduler, powers: dict[str, float]) -> None:
        load = {node.id: np.zeros(3) for node in DEPOT.nodes}
        for name, power in powers.items():
            car = cars[int(name)]
            assert 0 <= power <= car.max_kw + 1e-9
            assert power == 0 or power >= min(float(kw_of(min_a, car.phases)), car.max_kw) - 1e-9
            on = np.array([bool(car.phases & bit) for bit in (1, 2, 4)])
            for at in DEPOT.paths[DEPOT.number[car.node or "depot"]]:
                load[DEPOT.nodes[at].id] += on * power / on.sum()
        assert load["depot"].sum() <= 40 + 1e-6, step
        assert load["west"].sum() <= 25 + 1e-6, step
        assert load["east"].max() <= 32 * 0.23 + 1e-6, step
        assert load["row"].max() <= 20 * 0.23 + 1e-6, step

    got = run(cars, DEPOT, look)
    assert got.sum() > 0.3 * sum(car.need_kwh for car in cars)


@pytest.mark.parametrize("seed", range(5))
def test_more_drivers_are_served_than_by_least_laxity_and_hardly_a_kwh_is_lost(seed: int) -> None:
    """Forty cars for eight hours below a limit for six of them."""
    chance = np.random.default_rng(seed)
    cars = [
        Car(int(a), int(a + s), float(n), 7.4)
        for a, s, n in zip(
            chance.integers(0, 24, 40), chance.integers(60, 110, 40), chance.gamma(3, 5, 40), strict=True
        )
    ]
    cars = [
        car._replace(need_kwh=min(car.need_kwh, 0.9 * 7.4 * (car.departure - car.arrival) * STEP_H)) for car in cars
    ]
    need = np.array([car.need_kwh for car in cars])
    ours, theirs = run(cars, Tree.single(44)), least_laxity_first(cars, 44)
    assert theirs.sum() < 0.9 * need.sum()
    assert (ours >= 0.9 * need).sum() >= 1.3 * (theirs >= 0.9 * need).sum()
    assert ours.sum() >= 0.99 * theirs.sum()


def test_what_can_be_used_is_used() -> None:
    cars = [car._replace(node="", phases=7) for car in cars_of(8, 25)]

    def look(step: int, online: OnlineScheduler, powers: dict[str, float]) -> None:
        wanted = sum(min(s.max_kw, (s.energy_kwh - s.got_kwh) / STEP_H) for s in online.stays.values())
        assert sum(powers.values()) >= min(wanted, 20.0) - 0.02, step

    run(cars, Tree.single(20), look)


def test_cars_still_to_come_change_nothing_before_they_come() -> None:
    cars = cars_of(4)
    late = [car for car in cars if car.arrival >= 30]
    assert late
    seen: list[Log] = [[], []]
    for log, some in zip(seen, (cars, [car for car in cars if car.arrival < 30]), strict=True):
        names = [at for at, car in enumerate(cars) if car in some]

        def look(
            step: int, _: OnlineScheduler, powers: dict[str, float], log: Log = log, names: list[int] = names
        ) -> None:
            if step < 30:
                log.append({str(names[int(name)]): power for name, power in powers.items()})

        run(some, DEPOT, look)
    assert seen[0] == seen[1]


def test_a_limit_that_falls_and_a_building_that_draws_count_at_once() -> None:
    online = OnlineScheduler(Tree.single(22))
    for name in "abcd":
        online.arrive(name, 4 * HOUR_US, 30, 11)
    assert sum(online.powers(0).values()) == pytest.approx(22)
    online.limit(Tree.single(10), building_kw=4)
    assert sum(online.powers(0).values()) == pytest.approx(6)
    online.limit(Tree.single(10), building_kw=14)
    assert sum(online.powers(0).values()) == 0
    online.limit(Tree.single(10), building_kw=14, solar_kw=20)
    assert sum(online.powers(0).values()) == pytest.approx(16)


def test_a_higher_priority_is_served_and_a_mind_may_be_changed() -> None:
    online = OnlineScheduler(Tree.single(11))
    online.arrive("low", HOUR_US, 11, 11)
    online.arrive("high", HOUR_US, 11, 11, priority=1)
    assert online.powers(0) == {"low": 0, "high": pytest.approx(11)}
    online.change("high", energy_kwh=0.5)
    assert online.powers(0) == {"low": pytest.approx(11), "high": 0}  # it can wait, and is waited for:
    online.metered("low", 10.5)
    assert online.powers(round(0.96 * HOUR_US)) == {"low": pytest.approx(5), "high": pytest.approx(6)}
    online.change("high", departure_us=5 * HOUR_US)
    assert online.powers(round(0.96 * HOUR_US)) == {"low": pytest.approx(6), "high": pytest.approx(5)}
    online.leave("low")
    online.leave("nobody")
    assert set(online.powers(0)) == {"high"}


def test_who_stays_longer_than_declared_is_still_charged_and_who_has_enough_is_not_named() -> None:
    online = OnlineScheduler(Tree.single(5))
    online.arrive("over", HOUR_US, 10, 11)
    assert online.powers(3 * HOUR_US) == {"over": pytest.approx(5)}
    online.metered("over", 10)
    assert online.powers(3 * HOUR_US) == {}
    assert OnlineScheduler(DEPOT).powers(0) == {}
