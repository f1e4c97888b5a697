"""Many vehicles as few windows: those of one class, arrival and departure answer prices together, and exactly so.

Under given slot prices each vehicle takes the cheapest slots of its stay until it has its energy. How much all vehicles of a window take of
the k cheapest slots depends on F(k) = sum of min(energy, k * power * slot) alone, whichever slots those are; so a table of F answers
for any number of vehicles. A mix of several answers is again simple: the mean power of a vehicle in a slot is its greatest power times a
function of its charging time alone, one table for each window (`blend`), from which single schedules are read off.

Flow: `gather` vehicles into windows -> `Windows.respond` to prices, many times -> `Windows.blend` the answers of a plan -> `Blend.power`
for some vehicles or `Blend.write` for all. Slots may differ in length if they share a common unit that is not too small. Constant power.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Refused
from rocade.services.charging.planning.limits import ALL_PHASES, Fleet, Floats, Ints
from rocade.services.charging.planning.slots import Slots

LARGEST_TABLE = 60_000_000
SHARD = 32_768
"""Vehicles written at once."""
MANY = 8
"""Rows of a table for each vehicle up to which schedules are read from tables."""
NEVER = 2**30
WORTH = 20.0
"""What a kWh not charged costs, in spreads of the prices, of the lowest priority; the next pays as much again."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Vehicles gathered. Shape: G windows sorted by class, C classes, T slots, N vehicles, U units of time.

    Q places (node and phases) that see one price each; `place_of` (C,). `taken_kwh` (G, U + 1) is F; `units` (G, T) the length of a slot inside the window, else 0; `need_units` how long a vehicle
    charges at full power, at most its stay.
    """

    window_of: NDArray[np.int32]
    need_units: Floats
    max_kw: Floats
    class_of: Ints
    class_start: Ints
    class_keys: Ints
    place_of: Ints
    place_start: Ints
    units: Ints
    units_by_slot: Ints
    taken_kwh: Floats
    slot_units: Ints
    unit_h: float
    energy_kwh: Floats
    """Of each class: what can be had within the stays."""
    short_kwh: float
    """What no stay is long enough for."""
    peak_kw: Floats
    """Of each class and slot: all present at full power."""

    def worth(self, price: Floats) -> Floats:
        """What leaving a kWh of each class uncharged costs: more than any detour by way of other vehicles could save."""
        spread = max(float(np.ptp(price)), 0.1 * float(np.abs(price).max()), 0.01)
        rank = np.unique(self.class_keys[:, 2], return_inverse=True)[1]
        return np.asarray(float(price.max()) + WORTH * spread * (1.0 + rank), np.float64)

    def present_h(self) -> Floats:
        """Hours of each slot that each vehicle is there. Shape: (N, T)."""
        return np.asarray((self.units * self.unit_h)[self.window_of], np.float64)

    def respond(self, price: Floats, worth: Floats) -> Floats:
        """What each class takes in each slot; slots at or above its worth are left. Shape: price (Q, T), worth (C,) -> (C, T) kWh."""
        order, length = self._cheapest_first(price, worth)
        length[0] += np.arange(length.shape[1]) * self.taken_kwh.shape[1]  # where the window's F begins
        np.cumsum(length, axis=0, out=length)
        reached = np.add.reduceat(self.taken_kwh.ravel().take(length), self.class_start, axis=1)
        energy = np.empty((len(worth), len(length)))
        np.put_along_axis(energy, order[self.place_of], np.diff(reached, axis=0, prepend=0.0).T, axis=1)
        return energy

    def blend(self, prices: Sequence[Floats], worth: Floats, weights: Floats) -> Blend:
        """The schedules of a mix of answers. Shape: K prices of (Q, T), weights (K, C) with columns that sum to 1."""
        before = []
        for price in prices:
            order, length = self._cheapest_first(price, worth)
            sooner = np.where(length > 0, np.cumsum(length, axis=0) - length, NEVER)
            by_slot = np.empty(length.shape, np.int32)
            if len(order) == 1:
                by_slot[order[0]] = sooner
            else:
                np.put_along_axis(by_slot, order[self.place_of[self.class_of]].T, sooner, axis=0)
            before.append(np.ascontiguousarray(by_slot.T))
        return Blend(self, before, weights[:, self.class_of])

    def _cheapest_first(self, price: Floats, worth: Floats) -> tuple[Ints, Ints]:
        """The slots of each place by price (Q, T), and how long each window can use them in that order (T, G)."""
        order = np.argsort(price, axis=1, kind="stable")
        rising = np.take_along_axis(price, order, 1)[self.place_of]
        if len(order) == 1:
            length = self.units_by_slot[order[0]]
        else:
            length = np.take_along_axis(self.units_by_slot, order[self.place_of[self.class_of]].T, 0)
        if (left := rising >= worth[:, None]).any():
            length[left[self.class_of].T] = 0
        return order, length


class Blend:
    """Single schedules of a plan: which part of its full power a vehicle uses in each slot.

    `before[k]` (G, T) says after how many units of charging an answer's windows begin to use a slot, `weights` (K, G) how much it counts.
    For many vehicles the mix is written down once for every whole number of units; a vehicle lies between two of these rows.
    """

    def __init__(self, windows: Windows, before: list[NDArray[np.int32]], weights: Floats) -> None:
        self.windows, self.before, self.weights = windows, before, weights
        self.table: NDArray[np.float32]
        """Parts of full power by slot: a row for each whole number of units of each window, or for each vehicle."""
        self.row: Ints | None = None
        if int((windows.units.sum(axis=1) + 2).sum()) < MANY * len(windows.need_units):
            self._tabulate()
        else:
            self._answer_by_answer()

    def power(self, vehicles: slice = slice(None)) -> NDArray[np.float32]:
        """Mean power of vehicles in each slot. Shape: (n, T) kW."""
        full = self.windows.max_kw[vehicles].astype(np.float32)[:, None]
        power = self._look_up(self.row, vehicles) if self.row is not None else self.table[vehicles].copy()
        power *= full
        return np.clip(power, 0.0, full, out=power)

    def served_kwh(self) -> Floats:
        """What each vehicle gets. Shape: (N,)."""
        windows = self.windows
        units = self.table.astype(np.float64) @ windows.slot_units
        if self.row is not None:
            whole, part = self._place(self.row, slice(None))
            units = units[whole] * (1 - part) + units[whole + 1] * part
        return np.asarray(units * windows.max_kw * windows.unit_h, np.float64)

    def write(self, path: Path) -> None:
        """All schedules into one .npy file: float32, a row for each vehicle in the fleet's order, a column for each slot, kW."""
        number, slots = len(self.windows.need_units), self.windows.units.shape[1]
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (number, slots)}
            np.lib.format.write_array_header_1_0(file, header)
            for begin in range(0, number, SHARD):
                self.power(slice(begin, begin + SHARD)).tofile(file)

    def _answer_by_answer(self) -> None:
        """A vehicle uses a slot from where the cheaper ones are full to where it is full itself."""
        window = self.windows.window_of
        need = self.windows.need_units[:, None].astype(np.float32)
        length = self.windows.slot_units.astype(np.float32)
        total = np.zeros((len(window), len(length)), np.float32)
        for before, weight in zip(self.before, self.weights.astype(np.float32), strict=True):
            used = before.astype(np.float32).take(window, axis=0)
            np.subtract(need, used, out=used)
            np.clip(used, 0, length, out=used)
            used *= weight[window][:, None]
            total += used
        self.table = total / length

    def _look_up(self, row: Ints, vehicles: slice) -> NDArray[np.float32]:
        whole, part = self._place(row, vehicles)
        share = self.table.take(whole, axis=0)
        step = self.table.take(whole + 1, axis=0)
        step -= share
        step *= part.astype(np.float32)[:, None]
        share += step
        return share

    def _place(self, row: Ints, vehicles: slice) -> tuple[Ints, Floats]:
        """The row of a vehicle's whole units, and the part of the next."""
        need = self.windows.need_units[vehicles]
        whole = need.astype(np.int64)
        return row[self.windows.window_of[vehicles]] + whole, need - whole

    def _tabulate(self) -> None:
        """A slot's use bends up where it begins, down where it is full; summed twice, bends are values."""
        units, slots = self.windows.units, self.windows.units.shape[1]
        row = np.concatenate([[0], np.cumsum(units.sum(axis=1) + 2)])
        bends = np.zeros(int(row[-1]) * slots)
        for before, weight in zip(self.before, self.weights, strict=True):
            window, slot = np.nonzero((before < NEVER) & (weight > 0)[:, None])
            base = row[window] * slots + slot
            start = before[window, slot]
            for place, change in ((start, weight[window]), (start + units[window, slot], -weight[window])):
                bends[base + place * slots] += change  # a slot has one place in a window: no index comes twice
        curve = bends.reshape(-1, slots)
        table = np.zeros(curve.shape, np.float32)
        for begin, end in itertools.pairwise(row):
            of = np.cumsum(np.cumsum(curve[begin:end], axis=0), axis=0)
            table[begin + 1 : end] = of[:-1] / self.windows.slot_units
        self.table, self.row = table, row


