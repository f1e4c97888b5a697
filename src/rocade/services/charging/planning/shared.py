"""A fleet under shared limits: the cheapest plan by price decomposition, and a proof of how far from the optimum it is.

Flow: vehicles become windows (`windows.gather`), limits rows (`limits.rows_of`) -> `decomposition` mixes the windows' exact answers to prices
until the mix costs no more than a proven bound by `gap` -> vehicles that take no power below 6 A are switched on or off
(`phases.round_to_minimum`); the bound stays the one of the wider problem.

Energy that cannot be had is never an error: it stays `unserved_kwh`, of lower priorities first, for leaving it costs far more than any price.
Own solar power to spare costs what feeding it in would have brought.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocade.core.errors import Refused
from rocade.services.charging.planning import errors
from rocade.services.charging.planning.decomposition import Decomposition, Found, Spare
from rocade.services.charging.planning.limits import (
    Fleet,
    Floats,
    PowerAt,
    Rows,
    Tree,
    at_nodes,
    below_of,
    own_load,
    rows_of,
)
from rocade.services.charging.planning.phases import round_to_minimum
from rocade.services.charging.planning.slots import SECOND_US, Slots
from rocade.services.charging.planning.windows import Blend, Windows, gather

GAP = 1e-4
ROUNDS = 400
BLOCKS = 16
"""Parts a fleet is dealt out to: more make fewer rounds of a larger program."""
type Power = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """A plan for a fleet. Units: costs in the currency of the prices, with their sign.

    `lower_bound`: no plan that leaves as little uncharged costs less; `gap` is what the plan costs beyond it, relative to its cost.
    `load_kw` (T,) is the sum of all vehicles; `excess` the worst part by which a limit is exceeded; `unserved_kwh` (N,) what each vehicle
    misses; `room_price` (R, T) what one more kWh below a limit would be worth, limits named by `limits`; `over_kw` (R, T) what buildings
    alone take beyond their limit.
    """

    cost: float
    lower_bound: float
    gap: float
    excess: float
    unserved_kwh: Floats
    load_kw: Floats
    room_price: Floats
    limits: tuple[str, ...]
    over_kw: Floats
    rounds: int
    _power: Power | None
    _blend: Blend

    @property
    def power_kw(self) -> Power:
        """Mean power of each vehicle in each slot. Shape: (N, T). For millions use `write_schedules`."""
        return self._blend.power() if self._power is None else self._power

    def write_schedules(self, path: Path) -> None:
        """All schedules into one .npy file, float32 (N, T) kW, shard by shard."""
        if self._power is None:
            self._blend.write(path)
        else:
            with path.open("wb") as file:
                np.save(file, self._power)


def slots_from(now_us: int, until_us: int, step_s: int = 900) -> Slots:
    """Slots on the grid of their length, the first cut to begin at this whole minute: for planning again in the midst of one."""
    whole = Slots.over(now_us, until_us, step_s)
    begin = now_us // (60 * SECOND_US) * 60 * SECOND_US
    start, length = whole.start_us.copy(), whole.length_s.copy()
    length[0] -= (begin - start[0]) // SECOND_US
    start[0] = begin
    return Slots(start, length)


def plan_shared(
    fleet: Fleet, tree: Tree, slots: Slots, cost: ArrayLike, building_kw: PowerAt = None, solar_kw: PowerAt = None,
    *, feed_in: ArrayLike = 0.0, gap: float = GAP, rounds: int = ROUNDS, blocks: int = BLOCKS,
) -> SharedPlan:  # fmt: skip
    """The cheapest plan that keeps every limit of the tree.

    `cost` per kWh and slot; `building_kw` and `solar_kw` at the root, or by node; `feed_in` what a kWh fed in brings.
    Raises: Refused `charging.curve.length`, `charging.prices.missing`, `charging.limits.tree`, `charging.slots.uneven`.
    """
    price = np.asarray(cost, np.float64)
    if len(price) != len(slots):
        raise errors.curve_length(len(slots), len(price))
    if (missing := ~np.isfinite(price)).any():
        raise errors.prices_missing(int(slots.start_us[missing][0]), int(missing.sum()))
    if not len(fleet):
        idle = plan_shared(Fleet.of([0], [0], [0], [0]), tree, slots, price, building_kw, solar_kw, feed_in=feed_in)
        return replace(idle, unserved_kwh=np.zeros(0), _power=np.zeros((0, len(slots)), np.float32))
    own = own_load(tree, len(slots), building_kw, solar_kw)
    windows = gather(fleet, slots, blocks)
    if fleet.node.min(initial=0) < 0 or fleet.node.max(initial=0) >= len(tree.nodes):
        raise Refused("charging.limits.tree", "the tree of limits has no node of the number a vehicle names")
    rows = rows_of(tree, windows.class_keys[:, 0], windows.class_keys[:, 1], own)
    saving = price - np.asarray(feed_in, np.float64)
    spare = _spare(tree, windows, own, solar_kw, saving)
    hours = slots.length_s / 3600
    found = Decomposition(windows, rows, spare, price, hours).run(gap, rounds)
    if not (fleet.min_kw > 0).any():
        unserved = np.maximum(fleet.energy_kwh - found.blend.served_kwh(), 0.0)
        return _told(found, windows, rows, spare, saving, price, hours, unserved, found.load_kw, found.load_kw, None)
    class_of = windows.class_of[windows.window_of]
    taken, counted = round_to_minimum(
        fleet, rows, class_of, windows.present_h(), found.blend.power(), found.class_price, windows.worth(price)
    )
    unserved = np.maximum(fleet.energy_kwh - taken @ hours, 0.0)
    load, counted = (_by_class(class_of, power, len(windows.class_keys)) for power in (taken, counted))
    return _told(found, windows, rows, spare, saving, price, hours, unserved, load, counted, taken.astype(np.float32))


def _spare(tree: Tree, windows: Windows, own: Floats, solar_kw: PowerAt, saving: Floats) -> Spare:
    """Where own power is left over, charging saves the price and loses the feed-in."""
    at = [tree.number[name] for name in at_nodes(tree, solar_kw)]
    if any(above in at for node in at for above in tree.paths[node][1:]):
        raise Refused(
            "charging.limits.tree", "the tree of limits has solar power at a node and above it; put both at the meter"
        )
    below = below_of(tree, windows.class_keys[:, 0])[at]
    return Spare(below, np.maximum(-own[at], 0.0), np.maximum(saving, 0.0))


def _told(
    found: Found, windows: Windows, rows: Rows, spare: Spare, saving: Floats, price: Floats, hours: Floats,
    unserved: Floats, load: Floats, counted: Floats, power: Power | None,
) -> SharedPlan:  # fmt: skip
    """Cost, bound and gap of a load. Shape: load and counted (C, T)."""
    energy = load * hours
    used = np.minimum(spare.share @ load, spare.most_kw) * hours
    cost = float((energy * price).sum() - (used * saving).sum())
    left = float(windows.worth(price) @ (windows.energy_kwh - energy.sum(axis=1)))
    beyond = cost + left - found.bound
    least = float(np.abs(price).mean() * windows.energy_kwh.sum()) / 100
    return SharedPlan(
        cost, cost - beyond, max(beyond, 0.0) / max(abs(cost), least, 1e-9), rows.excess(counted), unserved,
        load.sum(axis=0), found.room_price, rows.names, rows.over, found.rounds, power, found.blend,
    )  # fmt: skip


def _by_class(class_of: NDArray[np.int64], power: Floats, classes: int) -> Floats:
    load = np.zeros((classes, power.shape[1]))
    np.add.at(load, class_of, power)
    return load
