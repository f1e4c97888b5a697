"""A whole region under a supervisor in a temporary folder, with cars that count for themselves what was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Self

import numpy as np
from tests.doors.mqtt.stand import Vehicle
from tests.ports import free_port

from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.custodies import custody_of
from rocade.app.supervisor import PROGRAM, Supervisor
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.fabric.history import History, connect
from rocade.services.telemetry import Ledger
from rocade.services.telemetry.footprint import points_by_vehicle
from rocade.services.vehicles import Registry
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority import Region
from rocade.trust.authority.sealing import Keyring
from rocade.trust.identity import tls
from rocade.trust.identity.directory import load_leaf
from rocade.wire import mqtt as wire
from rocade.wire.batch import Batch, Clock, Column, pack

SPEED = 1
"""Any signal id of the catalogue will do; the value is the sender's own count."""
POINTS = 5


class RunningRegion:
    """One region as `rocade serve` runs it, and what a test asks of it behind its back."""

    def __init__(
        self, directory: Path, workers: int = 1, lease_s: float = 6.0, program: Sequence[str] = PROGRAM
    ) -> None:
        loopback = "127.0.0.1"
        template = settings.Configuration(
            "eu",
            "test.rocade",
            mqtt=settings.Mqtt(loopback, free_port()),
            est=settings.Est(loopback, free_port()),
            http=settings.Http(api_host=loopback, api_port=free_port(), pages_port=free_port()),
            worker=settings.Worker(processes=workers, lease_s=lease_s, cycle_ms=100),
        )
        self.directory = directory
        initialise.create(directory / "region", "eu", "test.rocade", template=template)
        self.configuration = settings.load(directory / "region")
        self.supervisor = Supervisor(self.configuration, program)
        self.authority = Region(self.configuration.trust, SystemClock(), SystemRandom())
        self.cars: dict[str, Car] = {}
        self.refs: dict[str, int] = {}

    async def start(self, roles: tuple[str, ...] = ("store", "worker", "gateway")) -> Self:
        await self.supervisor.start(roles)
        self.database = await Database.connect(self.supervisor.database_url, max_connections=4)
        self.database.keyring = Keyring(self.database, custody_of(self.configuration), SystemClock())
        self.history: History = connect(self.configuration.effective_history_url)
        self.ledger = Ledger(self.database)
        return self

    async def stop(self) -> None:
        for car in self.cars.values():
            car.hang_up()
        if hasattr(self, "history"):
            await self.history.close()
            await self.database.close()
        await self.supervisor.stop()

    async def car(self, vehicle_id: str, protocol: int = 5) -> Car:
        """A registered car with its own identity, connected; the same one when asked again."""
        if vehicle_id not in self.cars:
            registry = Registry(self.database, SystemRandom(), SystemClock())
            self.refs[vehicle_id] = (await registry.add(vehicle_id, "car", "renault", "Twizy", "electric", "eu")).ref
            self.cars[vehicle_id] = Car(vehicle_id, self.configuration.mqtt.port, self.context(vehicle_id), protocol)
        car = self.cars[vehicle_id]
        await car.connect()
        return car

    def context(self, vehicle_id: str, life_us: int | None = None) -> ssl.SSLContext:
        folder = self.directory / "cars" / f"{vehicle_id}-{life_us}"
        if not folder.exists():
            self.authority.credential(self.authority.identity("vehicle", vehicle_id), life_us=life_us).write(folder)
        return tls.client_context(folder)

    def _certificates(self, vehicle_id: str) -> list[str]:
        """How the audit log names the certificates that this car was given."""
        folders = (self.directory / "cars").glob(f"{vehicle_id}-*")
        return [f'"certificate:{load_leaf(folder).serial_number:x}"' for folder in folders]

    def process(self, role: str, number: int = 0) -> int:
        """The pid of a running role."""
        pid = [process for process in self.supervisor.processes if process.role == role][number].pid
        assert pid is not None, f"{role} does not run"
        return pid

    async def stored(self, vehicle_id: str) -> int:
        """Points of a vehicle in the history."""
        found = await points_by_vehicle(self.history, [self.refs[vehicle_id]])
        return found.get(self.refs[vehicle_id], 0)

    async def held(self, vehicle_id: str) -> list[str]:
        """Reasons of a vehicle's records in quarantine."""
        return [one.reason for one in await self.ledger.list_held(self.refs[vehicle_id])]

    async def is_audited(self, vehicle_id: str, code: str) -> bool:
        """Whether the audit log has a refusal of this vehicle with this code: named by reference or by certificate."""
        return bool(
            await self.database.pool.fetchval(
                "SELECT count(*) FROM audit_entry WHERE EXISTS (SELECT FROM unnest($1::text[]) AS n(name)"
                " WHERE position(convert_to(name, 'UTF8') in body) > 0) AND position(convert_to($2, 'UTF8') in body) > 0",
                [f'"vehicle:{self.refs[vehicle_id]}"', *self._certificates(vehicle_id)], f'"{code}"',
            )
        )  # fmt: skip

    async def is_exact(self, vehicle_id: str) -> bool:
        """History and twin hold exactly what this car knows to be acknowledged."""
        car, ref = self.cars[vehicle_id], self.refs[vehicle_id]
        if await self.stored(vehicle_id) != car.acknowledged_points:
            return False
        twin = (await TwinStore(self.database).latest(ref)) if car.newest else None
        return car.newest is None or (twin is not None and twin.reported[SPEED].value == car.newest)

    async def settles(self, *vehicle_ids: str, limit_s: float = 120.0) -> None:
        """Return when history and twin equal these cars' own accounts; fails when they do not come to."""
        for vehicle_id in vehicle_ids:
            await eventually(lambda vehicle_id=vehicle_id: self.is_exact(vehicle_id), limit_s)
        await asyncio.sleep(0.3)  # two cycles of a worker: what would come twice has come
        for vehicle_id in vehicle_ids:
            assert await self.is_exact(vehicle_id), "something was stored twice"


