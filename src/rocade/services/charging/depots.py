"""From what is known of a depot to the plans of its cars: one shared plan under the tree of limits, cut into one plan each.

Every car that is plugged in and has a goal takes part; what others draw, and what the building draws, is taken from the room
first. The minimum charge of a car is a stay of its own that comes first and is served before all others, also while the grid
operator dims. Dimming limits what charging draws altogether: a node of its own, under the root and above all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from rocade.core.money import MINOR_DIGITS
from rocade.services.charging.making import Known, on_slots, power_of
from rocade.services.charging.model import ChargeSite, Dimming, Place, SitePlan, StoredPlan
from rocade.services.charging.planning import Series, Slots, objective
from rocade.services.charging.planning.limits import Fleet, Node, Tree
from rocade.services.charging.planning.online import OnlineScheduler
from rocade.services.charging.planning.shared import SharedPlan, plan_shared, slots_from
from rocade.services.charging.planning.slots import Floats

CHARGING = "~charging"
"""The node that all charging hangs under; no id of a site's own can be so."""
UNLIMITED_KW = 1e6
LEAST_A = 6.0
SHORT_KWH = 0.05
FIRST = 1_000
"""What a minimum charge's priority is above all others."""
HORIZON_US = 2 * 86_400_000_000
"""A depot is planned so far ahead; who leaves later is charged as far as needed by then."""
PHASES = {1: 0b001, 2: 0b011, 3: 0b111}


class Member(msgspec.Struct, frozen=True):
    """A car that takes part."""

    known: Known
    place: Place


class Depot(msgspec.Struct, frozen=True):
    """What a depot's plan is made from. `other_kw`: what cars without a goal draw, by node."""

    site: ChargeSite
    members: tuple[Member, ...]
    dimmings: tuple[Dimming, ...]
    price: Series | None
    carbon: Series | None
    building: Series | None = None
    solar: Series | None = None
    other_kw: Mapping[str, float] = {}


def plan_depot(depot: Depot, now_us: int, cause: str) -> tuple[list[StoredPlan], SitePlan]:
    """Plans of all members, and the depot's own."""
    ends = [min(one.known.departure_us, now_us + HORIZON_US) for one in depot.members]
    slots = slots_from(now_us, max([*ends, now_us + 3_600_000_000]))
    price, carbon = on_slots(depot.price, slots), on_slots(depot.carbon, slots)
    shares = [one.known.goal.share_co2 for one in depot.members]
    share = float(np.mean(shares)) if shares else 0.0
    wanted = objective(price.value, carbon.value if depot.carbon else None, share)
    if depot.price is None and (depot.carbon is None or share == 0):  # nothing speaks against early
        wanted = np.linspace(0.1, 0.2, len(slots))
    building, solar = _loads(depot, slots)
    tree = tree_of(depot.site, depot.dimmings, slots)
    root = depot.site.root.id
    rows = [row for at, one in enumerate(depot.members) for row in _rows(one, at, root, slots, now_us)]
    limit = room_of(depot.site, depot.dimmings, slots, building, solar)
    if not rows:
        return [_idle(one.known, slots, now_us, cause) for one in depot.members], _site_plan(
            depot, slots, limit, np.zeros(len(slots)), None, 0, now_us, cause
        )
    others = {(CHARGING if node in ("", root) else node): kw for node, kw in depot.other_kw.items()}
    loads = {root: building} | {node: np.full(len(slots), kw) for node, kw in others.items() if kw > 0}
    problem = _Problem(tree, slots, wanted, loads, {root: solar} if solar.any() else None)
    rows, shared = problem.solve(rows, now_us)
    power = np.zeros((len(depot.members), len(slots)))
    for row, kw in zip(rows, np.asarray(shared.power_kw, np.float64), strict=True):
        power[row.member] += kw
    plans = [
        _plan(one.known, kw, slots, price.value, carbon.value, price.is_forecast, depot, shared.gap, now_us, cause)
        for one, kw in zip(depot.members, power, strict=True)
    ]
    cost = sum(plan.cost_minor for plan in plans)
    wanted_kwh = sum(row.energy_kwh for row in rows)
    return plans, _site_plan(depot, slots, limit, power.sum(axis=0), shared, cost, now_us, cause, wanted_kwh)


