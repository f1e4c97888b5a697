"""The worker: takes acknowledged records from the log to history and twin, each exactly once.

Flow of a block: leases -> read a slice -> intent (the slice's exact bounds, written under the leases' fence) -> opened (the
records are sealed) -> `digest` in a thread -> chunks into history under a token made from the bounds -> one transaction: the intent goes; positions,
twins, numbers, quarantine and unknown signals come. While one block is stored the next one is read and digested.
After a crash or a moved lease, whoever gets one of the partitions finishes the pending blocks first: same bounds, same
records, same token, so history drops what it has already. Any failure throws the memory away and starts from there.
Decision and figures: docs/decisions/0015-worker.md.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import numpy as np
import pyarrow as pa

from rocade.core.catalogue import Catalogue
from rocade.core.errors import RocadeError, Unavailable
from rocade.core.identifiers import VehicleRef
from rocade.core.latency import RecentHistogram
from rocade.core.ports import Audit, AuditEntry, Clock, Random, SystemRandom
from rocade.fabric.database import Database, Leases
from rocade.fabric.database.connection import DOWN
from rocade.fabric.history import History
from rocade.fabric.log import Log, Record
from rocade.services.telemetry.apportioning import Renewals
from rocade.services.telemetry.chunks import TABLE
from rocade.services.telemetry.condensing import LATE_US
from rocade.services.telemetry.decoding import Outcome, State, digest
from rocade.services.telemetry.ledger import Intent, Ledger
from rocade.services.telemetry.model import GROUP, JSON, STREAM, Held
from rocade.services.telemetry.sealing import RoadSeals
from rocade.services.vehicles import Registry, twin
from rocade.trust.authority.sealing import Keys, keyring_of

log = logging.getLogger(__name__)
HURRIED_S = 0.02
"""Between two reads even then: what comes together is taken together."""

type Hook = Callable[[Any, Outcome], Awaitable[None]]
"""Called inside the committing transaction (asyncpg connection): trips, outbox."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    cycle_s: float = 0.3
    """Time between two reads unless the worker is behind: large inserts against quick visibility."""
    max_records: int = 16_384
    max_bytes: int = 8 << 20
    retry_s: float = 0.5


class Counters(msgspec.Struct):
    """What the worker has done since it started."""

    blocks: int = 0
    batches: int = 0
    points: int = 0
    duplicates: int = 0
    held: int = 0
    flagged: int = 0
    erased: int = 0
    recovered: int = 0
    failures: int = 0
    newest_arrived_us: int = 0
    """Arrival of the newest record that is visible."""
    visible_p50_ms: float = 0.0
    """From arrival at the gateway to the commit that shows it, over the last 30 to 60 s in which something came."""
    visible_p99_ms: float = 0.0