class Car:
    """A sender that numbers its batches, sends again what was not acknowledged, and keeps its own account."""

    def __init__(self, vehicle_id: str, port: int, context: ssl.SSLContext, protocol: int) -> None:
        self.vehicle_id, self.protocol = vehicle_id, protocol
        self.port, self.context = port, context
        self.epoch = Random(vehicle_id).getrandbits(63) | 1
        self.number = 0
        self.acknowledged: set[int] = set()
        self.newest: float | None = None
        self.said = ""
        """Reason string of the last answer."""
        self.started_us = SystemClock().now_us() // 1_000_000 * 1_000_000 - 3_600_000_000
        self.link: Vehicle | None = None

    @property
    def acknowledged_points(self) -> int:
        return POINTS * len(self.acknowledged)

    async def connect(self) -> None:
        if self.link is not None:
            return
        reader, writer = await asyncio.open_connection("localhost", self.port, ssl=self.context)
        self.link = Vehicle(reader, writer, self.vehicle_id, self.protocol)
        self.link.send(wire.Connect(self.vehicle_id, self.protocol, keep_alive_s=60))
        answer = await self.link.receive()
        if not isinstance(answer, wire.Connack) or answer.reason:
            self.hang_up()
            raise ConnectionError(f"not let in: {answer}")

    def hang_up(self) -> None:
        if self.link is not None:
            self.link.writer.transport.abort()
            self.link = None

    def batch(self, number: int, *, shift_us: int = 0, compress: bool = False) -> bytes:
        """Batch `number`: five samples whose values nobody else sends."""
        times = self.started_us + number * POINTS * 1_000_000 + np.arange(POINTS) * 1_000_000 + shift_us
        values = (number * 1.0 + np.arange(POINTS) / 10.0) % 200
        column = Column(SPEED, 0, values, decimals=1)
        return pack(Batch(self.epoch, number, int(times[-1]) + 1000, [Clock(times)], [column]), compress=compress)

    async def send(self, body: bytes | None = None, *, within_s: float = 120.0) -> int:
        """Publish a batch (the next one) and return the reason of its acknowledgement; -1 when the connection ended."""
        number = 0
        if body is None:
            self.number += 1
            number = self.number
            body = self.batch(number)
        assert self.link is not None
        packet_id = number % 65_535 + 1
        self.link.publish(packet_id, body)
        try:
            answer = await self.link.receive(within_s)
        except TimeoutError:
            answer = None
        said = answer.properties.reason_string if isinstance(answer, wire.Puback | wire.Disconnect) else None
        self.said = said or ""
        if not isinstance(answer, wire.Puback) or answer.packet_id != packet_id:
            self.hang_up()
            self.number -= bool(number)
            return answer.reason if isinstance(answer, wire.Disconnect) else -1
        if number and not answer.reason:
            self.note(number)
        return answer.reason

    def note(self, number: int) -> None:
        """Write down that a batch was acknowledged."""
        self.acknowledged.add(number)
        if number == max(self.acknowledged):
            self.newest = round((number + (POINTS - 1) / 10.0) % 200, 1)

    async def drive(self, until: asyncio.Event, pause_s: float = 0.02) -> None:
        """Send batch after batch; whatever breaks, connect again and send the same number again."""
        while not until.is_set():
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError, AssertionError):
                await self.connect()
                await self.send()
                await asyncio.sleep(pause_s)
                continue
            self.hang_up()
            await asyncio.sleep(0.1)
        while self.link is None or await self.send() != 0:  # the last one settles what may be in doubt
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                await self.connect()
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def running(
    workers: int = 1,
    roles: tuple[str, ...] = ("store", "worker", "gateway"),
    lease_s: float = 6.0,
    place: Path | None = None,
    program: Sequence[str] = PROGRAM,
) -> AsyncIterator[RunningRegion]:
    with tempfile.TemporaryDirectory(prefix="rocade-f-", dir=place) as directory:
        region = RunningRegion(Path(directory), workers, lease_s, program)
        try:
            yield await region.start(roles)
        finally:
            await region.stop()


@contextlib.asynccontextmanager
async def driving(cars: Sequence[Car]) -> AsyncIterator[None]:
    """All these cars send meanwhile; on leaving each has settled what it had in doubt."""
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for car in cars:
            tasks.create_task(car.drive(ended))
        try:
            yield
        finally:
            ended.set()


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes that are there and do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def eventually(is_so: Callable[[], Awaitable[bool]], limit_s: float = 120.0) -> float:
    """Wait until it is so; the seconds it took. Raises: AssertionError."""
    began_s = time.monotonic()
    while True:
        with contextlib.suppress(Exception):
            if await is_so():
                return time.monotonic() - began_s
        assert time.monotonic() - began_s < limit_s, f"not so after {limit_s} s"
        await asyncio.sleep(0.1)
