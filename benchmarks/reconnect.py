"""A whole fleet cut at once and coming back to a whole region: real intake, registry, sessions and database behind the door.

Flow: 10,000 registered vehicles with certificates connect -> every connection breaks at once -> all dial again at the same
moment -> "back" is when the last one has its CONNACK -> each sends a message, and the history must hold exactly those.
The generator shares the cores; its handshakes cost about as much as the door's.

`python benchmarks/reconnect.py [--full]` prints the figures and writes build/bench/reconnect.json. The door alone: door.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from load import Fleet, raise_file_limit
from minutes import drives, small_bodies
from road_world import SEED, SMALL_POINTS, World, batch_restamp

GOAL_S = 60.0
BROKEN_S = 2.0


def storm(port: int, directory: Path, bodies: dict[str, list[bytes]]) -> dict[str, Any]:
    """All connect, all break, all come back, each says something."""
    base_us = (time.time_ns() // 60_000_000_000 - 60) * 60_000_000
    restamp = batch_restamp({}, base_us, 11, "small")
    fleet = Fleet("localhost", port, directory, window=1, restamp=restamp)
    for vehicle, made in bodies.items():
        fleet.add(vehicle, made, most=1)
    connect_s = fleet.connect(at_once=200)
    fleet.drop_all()
    time.sleep(BROKEN_S)
    back_s = fleet.connect(at_once=len(bodies))
    report = fleet.run(10.0, settle_s=30.0)
    return {
        "connect_s": connect_s,
        "back_s": back_s,
        "refused_or_lost": str(dict(fleet.losses)),
        "sent": report.by_vehicle,
        "ack_p99_ms": report.quantile_ms(0.99),
    }


async def measure(directory: Path, vehicles: int) -> dict[str, Any]:
    world = World(directory, vehicles)
    found, _ = drives()
    bodies = {vehicle: small_bodies(place, 2, found, SEED)[:1] for place, vehicle in enumerate(world.ids)}
    async with world.running():
        gateway = next(one for one in world.supervisor.processes if one.role == "gateway")
        assert gateway.pid is not None
        watched, peak_bytes = psutil.Process(gateway.pid), 0
        before = world.cpu_s()
        playing = asyncio.create_task(
            asyncio.to_thread(storm, world.configuration.mqtt.port, world.directory / "fleet", bodies)
        )
        while not playing.done():
            peak_bytes = max(peak_bytes, watched.memory_info().rss)
            await asyncio.sleep(0.2)
        told = await playing
        expected = dict(zip(world.ids, (SMALL_POINTS * count for count in told.pop("sent")), strict=True))
        _, lost, doubled = await world.settled(expected)
        spent = {name: round(seconds - before.get(name, 0.0), 1) for name, seconds in world.cpu_s().items()}
    return {
        "vehicles": vehicles,
        **told,
        "gateway_peak_mib": round(peak_bytes / 1048576),
        "points": sum(expected.values()),
        "lost": lost,
        "doubled": doubled,
        "cpu_s": spent,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="10,000 vehicles instead of 2,000")
    options = parser.parse_args()
    vehicles = 10_000 if options.full else 2_000
    if raise_file_limit() < vehicles + 500:
        raise SystemExit(f"the file limit is too low for {vehicles} connections: ulimit -n {vehicles + 500}")
    build = Path("build/bench")
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reconnect-", dir=build) as directory:
        found = asyncio.run(measure(Path(directory), vehicles))
    print(found)
    is_exact = not (found["lost"] or found["doubled"]) and found["points"] == vehicles * SMALL_POINTS
    figure = {
        "figure": f"{vehicles:,} vehicles reconnecting at once, real intake and database", "value": round(found["back_s"], 1),
        "unit": "s", "goal": f"<= {GOAL_S:g}", "met": found["back_s"] <= GOAL_S and is_exact, "peer": None,
        "peer_value": None, "ratio": None, "detail": found,
    }  # fmt: skip
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    (build / "reconnect.json").write_text(json.dumps({"conditions": {"machine": load}, "figures": [figure]}, indent=1))


if __name__ == "__main__":
    main()
