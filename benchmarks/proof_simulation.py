"""Seeded worlds: real vehicle agents, real sessions, intake and workers; network, engines, processes and clocks fail.

    python benchmarks/proof_simulation.py                         200 worlds of 10 vehicles
    python benchmarks/proof_simulation.py --full                  10,000 worlds: one in a hundred of 1,000 vehicles, one in ten of 100
    python benchmarks/proof_simulation.py --full --first 4001     the rest of them, where a run was broken off
    python benchmarks/proof_simulation.py --seed 7 --vehicles 10  one world again

The simulator lies in tests/simulation (world.py says what is checked). A broken world prints its seed and how to see it again.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "simulation"))
SEEDS, SHORT_SEEDS = 10_000, 200
TURN = 50
"""Worlds a process takes at a time."""
type Figure = dict[str, object]


def vehicles_of(seed: int, *, full: bool) -> int:
    """How large the world of a seed is."""
    if full and seed % 100 == 0:
        return 1000
    return 100 if full and seed % 10 == 0 else 10


def live(seed: int, vehicles: int) -> Any:
    logging.disable(logging.CRITICAL)
    return importlib.import_module("world").live(seed, vehicles)


def live_many(first: int, until: int, full: bool) -> tuple[int, int, int, list[str]]:
    """(vehicles, batches acknowledged, kills and crashes, what broke) of these seeds."""
    vehicles = batches = trouble = 0
    broken: list[str] = []
    for seed in range(first, until):
        size = vehicles_of(seed, full=full)
        try:
            world = live(seed, size)
        except AssertionError as error:
            broken.append(str(error))
            continue
        vehicles += size
        batches += sum(len(car.acknowledged) for car in world.cars)
        trouble += world.kills + world.crashes
    return vehicles, batches, trouble, broken


def run(first_seed: int, seeds: int, *, full: bool, processes: int) -> tuple[int, int, int, list[str]]:
    vehicles = batches = trouble = done = 0
    broken: list[str] = []
    began_s = time.monotonic()
    with ProcessPoolExecutor(processes) as pool:
        turns = [
            pool.submit(live_many, first, min(first + TURN, seeds + 1), full)
            for first in range(first_seed, seeds + 1, TURN)
        ]
        for turn in as_completed(turns):
            some, acknowledged, kills, wrong = turn.result()
            vehicles, batches, trouble = vehicles + some, batches + acknowledged, trouble + kills
            for one in wrong:
                print(one, flush=True)
            broken += wrong
            done += TURN
            if done % 1000 == 0:
                print(f"{done} worlds, {len(broken)} broken, {time.monotonic() - began_s:.0f} s", flush=True)
    return vehicles, batches, trouble, broken


def measure(*, full: bool, first: int = 1) -> list[Figure]:
    last = SEEDS if full else SHORT_SEEDS
    seeds = last - first + 1
    began_s = time.monotonic()
    vehicles, batches, trouble, broken = run(first, last, full=full, processes=os.cpu_count() or 1)
    took_s = time.monotonic() - began_s
    return [
        {"figure": "simulated worlds that kept every promise", "value": seeds - len(broken), "unit": "worlds", "goal": seeds, "met": not broken},
        {"figure": "vehicles simulated", "value": vehicles, "unit": "vehicles", "goal": 1000, "met": vehicles >= 1000},
        {"figure": "batches acknowledged in them", "value": batches, "unit": "batches"},
        {"figure": "processes killed and vehicles crashed", "value": trouble, "unit": "kills"},
        {"figure": "simulated worlds a second", "value": round(seeds / took_s, 1), "unit": "1/s"},
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"{SEEDS} worlds")
    parser.add_argument("--first", type=int, default=1, help="the seed to begin with")
    parser.add_argument("--seed", type=int, help="one world")
    parser.add_argument("--vehicles", type=int, default=10, help="of the one world")
    options = parser.parse_args()
    if options.seed is None:
        rows = measure(full=options.full, first=options.first)
        for row in rows:
            print(f"{row['figure']}: {row['value']} {row['unit']}")
        return int(any(row.get("met") is False for row in rows))
    try:
        world = live(options.seed, options.vehicles)
    except AssertionError as error:
        print(error)
        return 1
    print(f"seed {options.seed} with {options.vehicles} vehicles: every promise kept, trace {world.loop.trace:08x}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
