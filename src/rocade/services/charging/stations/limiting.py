"""Limits are made true: sent by the best way a station knows, watched at its meter, tried another way when it does not obey.

Flow of `apply`: the ways this station may take, best first (`dialect`) -> SetChargingProfile -> refused: remembered, next way ->
accepted: meter values are watched. A draw that falls proves the way; two values over the limit say the station ignored it: its
profile is cleared, the next way is tried; when none is left the limit stands as `ignored` and everybody who watches is told.
A transaction that begins gets the limit as its own; a vehicle that changed its plug leaves no limit behind.
Every profile ends with its limit. What is wanted is a row: it outlives this process and is sent again when the station returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.charging.stations import dialect as dialects
from rocade.services.charging.stations import ledger, profiles, store
from rocade.services.charging.stations.dialect import SETTLE_US, STRIKES, Dialect, Way
from rocade.services.charging.stations.intake import Context
from rocade.services.charging.stations.model import Connector, Event, LimitState, Standing, Transaction
from rocade.services.charging.stations.sealing import StationSeals

type Call = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""(station, action, payload) -> answer; `OcppDoor.call`."""
NOT_TAKEN = "stations.limit.none_left"
NOT_OBEYED = "stations.limit.ignored"
SILENT = "ocpp.station.silent"
"""Some stations never answer a call they do not know: that is a no."""
STALE_US = 600_000_000
_log = logging.getLogger(__name__)


class _Watch(msgspec.Struct):
    """A limit whose station took it, until its meter shows whether it is kept."""

    standing: Standing
    way: Way
    sent_us: int
    since_us: int
    """Since when the present slot counts."""
    before_w: float | None
    last_w: float | None
    strikes: int = 0
    tried: tuple[Way, ...] = ()


