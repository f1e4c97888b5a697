"""What the door of stations hands up: who may come in, and a tick of messages made durable before any of them is answered.

Flow of `admit`: the station's row (one query for all who knock at that moment) -> closed? -> certificate or password -> profile high
enough? -> this process has its line. Flow of `accept`: each message becomes a fact -> tags looked up -> one transaction
writes transactions, meter values, connectors, boots and events -> answers -> `watchers` are told.
Refuses: `stations.refused.unknown`, `.closed`, `.certificate`, `.password`, `.profile`; values that are no numbers; actions nobody serves.
A transaction is always recorded, also with a tag that may not charge: the station is told so and stops it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.ocpp.contract import PROFILE, Answer, Asked, Caller, Problem, Version
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.gathering import Gathering
from rocade.services.charging.stations import errors, ledger, reading, store
from rocade.services.charging.stations.ledger import Meter
from rocade.services.charging.stations.model import Event, Sample, Station
from rocade.services.charging.stations.proving import Gatekeeper, Tags
from rocade.services.charging.stations.sealing import Hand, StationSeals
from rocade.services.charging.stations.turning import Known, Turned, Went

HEARTBEAT_S = 300
_SUBJECT = "station:{}"


class Context(msgspec.Struct, gc=False):
    """One connected station."""

    station: Station
    version: Version
    line: int
    """Grows with each connection of the station, in every process."""
    connected_us: int
    seen_us: int
    is_reported: bool = False
    """Whether profiles it holds were asked for and compared."""


type Watcher = Callable[[Sequence[Event]], None]
type Signer = Callable[[str, str], Awaitable[bytes]]
"""(station, PEM of its request) -> chain of certificates in PEM."""


class StationIntake:
    """Implements doors.ocpp's Handler."""

    def __init__(self, database: Database, tags: Tags, audit: Audit, clock: Clock, process: str) -> None:
        self._database, self._tags, self._audit, self._clock = database, tags, audit, clock
        self._process = process
        self._gatekeeper = Gatekeeper(clock)
        self._seals = StationSeals(database)
        self._rows = Gathering(self._load)
        self._lines = Gathering(self._claim)
        self.connected: dict[str, Context] = {}
        self.watchers: list[Watcher] = []
        self.on_opened: list[Callable[[Context], None]] = []
        self.on_profiles: list[Callable[[str, reading.Profiles], None]] = []
        self.on_signing: list[Callable[[str, str], None]] = []

    # --- coming and going -----------------------------------------------------------------------------------------

    async def admit(self, caller: Caller) -> Context:
        """Raises: Refused `stations.*`; Unavailable `database.down`."""
        try:
            found = await self._rows.get(caller.station)
            if found is None:
                self._gatekeeper.fail(caller.peer)
                raise errors.refused("unknown")
            station, secrets = found
            if station.is_closed:
                raise errors.refused("closed")
            await self._prove(caller, station, secrets)
            line = await self._lines.get((station.id, caller.version))
        except (*DOWN, asyncpg.PostgresError) as error:
            raise errors.database_down(type(error).__name__) from error
        now_us = self._clock.now_us()
        return Context(station, caller.version, line or 0, now_us, now_us)

    async def _prove(self, caller: Caller, station: Station, secrets: list[bytes]) -> None:
        if caller.way == "certificate":
            if caller.identity is None or (caller.identity.kind, caller.identity.id) != ("station", station.id):
                raise errors.refused("certificate")
            return
        if PROFILE[caller.way] < station.profile:
            raise errors.refused("profile")
        right = await self._gatekeeper.check(station.id, caller.password, secrets, caller.peer)
        if len(secrets) > 1 and right == secrets[1]:
            await store.promote_secret(self._database.pool, station.id, right)

    async def _load(self, ids: list[str]) -> dict[str, tuple[Station, list[bytes]]]:
        return await store.read_with_secrets(self._database.pool, ids)

    async def _claim(self, keys: list[tuple[str, Version]]) -> dict[tuple[str, Version], int]:
        lines = await store.claim_lines(self._database.pool, dict(keys), self._process, self._clock.now_us())
        return {key: lines[key[0]] for key in keys if key[0] in lines}

    def opened(self, context: Context) -> None:
        self.connected[context.station.id] = context
        self._tell([Event(kind="here", station=context.station.id, at_us=context.connected_us)])
        for told in self.on_opened:
            told(context)

    async def leave(self, context: Context) -> None:
        id = context.station.id
        if self.connected.get(id) is context:
            del self.connected[id]
            self._tell([Event(kind="gone", station=id, at_us=self._clock.now_us())])
        await store.release_line(self._database.pool, id, context.line, context.seen_us)

    def _tell(self, events: Sequence[Event]) -> None:
        for watcher in self.watchers:
            watcher(events)

    # --- messages -------------------------------------------------------------------------------------------------

    async def accept(self, asked: Sequence[Asked]) -> Sequence[Answer]:
        """Raises: Unavailable `database.down`: nothing was stored, or storing it again changes nothing."""
        now_us = self._clock.now_us()
        facts: list[reading.Fact | Problem] = [_read(one) for one in asked]
        for one in asked:
            one.context.seen_us = one.arrived_us
        try:
            hand = await self._seals.at_hand()
            facts = [_named(fact, hand) if isinstance(fact, reading.Turn) else fact for fact in facts]
            marks = self._marks(facts, hand)
            tags = await store.read_tags(self._database.pool, list(marks.values())) if marks else {}
            tick = _Tick(asked, facts, tags, marks, hand, now_us)
            if tick.has_work:
                async with self._database.pool.acquire() as connection, connection.transaction():
                    await tick.write(connection)
        except (*DOWN, asyncpg.PostgresError) as error:
            if isinstance(error, (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)):
                raise
            raise errors.database_down(type(error).__name__) from error
        answers = [self._answer(one, fact, tick) for one, fact in zip(asked, facts, strict=True)]
        self._tell(tick.events)
        return answers

    def _marks(self, facts: Sequence[reading.Fact | Problem], hand: Hand) -> dict[str, bytes]:
        """Under what each tag that was shown is known here."""
        shown = {fact.tag for fact in facts if isinstance(fact, (reading.Shown, reading.Turn)) and fact.tag}
        return {tag: hand.blind_tag(self._tags.digest(tag)) for tag in shown}

    def _answer(self, one: Asked, fact: reading.Fact | Problem, tick: _Tick) -> Answer:
        station: Station = one.context.station
        if isinstance(fact, Problem):
            return fact
        if isinstance(fact, reading.Noted):
            return fact.answer
        if isinstance(fact, reading.Booted):
            now = reading.write_instant(tick.now_us)
            return {"currentTime": now, "interval": HEARTBEAT_S, "status": "Accepted"}
        if isinstance(fact, reading.Alive):
            return {"currentTime": reading.write_instant(tick.now_us)}
        if isinstance(fact, reading.Signing):
            is_taken = bool(self.on_signing) and fact.is_own
            if is_taken:
                for told in self.on_signing:
                    told(station.id, fact.csr)
            return {"status": "Accepted" if is_taken else "Rejected"}
        if isinstance(fact, reading.Profiles):
            for heard in self.on_profiles:
                heard(station.id, fact)
            return {}
        if isinstance(fact, reading.Alarm):
            entry = AuditEntry(
                fact.at_us, _SUBJECT.format(station.id), "stations.security", "door:ocpp", "done", fact.kind
            )
            self._audit.note(entry)
            return {}
        info = "idTagInfo" if one.version == "1.6" else "idTokenInfo"
        if isinstance(fact, reading.Shown):
            return {info: {"status": tick.status_of(station, fact.tag, one.version)}}
        if isinstance(fact, reading.Turn):
            answer: dict[str, Any] = {}
            if fact.tag:
                answer[info] = {"status": tick.status_of(station, fact.tag, one.version)}
            if one.version == "1.6" and fact.kind == "began":
                answer.setdefault(info, {"status": "Accepted" if station.is_open else "Invalid"})
                answer["transactionId"] = tick.known[station.id, fact.reference].number
            return answer
        return {}


