"""A city where cars charge: prices and CO2 of two days, a depot with cars, commands that a car obeys as a test says. Real engines.

The prices are invented; what is later than tonight is a forecast. The forecourt's own gateway delivers commands, and
`car_says` lets a vehicle answer and measure, so that pages see a command's whole life.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from city import City

from rocade.console import Services
from rocade.console.application import Module
from rocade.console.charging import ChargeDesk, module
from rocade.core import catalogue
from rocade.doors.mqtt import Publish
from rocade.services.battery import Batteries, Finding, Health, Interval, Pack, Point, Seen
from rocade.services.battery import api as battery_api
from rocade.services.battery import store as battery_store
from rocade.services.charging import (
    ChargeSite,
    Charging,
    Departure,
    Engines,
    Goal,
    LimitNode,
    Place,
    SeriesValue,
    Session,
    Tariff,
)
from rocade.services.charging import ledger as charging_ledger
from rocade.services.vehicles.commands import Capabilities, Commands, Deliverer, Reports, Standing, Verifier, add_signer
from rocade.services.vehicles.twin import BOOLEAN, FLOAT, SLOT, Row, pack, upsert_many
from rocade.services.vehicles.watching import TwinWatch
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.signing import ServiceSigner
from rocade.wire.commands import IS_CHARGING, IS_LOCKED, SERVICE, Report, encode_report

BATTERY = "Vehicle.Powertrain.TractionBattery."
SAYS = {
    "soc": f"{BATTERY}StateOfCharge.Displayed",
    "cable": f"{BATTERY}Charging.ChargingPort.AnyPosition.IsChargingCableConnected",
    "charging": IS_CHARGING,
    "power": f"{BATTERY}Charging.AveragePower",
    "speed": "Vehicle.Speed",
    "locked": IS_LOCKED,
}
SECOND_US, HOUR_US, DAY_US = 1_000_000, 3_600_000_000, 86_400_000_000
PRICES = (0.19, 0.17, 0.15, 0.14, 0.14, 0.16, 0.21, 0.28, 0.29, 0.25, 0.19, 0.15, 0.11, 0.12, 0.15, 0.19, 0.24, 0.31, 0.36,
          0.34, 0.29, 0.25, 0.22, 0.20)  # fmt: skip
CARBON = (52, 48, 44, 42, 43, 50, 62, 74, 70, 58, 46, 38, 34, 36, 44, 56, 70, 84, 92, 88, 78, 68, 60, 55)
SITE = "depot-nord"


class Seat(msgspec.Struct):
    ref: int
    vehicle_id: str


class Door:
    """Takes what goes down."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, party: str, _tail: str, _body: bytes) -> asyncio.Future[bool]:
        self.sent.append(party)
        return asyncio.get_running_loop().create_future()


