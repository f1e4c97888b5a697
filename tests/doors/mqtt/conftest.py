"""A region with certificates, a recording intake and audit, and doors on free ports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from rocade.core.errors import RocadeError
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.doors.mqtt import Client, Door, Publish, Settings, Verdict
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import verify_leaf

VIN = "VF1AAAAA555111111"
OTHER_VIN = "VF1AAAAA555222222"


class RecordingIntake:
    """An intake that keeps what it accepts; `verdict` and `troubles` decide what it answers."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.left: list[object] = []
        self.stored: list[Publish] = []
        self.ticks: list[int] = []
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


class RecordingAudit:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def note(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    async def record(self, entry: AuditEntry) -> None:
        self.note(entry)

    @property
    def reasons(self) -> list[str]:
        return [entry.reason for entry in self.entries]


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

    def verify(self, leaf: bytes) -> object:
        return verify_leaf(leaf, self.region.issuers, SystemClock().now_us(), ("vehicle",))


class Stand(Door):
    """A door with its port and what was handed to it at hand."""

    port: int
    intake: RecordingIntake
    audit: RecordingAudit


type OpenDoor = Callable[..., Awaitable[Stand]]


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return Yard(tmp_path_factory.mktemp("yard"))


@pytest.fixture
async def open_door(yard: Yard) -> AsyncIterator[OpenDoor]:
    doors: list[Stand] = []

    async def make(settings: Settings | None = None, **more: object) -> Stand:
        intake, audit = RecordingIntake(), RecordingAudit()
        door = Stand(intake, yard.context, yard.verify, audit, settings=settings, **more)
        door.intake, door.audit = intake, audit
        door.port = await door.open("127.0.0.1", 0)
        doors.append(door)
        return door

    yield make
    for door in doors:
        door.intake.gate.set()
        await door.drain(1.0)


@pytest.fixture
async def door(open_door: OpenDoor) -> Stand:
    return await open_door()
