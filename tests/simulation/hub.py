"""The hub's processes: gateways (real sessions, group commit, intake, asker) and workers (real worker, real digest).

Only sockets, SQL and engines are simulated. A process that is killed leaves what it had in memory; its successor is a new
object that begins with what `Disk` holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from engines import Disk, MemoryHistory, MemoryKeys, MemoryLeases, MemoryLedger, MemoryLog, MemoryPool
from network import Wire
from virtual_loop import BEGIN_US, Dice, Process, VirtualLoop

from rocade.core.catalogue import Catalogue
from rocade.core.identifiers import Identity, VehicleRef
from rocade.core.ports import AuditEntry
from rocade.doors.mqtt.commit import GroupCommit
from rocade.doors.mqtt.contract import VEHICLE_TAILS, Settings
from rocade.doors.mqtt.house import House
from rocade.doors.mqtt.meter import Meter
from rocade.doors.mqtt.refusals import Refusals
from rocade.doors.mqtt.session import Session
from rocade.services.telemetry.intake import TelemetryIntake
from rocade.services.telemetry.quality import Rules
from rocade.services.telemetry.resend import Asker
from rocade.services.telemetry.worker import Settings as Pace
from rocade.services.telemetry.worker import Worker
from rocade.services.vehicles import Vehicle, twin

PACE = Pace(cycle_s=3.0, max_records=1024)
FAR_US = BEGIN_US + 10**15


class NoAudit:
    """Keeps codes, so that a world can say what was refused."""

    def __init__(self) -> None:
        self.reasons: set[str] = set()

    def note(self, entry: AuditEntry) -> None:
        if entry.reason:
            self.reasons.add(entry.reason)

    async def record(self, entry: AuditEntry) -> None:
        self.note(entry)


class Registry:
    """Vehicles by id."""

    def __init__(self, vehicles: Iterable[Vehicle]) -> None:
        self._vehicles = {vehicle.id: vehicle for vehicle in vehicles}

    async def resolve_many(self, ids: Iterable[str]) -> dict[str, Vehicle]:
        return {one: self._vehicles[one] for one in ids if one in self._vehicles}

    async def by_refs(self, refs: Iterable[VehicleRef]) -> dict[VehicleRef, Vehicle]:
        return {one.ref: one for one in self._vehicles.values() if one.ref in set(refs)}


class Verified:
    """What a certificate check would have proven."""

    serial = 1
    not_after_us = FAR_US

    def __init__(self, vehicle_id: str) -> None:
        self.identity = Identity("sim", "eu", "vehicle", vehicle_id)
        self.reference = self.identity.uri


class GatewayLink:
    """What a session sees of a wire."""

    peer = "simulated"
    unsent_bytes = 0

    def __init__(self, gateway: Gateway, wire: Wire) -> None:
        self._gateway, self._wire = gateway, wire
        self._unread: list[bytes | None] = []
        self._is_held = False
        self.session: Session
        wire.gateway_end = self._receive

    @property
    def is_read(self) -> bool:
        return not self._is_held

    def hold(self) -> None:
        self._is_held = True

    def release(self) -> None:
        self._is_held = False
        self.read_on()

    def write(self, data: bytes | bytearray) -> None:
        if self._gateway.process.is_alive and data:
            self._wire.down.put(bytes(data))

    def part(self) -> None:
        self._wire.down.end()

    def read_on(self) -> None:
        """Hand over what came while nobody read."""
        while self._unread and not self._is_held and not self._gateway.meter.is_paused:
            self._take(self._unread.pop(0))

    def _receive(self, data: bytes | None) -> None:
        if self._gateway.process.is_alive:
            self._unread.append(data)
            self.read_on()

    def _take(self, data: bytes | None) -> None:
        if self.session.is_closed:
            return
        if data is None:
            self.session.close()
        else:
            self.session.received(data, self._gateway.clock.now_us())


class Claims:
    """`Sessions` across gateways: the newest claim wins, the others are told a little later."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.newest = 0
        self.gateways: list[Gateway] = []

    async def claim(self, party: str, /) -> int:
        self.newest += 1
        for gateway in self.gateways:
            self.loop.call_later(0.5, gateway.taken_over, party, self.newest)
        return self.newest

    async def release(self, party: str, claim: int, /) -> None:
        pass


