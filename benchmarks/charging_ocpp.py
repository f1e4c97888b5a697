"""OCPP round trips, durable, of concurrent stations, beside the example system of the package `ocpp`, which keeps nothing.

    python benchmarks/charging_ocpp.py [--full]

Both systems run in a process of their own, one after the other, in turns, under the same load (`charging_ocpp_load.py`): OCPP 1.6,
security profile 1, every station asks again as soon as it is answered. Ours answers when the transaction that holds the message
is on disk (PostgreSQL, fsync on). The peer is run with both ways it can check schemas; the faster one counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
STATIONS = 200
GOAL = 1.5


async def serve(directory: Path) -> None:
    """Our side: `charging_ocpp.py serve DIRECTORY` says its port and serves until it is killed."""
    from rocade.core.ports import SystemClock, SystemRandom
    from rocade.doors.ocpp import OcppDoor, Settings
    from rocade.fabric.database import Database, EmbeddedPostgres, migrate
    from rocade.services.charging.stations import Holding, Station, StationIntake, Stations, Tags
    from sealed import keyed, unkeyed
    from silent import Silent

    postgres = EmbeddedPostgres(directory / "postgres")
    url = await asyncio.to_thread(postgres.start)
    migrate(url, ("rocade.fabric.database", "rocade.trust.authority.sealing", "rocade.services.charging.stations"))
    database = keyed(await Database.connect(url, 6), directory)
    clock, random, audit = SystemClock(), SystemRandom(), Silent()
    tags = Tags(directory / "stations.key", random)
    stations = Stations(database, tags, audit, clock, random)
    names = [f"bench-{number:04d}" for number in range(STATIONS)]
    passwords = {name: await stations.register(Station(id=name, profile=1, is_open=True), "bench") for name in names}
    (directory / "passwords.json").write_text(json.dumps(passwords))
    (directory / "database").write_text(url)
    intake = StationIntake(database, tags, audit, clock, "bench")
    settings = Settings(messages_per_s=10_000, max_opening=STATIONS, max_opening_per_peer=STATIONS, opening_s=120)
    door = OcppDoor(intake, audit, clock, settings)
    holding = Holding(database, intake, door, stations, clock, "bench")
    door.start()
    port = await door.start_plain("127.0.0.1", 0)
    print(port, flush=True)
    try:
        await holding.run()
    finally:
        await unkeyed(database)
        await database.close()
        postgres.stop()


def run_peer(seconds: float, *options: str) -> dict[str, Any]:
    return _loaded([sys.executable, str(FOLDER / "charging_ocpp_peer.py"), *options], seconds)


def run_ours(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="rocade-ocpp-") as folder:
        command = [sys.executable, str(Path(__file__)), "serve", folder]
        found = _loaded(command, seconds, f"{folder}/passwords.json", check=lambda: _stored(Path(folder)))
    assert found["stored"] >= found["meters"], "a meter value was answered and is not in the table"
    return found


def _stored(folder: Path) -> int:
    """Meter values in the table."""
    import asyncpg

    async def count() -> int:
        connection = await asyncpg.connect((folder / "database").read_text())
        try:
            return int(await connection.fetchval("SELECT count(*) FROM station_meter"))
        finally:
            await connection.close()

    return asyncio.run(count())


def _loaded(command: list[str], seconds: float, *more: str, check: Callable[[], int] = lambda: 0) -> dict[str, Any]:
    """Start a central system, load it, say what came of it and what it cost."""
    import psutil

    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    try:
        port = server.stdout.readline().decode().strip()
        load = [sys.executable, str(FOLDER / "charging_ocpp_load.py"), port, str(STATIONS), str(seconds), *more]
        process = psutil.Process(server.pid)
        before_s = _cpu_s(process)
        done = subprocess.run(load, stdout=subprocess.PIPE, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        found["cpu_s"] = _cpu_s(process) - before_s
        found["stored"] = check()
        return found
    finally:
        server.terminate()
        server.wait(30)


def _cpu_s(process: Any) -> float:
    """The process and what it started: the database is part of the price."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        times = one.cpu_times()
        total += times.user + times.system
    return total


def measure(*, full: bool = False) -> list[dict[str, object]]:
    runs, seconds = (5, 8.0) if full else (3, 4.0)
    ours, peers, in_loop = [], [], []
    for _ in range(runs):
        ours.append(run_ours(seconds))
        peers.append(run_peer(seconds))
        in_loop.append(run_peer(seconds, "--validate-in-loop"))
    errors = sum(run["errors"] for run in (*ours, *peers, *in_loop))
    assert not errors, f"{errors} messages were answered with an error"
    threads_s, loop_s = (statistics.median(run["per_s"] for run in one) for one in (peers, in_loop))
    value, peer = statistics.median(run["per_s"] for run in ours), max(threads_s, loop_s)
    settings = (
        f"ocpp {version('ocpp')}, websockets {version('websockets')}, schemas checked on, nothing stored;"
        f" in threads {threads_s:.0f}/s, in its loop {loop_s:.0f}/s"
    )
    print(f"peer: {settings}; ours: {runs} runs of {seconds:g} s, p50/p99 and CPU a run:", flush=True)
    for run in ours:
        print(f"  {run['per_s']:.0f}/s {run['p50_ms']:.0f}/{run['p99_ms']:.0f} ms {run['cpu_s']:.1f} s", flush=True)
    rows: list[dict[str, object]] = [
        {
            "figure": f"OCPP round trips, durable, {STATIONS} concurrent stations",
            "value": round(value),
            "unit": "1/s",
            "goal": round(GOAL * peer),
            "met": value >= GOAL * peer,
            "peer": f"ocpp example system, not durable ({settings})",
            "peer_value": round(peer),
            "ratio": round(value / peer, 2),
        },
        {
            "figure": f"OCPP answer p99, durable, {STATIONS} concurrent stations at full speed",
            "value": round(statistics.median(run["p99_ms"] for run in ours)),
            "unit": "ms",
            "goal": None,
            "met": None,
        },
    ]
    return rows


def main() -> int:
    if sys.argv[1:2] == ["serve"]:
        import uvloop

        uvloop.run(serve(Path(sys.argv[2])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="five runs of eight seconds")
    rows = measure(full=parser.parse_args().full)
    print(f"load of this machine {os.getloadavg()[0]:.1f}")
    print(json.dumps(rows, indent=1))
    return int(any(row["met"] is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
