"""Plans of single vehicles, measured: beside linear programs solved by HiGHS, and beside dynamic programming on a fine grid.

    python benchmarks/charging_plans.py [--full]     medians of 5 and a million vehicles; without --full 100,000

Single plans: our time begins with columns of vehicles and ends with a power for each vehicle and slot. The peers get one linear program a
vehicle, over the slots of its stay alone, with matrices sliced from ready ones: scipy's `linprog` and scipy's `milp` interface
(leaner, the same HiGHS; the faster of the two is the peer of the goal), and, for whoever would write it himself, one HiGHS model that is
kept, with bounds exchanged and its last basis used again. Rounds alternate; costs are compared vehicle by vehicle.

Taper: the fine grid has 1,200 steps of charging time at least, each slot a whole number of them, stops exactly on the target, and
knows the true power at every tenth of a percent; it shares no line with the planner. The planner's plan is driven over the true curve.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import highspy
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from rocade.services.charging.planning import Need, Slots, Taper, plan_many, plan_many_load, plan_one
from rocade.services.charging.planning.taper import Curve

SEED = 20_261_122
SLOTS, STEP_H = 96, 0.25
PEER_VEHICLES = 200
ROUNDS = 5
TAPERED = 200
FINE_STEPS = 1_200
HOUR_US = 3_600_000_000
type Figure = dict[str, object]
type Floats = NDArray[np.float64]
type Places = NDArray[np.int64]


class Fleet:
    """Vehicles of usual powers, with stays of 1 to 9 hours that are long enough."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.max_kw: Floats = rng.choice(np.array([3.7, 7.4, 11.0, 22.0]), count)
        self.first: Places = rng.integers(0, 60, count)
        self.last: Places = self.first + rng.integers(4, 37, count)
        room = self.max_kw * STEP_H * (self.last - self.first)
        self.energy_kwh: Floats = np.minimum(rng.uniform(2, 60, count), room)


def figure(name: str, value: float, unit: str, goal: float | None = None, *, less: bool = False, peer: str = "",
           peer_value: float | None = None, ratio: float | None = None) -> Figure:  # fmt: skip
    met = None if goal is None else bool(value <= goal if less else value >= goal)
    return {"figure": name, "value": float(f"{value:.6g}"), "unit": unit, "goal": goal, "met": met, "peer": peer,
            "peer_value": peer_value, "ratio": ratio}  # fmt: skip


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


# --- many plans -------------------------------------------------------------------------------------------------------


def by_linprog(fleet: Fleet, cost: Floats) -> list[float]:
    weights, row, found = cost * STEP_H, np.full((1, SLOTS), STEP_H), []
    for i in range(PEER_VEHICLES):
        window, n = slice(fleet.first[i], fleet.last[i]), fleet.last[i] - fleet.first[i]
        done = linprog(
            weights[window],
            A_eq=row[:, :n],
            b_eq=fleet.energy_kwh[i : i + 1],
            bounds=(0, fleet.max_kw[i]),
            method="highs",
        )
        found.append(float(done.fun))
    return found


def by_milp(fleet: Fleet, cost: Floats) -> list[float]:
    weights, row, found = cost * STEP_H, np.full((1, SLOTS), STEP_H), []
    for i in range(PEER_VEHICLES):
        window, n, energy = slice(fleet.first[i], fleet.last[i]), fleet.last[i] - fleet.first[i], fleet.energy_kwh[i]
        only = LinearConstraint(row[:, :n], energy, energy)
        found.append(float(milp(weights[window], constraints=only, bounds=Bounds(0, fleet.max_kw[i])).fun))
    return found


def by_kept_model(fleet: Fleet, cost: Floats) -> list[float]:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # the library's own gap
    solver.setOptionValue("output_flag", False)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = SLOTS, 1
    model.col_cost_, model.col_lower_, model.col_upper_ = cost * STEP_H, np.zeros(SLOTS), np.zeros(SLOTS)
    model.row_lower_ = model.row_upper_ = np.zeros(1)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_ = np.array([0, SLOTS]), np.arange(SLOTS)
    model.a_matrix_.value_ = np.full(SLOTS, STEP_H)
    solver.passModel(model)
    columns, none, found = np.arange(SLOTS, dtype=np.int32), np.zeros(SLOTS), []
    for i in range(PEER_VEHICLES):
        most = np.zeros(SLOTS)
        most[fleet.first[i] : fleet.last[i]] = fleet.max_kw[i]
        solver.changeColsBounds(SLOTS, columns, none, most)
        solver.changeRowBounds(0, fleet.energy_kwh[i], fleet.energy_kwh[i])
        solver.run()
        found.append(float(solver.getInfo().objective_function_value))
    return found


