"""Real charging sessions under too small a feeder: our online scheduler beside ACN-Sim's least laxity first.

    python benchmarks/charging_sessions.py [--full]     the first 8 weekdays of May 2019 at JPL; without --full 2

Both run inside ACN-Sim (`acnportal`), same network, same cars: one feeder of 30, 50 and 80 kW, 5 minutes, 208 V, stations of 0 to 32 A in any
step, ideal batteries, `SortedSchedulingAlgo(least_laxity_first)` with its defaults. Both are told at its arrival a car's energy (what it was
really given that day) and its declared departure: the true one, and in a second row what its driver had typed in (`estimated_departure`).
Nobody knows who comes next. Served: at least 90 % of the energy. A day is congested if the peer leaves more than a tenth of its drivers
unserved. Offline bound: the relaxed linear program that knows the whole day and serves as many as it can at no loss of energy.
The scheduler's call: four days laid over each other on 200 stations, seconds inside `schedule` as ACN-Sim counts them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import statistics
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import linprog

from rocade.services.charging.planning.limits import Tree
from rocade.services.charging.planning.online import OnlineScheduler

PERIOD_MIN = 5
PERIOD_US = PERIOD_MIN * 60_000_000
VOLT, AMPERE = 208, 32
FULL_KW = VOLT * AMPERE / 1000
FEEDERS_KW = (30, 50, 80)
SERVED = 0.9
TRUE, TYPED = "true departure", "estimated_departure"
type Figure = dict[str, object]
type Floats = NDArray[np.float64]


class Session(NamedTuple):
    """A stay in periods since midnight; `declared` is what the schedulers are told of its end."""

    arrival: int
    departure: int
    declared: int
    need_kwh: float
    station: str


class Day(NamedTuple):
    """What a scheduler made of a day."""

    got_kwh: Floats
    call_s: float
    peak_kw: float


# --- the data ---


def weekdays(path: Path, number: int, told: str = TRUE) -> list[list[Session]]:
    """The sessions of the first weekdays in the file."""
    days: dict[date, list[Session]] = defaultdict(list)
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            begin = datetime.fromisoformat(row["arrival"])
            if len(days) > number:  # sessions stand in the order of their days
                break
            if begin.weekday() < 5 and float(row["delivered_energy (kWh)"]) > 0:
                days[begin.date()].append(_session(row, begin, told))
    return [_one_at_a_time(sorted(days[day])) for day in sorted(days)[:number]]


def _session(row: dict[str, str], begin: datetime, told: str) -> Session:
    zero = datetime.combine(begin.date(), time(), begin.tzinfo)

    def periods(text: str) -> float:
        return (datetime.fromisoformat(text) - zero).total_seconds() / 60 / PERIOD_MIN

    arrival = int(periods(row["arrival"]))
    departure = max(int(np.ceil(periods(row["departure"]))), arrival + 1)
    typed = row["estimated_departure"] if told == TYPED else ""
    declared = max(int(np.ceil(periods(typed))), arrival + 1) if typed else departure
    return Session(arrival, departure, declared, float(row["delivered_energy (kWh)"]), row["station_id"])


def _one_at_a_time(sessions: list[Session]) -> list[Session]:
    """Rounded to periods, a car may seem to come before the one at its station has left: that one leaves then."""
    kept = []
    for at, session in enumerate(sessions):
        next_ = min((later.arrival for later in sessions[at + 1 :] if later.station == session.station), default=10**9)
        if next_ > session.arrival:
            kept.append(session._replace(departure=min(session.departure, next_)))
    return kept


# --- ACN-Sim, with its own scheduler and with ours ---


def acn() -> Any:
    """The peer's library; it asks for a module of setuptools that newer ones lack, only to write versions into files."""
    sys.modules.setdefault("pkg_resources", types.ModuleType("pkg_resources"))
    import acnportal.acnsim
    import acnportal.algorithms

    return acnportal


