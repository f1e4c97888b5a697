"""Commands, measured on a real region: sent until proven by telemetry, and how many a second are taken, signed and kept.

    python benchmarks/charging_commands.py [--full]

PostgreSQL, history, gateway, worker and API as `rocade serve` starts them; a convoy of simulated cars in a process of its own,
connected over mutual TLS, plugged in and awake. Commands are given one after the other at a steady pace, as the charging role
gives them, with the event loop and the collector of a role; instants are those the hub kept. Then batches for vehicles that are away, until they are durable. Medians of 5.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import uvloop

from ports import free_port
from rocade.agents.vehicle.convoy import Order as Convoy
from rocade.agents.vehicle.convoy import Seat, Totals
from rocade.app import configuration as settings
from rocade.app import initialise, wiring
from rocade.app.commanding import Commanding
from rocade.app.configuration import Configuration, Est, Http, Mqtt
from rocade.app.roles import GC_THRESHOLD
from rocade.app.supervisor import MIGRATED, Supervisor
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.services.vehicles import Registry
from rocade.services.vehicles.commands import Commands, Order, Standing
from rocade.trust.authority import Authority, Region
from sealed import add_vehicles

CLOCK, RANDOM = SystemClock(), SystemRandom()
ROUNDS = 5
MODEL = "electric_suv"
PATIENCE_S = 60
type Figure = dict[str, object]


@contextlib.asynccontextmanager
async def open_region(home: Path) -> AsyncIterator[Configuration]:
    """A region with all its processes."""
    wanted = Configuration(
        "eu", "bench.rocade", http=Http(api_host="127.0.0.1", api_port=free_port(), pages_port=free_port()),
        est=Est(host="127.0.0.1", port=free_port()), mqtt=Mqtt(host="127.0.0.1", port=free_port()),
    )  # fmt: skip
    initialise.create(home, "eu", "bench.rocade", template=wanted)
    postgres = EmbeddedPostgres(home / "postgres")
    try:
        url = postgres.start()
        migrate(url, MIGRATED)
        running = msgspec.structs.replace(settings.load(home), database_url=url)
        supervisor = Supervisor(running)
        try:
            await supervisor.start(("store", "gateway", "worker", "api"))
            yield running
        finally:
            await supervisor.stop()
    finally:
        postgres.stop()


async def enrol(configuration: Configuration, parts: wiring.Common, count: int) -> dict[str, int]:
    """Register cars and give them their identities; references by id."""
    registry = Registry(parts.database, RANDOM, CLOCK)
    region = Region(configuration.trust, CLOCK, RANDOM)
    authority = Authority(region, parts.database, parts.audit, CLOCK, RANDOM)
    ids = [f"VF1BENCH{number:09d}" for number in range(count)]
    refs = {id: int((await registry.add(id, "car", "hyundai", "Kona", "electric", "eu")).ref) for id in ids}
    identities = [region.identity("vehicle", id) for id in ids]
    for id, credential in zip(ids, await authority.provision(identities, "service:bench"), strict=True):
        credential.write(configuration.root / "fleet" / id)
    return refs


@contextlib.asynccontextmanager
async def convoy(configuration: Configuration, ids: Sequence[str], model: str) -> AsyncIterator[None]:
    """The cars, all connected."""
    seats = tuple(
        Seat(id, model, str(configuration.root / "fleet" / id), is_plugged=True, charge_percent=50.0) for id in ids
    )
    order = Convoy(host="localhost", port=configuration.mqtt.port, seats=seats, batch_s=5)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rocade.agents.vehicle.convoy", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, limit=64 << 20, start_new_session=True,
    )  # fmt: skip
    stdout = process.stdout
    assert process.stdin is not None
    assert stdout is not None
    process.stdin.write(msgspec.json.encode(order) + b"\n")
    totals = Totals(**dict.fromkeys(Totals.__struct_fields__[:-1], 0))  # type: ignore[arg-type]  # all are numbers

    async def listen() -> None:
        nonlocal totals
        async for line in stdout:
            if not line.startswith(b'{"ledger"'):
                totals = msgspec.json.decode(line, type=Totals)

    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while totals.connected < len(ids):  # noqa: ASYNC110 - another process tells, line by line
                await asyncio.sleep(0.1)
        await asyncio.sleep(5)  # the first batches of all are in
        yield
    finally:
        process.stdin.write(b'{"stop": true}\n')
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 20)
        if process.returncode is None:
            process.kill()
        listening.cancel()


async def proven(commands: Commands, refs: Sequence[int], count: int, pace_per_s: float, turn: int) -> list[Standing]:
    """Give commands at this pace, each of them one that changes something, and wait until all are proven."""
    given: list[Standing] = []
    next_s = time.monotonic()
    for number in range(count):
        percent = 60 + (turn * count + number) % 37
        given.append(
            await commands.order(Order(refs[number % len(refs)], "charge.limit", {"percent": percent}, "bench"))
        )
        next_s += 1 / pace_per_s
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))
    ended: list[Standing] = []
    async with asyncio.timeout(PATIENCE_S):
        for one in given:
            while (standing := await commands.standing(one.id)).is_open:  # noqa: ASYNC110 - as a client would
                await asyncio.sleep(0.05)
            ended.append(standing)
    return ended


def spans_ms(standings: Sequence[Standing], begin: str) -> list[float]:
    found = []
    for one in standings:
        at = {moment.state: moment.at_us for moment in one.life}
        if one.state == "verified":
            found.append((at["verified"] - at[begin]) / 1000)
    return sorted(found)


def quantile(values: Sequence[float], part: float) -> float:
    return values[min(int(len(values) * part), len(values) - 1)]


async def latency(commands: Commands, refs: Sequence[int], count: int) -> list[Figure]:
    """From sending to the proof, awake vehicles."""
    await proven(commands, refs, len(refs), 20, 0)
    rounds = []
    lost = 0
    for turn in range(1, ROUNDS + 1):
        ended = await proven(commands, refs, count, 20, turn)
        odd = Counter(f"{one.state} {one.code}" for one in ended if one.state != "verified")
        lost += odd.total()
        if odd:
            print(dict(odd), file=sys.stderr)
        rounds.append((spans_ms(ended, "sent"), spans_ms(ended, "created")))
    rows = []
    for name, at, goals in (("sent", 0, (300, 800)), ("ordered", 1, (None, None))):
        for part, goal in zip((0.5, 0.99), goals, strict=True):
            value = statistics.median(quantile(one[at], part) for one in rounds)
            rows.append(figure(f"command {name} -> verified, vehicle awake, p{part * 100:.0f}", value, "ms", goal))
    rows.append(figure(f"commands not verified of {ROUNDS * count}", lost, "", 0))
    return rows


async def queue(commands: Commands, database: Database, count: int) -> list[Figure]:
    """Batches for vehicles that are away: first commands, then others that replace them."""
    now_us = CLOCK.now_us()
    refs = [RANDOM.bits(63) or 1 for _ in range(count * (ROUNDS + 1))]
    rows = [
        (ref, f"AWAY-{place:07d}", "car", "renault", "Zoe", "electric", "eu", "", now_us, now_us)
        for place, ref in enumerate(refs)
    ]
    await add_vehicles(database, rows)
    async with database.pool.acquire() as connection:
        await connection.execute("ANALYZE vehicle")
    speeds: dict[str, list[float]] = {}
    for name, percent in (("taken, signed and queued durably", 80), ("the same, each in place of an older one", 70)):
        for turn in range(ROUNDS + 1):
            some = refs[turn * count : (turn + 1) * count]
            orders = [Order(ref, "charge.limit", {"percent": percent}, "bench", key=f"{percent}-{ref}") for ref in some]
            begun_s = time.perf_counter()
            answers = await commands.order_many(orders)
            speeds.setdefault(name, []).append(count / (time.perf_counter() - begun_s))
            assert not any(isinstance(one, Refused) for one in answers)
    goals = (10_000, None)
    return [
        figure(f"commands {name}, per second", statistics.median(found[1:]), "1/s", goal)
        for (name, found), goal in zip(speeds.items(), goals, strict=True)
    ]


def figure(name: str, value: float, unit: str, goal: float | None) -> Figure:
    met = None if goal is None else (value >= goal if unit == "1/s" else value <= goal)
    return {"figure": name, "value": round(value, 1), "unit": unit, "goal": goal, "met": met}


async def measure(*, full: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rocade-cmd-") as folder:
        async with open_region(Path(folder) / "eu") as configuration, wiring.common(configuration, 8) as parts:
            refs = await enrol(configuration, parts, 40 if full else 20)
            commanding = await Commanding.open(parts)
            try:
                async with convoy(configuration, list(refs), MODEL):
                    rows = await latency(commanding.commands, list(refs.values()), 400 if full else 60)
                rows += await queue(commanding.commands, parts.database, 20_000 if full else 5_000)
            finally:
                await commanding.close()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="400 commands a round, 20,000 in a batch")
    gc.set_threshold(*GC_THRESHOLD)
    for row in uvloop.run(measure(full=parser.parse_args().full)):
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
