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
from rocade.services.charging.planning.limits import Fleet, Floats, Ints
from rocade.services.charging.planning.slots import Slots

LARGEST_TABLE = 60_000_000
SHARD = 32_768
"""Vehicles written at once."""
WORTH = 20.0
"""What a kWh not charged costs, in spreads of the prices, of the lowest priority; the next pays as much again."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Vehicles gathered. Shape: G windows sorted by class, C classes, T slots, N vehicles, U units of time.

    `taken_kwh` (G, U + 1) is F; `units` (G, T) the length of a slot inside the window, else 0; `need_units` how long a vehicle
    charges at full power, at most its stay.
    """

    window_of: NDArray[np.int32]
    need_units: Floats
    max_kw: Floats
    class_of: Ints
    class_start: Ints
    class_keys: Ints
    units: Ints
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
        priority = self.class_keys[:, 2]
        return np.asarray(float(price.max()) + WORTH * spread * (1.0 + priority - priority.min()), np.float64)

    def present_h(self) -> Floats:
        """Hours of each slot that each vehicle is there. Shape: (N, T)."""
        return np.asarray((self.units * self.unit_h)[self.window_of], np.float64)

    def respond(self, price: Floats, worth: Floats) -> Floats:
        """What each class takes in each slot at these prices; slots at or above its worth are left. Shape: (C, T) -> (C, T) kWh."""
        order = np.argsort(price, axis=1, kind="stable")
        usable = np.take_along_axis(price, order, 1) < worth[:, None]
        length = self._in_order(order) * (usable if len(order) == 1 else usable[self.class_of])
        np.cumsum(length, axis=1, out=length)
        length += (np.arange(len(length)) * self.taken_kwh.shape[1])[:, None]
        reached = np.add.reduceat(self.taken_kwh.ravel().take(length), self.class_start, axis=0)
        energy = np.empty_like(reached)
        np.put_along_axis(energy, order, np.diff(reached, axis=1, prepend=0.0), axis=1)
        return energy

    def blend(self, prices: Sequence[Floats], worth: Floats, weights: Floats) -> Blend:
        """The schedules of a mix of answers. Shape: K prices of (C, T), weights (K, C) with columns that sum to 1."""
        slots = self.units.shape[1]
        long = self.units.sum(axis=1)
        start = np.concatenate([[0], np.cumsum(long + 2)])
        bends = np.zeros(int(start[-1]) * slots)
        for price, weight in zip(prices, weights, strict=True):
            self._add_bends(bends, start, price, worth, weight)
        curve = bends.reshape(-1, slots)
        for of in np.split(curve, start[1:-1]):  # twice summed: bends, slopes, values
            np.cumsum(of, axis=0, out=of)
            np.cumsum(of, axis=0, out=of)
        share = np.zeros_like(curve)
        for begin, end in itertools.pairwise(start):
            share[begin + 1 : end] = curve[begin : end - 1]
        share /= self.slot_units
        return Blend(self, share.astype(np.float32), start)

    def _add_bends(self, bends: Floats, start: Ints, price: Floats, worth: Floats, weight: Floats) -> None:
        """A slot's use begins to grow where the cheaper ones are full, and stops growing where it is full itself."""
        order = np.argsort(price, axis=1, kind="stable")
        usable = np.take_along_axis(price, order, 1) < worth[:, None]
        length = self._in_order(order) * usable[self.class_of]
        end = np.cumsum(length, axis=1)
        window, at = np.nonzero((length > 0) & (weight[self.class_of] > 0)[:, None])
        slot = order[self.class_of[window], at]
        share = weight[self.class_of[window]]
        stop = end[window, at]
        base = start[window] * self.units.shape[1] + slot
        for place, change in ((stop - length[window, at], share), (stop, -share)):
            bends[base + place * self.units.shape[1]] += (
                change  # a slot has one place in a window: no index comes twice
            )

    def _in_order(self, order: Ints) -> Ints:
        if len(order) == 1:
            return self.units[:, order[0]]
        return np.take_along_axis(self.units, order[self.class_of], 1)


@dataclass(frozen=True, slots=True)
class Blend:
    """Single schedules of a plan: for each window and number of units charged, the share of full power in each slot."""

    windows: Windows
    share: NDArray[np.float32]
    start: Ints

    def power(self, vehicles: slice = slice(None)) -> NDArray[np.float32]:
        """Mean power of vehicles in each slot. Shape: (n, T) kW."""
        need = self.windows.need_units[vehicles]
        whole = need.astype(np.int64)
        row = self.start[self.windows.window_of[vehicles]] + whole
        part = (need - whole).astype(np.float32)[:, None]
        power = self.share.take(row, axis=0)
        step = self.share.take(row + 1, axis=0)
        step -= power
        step *= part
        power += step
        full = self.windows.max_kw[vehicles].astype(np.float32)[:, None]
        power *= full
        np.clip(power, 0.0, full, out=power)
        return power

    def served_kwh(self) -> Floats:
        """What each vehicle gets. Shape: (N,)."""
        units = self.share.astype(np.float64) @ self.windows.slot_units
        whole = self.windows.need_units.astype(np.int64)
        row = self.start[self.windows.window_of] + whole
        part = self.windows.need_units - whole
        served = units[row] * (1 - part) + units[row + 1] * part
        return np.asarray(served * self.windows.max_kw * self.windows.unit_h, np.float64)

    def write(self, path: Path) -> None:
        """All schedules into one .npy file: float32, a row for each vehicle in the fleet's order, a column for each slot, kW."""
        number, slots = len(self.windows.need_units), self.share.shape[1]
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (number, slots)}
            np.lib.format.write_array_header_1_0(file, header)
            for begin in range(0, number, SHARD):
                self.power(slice(begin, begin + SHARD)).tofile(file)


def gather(fleet: Fleet, slots: Slots, blocks: int = 1) -> Windows:
    """Vehicles of one class (node, phases, priority, block) and stay become one window.

    A stay counts from the first whole slot after the arrival to the last whole one before the departure. Windows are dealt out to
    `blocks` parts by their stay, each a class of its own.
    Raises: Refused `charging.slots.uneven` if lengths of slots have no common unit that a table could be made of.
    """
    unit_s = math.gcd(*(int(length) for length in np.unique(slots.length_s)))
    slot_units = slots.length_s.astype(np.int64) // unit_s
    edges = np.concatenate([slots.start_us, slots.start_us[-1:] + slots.length_s[-1].astype(np.int64) * 1_000_000])
    count = len(slot_units)
    first = np.searchsorted(edges[:-1], fleet.arrival_us, "left")
    last = np.maximum(np.searchsorted(edges, fleet.departure_us, "right") - 1, first)
    keys, window_of = _keys(fleet, first, last, count, blocks)
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
    energy = np.add.reduceat(taken[:, -1], class_start)
    present = np.bincount(window_of, fleet.max_kw, len(keys))
    peak = np.add.reduceat((units > 0) * present[:, None], class_start, axis=0)
    return Windows(
        window_of, need, fleet.max_kw, class_of, class_start, class_keys, units, taken, slot_units, unit_h, energy,
        float(fleet.energy_kwh.sum() - energy.sum()), peak,
    )  # fmt: skip


def _keys(fleet: Fleet, first: Ints, last: Ints, count: int, blocks: int) -> tuple[Ints, NDArray[np.int32]]:
    """The windows as rows (node, phases, priority, block, first, last), sorted, and the window of each vehicle."""
    block = (first + last) * blocks // (2 * count + 1) if blocks > 1 else np.zeros_like(first)
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
