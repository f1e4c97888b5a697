"""Pages measured: how long each takes to answer with 10,000 vehicles registered, as `rocade serve` serves them.

    python -m benchmarks --only console [--full]

Real: PostgreSQL, an API process, a session, the gate. Half of the vehicles have owners and consents; each has a certificate
and the audit log 20,000 entries. Pages are asked for one after the other over http://localhost, every one as often as the
others; the row that counts is the slowest page's p95. Peer in the same run: a bare page (/docs without the gate's lists).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np

from people_region import CLOCK, RANDOM, Household, open_region, slots_at
from rocade.core.ports import AuditEntry
from rocade.services.vehicles.twin import Row, pack, upsert_many
from rocade.trust.authority import AuditLog, store
from rocade.trust.authority.people import People, Site
from rocade.trust.authority.sealing import keyring_of
from sealed import add_vehicles, named

VEHICLES, ENTRIES = 10_000, 20_000
GOAL_MS = 150.0
DAY_US = 86_400_000_000
PAGES = (
    "/", "/vehicles", "/vehicles?find=zoe+9", "/vehicles?vehicle_state=moving", "/vehicles/{ref}", "/vehicles/{ref}/audit",
    "/vehicles/{ref}/papers", "/ingest", "/certificates", "/certificates?paper_state=live&find=77", "/enrolment",
    "/quarantine", "/consents", "/people", "/audit", "/audit?subject=vehicle:{ref}", "/audit?action=bench.none", "/docs",
)  # fmt: skip


async def furnish(household: Household) -> list[int]:
    """The other half of the vehicles, which nobody owns; certificates and audit entries; references of the new ones."""
    now_us, database = CLOCK.now_us(), household.database
    refs = [RANDOM.bits(63) or 1 for _ in range(VEHICLES - len(household.refs))]
    cars = [
        (ref, f"FLEET-{at:06d}", "car", "renault", "Zoe", "electric", "eu", "", now_us, now_us)
        for at, ref in enumerate(refs)
    ]
    await add_vehicles(database, cars)
    async with database.pool.acquire() as connection:
        body = pack(slots_at(now_us), ())
        for at in range(0, len(refs), 1_000):
            rows = [Row(ref, now_us, 0, 48.1, 2.3, 50.0, body) for ref in refs[at : at + 1_000]]
            async with connection.transaction():
                await upsert_many(connection, rows, keyring_of(database))
        names = [*(f"BENCH-{at:06d}" for at in range(len(household.refs))), *(car[1] for car in cars)]
        papers = [
            store.CertificateRow(
                at + 1, f"spiffe://bench.rocade/eu/vehicle/{name}", "operational", b"k", b"k",
                now_us - (at % 55) * DAY_US, now_us + (60 - at % 55) * DAY_US, now_us,
            )
            for at, name in enumerate(names)
        ]  # fmt: skip
        await store.add_certificates(connection, await named(database, papers))
    await write_audit(household.audit, refs)
    async with database.pool.acquire() as connection:
        await connection.execute("ANALYZE")
    return refs


async def write_audit(audit: AuditLog, refs: list[int]) -> None:
    for at in range(ENTRIES):
        entry = AuditEntry(CLOCK.now_us(), f"person:{at % 50:016x}", "bench.read", f"vehicle:{refs[at % 2_000]}")
        if at % 2_000 == 1_999:
            await audit.record(entry)
        else:
            audit.note(entry)


async def operator(household: Household) -> dict[str, str]:
    """The cookie of an operator who holds every duty."""
    address = f"http://localhost:{household.configuration.http.pages_port}"
    people = People(household.database, household.audit, CLOCK, RANDOM, Site.at(address), "eu")
    person = await people.add("Ada", ("support", "security", "release"))
    async with household.database.pool.acquire() as connection, connection.transaction():
        return {"rocade_session": await people.sessions.open(connection, person, "passkey")}


async def measure(times: int) -> dict[str, list[float]]:
    """Milliseconds of every answer, by page."""
    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        async with open_region(Path(folder), VEHICLES // 2, 1) as household:
            refs = await furnish(household)
            cookies = await operator(household)
            taken: dict[str, list[float]] = {page: [] for page in PAGES}
            address = f"http://localhost:{household.configuration.http.pages_port}"
            async with httpx.AsyncClient(base_url=address, cookies=cookies, timeout=30) as client:
                for turn in range(times + 1):
                    for page in PAGES:
                        begun_s = time.perf_counter()
                        answer = await client.get(page.replace("{ref}", str(refs[turn])))
                        took_ms = (time.perf_counter() - begun_s) * 1e3
                        assert answer.status_code == 200, (page, answer.status_code, answer.text[:300])
                        if turn:  # the first of each fills caches
                            taken[page].append(took_ms)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="200 requests a page instead of 40")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    taken = asyncio.run(measure(200 if options.full else 40))
    p95_ms = {page: float(np.percentile(times, 95)) for page, times in taken.items()}
    slowest = max(p95_ms, key=lambda page: p95_ms[page])
    everything = [time_ms for times in taken.values() for time_ms in times]
    figures = [
        row("page answers, p95 of the slowest page", p95_ms[slowest], slowest, p95_ms["/docs"]),
        row("page answers, p95 of all", float(np.percentile(everything, 95)), "", p95_ms["/docs"]),
    ]
    for page, value in sorted(p95_ms.items(), key=lambda one: -one[1]):
        print(f"{page:<48} p50 {np.median(taken[page]):7.1f}  p95 {value:7.1f} ms")
    for one in figures:
        print(
            f"{one['figure']:<48} {one['value']:>7} ms  goal {one['goal']}  {'met' if one['met'] else 'NOT MET'}  {one['note']}"
        )
    conditions = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}", "load": load, "vehicles": VEHICLES, "full": options.full,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("litestar", "jinja2", "asyncpg")}},
    }  # fmt: skip
    target = Path(__file__).parents[1] / "build" / "bench" / "console.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=2) + "\n")


def row(name: str, value_ms: float, note: str, peer_ms: float) -> dict[str, object]:
    return {"figure": name, "value": round(value_ms, 1), "unit": "ms", "goal": GOAL_MS, "met": value_ms <= GOAL_MS,
            "peer": "a page without lists (/docs)", "peer_value": round(peer_ms, 1),
            "ratio": round(value_ms / peer_ms, 2), "note": note}  # fmt: skip


if __name__ == "__main__":
    main()
