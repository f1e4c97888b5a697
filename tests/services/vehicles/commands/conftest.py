"""A hub's commands over real PostgreSQL, with a region's own keys, and a car that holds what comes down a door without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.clocks import TurnedClock
from tests.notebook import Notebook

from rocade.core import catalogue
from rocade.core.identifiers import Identity
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.mqtt import Publish
from rocade.fabric.database import Database
from rocade.services.vehicles import Registry, Vehicle
from rocade.services.vehicles.commands import (
    Capabilities,
    Commands,
    Deliverer,
    Order,
    Reports,
    Standing,
    Verifier,
    store,
)
from rocade.services.vehicles.twin import BOOLEAN, INTEGER, SLOT, Row, pack, upsert_many
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.authority.signing import ServiceSigner
from rocade.trust.identity.directory import LiveIssuers
from rocade.trust.identity.signers import read_signers, unseal
from rocade.wire.commands import COMMAND_TYPE, SERVICE, Command, Report, encode_report, read_command, read_down

CATALOGUE = catalogue.standard()


class Seat(msgspec.Struct):
    """A connected vehicle, as the gateway's intake knows it."""

    ref: int
    vehicle_id: str


class Door:
    """Takes what goes down; `is_open` False = no room."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.is_open = True

    def send(self, party: str, tail: str, body: bytes) -> asyncio.Future[bool]:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.is_open:
            assert tail == "command"
            self.sent.append((party, body))
        else:
            done.set_result(False)
        return done


class Hub:
    """Everything between an order and its proof, without the sockets."""

    def __init__(self, database: Database, signer: ServiceSigner, issuers: LiveIssuers, clock: TurnedClock) -> None:
        self.database, self.clock, self.random, self.audit = database, clock, SystemRandom(), Notebook()
        self.issuers = issuers
        self.registry = Registry(database, self.random, self.clock)
        self.capabilities = Capabilities(CATALOGUE)
        self.commands = self.more_commands(signer)
        self.reports = Reports(database, CATALOGUE, self.audit, self.clock)
        self.verifier = Verifier(database, CATALOGUE, self.clock)
        self.signer = signer
        self.identity = Identity("rocade.test", "eu", "service", SERVICE)
        self.publish: Any = None
        self._serial = 0

    def more_commands(self, signer: ServiceSigner) -> Commands:
        """As another process has it."""
        return Commands(self.database, self.registry, signer, self.capabilities, self.audit, self.clock, self.random)

    async def add_vehicle(self, brand: str = "renault", model: str = "Zoe") -> Vehicle:
        self._serial += 1
        return await self.registry.add(f"MOPED-{self._serial:05}", "moped", brand, model, "electric", "eu")

    def gateway(self, *vehicles: Vehicle) -> tuple[Deliverer, Door]:
        """One with these vehicles connected."""
        connected = {int(one.ref): Seat(int(one.ref), one.id) for one in vehicles}
        door = Door()
        return Deliverer(self.database, connected, door, self.capabilities, self.clock), door

    @staticmethod
    def seat(vehicle: Vehicle) -> Seat:
        return Seat(int(vehicle.ref), vehicle.id)

    async def order(self, vehicle: Vehicle, act: str = "charge.limit", by: str = "person:01", **more: Any) -> Standing:
        parameters = more.pop("parameters", {"percent": 80} if act == "charge.limit" else {})
        return await self.commands.order(Order(int(vehicle.ref), act, parameters, by, **more))

    def opened(self, body: bytes) -> Command:
        """What a vehicle makes of what came down."""
        sealed, chain = read_down(body)
        keys = read_signers([chain.encode()], self.issuers.table, SERVICE)
        return read_command(unseal(COMMAND_TYPE, sealed, keys)[0])

    async def say(self, vehicle: Vehicle, *reports: Report, protocol: int = 5) -> list[Any]:
        """The vehicle's reports in one tick."""
        seat = Seat(int(vehicle.ref), vehicle.id)
        now_us = self.clock.now_us()
        return await self.reports.accept(
            [Publish(seat, "command", encode_report(one), now_us, protocol) for one in reports]
        )

    def report(self, standing: Standing, state: Any, at_us: int = 0, **more: Any) -> Report:
        return Report(id=standing.id, version=standing.version, state=state, at_us=at_us or self.clock.now_us(), **more)

    async def measure(self, vehicle: Vehicle, at_us: int = 0, verifier: Verifier | None = None, **values: Any) -> None:
        """A block of the worker: this twin, and the hook in its transaction. Names are the last words of signals."""
        at_us = at_us or self.clock.now_us()
        slots = packed(at_us, values)
        row = Row(int(vehicle.ref), at_us, 0, None, None, None, slots)
        hook = (verifier or self.verifier).hook
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(connection, [row], keyring_of(self.database))
            await hook(connection, Block([row]))


class Block(msgspec.Struct):
    twins: list[Row]


NAMES = {
    "limit": "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit",
    "charging": "Vehicle.Powertrain.TractionBattery.Charging.IsCharging",
    "locked": "Vehicle.Body.IsLocked",
    "speed": "Vehicle.Speed",
}


def packed(at_us: int, values: dict[str, Any]) -> bytes:
    """A twin's row."""
    import numpy as np

    slots = np.zeros(len(values), SLOT)
    for at, (name, value) in enumerate(sorted(values.items(), key=lambda one: CATALOGUE.by_name(NAMES[one[0]]).id)):
        slots[at] = (
            at_us, int(value), at_us, CATALOGUE.by_name(NAMES[name]).id, BOOLEAN if isinstance(value, bool) else INTEGER, 0, 0, 0,
        )  # fmt: skip
    return pack(slots, ())


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A region's keys, and the identity that signs commands."""
    folder = tmp_path_factory.mktemp("commands")
    region: Region = create_region(folder / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    issue_directory(region, folder / SERVICE, region.identity("service", SERVICE))
    return folder


@pytest.fixture
async def hub(database: Database, trust: Path) -> AsyncIterator[Hub]:
    clock = TurnedClock()

    async def publish(key_id: bytes, chain: bytes, not_after_us: int) -> None:
        await store.add_signer(database.pool, key_id, chain, not_after_us)

    signer = await ServiceSigner.open(trust / SERVICE, SERVICE, publish, clock)
    made = Hub(database, signer, LiveIssuers(trust / "trust"), clock)
    made.publish = publish
    yield made
    await made.commands.close()
