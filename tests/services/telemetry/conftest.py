"""A road without sockets: registry, log, intake, worker and a real history store, one set a test."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.clocks import TurnedClock
from tests.notebook import Notebook

from rocade.core import catalogue
from rocade.core.identifiers import Identity
from rocade.core.ports import SystemRandom
from rocade.doors.mqtt import Client, Publish
from rocade.fabric.database import Database, Leases
from rocade.fabric.history import History, connect
from rocade.fabric.history.process import StoreProcess
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.telemetry import Eraser, Handover, Ledger, TelemetryIntake, Worker, store
from rocade.services.telemetry.worker import Settings
from rocade.services.vehicles import Registry, Vehicle
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority.erasure import Erasures
from rocade.trust.authority.region import create_region
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.identity.directory import load_root
from rocade.wire.batch import Batch, Clock, Column, pack

T0_US = 1_760_000_000_000_000
CATALOGUE = catalogue.standard()


def signal_id(name: str) -> int:
    return int(CATALOGUE.by_name(name).id)


SPEED = signal_id("Vehicle.Speed")
LATITUDE = signal_id("Vehicle.CurrentLocation.Latitude")
LONGITUDE = signal_id("Vehicle.CurrentLocation.Longitude")


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """A real store process for the whole session."""
    with tempfile.TemporaryDirectory(prefix="rocade-st-") as directory:
        process = StoreProcess(Path(directory))
        yield process.start()
        process.stop()


@pytest.fixture
async def history(store_url: str) -> AsyncIterator[History]:
    client = connect(store_url)
    async with asyncio.timeout(60):
        while True:
            try:
                await store.ensure(client)
                break
            except Exception:
                await asyncio.sleep(0.1)
    yield client
    await client.close()


class Road:
    """Everything between a publish and a value, without the door."""

    SPEED, LATITUDE, LONGITUDE, T0_US, CATALOGUE = SPEED, LATITUDE, LONGITUDE, T0_US, CATALOGUE

    def __init__(self, database: Database, history: History, directory: Path) -> None:
        self.clock, self.random, self.audit = TurnedClock(), SystemRandom(), Notebook()
        self.database, self.history = database, history
        self.registry = Registry(database, self.random, self.clock)
        self.log = PostgresLog(database)
        self.ledger, self.twins = Ledger(database), TwinStore(database)
        self.handover = Handover(database, self.registry, self.twins, self.ledger, self.clock)
        create_region(directory / "trust", "eu", "rocade.test", self.clock, self.random)
        self.erasures = Erasures(
            database, self.audit, self.clock, self.random, directory / "erasures", directory / "trust/audit",
            load_root(directory / "trust/trust.pem"),
        )  # fmt: skip
        self.eraser = Eraser(self.handover, self.erasures, database, history, self.log, self.clock)
        self.intake = TelemetryIntake(
            registry=self.registry,
            records=self.log,
            keys=keyring_of(database),
            audit=self.audit,
            clock=self.clock,
            positions=np.array([LATITUDE, LONGITUDE], np.uint32),
        )
        self._serial = 0

    @staticmethod
    def speed_batch(
        number: int, speeds: list[float], *, epoch: int = 7, start_us: int | None = None, step_us: int = 1_000_000
    ) -> bytes:
        """A batch of Vehicle.Speed at 1 Hz; batch n starts a minute after batch n - 1."""
        start_us = T0_US + number * 60_000_000 if start_us is None else start_us
        times = start_us + np.arange(len(speeds)) * step_us
        return pack(Batch(epoch, number, int(times[-1]), [Clock(times)], [Column(SPEED, 0, np.array(speeds))]))

    async def add_vehicle(self) -> Vehicle:
        self._serial += 1
        return await self.registry.add(f"MOPED-{self._serial:05}", "moped", "peugeot", "Kisbee", "electric", "eu")

    async def renew(self, vehicle: Vehicle) -> Vehicle:
        """The same vehicle under a new reference."""
        async with self.database.pool.acquire() as connection, connection.transaction():
            await self.registry.renew_ref(connection, vehicle.ref, self.registry.draw_ref())
        return await self.registry.resolve(vehicle.id)

    async def erase(self, ref: int, actor: str) -> int | None:
        """All of it, as the API process does it one after the other; the vehicle's new reference."""
        ordered = await self.eraser.erase(ref, actor, is_physical=True)
        await self.eraser.work()
        assert (await self.erasures.find(ordered.id)).done_us
        return ordered.renewed or None

    async def connect(self, vehicle: Vehicle, protocol: int = 5) -> Any:
        identity = Identity("rocade.test", "eu", "vehicle", vehicle.id)
        return await self.intake.admit(Client(identity, "c", protocol, "peer"))

    async def publish(self, context: Any, *bodies: bytes, tail: str = "batch", protocol: int = 5) -> list[Any]:
        now_us = self.clock.now_us()
        return list(await self.intake.accept([Publish(context, tail, body, now_us, protocol) for body in bodies]))

    def worker(self, name: str = "w1", **settings: float) -> Worker:
        """Its leases outlast whatever a busy machine lets it wait; a test that wants them over says so to the database."""
        return Worker(
            database=self.database,
            records=self.log,
            history=self.history,
            leases=Leases(self.database, "telemetry", "telemetry", name, ttl_s=90.0),
            registry=self.registry,
            catalogue=CATALOGUE,
            audit=self.audit,
            clock=self.clock,
            settings=Settings(cycle_s=0.02, retry_s=0.05, **settings),  # type: ignore[arg-type]
        )

    async def work(self, until: Any, worker: Worker | None = None, timeout_s: float = 60) -> Worker:
        """Run a worker until `until()` (a coroutine function) is true."""
        worker = worker or self.worker()
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        try:
            async with asyncio.timeout(timeout_s):
                while not await until() and not task.done():
                    await asyncio.sleep(0.02)
        finally:
            stop.set()
            await asyncio.wait_for(task, 30)
        return worker

    async def drain(self, worker: Worker | None = None) -> Worker:
        """Run a worker until the log has nothing unread."""

        async def is_empty() -> bool:
            return (await self.log.lag("telemetry", "telemetry")).records == 0

        return await self.work(is_empty, worker)

    async def samples(self, ref: int) -> dict[int, list[tuple[int, Any, int]]]:
        """Everything in history of one vehicle: signal -> (time, value, quality)."""
        from rocade.services.telemetry.chunks import TABLE, samples_of

        table = await self.history.query(
            f"SELECT * FROM {TABLE.name} WHERE vehicle = {{v:UInt64}} ORDER BY signal, t0_us", {"v": ref}
        )
        found: dict[int, list[tuple[int, Any, int]]] = {}
        for row in range(table.num_rows):
            some = samples_of(table.slice(row, 1))
            found.setdefault(table["signal"][row].as_py(), []).extend(
                zip(some.time_us.tolist(), some.value.tolist(), some.quality.tolist(), strict=True)
            )
        for values in found.values():
            values.sort(key=lambda value: value[0])  # chunks of one hour may overlap
        return found


@pytest.fixture
async def road(database: Database, history: History, tmp_path: Path) -> AsyncIterator[Road]:
    made = Road(database, history, tmp_path)
    yield made
    await made.log.close()
