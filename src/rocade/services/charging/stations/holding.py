"""The work of a process that holds stations' lines: limits and orders carried out, returns looked after, lines given up.

Flow: a notification or a poll -> limits wanted and orders queued for the stations that are here -> each station's in its own
task, in order. A station that comes is asked what it can, cleaned and sent what is wanted. What happens is told to
`Stations.watchers` after it is durable. Another process that gets a station's new connection is heard of, and the old one closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

import asyncpg

from rocade.core.errors import RocadeError, Unavailable
from rocade.core.ports import Clock
from rocade.doors.ocpp import OcppDoor
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import follow
from rocade.services.charging.stations import ledger, store
from rocade.services.charging.stations.dialect import SETTLE_US
from rocade.services.charging.stations.intake import Context, Signer, StationIntake
from rocade.services.charging.stations.limiting import Limiter
from rocade.services.charging.stations.model import Event
from rocade.services.charging.stations.ordering import Ordering
from rocade.services.charging.stations.returning import Returning
from rocade.services.charging.stations.service import Stations
from rocade.services.charging.stations.store import Order
from rocade.trust.authority.sealing.columns import Columns

AT_ONCE = 32
"""Stations that are looked after at the same moment when all of them return."""
SWEEP_S = 30.0
GREETING_S = 3.0
"""A station that has just been started says so first (OCPP wants to hear that before anything else); one that comes back does not."""
DAY_US = 86_400_000_000
_log = logging.getLogger(__name__)


class Holding:
    """`run()` works for ever; `close()` ends it."""

    def __init__(
        self, database: Database, intake: StationIntake, door: OcppDoor, stations: Stations, clock: Clock, process: str, *,
        signer: Signer | None = None, settle_us: int = SETTLE_US, greeting_s: float = GREETING_S,
        keep_days: float = 400.0,
    ) -> None:  # fmt: skip
        self._database, self._intake, self._door, self._stations = database, intake, door, stations
        self._columns = Columns(database)
        self._clock, self._process, self._signer, self._keep_days = clock, process, signer, keep_days
        self.limiter = Limiter(database, door.call, self._context, self._tell, clock, settle_us)
        self._returning = Returning(database, door.call, clock)
        self._ordering = Ordering(database, door.call, clock, stations.random, stations.tag_keys)
        self._greeting_s = greeting_s
        self._busy = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._returned: set[str] = set()
        self._looking: dict[str, asyncio.Task[None]] = {}
        intake.watchers += [self.limiter.heard, self._heard, self._tell]
        intake.on_opened.append(self._opened)
        intake.on_profiles.append(self._returning.reported)
        if signer is not None:
            intake.on_signing.append(self._sign)

    def _context(self, station: str) -> Context | None:
        return self._intake.connected.get(station)

    def _tell(self, events: Sequence[Event]) -> None:
        for watcher in self._stations.watchers:
            watcher(events)

    async def run(self) -> None:
        await store.release_all(self._database.pool, self._process)
        await asyncio.gather(follow(self._database, store.WORK_CHANNEL, self._work), self._hear_lines(), self._sweep())

    async def close(self) -> None:
        await self.limiter.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- limits and orders ----------------------------------------------------------------------------------------

    async def _work(self, connection: asyncpg.Connection) -> None:
        here = list(self._intake.connected)
        if not here:
            return
        has_orders, wanted = await store.has_work(connection, here)
        for standing in wanted:
            if standing.place.station in self._returned:  # else it is sent when the station has been looked after
                self._spawn(self._limit(standing))
        if has_orders:
            by_station: dict[str, list[Order]] = {}
            for order in await store.claim_orders(connection, self._columns, here, self._clock.now_us()):
                by_station.setdefault(order.station, []).append(order)
            for station, orders in by_station.items():
                self._spawn(self._carry_out(station, orders))

    async def _limit(self, standing: Any) -> None:
        await self.limiter.apply(standing)

    async def _carry_out(self, station: str, orders: Sequence[Order]) -> None:
        for order in orders:
            state, answer, code = "done", {}, ""
            context = self._context(station)
            try:
                if order.act == "close":
                    self._door.close_station(station, "this station was closed")
                elif context is None:
                    raise Unavailable("stations.away", "the station is not connected any more")
                else:
                    answer = await self._ordering.carry_out(context, order)
            except RocadeError as error:
                state, code = "failed", error.code
                answer = {"kind": str(error.facts["kind"])} if "kind" in error.facts else {}
            except (KeyError, ValueError, TypeError, StopIteration):
                state, code = "failed", "stations.invalid"
            await store.settle_order(
                self._database.pool, self._columns, order.id, state, answer, code, self._clock.now_us()
            )

    # --- a station returns ----------------------------------------------------------------------------------------

    def _opened(self, context: Context, *, has_greeted: bool = False) -> None:
        """Look after a station; once more from the beginning when it says that it has just been started."""
        id = context.station.id
        self._returned.discard(id)
        if earlier := self._looking.pop(id, None):
            earlier.cancel()
        self._looking[id] = self._spawn(self._look_after(context, 0 if has_greeted else self._greeting_s))

    def _heard(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind == "booted" and (context := self._context(event.station)) is not None:
                self._opened(context, has_greeted=True)
            elif event.kind == "gone":
                self._looking.pop(event.station, None)
                self._returned.discard(event.station)

    async def _look_after(self, context: Context, wait_s: float) -> None:
        id = context.station.id
        await asyncio.sleep(wait_s)
        async with self._busy:
            try:
                memory = await self.limiter.dialect(id)
                if not memory.is_asked:
                    await self._returning.learn(context, memory)
                    await self.limiter.keep(id)
                wanted = [one for one in await store.read_limits(self._database.pool, [id])
                          if one.limit.until_us > self._clock.now_us()]  # fmt: skip
                for code in await self._returning.clean(context, wanted):
                    event = Event(kind="obsolete", station=id, at_us=self._clock.now_us(), code=code)
                    await store.add_event(self._database.pool, event)
                    self._tell([event])
                self._returned.add(id)
                for standing in await store.read_limits(self._database.pool, [id]):
                    if standing.limit.until_us > self._clock.now_us():
                        await self.limiter.apply(standing)
            except RocadeError as error:
                self._returned.add(id)
                _log.info("a station could not be looked after: %s", error.code)

    def _sign(self, station: str, request: str) -> None:
        self._spawn(self._certify(station, request))

    async def _certify(self, station: str, request: str) -> None:
        """Certify the station's key and hand it the chain."""
        if self._signer is None:
            return
        try:
            chain = await self._signer(station, request)
            await self._door.call(station, "CertificateSigned", {"certificateChain": chain.decode()})
        except RocadeError as error:
            event = Event(kind="security", station=station, at_us=self._clock.now_us(), code=error.code)
            await store.add_event(self._database.pool, event)

    # --- lines ----------------------------------------------------------------------------------------------------

    async def _hear_lines(self) -> None:
        """Close a line whose station has connected to another process since."""

        def heard(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            process, line, id = str(payload).split(" ", 2)
            context = self._context(id)
            if process != self._process and context is not None and context.line < int(line):
                self._door.close_station(id)

        while True:
            with contextlib.suppress(*DOWN, asyncpg.PostgresError):
                connection = await asyncpg.connect(self._database.url, timeout=10)
                try:
                    await connection.add_listener(store.LINE_CHANNEL, heard)
                    gone = asyncio.Event()
                    connection.add_termination_listener(lambda _connection, gone=gone: gone.set())
                    await gone.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(1)

    async def _sweep(self) -> None:
        """Write when stations were heard last; end what has ended; forget what is old."""
        trimmed_us = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            now_us = self._clock.now_us()
            with contextlib.suppress(*DOWN, asyncpg.PostgresError):
                await store.put_seen(
                    self._database.pool, {id: context.seen_us for id, context in self._intake.connected.items()}
                )
                await store.end_past(self._database.pool, now_us)
                if now_us - trimmed_us > DAY_US:
                    await ledger.trim(self._database.pool, now_us - round(self._keep_days * DAY_US))
                    trimmed_us = now_us

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("work for a station failed", exc_info=error)
