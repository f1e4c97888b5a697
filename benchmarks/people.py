"""People on the road, measured: decisions, whole authorised reads, passkeys, and how fast a withdrawal ends open streams.

    python -m benchmarks --only people [--full]       all rows, quick or of full length
    python benchmarks/people.py --rows reads,streams  some of them

Everything is real: a region with 10,000 owned vehicles and as many consents in PostgreSQL, API processes as `rocade serve`
starts them, own certificates, access tokens, the gate, the owner's note of each look. The load generator runs on the same
cores (people_load.py). Peers in the same run: a SELECT for the consent table, Cedar with text policies, a bare
Litestar and asyncpg handler that authorises nothing (people_bare.py), the plain ECDSA check.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random

import cedarpy
import httpx
import msgspec
import numpy as np
import psutil

import parts
import people_passkeys
from people_region import CLOCK, RANDOM, SEEN, Household, open_region
from ports import free_port
from rocade.core.data_classes import ALL
from rocade.services.consent import Consents, ConsentTable
from rocade.trust.authority.gate import Engine, Gate, Principal, Right, acts
from rocade.trust.authority.gate.asked import Asked, ask, schema
from rocade.trust.authority.gate.engine import FILES, policy_texts
from rocade.trust.identity.tls import client_context

SEED = 20_261_122
HERE = Path(__file__).parent
PROCESSES = 2
VEHICLES, STREAMS, WITHDRAWALS_PER_S = 10_000, 1_000, 40
TWIN = "/v1/vehicles/REF/twin"
ACME = Principal("partner", "spiffe://bench.rocade/eu/partner/acme", "partner:acme", "token", "eu", frozenset(),
                 frozenset({"insurance"}))  # fmt: skip
type Figure = dict[str, object]
figure = partial(parts.figure, less=False)


def per_cpu_second(work: Callable[[], int], least_s: float) -> float:
    """How often a second of this process's CPU allows; `work` says how many it did."""
    work()
    done, begin = 0, time.process_time()
    while time.process_time() - begin < least_s:
        done += work()
    return done / (time.process_time() - begin)


# --- decisions in memory ------------------------------------------------------------------------------------------------


async def consent(household: Household, least_s: float) -> list[Figure]:
    table = await ConsentTable.open(household.database, CLOCK)
    draw, now_us = Random(SEED), CLOCK.now_us()
    asked = [(draw.choice(household.refs), draw.choice(("insurance", "research"))) for _ in range(100_000)]
    refs = np.array([ref for ref, _ in asked], np.int64)

    def one_by_one() -> int:
        mask = table.mask
        for ref, purpose in asked:
            mask(ref, "partner:acme", purpose, now_us)
        return len(asked)

    def whole_column() -> int:
        assert int(table.masks(refs, "partner:acme", "insurance", now_us).min()) == SEEN
        return len(refs)

    def rights() -> int:
        return sum(table.right(ACME, ref, purpose, now_us).is_owned for ref, purpose in asked[:20_000])

    seen = sum(table.mask(ref, "partner:acme", purpose, now_us) == SEEN for ref, purpose in asked)
    assert 0.4 < seen / len(asked) < 0.6
    try:
        one, column = per_cpu_second(one_by_one, least_s), per_cpu_second(whole_column, least_s)
        right = per_cpu_second(rights, least_s)
        query = "SELECT classes FROM consent_grant WHERE ref = $1 AND recipient = 'partner:acme' AND purpose = $2 AND from_us <= $3 AND until_us > $3"
        async with household.database.pool.acquire() as connection:
            statement, begin = await connection.prepare(query), time.perf_counter()
            for ref, purpose in asked[:2_000]:
                await statement.fetchval(ref, purpose, now_us)
            selected = 2_000 / (time.perf_counter() - begin)
        figures = [
            figure("decisions from the compiled consent table, one by one", one, "1/s", 1e6, peer="prepared SELECT of the consent", peer_value=selected),
            figure("decisions from the compiled consent table, a column of 100,000", column, "1/s", 1e6, peer="prepared SELECT of the consent", peer_value=selected),
            figure("rights to a vehicle with relation and consent, as the gate asks", right, "1/s"),
        ]  # fmt: skip
    finally:
        await table.close()
    return figures


