"""Messages of points of sale measured: signed, durable, receipted, on a timetable; all coming back at once; what that weighs.

    python benchmarks/dealer_messages.py [--rows messages,storm] [--full]

A hub as `rocade serve` runs it (role exchange, embedded PostgreSQL, fsync on) and a generator (dealer_load.py) on the same cores. The
peer gets the same messages through the same door: it checks each signature, inserts each message in its own transaction with
fsync (64 at once, so PostgreSQL gathers commits by itself), signs each receipt. Writes build/bench/dealer_messages.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from load import raise_file_limit
from parts import cpu_s, figure
from ports import free_port
from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.supervisor import MIGRATED, Supervisor
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.services.dealers import Dealers, SiteTable, import_file
from rocade.services.exchange import Router, Rule
from rocade.trust.authority import AuditLog, Authority, Region

HERE = Path(__file__).parent
CLOCK, RANDOM = SystemClock(), SystemRandom()
SITES, RATE_PER_S, GOAL_PER_S = 200, 2_080, 2_000
HEAD = "site;dealer;dealer_name;country;name;timezone;brands;opened\n"
type Figure = dict[str, object]


class World:
    """A region with its sites, their certificates on disk for the generator, and its running exchange."""

    def __init__(self, home: Path, configuration: settings.Configuration, database: Database) -> None:
        self.home, self.configuration, self.database = home, configuration, database
        self.uri = "spiffe://bench.rocade/eu/dealer/"
        self.sites = home / "sites"
        self.supervisor: Supervisor

    @property
    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(one.pid) for one in self.supervisor.processes if one.pid]

    async def generator(self, what: str, *more: str, port: int = 0) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "dealer_load.py"), what, str(self.sites),
            str(port or self.configuration.exchange.port), self.uri, *more,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 22,
        )  # fmt: skip


@contextlib.asynccontextmanager
async def open_world(home: Path, sites: int) -> AsyncIterator[World]:
    wanted = settings.Configuration(
        "eu", "bench.rocade", exchange=settings.Exchange(host="127.0.0.1", port=free_port(), processes=1)
    )
    initialise.create(home, "eu", "bench.rocade", template=wanted)
    configuration = settings.load(home)
    postgres = EmbeddedPostgres(home / "postgres")
    try:
        url = postgres.start()
        migrate(url, MIGRATED)
        database = await Database.connect(url)
        running = msgspec.structs.replace(configuration, database_url=url)
        world = World(home, running, database)
        await _fill(world, sites)
        world.supervisor = Supervisor(running)
        try:
            await world.supervisor.start(("exchange",))
            yield world
        finally:
            await world.supervisor.stop()
            await database.close()
    finally:
        postgres.stop()


async def _fill(world: World, count: int) -> None:
    """Sites in the table, their certificates for the generator, one rule for all."""
    audit = AuditLog(world.database, world.configuration.trust / "audit", CLOCK)
    ids = [f"FR-{number:05}-1" for number in range(count)]
    lines = [f"{id};{id[:8]};Garage {id};FR;Garage {id};Europe/Paris;renault:sells+services;2001-01-01\n" for id in ids]
    dealers = Dealers(world.database, audit, CLOCK, RANDOM)
    await import_file(dealers, (HEAD + "".join(lines)).encode(), dry_run=False, actor="bench")
    authority = Authority(Region(world.configuration.trust, CLOCK, RANDOM), world.database, audit, CLOCK, RANDOM)
    world.sites.mkdir()
    for at in range(0, count, 500):
        chosen = [authority.region.identity("dealer", id) for id in ids[at : at + 500]]
        for identity, made in zip(chosen, await authority.provision(chosen, "bench"), strict=True):
            (world.sites / f"{identity.id}.pem").write_bytes(made.key_pem + made.chain_pem)
    for name in ("trust.pem", "issuers.json"):
        (world.sites / name).write_bytes((world.configuration.trust / name).read_bytes())
    table = await SiteTable.open(world.database, CLOCK)
    await Router(world.database, table, audit, CLOCK).publish([Rule(to="local/desk")], 0, "", "bench")
    await table.close()
    await audit.close()


def postgres_processes(home: Path) -> list[psutil.Process]:
    pid = int((home / "postgres/data/postmaster.pid").read_text().split()[0])
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


def pss_mib(processes: Sequence[psutil.Process]) -> float:
    """Proportional set size: shared pages counted once among those who share them."""
    return sum(int(process.memory_full_info().pss) for process in processes) / (1 << 20)


async def messages(
    home: Path, seconds: float, *, rate_per_s: float = RATE_PER_S, with_peer: bool = True
) -> list[Figure]:
    async with open_world(home, SITES) as world:
        hub_before, base_before = cpu_s(world.processes), cpu_s(postgres_processes(home))
        generator = await world.generator("messages", str(rate_per_s), str(seconds))
        assert generator.stdout is not None
        ours = json.loads(await generator.stdout.readline())
        await generator.wait()
        hub_us = (cpu_s(world.processes) - hub_before) / ours["sent"] * 1e6
        base_us = (cpu_s(postgres_processes(home)) - base_before) / ours["sent"] * 1e6
        kept = await world.database.pool.fetchval("SELECT count(*) FROM exchange_message WHERE state = 1")
        noted = await world.database.pool.fetchval("SELECT count(*) FROM exchange_commit")
        await world.supervisor.stop()
        peer = await _peer(world, rate_per_s, min(seconds, 15.0)) if with_peer else {"rate": 0.0, "p99_ms": 0.0}
    is_exact = ours["receipted"] == ours["sent"] == kept == ours["proven"] and not ours["refused"]
    name = "PostgreSQL insert and signed receipt a message, same door"
    detail = {
        **ours,
        "hub_us": round(hub_us),
        "postgres_us": round(base_us),
        "kept": kept,
        "commits": noted,
        "peer_told": peer,
    }
    return [
        figure("signed, durable, receipted messages", ours["rate"], "1/s", GOAL_PER_S, less=False, is_exact=is_exact,
               peer=name, peer_value=peer["rate"] or None, detail=detail),
        figure("from planned instant to signed receipt, p99", ours["p99_ms"], "ms", 100, is_exact=is_exact, peer=name,
               peer_value=peer["p99_ms"] or None),
        figure("from planned instant to signed receipt, median", ours["p50_ms"], "ms"),
        figure("CPU of the hub per message", hub_us, "us"),
        figure("CPU of PostgreSQL per message", base_us, "us"),
        figure("CPU of the generator per message", ours["cpu_us"], "us"),
    ]  # fmt: skip


async def _peer(world: World, rate_per_s: float, seconds: float) -> dict[str, Any]:
    port = free_port()
    program = [
        sys.executable,
        str(HERE / "dealer_peer.py"),
        str(world.home),
        world.configuration.database_url,
        str(port),
    ]
    serving = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    assert serving.stdout is not None
    try:
        await serving.stdout.readline()
        generator = await world.generator("messages", str(rate_per_s), str(seconds), "peer", port=port)
        assert generator.stdout is not None
        told: dict[str, Any] = json.loads(await generator.stdout.readline())
        await generator.wait()
        return told
    finally:
        serving.terminate()
        await serving.wait()


async def storm(home: Path, sites: int) -> list[Figure]:
    """All connect, all break, all come back."""
    async with open_world(home, sites) as world:
        generator = await world.generator("storm")
        assert generator.stdout is not None
        assert generator.stdin is not None
        first = json.loads(await generator.stdout.readline())
        before = cpu_s(world.processes)
        generator.stdin.write(b"\n")
        told = json.loads(await generator.stdout.readline())
        spent_s = cpu_s(world.processes) - before
        hub_mib, base_mib = pss_mib(world.processes), pss_mib(postgres_processes(home))
        generator.stdin.write(b"\n")
        await generator.wait()
    is_exact = told["sites"] == told["receipted"] == sites
    detail = {**told, "first_connect_s": first["connected"], "hub_cpu_s": round(spent_s, 1)}
    return [
        figure(f"{sites:,} points of sale back after a cut, all at once", told["back_s"], "s", 60, is_exact=is_exact, detail=detail),
        figure("of them the last one", told["last_s"], "s", 60, is_exact=is_exact),
        figure("PSS of the hub processes that hold their connections", hub_mib, "MiB", 600, is_exact=is_exact),
        figure("PSS of PostgreSQL beside", base_mib, "MiB"),
    ]  # fmt: skip


def _build() -> Path:
    """On the disk of the checkout: a temporary folder may be memory, where fsync costs nothing."""
    folder = Path("build/bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def measure(*, full: bool, rows: Sequence[str] = ("messages", "storm")) -> list[Figure]:
    """The figures of these rows; dealers.py collects them."""
    raise_file_limit()
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="dealers-", dir=_build()) as directory:
        if "messages" in rows:
            found += await messages(Path(directory) / "messages", 60.0 if full else 12.0)
        if "storm" in rows:
            found += await storm(Path(directory) / "storm", 6_500 if full else 1_000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="messages,storm")
    parser.add_argument("--full", action="store_true", help="60 s of messages, 6,500 points of sale")
    options = parser.parse_args()
    figures = asyncio.run(measure(full=options.full, rows=options.rows.split(",")))
    for one in figures:
        print(
            f"{one['figure']:70} {one['value']:>10} {one['unit']:5} goal {one['goal']} met {one['met']} peer {one['peer_value']}"
        )
    print(json.dumps([one.get("detail") for one in figures if one.get("detail")]))
    conditions = {
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.machine()}",
        "full": options.full,
    }
    Path("build/bench/dealer_messages.json").write_text(
        json.dumps({"conditions": conditions, "figures": figures}, indent=1)
    )


if __name__ == "__main__":
    main()
