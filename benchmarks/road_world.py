"""One region under load, for whatever measures the whole road: it runs as `rocade serve` runs it, the load in a process of its own.

Flow: `World` (a region with its registered vehicles) -> `prepare` (what the vehicles send) -> `load` (an `Order` played by
`python road_world.py`, which reads it on standard input) -> `World.settled` (all that was acknowledged is found in the history).
`throughput` does it for one rate and says all that rows need to know; `highest` finds the rate that is carried.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil

from load import Fleet, Report, raise_file_limit, write_vehicles
from minutes import drives, minute_bodies, real_bodies, small_bodies
from ports import free_port
from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.custodies import custody_of
from rocade.app.supervisor import Supervisor
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.fabric.history import connect
from rocade.fabric.status import StatusBoard
from rocade.services.telemetry.footprint import points_by_vehicle
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


def batch_restamp(
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
    restamp = batch_restamp({}, base_us, order.epoch, order.kind)
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
        sys.executable, __file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(msgspec.json.encode(order))
    if process.returncode:
        raise RuntimeError("the load process failed; its error stands above")
    return msgspec.json.decode(out, type=Outcome)


# --- what is carried --------------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(play(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))))
