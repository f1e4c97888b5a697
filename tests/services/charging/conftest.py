"""Charge control over real PostgreSQL: cars whose telemetry a test writes, and commands that are remembered and, if wanted, obeyed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.clocks import SetClock
from tests.notebook import Notebook

from rocade.core import catalogue
from rocade.core.errors import Refused
from rocade.core.ports import SystemRandom
from rocade.fabric.database import Database
from rocade.services.charging import CarFacts, Charging, Departure, Engines, Goal, Tariff
from rocade.services.charging.importing import SeriesValue
from rocade.services.charging.metering import Power
from rocade.services.charging.replanning import Replanner
from rocade.services.vehicles import Registry, Vehicle
from rocade.services.vehicles.commands import Capabilities, Moment, Order, Page, Standing
from rocade.services.vehicles.twin import BOOLEAN, FLOAT, SLOT, Row, TwinStore, pack, upsert_many
from rocade.trust.authority.sealing import keyring_of

CATALOGUE = catalogue.standard()
BATTERY = "Vehicle.Powertrain.TractionBattery."
SAYS = {
    "soc": f"{BATTERY}StateOfCharge.Displayed",
    "cable": f"{BATTERY}Charging.ChargingPort.AnyPosition.IsChargingCableConnected",
    "charging": f"{BATTERY}Charging.IsCharging",
    "power": f"{BATTERY}Charging.AveragePower",
    "speed": "Vehicle.Speed",
    "capacity": f"{BATTERY}NetCapacity",
}
SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
TODAY_US = 1_800_000_000_000_000
"""15 January 2027, 08:00 UTC, a Friday."""
OWNER = "person:01"
CAR = CarFacts(capacity_kwh=50, max_kw=10, min_kw=1.4, efficiency=1.0, taper_from_percent=100)


class Told:
    """Commands as cars get them. `refuse`: acts that are refused with this code; `state`: what becomes of a command."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.orders: list[Order] = []
        self.standings: list[Standing] = []
        self.refuse: dict[str, str] = {}
        self.state = "verified"
        self.code = ""

    async def order_many(self, orders: Sequence[Order]) -> list[Standing | Refused]:
        return [self._take(order) for order in orders]

    def _take(self, order: Order) -> Standing | Refused:
        if code := self.refuse.get(order.act):
            return Refused(code, "refused by the test")
        now_us = self.clock.now_us()
        number = len(self.orders)
        self.orders.append(order)
        lane = {"charge.start": "charging.power", "charge.stop": "charging.power"}.get(
            order.act, "charging." + order.act.partition(".")[2]
        )
        parameters: dict[str, Any] = msgspec.to_builtins(dict(order.parameters))
        standing = Standing(
            f"{number:032x}", order.ref, order.act, parameters, lane, number + 1, order.by, order.purpose, self.state,
            self.code, order.not_before_us, order.expires_us, now_us, (Moment("created", now_us),),
        )  # fmt: skip
        self.standings.append(standing)
        return standing

    async def of(self, ref: int, cursor: str | None = None, limit: int = 50) -> Page:
        return Page([one for one in reversed(self.standings) if one.ref == ref][:limit], None)

    def acts(self, ref: int | None = None) -> list[str]:
        return [order.act for order in self.orders if ref in (None, order.ref)]


class Measured:
    """Power that a test says a car drew: (from, until, kW), as samples of every minute."""

    def __init__(self) -> None:
        self.of: dict[int, list[tuple[int, int, float]]] = {}

    async def power(self, ref: int, from_us: int, until_us: int) -> Power:
        at, kw = [], []
        for begin, end, power in self.of.get(ref, []):
            steps = np.arange(begin, end, 60 * SECOND_US)
            at += [*steps.tolist(), end]
            kw += [power] * len(steps) + [0.0]
        inside = [(a, k) for a, k in zip(at, kw, strict=True) if from_us <= a < until_us]
        return Power(
            np.array([a for a, _ in inside], np.int64), np.array([k for _, k in inside], float), is_at_plug=True
        )


class Stand:
    """A region's charge control and its cars."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock, self.audit = database, SetClock(TODAY_US), Notebook()
        self.random = SystemRandom()
        self.registry = Registry(database, self.random, self.clock)
        self.told, self.measured = Told(self.clock), Measured()
        self.charging = self.another()
        self._serial = 0

    def another(self, **more: Any) -> Charging:
        """As another process has it."""
        return Charging(Engines(**{
            "database": self.database, "audit": self.audit, "clock": self.clock, "random": self.random,
            "catalogue": CATALOGUE, "registry": self.registry, "twins": TwinStore(self.database),
            "commands": self.told, "capable": Capabilities(CATALOGUE), "meters": self.measured, **more,
        }))  # fmt: skip

    async def car(self, powertrain: str = "electric", brand: str = "renault", model: str = "Zoe") -> Vehicle:
        self._serial += 1
        return await self.registry.add(f"CAR-{self._serial:05}", "moped", brand, model, powertrain, "eu")

    async def plugged_car(self, soc: float = 40.0, *, charging: bool = False) -> Vehicle:
        """`CAR`, which is its `OWNER`'s, on a cable."""
        car = await self.car()
        await self.charging.set_car(car.ref, CAR, OWNER)
        await self.says(car, soc=soc, cable=True, charging=charging, power=10.0 if charging else 0.0)
        return car

    async def says(self, vehicle: Vehicle | int, at_us: int = 0, since_us: int = 0, **values: float | bool) -> None:
        """The car's telemetry: its whole twin. `since_us`: since when all of it is as it is."""
        ref = vehicle if isinstance(vehicle, int) else int(vehicle.ref)
        at_us = at_us or self.clock.now_us()
        row = Row(ref, at_us, 0, None, None, None, packed(at_us, since_us or at_us, values))
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(connection, [row], keyring_of(self.database))

    async def prices(self, *values: float, id: str = "day-ahead", kind: Any = "price", start_us: int = TODAY_US) -> str:
        """An hour each, from now."""
        currency = "EUR" if kind == "price" else ""
        await self.charging.add_tariff(Tariff(id, id, kind, currency, "Europe/Paris"), "operator:x")
        await self.charging.put_values(
            id,
            [
                SeriesValue(start_us + at * HOUR_US, start_us + (at + 1) * HOUR_US, value)
                for at, value in enumerate(values)
            ],
            "operator:x",
        )
        return id

    def goal(self, hours: float = 8, target: float = 80, **more: Any) -> Goal:
        at_us = self.clock.now_us() + round(hours * HOUR_US)
        return Goal(**{"ref": 0, "target_percent": target, "departure": Departure("once", at_us=at_us), **more})


def packed(at_us: int, since_us: int, values: dict[str, float | bool]) -> bytes:
    slots = np.zeros(len(values), SLOT)
    for place, (name, value) in enumerate(values.items()):
        is_flag = isinstance(value, bool)
        bits = int(value) if is_flag else int(np.float64(value).view(np.int64))
        signal = CATALOGUE.by_name(SAYS.get(name, name)).id
        slots[place] = (at_us, bits, since_us, signal, BOOLEAN if is_flag else FLOAT, 0, 0, 0)
    return pack(slots, ())


@pytest.fixture
def stand(database: Database) -> Stand:
    return Stand(database)


@pytest.fixture
def replanner(stand: Stand) -> Replanner:
    return Replanner(stand.charging)
