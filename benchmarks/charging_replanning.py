"""Re-planning, measured on the running replanner: from a change in the database to what is told, on PostgreSQL as it ships.

    python benchmarks/charging_replanning.py [--full]     1,000 goals; without --full 100

The replanner runs as in its role (notified, else looking four times a second). Commands are taken by a stand-in that notes when they came:
what a command costs from there on is measured by `charging_commands.py`. Changes come one at a time: a goal is changed, a car's
telemetry leaves its plan, a depot of 50 cars is dimmed, prices come that concern every goal. The clock is the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from rocade.app.supervisor import MIGRATED
from rocade.core import catalogue
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.services.charging import (
    CarFacts,
    ChargeSite,
    Charging,
    Departure,
    Engines,
    Goal,
    LimitNode,
    Place,
    SeriesValue,
    Tariff,
)
from rocade.services.charging.replanning import Replanner
from rocade.services.vehicles import Registry
from rocade.services.vehicles.commands import Capabilities, Moment, Order, Page, Standing
from rocade.services.vehicles.twin import BOOLEAN, FLOAT, SLOT, Row, TwinStore, pack, upsert_many
from rocade.trust.authority.sealing import keyring_of
from sealed import keyed, unkeyed
from silent import Silent

GOAL_MS = 1_000.0
HOUR_US = 3_600_000_000
CAR = CarFacts(capacity_kwh=52, max_kw=11, min_kw=1.4, phases=3, taper_to_kw=3)
CATALOGUE = catalogue.standard()
_BATTERY = "Vehicle.Powertrain.TractionBattery."
_SOC = CATALOGUE.by_name(f"{_BATTERY}StateOfCharge.Displayed").id
_CABLE = CATALOGUE.by_name(f"{_BATTERY}Charging.ChargingPort.AnyPosition.IsChargingCableConnected").id
_CHARGING = CATALOGUE.by_name(f"{_BATTERY}Charging.IsCharging").id
type Figure = dict[str, object]


class Taken:
    """Commands as they come; the newest of each vehicle and act is known, and proven at once."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.newest: dict[int, dict[str, Standing]] = {}
        self.at_s: dict[int, float] = {}
        self._came = asyncio.Event()

    async def order_many(self, orders: Sequence[Order]) -> list[Standing | Refused]:
        taken = [self._take(order) for order in orders]
        self._came.set()
        return list(taken)

    async def since(self, refs: Sequence[int], since_s: float, wanted: int) -> list[float]:
        """When each of them was told something since an instant, as soon as so many were."""
        async with asyncio.timeout(300):
            while len(found := [at_s for ref in refs if (at_s := self.at_s.get(ref, -1.0)) >= since_s]) < wanted:
                self._came.clear()
                await self._came.wait()
        return [at_s - since_s for at_s in found]

    def _take(self, order: Order) -> Standing:
        now_us = self.clock.now_us()
        lane = "charging.power" if order.act in ("charge.start", "charge.stop") else "charging." + order.act[7:]
        standing = Standing(
            f"{now_us:032x}", order.ref, order.act, dict(order.parameters), lane, now_us, order.by, order.purpose,
            "verified", "", 0, order.expires_us, now_us, (Moment("created", now_us),),
        )  # fmt: skip
        self.newest.setdefault(order.ref, {})[lane] = standing
        self.at_s[order.ref] = self.clock.monotonic_s()
        return standing

    async def of(self, ref: int, cursor: str | None = None, limit: int = 50) -> Page:
        return Page(list(self.newest.get(ref, {}).values())[:limit], cursor)


