"""Who charges now: a scheduler for cars that come and go unannounced, below limits that are too small for all.

It knows what has happened and what drivers declared, nothing of who comes next. It serves drivers rather than kWh, and hardly gives up any:

1. `_admit`: of the cars that lack energy to have enough (90 % of the need), the greatest number that can still get it in time is
   admitted, those with the least to go first (Moore and Hodgson's rule, at every limited node, from the leaves up).
2. `_targets`: how much each car will get: admitted ones up to enough, then all what is still free, who stays longest first, each kWh as late
   as it may be. Every kWh that cars on the spot could still be given thus keeps its place.
3. `powers`: cars that must charge now to get theirs, then admitted ones by departure, then the rest by slack; who comes first takes what
   he can below all limits above him. What is left over goes to anybody, so a limit is used up as long as anybody can use it.

A car past its declared departure may leave at any moment and counts as about to. Least currents are kept: a car gets 6 A or nothing.
Targets are computed again when cars, needs or limits change; between that, `powers` costs a sort. Source of 1: Moore, Management Science 15, 1968.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocade.services.charging.planning.limits import (
    ALL_PHASES,
    Floats,
    Ints,
    PowerAt,
    Rows,
    Tree,
    kw_of,
    own_load,
    rows_of,
)

ENOUGH = 0.9
"""Part of its need with which a car counts as served."""
HOUR_US = 3_600_000_000
SLACK_H = 1 / 6
"""A car that could wait no longer than this is urgent."""
DONE_KWH = 1e-3
LEAST_STAY_H = 1 / 12
"""What a car that should be gone is still expected to stay."""
AGAIN_US = 300_000_000
"""Targets are looked at again after this even if nothing happened."""


@dataclass(slots=True)
class Stay:
    """A car at its plug. `target_kwh` is what the scheduler means to give it in all."""

    departure_us: int
    energy_kwh: float
    max_kw: float
    node: int
    phases: int
    priority: int
    min_kw: float
    got_kwh: float = 0.0
    target_kwh: float = 0.0
    is_admitted: bool = False


class OnlineScheduler:
    """Cars come (`arrive`), say how they do (`metered`), change their mind (`change`), go (`leave`); `powers` says who charges now."""

    def __init__(self, tree: Tree, *, enough: float = ENOUGH, step_s: int = 300) -> None:
        """`step_s`: how long powers hold; a car that needs less gets less."""
        self.tree, self.enough, self.step_h = tree, enough, step_s / 3600
        self.stays: dict[str, Stay] = {}
        self._own = own_load(tree, 1, None, None)
        self._is_stale, self._again_us = True, 0

    def arrive(
        self, id: str, departure_us: int, energy_kwh: float, max_kw: float, *, node: str = "",
        phases: int = ALL_PHASES, priority: int = 0, min_a: float = 0.0,
    ) -> None:  # fmt: skip
        """A car is plugged in below a node (the root if none is named), or its stay is known anew."""
        at = self.tree.number[node] if node else next(n for n, path in enumerate(self.tree.paths) if len(path) == 1)
        least = min(float(kw_of(min_a, phases)), max_kw)
        self.stays[id] = Stay(departure_us, energy_kwh, max_kw, at, phases, priority, least)
        self._is_stale = True

    def leave(self, id: str) -> None:
        self.stays.pop(id, None)
        self._is_stale = True

    def metered(self, id: str, got_kwh: float) -> None:
        """What the car has got since it was plugged in."""
        self.stays[id].got_kwh = got_kwh

    def change(self, id: str, *, departure_us: int | None = None, energy_kwh: float | None = None) -> None:
        stay = self.stays[id]
        stay.departure_us = stay.departure_us if departure_us is None else departure_us
        stay.energy_kwh = stay.energy_kwh if energy_kwh is None else energy_kwh
        self._is_stale = True

    def limit(self, tree: Tree, building_kw: PowerAt = None, solar_kw: PowerAt = None) -> None:
        """Limits, building load and solar power as they are now."""
        self.tree, self._own, self._is_stale = tree, own_load(tree, 1, building_kw, solar_kw), True

    def powers(self, now_us: int) -> dict[str, float]:
        """Power of each car until the next call, kW; cars without energy to take are not named."""
        names = [name for name, stay in self.stays.items() if stay.energy_kwh - stay.got_kwh > DONE_KWH]
        if not names:
            return {}
        cars = _Cars([self.stays[name] for name in names], now_us, self.enough)
        rows = rows_of(self.tree, cars.node, cars.phases, self._own)
        if self._is_stale or now_us >= self._again_us:
            self._plan(cars, rows)
            self._is_stale, self._again_us = False, now_us + AGAIN_US
        given = self._share_out(cars, rows)
        return dict(zip(names, given, strict=True))

    def _plan(self, cars: _Cars, rows: Rows) -> None:
        admitted = _admit(cars, rows)
        targets = _targets(cars, rows, admitted)
        for stay, target, is_admitted in zip(cars.stays, targets, admitted, strict=True):
            stay.target_kwh, stay.is_admitted = stay.got_kwh + float(target), bool(is_admitted)

    def _share_out(self, cars: _Cars, rows: Rows) -> list[float]:
        """Power in the order of urgency, twice: up to the targets, then to whoever can take what is left."""
        target = np.array([max(stay.target_kwh - stay.got_kwh, 0.0) for stay in cars.stays])
        admitted = np.array([stay.is_admitted for stay in cars.stays]) & (cars.enough > 0)
        slack = cars.left_h - target / cars.max_kw
        rank = np.where(target <= DONE_KWH, 3, np.where(slack <= SLACK_H, 0, np.where(admitted, 1, 2)))
        order = np.lexsort((np.where(rank == 1, cars.left_h, slack), -cars.priority, rank))
        given = np.zeros(len(target))
        room = _Room(rows, cars)
        room.give(order, np.minimum(cars.max_kw, target / self.step_h), given)
        last = np.lexsort((cars.left_h - cars.rest / cars.max_kw, -cars.priority))
        room.give(last, np.minimum(cars.max_kw, cars.rest / self.step_h), given)
        return given.tolist()


class _Cars:
    """The cars on the spot as columns. `rest` and `enough`: kWh to the whole need, and to enough of it."""

    def __init__(self, stays: list[Stay], now_us: int, enough: float) -> None:
        self.stays = stays
        columns = np.array([
            (s.departure_us - now_us, s.energy_kwh, s.got_kwh, s.max_kw, s.min_kw, s.node, s.phases, s.priority) for s in stays
        ], np.float64).T  # fmt: skip
        self.left_h = np.maximum(columns[0] / HOUR_US, LEAST_STAY_H)
        self.rest = columns[1] - columns[2]
        self.enough = np.maximum(columns[1] * enough + DONE_KWH - columns[2], 0.0)
        self.max_kw, self.min_kw = np.maximum(columns[3], 1e-9), columns[4]
        self.node, self.phases, self.priority = (column.astype(np.int64) for column in columns[5:])


class _Room:
    """What is still free below each limit."""

    def __init__(self, rows: Rows, cars: _Cars) -> None:
        self.free = rows.room[:, 0].tolist()
        self.paths = [[(int(row), float(share[row])) for row in np.flatnonzero(share)] for share in rows.share.T]
        self.min_kw = cars.min_kw.tolist()

    def give(self, order: Ints, wanted: Floats, given: Floats) -> None:
        want = wanted.tolist()
        for at in order.tolist():
            more = max(want[at], self.min_kw[at]) - given[at]
            for row, share in self.paths[at]:
                more = min(more, self.free[row] / share)
            if more <= 1e-9 or given[at] + more < self.min_kw[at] - 1e-9:
                continue
            given[at] += more
            for row, share in self.paths[at]:
                self.free[row] -= share * more


def _admit(cars: _Cars, rows: Rows) -> NDArray[np.bool_]:
    """Cars that can still get enough, as many as can be together; a higher priority is never given up for a lower one."""
    admitted = (cars.enough > 0) & (cars.enough <= cars.max_kw * cars.left_h + DONE_KWH)
    by_departure = np.argsort(cars.left_h, kind="stable")
    left, lack, priority = cars.left_h.tolist(), cars.enough.tolist(), cars.priority.tolist()
    for row in np.argsort((rows.share > 0).sum(axis=1), kind="stable"):  # the leaves first
        share, room = rows.share[row].tolist(), float(rows.room[row, 0])
        load = 0.0
        heap: list[tuple[int, float, int]] = []
        for at in by_departure.tolist():
            if not (admitted[at] and share[at] > 0):
                continue
            load += lack[at] * share[at]
            heapq.heappush(heap, (priority[at], -lack[at] * share[at], at))
            while heap and load > room * left[at] + DONE_KWH:
                _, less, out = heapq.heappop(heap)
                load += less
                admitted[out] = False
    return np.asarray(admitted, np.bool_)


def _targets(cars: _Cars, rows: Rows, admitted: NDArray[np.bool_]) -> Floats:
    """What each car will get, each kWh as late as it may be: so nothing that could still be given is lost."""
    edges = np.unique(cars.left_h)
    length = np.diff(edges, prepend=0.0)
    free = rows.room[:, :1] * length
    ends = (np.searchsorted(edges, cars.left_h) + 1).tolist()
    full, enough, rest = cars.max_kw.tolist(), cars.enough.tolist(), cars.rest.tolist()
    paths = [[(free[row], share[row]) for row in np.flatnonzero(share)] for share in rows.share.T]
    target = [0.0] * len(ends)
    first = np.lexsort((cars.enough, -cars.priority))
    then = np.lexsort((-cars.left_h, -cars.priority))
    for order, wanted in ((first[admitted[first]], enough), (then, rest)):
        for at in order.tolist():
            if (lack := wanted[at] - target[at]) > DONE_KWH:
                target[at] += _latest(paths[at], length[: ends[at]] * full[at], lack)
    return np.asarray(np.minimum(target, cars.max_kw * cars.left_h), np.float64)


def _latest(path: list[tuple[Floats, float]], most: Floats, wanted: float) -> float:
    """Put energy into the intervals before a departure, from the last to the first; how much of it has a place."""
    end = len(most)
    for free, share in path:
        most = np.minimum(most, free[:end] / share)
    reached = np.minimum(most[::-1].cumsum(), wanted)
    took = reached.copy()
    took[1:] -= reached[:-1]
    for free, share in path:
        free[:end] -= share * took[::-1]
    return float(reached[-1])
