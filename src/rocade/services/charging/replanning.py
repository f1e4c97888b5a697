"""Follows everything that changes what cars should do, and makes them do it: plans anew, commands, watches, keeps sessions.

Flow of a turn (at once when somebody notifies, else every quarter of a second): what changed in goals, series and depots; which
twins were written; whose time has come (an edge of a plan, the latest safe start) -> what is known of these cars, in a few queries
-> sessions begin and end -> plans that no longer fit are made anew, a car's own or its whole depot's -> what differs is told
(`steering`) -> what endangers a goal is an alert (`watching`). All state that matters is in the database: a process that dies is
followed by one that reads plans, newest commands, open alerts and sessions, and goes on. Several share vehicles by leases.
Source: docs/decisions/0052-charging.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from rocade.core.errors import Refused, RocadeError
from rocade.core.latency import RecentHistogram
from rocade.fabric.database import Leases
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import listen
from rocade.services.charging import ledger, steering, store, watching
from rocade.services.charging.acting import CHARGED, Picture
from rocade.services.charging.depots import Depot, Member, plan_depot
from rocade.services.charging.following import OVERLAP_US, Followed, Noticing
from rocade.services.charging.making import Known, make
from rocade.services.charging.model import ChargeSite, Place, StoredPlan
from rocade.services.charging.service import Charging
from rocade.services.vehicles.commands import Order

POLL_S = 0.25
OFF_PERCENT = 2.0
"""So far from its plan a car is planned anew."""
FRESH_US = 30 * 60_000_000
"""A plan of a plugged-in car is made anew after so long, whatever happens."""
AGAIN_US = 5 * 60_000_000
"""A car that does not follow is planned anew so often at most."""
RECKON_US = 60_000_000
SLOW_US = 2 * 60_000_000
SWEEP_S = 300.0
PLANS_KEPT_US, ALERTS_KEPT_US = 86_400_000_000, 90 * 86_400_000_000
LANES_LIMIT = 30
LANES_US = 30 * 1_000_000
"""Somebody else may command too: so often the newest commands of a car at rest are read."""
AT_ONCE = 4
SECOND_US = 1_000_000
_log = logging.getLogger("rocade.charging")


class Counters(msgspec.Struct):
    """What a replanner did since it started."""

    turns: int = 0
    looks: int = 0
    plans: int = 0
    site_plans: int = 0
    orders: int = 0
    refused: int = 0
    alerts: int = 0
    sessions: int = 0
    failures: int = 0
    replan_p50_ms: float = 0.0
    """From the change that was noticed to the plan on the road."""
    replan_p99_ms: float = 0.0


class Replanner(Noticing):
    """One a process. `run` for ever, or `turn` by turn."""

    def __init__(self, charging: Charging, leases: Leases | None = None) -> None:
        super().__init__(charging, leases)
        self.counters = Counters()
        self._held: list[int] = []
        self._swept_s = float("-inf")
        self._took = RecentHistogram()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop`; while an engine is away everything stays as it is, and is looked at when it is back."""
        listening = asyncio.create_task(
            listen(self.engines.database, (store.CHANNEL,), lambda *_: self._wake.set()), name="charging-listen"
        )
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    await self.turn()
                except (RocadeError, *DOWN, TimeoutError) as error:
                    self.counters.failures += 1
                    _log.warning("a turn failed and is repeated: %s", getattr(error, "code", type(error).__name__))
                    self._forget()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_S)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            if self._leases is not None:
                with contextlib.suppress(Exception):
                    await self._leases.release()

    async def turn(self) -> None:
        """Everything that is due now."""
        self.counters.turns += 1
        if self._leases is not None:
            held = await self._leases.renew()
            if held != self._held:  # what changed for vehicles that are ours now was another's to see
                self._held = held
                self._forget()
            if not held:
                return
        await self._notice()
        refs, self._causes = self._causes, {}
        mine = {ref: cause for ref, cause in refs.items() if self._is_mine(ref)}
        if mine:
            await self._look(mine)
        sites, self._site_causes = self._site_causes, {}
        for id, cause in sites.items():
            if self._is_mine_site(id):
                await self._try_site(id, cause)
        await self._sweep()

    # Looking at cars ----------------------------------------------------------------------------------------------------

    async def _look(self, causes: dict[int, str]) -> None:
        """Sessions, plans, orders and alerts of these vehicles."""
        self.counters.looks += len(causes)
        async with store.transaction(self.engines.database) as connection:
            pictures = await self._pictures(connection, list(causes))
            await self._read(connection, pictures)
            now_us = self._clock.now_us()
            wanted: list[tuple[Picture, str]] = []
            for ref, picture in pictures.items():
                car = self.cars[ref]
                await self._keep_session(connection, car, picture)
                cause = self._why_replan(car, picture, causes[ref], now_us)
                if cause and car.site:
                    self._site_causes.setdefault(car.site, cause)
                elif cause:
                    wanted.append((picture, cause))
                car.was_plugged = picture.now.is_plugged
            await self._replan(connection, wanted)
        await self._steer(list(pictures.values()))
        for ref, picture in pictures.items():
            if picture.goal is None and self.cars[ref].session is None and not self.cars[ref].site:
                del self.cars[ref]  # nothing is wanted of it, and it hangs nowhere

    async def _pictures(self, connection: Any, refs: Sequence[int]) -> dict[int, Picture]:
        """Of those that are there and have a plug; a gone one is forgotten."""
        known = [ref for ref in refs if ref not in self._without_plug]
        pictures = await self.charging.pictures(connection, known)
        for ref in known:
            picture = pictures.get(ref)
            if picture is None:
                await self._end_of(connection, ref)
            elif picture.vehicle.powertrain not in CHARGED:
                self._without_plug.add(ref)
                self.cars.pop(ref, None)
                del pictures[ref]
        found = {}
        for ref, picture in pictures.items():
            is_worth = picture.goal is not None or picture.now.is_plugged or ref in self.cars
            if is_worth:
                found[ref] = picture
        return found

    async def _end_of(self, connection: Any, ref: int) -> None:
        """The reference names no vehicle any more (sold, erased): what was open under it ends."""
        self.cars.pop(ref, None)
        for session in (await ledger.open_sessions(connection, self.columns, [ref])).values():
            await self.charging.reckon(connection, session, None, ended_us=self._clock.now_us())
        await store.end_alerts(connection, ref, watching.CODES, self._clock.now_us())

    async def _read(self, connection: Any, pictures: dict[int, Picture]) -> None:
        """What the database says of cars not yet read, and newer plans of all: the API makes some too."""
        refs = list(pictures)
        plans = await store.plans(connection, self.columns, refs)
        fresh = [ref for ref in refs if not self._followed(ref).is_read]
        if fresh:
            sessions = await ledger.open_sessions(connection, self.columns, fresh)
            places = {place.ref: place.site for place in await store.places(connection, refs=fresh)}
            alerts: dict[int, set[str]] = {}
            for alert in await store.open_alerts(connection, self.columns, fresh):
                alerts.setdefault(alert.ref, set()).add(alert.code)
            for ref in fresh:
                car = self.cars[ref]
                car.session, car.site = sessions.get(ref), places.get(ref, "")
                car.alerts, car.is_read = frozenset(alerts.get(ref, ())), True
                car.was_plugged = car.session is not None
        for ref in refs:
            car, plan = self.cars[ref], plans.get(ref)
            if plan is not None and (car.plan is None or plan.version > car.plan.version):
                car.plan = plan

    async def _keep_session(self, connection: Any, car: Followed, picture: Picture) -> None:
        now, session = picture.now, car.session
        if session is not None and now.is_plugged and session.station and now.connector not in ("", session.station):
            before = msgspec.structs.replace(picture, station=None)
            await self.charging.reckon(connection, session, before, ended_us=self._clock.now_us())
            car.session = None  # another plug is another stay
        if now.is_plugged and car.session is None:
            car.session = await self.charging.begin(connection, picture)
            car.reckoned_us, car.limit_kw, car.came_off = self._clock.now_us(), 0.0, False
            self.counters.sessions += 1
        elif not now.is_plugged and car.session is not None:
            ended_us = now.plugged_us if now.plugged_us > car.session.began_us else self._clock.now_us()
            await self.charging.reckon(connection, car.session, picture, ended_us=ended_us)
            car.session, car.limit_kw, car.came_off = None, 0.0, True
        elif car.session is not None and self._clock.now_us() - car.reckoned_us >= RECKON_US:
            car.session = await self.charging.reckon(connection, car.session, picture)
            car.reckoned_us = self._clock.now_us()

    def _why_replan(self, car: Followed, picture: Picture, cause: str, now_us: int) -> str:
        """Why the plan no longer fits, '' = it does."""
        goal, now, plan = picture.goal, picture.now, car.plan
        if goal is None or goal.is_stopped or picture.departure_us <= now_us or now_us - car.failed_us < RECKON_US:
            return ""
        if plan is None or plan.goal_version != goal.version:
            return "charging.replan.goal"
        if plan.departure_us != picture.departure_us:
            return "charging.replan.departure"
        if bool(plan.site) != bool(car.site):
            return "charging.replan.limit"
        if cause in ("charging.replan.prices", "charging.replan.car", "charging.replan.station"):
            return cause
        if now.is_plugged and not car.was_plugged and now.plugged_us > plan.made_us:
            return "charging.replan.arrival"
        if not now.is_plugged and car.was_plugged and car.site:
            return "charging.replan.left"
        if self._is_slow(car, picture, now_us):
            return "charging.replan.slow"
        if now.soc_percent is not None and now.soc_us >= plan.made_us - OVERLAP_US:
            expected = plan.expected_percent(max(now.soc_us, plan.made_us)) if now.is_plugged else plan.soc_percent[0]
            if abs(now.soc_percent - expected) > OFF_PERCENT and now_us - plan.made_us > SECOND_US:
                return "charging.replan.off_plan"
        if now.is_plugged and plan.energy_kwh > 0 and now_us - plan.made_us > FRESH_US:
            return "charging.replan.time"
        is_lost = car.differs_since_us and now_us - car.differs_since_us > watching.FOLLOWS_US
        return "charging.replan.off_plan" if is_lost and now_us - plan.made_us > AGAIN_US else ""

    def _is_slow(self, car: Followed, picture: Picture, now_us: int) -> bool:
        """Whether the car was now found to draw less than it is planned with; plans reckon with that from then on."""
        if not watching.is_slow(car.plan, picture, now_us):
            car.slow_since_us = 0
            return False
        car.slow_since_us = car.slow_since_us or now_us
        drawn = max(picture.now.power_kw / picture.car.efficiency, 0.1)
        if now_us - car.slow_since_us < SLOW_US or (car.limit_kw and drawn > car.limit_kw * watching.SLOW_SHARE):
            return False
        car.limit_kw = drawn
        return True

    def _known(self, known: Known) -> Known:
        """With the power that the car was seen to take."""
        limit = self.cars[known.goal.ref].limit_kw
        if not limit or limit >= known.car.max_kw:
            return known
        car = msgspec.structs.replace(known.car, max_kw=limit, min_kw=min(known.car.min_kw, limit))
        return msgspec.structs.replace(known, car=car)

    async def _replan(self, connection: Any, wanted: Sequence[tuple[Picture, str]]) -> None:
        if not wanted:
            return
        found = await self.charging.knowns(connection, [one for one, _ in wanted])
        knowns = [(self._known(known), cause) for known, (_, cause) in zip(found, wanted, strict=True)]
        now_us = self._clock.now_us()
        plans = await asyncio.to_thread(_made, knowns, now_us)
        for ref in {known.goal.ref for known, _ in knowns} - {plan.ref for plan in plans}:
            self.cars[ref].failed_us = now_us
        await store.lock_plans(connection, [plan.ref for plan in plans])
        for plan in await store.add_plans(connection, self.columns, plans):
            self.cars[plan.ref].plan = plan
        self.counters.plans += len(plans)
        self._took_until_now([plan.ref for plan in plans])

    def _took_until_now(self, refs: Iterable[int]) -> None:
        now_us = self._clock.now_us()
        self._took.add_many([max(now_us - self._noticed_us.pop(ref, now_us), 0) for ref in refs], now_us)
        self.counters.replan_p50_ms = self._took.quantile_us(0.5) / 1000
        self.counters.replan_p99_ms = self._took.quantile_us(0.99) / 1000

    # Depots -------------------------------------------------------------------------------------------------------------

    async def _try_site(self, id: str, cause: str) -> None:
        """A depot that cannot be planned keeps no other from its plan."""
        try:
            await self._plan_site(id, cause)
        except (RocadeError, *DOWN, TimeoutError):
            raise
        except Exception:
            self.counters.failures += 1
            _log.exception("the depot %s cannot be planned", id)

    async def _plan_site(self, id: str, cause: str) -> None:
        """The whole depot anew: what changed for one car may change what is left for all."""
        begun_us = self._clock.now_us()
        async with store.transaction(self.engines.database) as connection:
            site = (await store.sites(connection, [id])).get(id)
            if site is None:
                return
            places = {place.ref: place for place in await store.places(connection, site=id)}
            pictures = await self.charging.pictures(connection, list(places))
            for ref in pictures:
                self._followed(ref).site = id
            await self._read(connection, pictures)
            depot = await self._depot(connection, site, places, pictures)
            now_us = self._clock.now_us()
            started_s = self._clock.monotonic_s()
            plans, whole = await asyncio.to_thread(plan_depot, depot, now_us, cause)
            whole = msgspec.structs.replace(whole, took_ms=round((self._clock.monotonic_s() - started_s) * 1000, 1))
            changed = [plan for plan in plans if _is_other(self.cars[plan.ref].plan, plan)]
            await store.lock_plans(connection, [plan.ref for plan in changed])
            for plan in await store.add_plans(connection, self.columns, changed) if changed else ():
                self.cars[plan.ref].plan = plan
            await store.set_site_plan(connection, id, store.encode(whole))
        for ref in pictures:
            self._noticed_us[ref] = min(self._noticed_us.get(ref, begun_us), begun_us)
        self.counters.site_plans += 1
        self.counters.plans += len(changed)
        await self._steer(list(pictures.values()))
        self._took_until_now(pictures)
        await self._honour(id)

    async def _honour(self, id: str) -> None:
        async with store.transaction(self.engines.database) as connection:
            await store.honour_dimmings(connection, id, self._clock.now_us())

    async def _depot(
        self, connection: Any, site: ChargeSite, places: dict[int, Place], pictures: dict[int, Picture]
    ) -> Depot:
        """Who takes part, and what the others draw."""
        now_us = self._clock.now_us()
        taking, others = list[Picture](), dict[str, float]()
        for ref, picture in pictures.items():
            goal, now = picture.goal, picture.now
            if not now.is_plugged:
                continue
            if goal is not None and not goal.is_stopped and picture.departure_us > now_us:
                taking.append(picture)
            elif now.is_charging:
                others[places[ref].node] = others.get(places[ref].node, 0.0) + now.power_kw / picture.car.efficiency
        knowns = await self.charging.knowns(connection, taking)
        members = [Member(self._known(known), places[known.goal.ref]) for known in knowns]
        return Depot(
            site,
            tuple(members),
            tuple(await store.dimmings(connection, site.id, now_us)),
            await self.charging.series_of(connection, site.tariff),
            await self.charging.series_of(connection, site.carbon),
            await self.charging.series_of(connection, site.building),
            await self.charging.series_of(connection, site.solar),
            others,
        )

    # Telling cars, and people -------------------------------------------------------------------------------------------

    async def _steer(self, pictures: Sequence[Picture]) -> None:
        """What differs is told; what endangers a goal becomes an alert; when to look again."""
        now_us = self._clock.now_us()
        orders: list[Order] = []
        told = list[Picture]()
        for picture in pictures:
            car = self.cars.get(picture.now.ref)
            if car is None:
                continue
            is_off = steering.differs(car.plan, picture, now_us)
            car.differs_since_us = (car.differs_since_us or now_us) if is_off else 0
            if car.plan is not None and picture.now.is_plugged and picture.goal is not None:
                told.append(picture)
        await self._read_lanes(told, now_us)
        for picture in told:
            orders += await self._steps(self.cars[picture.now.ref], picture, now_us)
        await self._give(orders)
        async with store.transaction(self.engines.database) as connection:
            for picture in pictures:
                if car := self.cars.get(picture.now.ref):
                    await self._watch(connection, car, picture, now_us)
                    car.due_us = _due_us(car, picture, now_us)

    async def _steps(self, car: Followed, picture: Picture, now_us: int) -> tuple[Order, ...]:
        assert car.plan is not None
        told = steering.steps(car.plan, picture, self._can(picture), car.lanes, now_us, car.differs_since_us)
        car.is_fail_safe = told.is_fail_safe
        if told.station is not None and picture.station is not None and self.engines.stations is not None:
            await self.engines.stations.set_limit(picture.station, told.station, told.until_us)
        return told.orders

    async def _read_lanes(self, pictures: Sequence[Picture], now_us: int) -> None:
        """The newest commands of plugged-in cars: where something is under way or wrong, and else now and then."""
        stale = []
        for picture in pictures:
            car = self.cars[picture.now.ref]
            is_settled = (
                car.lanes_us and not car.differs_since_us and not any(one.is_open for one in car.lanes.values())
            )
            if not is_settled or now_us - car.lanes_us > LANES_US:
                stale.append(picture.now.ref)
        if self.engines.commands is None or not stale:
            return
        some = asyncio.Semaphore(AT_ONCE)
        commands = self.engines.commands

        async def read(ref: int) -> None:
            async with some:
                page = await commands.of(ref, limit=LANES_LIMIT)
            self.cars[ref].lanes, self.cars[ref].lanes_us = steering.newest(page.commands), now_us

        await asyncio.gather(*(read(ref) for ref in stale))

    def _can(self, picture: Picture) -> dict[str, str]:
        if self.engines.capable is None:
            return {}
        return dict(self.engines.capable.of(picture.vehicle.brand, picture.vehicle.model))

    async def _give(self, orders: Sequence[Order]) -> None:
        if not orders or self.engines.commands is None:
            return
        for order, answer in zip(orders, await self.engines.commands.order_many(orders), strict=True):
            self.counters.orders += 1
            if isinstance(answer, Refused):
                self.counters.refused += 1
                _log.info("a command was refused", extra={"facts": {"act": order.act, "code": answer.code}})
            else:
                self.cars[order.ref].lanes[answer.lane] = answer

    async def _watch(self, connection: Any, car: Followed, picture: Picture, now_us: int) -> None:
        can = self._can(picture)
        acts = ("charge.start", "charge.schedule", "charge.timer")
        can_nothing = bool(can) and all(can.get(act) == "no" for act in acts) and picture.station is None
        differs_us = now_us - car.differs_since_us + 1 if car.differs_since_us else 0
        slow_us = now_us - car.slow_since_us if car.slow_since_us else 0
        found = watching.troubles(
            car.plan, picture, car.lanes, now_us, differs_us=differs_us, slow_us=slow_us,
            was_plugged=car.came_off and not picture.now.is_moving, can_nothing=can_nothing,
        )  # fmt: skip
        for code, facts in found.items():
            if code not in car.alerts:
                await store.raise_alert(connection, self.columns, picture.now.ref, code, now_us, facts)
                self.counters.alerts += 1
        gone = car.alerts - found.keys()
        if gone:
            await store.end_alerts(connection, picture.now.ref, gone, now_us)
        car.alerts = frozenset(found)

    # Now and then -------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        if self._clock.monotonic_s() - self._swept_s < SWEEP_S:
            return
        self._swept_s = self._clock.monotonic_s()
        now_us = self._clock.now_us()
        async with store.transaction(self.engines.database) as connection:
            await self.charging.settle(connection)
            await store.trim(connection, now_us - PLANS_KEPT_US, now_us - ALERTS_KEPT_US)


