"""How fast a battery takes energy, and the cheapest way to fill it: power tapers with the state of charge.

The way of looking at it: time spent charging. `Curve` says how much the plug has given after u hours of charging as fast as the
car takes it. In these hours a slot of length h simply allows a step of 0..h, whatever the taper, and a plan is on-time per slot.

`cheapest` is dynamic programming over that time. Power is constant between the curve's knots, so cost is linear as long as no
slot boundary passes a knot: some cheapest plan then has each boundary tied, through slots that are off or on throughout, to the begin, to
the target or to a knot. These few positions (plus whole slots) are all the states there are: the result is exact and stops
exactly on the target. `refine` adds states without need, as a check. Source: docs/decisions/0049-single-plans.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rocade.services.charging.planning import errors

type Floats = NDArray[np.float64]

CELL_PERCENT = 1.0
"""Within a cell of this width the power is taken as constant; the time to cross it is exact."""
_WITHIN_CELL = 8
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Taper:
    """The power at the plug that a car takes at a state of charge; straight lines between the points, level beyond them.

    Units: percent, kW. Raises: Refused `charging.need.taper`.
    """

    percent: tuple[float, ...]
    kw: tuple[float, ...]

    def __post_init__(self) -> None:
        grows = all(a < b for a, b in zip(self.percent, self.percent[1:], strict=False))
        inside = all(0 <= one <= 100 for one in self.percent) and all(0 < one < 10_000 for one in self.kw)
        if not (0 < len(self.percent) == len(self.kw) <= 1_000 and grows and inside):
            raise errors.need("taper")


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Charging without pause from now on. Shape: knots, first at 0 hours; `plug_kwh` grows with `hours`.

    `stored_percent` is the state of charge at the same knots.
    """

    hours: Floats
    plug_kwh: Floats
    stored_percent: Floats

    @classmethod
    def of(
        cls,
        now_percent: float,
        target_percent: float,
        kwh_per_percent: float,
        max_kw: float,
        taper: Taper | None,
        *,
        cell_percent: float = CELL_PERCENT,
    ) -> Self:
        """The curve from one state of charge to another; `kwh_per_percent` is what the plug gives for one percent."""
        edges, kw = _cells(now_percent, target_percent, max_kw, taper, cell_percent)
        energy = np.diff(edges) * kwh_per_percent
        hours = np.concatenate([[0.0], np.cumsum(energy / kw)])
        return cls(hours, np.concatenate([[0.0], np.cumsum(energy)]), edges)

    def kwh_after(self, hours: Floats | float) -> Floats:
        return np.asarray(np.interp(hours, self.hours, self.plug_kwh))

    def percent_after(self, hours: Floats | float) -> Floats:
        return np.asarray(np.interp(hours, self.hours, self.stored_percent))

    def hours_to(self, percent: float) -> float:
        return float(np.interp(percent, self.stored_percent, self.hours))


def _cells(begin: float, end: float, max_kw: float, taper: Taper | None, cell_percent: float) -> tuple[Floats, Floats]:
    """Edges of cells of constant power, and that power: in each the one that takes the true time to cross it."""
    if taper is None:
        return np.array([begin, end]), np.array([max_kw])
    marks = np.arange(np.floor(begin / cell_percent) + 1, np.ceil(end / cell_percent)) * cell_percent
    points = np.clip(taper.percent, begin, end)
    edges = np.unique(np.concatenate([[begin, end], marks, points]))
    edges = edges[np.concatenate([[True], np.diff(edges) > _SAME])]
    edges[-1] = end
    within = edges[:-1, None] + np.diff(edges)[:, None] * np.linspace(0, 1, _WITHIN_CELL + 1)
    pace = 1 / np.minimum(max_kw, np.interp(within, taper.percent, taper.kw))
    kw = 1 / ((pace[:, 1:] + pace[:, :-1]).mean(axis=1) / 2)
    changes = np.concatenate([[True], np.abs(np.diff(kw)) > _SAME * max_kw])
    return np.concatenate([edges[:-1][changes], [end]]), kw[changes]