class _Problem:
    """Stays under one tree. What lacks room is dealt out so that the most drivers have enough, not everybody too little."""

    def __init__(
        self, tree: Tree, slots: Slots, cost: Floats, loads: Mapping[str, Floats], solar: Mapping[str, Floats] | None
    ) -> None:
        self.tree, self.slots, self.cost, self.loads, self.solar = tree, slots, cost, loads, solar

    def solve(self, rows: list[_Row], now_us: int) -> tuple[list[_Row], SharedPlan]:
        """The cheapest plan; what a minimum charge cannot get in its time is wanted afterwards; then who gets how much."""
        shared = self._plan(rows)
        if float(shared.unserved_kwh.sum()) <= SHORT_KWH:
            return rows, shared
        carried = _carried(rows, shared.unserved_kwh)
        if carried != rows:
            rows, shared = carried, self._plan(carried)
        if float(shared.unserved_kwh.sum()) <= SHORT_KWH:
            return rows, shared
        targets = self._targets(rows, now_us)
        fair = [
            msgspec.structs.replace(row, energy_kwh=min(row.energy_kwh, target))
            for row, target in zip(rows, targets, strict=True)
        ]
        return rows, self._plan(fair)

    def _plan(self, rows: Sequence[_Row]) -> SharedPlan:
        fleet = Fleet.of(
            [row.arrival_us for row in rows], [row.departure_us for row in rows], [row.energy_kwh for row in rows],
            [row.max_kw for row in rows], node=[self.tree.number[row.node] for row in rows],
            phases=[PHASES[row.phases] for row in rows], priority=[row.priority for row in rows], min_a=LEAST_A,
        )  # fmt: skip
        return plan_shared(fleet, self.tree, self.slots, self.cost, self.loads, self.solar)

    def _targets(self, rows: Sequence[_Row], now_us: int) -> list[float]:
        """How much each stay will get, by the scheduler that serves drivers; limits as they are in the mean."""

        def mean(limit: object) -> float | None:
            return None if limit is None else float(np.mean(np.asarray(limit, np.float64)))

        nodes = [Node(one.id, one.parent, mean(one.limit_kw), mean(one.current_a)) for one in self.tree.nodes]
        scheduler = OnlineScheduler(Tree(nodes))
        loads = {node: float(np.mean(kw)) for node, kw in self.loads.items()}
        solar = {node: float(np.mean(kw)) for node, kw in self.solar.items()} if self.solar else None
        scheduler.limit(scheduler.tree, loads, solar)
        for at, row in enumerate(rows):
            scheduler.arrive(
                str(at), row.departure_us, row.energy_kwh, row.max_kw, node=row.node, phases=PHASES[row.phases],
                priority=row.priority, min_a=LEAST_A,
            )  # fmt: skip
        scheduler.powers(now_us)
        return [scheduler.stays[str(at)].target_kwh for at in range(len(rows))]


def _carried(rows: Sequence[_Row], unserved: Floats) -> list[_Row]:
    """What a minimum charge lacks is added to the rest of its stay."""
    lacking = {row.member: float(kwh) for row, kwh in zip(rows, unserved, strict=True) if row.is_minimum and kwh > 1e-3}
    found: list[_Row] = []
    for row in rows:
        lack = lacking.get(row.member, 0.0)
        sign = -1.0 if row.is_minimum else 1.0
        found.append(msgspec.structs.replace(row, energy_kwh=max(row.energy_kwh + sign * lack, 1e-6)) if lack else row)
    return found


class _Row(msgspec.Struct, frozen=True):
    """One stay of the shared plan; a car with a minimum has two, one after the other."""

    member: int
    arrival_us: int
    departure_us: int
    energy_kwh: float
    max_kw: float
    node: str
    phases: int
    priority: int
    is_minimum: bool = False