PEERS = {"scipy linprog": by_linprog, "scipy milp": by_milp, "one kept HiGHS model": by_kept_model}


def many(count: int, rounds: int) -> list[Figure]:
    rng = np.random.default_rng(SEED)
    fleet, cost = Fleet(count, rng), rng.normal(0.2, 0.1, SLOTS)

    def ours() -> NDArray[np.float32]:
        return plan_many(fleet.energy_kwh, fleet.max_kw, fleet.first, fleet.last, cost, STEP_H)

    def load() -> Floats:
        return plan_many_load(fleet.energy_kwh, fleet.max_kw, fleet.first, fleet.last, cost, STEP_H)

    took: dict[str, list[float]] = {name: [] for name in ("ours", "load", *PEERS)}
    for _ in range(rounds):
        took["ours"].append(count / seconds(ours))
        took["load"].append(count / seconds(load))
        for name, peer in PEERS.items():
            took[name].append(PEER_VEHICLES / seconds(partial(peer, fleet, cost)))
    rate = {name: statistics.median(values) for name, values in took.items()}
    power = ours()
    costs = power[:PEER_VEHICLES].astype(np.float64) @ cost * STEP_H
    wanted = np.array(by_linprog(fleet, cost))
    apart = float(np.max(np.abs(costs - wanted) / np.maximum(1, np.abs(wanted))))
    lost = float(np.max(np.abs(power.sum(axis=1, dtype=np.float64) * STEP_H - fleet.energy_kwh)))
    best = max(("scipy linprog", "scipy milp"), key=lambda name: rate[name])
    size = f"{count:,} vehicles x {SLOTS}"
    return [
        figure(f"single exact plans, {size}, x the peer", rate["ours"] / rate[best], "x", 700, peer=f"{best}, one LP a vehicle",
               peer_value=round(rate[best]), ratio=round(rate["ours"] / rate[best])),
        figure(f"single exact plans, {size}", rate["ours"], "vehicles/s", peer="one kept HiGHS model",
               peer_value=round(rate["one kept HiGHS model"]), ratio=round(rate["ours"] / rate["one kept HiGHS model"])),
        figure(f"single exact plans, load alone, {size}", rate["load"], "vehicles/s"),
        figure(f"cost beside the LP, worst of {PEER_VEHICLES}", apart, "relative", 1e-6, less=True),
        figure("energy beside what was asked for, worst of all", lost, "kWh", 1e-4, less=True),
    ]  # fmt: skip


# --- taper ------------------------------------------------------------------------------------------------------------


def fine_cost(curve: Curve, slots: int, cost: Floats) -> float:
    """The least cost on a grid of charging time: from the last slot back, the cheapest of all places a slot can reach."""
    whole = float(curve.hours[-1])
    per_slot = int(np.ceil(FINE_STEPS / (whole / STEP_H)))
    step = STEP_H / per_slot
    places = np.append(np.arange(int(whole / step - 1e-9) + 1) * step, whole)
    energy = curve.kwh_after(places)
    value = np.full(len(places), np.inf)
    value[-1] = 0.0
    for slot in range(slots - 1, -1, -1):
        ahead = np.append(value + cost[slot] * energy, np.full(per_slot + 1, np.inf))
        least = sliding_window_view(ahead, per_slot + 1).min(axis=1)[: len(places)]
        near = (
            places >= whole - STEP_H - 1e-12
        )  # the target is no whole number of steps away: it is seen from wherever it is near
        least[near] = np.minimum(least[near], ahead[len(places) - 1])
        far = ~near & (np.arange(len(places)) + per_slot >= len(places) - 1)
        least[far] = sliding_window_view(ahead, per_slot)[: len(places)][far].min(axis=1)
        value = least - cost[slot] * energy
    return float(value[0])


