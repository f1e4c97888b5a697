"""CPU of the data path, step by step, without servers: `python benchmarks/data_path.py [--batches 1000]`.

Bodies differ between vehicles and no column is constant: minutes are 20 signals at 1 Hz with walks of realistic roughness,
short messages three signals with one sample. Figures are CPU time (user and system) of this process, best of several
runs, so that a busy machine disturbs little. Writes build/bench/data_path.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rocade.core import catalogue
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.fabric.log import Record
from rocade.services.telemetry.decoding import State, digest
from rocade.wire.batch import Batch, Clock, Column, Template, check_many, decode_many, pack

CATALOGUE = catalogue.standard()
LATITUDE, LONGITUDE = (
    int(CATALOGUE.by_name(f"Vehicle.CurrentLocation.{axis}").id) for axis in ("Latitude", "Longitude")
)
PLAIN = [int(signal.id) for signal in CATALOGUE if signal.datatype in {"float", "double"} and not signal.is_position][
    :18
]
T0_US = 1_760_000_000_000_000
ARRIVAL_US = T0_US + 10**13
POSITIONS = np.array([LATITUDE, LONGITUDE], np.uint32)
GATE_TICK = 50
"""Batches of one gateway tick: 20 ms at 2,500 a second."""


def minute(rng: np.random.Generator, number: int, *, compress: bool) -> bytes:
    """20 signals, 60 samples: a position to 1e-7, six signals with two decimals, twelve with one."""
    times = T0_US + number * 60_000_000 + np.arange(60) * 1_000_000
    columns = [Column(LATITUDE, 0, np.round(33.9 + np.cumsum(rng.normal(0, 1e-4, 60)), 7))]
    columns += [Column(LONGITUDE, 0, np.round(-6.8 + np.cumsum(rng.normal(0, 1e-4, 60)), 7))]
    for place, signal in enumerate(PLAIN):
        walk = 50 + np.clip(np.cumsum(rng.normal(0, 1 if place < 6 else 0.3, 60)), -40, 40)
        columns.append(Column(signal, 0, np.round(walk, 2 if place < 6 else 1)))
    return pack(Batch(7, number, int(times[-1]), [Clock(times)], columns), compress=compress)


def short(rng: np.random.Generator, number: int) -> bytes:
    """Three signals, one sample."""
    times = np.array([T0_US + number * 1_000_000])
    columns = [Column(signal, 0, np.round(rng.uniform(20, 80, 1), 1)) for signal in PLAIN[:3]]
    return pack(Batch(7, number, int(times[0]), [Clock(times)], columns))


def cpu_us(work: Callable[[], object], times: int, repeat: int = 5) -> float:
    """Best CPU microseconds per batch."""
    best = float("inf")
    for _ in range(repeat):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return best / times * 1e6


def measure(name: str, make: Callable[[int], bytes], batches: int) -> list[tuple[str, str, float, float | None]]:
    """Rows of (shape, step, microseconds per batch, goal)."""
    rounds = [[make(number) for _ in range(batches)] for number in (1, 2, 3, 4)]
    bodies = rounds[0]
    is_short = name.startswith("3")
    template = Template(bodies[0])
    rows: list[tuple[str, str, float, float | None]] = [
        (name, "agent: stamp a template", cpu_us(lambda: [_stamp(template) for _ in bodies], batches), None),
        (name, f"gateway: check, ticks of {GATE_TICK}", cpu_us(lambda: _check(bodies, GATE_TICK), batches), 10.0),
        (name, "gateway: check, ticks of 500", cpu_us(lambda: _check(bodies, 500), batches), 10.0),
        (name, "worker: parse and decode", cpu_us(lambda: decode_many(bodies), batches), None),
    ]
    state = State(CATALOGUE)
    for ref in range(1, batches + 1):
        state.sequences.load(ref, [])
        state.twins.load(ref, None)
    worked = []
    for some in rounds:
        records = [Record(partition_of(VehicleRef(ref)), ref, 1, ARRIVAL_US, body) for ref, body in enumerate(some, 1)]
        begun = time.process_time()
        outcome = digest(records, state)
        worked.append(time.process_time() - begun)
        assert (outcome.batches, len(outcome.twins), bool(outcome.rows)) == (batches, batches, True)
        assert not outcome.held
    goal = 20.0 if is_short else 60.0
    step = "worker: decode, numbers, quality, twin rows, Arrow rows"
    rows.append((name, step, min(worked) / batches * 1e6, goal))
    return rows


def _stamp(template: Template) -> bytes:
    return template.stamp(epoch=1, sequence=2, sent_at_us=3, start_us=4)


def _check(bodies: list[bytes], tick: int) -> None:
    for at in range(0, len(bodies), tick):
        assert not any(check_many(bodies[at : at + tick], POSITIONS).reasons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/bench/data_path.json"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    shapes: dict[str, Callable[[int], bytes]] = {
        "1,200 points plain": lambda number: minute(rng, number, compress=False),
        "1,200 points zstd": lambda number: minute(rng, number, compress=True),
        "3 points": lambda number: short(rng, number),
    }
    rows = [row for name, make in shapes.items() for row in measure(name, make, arguments.batches)]
    sizes = {name: len(make(1)) for name, make in shapes.items()}
    for name, step, figure, goal in rows:
        verdict = "" if goal is None else f"goal {goal:.0f}: {'met' if figure <= goal else 'MISSED'}"
        print(f"{name:20} {sizes[name]:5} B  {step:56} {figure:8.2f} us/batch  {verdict}")
    figures = [
        {"figure": f"{name}, {step}", "value": round(figure, 2), "unit": "us/batch CPU", "goal": goal, "met": goal is None or figure <= goal}
        for name, step, figure, goal in rows
    ]  # fmt: skip
    conditions = {"machine": platform.platform(), "python": platform.python_version(), "numpy": np.__version__}
    conditions |= {
        "seed": str(arguments.seed),
        "load": f"{arguments.batches} batches a pass",
        "bytes": json.dumps(sizes),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