class Limiter:
    """One per process that holds stations' lines."""

    def __init__(
        self, database: Database, call: Call, context_of: Callable[[str], Context | None],
        tell: Callable[[Sequence[Event]], None], clock: Clock, settle_us: int = SETTLE_US,
    ) -> None:  # fmt: skip
        self._database, self._call, self._context_of, self._tell, self._clock = database, call, context_of, tell, clock
        self._seals = StationSeals(database)
        self._settle_us = settle_us
        self._dialects: dict[str, tuple[Dialect, store.Make]] = {}
        self._watched: dict[tuple[str, int], _Watch] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- memory ---------------------------------------------------------------------------------------------------

    async def dialect(self, station: str) -> Dialect:
        """What this station has shown; begun from its kin."""
        if station not in self._dialects:
            kept, make = await store.read_make(self._database.pool, station)
            if kept is not None:
                found = msgspec.json.decode(kept, type=Dialect)
            else:
                kin = await store.read_kin(self._database.pool, station)
                found = dialects.seed(msgspec.json.decode(one, type=Dialect) for one in kin)
            self._dialects.setdefault(station, (found, make))
        return self._dialects[station][0]

    async def keep(self, station: str) -> None:
        if known := self._dialects.get(station):
            await store.put_dialect(self._database.pool, station, msgspec.json.encode(known[0]), known[1])

    def forget(self, station: str) -> None:
        """The station left, or came with new firmware: the table knows more than memory."""
        self._dialects.pop(station, None)
        for key in [key for key in self._watched if key[0] == station]:
            del self._watched[key]

    # --- sending --------------------------------------------------------------------------------------------------

    async def apply(self, standing: Standing, skip: tuple[Way, ...] = ()) -> Standing:
        """Send a limit by the best way not in `skip`. Returns how it stands; `wanted` while the station is away."""
        station = standing.place.station
        async with self._locks.setdefault(station, asyncio.Lock()):
            now = await store.read_limit(self._database.pool, station, standing.place.evse)
            if now is None or now.version != standing.version or now.state == "ended":
                return now or standing
            try:
                return await self._apply(standing, skip)
            except Unavailable as error:
                return msgspec.structs.replace(standing, state="wanted", code=error.code)

    async def _apply(self, standing: Standing, skip: tuple[Way, ...]) -> Standing:
        place = standing.place
        context = self._context_of(place.station)
        if context is None:
            return standing
        memory = await self.dialect(place.station)
        open_now = await ledger.open_at(self._database.pool, await self._seals.at_hand(), place.station, place.evse)
        now_us = self._clock.now_us()
        before_w = await self._drawn(place, now_us)
        alone = await self._is_alone(place)
        found = dialects.ways(memory, has_transaction=bool(open_now), may_limit_station=alone, now_us=now_us)
        tried = skip
        for way in found:
            if way in skip:
                continue
            tried = (*tried, way)
            code = await self._send(context, standing, way, open_now, memory)
            memory.note(way, "rejected" if code else "accepted", self._clock.now_us(), code)
            if not code:
                await self.keep(place.station)
                self._watched[place.station, place.evse] = _Watch(
                    standing, way, now_us, now_us, before_w, before_w, 0, tried
                )
                self._later(self._ask_meter(context, place))
                return await self._stand(standing, "accepted", way, "")
        await self.keep(place.station)
        ignored = bool(skip)
        return await self._stand(
            standing, "ignored" if ignored else "rejected", None, NOT_OBEYED if ignored else NOT_TAKEN
        )

    async def _send(
        self, context: Context, standing: Standing, way: Way, open_now: Sequence[Transaction], memory: Dialect
    ) -> str:
        """'' = accepted, else why not. Raises: Unavailable: the station is away or silent."""
        station, limit = context.station, standing.limit
        begin_us, rows = dialects.periods(
            limit, way.unit, station.phases, station.voltage, self._clock.now_us(), memory.most_periods
        )
        if not rows:
            return "stations.limit.past"
        transaction = ""
        if way.purpose == "tx":
            transaction = str(open_now[0].number) if context.version == "1.6" else open_now[0].reference
        stack = min(profiles.STACK_LEVEL, memory.most_stack) if memory.most_stack else profiles.STACK_LEVEL
        payload = profiles.set_profile(
            context.version,
            standing.place.evse,
            way,
            begin_us,
            limit.until_us,
            rows,
            station.phases,
            transaction,
            stack,
        )
        try:
            answer = await self._call(station.id, "SetChargingProfile", payload)
        except Refused as refusal:
            return str(refusal.facts.get("kind", refusal.code))
        except Unavailable as error:
            if error.code != SILENT:
                raise
            return SILENT
        return "" if answer["status"] == "Accepted" else str(answer["status"])

    async def end(self, place: Connector) -> Standing | None:
        """Nothing is wanted there any more: the profile is cleared, now or when the station returns."""
        was = await store.end_limit(self._database.pool, place.station, place.evse, self._clock.now_us())
        self._watched.pop((place.station, place.evse), None)
        if was is not None and was.purpose:
            with contextlib.suppress(RocadeError):
                await self._clear(place.station, place.evse, was.purpose)
        return was

    async def _clear(self, station: str, evse: int, purpose: Any) -> bool:
        """Whether there was such a profile. Raises: Unavailable."""
        context = self._context_of(station)
        if context is None:
            raise Unavailable("stations.away", "the station is not connected here")
        payload = profiles.clear_profile(context.version, profiles.profile_id(evse, purpose))
        answer = await self._call(station, "ClearChargingProfile", payload)
        return bool(answer["status"] == "Accepted")

    async def _stand(self, standing: Standing, state: LimitState, way: Way | None, code: str) -> Standing:
        now_us, place = self._clock.now_us(), standing.place
        purpose, unit = (way.purpose, way.unit) if way else ("", "")
        is_current = await store.put_limit_state(
            self._database.pool, place, standing.version, state, purpose, unit, code, now_us
        )
        stands = msgspec.structs.replace(standing, state=state, purpose=purpose, unit=unit, code=code, at_us=now_us)
        if is_current:
            event = Event(
                kind="limit", station=place.station, at_us=now_us, evse=place.evse, connector=place.connector,
                code=code or state,
            )  # fmt: skip
            if code:
                await store.add_event(self._database.pool, event)
            self._tell([event])
        return stands

    async def _drawn(self, place: Connector, now_us: int) -> float | None:
        last = await ledger.last_sample(self._database.pool, await self._seals.at_hand(), place.station, place.evse)
        return last.watts if last is not None and now_us - last.at_us < STALE_US else None

    async def _is_alone(self, place: Connector) -> bool:
        """Whether a limit of the whole station limits nobody else."""
        known = await store.read_connectors(self._database.pool, [place.station])
        return {one.evse for one in known if one.evse} <= {place.evse}

    async def _ask_meter(self, context: Context, place: Connector) -> None:
        """Values as soon as they can show something, instead of at the next interval."""
        await asyncio.sleep(self._settle_us / 1e6 + 1)
        payload: dict[str, Any] = {"requestedMessage": "MeterValues"}
        payload |= {"connectorId": place.evse} if context.version == "1.6" else {"evse": {"id": place.evse}}
        with contextlib.suppress(RocadeError):
            await self._call(place.station, "TriggerMessage", payload)

    # --- watching -------------------------------------------------------------------------------------------------

    def heard(self, events: Sequence[Event]) -> None:
        """What happened at stations, from the intake."""
        for event in events:
            if event.kind == "sample":
                watch = self._watched.get((event.station, event.evse))
                if watch is not None:
                    self._weigh(watch, event)
            elif event.kind == "began":
                self._later(self._began(Connector(event.station, event.evse, event.connector)))
            elif event.kind == "moved":
                self._later(self._moved(Connector(event.station, event.evse, event.connector)))
            elif event.kind in {"gone", "booted"}:
                self.forget(event.station)

    def _weigh(self, watch: _Watch, event: Event) -> None:
        sample = event.sample
        if sample is None or (drawn_w := sample.watts) is None or sample.at_us < watch.sent_us:
            return
        limit = watch.standing.limit
        limit_kw = limit.kw_at(sample.at_us)
        if limit_kw is None:
            return
        began_us = max((slot.start_us for slot in limit.slots if slot.start_us <= sample.at_us), default=watch.sent_us)
        if began_us > watch.since_us:  # another slot since the value before: that one is the draw to compare with
            watch.since_us, watch.before_w, watch.strikes = began_us, watch.last_w, 0
        watch.last_w = drawn_w
        if sample.at_us < watch.since_us + self._settle_us and drawn_w > limit_kw * 1000:
            return
        verdict = dialects.judge(limit_kw, watch.before_w, sample, watch.since_us - SETTLE_US)
        if verdict == "over":
            watch.strikes += 1
            if watch.strikes >= STRIKES:
                self._watched.pop((event.station, event.evse), None)
                self._later(self._ignored(watch))
            return
        watch.strikes = 0
        if verdict == "proven" and watch.standing.state != "proven":
            watch.standing = msgspec.structs.replace(watch.standing, state="proven")
            self._later(self._proven(watch))

    async def _proven(self, watch: _Watch) -> None:
        station = watch.standing.place.station
        (await self.dialect(station)).note(watch.way, "proven", self._clock.now_us())
        await self.keep(station)
        await self._stand(watch.standing, "proven", watch.way, "")

    async def _ignored(self, watch: _Watch) -> None:
        """It took the limit and went on as before: away with that profile, and the next way."""
        place = watch.standing.place
        memory = await self.dialect(place.station)
        memory.note(watch.way, "ignored", self._clock.now_us(), NOT_OBEYED)
        await self.keep(place.station)
        with contextlib.suppress(RocadeError):
            await self._clear(place.station, place.evse, watch.way.purpose)
        await self.apply(watch.standing, watch.tried)

    async def _began(self, place: Connector) -> None:
        """A transaction has begun under a limit: it gets it as its own."""
        standing = await store.read_limit(self._database.pool, place.station, place.evse)
        if standing is not None and standing.state != "ended" and standing.limit.until_us > self._clock.now_us():
            await self.apply(standing)

    async def _moved(self, place: Connector) -> None:
        await self.end(place)

    # --- work of its own ------------------------------------------------------------------------------------------

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a limit could not be worked on", exc_info=error)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
