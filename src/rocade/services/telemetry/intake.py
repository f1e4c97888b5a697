"""Intake: what the gateway does with a tick of publishes before it may acknowledge them. Implements doors.mqtt's Intake.

Flow: `admit` says which vehicle this is (lookups of a reconnecting fleet are gathered into one query, its keys too) -> `accept`
checks quota and structure of all batches of a tick in one pass -> sealed -> log append -> verdicts. A bad batch is refused to an MQTT 5
client; a 3.1.1 client cannot be told, so its batch goes through the log into quarantine and is acknowledged.
Refuses: an unknown vehicle (`vehicles.unknown`), over quota (`quota.exceeded`), another vehicle's id inside the batch
(`batch.vehicle`), every `batch.*` code of the structure check. Numbers are the worker's business (docs/batch.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Refused, RocadeError
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.mqtt import Client, Publish, Verdict
from rocade.fabric.log import Log, Record
from rocade.services.telemetry.model import BAD_BATCH, BAD_JSON, BATCH, JSON, STREAM
from rocade.services.telemetry.sealing import UNNUMBERED, Numbered, RoadSeals
from rocade.services.vehicles import Registry, Vehicle
from rocade.trust.authority.sealing import Keys
from rocade.wire.batch import CODES, Familiar, check_many, json_form

MQTT_5 = 5


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What one vehicle may send: sustained rates, and bursts of `burst_s` seconds of them."""

    messages_per_s: float = 100.0
    bytes_per_s: float = 1 << 20
    points_per_s: float = 100_000.0
    """Values after unfolding: constant columns travel as nothing."""
    burst_s: float = 60.0


class Context(msgspec.Struct, gc=False):
    """One connected vehicle."""

    vehicle_id: str
    ref: VehicleRef
    partition: int
    peer: str
    connected_us: int
    messages: float
    """Tokens left in the bucket, as of `filled_us`."""
    bytes: float
    points: float
    filled_us: int
    last_arrived_us: int = 0
    """Arrival of the newest publish that came to us; what is asked for again is judged against it."""
    is_over_quota: bool = False


class Counters(msgspec.Struct):
    """What the intake has done since it started."""

    messages: int = 0
    bytes: int = 0
    points: int = 0
    refused: dict[str, int] = {}
    quarantined: int = 0


class Sender(Protocol):
    """The door, as far as requests to vehicles need it."""

    def send(self, vehicle_id: str, tail: str, body: bytes) -> Awaitable[object]: ...