def _read(one: Asked) -> reading.Fact | Problem:
    try:
        fact = reading.read(one.version, one.action, one.payload, one.arrived_us)
    except Refused as refusal:
        return Problem("PropertyConstraintViolation", refusal.code, refusal.message)
    except (KeyError, TypeError, AttributeError, OverflowError):
        return Problem("PropertyConstraintViolation", "stations.message", "this message cannot be read")
    if fact is None:
        return Problem("NotSupported", "stations.action", "this message is not served here")
    return fact


def _named(fact: reading.Turn, hand: Hand) -> reading.Turn:
    """1.6 has no name for what begins: ours holds what the meter showed, so it is blinded."""
    if fact.kind != "began" or not fact.is_named_here:
        return fact
    return msgspec.structs.replace(fact, reference=hand.blind_reference(fact.reference))


class _Tick:
    """One tick while it is being written."""

    def __init__(
        self, asked: Sequence[Asked], facts: Sequence[reading.Fact | Problem], tags: dict[bytes, store.TagRow],
        marks: dict[str, bytes], hand: Hand, now_us: int,
    ) -> None:  # fmt: skip
        self.now_us = now_us
        self.known: dict[tuple[str, str], Known] = {}
        self.events: list[Event] = []
        self._tags, self._marks, self._hand = tags, marks, hand
        self._turns: list[tuple[Turned, reading.Turn]] = []
        self._goes: list[tuple[Went, reading.Turn | reading.Metered]] = []
        self._loose: list[tuple[str, reading.Metered]] = []
        self._said: dict[tuple[str, int, int], reading.Said] = {}
        self._boots: list[tuple[str, str, str, str, str]] = []
        self._alarms: list[tuple[str, reading.Alarm]] = []
        for one, fact in zip(asked, facts, strict=True):
            self._sort(one.context.station, fact)
        self.has_work = bool(
            self._turns or self._goes or self._loose or self._said or self._boots or self._alarms
        )  # fmt: skip

    def status_of(self, station: Station, tag: str, version: str) -> str:
        """Whether a tag may charge here, in the version's words."""
        found = self._tags.get(self._marks[tag])
        if found is None:
            return "Accepted" if station.is_open else ("Invalid" if version == "1.6" else "Unknown")
        if found.is_blocked:
            return "Blocked"
        return "Expired" if found.ends_us is not None and found.ends_us <= self.now_us else "Accepted"

    def _sort(self, station: Station, fact: reading.Fact | Problem) -> None:
        id = station.id
        if isinstance(fact, reading.Turn):
            if fact.reference:
                self._turns.append((self._turned(id, fact), fact))
            else:
                self._goes.append((_went(id, fact.number, fact.samples, fact), fact))
        elif isinstance(fact, reading.Metered):
            if fact.number:
                self._goes.append((_went(id, fact.number, fact.samples), fact))
            else:
                self._loose.append((id, fact))
        elif isinstance(fact, reading.Said):
            self._said[id, fact.evse, fact.connector] = fact
        elif isinstance(fact, reading.Booted):
            self._boots.append((id, fact.vendor, fact.model, fact.serial, fact.firmware))
        elif isinstance(fact, reading.Alarm):
            self._alarms.append((id, fact))

    def _turned(self, station: str, fact: reading.Turn) -> Turned:
        tag = self._marks[fact.tag] if fact.tag else None
        found = self._tags.get(tag) if tag else None
        last_us, last_wh, last_w, last_soc = _last(fact.samples, fact.at_us, fact.wh)
        has_ended = fact.kind == "ended"
        return Turned(
            station, fact.reference, fact.evse, fact.connector, tag, found.vehicle if found else None, fact.at_us,
            fact.wh if fact.kind == "began" else None, fact.at_us if has_ended else None, fact.wh if has_ended else None,
            fact.reason, last_us, last_wh, last_w, last_soc, fact.sequence,
        )  # fmt: skip

    async def write(self, connection: asyncpg.Connection) -> None:
        meters: list[Meter] = []
        if self._turns:
            self.known = await ledger.turn(connection, self._hand, [row for row, _ in self._turns], self.now_us)
            for row, turn in self._turns:
                known = self.known[row.station, row.reference]
                self._happened(row.station, turn.kind, turn.at_us, known, turn.samples, meters)
            await self._moved(connection)
        if self._goes:
            await self._go(connection, meters)
        for id, metered in self._loose:
            self._happened(id, "updated", 0, Known(0, None, metered.evse, 0), metered.samples, meters)
        if meters:
            await ledger.add_meters(connection, self._hand, meters)
        await self._write_rest(connection)

    async def _go(self, connection: asyncpg.Connection, meters: list[Meter]) -> None:
        found = await ledger.go(connection, self._hand, [row for row, _ in self._goes], self.now_us)
        orphans: list[Turned] = []
        for row, fact in self._goes:
            known = found.get((row.station, row.number))
            kind = fact.kind if isinstance(fact, reading.Turn) else "updated"
            if known is None and kind == "ended":  # began before we knew the station, or under a number it made up
                known = Known(row.number, None, 0, 0)
                orphans.append(Turned(
                    row.station, f"stop/{row.number}/{row.ended_us}", 0, 0, None, None, row.ended_us or self.now_us, None,
                    row.ended_us, row.ended_wh, row.reason, row.last_us, row.last_wh, row.last_w, row.last_soc, 0,
                ))  # fmt: skip
            evse = fact.evse if isinstance(fact, reading.Metered) else 0
            self._happened(
                row.station,
                kind,
                row.ended_us or row.last_us,
                known or Known(row.number, None, evse, evse),
                fact.samples,
                meters,
            )
        if orphans:
            await ledger.turn(connection, self._hand, orphans, self.now_us)

    def _happened(
        self, station: str, kind: str, at_us: int, known: Known, samples: Sequence[Sample], meters: list[Meter]
    ) -> None:
        vehicle = VehicleRef(known.vehicle) if known.vehicle else None
        place = {"station": station, "evse": known.evse, "connector": known.connector, "transaction": known.number}
        if known.is_new:  # its beginning may have been lost
            self.events.append(Event(kind="began", at_us=at_us, vehicle=vehicle, **place))  # type: ignore[arg-type]  # names above
        for sample in samples:
            meters.append(Meter(station, known.evse, known.number, known.vehicle, sample))
            self.events.append(Event(kind="sample", at_us=sample.at_us, vehicle=vehicle, sample=sample, **place))  # type: ignore[arg-type]
        if kind == "ended":
            self.events.append(Event(kind="ended", at_us=at_us, vehicle=vehicle, **place))  # type: ignore[arg-type]

    async def _moved(self, connection: asyncpg.Connection) -> None:
        """A vehicle that begins here and has not ended elsewhere has changed its plug."""
        begun = {known.vehicle: known for known in self.known.values() if known.vehicle and known.is_new}
        if not begun:
            return
        numbers = [known.number for known in begun.values()]
        for vehicle, station, evse, connector, number in await ledger.open_elsewhere(
            connection, self._hand, list(begun), numbers
        ):
            self.events.append(Event(
                kind="moved", station=station, at_us=self.now_us, evse=evse, connector=connector, transaction=number,
                vehicle=VehicleRef(vehicle), code="stations.vehicle.moved",
            ))  # fmt: skip

    async def _write_rest(self, connection: asyncpg.Connection) -> None:
        if self._said:
            rows = [(*key, said.state, said.error, said.at_us) for key, said in self._said.items()]
            await ledger.put_connectors(connection, rows)
            self.events += [
                Event(kind="state", station=id, at_us=said.at_us, evse=evse, connector=connector, code=said.state)
                for (id, evse, connector), said in self._said.items()
            ]
        if self._boots:
            await ledger.put_boots(connection, self._boots, self.now_us)
            self.events += [Event(kind="booted", station=row[0], at_us=self.now_us) for row in self._boots]
        self.events += [Event(kind="security", station=id, at_us=one.at_us, code=one.kind) for id, one in self._alarms]
        kept = [one for one in self.events if one.kind not in {"sample", "state"}]
        if kept:
            await ledger.add_events(
                connection, [(one.station, one.at_us, one.kind, one.evse, one.transaction, one.code) for one in kept]
            )


def _last(
    samples: Sequence[Sample], at_us: int, wh: float | None
) -> tuple[int, float | None, float | None, float | None]:
    """(instant, register, power, charge) as said last."""
    watts = soc = None
    for sample in samples:
        wh = sample.energy_wh if sample.energy_wh is not None else wh
        watts = sample.watts if sample.watts is not None else watts
        soc = sample.soc_percent if sample.soc_percent is not None else soc
        at_us = max(at_us, sample.at_us)
    return at_us, wh, watts, soc


def _went(station: str, number: int, samples: Sequence[Sample], end: reading.Turn | None = None) -> Went:
    last_us, last_wh, last_w, last_soc = _last(samples, end.at_us if end else 0, end.wh if end else None)
    if end is None:
        return Went(station, number, None, None, "", last_us, last_wh, last_w, last_soc)
    return Went(station, number, end.at_us, end.wh, end.reason, last_us, end.wh, last_w, last_soc)
