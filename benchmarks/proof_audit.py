"""The audit log: entries made durable in groups, and proofs from a log of millions of them.

Ours: `AuditLog.record_all` as the region runs it (encode, leaf hash, tree, kept nodes, COPY into the indexed table, tree row, signed
heads, hashes and heads kept apart and synced), on the embedded PostgreSQL with fsync; then `Proofs` over that log, each proof checked
by the verifier before it counts. Peers in the same run: pymerkle's tree with the same bodies in a file that is synced after each
group (no database, no index, no signature), and a plain COPY of the same bodies into a table with nothing but its key.

    python -m benchmarks --only proof --parts audit [--full]        100,000 entries, or 3 million
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import msgspec
import pymerkle
import uvloop

from parts import figure
from rocade.app.roles import GC_THRESHOLD
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.trust.authority import AuditLog, create_region, verify
from rocade.trust.authority.audit import Line
from rocade.trust.authority.proving import Proofs
from rocade.trust.identity import proof
from rocade.trust.identity.directory import load_root

CLOCK = SystemClock()
GROUP = 10_000
WRITERS = 2
PROVEN = 300
type Figure = dict[str, object]


def entries() -> list[AuditEntry]:
    """A group as acts make it: 200 who act, 10,000 about whom."""
    now_us = CLOCK.now_us()
    return [
        AuditEntry(now_us + n, f"spiffe://bench.rocade/eu/operator/{n % 200}", "history.read", f"vehicle:{n * 7919}")
        for n in range(GROUP)
    ]


async def append(log: AuditLog, groups: int) -> tuple[float, float]:
    """Entries a second, and CPU microseconds of this process for one."""
    group = entries()
    left = iter(range(groups))

    async def write() -> None:
        for _ in left:
            await log.record_all(group)

    begin, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    count = groups * GROUP
    return count / (time.perf_counter() - begin), (time.process_time() - cpu) / count * 1e6


def bodies() -> list[bytes]:
    return [msgspec.json.encode(Line(n, one)) for n, one in enumerate(entries())]


def pymerkle_and_file(path: Path, groups: int) -> tuple[float, pymerkle.InmemoryTree]:
    """Entries a second of pymerkle's tree with a synced file, given the bodies."""
    tree, taken_s = pymerkle.InmemoryTree(algorithm="sha256"), 0.0
    with path.open("wb", buffering=1 << 20) as file:
        some = bodies()
        for _ in range(groups):
            begin = time.perf_counter()
            for body in some:
                tree.append_entry(body)
            file.write(b"\n".join(some))
            file.flush()
            os.fsync(file.fileno())
            taken_s += time.perf_counter() - begin
    return groups * GROUP / taken_s, tree