def gather(fleet: Fleet, slots: Slots, blocks: int = 1) -> Windows:
    """Vehicles of one class (node, phases, priority, block) and stay become one window.

    A stay counts from the first whole slot after the arrival to the last whole one before the departure. Those of one place are
    dealt out by their stays, each part a class of its own, so that there are about `blocks` in all.
    Raises: Refused `charging.slots.uneven` if lengths of slots have no common unit that a table could be made of.
    """
    unit_s = math.gcd(*(int(length) for length in np.unique(slots.length_s)))
    slot_units = slots.length_s.astype(np.int64) // unit_s
    edges = np.concatenate([slots.start_us, slots.start_us[-1:] + slots.length_s[-1].astype(np.int64) * 1_000_000])
    count = len(slot_units)
    first = np.searchsorted(edges[:-1], fleet.arrival_us, "left")
    last = np.maximum(np.searchsorted(edges, fleet.departure_us, "right") - 1, first)
    keys, window_of = _keys(fleet, first, last, blocks)
    class_keys, class_of = np.unique(keys[:, :4], axis=0, return_inverse=True)
    class_of = class_of.reshape(-1)
    at = np.arange(count)
    units = np.where((at >= keys[:, 4:5]) & (at < keys[:, 5:6]), slot_units, 0)
    unit_h = unit_s / 3600
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(fleet.max_kw > 0, fleet.energy_kwh / (fleet.max_kw * unit_h), 0.0)
    need = np.minimum(wanted, units.sum(axis=1)[window_of])
    taken = _table(window_of, need, fleet.max_kw * unit_h, len(keys), int(units.sum(axis=1).max(initial=0)))
    class_start = np.searchsorted(class_of, np.arange(len(class_keys)))
    place_of = np.unique(class_keys[:, :2], axis=0, return_inverse=True)[1].reshape(-1)
    place_start = np.searchsorted(place_of, np.arange(place_of[-1] + 1))
    energy = np.add.reduceat(taken[:, -1], class_start)
    present = np.bincount(window_of, fleet.max_kw, len(keys))
    peak = np.add.reduceat((units > 0) * present[:, None], class_start, axis=0)
    return Windows(
        window_of, need, fleet.max_kw, class_of, class_start, class_keys, place_of, place_start, units, np.ascontiguousarray(units.T), taken, slot_units, unit_h, energy,
        float(fleet.energy_kwh.sum() - energy.sum()), peak,
    )  # fmt: skip