def cheapest(
    curve: Curve, begin_h: float, end_h: float, available_h: Floats, cost: Floats, refine: int = 0
) -> tuple[Floats, float]:
    """On-time of each slot that brings charging from `begin_h` to `end_h` at the least cost, and that cost.

    Shape: `available_h` and `cost` [n], one for each slot that has time; all but the first and the last have the same.
    `end_h - begin_h` may not exceed the time there is. `refine`: as many more states per slot.
    Cost: n numpy steps over (knots + 4) x (slots of charging) states.
    """
    n, whole = len(cost), end_h - begin_h
    if n == 1:
        return np.array([whole]), float(cost[0] * (curve.kwh_after(end_h) - curve.kwh_after(begin_h)))
    states, width = _states(curve.hours - begin_h, whole, available_h, refine)
    energy = curve.kwh_after(begin_h + np.minimum(states, whole)) - curve.kwh_after(begin_h)
    slack = _SAME * (available_h.max() + whole)
    ends = (states >= whole - available_h[-1] - slack) & (states <= whole + slack)
    value = np.where(ends, cost[-1] * (energy[np.argmin(np.abs(states - whole))] - energy), np.inf)
    values = [value]
    for slot in range(n - 2, 0, -1):
        value = _least_ahead(value + cost[slot] * energy, width) - cost[slot] * energy
        values.append(value)
    values.reverse()
    reached = np.zeros(n + 1)
    within = np.flatnonzero(states <= available_h[0] + slack)
    at = _latest_least(values[0][: within[-1] + 1] + cost[0] * energy[: within[-1] + 1])
    least = float(values[0][at] + cost[0] * energy[at])
    reached[1] = states[at]
    for slot in range(1, n - 1):
        ahead = slice(at, at + width)
        at += _latest_least(values[slot][ahead] + cost[slot] * energy[ahead])
        reached[slot + 1] = states[at]
    reached[n] = whole
    return np.clip(np.diff(np.minimum(reached, whole)), 0, available_h), least


def _states(knots: Floats, whole: float, available_h: Floats, refine: int) -> tuple[Floats, int]:
    """Every hour of charging at which a slot may end, in order, and how many of them one slot spans (both ends counted)."""
    step = available_h[1] if len(available_h) > 2 else available_h.max()
    ties = [0.0, available_h[0], whole, whole - available_h[-1], *knots[(knots > 0) & (knots < whole)]]
    offsets = np.mod(np.concatenate([ties, np.arange(refine) * (step / max(refine, 1))]), step)
    offsets = np.sort(np.where(offsets > step * (1 - _SAME), 0, offsets))
    offsets = offsets[np.concatenate([[True], np.diff(offsets) > _SAME * step])]
    rows = int(whole / step + _SAME) + 1
    states = (np.arange(rows)[:, None] * step + offsets).ravel()
    return states[states <= whole + _SAME * step], len(offsets) + 1


def _least_ahead(values: Floats, width: int) -> Floats:
    """The least of each value and the `width - 1` after it: two running minima over blocks, whatever the width."""
    blocks = -(-(len(values) + width - 1) // width)
    padded = np.full(blocks * width, np.inf)
    padded[: len(values)] = values
    rows = padded.reshape(blocks, width)
    after = np.minimum.accumulate(rows, axis=1).ravel()
    before = np.minimum.accumulate(rows[:, ::-1], axis=1)[:, ::-1].ravel()
    return np.minimum(before[: len(values)], after[width - 1 : width - 1 + len(values)])


def _latest_least(values: Floats) -> int:
    """Where the least value stands; of equal ones the last, which charges earlier."""
    least = values.min()
    return int(np.flatnonzero(values <= least + 1e-12 * (1 + abs(least)))[-1])