class Hub:
    """Charge control with many cars that are plugged in."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock, self.taken = database, SystemClock(), Taken()
        self.registry = Registry(database, SystemRandom(), self.clock)
        self.charging = Charging(
            Engines(
                database=database, audit=Silent(), clock=self.clock, random=SystemRandom(), catalogue=CATALOGUE,
                registry=self.registry, twins=TwinStore(database), commands=self.taken, capable=Capabilities(CATALOGUE),
            )
        )  # fmt: skip
        self.cars: list[int] = []

    async def fill(self, count: int) -> None:
        await self.charging.add_tariff(Tariff("fr", "FR", "price", "EUR", "Europe/Paris"), "bench")
        await self.prices(0)
        for number in range(count):
            car = await self.registry.add(f"BENCH-{number:06}", "moped", "renault", "Zoe", "electric", "eu")
            self.cars.append(int(car.ref))
            await self.charging.set_car(int(car.ref), CAR, "bench")
            await self.says(int(car.ref), 20.0 + number % 40)
            await self.goal(int(car.ref), 80)

    async def prices(self, turn: int) -> None:
        hour = self.clock.now_us() // HOUR_US * HOUR_US
        shape = 0.2 + 0.1 * np.sin(np.arange(36) * (0.3 + 0.2 * turn) + turn)
        values = [SeriesValue(hour + at * HOUR_US, hour + (at + 1) * HOUR_US, float(v)) for at, v in enumerate(shape)]
        await self.charging.put_values("fr", values, "bench")

    async def goal(self, ref: int, target: float) -> None:
        leaves = Departure("once", at_us=self.clock.now_us() + 12 * HOUR_US)
        await self.charging.set_goal(ref, Goal(ref, target, leaves, tariff="fr"), "bench")

    async def says(self, ref: int, soc: float) -> None:
        at_us, slots = self.clock.now_us(), np.zeros(3, SLOT)
        slots[0] = (at_us, int(np.float64(soc).view(np.int64)), at_us, _SOC, FLOAT, 0, 0, 0)
        slots[1] = (at_us, 1, at_us, _CABLE, BOOLEAN, 0, 0, 0)
        slots[2] = (at_us, 0, at_us, _CHARGING, BOOLEAN, 0, 0, 0)
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(
                connection, [Row(ref, at_us, 0, None, None, None, pack(slots, ()))], keyring_of(self.database)
            )

    async def told(self, refs: Sequence[int], since_s: float) -> float:
        """Seconds from an instant until each of them was told something."""
        return max(await self.taken.since(refs, since_s, len(refs)))


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Replanner]:
    replanner, stop = Replanner(hub.charging), asyncio.Event()
    task = asyncio.create_task(replanner.run(stop))
    try:
        yield replanner
    finally:
        stop.set()
        await task


async def rows(url: str, count: int, folder: Path) -> list[Figure]:
    database = keyed(await Database.connect(url, max_connections=6), folder)
    hub = Hub(database)
    await hub.fill(count)
    async with running(hub) as replanner:
        await hub.told(hub.cars, 0.0)
        goals, telemetry, prices, dimmings = [], [], [], []
        for number, ref in enumerate(hub.cars[:40]):
            since_s = hub.clock.monotonic_s()
            await hub.goal(ref, 84 + number % 5)
            goals.append(await hub.told([ref], since_s))
        for ref in hub.cars[40:80]:
            await asyncio.sleep(1.1)  # a plan younger than a second is not doubted
            since_s = hub.clock.monotonic_s()
            await hub.says(ref, 70.0)
            telemetry.append(await hub.told([ref], since_s))
        for turn in range(1, 4):
            since_s = hub.clock.monotonic_s()
            await hub.prices(turn)
            prices.append(await hub.told(hub.cars[80:], since_s))
        depot = hub.cars[-50:]
        await hub.charging.put_site(
            ChargeSite("depot", "Depot", "Europe/Paris", (LimitNode("grid", limit_kw=200),), "fr"), "bench"
        )
        for ref in depot:
            await hub.charging.put_place(Place("depot", ref), "bench")
        await asyncio.sleep(3)
        for turn in range(5):
            now_us, since_s = hub.clock.now_us(), hub.clock.monotonic_s()
            await hub.charging.dim("depot", 100 - 15 * turn, now_us, now_us + 20 * HOUR_US, f"signal-{turn}")
            dimmings.append(min(await hub.taken.since(depot, since_s, 1)))
        failures = replanner.counters.failures
    await unkeyed(database)
    await database.close()
    return [
        _row("a goal is changed -> the car is told", goals, count, failures),
        _row("telemetry leaves the plan -> the car is told", telemetry, count, failures),
        _row("a depot of 50 is dimmed -> the first car is told", dimmings, count, failures),
        _row(f"prices for {count} goals -> the last car is told", prices, count, failures),
    ]


def _row(name: str, found_s: Sequence[float], count: int, failures: int) -> Figure:
    value = round(statistics.median(found_s) * 1000, 1)
    return {
        "figure": f"re-planning: {name}", "value": value, "unit": "ms", "goal": GOAL_MS, "met": value <= GOAL_MS, "peer": "",
        "peer_value": None, "ratio": None, "worst_ms": round(max(found_s) * 1000, 1), "goals": count, "failures": failures,
    }  # fmt: skip


def measure(*, full: bool = False) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rocade-replan-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        try:
            url = postgres.start()
            migrate(url, MIGRATED)
            return asyncio.run(rows(url, 1_000 if full else 100, Path(folder)))
        finally:
            postgres.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    for row in measure(full=parser.parse_args().full):
        print(json.dumps(row))