class Gateway:
    """One gateway process."""

    def __init__(
        self, disk: Disk, dice: Dice, catalogue: Catalogue, registry: Registry, claims: Claims, writer: int
    ) -> None:
        self.loop, self.clock = disk.loop, disk.clock
        self.process = Process(disk.loop, dice)
        self.meter = Meter()
        self._links: list[GatewayLink] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._number = 0
        log = MemoryLog(disk, self.process, writer)
        audit: Any = NoAudit()
        self.intake = TelemetryIntake(
            registry=registry,  # type: ignore[arg-type]  # as much of a registry as intake asks for
            records=log, keys=MemoryKeys(disk, self.process), audit=audit, clock=self.clock, positions=Rules(catalogue).positions,
        )  # fmt: skip
        settings = Settings()
        self._commit = GroupCommit(self.intake, settings, self.clock, self.meter, self._pause, self._resume)
        self.house = House(
            settings, self.clock, self.meter, Refusals(audit, self.clock, self.meter), self.intake, claims,
            asyncio.Semaphore(settings.max_admissions), self._commit.add, self._part, self._spawn, {}, VEHICLE_TAILS,
            lambda _context: None,
        )  # fmt: skip
        asker = Asker(
            intake=self.intake, ledger=MemoryLedger(disk, self.process),  # type: ignore[arg-type]  # the same words without SQL
            records=log, sender=self, clock=self.clock,
        )  # fmt: skip
        self.process.start(self._commit.run())
        self.process.start(self._check())
        self.process.start(asker.run(asyncio.Event()))
        claims.gateways.append(self)

    @property
    def is_open(self) -> bool:
        return self.process.is_alive

    def welcome(self, wire: Wire) -> None:
        self._number += 1
        link = GatewayLink(self, wire)
        link.session = Session(
            self.house,
            link,  # type: ignore[arg-type]  # a link without a socket
            Verified(f"CAR-{wire.vehicle}"),
            self._number,
            self.clock.now_us(),
        )
        self._links.append(link)

    def kill(self) -> None:
        self.process.kill()
        for link in self._links:
            link._wire.die()

    def taken_over(self, party: str, claim: int) -> None:
        session = self.house.parties.get(party)
        if self.process.is_alive and session and session.lost_to(claim):
            session.close(0x8E)

    def send(self, party: str, tail: str, body: bytes) -> Any:
        session = self.house.parties.get(party)
        return session.send(tail, body) if session and self.process.is_alive else None

    async def _check(self) -> None:
        while self.process.is_alive:
            await asyncio.sleep(5.0)
            self._links = [link for link in self._links if not link.session.is_closed]
            for link in self._links:
                link.session.check(self.clock.now_us(), self.clock.now_us() if self.meter.is_paused else 0)

    def _part(self, session: Session) -> None:
        session.link.part()

    def _spawn(self, work: Any) -> None:
        task = self.process.start(work)
        self.process.tasks.pop()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pause(self) -> None:
        self.meter.is_paused = True

    def _resume(self) -> None:
        if self.meter.is_paused:
            self.meter.is_paused = False
            for link in list(self._links):
                link.read_on()


class WorkerProcess:
    """One worker process."""

    def __init__(self, disk: Disk, dice: Dice, catalogue: Catalogue, registry: Registry, number: int) -> None:
        self.process = Process(disk.loop, dice)
        self.stop = asyncio.Event()
        pool, keys = MemoryPool(disk, self.process), MemoryKeys(disk, self.process)
        self.worker = Worker(
            database=pool,  # type: ignore[arg-type]  # tables without SQL
            records=MemoryLog(disk, self.process, 0),
            history=MemoryHistory(disk, self.process),  # type: ignore[arg-type]  # inserts are all a worker does
            leases=MemoryLeases(disk, self.process, f"worker-{number}"),  # type: ignore[arg-type]  # the same fences
            registry=registry,  # type: ignore[arg-type]  # as much as JSON needs
            catalogue=catalogue, audit=NoAudit(), clock=disk.clock, random=dice, settings=PACE,
            keys=keys,
        )  # fmt: skip
        self.worker._ledger = MemoryLedger(disk, self.process)  # type: ignore[assignment]
        self.worker._twins = _Twins(keys)  # type: ignore[assignment]
        self.process.start(self.worker.run(self.stop))

    def kill(self) -> None:
        self.process.kill()


class _Twins:
    """What a worker that begins to serve vehicles reads of them."""

    def __init__(self, keys: MemoryKeys) -> None:
        self._keys = keys

    async def packed(self, connection: Any, refs: Sequence[int]) -> Any:
        return await twin.packed(connection, self._keys, refs)
