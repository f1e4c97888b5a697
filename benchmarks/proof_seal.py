"""What sealing costs the road: the same load through a sealed region and through one whose seals were taken off.

    python -m benchmarks --only proof --parts seal [--full]

The load is that of benchmarks/road.py: one-minute batches of 1,000 vehicles over mutual TLS, acknowledged after fsync, everything
found in the history afterwards or the row is no row. Both regions are real; `unsealed.py` takes off the seals of log records and
twins and the encrypted disk of the history, from outside. They run in turns, at one offered rate both carry, so that what is
compared is CPU time for a batch: gateway, worker, store and PostgreSQL together. On a machine that is full the batches it carries
fall by the same part. With --full also the highest of some rates each carries. Beside it: what a record costs alone.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from road_world import Plan, World, highest, is_exact, prepare, throughput
from rocade.app.supervisor import PROGRAM, Supervisor
from rocade.fabric.log import Record
from rocade.services.telemetry.model import BATCH
from rocade.services.telemetry.sealing import open_records, seal_record
from rocade.trust.authority.sealing import Group

UNSEALED = (sys.executable, str(Path(__file__).with_name("unsealed.py")))
WAYS = {"sealed": PROGRAM, "unsealed": UNSEALED}
RATE_PER_S = 1_200.0
FULL_RATE_PER_S = 2_000.0
RATES = (2_250.0, 2_500.0, 2_750.0, 3_000.0, 3_250.0, 3_500.0)
GOAL_PERCENT = 10.0
RECORD_BYTES = 1_500
type Figure = dict[str, Any]


def figure(
    name: str, value: float, unit: str, goal: float | None = None, *, met: bool | None = None, **more: Any
) -> Figure:
    row = {"figure": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": met}
    return {**row, "peer": None, "peer_value": None, "ratio": None, **more}


async def turn(directory: Path, way: str, plan: Plan, bodies: Path | None, *, top: bool) -> tuple[dict[str, Any], Path]:
    """One region of this way, started for the purpose and ended afterwards."""
    world = World(directory, plan.vehicles)
    world.supervisor = Supervisor(world.configuration, WAYS[way])
    if bodies is None:
        bodies, source = prepare(directory, world.ids, "batch", plan.minutes)
        print(f"one-minute batches, {plan.vehicles} vehicles: {source}", flush=True)
    async with world.running():
        print(f"  {way}", flush=True)
        if top:
            return await highest(world, plan, bodies, "batch", RATES), bodies
        rate = FULL_RATE_PER_S if plan.full else RATE_PER_S
        result = await throughput(world, plan, bodies, "batch", rate)
        stored = await world.database.pool.fetchval("SELECT count(*) FROM twin WHERE place IS NOT NULL")
        assert stored == plan.vehicles, "every vehicle of the load has its twin"
        return result, bodies


def cpu_us_per_batch(result: dict[str, Any]) -> float:
    """CPU of the road itself, without the load generator and the API."""
    spent_s: float = sum(value for name, value in result["cpu_s"].items() if name not in {"load", "api"})
    return spent_s / float(result["messages_per_s"] * result["seconds"]) * 1e6


def alone() -> list[Figure]:
    """One record sealed and opened, keys of 1,000 vehicles in turn."""
    keys = {(ref, int(Group.ROAD)): os.urandom(32) for ref in range(1, 1_001)}
    records = [
        Record(ref % 64, ref, BATCH, number, os.urandom(RECORD_BYTES))
        for number in range(20)
        for _, ref in enumerate(range(1, 1_001))
    ]
    began_s = time.process_time()
    sealed = [seal_record(record, number, keys[record.key, int(Group.ROAD)]) for number, record in enumerate(records)]
    sealed_s = time.process_time() - began_s
    began_s = time.process_time()
    opened = open_records(sealed, keys)
    opened_s = time.process_time() - began_s
    assert opened.records == records
    return [
        figure(f"one record of {RECORD_BYTES} bytes sealed, CPU", sealed_s / len(records) * 1e6, "us"),
        figure("the same opened, CPU", opened_s / len(records) * 1e6, "us"),
    ]


async def measure(*, full: bool) -> list[Figure]:
    plan = Plan(full=full)
    plan.run_s = 60.0 if full else 25.0
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    exact = True
    rows = alone()
    with tempfile.TemporaryDirectory(prefix="rocade-seal-") as home:
        bodies: Path | None = None
        for round_number in range(3 if full else 2):
            for way in WAYS if round_number % 2 else reversed(WAYS):
                result, bodies = await turn(Path(home) / f"{way}-{round_number}", way, plan, bodies, top=False)
                exact &= is_exact(result)
                spent[way].append(cpu_us_per_batch(result))
        sealed_us, unsealed_us = (statistics.median(spent[way]) for way in ("sealed", "unsealed"))
        percent = (sealed_us / unsealed_us - 1) * 100
        detail = {"detail": {way: [round(one, 1) for one in values] for way, values in spent.items()}, "exact": exact}
        rows += [
            figure("CPU of the road for a one-minute batch of 1,200 points, sealed", sealed_us, "us", peer="unsealed",
                   peer_value=round(unsealed_us, 1), ratio=round(sealed_us / unsealed_us, 3)),
            figure("what sealing costs the write path", percent, "%", GOAL_PERCENT, met=percent <= GOAL_PERCENT and exact, **detail),
        ]  # fmt: skip
        if full:
            tops = {}
            for way in WAYS:
                found, bodies = await turn(Path(home) / f"{way}-top", way, plan, bodies, top=True)
                tops[way] = found["messages_per_s"] if is_exact(found) else 0.0
            ratio = tops["sealed"] / tops["unsealed"] if tops["unsealed"] else 0.0
            rows.append(
                figure("batches/s carried whole, the highest of some rates, sealed", tops["sealed"], "batches/s",
                       met=None, peer="unsealed", peer_value=round(tops["unsealed"]), ratio=round(ratio, 3))
            )  # fmt: skip
    return rows


if __name__ == "__main__":
    for row in asyncio.run(measure(full="--full" in sys.argv)):
        print(row)
