"""Which rooms make up each role: one explicit line per service, nothing found by magic.

Each function is an async context manager that opens a role's parts, yields a `Part` and drains it on leaving, in the
order of the road: door first, engines last.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocade.app.configuration import Configuration
from rocade.app.supervisor import ballast_path
from rocade.core import catalogue
from rocade.core.errors import Misconfigured
from rocade.core.ports import Audit, Clock, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.fabric.log import Log
from rocade.fabric.log.guard import GuardedLog
from rocade.fabric.log.postgres import PostgresLog
from rocade.fabric.log.segments import Retention
from rocade.services.vehicles import Registry
from rocade.trust.authority import AuditLog, DenySet
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.directory import load_issuers
from rocade.trust.identity.issuers import IssuerTable

ROLL_CHECK_S = 2.0


@dataclass
class Part:
    """A running role as `roles` sees it: its database (for status), what it says of itself, and its background tasks."""

    database: Database
    clock: Clock
    status: Callable[[], dict[str, Any]]
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def spawn(self, work: Awaitable[Any], name: str) -> None:
        async def run() -> None:
            await work

        self.tasks.append(asyncio.create_task(run(), name=name))

    async def failed(self) -> None:
        """Return or raise when a background task ends by itself, which none of them should."""
        done, _ = await asyncio.wait(self.tasks or [asyncio.create_task(asyncio.Event().wait())],
                                     return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        for task in done:
            task.result()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Common:
    """What every role but `store` opens."""

    configuration: Configuration
    clock: Clock
    random: SystemRandom
    database: Database
    audit: AuditLog


@contextlib.asynccontextmanager
async def common(configuration: Configuration, connections: int) -> AsyncIterator[Common]:
    if not configuration.database_url:
        raise Misconfigured("app.database.unset", "set ROCADE_DATABASE_URL, or run `rocade serve` without --role")
    clock, random = SystemClock(), SystemRandom()
    database = await Database.connect(configuration.database_url, max_connections=connections)
    audit = AuditLog(database, configuration.trust / "audit", clock)
    try:
        yield Common(configuration, clock, random, database, audit)
    finally:
        await audit.close()
        await database.close()


@contextlib.asynccontextmanager
async def open_log(parts: Common) -> AsyncIterator[Log]:
    """The log named by the configuration, behind the disk guard."""
    configuration, log = parts.configuration, None
    if configuration.log.url:
        from rocade.fabric.log.jetstream import JetStreamLog

        log = await JetStreamLog.connect(configuration.log.url, parts.database, clock=parts.clock, random=parts.random)
    else:
        retention = Retention(
            age_s=configuration.log.retention_hours * 3600, limit_bytes=int(configuration.log.max_gb * 1e9)
        )
        log = PostgresLog(parts.database, random=parts.random, clock=parts.clock, retention=retention)
    try:
        yield GuardedLog(log, configuration.root, parts.clock, ballast_path(configuration))
    finally:
        await log.close()


class Rolling:
    """The server's certificate and the issuer table as they stand on disk now, read again when a file changes."""

    def __init__(self, directory: Path, client: tls.ClientCertificate) -> None:
        self._directory = directory
        self._client = client
        self._stamp: tuple[int, ...] = ()
        self.context: ssl.SSLContext
        self.issuers: IssuerTable
        self.refresh()

    def refresh(self) -> bool:
        """True when something changed since the last look; a half-written pair is looked at again next time."""
        names = ("certificate.pem", "key.pem", "issuers.json")
        stamp = tuple((self._directory / name).stat().st_mtime_ns for name in names)
        if stamp == self._stamp:
            return False
        try:
            context = tls.server_context(
                self._directory / "certificate.pem", self._directory / "key.pem", self._directory / "trust.pem",
                client=self._client,
            )  # fmt: skip
            self.issuers = load_issuers(self._directory)
        except (ssl.SSLError, OSError):
            if not self._stamp:
                raise
            return False
        self.context, self._stamp = context, stamp
        return True

    async def watch(self, changed: Callable[[ssl.SSLContext], object]) -> None:
        while True:
            await asyncio.sleep(ROLL_CHECK_S)
            if self.refresh():
                changed(self.context)


