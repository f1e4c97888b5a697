"""A release of 10,000 changes to every point of sale at once, measured from the release to the last acknowledgement at the hub.

    python benchmarks/dealer_fanout.py [--full] [--light N] [--whole N] [--parts N] [--changes N] [--no-kill]

A region as `rocade serve` runs it (PostgreSQL with fsync, API, exchange role), its operator publishing over HTTPS; whole agents
(`rocade dealer run`, a process and a store of the whole list each: apply in one transaction, state root recomputed, `applied` signed)
and light ones (dealer_fanout_load.py: own certificate, line and HTTPS connection each; head verified, file fetched, hashed,
decrypted, `fetched` signed). All on the same cores. Then a second release, while every whole agent is killed with -9 at a random
moment and started again: all must come to the same state, none half applied. Peers in the same run: the whole list as one file over
the same HTTPS door, and the changed rows polled from a PostgreSQL table by cursor; both on a sample of points of sale, times
scaled to all (said in the figure). --full: 6,450 light and 50 whole agents, 500,000 references.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random as Chance
from typing import Any

import asyncpg
import msgspec
import zstandard

import price_lists
from dealer_lists import LIST, SEED, write_file
from dealer_messages import CLOCK, RANDOM, postgres_processes
from load import raise_file_limit
from parts import cpu_s, figure
from ports import free_port
from rocade.agents.dealer import settings as dealer_settings
from rocade.agents.dealer.pricing import open_store
from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.client import ApiClient
from rocade.app.supervisor import MIGRATED, Supervisor
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.services.dealers import Dealers, import_file
from rocade.services.prices.shelf import Shelf
from rocade.trust.authority import AuditLog, Authority, Region

HERE = Path(__file__).parent
HEAD = "site;dealer;dealer_name;country;name;timezone;brands;opened\n"
PATIENCE_S = 900.0
type Figure = dict[str, object]


class World:
    """A region, its network, and the processes of both ends."""

    def __init__(self, home: Path, running: settings.Configuration, database: Database) -> None:
        self.home, self.running, self.database = home, running, database
        self.light, self.whole = home / "light", home / "whole"
        self.supervisor = Supervisor(running)
        self.agents: dict[str, asyncio.subprocess.Process] = {}

    def publish(self, file: Path, mode: str = "full") -> tuple[float, float]:
        """Hand a file in and release it as an operator does; seconds of the draft, and when the release was asked for."""
        with ApiClient(self.running) as api:
            began = time.time()
            draft = api.send(f"/v1/price-lists/{LIST}/drafts", file=file, effective="2026-11-01T00:00Z", mode=mode)
            assert not draft["report"]["problem_count"], draft["lines"]
            asked = time.time()
            needs = ",".join(draft["report"]["needs"])
            api.post(f"/v1/price-lists/{LIST}/drafts/{draft['id']}/release", accept=needs or None)
        return asked - began, asked

    async def start_agent(self, site: str) -> None:
        log = (self.whole / f"{site}.log").open("ab")
        self.agents[site] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rocade", "dealer", "run", "--dir", str(self.whole / site), stdout=log, stderr=log
        )
        log.close()

    async def counts(self, seq: int) -> dict[str, int]:
        rows = await self.database.pool.fetch(
            "SELECT state, count(*) FROM price_ack WHERE seq = $1 GROUP BY state", seq
        )
        return {row[0]: row[1] for row in rows}

    async def until(self, seq: int, what: str, wanted: int, limit_s: float = PATIENCE_S) -> float:
        """When so many say so of a release."""
        end = time.monotonic() + limit_s
        while (told := await self.counts(seq)).get(what, 0) < wanted:
            if time.monotonic() > end:
                raise TimeoutError(f"{told} after {limit_s:.0f} s, {wanted} {what} were waited for")
            await asyncio.sleep(0.05)
        return time.time()


@contextlib.asynccontextmanager
async def open_world(home: Path, light: int, whole: int) -> AsyncIterator[World]:
    wanted = settings.Configuration(
        "eu", "bench.rocade",
        est=settings.Est(host="127.0.0.1", port=free_port()),
        http=settings.Http(api_host="127.0.0.1", api_port=free_port(), pages_port=free_port()),
        exchange=settings.Exchange(host="127.0.0.1", port=free_port(), processes=1),
    )  # fmt: skip
    initialise.create(home, "eu", "bench.rocade", template=wanted)
    postgres = EmbeddedPostgres(home / "postgres")
    try:
        url = postgres.start()
        migrate(url, MIGRATED)
        database = await Database.connect(url)
        world = World(home, msgspec.structs.replace(settings.load(home), database_url=url), database)
        await _furnish(world, light, whole)
        try:
            await world.supervisor.start(("store", "api", "exchange"))
            yield world
        finally:
            for agent in world.agents.values():
                with contextlib.suppress(ProcessLookupError):
                    agent.kill()
            await asyncio.gather(*(agent.wait() for agent in world.agents.values()))
            await world.supervisor.stop()
            await database.close()
    finally:
        postgres.stop()


async def _furnish(world: World, light: int, whole: int) -> None:
    """The network, and identities: light agents' as one file each, whole agents' as the folder `rocade dealer init` makes."""
    audit = AuditLog(world.database, world.running.trust / "audit", CLOCK)
    ids = [f"FR-{number:05}-1" for number in range(light + whole)]
    lines = [
        f"{id};{id[:8]};Garage {id};FR;Garage {id};Europe/Paris;vespelle:sells+services;2001-01-01\n" for id in ids
    ]
    dealers = Dealers(world.database, audit, CLOCK, RANDOM)
    await import_file(dealers, (HEAD + "".join(lines)).encode(), dry_run=False, actor="bench")
    authority = Authority(Region(world.running.trust, CLOCK, RANDOM), world.database, audit, CLOCK, RANDOM)
    world.light.mkdir()
    world.whole.mkdir()
    for at in range(0, len(ids), 500):
        chosen = [authority.region.identity("dealer", id) for id in ids[at : at + 500]]
        for identity, made in zip(chosen, await authority.provision(chosen, "bench"), strict=True):
            if ids.index(identity.id) < light:
                (world.light / f"{identity.id}.pem").write_bytes(made.key_pem + made.chain_pem)
            else:
                place = world.whole / identity.id
                made.write(place / "hubs" / "main")
                (place / "dealer.toml").write_text("[local]\nport = 0\n")
                ports = world.running.exchange.port, world.running.http.api_port, world.running.est.port
                dealer_settings.add_hub(place, dealer_settings.Hub("main", "localhost", *ports))
    for name in ("trust.pem", "issuers.json"):
        (world.light / name).write_bytes((world.running.trust / name).read_bytes())
    await audit.close()


async def fan_out(options: argparse.Namespace, home: Path) -> list[Figure]:
    light, whole, parts = options.light, options.whole, options.parts
    chance = Chance(SEED)
    async with open_world(home, light, whole) as world:
        made = price_lists.snapshot(LIST, parts)
        prices = made.entries.price_minor.tolist()
        write_file(home / "list.csv", made, prices)
        with ApiClient(world.running) as api:
            about = {"id": LIST, "brand": "vespelle", "country": "FR", "currency": "EUR", "kind": "retail"}
            api.send("/v1/price-lists", json=about)
        await asyncio.to_thread(world.publish, home / "list.csv")
        for site in sorted(path.name for path in world.whole.iterdir() if path.is_dir()):
            await world.start_agent(site)
        if whole:
            began = time.time()
            print(
                f"{whole} whole agents have the list after {await world.until(1, 'applied', whole) - began:.0f} s",
                flush=True,
            )
        loader = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "dealer_fanout_load.py"), str(world.light), str(world.running.exchange.port),
            str(world.running.http.api_port), "spiffe://bench.rocade/eu/dealer/", LIST,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 22,
        )  # fmt: skip

        async def ask(word: str) -> dict[str, Any]:
            assert loader.stdin
            assert loader.stdout
            if word:
                loader.stdin.write(f"{word}\n".encode())
            told: dict[str, Any] = json.loads(await loader.stdout.readline())
            print(told, flush=True)
            return told

        ready = await ask("")
        assert ready["is_ready"], ready

        _change(prices, chance, options.changes)
        write_file(home / "list.csv", made, prices)
        before = cpu_s(_hub(world)), cpu_s(postgres_processes(home))
        answer = asyncio.create_task(ask(f"await {light} {PATIENCE_S}"))
        drafted_s, asked = await asyncio.to_thread(world.publish, home / "list.csv")
        applied = await world.until(2, "applied", whole) if whole else asked
        fetched = await world.until(2, "fetched", light) if light else asked
        ours = await answer
        counts = await world.counts(2)
        spent = cpu_s(_hub(world)) - before[0], cpu_s(postgres_processes(home)) - before[1]
        all_s = max(applied, fetched) - asked
        killed = await _kill_while_applying(world, made, prices, chance, options) if whole and options.kill else {}
        peers = await _peers(world, ask, light + whole, options.changes)
        loader.terminate()
        await loader.wait()
    everybody = light + whole
    counted = (
        f"{counts.get('applied', 0):,} applied (whole agents), {counts.get('fetched', 0):,} fetched (light agents)"
    )
    print(counted, killed, flush=True)
    detail = {"counts": counts, "draft_s": drafted_s, "last_applied_s": applied - asked, "last_fetched_s": fetched - asked,
              "last_head_s": ours["last_head"] - asked, "hub_cpu_s": spent[0], "postgres_cpu_s": spent[1],
              "light_cpu_s": ours["cpu_s"], "killed": killed, "loader": ours}  # fmt: skip
    is_whole = counts.get("applied", 0) == whole and counts.get("fetched", 0) == light
    name = f"{options.changes:,} changes of {parts:,} references to {everybody:,} connected agents"
    rows = [
        figure(f"{name}: {counted}, to the last acknowledgement", all_s, "s", 60.0,
               peer=f"whole file over HTTPS, {peers['sample']} measured, scaled", peer_value=peers["file_s"]),
        figure(f"{name}: time", all_s, "s", peer=f"PostgreSQL polled by cursor, {peers['polls']} measured, scaled",
               peer_value=peers["poll_s"]),
        figure("bytes down per dealer (head and file, TLS included)", ours["bytes_down"] / 1000, "kB", 30.0,
               peer="whole file, zstd, over HTTPS", peer_value=peers["file_bytes"] / 1000),
        figure("bytes down per dealer", ours["bytes_down"] / 1000, "kB", peer="PostgreSQL rows polled, without TLS",
               peer_value=peers["poll_bytes"] / 1000),
        figure("CPU of the hub, API and exchange", spent[0], "s"),
        figure("half applied after kill -9 while applying", killed.get("half_applied", 0), f"of {killed.get('kills', 0)} kills", 0),
    ]  # fmt: skip
    rows[0] |= {"detail": detail, "met": rows[0]["met"] and is_whole}
    return rows


def _hub(world: World) -> list[Any]:
    import psutil

    return [psutil.Process(one.pid) for one in world.supervisor.processes if one.pid and one.role != "store"]


def _change(prices: list[int], chance: Chance, changes: int) -> None:
    """Move so many prices by some per cent, each to another one."""
    for at in chance.sample(range(len(prices)), changes):
        moved = max(5, int(prices[at] * chance.uniform(0.97, 1.06)) // 5 * 5)
        prices[at] = moved if moved != prices[at] else moved + 5


async def _kill_while_applying(
    world: World, made: Any, prices: list[int], chance: Chance, options: argparse.Namespace
) -> dict[str, Any]:
    """A further release; each whole agent is killed at a random moment of it and started again."""
    _change(prices, chance, options.changes)
    write_file(world.home / "list.csv", made, prices)
    with ApiClient(world.running) as api:
        draft = await asyncio.to_thread(
            lambda: api.send(
                f"/v1/price-lists/{LIST}/drafts", file=world.home / "list.csv", effective="2026-11-02T00:00Z"
            )
        )

        def release() -> None:
            api.post(f"/v1/price-lists/{LIST}/drafts/{draft['id']}/release", accept=",".join(draft["report"]["needs"]))

        released = asyncio.create_task(asyncio.to_thread(release))

        async def kill(site: str) -> None:
            await asyncio.sleep(chance.uniform(0.0, options.kill_within_s))
            world.agents[site].kill()
            await world.agents[site].wait()
            await world.start_agent(site)

        await asyncio.gather(*(kill(site) for site in [*world.agents]))
        await released
    await world.until(3, "applied", len(world.agents))
    for agent in world.agents.values():
        agent.terminate()
    await asyncio.gather(*(agent.wait() for agent in world.agents.values()))
    roots, wrong = set(), 0
    for site in world.agents:
        store = open_store(world.whole / site, "main", CLOCK)
        roots |= {(held.seq, held.head.state_root) for held in store.heads()}
        wrong += any(told for told in store.verify_all().values())
        store.close()
    return {"kills": len(world.agents), "half_applied": wrong + len(roots) - 1, "roots": len(roots)}


async def _peers(world: World, ask: Any, everybody: int, changes: int) -> dict[str, Any]:
    """The two ways one would do it without deltas; a sample each, times scaled to all."""
    content = zstandard.ZstdCompressor(level=3).compress((world.home / "list.csv").read_bytes())
    name = hashlib.sha256(content).hexdigest()
    Shelf(world.home / "prices").put(name, content)
    sample = min(100, len(list(world.light.glob("FR-*.pem"))))
    told = await ask(f"peer {name} {sample}") if sample else {"seconds": 0.0, "bytes_down": float(len(content))}

    connection = await asyncpg.connect(world.running.database_url)
    try:
        await connection.execute(
            "CREATE TABLE peer_price (number bigserial PRIMARY KEY, ref text NOT NULL, price bigint NOT NULL, at_us bigint)"
        )
        rows = [(f"{at:014d}", at * 7, CLOCK.now_us()) for at in range(changes)]
        await connection.copy_records_to_table("peer_price", records=rows, columns=["ref", "price", "at_us"])
        got = await connection.fetch(
            "SELECT number, ref, price, at_us FROM peer_price WHERE number > $1 ORDER BY number", 0
        )
        size = sum(7 + 4 * 4 + 8 + len(row[1]) + 8 + 8 for row in got)
        polls = min(300, everybody)
        began = time.time()
        for _ in range(polls):
            poller = await asyncpg.connect(world.running.database_url)
            await poller.fetch("SELECT number, ref, price, at_us FROM peer_price WHERE number > $1 ORDER BY number", 0)
            await poller.close()
        poll_s = (time.time() - began) / polls * everybody
    finally:
        await connection.close()
    return {"sample": sample, "file_s": told["seconds"] / max(1, sample) * everybody, "file_bytes": told["bytes_down"],
            "polls": polls, "poll_s": poll_s, "poll_bytes": float(size)}  # fmt: skip


def measure(*, full: bool) -> list[Figure]:
    """The figures; dealers.py collects them."""
    return measure_as_told(["--full"] if full else [])


def measure_as_told(arguments: list[str]) -> list[Figure]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="6,450 light and 50 whole agents, 500,000 references")
    parser.add_argument("--light", type=int, help="light agents (default 300)")
    parser.add_argument("--whole", type=int, help="whole agents (default 3)")
    parser.add_argument("--parts", type=int, help="references (default 50,000)")
    parser.add_argument("--changes", type=int, help="changed prices (default 1,000)")
    parser.add_argument("--no-kill", dest="kill", action="store_false")
    parser.add_argument("--kill-within-s", type=float, default=6.0, help="kills fall within this time of the release")
    options = parser.parse_args(arguments)
    sizes = (6_450, 50, 500_000, 10_000) if options.full else (300, 3, 50_000, 1_000)
    for name, size in zip(("light", "whole", "parts", "changes"), sizes, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, size)
    raise_file_limit()
    build = Path("build/bench")
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fanout-", dir=build) as directory:
        return asyncio.run(fan_out(options, Path(directory) / "region"))


def main() -> int:
    rows = measure_as_told(sys.argv[1:])
    for row in rows:
        print(
            f"{row['figure']}: {row['value']} {row['unit']} (goal {row['goal']}, met {row['met']}); {row['peer']} {row['peer_value']}"
        )
    conditions = {"machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.machine()}"}
    Path("build/bench/dealer_fanout.json").write_text(json.dumps({"conditions": conditions, "figures": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
