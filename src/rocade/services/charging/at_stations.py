"""Stations as charge control needs them: where a car hangs, what it draws there, the limit of its connector, its meter.

A car is known at a connector by its tag; where no tag said it, by its place: a vehicle that a depot's plan puts at a connector, and
that was plugged in when somebody began to charge there, is the one (`match`). A station that refused or ignored every limit, or is
not connected, cannot be steered: then the car itself is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef, whole_number
from rocade.core.ports import Clock
from rocade.services.charging.acting import AtStation
from rocade.services.charging.model import Now, Place
from rocade.services.charging.stations.model import MOST_SLOTS, Connector, Limit, Slot, Station, Transaction
from rocade.services.charging.stations.service import Stations

DRAWS_W = 200.0
KEPT_US = 10_000_000
TOGETHER_US = 600_000_000
"""A cable and a transaction that began so close to each other are the same plugging in."""
LATEST = 20
BACK_US = 7 * 86_400_000_000
"""How far back a process that starts looks for transactions that may still be open."""
BY = "charging"


class AtStations:
    """`acting.Stations` over the stations of a region."""

    def __init__(self, stations: Stations, clock: Clock) -> None:
        self._stations, self._clock = stations, clock
        self._known: dict[str, tuple[int, Station]] = {}
        self._changed_us, self._number = 0, 0

    async def connectors_of(self, refs: Sequence[int]) -> dict[int, AtStation]:
        """The car's connector, where it has an open transaction."""
        open_ = await self._stations.transactions_of_vehicles([VehicleRef(ref) for ref in refs])
        return {int(ref): await self._seen(one) for ref, one in open_.items()}

    async def set_limit(self, at: AtStation, slots: Sequence[tuple[int, float]], until_us: int) -> None:
        """Want these limits there; what is wanted already is not wanted again."""
        place = place_of(at.connector)
        if place is None:
            return
        wanted = Limit(tuple(Slot(at_us, kw) for at_us, kw in slots[:MOST_SLOTS]), until_us, BY)
        standing = await self._stations.standing(place)
        if standing is None or standing.state == "ended" or not _is_same(standing.limit, wanted, self._clock.now_us()):
            await self._stations.limit(place, wanted)

    async def energy(self, connector: str, from_us: int, until_us: int) -> list[tuple[int, float]]:
        """Readings of the connector's meter, kWh as it counts."""
        place = place_of(connector)
        if place is None:
            return []
        samples = await self._stations.meter(place, from_us, until_us)
        found = {one.at_us: one.energy_wh / 1000 for one in samples if one.energy_wh is not None}
        for one in await self._stations.transactions(place.station, count=LATEST):
            if one.evse == place.evse:  # what began and what ended is counted too, however seldom it was sampled
                for at_us, wh in ((one.began_us, one.began_wh), (one.ended_us, one.ended_wh)):
                    if at_us is not None and wh is not None and from_us <= at_us <= until_us:
                        found.setdefault(at_us, wh / 1000)
        return sorted(found.items())

    async def heard_of(self) -> list[int]:
        """Vehicles of whose transactions there is news since this was asked last."""
        if not self._changed_us:
            self._changed_us = self._clock.now_us() - BACK_US
        found: set[int] = set()
        while changed := await self._stations.changed_since(self._changed_us, self._number):
            self._changed_us, self._number = changed[-1][0], changed[-1][1].number
            found |= {int(one.vehicle) for _, one in changed if one.vehicle is not None}
        return sorted(found)

    async def match(self, places: Sequence[Place], now_of: Mapping[int, Now]) -> list[int]:
        """Say which car hangs at an open transaction that no tag named; the references that were found."""
        found = []
        for place in places:
            now, at = now_of.get(place.ref), place_of(place.connector)
            if at is None or now is None or not now.is_plugged:
                continue
            for one in await self._stations.open_at(at.station, at.evse):
                if one.vehicle is None and abs(one.began_us - now.plugged_us) <= TOGETHER_US:
                    await self._stations.bind(one.number, VehicleRef(place.ref))
                    found.append(place.ref)
                    break
        return found

    async def _seen(self, one: Transaction) -> AtStation:
        station = await self._station(one.station)
        standing = await self._stations.standing(one.place)
        cannot = standing is not None and standing.state in ("rejected", "ignored")
        watts = one.last_w or 0.0
        return AtStation(
            name_of(one.place),
            station.site if station else "",
            is_charging=watts >= DRAWS_W,
            power_kw=watts / 1000,
            at_us=one.last_us,
            began_us=one.began_us,
            can_limit=station is not None and station.is_here and not cannot,
            soc_percent=one.last_soc,
        )

    async def _station(self, id: str) -> Station | None:
        now_us = self._clock.now_us()
        held = self._known.get(id)
        if held is None or now_us - held[0] > KEPT_US:
            try:
                held = self._known[id] = now_us, await self._stations.station(id)
            except Refused:
                return None
        return held[1]


def name_of(place: Connector) -> str:
    """As depots and sessions name a connector: `station/evse/connector`."""
    return f"{place.station}/{place.evse}/{place.connector}"


def place_of(name: str) -> Connector | None:
    """The other way; the connector may be left out, both numbers too where there is one."""
    station, *numbers = name.split("/")
    parts = [whole_number(one) for one in numbers]
    if not station or len(parts) > 2 or None in parts:
        return None
    whole = [one for one in parts if one is not None]
    return Connector(station, *(whole or [1]))


def _is_same(held: Limit, wanted: Limit, now_us: int) -> bool:
    """Whether from now on both allow the same, and what is held lasts a while yet."""
    instants = {
        now_us,
        *(slot.start_us for slot in (*held.slots, *wanted.slots) if now_us < slot.start_us < wanted.until_us),
    }
    same = all(_kw(held, at_us) == _kw(wanted, at_us) for at_us in instants)
    return same and held.until_us >= wanted.until_us


def _kw(limit: Limit, at_us: int) -> float | None:
    found = limit.kw_at(at_us)
    return None if found is None else round(found, 2)
