"""A region with certificates, a recording intake and audit, and doors on free ports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from tests.clocks import TurnedClock
from tests.notebook import Notebook

from rocade.core.errors import RocadeError
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.mqtt import Client, Door, Publish, Settings, Verdict
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.wire import mqtt as wire

VIN = "VF1AAAAA555111111"
OTHER_VIN = "VF1AAAAA555222222"


class RecordingIntake:
    """An intake that keeps what it accepts; `verdict` and `troubles` decide what it answers."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.left: list[object] = []
        self.stored: list[Publish] = []
        self.ticks: list[int] = []
        self.handed = 0
        """Publishes it was given, whatever became of them."""
        self.wait_s = 0.0
        self.verdict: Callable[[Publish], Verdict] = lambda _publish: None
        self.troubles: list[RocadeError] = []
        self.admission: Callable[[Client], Awaitable[object]] | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def admit(self, client: Client) -> object:
        self.clients.append(client)
        return await self.admission(client) if self.admission else client

    async def accept(self, publishes: Sequence[Publish]) -> Sequence[Verdict]:
        self.handed += len(publishes)
        await asyncio.sleep(self.wait_s)
        await self.gate.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        self.ticks.append(len(publishes))
        verdicts = [self.verdict(publish) for publish in publishes]
        self.stored += [p for p, verdict in zip(publishes, verdicts, strict=True) if verdict is None]
        return verdicts

    async def leave(self, context: object) -> None:
        self.left.append(context)


class Yard:
    """A region's files: identity directories made on demand, and the door's context and check."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.region: Region = create_region(directory / "region", "eu", "test.rocade", SystemClock(), SystemRandom())
        service = directory / "door"
        issue_directory(
            self.region, service, self.region.identity("service", "gateway"), hosts=["localhost", "127.0.0.1"]
        )
        self.context = self.server_context()

    def server_context(self) -> ssl.SSLContext:
        service = self.directory / "door"
        return tls.server_context(service / "certificate.pem", service / "key.pem", service / "trust.pem")

    def identity(self, vehicle_id: str, kind: str = "vehicle", life_us: int | None = None) -> Path:
        out = self.directory / f"{kind}-{vehicle_id}-{life_us}"
        if not out.exists():
            self.region.credential(self.region.identity(kind, vehicle_id), life_us=life_us).write(out)
        return out

    def client_context(
        self, vehicle_id: str = VIN, kind: str = "vehicle", life_us: int | None = None
    ) -> ssl.SSLContext:
        return tls.client_context(self.identity(vehicle_id, kind, life_us))

    def verify(self, leaf: bytes) -> Verified:
        return verify_leaf(leaf, self.region.issuers, SystemClock().now_us(), ("vehicle",))


def held() -> TurnedClock:
    """Time that passes when a test says so: nobody is late because the machine is."""
    clock = TurnedClock()
    clock.hold()
    return clock


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, a minute at most: the machine may be busy."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


class Stand(Door):
    """A door with its port and what was handed to it at hand."""

    port: int
    intake: RecordingIntake
    audit: Notebook


class Vehicle:
    """A raw client: packets in, packets out, nothing done behind the test's back."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, vehicle_id: str, protocol: int
    ) -> None:
        self.reader, self.writer = reader, writer
        self.vehicle_id, self.protocol = vehicle_id, protocol
        self.up = f"rocade/v1/{vehicle_id}/up/batch"
        self._decoder = wire.Decoder(protocol)
        self._read: list[wire.Packet] = []

    def send(self, *packets: wire.Packet) -> None:
        self.writer.write(b"".join(wire.encode(packet, self.protocol) for packet in packets))

    def publish(self, packet_id: int, body: bytes = b"body") -> None:
        self.send(wire.Publish(self.up, body, 1 if packet_id else 0, packet_id))

    async def receive(self, limit_s: float = 120.0) -> wire.Packet | None:
        """The next packet, None at the end of the connection. Raises: TimeoutError."""
        while not self._read:
            try:
                data = await asyncio.wait_for(self.reader.read(65_536), limit_s)
            except (ConnectionError, ssl.SSLError):
                return None
            if not data:
                return None
            self._read += self._decoder.feed(data)
        return self._read.pop(0)

    async def is_silent(self, seconds: float = 0.15) -> bool:
        try:
            self._read.insert(0, await self.receive(seconds))
        except TimeoutError:
            return True
        return False


type Call = Callable[..., Awaitable[Vehicle]]
type OpenDoor = Callable[..., Awaitable[Stand]]


@pytest.fixture(scope="session", name="yard")
def a_yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return Yard(tmp_path_factory.mktemp("yard"))


@pytest.fixture(name="open_door")
async def an_open_door(yard: Yard) -> AsyncIterator[OpenDoor]:
    doors: list[Stand] = []

    async def make(settings: Settings | None = None, **more: object) -> Stand:
        intake, audit = RecordingIntake(), Notebook()
        door = Stand(intake, yard.context, yard.verify, audit, settings=settings, **more)
        door.intake, door.audit = intake, audit
        door.port = await door.open("127.0.0.1", 0)
        doors.append(door)
        return door

    yield make
    for door in doors:
        door.intake.gate.set()
        await door.drain(1.0)


@pytest.fixture(name="door")
async def a_door(open_door: OpenDoor) -> Stand:
    return await open_door()


@pytest.fixture(name="call")
async def a_call(yard: Yard) -> AsyncIterator[Call]:
    """Connect one vehicle: TLS, CONNECT, and (unless `connect` is False) a good CONNACK."""
    vehicles: list[Vehicle] = []

    async def make(
        door: Stand, protocol: int = 5, vehicle_id: str = VIN, *, connect: bool = True,
        life_us: int | None = None, **fields: object,
    ) -> Vehicle:  # fmt: skip
        context = yard.client_context(vehicle_id, life_us=life_us)
        reader, writer = await asyncio.open_connection("localhost", door.port, ssl=context)
        vehicle = Vehicle(reader, writer, vehicle_id, protocol)
        vehicles.append(vehicle)
        if connect:
            vehicle.send(wire.Connect("car", protocol, **fields))
            connack = await vehicle.receive()
            assert isinstance(connack, wire.Connack)
            assert connack.reason == 0
        return vehicle

    yield make
    for vehicle in vehicles:
        vehicle.writer.transport.abort()