class TelemetryIntake:
    def __init__(
        self,
        *,
        registry: Registry,
        records: Log,
        keys: Keys,
        audit: Audit,
        clock: Clock,
        positions: NDArray[np.uint32],
        quota: Quota | None = None,
    ) -> None:
        self._log = records
        self._seals = RoadSeals(keys)
        self._audit = audit
        self._clock = clock
        self._positions = positions
        self._familiar = Familiar()
        self._quota = quota or Quota()
        self._lookup = _Lookup(registry, self._seals, clock)
        self.connected: dict[int, Context] = {}
        """Contexts by vehicle reference."""
        self.counters = Counters()

    async def admit(self, client: Client) -> Context:
        """Say which vehicle this is.

        Raises: Refused `vehicles.unknown`; Unavailable `database.down`, `custody.down`, `custody.refused`.
        """
        vehicle = await self._lookup.vehicle(client.identity.id)
        now_us = self._clock.now_us()
        context = Context(
            vehicle_id=vehicle.id,
            ref=vehicle.ref,
            partition=partition_of(vehicle.ref),
            peer=client.peer,
            connected_us=now_us,
            messages=self._quota.messages_per_s * self._quota.burst_s,
            bytes=self._quota.bytes_per_s * self._quota.burst_s,
            points=self._quota.points_per_s * self._quota.burst_s,
            filled_us=now_us,
        )
        before = self.connected.get(vehicle.ref)
        if before is not None:  # a takeover keeps the bucket: reconnecting is no way to more quota
            context.messages, context.bytes, context.points = before.messages, before.bytes, before.points
            context.filled_us = before.filled_us
            context.last_arrived_us = before.last_arrived_us
        self.connected[vehicle.ref] = context
        return context

    async def leave(self, context: object) -> None:
        """Forget a connection."""
        if isinstance(context, Context) and self.connected.get(context.ref) is context:
            del self.connected[context.ref]

    async def follow(self, gone: frozenset[int]) -> None:
        """Give connections of vehicles that were erased or changed hands their vehicle's new reference."""
        for ref in gone & self.connected.keys():
            context = self.connected.pop(ref)
            self._lookup.forget(context.vehicle_id)
            vehicle = await self._lookup.vehicle(context.vehicle_id)
            context.ref, context.partition = vehicle.ref, partition_of(vehicle.ref)
            self.connected[vehicle.ref] = context

    async def accept(self, publishes: Sequence[Publish]) -> list[Verdict]:
        """Check a tick of publishes and store what is to be stored; returns when that is on disk.

        Raises: Unavailable: nothing is stored; the same tick may be handed in again.
        """
        verdicts: list[Verdict] = [None] * len(publishes)
        binary: list[int] = []
        records: list[Numbered] = []
        for place, publish in enumerate(publishes):
            context: Context = publish.context
            context.last_arrived_us = max(context.last_arrived_us, publish.arrived_us)
            if not self._within_quota(context, publish):
                verdicts[place] = Refused(
                    "quota.exceeded", "more messages, bytes or values than this vehicle may send; wait"
                )
            elif publish.tail == "batch":
                binary.append(place)
            elif publish.tail == "json":
                self._place_json(place, publish, verdicts, records)
            else:
                verdicts[place] = Refused("batch.topic", "publish to up/batch or up/json")
        checked = check_many([publishes[place].body for place in binary], self._positions, self._familiar)
        points = checked.points.tolist()
        found = zip(binary, checked.reasons, checked.vehicle_ids, points, checked.sequence.tolist(), strict=True)
        for place, reason, vehicle_id, many, number in found:
            publish = publishes[place]
            context = publish.context
            context.points -= many  # may fall below zero once; the next publish is refused
            if reason is None and vehicle_id and vehicle_id != context.vehicle_id:
                reason = "batch.vehicle"
            if reason is None:
                record = Record(context.partition, context.ref, BATCH, publish.arrived_us, publish.body)
                records.append((record, number))
            else:
                self._place_bad(place, publish, reason, BAD_BATCH, verdicts, records)
        if records:
            try:
                if sealed := await self._seals.sealed_numbered(records):  # of who was just erased nothing is left
                    await self._log.append(STREAM, sealed)
            except RocadeError:
                self._give_back(publishes, verdicts)  # the door will hand this tick in again
                raise
        self._note(publishes, verdicts, sum(points))
        return verdicts

    def charge(self, publish: Publish) -> Verdict:
        """Take a publish that is no telemetry from its vehicle's bucket. Refused `quota.exceeded` when it is empty."""
        if self._within_quota(publish.context, publish):
            return None
        return Refused("quota.exceeded", "more messages, bytes or values than this vehicle may send; wait")

    def _place_json(self, place: int, publish: Publish, verdicts: list[Verdict], records: list[Numbered]) -> None:
        context: Context = publish.context
        try:
            batch = json_form.parse(publish.body)
            if batch.vehicle_id not in ("", context.vehicle_id):
                raise Refused("batch.vehicle", "")
        except Refused as error:
            self._place_bad(place, publish, error.code, BAD_JSON, verdicts, records, error.message)
        else:
            record = Record(context.partition, context.ref, JSON, publish.arrived_us, publish.body)
            records.append((record, batch.sequence))
            context.points -= batch.points
            self.counters.points += batch.points

    def _place_bad(
        self,
        place: int,
        publish: Publish,
        reason: str,
        kind: int,
        verdicts: list[Verdict],
        records: list[Numbered],
        message: str = "",
    ) -> None:
        context: Context = publish.context
        if publish.protocol >= MQTT_5:
            verdicts[place] = Refused(reason, message or CODES.get(reason, "the batch names another vehicle"))
        else:
            record = Record(context.partition, context.ref, kind, publish.arrived_us, publish.body)
            records.append((record, UNNUMBERED))
            self.counters.quarantined += 1

    def _within_quota(self, context: Context, publish: Publish) -> bool:
        """Take this publish from the vehicle's bucket."""
        size = len(publish.body)
        if publish.arrived_us > context.filled_us:
            self._fill(context, publish.arrived_us)
        if context.messages < 1 or context.bytes < size or context.points < 0:
            return False
        context.messages -= 1
        context.bytes -= size
        return True

    def _fill(self, context: Context, now_us: int) -> None:
        """What has come back to the bucket since it was last filled; once for all publishes of one moment."""
        quota, passed_s = self._quota, (now_us - context.filled_us) / 1e6
        context.filled_us = now_us
        context.messages = min(context.messages + passed_s * quota.messages_per_s, quota.messages_per_s * quota.burst_s)
        context.bytes = min(context.bytes + passed_s * quota.bytes_per_s, quota.bytes_per_s * quota.burst_s)
        context.points = min(context.points + passed_s * quota.points_per_s, quota.points_per_s * quota.burst_s)

    def _give_back(self, publishes: Sequence[Publish], verdicts: Sequence[Verdict]) -> None:
        for publish, verdict in zip(publishes, verdicts, strict=True):
            if verdict is None or verdict.code != "quota.exceeded":
                publish.context.messages += 1
                publish.context.bytes += len(publish.body)

    def _note(self, publishes: Sequence[Publish], verdicts: Sequence[Verdict], points: int) -> None:
        """Count, and audit what was refused: the first over-quota message of a row, every bad batch."""
        counters = self.counters
        counters.messages += len(publishes)
        counters.bytes += sum(len(publish.body) for publish in publishes)
        counters.points += points
        for publish, verdict in zip(publishes, verdicts, strict=True):
            context: Context = publish.context
            was_over, context.is_over_quota = context.is_over_quota, False
            if verdict is None:
                continue
            counters.refused[verdict.code] = counters.refused.get(verdict.code, 0) + 1
            if verdict.code == "quota.exceeded":
                context.is_over_quota = True
                if was_over:
                    continue
            self._audit.note(
                AuditEntry(
                    publish.arrived_us,
                    f"vehicle:{context.ref}",
                    "telemetry.accept",
                    f"vehicle:{context.ref}",
                    "refused",
                    verdict.code,
                )
            )