def _rows(one: Member, at: int, root: str, slots: Slots, now_us: int) -> list[_Row]:
    known, car = one.known, one.known.car
    soc = known.now.soc_percent or 0.0
    per_percent = car.capacity_kwh / 100 / car.efficiency
    need = max(known.goal.target_percent - soc, 0.0) * per_percent
    first = max(known.goal.minimum_percent - soc, 0.0) * per_percent
    max_kw = power_of(known.goal, car)
    if need <= 0 or max_kw <= 0:
        return []
    begin_us = int(slots.start_us[0])
    node = CHARGING if one.place.node in ("", root) else one.place.node
    rows = []
    if first > 0:
        needed_us = now_us + round(first / max_kw * 3_600_000_000)
        end_us = int(slots.end_us[min(int(np.searchsorted(slots.end_us, needed_us)), len(slots) - 1)])
        rows.append(_Row(at, begin_us, end_us, first, max_kw, node, car.phases, one.place.priority + FIRST, True))
        begin_us, need = end_us, max(need - first, 1e-5)
    if need > 1e-6:
        end_us = max(known.departure_us, begin_us)
        rows.append(_Row(at, begin_us, end_us, need, max_kw, node, car.phases, one.place.priority))
    return rows


def tree_of(site: ChargeSite, dimmings: Sequence[Dimming], slots: Slots) -> Tree:
    """The site's limits with the one for all charging; children of the root hang under it."""
    root = site.root
    nodes = [
        Node(root.id, "", root.limit_kw or None, root.current_a or None),
        Node(CHARGING, root.id, dimmed(dimmings, slots)),
    ]
    for node in site.nodes:
        if node.parent:
            parent = CHARGING if node.parent == root.id else node.parent
            nodes.append(Node(node.id, parent, node.limit_kw or None, node.current_a or None))
    return Tree(nodes)


def dimmed(dimmings: Sequence[Dimming], slots: Slots) -> Floats:
    """What charging may draw altogether in each slot, as grid operators say; the lowest counts, a slot's part for the whole."""
    limit = np.full(len(slots), UNLIMITED_KW)
    for one in dimmings:
        if not one.ended_us:
            inside = (slots.start_us < one.until_us) & (slots.end_us > one.from_us)
            limit[inside] = np.minimum(limit[inside], one.limit_kw)
    return limit


def room_of(site: ChargeSite, dimmings: Sequence[Dimming], slots: Slots, building: Floats, solar: Floats) -> Floats:
    """What is left for charging at the root in each slot."""
    root = site.root
    kw = [limit for limit in (root.limit_kw, root.current_a * 3 * 0.23) if limit]
    return np.minimum(np.maximum(min(kw) - building + solar, 0.0), dimmed(dimmings, slots))


def _loads(depot: Depot, slots: Slots) -> tuple[Floats, Floats]:
    """Building and sun in each slot: foretold where a series says so, else as last told."""
    found = []
    for series, last in ((depot.building, depot.site.building_kw), (depot.solar, depot.site.solar_kw)):
        known = series is not None and len(series) > 0
        found.append(np.maximum(on_slots(series, slots).value, 0.0) if known else np.full(len(slots), last))
    return found[0], found[1]