def tapered(count: int, rounds: int) -> list[Figure]:
    rng = np.random.default_rng(SEED + 1)
    ratios, ours_s, fine_s, missed, constant_missed, grown_ratio = [], [], [], 0, 0, []
    begin_us = 1_795_000_500_000_000 // (900 * 1_000_000) * 900 * 1_000_000
    for number in range(count):
        max_kw, knee, now = (
            float(rng.choice([3.7, 7.4, 11.0, 50.0])),
            float(rng.uniform(55, 90)),
            float(rng.uniform(5, 60)),
        )
        target = 100.0 if number % 2 else float(rng.uniform(max(now + 5, 80), 100))
        taper = Taper((knee, 100.0), (max_kw, max_kw * float(rng.uniform(0.08, 0.4))))
        capacity = float(rng.uniform(30, 90))
        true = Curve.of(now, target, capacity / 100 / 0.9, max_kw, taper, cell_percent=0.1)
        needed = float(true.hours[-1]) / STEP_H
        tight = number % 4 == 0  # just reachable: slots enough, and no more
        slots = int(np.ceil(needed)) if tight else max(int(np.ceil(needed)) + 1, int(rng.integers(16, 97)))
        price = np.maximum(rng.normal(0.25, 0.1, slots), 0.02)
        need = Need(arrival_us=begin_us, departure_us=begin_us + slots * HOUR_US // 4, max_kw=max_kw, now_percent=now,
                    target_percent=target, capacity_kwh=capacity, efficiency=0.9, taper=taper)  # fmt: skip
        window = Slots.over(need.arrival_us, need.departure_us)
        plan_now = partial(plan_one, need, window, price)
        ours_s.append(statistics.median(seconds(plan_now) for _ in range(rounds)))
        begin = time.perf_counter()
        least = fine_cost(true, slots, price)
        fine_s.append(time.perf_counter() - begin)
        plan = plan_now()
        ratios.append(driven_cost(true, plan.on_h, price) / least)
        missed += float(true.percent_after(float(plan.on_h.sum()))) < target - 0.01
        flat = plan_one(replace(need, taper=None), window, price)
        constant_missed += float(true.percent_after(float(flat.on_h.sum()))) < target - 1
        grown_ratio.append(driven_cost(true, grown(true, price), price) / least)
    ratio = np.array(ratios)
    return [
        figure(f"taper, cost beside the fine grid, mean of {count}", float(ratio.mean()), "x", 1.005, less=True,
               peer="cheapest slots until the target is met", peer_value=float(f"{np.mean(grown_ratio):.5g}")),
        figure("taper, cost beside the fine grid, worst", float(ratio.max()), "x", 1.005, less=True,
               peer="cheapest slots until the target is met", peer_value=float(f"{np.max(grown_ratio):.5g}")),
        figure("taper, reachable targets missed", missed, "vehicles", 0, less=True,
               peer="planned with constant power, more than 1 % short", peer_value=constant_missed),
        figure("taper, one plan, median", 1000 * statistics.median(ours_s), "ms", peer="fine grid, ms",
               peer_value=round(1000 * statistics.median(fine_s), 2), ratio=round(statistics.median(fine_s) / statistics.median(ours_s), 1)),
    ]  # fmt: skip


def driven_cost(curve: Curve, on_h: Floats, price: Floats) -> float:
    """What the car really draws in these on-times, at these prices."""
    return float(np.diff(curve.kwh_after(np.concatenate([[0.0], np.cumsum(on_h)]))) @ price)


def grown(curve: Curve, price: Floats) -> Floats:
    """The cheapest slots in full, the dearest of them in part."""
    on, left = np.zeros(len(price)), float(curve.hours[-1])
    for slot in np.argsort(price, kind="stable"):
        on[slot] = min(STEP_H, left)
        left -= on[slot]
    return on


def measure(*, full: bool) -> list[Figure]:
    rounds = ROUNDS if full else 3
    return many(1_000_000 if full else 100_000, rounds) + tapered(TAPERED if full else 60, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="a million vehicles, medians of 5")
    options = parser.parse_args()
    for row in measure(full=options.full):
        goal = "" if row["goal"] is None else f"  goal {row['goal']}: {'met' if row['met'] else 'MISSED'}"
        peer = f"  {row['peer']}: {row['peer_value']} ({row['ratio']} x)" if row["peer"] else ""
        print(f"{row['figure']:60} {row['value']:>14} {row['unit']}{goal}{peer}")


if __name__ == "__main__":
    main()
