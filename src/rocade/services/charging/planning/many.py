"""Exact plans of very many vehicles at constant power under one price curve: matrices in, matrix out, nothing per vehicle.

A vehicle that may charge from slot `first` to before slot `last` uses its cheapest slots in full and the next one in part. Which
slots those are depends on its window alone, so a table says for each window each slot's rank; a vehicle's row is where the rank is
below its number of full slots. Vehicles are answered in blocks that fit into the cache. Ties go to the earlier slot.
Cost: 96 slots, one thread: see docs/figures.md. Source: docs/decisions/0049-single-plans.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rocade.services.charging.planning import errors
from rocade.services.charging.planning.slots import Floats

type Power = NDArray[np.float32]
type Places = NDArray[np.int64]

BLOCK = 2_048
"""Vehicles answered at once."""
TABLE = 8_000_000
"""Cells of the tables of all windows at once."""
_OUTSIDE = 65_535


def plan_many(energy_kwh: Floats, max_kw: Floats, first: Places, last: Places, cost: Floats, step_h: float) -> Power:
    """The cheapest power of each vehicle in each slot; what does not fit into its window is left out, as with `plan_one`.

    Shape: vehicles [N], `cost` [T] -> float32 [N, T]. Units: kWh and kW at the plug; slots `first` .. `last` - 1 may be used.
    Raises: Refused `charging.need.energy`, `charging.need.power`, `charging.curve.length`, `charging.prices.missing`.
    """
    _check(energy_kwh, max_kw, first, last, cost)
    power = np.empty((len(energy_kwh), len(cost)), np.float32)
    for part in _parts(first, last, len(cost)):
        work = _Windows(energy_kwh[part], max_kw[part], first[part], last[part], cost, step_h)
        whole = isinstance(part, slice)
        answer = power if whole else np.empty((len(work.window), len(cost)), np.float32)
        for begin in range(0, len(work.window), BLOCK):
            work.answer(slice(begin, begin + BLOCK), answer[begin : begin + BLOCK])
        if not whole:
            power[part] = answer
    return power


def plan_many_load(
    energy_kwh: Floats, max_kw: Floats, first: Places, last: Places, cost: Floats, step_h: float
) -> Floats:
    """The sum of all those plans per slot, kW [T], without a row per vehicle: see `plan_many`."""
    _check(energy_kwh, max_kw, first, last, cost)
    load = np.zeros(len(cost))
    for part in _parts(first, last, len(cost)):
        load += _Windows(energy_kwh[part], max_kw[part], first[part], last[part], cost, step_h).load()
    return load


def _check(energy_kwh: Floats, max_kw: Floats, first: Places, last: Places, cost: Floats) -> None:
    count = len(energy_kwh)
    for column in (max_kw, first, last):
        if len(column) != count:
            raise errors.curve_length(count, len(column))
    if not (np.all(energy_kwh >= 0) and np.all(np.isfinite(energy_kwh))):
        raise errors.need("energy")
    if not (np.all(max_kw >= 0) and np.all(np.isfinite(max_kw))):
        raise errors.need("power")
    missing = ~np.isfinite(cost)
    if missing.any():
        raise errors.prices_missing(0, int(missing.sum()))


def _parts(first: Places, last: Places, slots: int) -> Sequence[slice | Places]:
    """Vehicles in groups of so few distinct windows that their tables stay small; most often one group."""
    most = max(1, TABLE // (slots + 1))
    if min(len(first), slots * (slots + 1) // 2) <= most:
        return [slice(None)]
    codes = np.clip(first, 0, slots) * (slots + 1) + np.clip(last, 0, slots)
    order = np.argsort(codes, kind="stable")
    number = np.cumsum(np.diff(codes[order], prepend=-1) != 0) - 1
    return np.split(order, np.flatnonzero(np.diff(number // most)) + 1)


class _Windows:
    """Each distinct window's slots in the order in which they are used, and for each vehicle how far it goes in that order."""

    def __init__(
        self, energy_kwh: Floats, max_kw: Floats, first: Places, last: Places, cost: Floats, step_h: float
    ) -> None:
        slots = len(cost)
        self.slots, self.max_kw = slots, max_kw
        begin = np.clip(first, 0, slots)
        end = np.clip(last, begin, slots)
        codes = (begin * (slots + 1) + end).astype(np.int64)
        present = np.zeros((slots + 1) ** 2, np.bool_)
        present[codes] = True
        windows = np.flatnonzero(present)
        number = np.zeros((slots + 1) ** 2, np.int32)
        number[windows] = np.arange(len(windows))
        self.window = number[codes]
        self.begin, self.end = windows // (slots + 1), windows % (slots + 1)
        self._rank(cost)
        per_slot = max_kw * step_h
        with np.errstate(divide="ignore", invalid="ignore"):
            used = np.where(per_slot > 0, energy_kwh / per_slot, 0.0)
        used = np.minimum(used, end - begin)
        self.full = used.astype(np.int64)
        self.rest = used - self.full

    def _rank(self, cost: Floats) -> None:
        """`order[w, k]`: the k-th slot that window w uses. `rank[w, t]`: the reverse, beyond all counts outside the window."""
        cheapest = np.argsort(cost, kind="stable")
        inside = (cheapest >= self.begin[:, None]) & (cheapest < self.end[:, None])
        place = np.cumsum(inside, axis=1) - 1
        rank = np.full((len(self.begin), self.slots), _OUTSIDE, np.uint16)
        order = np.zeros((len(self.begin), self.slots + 1), np.int64)
        rows, columns = np.nonzero(inside)
        rank[rows, cheapest[columns]] = place[rows, columns]
        order[rows, place[rows, columns]] = cheapest[columns]
        self.rank = rank.astype(np.uint8) if self.slots < 255 else rank
        self.order = order

    def answer(self, block: slice, power: Power) -> None:
        window, full, kw = self.window[block], self.full[block], self.max_kw[block]
        used = self.rank[window] < full[:, None].astype(self.rank.dtype)
        np.multiply(used, kw[:, None].astype(np.float32), out=power)
        partly = np.flatnonzero(self.rest[block])
        power[partly, self.order[window[partly], full[partly]]] = kw[partly] * self.rest[block][partly]

    def load(self) -> Floats:
        """Per window and rank the power of all vehicles that get that far, then back to slots."""
        width = self.slots + 1
        cell = self.window.astype(np.int64) * width + self.full
        count = len(self.begin) * width
        last = np.bincount(cell, self.max_kw, count).reshape(-1, width)
        parts = np.bincount(cell, self.max_kw * self.rest, count).reshape(-1, width)
        by_rank = np.cumsum(last[:, ::-1], axis=1)[:, ::-1] - last + parts
        used = np.arange(width) < (self.end - self.begin)[:, None]
        return np.bincount(self.order[used], by_rank[used], self.slots)
