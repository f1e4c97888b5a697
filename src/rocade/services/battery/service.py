"""The use cases of battery health: read a vehicle's history on, answer, keep the answers of a fleet up.

Flow: days that hold readings of charge since the last reading -> windows of `WINDOW_DAYS` -> segments (`segments`) -> kept ->
one answer from all of them (`estimating`), and one a month for the past. Every reading goes back `LATE_DAYS`, so that what
arrives late is counted, and to the beginning of a run that had not ended. One reader a vehicle at a time (advisory lock).
Refuses nothing by itself: what cannot be answered is a state of the answer. When the history store is away the last answer stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.history import History
from rocade.services.battery import store
from rocade.services.battery.estimating import estimate
from rocade.services.battery.model import WAITING, Finding, Health, Pack, Point, Rules, Seen, Segment
from rocade.services.battery.segments import ROLES, find_segments
from rocade.services.telemetry import series_of
from rocade.services.vehicles import Registry
from rocade.trust.authority.sealing.columns import Columns

DAY_US = 86_400_000_000
WINDOW_DAYS = 7
LATE_DAYS = 2
MONTH_US = 30 * DAY_US
FRESH_US = 3_600_000_000
PAUSE_S = 600.0
POWERTRAINS = ("electric", "plug_in_hybrid", "hybrid")
_log = logging.getLogger("rocade.battery")


class Batteries:
    """Battery health of one region's vehicles. `history` None: only what is kept is answered."""

    def __init__(
        self, database: Database, history: History | None, registry: Registry, catalogue: Catalogue, clock: Clock,
        rules: Rules = Rules(),  # noqa: B008 - frozen
    ) -> None:  # fmt: skip
        self._database, self._history, self._registry, self._clock = database, history, registry, clock
        self._catalogue, self.rules, self._columns = catalogue, rules, Columns(database)
        self._signals = {role: [int(catalogue.by_name(name).id) for name in names] for role, names in ROLES.items()}

    async def health(self, ref: int, most_windows: int = 8) -> Health:
        """The answer, made from history read on by at most so many windows if it is older than an hour."""
        async with self._database.pool.acquire() as connection:
            kept = await store.health(connection, self._columns, ref)
        if kept is not None and not kept.is_behind and self._clock.now_us() - kept.made_us < FRESH_US:
            return kept
        if most_windows <= 0:
            return kept or self._nothing(ref)
        try:
            await self.read_on(ref, most_windows)
        except Unavailable:
            if kept is None:
                raise
            return kept
        async with self._database.pool.acquire() as connection:
            return await store.health(connection, self._columns, ref) or self._nothing(ref)

    def _nothing(self, ref: int) -> Health:
        return Health(ref, Finding(WAITING, 0, self.rules.least_segments), Pack(), Seen())

    async def points(self, ref: int) -> list[Point]:
        """Earlier answers, one a month, the oldest first."""
        async with self._database.pool.acquire() as connection:
            return await store.points(connection, self._columns, ref)

    async def segments(self, ref: int) -> list[Segment]:
        """What the answer rests on, in order of time."""
        async with self._database.pool.acquire() as connection:
            return await store.segments(connection, self._columns, ref)

    async def read_on(self, ref: int, most_windows: int = 1_000_000) -> bool:
        """Read history on and answer anew; False when windows are left. Raises: Unavailable when an engine is away."""
        if self._history is None:
            return True
        now_us = self._clock.now_us()
        is_done = False
        for _ in range(most_windows):
            async with self._database.pool.acquire() as connection, connection.transaction():
                if not await store.take(connection, ref):
                    return True  # somebody else is at it
                kept = await store.health(connection, self._columns, ref)
                is_done = await self._read_window(connection, ref, kept, now_us)
            if is_done:
                break
        async with self._database.pool.acquire() as connection, connection.transaction():
            await self._answer(connection, ref, now_us, is_behind=not is_done)
        return is_done

    async def _read_window(self, connection: Any, ref: int, kept: Health | None, now_us: int) -> bool:
        """One window of history from where the last one ended; True when there is no more."""
        assert self._history is not None
        reached_us = kept.read_until_us if kept else 0
        days = await self._days(ref, reached_us, now_us)
        if not days:
            return True
        begin_us = await self._begin(connection, ref, kept, days[0])
        end_us = max(begin_us + WINDOW_DAYS * DAY_US, days[0] + DAY_US)
        series = await series_of(self._history, ref, self._signals, begin_us, end_us)
        found, seen = await asyncio.to_thread(find_segments, series, self.rules)
        last_us = max((int(one.time_us[-1]) for one in series.values() if len(one.time_us)), default=end_us)
        is_last = days[-1] + DAY_US <= end_us
        until_us = min(end_us, last_us + 1) if is_last else end_us
        await store.replace_segments(connection, self._columns, ref, begin_us, found)
        health = kept or msgspec.structs.replace(self._nothing(ref), seen=seen)
        merged = seen if kept is None else _merged(kept.seen, seen)
        await store.put_health(
            connection,
            self._columns,
            msgspec.structs.replace(health, seen=merged, read_until_us=max(until_us, reached_us)),
        )
        return is_last

    async def _days(self, ref: int, reached_us: int, now_us: int) -> list[int]:
        """Days with readings of charge that are not read yet, the one reached included when it has gone on."""
        assert self._history is not None
        numbers = [*self._signals["charge"], *self._signals["shown"]]
        days = await store.charged_days(self._history, ref, numbers, reached_us, now_us + DAY_US)
        return [day for day in days if day + DAY_US > reached_us]

    async def _begin(self, connection: Any, ref: int, kept: Health | None, day_us: int) -> int:
        """Where the window begins: earlier than the new day by what may have come late or was still going on."""
        if kept is None or not kept.read_until_us:
            return day_us
        begin_us = min(day_us, kept.read_until_us - LATE_DAYS * DAY_US)
        oldest_us = kept.read_until_us - int(self.rules.longest_h * 3.6e9)
        if kept.seen.open_from_us is not None:
            begin_us = min(begin_us, max(kept.seen.open_from_us, oldest_us))
        overlapping = await store.segments(connection, self._columns, ref, begin_us)
        begin_us = min([begin_us, *(one.turn_us for one in overlapping)])
        return begin_us if day_us - begin_us < WINDOW_DAYS * DAY_US else day_us

    async def _answer(self, connection: Any, ref: int, now_us: int, *, is_behind: bool) -> None:
        """Weigh what is kept, and add the months that have no answer yet."""
        kept = await store.health(connection, self._columns, ref)
        pack = await self.pack_of(ref) or (kept.pack if kept else Pack())
        health = kept or self._nothing(ref)
        segments = await store.segments(connection, self._columns, ref)
        as_of_us = segments[-1].end_us if segments else health.read_until_us
        points = await store.points(connection, self._columns, ref)
        found, made = await asyncio.to_thread(self._weighed, segments, pack, health.seen, as_of_us, points)
        await store.put_points(connection, self._columns, ref, made)
        left_out = Counter(one.left_out for one in segments if one.left_out)
        await store.put_health(
            connection,
            self._columns,
            msgspec.structs.replace(
                health, found=found, pack=pack, made_us=now_us, left_out=dict(left_out), is_behind=is_behind
            ),
        )

    def _weighed(
        self, segments: Sequence[Segment], pack: Pack, seen: Seen, as_of_us: int, points: Sequence[Point]
    ) -> tuple[Finding, list[Point]]:
        made = list[Point]()
        last_us = points[-1].as_of_us if points else (segments[0].end_us if segments else as_of_us)
        for month_us in range(last_us + MONTH_US, as_of_us + 1, MONTH_US):
            if (point := _point(estimate(segments, pack, seen, month_us, self.rules))) is not None:
                made.append(point)
        found = estimate(segments, pack, seen, as_of_us, self.rules)
        if not points and not made and (point := _point(found)) is not None:
            made.append(point)
        return found, made

    async def pack_of(self, ref: int) -> Pack | None:
        """What the brand's file says of the model; None for a reference that names no vehicle any more."""
        found = await self._registry.by_refs([VehicleRef(ref)])
        vehicle = found.get(VehicleRef(ref))
        if vehicle is None:
            return None
        brand = self._catalogue.brands.get(vehicle.brand)
        battery = brand.batteries.get(vehicle.model) if brand else None
        return Pack(battery.new_kwh, battery.chemistry, battery.nominal_v, "brand") if battery else Pack()

    async def forget(self, connection: Any, ref: int) -> None:
        """Inside the caller's transaction, everything about a reference whose data are erased."""
        await store.forget(connection, ref)

    # Keeping a fleet's answers up ---------------------------------------------------------------------------------------

    async def keep_up(self, every_s: float = 86_400.0) -> None:
        """For ever: every vehicle with a battery once in `every_s`, one after the other, so that nothing else waits for it."""
        while True:
            try:
                await self.sweep(int(every_s * 1e6))
            except (RocadeError, OSError, *DOWN):
                _log.exception("battery health was not kept up; tried again in %d s", PAUSE_S)
            await asyncio.sleep(min(PAUSE_S, every_s))

    async def sweep(self, age_us: int) -> int:
        """Renew every answer older than that; how many."""
        done, before_us = 0, self._clock.now_us() - age_us
        for powertrain in POWERTRAINS:
            cursor: str | None = None
            while True:
                page = await self._registry.list(cursor, 500, powertrain=powertrain)
                async with self._database.pool.acquire() as connection:
                    due = await store.stale(connection, [int(one.ref) for one in page.vehicles], before_us)
                for ref in due:
                    with contextlib.suppress(Unavailable, Refused):  # refused: erased meanwhile
                        await self.read_on(ref)
                        done += 1
                if (cursor := page.cursor) is None:
                    break
        return done


def _merged(old: Seen, new: Seen) -> Seen:
    """What was seen in all windows so far: the newest word on each, the best read resistance."""
    better = new if new.steps >= old.steps / 4 and new.resistance_mohm is not None else old
    return Seen(
        charge_from=new.charge_from or old.charge_from,
        energy_from=new.energy_from or old.energy_from,
        has_temperature=new.has_temperature or old.has_temperature,
        resistance_mohm=better.resistance_mohm,
        steps=better.steps,
        reported_percent=new.reported_percent if new.reported_percent is not None else old.reported_percent,
        open_from_us=new.open_from_us,
    )


def _point(found: Finding) -> Point | None:
    if found.percent is None or found.capacity_kwh is None:
        return None
    percent = found.percent
    return Point(found.as_of_us, percent.value, percent.low, percent.high, found.capacity_kwh.value, found.used)
