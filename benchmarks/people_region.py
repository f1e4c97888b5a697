"""A region for the people benchmark: 10,000 owned vehicles with consents, a partner with a certificate, real API processes.

Vehicles, owners and consents are copied into their tables, as many at once; everything measured afterwards goes through the
product. Twins hold forty signals of seven data classes; the partner may see four of the classes, for insurance.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ports import free_port
from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.configuration import Configuration, Est, Http, Mqtt
from rocade.app.supervisor import MIGRATED, Supervisor
from rocade.core import catalogue
from rocade.core.data_classes import mask
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.services.consent import FOREVER_US, PURPOSES
from rocade.services.vehicles.twin import SLOT, Row, pack, upsert_many
from rocade.trust.authority import AuditLog, Region
from rocade.trust.authority.machines import Clients
from rocade.trust.authority.sealing import keyring_of
from sealed import add_vehicles, keyed, unkeyed

CLOCK, RANDOM = SystemClock(), SystemRandom()
SEEN = mask(["location", "driving", "energy", "condition"])
SIGNALS_PER_CLASS = {"location": 5, "driving": 10, "energy": 10, "condition": 10, "cabin": 5}


@dataclass
class Household:
    """What the parts of the benchmark need of the region."""

    configuration: Configuration
    database: Database
    audit: AuditLog
    supervisor: Supervisor
    postgres: EmbeddedPostgres
    partner: Path
    refs: list[int]

    def owner(self, ref: int) -> str:
        return f"person:{ref:016x}"

    def grant(self, ref: int) -> str:
        return f"grant-{ref:016x}"

    async def drive(self, refs: list[int]) -> None:
        """Write the twins of these vehicles, as a worker does."""
        now_us = CLOCK.now_us()
        rows = [Row(ref, now_us, 0, 48.1, 2.3, 50.0, pack(slots_at(now_us), ())) for ref in refs]
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(connection, rows, keyring_of(self.database))


def slots_at(now_us: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    chosen: list[int] = []
    for name, count in SIGNALS_PER_CLASS.items():
        chosen += [int(one.id) for one in catalogue.standard().signals if one.data_class == name][:count]
    slots = np.zeros(len(chosen), SLOT)
    slots["signal"], slots["time_us"], slots["changed_us"] = chosen, now_us, now_us
    slots["value"], slots["exponent"] = np.arange(len(chosen)) * 1_234, -2
    return slots


@contextlib.asynccontextmanager
async def open_region(home: Path, vehicles: int, processes: int) -> AsyncIterator[Household]:
    """PostgreSQL, tables filled, then API processes as `rocade serve` starts them."""
    wanted = Configuration(
        "eu", "bench.rocade", http=Http(processes=processes, api_port=free_port(), pages_port=free_port()),
        est=Est(port=free_port()), mqtt=Mqtt(port=free_port()),
    )  # fmt: skip
    initialise.create(home, "eu", "bench.rocade", template=wanted)
    configuration = settings.load(home)
    postgres = EmbeddedPostgres(home / "postgres")
    try:
        url = postgres.start()
        migrate(url, MIGRATED)
        database = keyed(await Database.connect(url), home)
        refs = await fill(database, vehicles)
        region = Region(configuration.trust, CLOCK, RANDOM)
        partner = home / "acme"
        region.credential(region.identity("partner", "acme")).write(partner)
        audit = AuditLog(database, configuration.trust / "audit", CLOCK)
        await Clients(database, audit, CLOCK, PURPOSES).put(region.identity("partner", "acme"), ["insurance"], "bench")
        running = msgspec.structs.replace(configuration, database_url=url)
        supervisor = Supervisor(running)
        household = Household(running, database, audit, supervisor, postgres, partner, refs)
        for at in range(0, len(refs), 1_000):
            await household.drive(refs[at : at + 1_000])
        try:
            await supervisor.start(("api",))
            yield household
        finally:
            await supervisor.stop()
            await audit.close()
            await unkeyed(database)
            await database.close()
    finally:
        postgres.stop()


async def fill(database: Database, count: int) -> list[int]:
    """Register vehicles, each with an owner of its own and one consent."""
    now_us = CLOCK.now_us() - 60_000_000
    refs = [RANDOM.bits(63) or 1 for _ in range(count)]
    cars = [
        (ref, f"BENCH-{at:06d}", "car", "renault", "Zoe", "electric", "eu", "", now_us, now_us)
        for at, ref in enumerate(refs)
    ]
    owners = [(ref, f"person:{ref:016x}", now_us, FOREVER_US) for ref in refs]
    grants = [
        (f"grant-{ref:016x}", ref, f"person:{ref:016x}", "partner:acme", "insurance", SEEN, now_us, FOREVER_US, now_us)
        for ref in refs
    ]
    await add_vehicles(database, cars)
    async with database.pool.acquire() as connection:
        await connection.copy_records_to_table("consent_owner", records=owners)
        columns = ["id", "ref", "owner", "recipient", "purpose", "classes", "from_us", "until_us", "made_us"]
        await connection.copy_records_to_table("consent_grant", records=grants, columns=columns)
        await connection.execute("ANALYZE")
    return refs