class Varied:
    """Rights that differ with every vehicle, so that no question to Cedar comes twice within the gate's memory."""

    def right(self, _principal: Principal, ref: int, _purpose: str, _at_us: int) -> Right:
        return Right("none", ref & ALL, "grant-1", is_owned=True)

    def mask(self, ref: int, _recipient: str, _purpose: str, _at_us: int) -> int:
        return ref & ALL

    def refs(self, _principal: Principal, _purpose: str, _at_us: int) -> list[int]:
        return []

    def hidden(self, _recipient: str, _purpose: str, _classes: int, _at_us: int) -> list[int]:
        return []


def questions(callers: int, each: int) -> list[Asked]:
    """Distinct questions: callers with tokens for purposes of their own, each asking for one purpose after the other."""
    made = []
    for caller in range(callers):
        purposes = [f"p{caller}-{number}" for number in range(each)]
        principal = msgspec.structs.replace(ACME, purposes=frozenset(purposes))
        for number, purpose in enumerate(purposes):
            right = Right("none", (caller + number) % ALL + 1, "grant-1", is_owned=True)
            made.append(ask(principal, acts.READ_TWIN, right, "eu", purpose))
    assert len(set(made)) == callers * each
    return made


def cedar(least_s: float) -> list[Figure]:
    engine, asked, strangers = Engine(), questions(500, 8), iter(questions(20_000, 1))
    assert all(engine.decide(one).is_allowed for one in asked[:50])

    def uncached() -> int:
        for one in asked:
            engine.decide(one)
        return len(asked)

    def of_strangers() -> int:
        for _ in range(500):
            engine.decide(next(strangers))
        return 500

    texts, words = policy_texts(), schema()
    text = texts["walls"] + texts[FILES["vehicle"]]

    def as_text() -> int:
        for one in asked[:100]:
            uid = {"type": "Partner", "id": "one"}
            request = {
                "principal": uid, "action": {"type": "Action", "id": one.act}, "resource": {"type": "Vehicle", "id": "one"},
                "context": msgspec.json.encode(one.facts).decode(),
            }  # fmt: skip
            entities = msgspec.json.encode([{"uid": uid, "attrs": one.proof, "parents": ()}]).decode()
            answer = cedarpy.is_authorized(request, text, entities, words)
            assert answer.decision is cedarpy.Decision.Allow
        return 100

    gate, now_us = Gate("eu", Varied(), engine), CLOCK.now_us()
    principals = [msgspec.structs.replace(ACME, purposes=frozenset({f"q{number}"})) for number in range(40_000)]
    turn = iter(range(10**9))

    def permits() -> int:
        for _ in range(2_000):
            at = next(turn)
            who = principals[at % len(principals)]
            gate.permit(who, acts.READ_TWIN, ref=at % ALL + 1, purpose=f"q{at % len(principals)}", at_us=now_us)
        return 2_000

    def remembered() -> int:
        for ref in range(2_000):
            gate.permit(ACME, acts.READ_TWIN, ref=ref % ALL + 1, purpose="insurance", at_us=now_us)
        return 2_000

    plain = per_cpu_second(as_text, least_s)
    return [
        figure("Cedar decisions, every question a new one", per_cpu_second(uncached, least_s), "1/s", 12_000,
               peer="cedarpy, policies and schema as text", peer_value=plain),
        figure("Cedar decisions, every caller a new one too", per_cpu_second(of_strangers, min(least_s, 0.5)), "1/s",
               peer="cedarpy, policies and schema as text", peer_value=plain),
        figure("whole gate: right, question, decision, permit; every question a new one", per_cpu_second(permits, least_s), "1/s"),
        figure("whole gate, questions that came before", per_cpu_second(remembered, least_s), "1/s"),
    ]  # fmt: skip


# --- whole reads --------------------------------------------------------------------------------------------------------