async def plain_copy(url: str, groups: int) -> float:
    """Entries a second of COPY and commit of the same bodies, already made, by one writer."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE plain (position bigint PRIMARY KEY, body bytea NOT NULL)")
    taken_s = 0.0
    some = bodies()
    for at in range(groups):
        rows = [(at * GROUP + n, body) for n, body in enumerate(some)]
        begin = time.perf_counter()
        await connection.copy_records_to_table("plain", records=rows, columns=["position", "body"])
        taken_s += time.perf_counter() - begin
    await connection.close()
    return groups * GROUP / taken_s


async def times_ms(ask: Callable[[int], Awaitable[object]], asked: list[int]) -> tuple[float, float]:
    """Median and 99th percentile."""
    await ask(asked[0])
    found = []
    for one in asked:
        begin = time.perf_counter()
        await ask(one)
        found.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(found), statistics.quantiles(found, n=100)[98]


async def measure_on(url: str, home: Path, groups: int) -> list[Figure]:
    create_region(home / "trust", "eu", "bench.rocade", CLOCK, SystemRandom())
    directory, root = home / "trust/audit", load_root(home / "trust/trust.pem")
    database = await Database.connect(url)
    synced = await database.pool.fetchval("SELECT current_setting('fsync') || current_setting('synchronous_commit')")
    assert synced == "onon", "figures are taken with what a region runs with"
    log = AuditLog(database, directory, CLOCK)
    await append(log, 1)
    rate, cpu_us = await append(log, groups)
    await log.close()
    copied = await plain_copy(url, min(groups, 20))
    their_rate, tree = await asyncio.to_thread(pymerkle_and_file, home / "peer", groups)
    await database.pool.execute("VACUUM ANALYZE audit_entry")  # what autovacuum does within minutes of so many inserts
    proofs = Proofs(database, directory, root)
    size = (await proofs.head()).head.size
    asked = [(n * 2_654_435_761) % size for n in range(PROVEN)]
    random_heads = [
        row["size"] for row in await database.pool.fetch("SELECT size FROM audit_head ORDER BY random() LIMIT 100")
    ]
    middle, worst = await times_ms(proofs.entry, asked)
    hash_middle, hash_worst = await times_ms(proofs.inclusion, asked)
    grown_middle, grown_worst = await times_ms(proofs.consistency, random_heads)
    their_ms = await asyncio.to_thread(their_proofs_ms, tree, [one % tree.get_size() for one in asked])
    made = await proofs.entry(asked[1])
    begin = time.process_time()
    for _ in range(200):
        proof.verify(made, root)
    check_us = (time.process_time() - begin) / 200 * 1e6
    begin = time.perf_counter()
    report = await verify(database, directory, root)
    checked = report.entries / (time.perf_counter() - begin)
    kept = await database.pool.fetchval("SELECT count(*) FROM audit_node")
    await database.close()
    millions = f"{size / 1e6:.1f} million entries"
    merkle = "pymerkle + file + fsync, same groups"
    return [
        figure(f"audit entries durable in groups of {GROUP:,}", rate, "1/s", 150_000, less=False, peer=merkle, peer_value=their_rate),
        figure("the same beside a plain COPY of ready bodies, no index, no tree", rate, "1/s", less=False, peer="COPY and commit", peer_value=copied),
        figure("CPU of the writing process for an entry", cpu_us, "us"),
        figure(f"proof of an entry, made and checked, {millions}, median", middle, "ms", peer="pymerkle in memory, made only", peer_value=their_ms),
        figure(f"proof of an entry, made and checked, {millions}, p99", worst, "ms", 5),
        figure(f"inclusion in hashes, {millions}, median", hash_middle, "ms"),
        figure(f"inclusion in hashes, {millions}, p99", hash_worst, "ms", 5),
        figure(f"consistency from a random head, made and checked, {millions}, median", grown_middle, "ms"),
        figure(f"consistency from a random head, made and checked, {millions}, p99", grown_worst, "ms", 5),
        figure("check of a proof file, CPU", check_us, "us"),
        figure("audit entries verified", checked, "1/s", less=False),
        figure("kept nodes for 1,000 entries", kept / size * 1e3, "rows"),
    ]  # fmt: skip


def their_proofs_ms(tree: pymerkle.InmemoryTree, asked: list[int]) -> float:
    found = []
    for one in asked:
        begin = time.perf_counter()
        tree.prove_inclusion(one + 1)
        found.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(found)


def measure(*, full: bool = False) -> list[Figure]:
    """The rows for `benchmarks/proof.py`."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder) / "database")
        url = server.start()
        try:
            migrate(url, ["rocade.fabric.database", "rocade.trust.authority"])
            gc.set_threshold(*GC_THRESHOLD)  # as every role runs (app/roles.py), and on its event loop
            return uvloop.run(measure_on(url, Path(folder), 300 if full else 10))
        finally:
            server.stop()


if __name__ == "__main__":
    for row in measure():
        print(f"{row['figure']:<75} {row['value']:>14,} {row['unit']:<5} {row['peer']} {row['peer_value'] or ''}")
