"""Which rooms make up each role: one explicit line per service, nothing found by magic.

Each function is an async context manager that opens a role's parts, yields a `Part` and drains it on leaving, in the
order of the road: door first, engines last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rocade.app import last_settings, tracing
from rocade.app.configuration import Configuration, RetentionRule
from rocade.app.custodies import open_keyring
from rocade.app.supervisor import ballast_path
from rocade.core import catalogue
from rocade.core.errors import Misconfigured, RocadeError, Unavailable
from rocade.core.ports import AuditEntry, Clock, SystemClock, SystemRandom
from rocade.fabric.database import Database, Leases
from rocade.fabric.database.connection import DOWN
from rocade.fabric.history import History
from rocade.fabric.log import Log
from rocade.fabric.log.guard import GuardedLog
from rocade.fabric.log.postgres import PostgresLog
from rocade.fabric.log.segments import Retention
from rocade.services.sharing import Outbox
from rocade.services.telemetry import Ledger, Worker, condensing, retention, store
from rocade.services.vehicles import Registry
from rocade.services.vehicles.sessions import GatewaySessions
from rocade.trust.authority import AuditLog, DenySet
from rocade.trust.authority.sealing import Keyring
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.directory import LiveIssuers
from rocade.trust.identity.tls import ServerIdentity

RETENTION_S = 3_600.0
_log = logging.getLogger("rocade.app")


@dataclass
class Part:
    """A running role as `roles` sees it: its database (for status), what it says of itself, and its background tasks."""

    database: Database
    clock: Clock
    status: Callable[[], dict[str, Any]]
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self.tasks.append(task)
        return task

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
    keyring: Keyring


@contextlib.asynccontextmanager
async def common(configuration: Configuration, connections: int) -> AsyncIterator[Common]:
    if not configuration.database_url:
        raise Misconfigured("app.database.unset", "set ROCADE_DATABASE_URL, or run `rocade serve` without --role")
    clock, random = SystemClock(), SystemRandom()
    database = await Database.connect(configuration.database_url, max_connections=connections)
    audit = AuditLog(database, configuration.trust / "audit", clock)
    try:
        await last_settings.keep(configuration.root, last_settings.tell(configuration.root), audit, clock)
        async with open_keyring(configuration, database, clock, audit) as keyring:
            yield Common(configuration, clock, random, database, audit, keyring)
    finally:
        await audit.close()
        await database.close()


@contextlib.asynccontextmanager
async def open_log(parts: Common) -> AsyncIterator[Log]:
    """The log named by the configuration, behind the disk guard."""
    configuration = parts.configuration
    retention = Retention(
        age_s=configuration.log.retention_hours * 3600, limit_bytes=int(configuration.log.max_gb * 1e9)
    )
    log: Log
    if configuration.log.url:
        from rocade.fabric.log.jetstream import JetStreamLog

        servers = configuration.log.url.split(",")
        log = await JetStreamLog.connect(
            parts.database, servers, random=parts.random, clock=parts.clock, retention=retention
        )
    else:
        log = PostgresLog(parts.database, random=parts.random, clock=parts.clock, retention=retention)
    try:
        yield GuardedLog(log, configuration.root, parts.clock, ballast_path(configuration))
    finally:
        await log.close()


def verifier(
    issuers: LiveIssuers, clock: Clock, kinds: tuple[str, ...], denied: DenySet
) -> Callable[[bytes], Verified]:
    """The strict certificate check for one listener, against the issuer table as it stands now."""

    def verify(leaf: bytes) -> Verified:
        return verify_leaf(leaf, issuers.table, clock.now_us(), kinds, denied=denied)

    return verify


@contextlib.asynccontextmanager
async def gateway(configuration: Configuration) -> AsyncIterator[Part]:
    """MQTT door -> telemetry intake -> log."""
    from rocade.app.carrying import CommandGateway
    from rocade.doors.mqtt import Door, Settings
    from rocade.services.telemetry import Asker, Quota, Rules, TelemetryIntake

    async with common(configuration, 4) as parts, open_log(parts) as log:
        server, issuers = ServerIdentity(configuration.server), LiveIssuers(configuration.trust)
        denied = await DenySet.open(parts.database, parts.clock)
        settings = configuration.mqtt
        intake = TelemetryIntake(
            registry=Registry(parts.database, parts.random, parts.clock),
            records=log,
            keys=parts.keyring,
            audit=parts.audit,
            clock=parts.clock,
            positions=Rules(catalogue.standard()).positions,
            quota=Quota(messages_per_s=settings.vehicle_messages_per_s, bytes_per_s=settings.vehicle_kib_per_s * 1024),
        )
        sessions = GatewaySessions(parts.database, parts.random)
        traced = tracing.TracedIntake(intake, tracing.open_spans("gateway")) if tracing.wanted() else intake
        commanding = CommandGateway(parts, intake, traced)
        door = Door(
            commanding,
            server.context,
            verifier(issuers, parts.clock, ("vehicle",), denied),
            parts.audit,
            is_revoked=denied.is_revoked,
            sessions=sessions,
            subscribed=commanding.deliverer.came,
            settings=Settings(
                tick_max_ms=settings.tick_ms,
                max_connections=settings.max_connections,
                max_unacknowledged_bytes=settings.buffer_mb << 20,
            ),
            clock=parts.clock,
        )
        commanding.over(door)
        await denied.watch(door.revoked)
        meter = door.meter

        def status() -> dict[str, Any]:
            return {
                "connections": meter.connections,
                "publishes": meter.publishes,
                "published_bytes": meter.published_bytes,
                "acknowledged": meter.acknowledged,
                "points": intake.counters.points,
                "quarantined": intake.counters.quarantined,
                "ack_p50_ms": meter.ack_latency.quantile_us(0.5) / 1000,
                "ack_p99_ms": meter.ack_latency.quantile_us(0.99) / 1000,
                "ack_counts": meter.ack_latency.counts,
                "waiting_bytes": meter.unacknowledged_bytes,
                "partial_bytes": meter.partial_bytes,
                "handshaking": meter.handshaking,
                "handshakes": meter.handshakes_done,
                "ticks": meter.ticks,
                "accept_retries": meter.accept_retries,
                "paused": meter.is_paused,
                "paused_s": round(meter.paused_us / 1e6, 3),
                "down_sent": meter.down_sent,
                "resend_asked": asker.asked,
                "refusals": dict(meter.refusals),
                **commanding.status(),
            }

        asker = Asker(intake=intake, ledger=Ledger(parts.database), records=log, sender=door, clock=parts.clock)
        part = Part(parts.database, parts.clock, status)
        await door.open(settings.host, settings.port)
        part.spawn(door.failed(), "door")
        part.spawn(sessions.listen(door.taken_over), "sessions")
        part.spawn(server.keep(), "roll")
        part.spawn(asker.run(asyncio.Event()), "resend")
        part.spawn(commanding.run(), "commands")
        try:
            yield part
        finally:
            await door.drain()
            await part.end()
            await denied.close()


def outbox_of(parts: Common) -> contextlib.AbstractAsyncContextManager[Outbox]:
    """What vehicles under a contract send, waiting for their third parties."""
    return Outbox.open(parts.database, parts.keyring, parts.clock)


@contextlib.asynccontextmanager
async def worker(configuration: Configuration) -> AsyncIterator[Part]:
    """Log -> decode -> history and twin; also the keeper of retention."""
    from rocade.app.archiving import keep_archive
    from rocade.app.carrying import CommandProof
    from rocade.fabric.history import connect
    from rocade.services.telemetry.model import GROUP, STREAM
    from rocade.services.telemetry.worker import Settings

    async with common(configuration, 6) as parts, open_log(parts) as log, outbox_of(parts) as outbox:
        history = connect(configuration.effective_history_url)
        if tracing.wanted():
            tracing.trace_inserts(history, tracing.open_spans("worker"))
        work_registry = Registry(parts.database, parts.random, parts.clock)
        leases = Leases(
            parts.database,
            GROUP,
            STREAM,
            f"{socket.gethostname()}:{os.getpid()}:{parts.random.bits(32):08x}",
            ttl_s=configuration.worker.lease_s,
        )
        proof = CommandProof(parts)
        work = Worker(
            database=parts.database,
            records=log,
            history=history,
            leases=leases,
            registry=work_registry,
            catalogue=catalogue.standard(),
            audit=parts.audit,
            clock=parts.clock,
            settings=Settings(cycle_s=configuration.worker.cycle_ms / 1000),
            hooks=(proof.hook, outbox.hook),
        )
        stop = asyncio.Event()

        lag = LagWatch(log, parts.clock)

        def status() -> dict[str, Any]:
            return {**msgspec.structs.asdict(work.counters), "lag_s": lag.seconds, "lag_records": lag.records}

        part = Part(parts.database, parts.clock, status)
        running = part.spawn(_work(work, history, stop), "worker")
        part.spawn(proof.run(work), "commands")
        part.spawn(lag.keep(), "lag")
        part.spawn(_trim_for_ever(log, keep_archive(parts, log)), "trim")
        part.spawn(_keep_past_for_ever(parts, history, work_registry, Ledger(parts.database)), "past")
        try:
            yield part
        finally:
            stop.set()
            await asyncio.wait([running], timeout=8)
            await part.end()
            await history.close()


async def _work(worker: Worker, history: History, stop: asyncio.Event) -> None:
    """As soon as the history answers; it may be waiting for its key."""
    while not stop.is_set():
        try:
            await store.ensure(history)
            break
        except Unavailable:
            await asyncio.sleep(1)
    await worker.run(stop)


class LagWatch:
    """How far the workers are behind: age of the oldest record nobody has taken in yet, once a second."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self.seconds = 0.0
        self.records = 0

    async def keep(self) -> None:
        from rocade.services.telemetry.model import GROUP, STREAM

        while True:
            with contextlib.suppress(RocadeError, OSError):
                lag = await self._log.lag(GROUP, STREAM)
                oldest_us = lag.oldest_arrived_us
                self.seconds = round((self._clock.now_us() - oldest_us) / 1e6, 3) if oldest_us else 0.0
                self.records = lag.records
            await asyncio.sleep(1)


