"""A household for tests of the owners' pages: people, vehicles of every kind, a workshop and an insurer, on real engines.

One thread serves the whole console over a real PostgreSQL and a real history store; `call` runs a coroutine there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import toytown
from playwright.sync_api import Page
from tests.conftest import make_custody

from rocade.console import Services, create_app
from rocade.console.my import Mine
from rocade.core import catalogue
from rocade.core.identifiers import Identity, VehicleRef
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.http import Access, Listeners, loopback_sockets
from rocade.fabric.database import Database
from rocade.fabric.history import connect
from rocade.services.consent import PURPOSES, Consents, ConsentTable, Looks
from rocade.services.telemetry import Ledger, store
from rocade.services.vehicles import Registry, Vehicle
from rocade.services.vehicles.twin import FLOAT, SLOT, Row, TwinStore, pack, upsert_many
from rocade.trust.authority.gate import Gate, Principal
from rocade.trust.authority.machines import Clients
from rocade.trust.authority.people import People, Site
from rocade.trust.authority.sealing import Keyring, keyring_of

BATTERY, FUEL = "Vehicle.Powertrain.TractionBattery.", "Vehicle.Powertrain.FuelSystem."
CARS: dict[str, tuple[tuple[str, str, str, str, str], dict[str, float]]] = {
    "e208": (
        ("VR3UHZKXZNT123456", "car", "peugeot", "e-208", "electric"),
        {f"{BATTERY}StateOfCharge.Displayed": 74.5, f"{BATTERY}Range": 251_000, f"{BATTERY}CurrentPower": -12_340,
         f"{BATTERY}StateOfHealth": 96.4, "Vehicle.Exterior.AirTemperature": 11.5, "Vehicle.TraveledDistance": 23_456_000,
         "Vehicle.Cabin.HVAC.AmbientAirTemperature": 20.5},
    ),
    "c3": (
        ("VF7SXHMZ6NT654321", "car", "citroen", "C3", "petrol"),
        {f"{FUEL}RelativeLevel": 12, f"{FUEL}AbsoluteLevel": 5.4, "Vehicle.TraveledDistance": 61_200_000,
         "Vehicle.Powertrain.CombustionEngine.EngineCoolant.Temperature": 88},
    ),
    "volta": (("VSP-0042", "moped", "vespelle", "Volta", "electric"), {f"{BATTERY}StateOfCharge.Current": 41.25}),
    "lune": (("LUNE-7731", "bicycle", "lune", "Lune", "none"), {"Vehicle.Rider.Power": 142, "Vehicle.Rider.HeartRate": 118}),
    "patin": (("PATIN-19", "standing_scooter", "lune", "Patin", "electric"), {f"{BATTERY}StateOfCharge.Current": 8.0}),
}  # fmt: skip
SPEEDS = {"e208": 43.0, "c3": 0.0, "volta": 0.0, "lune": 17.5, "patin": 0.0}


class Household:
    """Use as a context manager; `people` and `cars` by name afterwards, `link(name)` signs somebody in."""

    def __init__(self, database_url: str, history_url: str, directory: Path) -> None:
        self._database_url, self._history_url, self._directory = database_url, history_url, directory
        self._sockets = loopback_sockets(0)
        self._ready = threading.Event()
        self.address = f"http://localhost:{self._sockets[0].getsockname()[1]}"
        self.cars: dict[str, Vehicle] = {}
        self.persons: dict[str, str] = {}
        self.clock, self.random, self.notes = SystemClock(), SystemRandom(), toytown.Notes()

    def __enter__(self) -> Household:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self.listeners.stop)
        self._thread.join(60)

    def call[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.database = database = await Database.connect(self._database_url)
        database.keyring = keyring = Keyring(database, make_custody(self._directory / "custody"), self.clock)
        self.history, self.twins = connect(self._history_url), TwinStore(database)
        self.registry, self.ledger = Registry(database, self.random, self.clock), Ledger(database)
        self.people = People(database, self.notes, self.clock, self.random, Site.at(self.address), "eu")
        self.table = await ConsentTable.open(database, self.clock)
        self.looks = Looks(database, self.notes, self.clock)
        self.clients = Clients(database, self.notes, self.clock, PURPOSES)
        self.consents = Consents(database, self.notes, self.clock, self.random, renew=self._renew)
        self.access = Access(
            lambda der, _at_us: toytown.Proven(der.decode()), lambda _serial: False, Gate("eu", self.table), self.notes,
            self.clock, sessions=self.people, looks=self.looks,
        )  # fmt: skip
        await self._furnish()
        self.listeners = Listeners(create_app(self._services()), self.random, pages=self._sockets)
        serving = asyncio.create_task(self.listeners.serve())
        await self.listeners.started()
        self._ready.set()
        await serving
        await self.looks.close()
        await self.table.close()
        await self.history.close()
        await keyring.close()
        await database.close()

    def _services(self) -> Services:
        toys = toytown.Toys(1)
        built, _ = toytown.services(
            toys, self._directory, access=self.access, audit=self.notes, clock=self.clock, registry=self.registry,
            twins=self.twins, ledger=self.ledger, database=self.database, history=self.history, people=self.people,
            mine=Mine(
                consents=self.consents, table=self.table, looks=self.looks, people=self.people, clients=self.clients,
                registry=self.registry, twins=self.twins, history=self.history, ledger=self.ledger,
                database=self.database, catalogue=catalogue.standard(), audit=self.notes, clock=self.clock,
                erase=self._erase, has_town=True,
            ),
        )  # fmt: skip
        return built

    async def _renew(self, connection: Any, ref: int, _at_us: int) -> int:
        renewed = self.registry.draw_ref()
        await self.registry.renew_ref(connection, VehicleRef(ref), renewed)
        return int(renewed)

    async def _erase(self, ref: int, _actor: str) -> str:
        async with self.database.pool.acquire() as connection, connection.transaction():
            await self.twins.erase(connection, ref)
        await store.erase_vehicles(self.history, [ref])
        return "00000000000000aa"

    async def _furnish(self) -> None:
        """Léa owns everything but the scooter, which is the fleet's; Max and Ida own nothing yet."""
        await store.ensure(self.history)
        for name in ("Léa", "Max", "Ida"):
            self.persons[name] = (await self.people.add(name)).id
        for number, (name, (facts, values)) in enumerate(CARS.items()):
            self.cars[name] = car = await self.registry.add(*facts, "eu")
            await self.see(name, number, **values)
            if name != "patin":
                await self.consents.own(car.ref, self.persons["Léa"])
        for kind, name, purposes in (
            ("dealer", "garage-ronville", ("maintenance", "warranty")),
            ("partner", "assur-nord", ("insurance",)),
            ("partner", "voltaire-charge", ("charging",)),
        ):
            await self.clients.put(Identity("rocade.test", "eu", kind, name), purposes, "test")

    def ref(self, name: str) -> int:
        return int(self.cars[name].ref)

    async def see(self, name: str, number: int = 0, **values: float) -> None:
        """The vehicle says this now, and where it is."""
        names, now_us = catalogue.standard(), self.clock.now_us()
        angle = number * 1.1 + (now_us / 1e6 % 1000) * SPEEDS[name] / 3600 / 1.7
        east, north = toytown._at(1.7, angle)
        said = {"Vehicle.Speed": SPEEDS[name], "Vehicle.CurrentLocation.Longitude": east,
                "Vehicle.CurrentLocation.Latitude": north, **values}  # fmt: skip
        slots = np.zeros(len(said), SLOT)
        slots["signal"] = [int(names.by_name(one).id) for one in said]
        slots["value"] = np.array(list(said.values()), np.float64).view(np.int64)
        slots["time_us"] = slots["changed_us"] = now_us
        slots["form"] = FLOAT
        slots.sort(order="signal")
        row = Row(self.ref(name), now_us, 0, north, east, SPEEDS[name], pack(slots, ()))
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(connection, [row], keyring_of(self.database))

    async def drive(self, name: str, hours_ago: float = 3.0, minutes: int = 24) -> None:
        """A drive as this vehicle reports one: the bicycle has positions alone, the others speed and what they use."""
        start_us = int(self.clock.now_us() // 1e6 - hours_ago * 3600) * 1_000_000
        second = np.arange(minutes * 60)
        top = {"e208": 58.0, "c3": 64.0, "volta": 42.0, "lune": 21.0, "patin": 19.0}[name]
        speed = np.clip(top * (0.72 + 0.4 * np.sin(second / 83) - 0.3 * np.cos(second / 31)), 0, None)
        speed[-8:] = 0
        places = np.array([toytown._at(1.7, one) for one in np.cumsum(speed) / 3600 / 1.7 + hours_ago])
        said = {"Vehicle.CurrentLocation.Longitude": places[:, 0], "Vehicle.CurrentLocation.Latitude": places[:, 1]}
        if name != "lune":
            said["Vehicle.Speed"] = speed
        if name == "e208":
            said[f"{BATTERY}CurrentPower"] = -speed * 190 + 2500 * np.cos(second / 31)
            said[f"{BATTERY}StateOfCharge.Displayed"] = 81 - np.cumsum(speed) / 9000
        if name == "c3":
            said[f"{FUEL}AbsoluteLevel"] = np.round(6.9 - np.cumsum(speed) / 42_000, 1)
        for one, value in said.items():
            signal = int(catalogue.standard().by_name(one).id)
            await store.insert(
                self.history, toytown.samples(self.ref(name), signal, start_us, value), f"{name}-{signal}-{hours_ago}"
            )

    async def note_look(
        self, name: str, party: str, purpose: str, classes: int, grant: str = "", times: int = 1
    ) -> None:
        """Somebody looked, as the door would note it."""
        from rocade.trust.authority.gate import Permit, Right, acts

        kind, _, _id = party.partition(":")
        right = Right("none", classes, grant, is_owned=True)
        permit = Permit(Principal(kind, party, party, "token", "eu"), acts.READ_TWIN, purpose, right)
        for _ in range(times):
            self.looks.note(permit, self.ref(name), acts.READ_TWIN.name, (), self.clock.now_us())
        await self.looks.settled()

    def sign_in(self, page: Page, name: str) -> None:
        """By a one-time link, without its page."""
        secret = self.call(self.people.link(self.persons[name], "test", 600))
        session = self.call(self.people.redeem_link(secret))
        page.context.add_cookies([{"name": "rocade_session", "value": session, "url": self.address}])