async def fetch_token(household: Household) -> None:
    """Ask the token door as any client would, and leave the token where the load finds it."""
    address = f"https://localhost:{household.configuration.http.api_port}"
    context = client_context(household.partner)
    async with httpx.AsyncClient(base_url=address, verify=context, trust_env=False) as client:
        answer = await client.post("/oauth/token", data={"grant_type": "client_credentials"})
        (household.partner / "token").write_text(answer.json()["access_token"])


def database_cpu_s(household: Household) -> float:
    """CPU of PostgreSQL so far, its back ends included."""
    main = psutil.Process(household.postgres.pid)
    times = main.cpu_times()
    return parts.cpu_s([main, *main.children()]) + float(times.children_user + times.children_system)


async def load(directory: Path, port: int, seconds: float, path: str, refs: Sequence[int],
               served: Callable[[], float]) -> dict[str, float]:  # fmt: skip
    """Run the generator; its own report and the servers' CPU per request."""
    arguments = ["read", str(directory), str(port), str(seconds), "48", path]
    generator = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "people_load.py"), *arguments,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert generator.stdin is not None
    assert generator.stdout is not None
    generator.stdin.write(" ".join(map(str, refs)).encode() + b"\n")
    await generator.stdout.readline()
    before = served()
    told: dict[str, float] = json.loads(await generator.stdout.readline())
    told["served_us"] = (served() - before) / told["count"] * 1e6
    await generator.wait()
    assert not told["refused"], told
    return told


@contextlib.asynccontextmanager
async def bare(household: Household) -> AsyncIterator[tuple[int, list[psutil.Process]]]:
    """The peer, in as many processes."""
    port, url = free_port(), household.database.url
    command = [sys.executable, str(HERE / "people_bare.py"), str(household.configuration.server), str(port), url]
    running = [await asyncio.create_subprocess_exec(*command) for _ in range(PROCESSES)]
    try:
        for _ in range(200):
            await asyncio.sleep(0.1)
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("localhost", port)
                writer.close()
                break
        await asyncio.sleep(2)
        yield port, [psutil.Process(one.pid) for one in running]
    finally:
        for one in running:
            one.terminate()
        await asyncio.gather(*(one.wait() for one in running))


async def reads(household: Household, seconds: float) -> list[Figure]:
    await fetch_token(household)
    api = [psutil.Process(one.pid) for one in household.supervisor.processes if one.pid]
    path, port = f"{TWIN}?purpose=insurance", household.configuration.http.api_port
    before = database_cpu_s(household)
    ours = await load(household.partner, port, seconds, path, household.refs, lambda: parts.cpu_s(api))
    of_database = (database_cpu_s(household) - before) / ours["count"] * 1e6
    looks = await looked(household)
    async with bare(household) as (bare_port, processes):
        peer = await load(household.partner, bare_port, seconds, TWIN, household.refs, lambda: parts.cpu_s(processes))
    assert looks > 0, "looks at owned vehicles are kept for the owner"
    name = "bare Litestar and asyncpg, nothing authorised"
    return [
        figure("whole authorised twin reads over mutual TLS, generator included", ours["rate"], "1/s", 3_000, peer=name, peer_value=peer["rate"]),
        figure("a whole authorised twin read, median", ours["p50_ms"], "ms", peer=name, peer_value=peer["p50_ms"]),
        figure("a whole authorised twin read, p99", ours["p99_ms"], "ms", peer=name, peer_value=peer["p99_ms"]),
        figure("CPU of the API processes per read", ours["served_us"], "us", peer=name, peer_value=peer["served_us"]),
        figure("CPU of the generator per read", ours["cpu_us"], "us", peer=name, peer_value=peer["cpu_us"]),
        figure("looks kept for owners", looks, "rows"),
        figure("CPU of PostgreSQL per read, warming up and looks included", of_database, "us"),
    ]  # fmt: skip


async def looked(household: Household) -> int:
    await asyncio.sleep(1)
    return int(await household.database.pool.fetchval("SELECT count(*) FROM consent_look"))


# --- streams ------------------------------------------------------------------------------------------------------------