class Forecourt(City):
    """`car("e208", ...)` writes a car's state; Léa's e-208 stands plugged in at 42 %."""

    fleet = 10

    async def _furnish(self) -> None:
        await super()._furnish()

        async def publish(key_id: bytes, chain: bytes, not_after_us: int) -> None:
            await add_signer(self.database.pool, key_id, chain, not_after_us)

        signer = await ServiceSigner.open(self._directory / SERVICE, SERVICE, publish, self.clock, self.authority)
        names, engines = catalogue.standard(), (self.notes, self.clock, self.random)
        self.capabilities = Capabilities(names)
        self.commands = Commands(self.database, self.registry, signer, self.capabilities, *engines)
        self.reports = Reports(self.database, names, self.notes, self.clock)
        self.verifier = Verifier(self.database, names, self.clock)
        self.charging = Charging(Engines(
            database=self.database, audit=self.notes, clock=self.clock, random=self.random, catalogue=names,
            registry=self.registry, twins=self.twins, commands=self.commands, capable=self.capabilities,
        ))  # fmt: skip
        self.batteries = Batteries(self.database, None, self.registry, names, self.clock)
        await self._series()
        await self._depot()
        await self.car("e208", soc=42.0, cable=True, charging=False, power=0.0)

    async def _series(self) -> None:
        now_us = self.clock.now_us()
        first_us = now_us // (24 * HOUR_US) * 24 * HOUR_US - 24 * HOUR_US
        for id, kind, values in (("home", "price", PRICES), ("grid-co2", "co2", CARBON)):
            currency = "EUR" if kind == "price" else ""
            await self.charging.add_tariff(Tariff(id, id, kind, currency, "Europe/Paris"), "test")
            rows = [
                SeriesValue(at_us, at_us + HOUR_US, value, is_forecast=at_us > now_us + 8 * HOUR_US,
                            low=value * 0.85 if at_us > now_us + 8 * HOUR_US else None,
                            high=value * 1.15 if at_us > now_us + 8 * HOUR_US else None)
                for hour in range(96)
                for at_us, value in [(first_us + hour * HOUR_US, values[(hour + 1) % 24])]
            ]  # fmt: skip
            await self.charging.put_values(id, rows, "test")

    async def _depot(self) -> None:
        limits = (LimitNode("grid", limit_kw=60.0),)
        depot = ChargeSite(
            SITE, "Dépôt Nord", "Europe/Paris", limits, tariff="home", carbon="grid-co2", building_kw=12.0, solar_kw=4.5
        )
        await self.charging.put_site(depot, "test")
        for number in range(8):
            name = f"fleet-{number}"
            draws = number % 3 == 0
            await self.car(name, soc=20.0 + number * 9, cable=number != 5, charging=draws, power=7.2 if draws else 0.0)
            await self.charging.put_place(Place(SITE, self.ref(name), priority=int(number == 2)), "test")
            if number != 6:
                await self.charging.set_goal(self.ref(name), self.goal(1.5 + number * 1.2, 80.0), "test")

    def goal(self, hours: float = 9.0, target: float = 80.0, **more: Any) -> Goal:
        at_us = self.clock.now_us() + round(hours * HOUR_US)
        departure = Departure("once", "Europe/Paris", at_us=at_us)
        return Goal(0, target, departure, **{"share_co2": 0.5, "tariff": "home", "carbon": "grid-co2", **more})

    def _services(self) -> Services:
        built = super()._services()
        assert built.mine
        self.charge = ChargeDesk(
            charging=self.charging, commands=self.commands, capabilities=self.capabilities, registry=self.registry,
            twins=self.twins, watch=TwinWatch(self.twins), catalogue=catalogue.standard(), clock=self.clock,
            mine=built.mine, batteries=self.batteries,
        )  # fmt: skip
        return replace(
            built, modules=[module(self.charge), Module(battery_api.HANDLERS, {"batteries": self.batteries})]
        )

    async def car(self, name: str, **says: float | bool) -> None:
        """The vehicle's whole twin is this, now; what waits for it is proven, as the worker does."""
        now_us, values = self.clock.now_us(), {"speed": 0.0, **says}
        found = sorted(values.items(), key=lambda one: catalogue.standard().by_name(SAYS[one[0]]).id)
        slots = np.zeros(len(found), SLOT)
        for place, (key, value) in enumerate(found):
            bits = int(value) if isinstance(value, bool) else int(np.float64(value).view(np.int64))
            form = BOOLEAN if isinstance(value, bool) else FLOAT
            slots[place] = (now_us, bits, now_us, catalogue.standard().by_name(SAYS[key]).id, form, 0, 0, 0)
        row = Row(self.ref(name), now_us, 0, None, None, None, pack(slots, ()))
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(connection, [row], keyring_of(self.database))
            await self.verifier.hook(connection, _Block([row]))

    async def deliver(self, *names: str) -> None:
        """What waits for these vehicles goes down."""
        connected = {self.ref(name): Seat(self.ref(name), self.cars[name].id) for name in names}
        deliverer = Deliverer(self.database, connected, Door(), self.capabilities, self.clock)
        await deliverer.deliver(set(connected), set())
        await self.verifier.look()

    async def car_says(self, name: str, standing: Standing, state: Any, **more: Any) -> None:
        """The vehicle's report of a command."""
        seat, now_us = Seat(self.ref(name), self.cars[name].id), self.clock.now_us()
        report = Report(id=standing.id, version=standing.version, state=state, at_us=now_us, **more)
        await self.reports.accept([Publish(seat, "command", encode_report(report), now_us, 5)])

    async def open(self, name: str, act: str) -> Standing:
        """The newest open command of an act."""
        return next(one for one in await self.commands.open_of(self.ref(name)) if one.act == act)

    async def weigh_battery(self, name: str) -> None:
        """An answer about a battery with two years of earlier ones."""
        now_us = self.clock.now_us()
        found = Finding("known", 42, 10, now_us, Interval(93.4, 91.2, 95.5), Interval(44.8, 43.8, 45.8), 1.8, charges=30, drives=12,
                        from_us=now_us - 700 * DAY_US)  # fmt: skip
        health = Health(self.ref(name), found, Pack(48.0), Seen(reported_percent=97.0), now_us, now_us, {"cold": 7})
        points = [
            Point(
                now_us - (24 - month) * 30 * DAY_US,
                97 - month * 0.15,
                93 - month * 0.07,
                101 - month * 0.23,
                46.5,
                10 + month,
            )
            for month in range(24)
        ]
        async with self.database.pool.acquire() as connection:
            await battery_store.put_health(connection, Columns(self.database), health)
            await battery_store.put_points(connection, Columns(self.database), self.ref(name), points)

    async def charged(self, name: str, **more: Any) -> Session:
        """A session of last night."""
        now_us = self.clock.now_us()
        session = Session(**{
            "id": f"cs-{self.random.bits(64):016x}", "ref": self.ref(name), "began_us": now_us - 14 * HOUR_US,
            "ended_us": now_us - 6 * HOUR_US, "energy_kwh": 18.4, "cost_minor": 312, "currency": "EUR", "co2_g": 900,
            "at_once_minor": 455, "at_once_g": 1500, "tariff": "home", "carbon": "grid-co2", **more,
        })  # fmt: skip
        async with self.database.pool.acquire() as connection:
            await charging_ledger.put_session(connection, Columns(self.database), session, now_us)
        return session


class _Block(msgspec.Struct):
    twins: list[Row]