def simulate(sessions: Sequence[Session], cap_kw: float, algorithm: Callable[[], Any]) -> Day:
    """A day in ACN-Sim."""
    sim = acn().acnsim
    network = sim.ChargingNetwork()
    stations = sorted({session.station for session in sessions})
    for station in stations:
        network.register_evse(sim.EVSE(station, max_rate=AMPERE), VOLT, 0)
    network.add_constraint(sim.Current(stations), cap_kw * 1000 / VOLT, name="feeder")
    cars = [
        sim.EV(one.arrival, one.departure, one.need_kwh, one.station, str(at),
               sim.Battery(one.need_kwh + 1, 0, FULL_KW), estimated_departure=one.declared)
        for at, one in enumerate(sessions)
    ]  # fmt: skip
    events = sim.EventQueue([sim.PluginEvent(car.arrival, car) for car in cars])
    scheduler = algorithm()
    run = sim.Simulator(network, scheduler, events, datetime(2019, 5, 1, tzinfo=UTC), PERIOD_MIN, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.run()
    calls = [call["solve_time"] for call in scheduler.solve_stats if call["active_sessions"]]
    got = np.array([car.energy_delivered for car in cars])
    return Day(got, statistics.fmean(calls), run.peak * VOLT / 1000)


def least_laxity_first() -> Any:
    algorithms = acn().algorithms
    return algorithms.SortedSchedulingAlgo(algorithms.least_laxity_first)


def ours_under(cap_kw: float) -> Callable[[], Any]:
    """Our scheduler as ACN-Sim calls its own: all it is told comes through the sessions handed to `schedule`."""
    base: Any = acn().algorithms.BaseAlgorithm

    class Ours(base):  # type: ignore[misc]  # the peer's class has no types
        def __init__(self) -> None:
            super().__init__()
            self.max_recompute = 1
            self.online = OnlineScheduler(Tree.single(cap_kw), step_s=PERIOD_MIN * 60)

        def schedule(self, active_sessions: list[Any]) -> dict[str, list[float]]:
            online = self.online
            here = {session.session_id: session for session in active_sessions}
            for gone in [name for name in online.stays if name not in here]:
                online.leave(gone)
            for name, session in here.items():
                if name not in online.stays:
                    online.arrive(name, session.estimated_departure * PERIOD_US, session.requested_energy, FULL_KW)
                online.metered(name, session.energy_delivered)
            powers = online.powers(self.interface.current_time * PERIOD_US)
            return {here[name].station_id: [power * 1000 / VOLT] for name, power in powers.items()}

    return Ours


# --- what nobody can do better ---


def offline_bound(sessions: Sequence[Session], cap_kw: float) -> tuple[float, float]:
    """The most energy of a day (kWh), and the most drivers served with it, a fraction of one counted as such."""
    edges = np.unique([(one.arrival, one.departure) for one in sessions])
    hours = np.diff(edges) * PERIOD_MIN / 60
    arrival, departure, need = (np.array([one[at] for one in sessions]) for at in (0, 1, 3))
    car, part = np.nonzero((arrival[:, None] <= edges[:-1]) & (departure[:, None] > edges[:-1]))
    number, cars = len(car), len(need)
    one = np.ones(number)
    load = scipy.sparse.csr_matrix((one, (part, np.arange(number))), (len(hours), number + cars))
    got = scipy.sparse.csr_matrix((one, (car, np.arange(number))), (cars, number + cars))
    served = scipy.sparse.hstack([-got[:, :number], scipy.sparse.diags(SERVED * need)]).tocsr()
    limits = np.column_stack([np.zeros(number + cars), np.concatenate([FULL_KW * hours[part], np.ones(cars)])])
    aim = np.concatenate([-one, np.zeros(cars)])
    most = -linprog(aim, scipy.sparse.vstack([load, got]), np.concatenate([hours * cap_kw, need]), bounds=limits).fun
    rows = scipy.sparse.vstack([load, got, served, scipy.sparse.csr_matrix(aim)])
    right = np.concatenate([hours * cap_kw, need, np.zeros(cars), [-most * (1 - 1e-6)]])
    return most, -linprog(-(aim + 1), rows, right, bounds=limits).fun


# --- the rows ---


def served(got_kwh: Floats, sessions: Sequence[Session]) -> int:
    need = np.array([one.need_kwh for one in sessions])
    return int((got_kwh >= SERVED * need - 1e-6).sum())


class Outcome(NamedTuple):
    drivers: int
    peer_served: int
    our_served: int
    bound_served: float
    peer_kwh: float
    our_kwh: float
    bound_kwh: float
    over_kw: float

    @property
    def is_congested(self) -> bool:
        return self.peer_served < 0.9 * self.drivers


def outcome(sessions: Sequence[Session], cap_kw: float) -> Outcome:
    theirs, mine = simulate(sessions, cap_kw, least_laxity_first), simulate(sessions, cap_kw, ours_under(cap_kw))
    most, bound = offline_bound(sessions, cap_kw)
    return Outcome(
        len(sessions), served(theirs.got_kwh, sessions), served(mine.got_kwh, sessions), bound,
        float(theirs.got_kwh.sum()), float(mine.got_kwh.sum()), most, max(mine.peak_kw - cap_kw, 0.0),
    )  # fmt: skip


def day_rows(data: Path, number: int, told: str) -> list[Figure]:
    days = weekdays(data / "acn_jpl_2019-05_2019-08.csv.gz", number, told)
    found, all_over = [], 0.0
    goals = told == TRUE
    for cap_kw in FEEDERS_KW:
        outcomes = [outcome(day, cap_kw) for day in days]
        all_over = max(all_over, *(one.over_kw for one in outcomes))
        print(told, cap_kw, *outcomes, sep="\n  ", file=sys.stderr)
        if not (busy := [one for one in outcomes if one.is_congested]):
            continue
        what = f"JPL {cap_kw} kW, {told}, {len(busy)} congested of {number} days, median"
        times = statistics.median(one.our_served / one.peer_served for one in busy)
        energy = statistics.median(one.our_kwh / one.peer_kwh for one in busy)
        peer = statistics.median(one.peer_served / one.drivers for one in busy)
        bound = statistics.median(one.bound_served / one.peer_served for one in busy)
        found += [
            figure(f"{what}: drivers served, x ACN-Sim LLF", times, "x", 1.3 if goals else None, less=False,
                   peer="ACN-Sim LLF, part of drivers served", peer_value=peer, ratio=times),
            figure(f"{what}: offline bound of that", bound, "x"),
            figure(f"{what}: energy, x ACN-Sim LLF", energy, "x", 0.999 if goals else None, less=False,
                   peer="ACN-Sim LLF, of the offline bound",
                   peer_value=statistics.median(one.peer_kwh / one.bound_kwh for one in busy), ratio=energy),
        ]  # fmt: skip
    return [*found, figure(f"JPL, {told}: most above a feeder", all_over, "kW", 1e-6)]


def call_row(data: Path) -> list[Figure]:
    """200 stations: four days laid over each other, under a feeder as tight as one day's of 50 kW."""
    days = weekdays(data / "acn_jpl_2019-05_2019-08.csv.gz", 4)
    laid = [one._replace(station=f"{day}/{one.station}") for day, sessions in enumerate(days) for one in sessions]
    laid.sort()
    stations = len({one.station for one in laid})
    theirs, mine = simulate(laid, 200, least_laxity_first), simulate(laid, 200, ours_under(200))
    ratio = mine.call_s / theirs.call_s
    return [
        figure(f"scheduler call, {stations} stations, mean of a day, x ACN-Sim LLF", ratio, "x", 0.2,
               peer="ACN-Sim LLF, ms", peer_value=theirs.call_s * 1000, ratio=ratio),
        figure("of it ours", mine.call_s * 1000, "ms"),
    ]  # fmt: skip


def figure(name: str, value: float, unit: str, goal: float | None = None, *, less: bool = True, peer: str = "",
           peer_value: float | None = None, ratio: float | None = None) -> Figure:  # fmt: skip
    met = None if goal is None else bool(value <= goal if less else value >= goal)
    return {"figure": name, "value": float(f"{value:.4g}"), "unit": unit, "goal": goal, "met": met, "peer": peer,
            "peer_value": peer_value and float(f"{peer_value:.4g}"), "ratio": ratio and round(ratio, 3)}  # fmt: skip


def data_folder() -> Path:
    named = os.environ.get("ROCADE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(named) / "charging"


def measure(*, full: bool) -> list[Figure]:
    data = data_folder()
    print(
        f"peer: acnportal {version('acnportal')}, SortedSchedulingAlgo(least_laxity_first), defaults, called each {PERIOD_MIN} min"
    )
    found = call_row(data)
    for told in (TRUE, TYPED):
        found += day_rows(data, 8 if full else 2, told)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="more days")
    for row in measure(full=parser.parse_args().full):
        met = "" if row["met"] is None else f"  goal {row['goal']:g}: {'met' if row['met'] else 'MISSED'}"
        print(f"{row['figure']:88} {row['value']:>12} {row['unit']}{met}  {row['peer']} {row['peer_value'] or ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
