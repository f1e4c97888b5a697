"""Trust alone: certificates issued and checked, audit entries made durable, a revocation heard.

Peers in the same run: `cryptography`'s own chain verifier for the certificate check (it proves less: no table, no exact
purposes, no strict name), and a plain COPY of the same bodies with one commit per batch for the audit log (no tree).

`python benchmarks/trust.py` prints a table and writes build/bench/trust.json. CPU is user + system of this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import ssl
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import cryptography
import msgspec
from cryptography import x509
from cryptography.x509 import verification

from parts import figure
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.trust.authority import AuditLog, Authority, DenySet, Region, create_region, verify
from rocade.trust.authority.audit import Line
from rocade.trust.identity import verify_leaf
from rocade.trust.identity.keys import csr, new_key
from sealed import keyed, unkeyed

CLOCK, RANDOM = SystemClock(), SystemRandom()
type Figure = dict[str, object]


def cpu_us(work: Callable[[], object], times: int = 3_000) -> float:
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times * 1e6


def certificates(region: Region) -> list[Figure]:
    identity = region.identity("vehicle", "VF1BENCH000000001")
    key = new_key()
    issued = region.issue(key.public_key(), identity)
    middle = x509.load_pem_x509_certificates(issued.chain_pem)[1]
    store = verification.Store([region.issuers.root])
    now_us = CLOCK.now_us()

    def by_peer() -> object:
        builder = verification.PolicyBuilder().store(store).time(datetime.fromtimestamp(now_us // 1_000_000, UTC))
        return builder.build_client_verifier().verify(x509.load_der_x509_certificate(issued.leaf_der), [middle])

    ours = cpu_us(lambda: verify_leaf(issued.leaf_der, region.issuers, now_us, {"vehicle"}))
    return [
        figure("check of one certificate, CPU", ours, "us", 150, peer="cryptography chain verifier", peer_value=cpu_us(by_peer)),
        figure("signing of one certificate, CPU", cpu_us(lambda: region.issue(key.public_key(), identity), 2_000), "us"),
        figure("key, certificate and PEM of one vehicle, CPU", cpu_us(lambda: region.credential(identity), 1_000), "us"),
        figure("size of one leaf", len(issued.leaf_der), "bytes"),
    ]  # fmt: skip


def entry(number: int) -> AuditEntry:
    return AuditEntry(CLOCK.now_us(), "spiffe://bench.rocade/eu/operator/one", "history.read", f"vehicle:{number}")


async def audit(database: Database, directory: Path, root: x509.Certificate) -> list[Figure]:
    log = AuditLog(database, directory, CLOCK)
    await log.record(entry(0))
    figures = []
    waits = []
    for number in range(50):
        begin = time.perf_counter()
        await log.record(entry(number))
        waits.append((time.perf_counter() - begin) * 1e3)
    figures.append(figure("one audit entry durable, median", sorted(waits)[25], "ms"))
    for waiting in (100, 2_000):
        count, begin, cpu = 10 * waiting, time.perf_counter(), time.process_time()
        for at in range(0, count, waiting):
            await asyncio.gather(*(log.record(entry(at + one)) for one in range(waiting)))
        rate = count / (time.perf_counter() - begin)
        used = (time.process_time() - cpu) / count * 1e6
        peer = await plain_copy(database, waiting, count)
        figures.append(figure(f"audit entries durable, {waiting} waiting", rate, "1/s", less=False,
                              peer="COPY and commit without tree", peer_value=peer))  # fmt: skip
        figures.append(figure(f"CPU per audit entry, {waiting} waiting", used, "us"))
    await log.close()
    begin = time.perf_counter()
    report = await verify(database, directory, root)
    figures.append(figure("audit entries verified", report.entries / (time.perf_counter() - begin), "1/s", less=False))
    return figures


async def plain_copy(database: Database, batch: int, count: int) -> float:
    connection = await asyncpg.connect(database.url)
    await connection.execute("CREATE TABLE IF NOT EXISTS plain (position bigint PRIMARY KEY, body bytea)")
    await connection.execute("TRUNCATE plain")
    begin = time.perf_counter()
    for at in range(0, count, batch):
        rows = [(at + one, msgspec.json.encode(Line(at + one, entry(one)))) for one in range(batch)]
        await connection.copy_records_to_table("plain", records=rows, columns=["position", "body"])
    elapsed = time.perf_counter() - begin
    await connection.close()
    return count / elapsed


async def acts(database: Database, region: Region, directory: Path) -> list[Figure]:
    log = AuditLog(database, directory, CLOCK)
    authority = Authority(region, database, log, CLOCK, RANDOM)
    parties = [region.identity("vehicle", f"ACT{number}") for number in range(200)]
    codes = await asyncio.gather(*(authority.claim(party, "bench") for party in parties))
    requests = [csr(new_key()) for _ in parties]
    begin = time.perf_counter()
    await asyncio.gather(*(authority.enrol(c, r, "bench") for c, r in zip(codes, requests, strict=True)))
    rate = len(parties) / (time.perf_counter() - begin)
    denied = await DenySet.open(database, CLOCK)
    heard: asyncio.Queue[object] = asyncio.Queue()
    await denied.watch(heard.put_nowait)
    waits = []
    for party in parties[:40]:
        begin = time.perf_counter()
        await authority.revoke(party, "bench", "bench")
        await heard.get()
        waits.append((time.perf_counter() - begin) * 1e3)
    await denied.close()
    await log.close()
    return [
        figure("enrolments, claim code to audited certificate", rate, "1/s", less=False),
        figure("revocation until another process knows, worst of 40", max(waits), "ms", 5_000),
    ]


async def measure(url: str, region: Region, directory: Path) -> list[Figure]:
    database = keyed(await Database.connect(url), directory.parent)
    root = region.issuers.root
    figures = [*await audit(database, directory, root), *await acts(database, region, directory)]
    await unkeyed(database)
    await database.close()
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        region = create_region(home / "trust", "eu", "bench.rocade", CLOCK, RANDOM)
        server = EmbeddedPostgres(home / "database")
        url = server.start()
        try:
            migrate(url, ["rocade.fabric.database", "rocade.trust.authority", "rocade.trust.authority.sealing"])
            figures = certificates(region) + asyncio.run(measure(url, region, home / "trust" / "audit"))
        finally:
            server.stop()
    conditions = {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "load": os.getloadavg()[0], "seed": None,
                  "versions": {"python": platform.python_version(), "cryptography": cryptography.__version__,
                               "openssl": ssl.OPENSSL_VERSION}}  # fmt: skip
    out = Path("build/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "trust.json").write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=2))
    for one in figures:
        peer = f"  ({one['peer']}: {one['peer_value']:,})" if one["peer"] else ""
        print(f"{one['figure']:<55} {one['value']:>12,} {one['unit']}{peer}")


if __name__ == "__main__":
    main()