def _keys(fleet: Fleet, first: Ints, last: Ints, blocks: int) -> tuple[Ints, NDArray[np.int32]]:
    """The windows as rows (node, phases, priority, block, first, last), sorted, and the window of each vehicle."""
    middle = np.cumsum(np.bincount(first + last))[first + last]  # how many stays have their middle no later
    places = (
        np.unique(fleet.node * (ALL_PHASES + 1) + fleet.phases).size if fleet.node.any() or np.ptp(fleet.phases) else 1
    )
    block = (middle - 1) * max(blocks // places, 1) // len(first)
    columns = (fleet.node, fleet.phases, fleet.priority, block, first, last)
    low = [int(column.min()) for column in columns]
    span = [int(column.max()) - least + 1 for column, least in zip(columns, low, strict=True)]
    code = np.zeros(len(first), np.int64)
    for column, least, size in zip(columns, low, span, strict=True):
        code = code * size + (column - least)
    if math.prod(span) <= 4 * len(code) + 1_000_000:  # a table of what occurs is faster than sorting
        occurs = np.bincount(code, minlength=math.prod(span)) > 0
        found = np.flatnonzero(occurs)
        window_of = (np.cumsum(occurs) - 1)[code]
    else:
        found, window_of = np.unique(code, return_inverse=True)
    keys = np.empty((len(found), len(columns)), np.int64)
    for at in reversed(range(len(columns))):
        found, keys[:, at] = np.divmod(found, span[at])
        keys[:, at] += low[at]
    return keys, window_of.astype(np.int32)


def _table(window_of: NDArray[np.int32], need: Floats, kwh_per_unit: Floats, windows: int, longest: int) -> Floats:
    """F of each window: what its vehicles take of the first k units. Shape: (G, longest + 1) kWh."""
    if windows * (longest + 2) > LARGEST_TABLE:
        raise Refused(
            "charging.slots.uneven", "slots of such different lengths make too fine a grid; use whole minutes"
        )
    whole = need.astype(np.int64)
    place = window_of * np.int64(longest + 2) + whole
    size = windows * (longest + 2)
    rest = np.bincount(place, kwh_per_unit * (need - whole), size).reshape(windows, -1)
    full = np.bincount(place, kwh_per_unit, size).reshape(windows, -1)
    more = full[:, ::-1].cumsum(axis=1)[
        :, ::-1
    ]  # of unit k: those that need more than k whole units, and the rests of those that need k
    gain = np.zeros((windows, longest + 1))
    gain[:, 1:] = more[:, 1 : longest + 1] + rest[:, :longest]
    return np.cumsum(gain, axis=1)