async def streams(household: Household, withdrawals: int) -> list[Figure]:
    """Open streams, write all their twins once a second, withdraw one consent after the other, and wait for each end."""
    await fetch_token(household)
    chosen = household.refs[:STREAMS]
    stop, ended, after = asyncio.Event(), dict[int, float](), 0
    listener = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "people_load.py"), "stream", str(household.partner), str(household.configuration.http.api_port),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert listener.stdin is not None
    assert listener.stdout is not None
    listener.stdin.write(" ".join(map(str, chosen)).encode() + b"\n")
    driving = asyncio.create_task(drive(household, chosen, stop))
    assert (await listener.stdout.readline()).startswith(b"open")

    async def listen(output: asyncio.StreamReader) -> None:
        nonlocal after
        while len(ended) < withdrawals:
            ref, *rest = (await output.readline()).split()
            assert rest[0] != b"lost", rest
            ended.setdefault(int(ref), float(rest[0]))
            after += int(rest[1])

    listening = asyncio.create_task(listen(listener.stdout))
    consents = Consents(household.database, household.audit, CLOCK, RANDOM)
    asked: dict[int, float] = {}
    begin = time.monotonic()
    for number, ref in enumerate(chosen[:withdrawals]):
        await asyncio.sleep(max(0.0, begin + number / WITHDRAWALS_PER_S - time.monotonic()))
        asked[ref] = time.monotonic()
        await consents.withdraw(ref, household.owner(ref), household.grant(ref))
    await asyncio.wait_for(listening, 30)
    listener.stdin.close()
    events = (await listener.stdout.read()).decode().rpartition("events ")[2]
    stop.set()
    await driving
    await listener.wait()
    waits = sorted(ended[ref] - asked[ref] for ref in asked)
    return [
        figure(f"withdrawal until the stream ends, p99, {STREAMS:,} streams open", waits[int(len(waits) * 0.99)], "s", 2.0, less=True),
        figure("the same, median", waits[len(waits) // 2], "s"),
        figure("the same, worst", waits[-1], "s"),
        figure("values sent after a stream's end", after, "events", 0, less=True),
        figure("values sent to the streams meanwhile", int(events), "events"),
        figure("withdrawals", len(waits), "acts"),
    ]  # fmt: skip


async def drive(household: Household, refs: list[int], stop: asyncio.Event) -> None:
    while not stop.is_set():
        await household.drive(refs)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)


# --- all of it ----------------------------------------------------------------------------------------------------------


async def on_region(home: Path, rows: set[str], full: bool) -> list[Figure]:
    figures: list[Figure] = []
    async with open_region(home / "eu", VEHICLES, PROCESSES) as household:
        if "decisions" in rows:
            figures += await consent(household, 5.0 if full else 1.5)
        if "reads" in rows:
            figures += await reads(household, 60.0 if full else 12.0)
        if "streams" in rows:
            figures += await streams(household, STREAMS if full else 400)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", default="decisions,cedar,reads,passkeys,streams", help="which rows, with commas between"
    )
    parser.add_argument("--full", action="store_true", help="the length the goals are stated for")
    options = parser.parse_args()
    rows = set(options.rows.split(","))
    figures: list[Figure] = []
    load_before = os.getloadavg()[0]
    if "cedar" in rows:
        figures += cedar(5.0 if options.full else 1.5)
    if "passkeys" in rows:
        figures += people_passkeys.measure()
    with tempfile.TemporaryDirectory(prefix="people-") as folder:
        if rows & {"decisions", "reads", "streams"}:
            figures += asyncio.run(on_region(Path(folder), rows, options.full))
    packages = ("litestar", "uvicorn", "uvloop", "cedarpy", "joserfc", "webauthn", "asyncpg", "cryptography")
    conditions = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}", "load": load_before, "seed": SEED, "full": options.full,
        "vehicles": VEHICLES, "api processes": PROCESSES,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }  # fmt: skip
    out = Path("build/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "people.json").write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=2))
    for one in figures:
        peer = f"  ({one['peer']}: {one['peer_value']:,})" if one["peer"] else ""
        mark = {True: "  met", False: "  NOT MET", None: ""}[one["met"]]  # type: ignore[index]  # met is one of these
        print(f"{one['figure']:<82} {one['value']:>14,} {one['unit']}{mark}{peer}")


if __name__ == "__main__":
    main()
