"""What vehicles say of their commands, durable before it is acknowledged.

Flow of a tick: each report is read -> those of one command are folded to the furthest state -> one transaction moves the commands
and proves at once what the twin shows already -> PUBACK. Reports late, twice or in another order change nothing; of a command
nobody knows, or of another vehicle's, they are acknowledged and counted. Refuses: `command.malformed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.mqtt import Publish, Verdict
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.vehicles.commands import ledger, store
from rocade.services.vehicles.commands.model import ACCEPTED, APPLIED, REJECTED, STATES, WAKING
from rocade.services.vehicles.commands.verifying import Rules, prove
from rocade.trust.authority.sealing import keyring_of
from rocade.wire.commands import Report, read_report

MOST_RESULT_BYTES = 4096


class Vehicle(Protocol):
    """A connected vehicle, as far as its reports need it: its reference."""

    @property
    def ref(self) -> Any: ...


class Counters(msgspec.Struct):
    """What was said since the start."""

    reports: int = 0
    unknown: int = 0
    malformed: int = 0
    applied: int = 0
    verified: int = 0
    rejected: dict[str, int] = {}


class Reports:
    def __init__(self, database: Database, catalogue: Catalogue, audit: Audit, clock: Clock) -> None:
        self._database = database
        self._rules = Rules(catalogue)
        self._audit = audit
        self._clock = clock
        self.counters = Counters()

    async def accept(self, publishes: Sequence[Publish]) -> list[Verdict]:
        """Take the reports of a tick; returns when what they say is on disk.

        Raises: Unavailable `database.down`: handing the same tick in again is harmless.
        """
        verdicts: list[Verdict] = []
        said: dict[tuple[bytes, int], ledger.Said] = {}
        for publish in publishes:
            try:
                report = read_report(publish.body)
            except Refused as refusal:
                self.counters.malformed += 1
                verdicts.append(refusal)
                continue
            key = bytes.fromhex(report.id), int(publish.context.ref)
            said[key] = _folded(said.get(key), _said(*key, report))
            verdicts.append(None)
        if said:
            try:
                await self._take(list(said.values()))
            except (*DOWN, TimeoutError) as error:
                raise Unavailable("database.down", f"reports cannot be kept now: {type(error).__name__}") from error
        self.counters.reports += len(publishes)
        return verdicts

    async def _take(self, said: Sequence[ledger.Said]) -> None:
        now_us, keys = self._clock.now_us(), keyring_of(self._database)
        async with self._database.pool.acquire() as connection, connection.transaction():
            moved, applied, known = await ledger.take_reports(connection, keys, said, now_us)
            proven: list[ledger.Applied] = []
            if applied:
                twins = await ledger.read_twins(connection, keys, [one.ref for one in applied])
                proven = await prove(connection, self._rules, applied, twins, now_us)
            await store.notify(connection, store.CHANGED_CHANNEL, {one.ref for one in moved})
        counters = self.counters
        counters.unknown += len(said) - len(known)
        counters.verified += len(proven)
        for one in moved:
            counters.applied += one.state == APPLIED
            if one.state == REJECTED:
                counters.rejected[one.code] = counters.rejected.get(one.code, 0) + 1
                facts: dict[str, str | int | float] = {"command": one.id.hex(), "act": one.act}
                vehicle = f"vehicle:{one.ref}"
                self._audit.note(AuditEntry(now_us, vehicle, "command.answer", vehicle, "refused", one.code, facts))


def _said(id: bytes, ref: int, report: Report) -> ledger.Said:
    state = STATES.index(report.state)
    result = msgspec.json.encode(report.result) if report.result else b""
    return ledger.Said(
        id, ref, state, report.code or (f"command.{report.state}" if state >= REJECTED else ""),
        result if len(result) <= MOST_RESULT_BYTES else b"",
        state == ACCEPTED, state == WAKING, state == APPLIED, report.at_us if state == APPLIED else 0,
    )  # fmt: skip


def _folded(one: ledger.Said | None, other: ledger.Said) -> ledger.Said:
    """Both together: the further state, everything that was passed."""
    if one is None:
        return other
    far, near = (other, one) if other.state > one.state else (one, other)
    return msgspec.structs.replace(
        far, accepted=far.accepted or near.accepted, waking=far.waking or near.waking, applied=far.applied or near.applied,
        vehicle_us=far.vehicle_us or near.vehicle_us, result=far.result or near.result,
    )  # fmt: skip