async def _trim_for_ever(log: Log, archiving: Coroutine[Any, Any, None]) -> None:
    """What was read and archived leaves the log; an archive that is off ends at once."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(archiving, name="archive")
        while True:
            await asyncio.sleep(30)
            with contextlib.suppress(Exception):
                await log.trim()


async def _keep_past_for_ever(parts: Common, history: History, registry: Registry, ledger: Ledger) -> None:
    """Apply the retention rules and condense past days once an hour; a failure is tried again the next hour."""

    async def tell(action: str, facts: retention.Facts) -> None:
        entry = AuditEntry(parts.clock.now_us(), "service:worker", action, "history", facts=dict(facts))
        await parts.audit.record(entry)

    while True:
        await asyncio.sleep(RETENTION_S)
        try:
            rules = [await _rule(rule, registry) for rule in parts.configuration.retention]
            await retention.apply(history, rules, parts.clock.now_us(), tell)
            await condensing.condense(history, ledger, parts.clock.now_us())
        except (RocadeError, OSError, *DOWN):
            _log.exception("the past was not put in order; tried again in an hour")


async def _rule(rule: RetentionRule, registry: Registry) -> retention.Rule:
    """A configured rule with names turned into numbers."""
    signals = (int(catalogue.standard().by_name(rule.signal).id),) if rule.signal else None
    vehicles: list[int] | None = None
    wanted = {name: value for name, value in (("brand", rule.brand), ("region", rule.region)) if value}
    if wanted:
        vehicles, cursor = [], None
        while True:
            page = await registry.list(cursor, 1_000, **wanted)
            vehicles += [int(vehicle.ref) for vehicle in page.vehicles]
            if (cursor := page.cursor) is None:
                break
    of = " ".join(filter(None, (rule.signal, rule.brand, rule.region))) or "all"
    return retention.Rule(rule.days, signals, tuple(vehicles) if vehicles is not None else None, rule.counted_from, of)


@contextlib.asynccontextmanager
async def api(configuration: Configuration) -> AsyncIterator[Part]:
    """HTTP API, pages and enrolment: what people and machines ask of the region."""
    from rocade.app import serving

    async with common(configuration, 8) as parts, open_log(parts) as log:
        denied = await DenySet.open(parts.database, parts.clock)
        async with serving.open_api(parts, log, denied) as part:
            yield part
        await denied.close()
