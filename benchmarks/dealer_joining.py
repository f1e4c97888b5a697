"""6,500 points of sale: imported from one file, given their codes, enrolled over EST; and the table of them in memory.

    python benchmarks/dealer_joining.py [--sites 6500] [--enrol 6500] [--at-once 16]

A region as `rocade serve` runs it (role api, embedded PostgreSQL, fsync on, audit log on). Import and codes go through the API
with the operator's certificate; each enrolment is a whole one: TLS connection, a key made, its request, a certificate that
is checked and written to disk with the key (fsync). The clients share the two cores with the region, so the rate is the
worst there is. Writes build/bench/dealer_joining.json.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from parts import figure
from people_region import CLOCK, Household, open_region
from rocade.services.dealers import SiteTable
from rocade.services.dealers.importing import COLUMNS
from rocade.trust.identity import est_client, tls

BRANDS = ("renault", "peugeot", "citroen", "opel", "hyundai")
COUNTRIES = (("FR", "Europe/Paris"), ("DE", "Europe/Berlin"), ("ES", "Europe/Madrid"), ("IT", "Europe/Rome"))
LOOKS = 200_000
SITES, AT_ONCE = 6_500, 16
type Figure = dict[str, object]


def network(sites: int) -> bytes:
    """A network as a manufacturer would send it: 100 groups, a secondary site for every third, one to three brands each."""
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, restval="")
    writer.writeheader()
    for at in range(sites):
        country, zone = COUNTRIES[(at // 3) % 4]
        dealer, primary = f"{country}-{at // 3:05}", f"{country}-{at // 3:05}-1"
        site = f"{country}-{at // 3:05}-{at % 3 + 1}"
        brands = "; ".join(f"{BRANDS[(at + more) % 5]}:sells+services" for more in range(1 + at % 3))
        writer.writerow(
            {"site": site, "dealer": dealer, "dealer_name": f"Garage {at // 3}", "country": country, "name": f"Site {at}",
             "timezone": zone, "brands": brands, "group": f"group-{at // 3 % 100:03}", "group_name": f"Group {at // 3 % 100}",
             "primary": "" if site == primary else primary, "city": f"City {at % 900}", "latitude": f"{43 + at % 800 / 100:.2f}",
             "longitude": f"{at % 1500 / 100:.2f}", "opened": "2010-01-04", "opening_hours": "Mo-Fr 08:00-18:00"}
        )  # fmt: skip
    return written.getvalue().encode()


def timed[T](work: Callable[[], T]) -> tuple[float, T]:
    began_s = time.perf_counter()
    result = work()
    return time.perf_counter() - began_s, result


def import_and_codes(household: Household, sites: int) -> tuple[list[Figure], list[dict[str, str]]]:
    configuration = household.configuration
    content = network(sites)
    client = httpx.Client(
        base_url=f"https://localhost:{configuration.http.api_port}", verify=tls.client_context(configuration.operator),
        timeout=600, trust_env=False,
    )  # fmt: skip

    def send(dry_run: bool) -> dict[str, int]:
        answer = client.post("/v1/dealers/import", content=content, params={"dry_run": str(dry_run).lower()})
        answer.raise_for_status()
        return dict(answer.json())

    with client:
        dry_s, dry = timed(lambda: send(dry_run=True))
        real_s, real = timed(lambda: send(dry_run=False))
        again_s, again = timed(lambda: send(dry_run=False))
        assert (dry["new"], real["new"], again["same"], dry["wrong"]) == (sites, sites, sites, 0)
        body = {"sites": [row["site"] for row in csv.DictReader(io.StringIO(content.decode()))]}
        codes_s, answer = timed(lambda: client.post("/v1/dealers/codes", json=body))
        answer.raise_for_status()
    figures = [
        figure("dealers_import_dry", dry_s, "s", sites=sites, bytes=len(content)),
        figure("dealers_import", real_s, "s", sites=sites),
        figure("dealers_import_again", again_s, "s", sites=sites),
        figure("dealers_codes", codes_s, "s", codes=len(answer.json())),
    ]
    return figures, answer.json()


def enrol(household: Household, codes: list[dict[str, str]], at_once: int, home: Path, sites: int) -> list[Figure]:
    configuration = household.configuration
    server = est_client.Server("localhost", configuration.est.port, CLOCK)
    root = (configuration.trust / "trust.pem").read_bytes()
    before = [sum(times[:2]) for times in _cpu(household)]

    def join(one: dict[str, str]) -> str:
        return est_client.enrol(server, home / one["site"], one["claim_code"], root).identity.id

    with ThreadPoolExecutor(at_once) as pool:
        took_s, joined = timed(lambda: list(pool.map(join, codes)))
    assert sorted(joined) == sorted(one["site"] for one in codes)
    cpu_s = sum(sum(times[:2]) for times in _cpu(household)) - sum(before)
    rate = len(codes) / took_s
    return [
        figure("dealers_enrolments_per_s", rate, "1/s", sites / 600, less=False, enrolled=len(codes), at_once=at_once,
               took_s=round(took_s, 1)),
        figure("dealers_enrol_all", sites / rate, "s", 600.0, sites=sites, is_extrapolated=len(codes) < sites),
        figure("dealers_enrolment_cpu", 1000 * cpu_s / len(codes), "ms", of="region's api process"),
    ]  # fmt: skip


def _cpu(household: Household) -> list[tuple[float, float]]:
    import psutil

    return [tuple(psutil.Process(one.pid).cpu_times())[:2] for one in household.supervisor.processes if one.pid]


async def table(household: Household) -> list[Figure]:
    """Opening the table, and what the exchange asks of it for each message."""
    began_s, before_kib = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = await SiteTable.open(household.database, CLOCK)
    open_s, kib = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    sites, now_us = [one.id for one in opened], CLOCK.now_us()
    began_s = time.perf_counter()
    for at in range(LOOKS):
        opened.check_site(sites[at % len(sites)], now_us)
        opened.has_brand(sites[at % len(sites)], "renault", now_us)
    look_s = time.perf_counter() - began_s
    await opened.close()
    return [
        figure("dealers_table_open", open_s, "s", sites=len(sites)),
        figure("dealers_table_memory", kib / 1024, "MiB", note="growth of the process's high-water mark"),
        figure("dealers_table_looks", LOOKS / look_s, "1/s", note="check_site and has_brand"),
    ]


async def measure(*, full: bool) -> list[Figure]:
    """The figures; dealers.py collects them. Not `full`: a tenth of the points of sale enrol."""
    return await join_all(SITES, SITES if full else SITES // 10, AT_ONCE)


async def join_all(sites: int, wanted: int, at_once: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rocade-joining-") as place:
        async with open_region(Path(place) / "region", 1, 1) as household:
            figures, codes = await asyncio.to_thread(import_and_codes, household, sites)
            figures += await table(household)
            joining = Path(place) / "joined"
            return figures + await asyncio.to_thread(enrol, household, codes[:wanted], at_once, joining, sites)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=SITES)
    parser.add_argument("--enrol", type=int, default=SITES)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    wanted = parser.parse_args()
    figures = asyncio.run(join_all(wanted.sites, wanted.enrol, wanted.at_once))
    for one in figures:
        print(f"{one['figure']:28} {one['value']:>12} {one['unit']:4} goal {one['goal']}  {one['met']}")
    conditions = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version.split()[0],
                  "load": os.getloadavg(), "clients": "on the same cores"}  # fmt: skip
    out = Path("build/bench/dealer_joining.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
