"""Depots: their limits, who charges where, what the grid operator asks, the board, and what the cars could do.

A site is changed as a whole; readings of its building and sun, places and dimmings come one by one. Everything that changes what
cars may draw is told at once (`site:<id>`), so that the depot is planned anew within a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from rocade.services.charging import errors, store
from rocade.services.charging.depots import room_of
from rocade.services.charging.making import on_slots, power_of
from rocade.services.charging.model import (
    Board,
    BoardCar,
    ChargeSite,
    Dimming,
    Flexibility,
    Place,
    SitePlan,
    Standing,
    StoredPlan,
)
from rocade.services.charging.planning import Slots
from rocade.services.charging.planning.slots import Floats
from rocade.services.charging.rules import check_dimming, check_site
from rocade.services.charging.standing import Standings

BOARD_US = 24 * 3_600_000_000
_site_plan = msgspec.msgpack.Decoder(SitePlan).decode


class Sites(Standings):
    """Depots of one region."""

    # What a depot is ----------------------------------------------------------------------------------------------------

    async def put_site(self, site: ChargeSite, actor: str) -> ChargeSite:
        """Make or change a depot. Raises: Refused `charging.site.*`, `charging.zone`, `charging.tariff.unknown`, `.use`."""
        async with self.acting(actor, "charging.site", f"depot:{site.id[:64]}") as connection:
            site = check_site(msgspec.structs.replace(site, changed_us=self.clock.now_us()))
            for id, kind in (
                (site.tariff, "price"), (site.carbon, "co2"), (site.building, "building"), (site.solar, "solar"),
            ):  # fmt: skip
                if id:
                    await self.of_kind(connection, id, kind)
            nodes = {node.id for node in site.nodes}
            if any(place.node and place.node not in nodes for place in await store.places(connection, site=site.id)):
                raise errors.site("used")
            await self.record("charging.site", actor, f"depot:{site.id}", nodes=len(site.nodes))
            await store.put_site(connection, site)
            await store.note_changes(connection, [f"site:{site.id}"], site.changed_us)
        return site

    async def sites(self) -> list[ChargeSite]:
        found: dict[str, ChargeSite] = await store.fetch(self.database, store.sites)
        return list(found.values())

    async def site(self, id: str) -> ChargeSite:
        """Raises: Refused `charging.site.unknown`."""
        found: dict[str, ChargeSite] = await store.fetch(self.database, store.sites, [id])
        if id not in found:
            raise errors.site("unknown")
        return found[id]

    async def drop_site(self, id: str, actor: str) -> None:
        """Its cars charge on by themselves. Raises: Refused `charging.site.unknown`."""
        async with self.acting(actor, "charging.site.drop", f"depot:{id[:64]}") as connection:
            await self.record("charging.site.drop", actor, f"depot:{id[:64]}")
            refs = [place.ref for place in await store.places(connection, site=id)]
            if not await store.drop_site(connection, id):
                raise errors.site("unknown")
            await store.note_changes(connection, [f"site:{id}", *(f"car:{ref}" for ref in refs)], self.clock.now_us())

    async def set_load(self, id: str, building_kw: float, solar_kw: float) -> None:
        """What the rest of the place draws and makes now. Raises: Refused `charging.site.load`, `charging.site.unknown`."""
        if not (0 <= building_kw < 1e6 and 0 <= solar_kw < 1e6):
            raise errors.site("load")
        async with store.transaction(self.database) as connection:
            if not await store.set_load(connection, id, building_kw, solar_kw):
                raise errors.site("unknown")
            await store.note_changes(connection, [f"site:{id}"], self.clock.now_us())

    # Who charges there --------------------------------------------------------------------------------------------------

    async def put_place(self, place: Place, actor: str) -> Place:
        """A vehicle charges there from now on, and nowhere else. Raises: Refused `charging.site.unknown`, `.node`."""
        await self.vehicle(place.ref)
        async with self.acting(actor, "charging.place", f"depot:{place.site[:64]}") as connection:
            site = (await store.sites(connection, [place.site])).get(place.site)
            if site is None:
                raise errors.site("unknown")
            if place.node and place.node not in {node.id for node in site.nodes}:
                raise errors.site("node")
            if not -100 <= place.priority <= 100:
                raise errors.site("priority")
            await self.record("charging.place", actor, f"depot:{place.site}", vehicle=f"vehicle:{place.ref}")
            before = await store.places(connection, refs=[place.ref])
            await store.put_place(connection, place)
            whats = {f"site:{one.site}" for one in (*before, place)} | {f"car:{place.ref}"}
            await store.note_changes(connection, sorted(whats), self.clock.now_us())
        return place

    async def drop_place(self, site: str, ref: int, actor: str) -> None:
        """Raises: Refused `charging.site.place`."""
        async with self.acting(actor, "charging.place.drop", f"depot:{site[:64]}") as connection:
            await self.record("charging.place.drop", actor, f"depot:{site[:64]}", vehicle=f"vehicle:{ref}")
            if not await store.drop_place(connection, site, ref):
                raise errors.site("place")
            await store.note_changes(connection, [f"site:{site}", f"car:{ref}"], self.clock.now_us())

    async def places(self, site: str) -> list[Place]:
        found: list[Place] = await store.fetch(self.database, store.places, site=site)
        return found

    # The grid operator --------------------------------------------------------------------------------------------------

    async def dim(
        self, site: str, limit_kw: float, from_us: int, until_us: int, signal_id: str, actor: str = "service:grid"
    ) -> Dimming:
        """Charging at this depot draws at most so much from then until then; told again, the signal is changed.

        Raises: Refused `charging.dimming.*`, `charging.site.unknown`.
        """
        now_us = self.clock.now_us()
        dimming = Dimming(site, signal_id, limit_kw, from_us, until_us, now_us)
        async with self.acting(actor, "charging.dim", f"depot:{site[:64]}") as connection:
            check_dimming(dimming, now_us)
            if site not in await store.sites(connection, [site]):
                raise errors.site("unknown")
            await self.record("charging.dim", actor, f"depot:{site}", limit_kw=limit_kw)
            await store.put_dimming(connection, dimming)
            await store.note_changes(connection, [f"site:{site}"], now_us)
        return dimming

    async def end_dimming(self, site: str, signal_id: str, actor: str = "service:grid") -> None:
        """Call a signal off. Raises: Refused `charging.dimming.unknown`."""
        async with self.acting(actor, "charging.dim.end", f"depot:{site[:64]}") as connection:
            now_us = self.clock.now_us()
            await self.record("charging.dim.end", actor, f"depot:{site[:64]}")
            if not await store.end_dimming(connection, site, signal_id, now_us):
                raise errors.dimming("unknown")
            await store.note_changes(connection, [f"site:{site}"], now_us)

    async def dimmings(self, site: str, after_us: int = 0) -> list[Dimming]:
        """Signals that end after an instant, the earliest first."""
        found: list[Dimming] = await store.fetch(self.database, store.dimmings, site, after_us)
        return found

    # The board ----------------------------------------------------------------------------------------------------------

    async def board(self, id: str) -> Board:
        """A depot at this moment. Raises: Refused `charging.site.unknown`."""
        now_us = self.clock.now_us()
        async with store.transaction(self.database) as connection:
            site = (await store.sites(connection, [id])).get(id)
            if site is None:
                raise errors.site("unknown")
            places = {place.ref: place for place in await store.places(connection, site=id)}
            standings = await self.standings(connection, list(places))
            dimmings = await store.dimmings(connection, id, now_us)
            body = await store.site_plan(connection, id)
            slots = Slots.over(now_us, now_us + BOARD_US)
            building = await self._load(connection, site.building, site.building_kw, slots)
            solar = await self._load(connection, site.solar, site.solar_kw, slots)
        names = await self._names(list(standings))
        plan = _site_plan(body) if body else None
        cars = [_car(one, places[ref], names.get(ref, ""), now_us) for ref, one in standings.items()]
        is_here = [one.now.is_plugged for one in standings.values()]
        planned = _planned(slots, [one.plan for one, here in zip(standings.values(), is_here, strict=True) if here])
        return Board(
            site=site,
            at_us=now_us,
            start_us=tuple(slots.start_us.tolist()),
            limit_kw=tuple(np.round(room_of(site, dimmings, slots, building, solar), 3).tolist()),
            planned_kw=tuple(np.round(planned, 3).tolist()),
            load_kw=round(sum(car.power_kw for car in cars), 3),
            building_kw=site.building_kw,
            solar_kw=site.solar_kw,
            is_dimmed=any(one.from_us <= now_us < one.until_us and not one.ended_us for one in dimmings),
            dimmings=tuple(dimmings),
            cars=tuple(sorted(cars, key=lambda car: (car.laxity_h is None, car.laxity_h or 0.0, car.ref))),
            made_us=plan.made_us if plan else 0,
            gap=plan.gap if plan else 0.0,
            unserved_kwh=plan.unserved_kwh if plan else 0.0,
            excess_kw=plan.excess_kw if plan else 0.0,
        )

    async def flexibility(self, site: str | None = None) -> Flexibility:
        """What plugged-in cars of a depot, or of the whole fleet, could draw in the next day. Raises: Refused
        `charging.site.unknown`.
        """
        now_us = self.clock.now_us()
        slots = Slots.over(now_us, now_us + BOARD_US)
        room = None
        async with store.transaction(self.database) as connection:
            if site is None:
                refs = await store.goal_refs(connection)
            else:
                found = (await store.sites(connection, [site])).get(site)
                if found is None:
                    raise errors.site("unknown")
                refs = [place.ref for place in await store.places(connection, site=site)]
                building = await self._load(connection, found.building, found.building_kw, slots)
                solar = await self._load(connection, found.solar, found.solar_kw, slots)
                room = room_of(found, await store.dimmings(connection, site, now_us), slots, building, solar)
            standings = list((await self.standings(connection, refs)).values())
        here = [one for one in standings if one.now.is_plugged and one.goal and not one.goal.is_stopped]
        least, most = np.zeros(len(slots)), np.zeros(len(slots))
        for one in here:
            low, high = _range(one, slots, now_us)
            least, most = least + low, most + high
        if room is not None:
            most = np.minimum(most, room)
            least = np.minimum(least, most)
        planned = _planned(slots, [one.plan for one in here])
        return Flexibility(
            tuple(slots.start_us.tolist()), tuple(slots.length_s.tolist()), _rounded(least), _rounded(most),
            _rounded(planned), len(here),
        )  # fmt: skip

    async def _load(self, connection: Any, series: str, last_kw: float, slots: Slots) -> Floats:
        known = await self.series_of(connection, series)
        return np.full(len(slots), last_kw) if known is None or not len(known) else on_slots(known, slots).value.clip(0)

    async def _names(self, refs: Sequence[int]) -> dict[int, str]:
        """Brand and model, never a number."""
        vehicles = await self.engines.registry.by_refs(refs)  # type: ignore[arg-type]  # references are whole numbers
        return {int(ref): f"{one.brand} {one.model}".strip() for ref, one in vehicles.items()}


def laxity_h(one: Standing, now_us: int) -> float | None:
    """How long a car can wait and still reach its target at full power; None where nothing is wanted of it."""
    if one.goal is None or not one.departure_us or one.now.soc_percent is None:
        return None
    need = max(one.goal.target_percent - one.now.soc_percent, 0.0) / 100 * one.car.capacity_kwh / one.car.efficiency
    left_h = (one.departure_us - now_us) / 3_600_000_000
    return round(left_h - need / max(power_of(one.goal, one.car), 0.1), 3)


def _car(one: Standing, place: Place, name: str, now_us: int) -> BoardCar:
    return BoardCar(
        one.ref, name, one.now.soc_percent, one.goal.target_percent if one.goal else 0.0, one.departure_us,
        one.now.power_kw, one.plan.power_at(now_us) if one.plan and one.now.is_plugged else 0.0, laxity_h(one, now_us),
        place.priority, one.state, place.node,
    )  # fmt: skip


def _planned(slots: Slots, plans: Sequence[StoredPlan | None]) -> Floats:
    """Mean planned power of all in each slot."""
    total = np.zeros(len(slots))
    for plan in plans:
        for from_us, to_us, kw in plan.pieces if plan else ():
            inside = np.minimum(slots.end_us, to_us) - np.maximum(slots.start_us, from_us)
            total += kw * np.maximum(inside, 0) / (slots.length_s * 1_000_000)
    return total


def _range(one: Standing, slots: Slots, now_us: int) -> tuple[Floats, Floats]:
    """The least and the most a car may draw in each slot: as late as it can, and as early."""
    assert one.goal is not None
    max_kw = power_of(one.goal, one.car)
    hours = slots.available_h(now_us, one.departure_us)
    to_target = max(one.goal.target_percent - (one.now.soc_percent or 0.0), 0.0)
    need_h = to_target / 100 * one.car.capacity_kwh / one.car.efficiency / max(max_kw, 0.1)
    later = np.cumsum(hours[::-1])[::-1] - hours
    left_h = max(one.departure_us - int(slots.end_us[-1]), 0) / 3_600_000_000
    least = np.clip(need_h - later - left_h, 0.0, hours) / slots.step_h * max_kw
    return least, (hours / slots.step_h * max_kw if need_h > 0 else np.zeros(len(slots)))


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(np.round(values, 3).tolist())