def _made(knowns: Sequence[tuple[Known, str]], now_us: int) -> list[StoredPlan]:
    """A car that no plan can be made for does not keep the others from theirs."""
    found = []
    for known, cause in knowns:
        try:
            found.append(make(known, now_us, cause))
        except Exception:
            _log.exception("no plan can be made for vehicle %d", known.goal.ref)
    return found


def _is_other(held: StoredPlan | None, plan: StoredPlan) -> bool:
    """Whether a plan says anything new: else a depot of hundreds would be written anew for each that comes."""
    if held is None or held.goal_version != plan.goal_version or held.departure_us != plan.departure_us:
        return True
    if plan.made_us - held.made_us > FRESH_US or held.site != plan.site:
        return True
    now_us = plan.made_us
    before = [piece for piece in held.pieces if piece[1] > now_us]
    after = [piece for piece in plan.pieces if piece[1] > now_us]
    same = len(before) == len(after) and all(
        max(a[0], now_us) == max(b[0], now_us) and a[1] == b[1] and abs(a[2] - b[2]) < 0.05
        for a, b in zip(before, after, strict=True)
    )
    return not same or abs(held.shortfall_kwh - plan.shortfall_kwh) > 0.05


def _due_us(car: Followed, picture: Picture, now_us: int) -> int:
    """When to look again if nothing happens, 0 = never."""
    plan, found = car.plan, list[int]()
    if plan is not None and picture.goal is not None and not picture.goal.is_stopped and plan.departure_us > now_us:
        found += [plan.edge_after(now_us), plan.departure_us]
        found += [
            plan.latest_us - watching.LEAD_US,
            plan.latest_us - steering.SAFE_LEAD_US,
            plan.made_us + FRESH_US + 1,
        ]
        if car.differs_since_us or car.slow_since_us or any(one.is_open for one in car.lanes.values()):
            found.append(now_us + 2 * SECOND_US)
    if car.session is not None:
        found.append(car.reckoned_us + RECKON_US)
    return min((at_us for at_us in found if at_us > now_us), default=0)