class Worker:
    def __init__(
        self,
        *,
        database: Database,
        records: Log,
        history: History,
        leases: Leases,
        registry: Registry,
        catalogue: Catalogue,
        audit: Audit,
        clock: Clock,
        random: Random | None = None,
        settings: Settings | None = None,
        hooks: Sequence[Hook] = (),
        keys: Keys | None = None,
    ) -> None:
        self._database = database
        self._log = records
        self._history = history
        self._leases = leases
        self._registry = registry
        self._audit = audit
        self._clock = clock
        self._random = random or SystemRandom()
        self._settings = settings or Settings()
        self._hooks = hooks
        self._ledger = Ledger(database)
        self._keys: Keys = keys or keyring_of(database)
        self._seals = RoadSeals(self._keys)
        self._twins = twin.TwinStore(database)
        self._catalogue = catalogue
        self._state = State(catalogue)
        self.counters = Counters()
        self.hurry = asyncio.Event()
        """Set when somebody waits for what was just acknowledged: the next read comes at once."""
        self._visible = RecentHistogram()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the block at hand and hand the partitions over."""
        while not stop.is_set():
            try:
                await self._serve(stop)
            except RocadeError as error:
                self.counters.failures += 1
                log.warning("worker begins again: %s", error.code)
                await _pause(stop, self._settings.retry_s)
            except DOWN as error:
                self.counters.failures += 1
                log.warning("worker begins again: database away (%s)", type(error).__name__)
                await _pause(stop, self._settings.retry_s)
        try:
            await self._leases.release()
        except (*DOWN, asyncpg.PostgresError):
            log.warning("leases could not be released; they expire by themselves")

    async def _serve(self, stop: asyncio.Event) -> None:
        """Blocks one after the other, storing one while digesting the next; ends by an error or by `stop`."""
        self._state.clear()
        storing: asyncio.Task[None] | None = None
        partitions: list[int] = []
        after: dict[tuple[int, int], int] = {}
        try:
            while not stop.is_set():
                begun_s = self._clock.monotonic_s()
                held = await self._leases.renew()
                if held != partitions:
                    await _settled(storing)
                    storing = None
                    await self._recover(held)
                    partitions, after = held, await self._log.positions(GROUP, STREAM, held)
                taken = await self._log.read(
                    STREAM, partitions, after, self._settings.max_records, self._settings.max_bytes
                )
                if not taken.limits or stop.is_set():  # what was only read is left to whoever comes next
                    await _settled(storing)
                    storing = None
                else:
                    async with self._transaction() as connection:
                        await self._leases.guard(connection, {partition for partition, _ in taken.limits})
                        oldest_us = min((record.arrived_us for record in taken.records), default=self._clock.now_us())
                        is_late = oldest_us < self._clock.now_us() - LATE_US
                        intent = await self._ledger.begin(
                            connection, GROUP, taken.limits, self._random.bits(64), oldest_us, is_late=is_late
                        )
                    outcome = await self._digest(taken.records, storing)
                    await _settled(storing)
                    storing = asyncio.create_task(self._store(intent, outcome))
                    after.update(taken.positions)
                full = len(taken.records) * 2 >= self._settings.max_records
                if not full:
                    await self._rest(stop, self._settings.cycle_s - (self._clock.monotonic_s() - begun_s))
        finally:
            await _settled(storing)

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        """Until the next read is due, or somebody is in a hurry."""
        await _pause(stop, min(seconds, HURRIED_S))
        waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(self.hurry.wait())]
        try:
            if seconds > HURRIED_S:
                await asyncio.wait(waiting, timeout=seconds - HURRIED_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            self.hurry.clear()

    async def _recover(self, partitions: list[int]) -> None:
        """Finish what this or another worker began on these partitions, with exactly its bounds."""
        for intent in await self._ledger.pending(GROUP, partitions):
            self._state.clear()
            taken = await self._log.reread(STREAM, intent.limits)
            try:
                await self._store(intent, await self._digest(taken.records))
                self.counters.recovered += 1
            except Unavailable as error:
                if error.code != "telemetry.block.taken":
                    raise
        self._state.clear()

    async def _digest(self, records: list[Record], storing: asyncio.Task[None] | None = None) -> Outcome:
        erased = await self._ledger.erased()
        opened = await self._seals.opened(records, erased)
        outcome = await self._digest_opened(opened.records, erased, storing)
        outcome.erased += opened.gone
        outcome.held += opened.broken
        outcome.arrived_us = np.array([record.arrived_us for record in records], np.int64)
        return outcome

    async def _digest_opened(
        self, records: list[Record], erased: frozenset[int], storing: asyncio.Task[None] | None
    ) -> Outcome:
        renewals = await self._ledger.renewals({record.key for record in records})
        if self._state.twins.is_worn:
            await _settled(storing)
            self._state.clear()
        await self._load(self._state, records, renewals)
        try:
            outcome = await asyncio.to_thread(digest, records, self._state, erased, renewals)
        except Exception:
            log.exception("a block failed; looking for the record that did it")
            await _settled(storing)  # what is read from the database below must hold the block before this one
            outcome = await self._digest_without_poison(records, erased, renewals)
        outcome.renewals = renewals
        return outcome

    async def _digest_without_poison(
        self, records: list[Record], erased: frozenset[int], renewals: Renewals
    ) -> Outcome:
        """Try every record by itself; hold those that fail, process the others together."""
        good, held = [], []
        for record in records:
            scratch = State(self._catalogue)
            await self._load(scratch, [record], renewals)
            try:
                await asyncio.to_thread(digest, [record], scratch, erased, renewals)
                good.append(record)
            except Exception as error:
                held.append(_failed(record, error))
        self._state.clear()
        await self._load(self._state, good, renewals)
        try:
            outcome = await asyncio.to_thread(digest, good, self._state, erased, renewals)
        except Exception as error:
            log.exception("the block fails although each record passes; all of it is held")
            self._state.clear()
            outcome = Outcome(held=[_failed(record, error) for record in good])
        outcome.held += held
        return outcome

    async def _load(self, state: State, records: list[Record], renewals: Renewals) -> None:
        """Read what the database has on vehicles that `state` does not know yet."""
        refs = state.unknown_of({record.key for record in records})
        if refs:
            numbers = await self._ledger.load_numbers(refs)
            rows = await self._twins.packed(self._database.pool, refs)
            for ref in refs:
                state.sequences.load(ref, numbers.get(ref, ()))
                state.twins.load(ref, *rows.get(ref, (None,)))
        named = {VehicleRef(record.key) for record in records if record.kind == JSON} - state.brands.keys()
        if named:
            now = {ref: VehicleRef(renewals.now(ref)) for ref in named}
            found = await self._registry.by_refs(now.values())
            state.brands.update({ref: found[now[ref]].brand if now[ref] in found else "" for ref in named})

    async def _store(self, intent: Intent, outcome: Outcome) -> None:
        """What goes elsewhere and history first (harmless to repeat), then everything else in one transaction."""
        if outcome.forwarded:
            await self._log.append(STREAM, await self._seals.sealed(outcome.forwarded))
        if outcome.rows:
            await self._history.insert(TABLE.name, pa.concat_tables(outcome.rows), intent.token)
        held, twins = await self._seals.sealed_held(outcome.held), await twin.seal_many(self._keys, outcome.twins)
        async with self._transaction() as connection:
            await self._ledger.finish(connection, intent)
            positions = {place: upto for place, (_, upto) in intent.limits.items()}
            await self._log.commit(GROUP, STREAM, positions, connection)
            await twin.upsert_sealed(connection, twins)
            await self._ledger.store_numbers(connection, outcome.numbers)
            await self._ledger.hold(connection, held)
            await self._ledger.report_unknown(connection, outcome.unknown)
            for hook in self._hooks:
                await hook(connection, outcome)
            await self._ledger.check_renewals(connection, {row[0] for row in outcome.numbers}, outcome.renewals)
        self._note(outcome)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._database.pool.acquire() as connection, connection.transaction():
            yield connection

    def _note(self, outcome: Outcome) -> None:
        """Count, and tell the audit log what it must know."""
        counters = self.counters
        counters.blocks += 1
        counters.batches += outcome.batches
        counters.points += outcome.points
        counters.duplicates += outcome.duplicates
        counters.flagged += outcome.flagged
        counters.erased += outcome.erased
        counters.held += len(outcome.held)
        if len(outcome.arrived_us):
            now_us = self._clock.now_us()
            self._visible.add_many(now_us - outcome.arrived_us, now_us)
            counters.newest_arrived_us = max(counters.newest_arrived_us, int(outcome.arrived_us.max()))
            counters.visible_p50_ms = self._visible.quantile_us(0.5) / 1000
            counters.visible_p99_ms = self._visible.quantile_us(0.99) / 1000
        for held in outcome.held:
            self._audit.note(
                AuditEntry(
                    held.arrived_us,
                    f"vehicle:{held.ref}",
                    "telemetry.quarantine",
                    f"vehicle:{held.ref}",
                    "refused",
                    held.reason,
                )
            )
        for opened in outcome.opened:
            facts: dict[str, str | int | float] = {"epoch": f"{opened.epoch & (1 << 64) - 1:016x}"}
            if opened.closed is not None:
                facts |= {"closed": f"{opened.closed & (1 << 64) - 1:016x}", "given_up": opened.given_up}
            self._audit.note(
                AuditEntry(
                    opened.at_us,
                    f"vehicle:{opened.ref}",
                    "telemetry.epoch.opened",
                    f"vehicle:{opened.ref}",
                    facts=facts,
                )
            )


async def _settled(task: asyncio.Task[None] | None) -> None:
    """Wait for a block that is being stored; its failure is ours."""
    if task is not None:
        await task


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            pass


def _failed(record: Record, error: Exception) -> Held:
    """Where it failed; never the error's own text, which may quote the record and would stand beside its sealed body in clear."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Held(
        record.key,
        record.arrived_us,
        record.kind,
        "worker.failed",
        f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}",
        record.body,
    )