def _plan(
    known: Known, power: Floats, slots: Slots, price: Floats, carbon: Floats, is_forecast: object, depot: Depot,
    gap: float, now_us: int, cause: str,
) -> StoredPlan:  # fmt: skip
    car, goal = known.car, known.goal
    hours = slots.length_s / 3600
    energy = power * hours
    gain = 100 * car.efficiency / car.capacity_kwh
    soc = np.concatenate([[0.0], np.cumsum(energy)]) * gain + (known.now.soc_percent or 0.0)
    missing = max(goal.target_percent - float(soc[-1]), 0.0)
    max_kw = power_of(goal, car)
    at_once = np.minimum(np.maximum(energy.sum() - np.cumsum(np.append(0, max_kw * hours))[:-1], 0.0), max_kw * hours)
    currency = depot.price.currency if depot.price else ""
    unit = 10 ** MINOR_DIGITS.get(currency, 2)
    needed_h = max(goal.target_percent - (known.now.soc_percent or 0.0), 0.0) / gain / max(max_kw, 0.1)
    is_short = missing / gain > 0.05
    return StoredPlan(
        ref=goal.ref, version=0, goal_version=goal.version, made_us=now_us, departure_us=known.departure_us,
        start_us=tuple(slots.start_us.tolist()), length_s=tuple(slots.length_s.tolist()), power_kw=_rounded(power),
        soc_percent=_rounded(soc), pieces=pieces_of(power, slots), cost_minor=round(float(energy @ price) * unit),
        currency=currency, co2_g=round(float(energy @ carbon)), at_once_minor=round(float(at_once @ price) * unit),
        at_once_g=round(float(at_once @ carbon)), energy_kwh=round(float(energy.sum()), 3),
        target_percent=goal.target_percent, shortfall_kwh=round(missing / gain * car.efficiency, 3) if is_short else 0.0,
        reason="charging.plan.shared" if is_short else "", gap=gap, price=_rounded(price, 5) if depot.price else (),
        carbon_g=_rounded(carbon, 1) if depot.carbon else (),
        is_forecast=tuple(np.asarray(is_forecast, np.bool_).tolist()) if depot.price else (),
        latest_us=known.departure_us - round(needed_h * 3_600_000_000), cause=cause, site=depot.site.id,
    )  # fmt: skip


def _idle(known: Known, slots: Slots, now_us: int, cause: str) -> StoredPlan:
    """Of a car that needs nothing."""
    soc = known.now.soc_percent or 0.0
    count = len(slots)
    return StoredPlan(
        ref=known.goal.ref, version=0, goal_version=known.goal.version, made_us=now_us,
        departure_us=known.departure_us, start_us=tuple(slots.start_us.tolist()),
        length_s=tuple(slots.length_s.tolist()), power_kw=(0.0,) * count, soc_percent=(soc,) * (count + 1), pieces=(),
        cost_minor=0, currency="", co2_g=0, at_once_minor=0, at_once_g=0, energy_kwh=0.0,
        target_percent=known.goal.target_percent, reason="charging.plan.already", latest_us=known.departure_us, cause=cause,
    )  # fmt: skip


def pieces_of(power: Floats, slots: Slots) -> tuple[tuple[int, int, float], ...]:
    """(from, to, kW) of slots with power, neighbours of the same power as one; what is less than a watt is nothing."""
    found: list[tuple[int, int, float]] = []
    for begin, end, kw in zip(slots.start_us.tolist(), slots.end_us.tolist(), power.tolist(), strict=True):
        if kw < 1e-3:
            continue
        kw = round(kw, 3)
        if found and found[-1][1] == begin and found[-1][2] == kw:
            found[-1] = (found[-1][0], end, kw)
        else:
            found.append((begin, end, kw))
    return tuple(found)


def _site_plan(
    depot: Depot, slots: Slots, limit: Floats, planned: Floats, shared: SharedPlan | None, cost: int, now_us: int, cause: str,
    wanted_kwh: float = 0.0,
) -> SitePlan:  # fmt: skip
    return SitePlan(
        depot.site.id, now_us, tuple(slots.start_us.tolist()), tuple(slots.length_s.tolist()), _rounded(limit),
        _rounded(planned), cost, depot.price.currency if depot.price else "", shared.gap if shared else 0.0,
        round(float(np.maximum(planned - limit, 0).max(initial=0.0)), 4),
        round(max(wanted_kwh - float(planned @ (slots.length_s / 3600)), 0.0), 3), len(depot.members), 0.0, cause,
    )  # fmt: skip


def _rounded(values: Floats, digits: int = 4) -> tuple[float, ...]:
    return tuple(np.round(np.asarray(values, np.float64), digits).tolist())
