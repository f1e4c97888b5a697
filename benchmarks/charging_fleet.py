"""Fleets under shared limits, measured: one feeder beside HiGHS, a million vehicles with their schedules in a file.

    python benchmarks/charging_fleet.py [--full]     medians of 5 and a million; without --full of 1, and 100,000

One feeder: 3,000 vehicles x 96 quarters of an hour, the same instance, the same run. The peer is the whole linear program (a variable for each
vehicle and slot of its stay) given to HiGHS' interior point method through highspy, model built before the clock starts, one thread, all else
as it comes; a second row leaves out its crossover, which nobody needs who is content with the last digits open. Our time begins with columns of vehicles and ends with a power for each vehicle and slot. The million:
a process of its own that plans and writes; then the file is read back and checked against what was asked for, row by row. Real sessions
and the scheduler's call: charging_sessions.py.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import highspy
import msgspec
import numpy as np
from numpy.typing import NDArray

import charging_sessions
from charging_sessions import Figure, figure
from rocade.services.charging.planning.limits import Fleet, Tree
from rocade.services.charging.planning.shared import plan_shared
from rocade.services.charging.planning.slots import SECOND_US, Slots

SEED = 20_261_122
SLOTS = 96
STEP_S = 900
FEEDERS = (0.20, 0.155)
"""Of the sum of all greatest powers, as in the reference."""
type Floats = NDArray[np.float64]


class Told(msgspec.Struct):
    """What the child says of a fleet planned and written."""

    plan_s: float
    write_s: float
    gap: float
    peak_gib: float
    cap_kw: float
    load_kw: list[float]


class Instance(msgspec.Struct):
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    energy_kwh: Floats
    max_kw: Floats
    price: Floats
    cap_kw: float

    def fleet(self) -> Fleet:
        edge_us = STEP_S * SECOND_US
        return Fleet.of(self.first * edge_us, self.last * edge_us, self.energy_kwh, self.max_kw)


def instance(number: int, feeder: float) -> Instance:
    """Arrivals around ten o'clock, stays of some hours, four common powers, a day's prices with noise. The same for a number, always."""
    chance = np.random.default_rng(SEED)
    first = np.clip(chance.normal(40, 14, number), 0, SLOTS - 8).astype(np.int64)
    last = np.minimum(first + np.clip(chance.gamma(4, 8, number), 4, SLOTS).astype(np.int64), SLOTS)
    powers = np.array([3.7, 7.4, 11.0, 22.0])
    power = powers[chance.choice(4, number, p=[0.25, 0.35, 0.3, 0.1])]
    energy = np.minimum(chance.gamma(3, 8, number), power * (last - first) * STEP_S / 3600 * 0.95)
    at = np.arange(SLOTS) / SLOTS * 2 * np.pi
    price = 0.12 + 0.06 * np.sin(at - 2) + 0.04 * np.sin(2 * at) + chance.normal(0, 0.01, SLOTS)
    return Instance(first, last, energy, power, price, feeder * float(power.sum()))


# --- one feeder, beside the whole linear program ---


def feeder_rows(number: int, runs: int) -> list[Figure]:
    found = []
    plan_feeder(instance(200, 0.2))  # what is loaded once is loaded
    for feeder in FEEDERS:
        case = instance(number, feeder)
        ours, theirs, without = [], [], []
        for _ in range(runs):
            took, power, gap = plan_feeder(case)
            ours.append(took)
            peer_s, optimum = solve_whole(case)
            theirs.append(peer_s)
            without.append(solve_whole(case, crossover="off")[0])
        energy = power.astype(np.float64) * (STEP_S / 3600)
        cost = float(energy.sum(axis=0) @ case.price)
        excess = float((power.sum(axis=0, dtype=np.float64) - case.cap_kw).max() / case.cap_kw)
        what = f"{number:,} vehicles x {SLOTS}, feeder {feeder:g} of all power"
        mine, peer, bare = (statistics.median(each) for each in (ours, theirs, without))
        found += [
            figure(f"{what}: HiGHS interior point / ours", peer / mine, "x", 9, less=False,
                   peer="HiGHS interior point, whole LP, s", peer_value=peer, ratio=peer / mine),
            figure(f"{what}: the same without its crossover", bare / mine, "x",
                   peer="HiGHS interior point without crossover, s", peer_value=bare, ratio=bare / mine),
            figure(f"{what}: ours, with every schedule", mine, "s"),
            figure(f"{what}: true excess over the feeder", max(excess, 0.0), "", 1e-4),
            figure(f"{what}: proven gap", gap, "", 1e-4),
            figure(f"{what}: cost / the LP's optimum - 1", cost / optimum - 1, "", 1e-4),
            figure(f"{what}: energy not charged", float(case.energy_kwh.sum() - energy.sum()) / case.energy_kwh.sum(), "", 1e-6),
        ]  # fmt: skip
    return found


def plan_feeder(case: Instance) -> tuple[float, NDArray[np.float32], float]:
    """Seconds, schedules, gap."""
    slots = Slots.over(0, SLOTS * STEP_S * SECOND_US, STEP_S)
    begin = time.perf_counter()
    plan = plan_shared(case.fleet(), Tree.single(case.cap_kw), slots, case.price)
    power = plan.power_kw
    return time.perf_counter() - begin, power, plan.gap


def solve_whole(case: Instance, crossover: str = "on") -> tuple[float, float]:
    """Seconds and cost of the whole linear program."""
    stay = case.last - case.first
    vehicle = np.repeat(np.arange(len(stay)), stay)
    slot = np.arange(len(vehicle)) - np.repeat(np.cumsum(stay) - stay, stay) + np.repeat(case.first, stay)
    hours = STEP_S / 3600
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # the library's own gap
    for option, value in (("output_flag", False), ("solver", "ipm"), ("run_crossover", crossover), ("threads", 1)):
        solver.setOptionValue(option, value)
    none = np.zeros(0, np.int32), np.zeros(0)
    low = np.concatenate([case.energy_kwh, np.full(SLOTS, -highspy.kHighsInf)])
    high = np.concatenate([case.energy_kwh, np.full(SLOTS, case.cap_kw)])
    solver.addRows(len(low), low, high, 0, np.zeros(len(low), np.int32), *none)
    index = np.stack([vehicle, len(stay) + slot], axis=1).astype(np.int32).ravel()
    values = np.tile([hours, 1.0], len(vehicle))
    count = len(vehicle)
    solver.addCols(
        count, case.price[slot] * hours, np.zeros(count), case.max_kw[vehicle], 2 * count,
        np.arange(0, 2 * count, 2, dtype=np.int32), index, values,
    )  # fmt: skip
    begin = time.perf_counter()
    solver.run()
    took = time.perf_counter() - begin
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise SystemExit(f"the peer did not solve its program: {solver.getModelStatus()}")
    return took, float(solver.getInfo().objective_function_value)


# --- a million, written to a file ---


def million_rows(number: int, runs: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rocade-fleet-") as name:
        path = Path(name) / "schedules.npy"
        large = [write_and_check(number, path) for _ in range(runs)]
        small = [write_and_check(number // 10, path) for _ in range(runs)]
    took = [statistics.median(told.plan_s + told.write_s for told, _ in each) for each in (large, small)]
    what = f"{number:,} vehicles x {SLOTS} under one feeder"
    worst = max(error for _, errors in large for error in errors.values())
    return [
        figure(f"{what}: planned and every schedule written to a file", took[0], "s", 10,
               peer=f"own {number // 10:,}, s", peer_value=took[1], ratio=took[0] / took[1]),
        figure(f"{what}: of it planning", statistics.median(told.plan_s for told, _ in large), "s"),
        figure(f"{what}: proven gap", max(told.gap for told, _ in large), "", 1e-4),
        figure(f"{what}: highest resident memory", max(told.peak_gib for told, _ in large), "GiB", 4),
        figure(f"{what}: file read back, worst error of sums, limits, energies and stays", worst, "", 1e-4),
    ]  # fmt: skip


def write_and_check(number: int, path: Path) -> tuple[Told, dict[str, float]]:
    """A child plans and writes; the file is checked here."""
    command = [sys.executable, __file__, "--write", str(path), "--number", str(number)]
    told = msgspec.json.decode(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout, type=Told)
    errors = read_back(path, instance(number, FEEDERS[1]), told)
    print(
        {"vehicles": number, "plan_s": told.plan_s, "write_s": told.write_s, "gap": told.gap} | errors, file=sys.stderr
    )
    return told, errors


def write(number: int, path: Path) -> Told:
    case = instance(number, FEEDERS[1])
    slots = Slots.over(0, SLOTS * STEP_S * SECOND_US, STEP_S)
    begin = time.perf_counter()
    plan = plan_shared(case.fleet(), Tree.single(case.cap_kw), slots, case.price)
    planned = time.perf_counter()
    plan.write_schedules(path)
    written = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return Told(planned - begin, written - planned, plan.gap, peak, case.cap_kw, plan.load_kw.tolist())


def read_back(path: Path, case: Instance, told: Told) -> dict[str, float]:
    """The worst relative errors of the file: sums against the plan, feeder, powers, energies; power outside of stays."""
    schedules = np.load(path, mmap_mode="r")
    if schedules.shape != (len(case.max_kw), SLOTS):
        raise SystemExit(f"the file holds {schedules.shape}")
    load = np.zeros(SLOTS)
    worst = {"power": 0.0, "energy": 0.0, "outside": 0.0}
    at = np.arange(SLOTS)
    for begin in range(0, len(schedules), 50_000):
        rows = slice(begin, begin + 50_000)
        power = np.array(schedules[rows], np.float64)
        load += power.sum(axis=0)
        inside = (at >= case.first[rows, None]) & (at < case.last[rows, None])
        full, need = case.max_kw[rows], case.energy_kwh[rows]
        worst["power"] = max(worst["power"], float((power.max(axis=1) / full - 1).max()), float(-power.min()))
        worst["energy"] = max(worst["energy"], float(np.abs(power.sum(axis=1) * STEP_S / 3600 / need - 1).max()))
        worst["outside"] = max(worst["outside"], float(np.abs(power[~inside]).max(initial=0.0)))
    plan = np.array(told.load_kw)
    worst["sums"] = float(np.abs(load - plan).max() / plan.max())
    worst["feeder"] = max(float((load / told.cap_kw - 1).max()), 0.0)
    return worst


def measure(*, full: bool) -> list[Figure]:
    """All rows of fleets, and of real sessions."""
    print(
        f"peer: HiGHS {version('highspy')}, solver=ipm, threads=1, else as delivered (crossover on; off in the second row)"
    )
    found = feeder_rows(3_000, 5 if full else 1)
    found += million_rows(1_000_000 if full else 100_000, 5 if full else 1)
    return found + charging_sessions.measure(full=full)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="a million vehicles, medians of 5, more days")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(msgspec.json.encode(write(options.number, options.write)).decode())
        return 0
    for row in measure(full=options.full):
        met = "" if row["met"] is None else f"  goal {row['goal']:g}: {'met' if row['met'] else 'MISSED'}"
        print(f"{row['figure']:88} {row['value']:>12} {row['unit']}{met}  {row['peer']} {row['peer_value'] or ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