@contextlib.asynccontextmanager
async def gateway(configuration: Configuration) -> AsyncIterator[Part]:
    """MQTT door -> telemetry intake -> log."""
    from rocade.doors.mqtt import Door, Settings
    from rocade.services.telemetry.intake import Intake, Quota

    async with common(configuration, 4) as parts, open_log(parts) as log:
        rolling = Rolling(configuration.server, "required")
        denied = await DenySet.open(parts.database, parts.clock)
        settings = configuration.mqtt
        intake = Intake(
            parts.database,
            log,
            Registry(parts.database, parts.random, parts.clock),
            parts.audit,
            parts.clock,
            quota=Quota(messages_per_s=settings.vehicle_messages_per_s, bytes_per_s=settings.vehicle_kib_per_s * 1024),
        )

        def verify(leaf: bytes) -> Verified:
            return verify_leaf(leaf, rolling.issuers, parts.clock.now_us(), ("vehicle",), denied=denied)

        door = Door(
            intake,
            rolling.context,
            verify,
            parts.audit,
            is_revoked=denied.is_revoked,
            settings=Settings(
                tick_max_ms=settings.tick_ms,
                max_connections=settings.max_connections,
                max_unacknowledged_bytes=settings.buffer_mb << 20,
            ),
            clock=parts.clock,
        )
        await denied.watch(door.revoked)
        meter = door.meter

        def status() -> dict[str, Any]:
            return {
                "connections": meter.connections,
                "publishes": meter.publishes,
                "published_bytes": meter.published_bytes,
                "acknowledged": meter.acknowledged,
                "points": intake.points,
                "ack_p50_ms": meter.ack_latency.quantile_us(0.5) / 1000,
                "ack_p99_ms": meter.ack_latency.quantile_us(0.99) / 1000,
                "ack_counts": meter.ack_latency.counts,
                "waiting_bytes": meter.unacknowledged_bytes,
                "paused": meter.is_paused,
                "refusals": dict(meter.refusals),
            }

        part = Part(parts.database, parts.clock, status)
        await door.open(settings.host, settings.port)
        part.spawn(rolling.watch(door.use_context), "roll")
        part.spawn(intake.ask_for_gaps(door.send, door.connected), "gaps")
        try:
            yield part
        finally:
            await door.drain()
            await part.end()
            await denied.close()


@contextlib.asynccontextmanager
async def worker(configuration: Configuration) -> AsyncIterator[Part]:
    """Log -> decode -> history and twin; also the keeper of retention."""
    from rocade.fabric.history.client import connect
    from rocade.services.telemetry import store
    from rocade.services.telemetry.worker import Worker

    async with common(configuration, 6) as parts, open_log(parts) as log:
        history = connect(configuration.effective_history_url)
        await store.ensure(history)
        work = Worker(
            parts.database,
            log,
            history,
            catalogue.standard(),
            parts.audit,
            parts.clock,
            parts.random,
            cycle_s=configuration.worker.cycle_ms / 1000,
            lease_s=configuration.worker.lease_s,
        )
        part = Part(parts.database, parts.clock, work.status)
        part.spawn(work.run(), "worker")
        part.spawn(_trim_for_ever(log), "trim")
        try:
            yield part
        finally:
            await work.drain()
            await part.end()
            await history.close()


async def _trim_for_ever(log: Log) -> None:
    while True:
        await asyncio.sleep(30)
        with contextlib.suppress(Exception):
            await log.trim()


@contextlib.asynccontextmanager
async def api(configuration: Configuration) -> AsyncIterator[Part]:
    """HTTP API, pages and enrolment: what people and machines ask of the region."""
    from rocade.app import serving

    async with common(configuration, 8) as parts, open_log(parts) as log:
        rolling = Rolling(configuration.server, "required")
        denied = await DenySet.open(parts.database, parts.clock)
        async with serving.open_api(parts, log, rolling, denied) as part:
            yield part
        await denied.close()


type AuditPort = Audit