class _Lookup:
    """Vehicles by id: a cache of those seen lately; the rest of one moment is asked for in one query."""

    KEEP_US = 60_000_000
    MOST = 200_000

    def __init__(self, registry: Registry, seals: RoadSeals, clock: Clock) -> None:
        self._registry = registry
        self._seals = seals
        self._clock = clock
        self._cache: dict[str, tuple[int, Vehicle]] = {}
        self._wanted: dict[str, list[asyncio.Future[Vehicle]]] = {}
        self._task: asyncio.Task[None] | None = None

    def forget(self, vehicle_id: str) -> None:
        self._cache.pop(vehicle_id, None)

    async def vehicle(self, vehicle_id: str) -> Vehicle:
        found = self._cache.get(vehicle_id)
        if found is not None and self._clock.now_us() - found[0] < self.KEEP_US:
            return found[1]
        future: asyncio.Future[Vehicle] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(vehicle_id, []).append(future)
        if self._task is None:
            self._task = asyncio.create_task(self._ask())
        return await future

    async def _ask(self) -> None:
        """Answer all that is wanted, a query at a time; what comes meanwhile joins the next one."""
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                try:
                    found = await self._registry.resolve_many(wanted)
                    await self._seals.ready(vehicle.ref for vehicle in found.values())
                except RocadeError as error:
                    _answer(wanted, {}, error)
                else:
                    if len(self._cache) + len(found) > self.MOST:
                        self._cache.clear()
                    now_us = self._clock.now_us()
                    self._cache.update({key: (now_us, vehicle) for key, vehicle in found.items()})
                    _answer(
                        wanted, found, Refused("vehicles.unknown", "this vehicle is not registered; enrol it first")
                    )
        finally:
            self._task = None
            _answer(self._wanted, {}, Refused("vehicles.unknown", "the lookup was stopped"))


def _answer(
    wanted: dict[str, list[asyncio.Future[Vehicle]]], found: dict[str, Vehicle], otherwise: RocadeError
) -> None:
    for vehicle_id, futures in wanted.items():
        for future in futures:
            if future.done():
                continue
            if vehicle_id in found:
                future.set_result(found[vehicle_id])
            else:
                future.set_exception(otherwise)
