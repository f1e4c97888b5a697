"""The rounds between windows and limits: prices, answers, mix, bound.

Windows answer the prices on limits with their exact cheapest plans (a column for each part of the fleet); the master mixes all columns so far
and prices the limits anew. The prices asked lie between the best so far and the master's newest (smoothing), which halves the
rounds. Each round proves a bound: what the answers cost at these prices less what the limits are worth at them; no plan can cost less.

Source: Dantzig and Wolfe, Decomposition principle for linear programs, 1960; Wentges, Weighted Dantzig-Wolfe decomposition, 1997.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rocade.services.charging.planning.limits import Floats, Rows
from rocade.services.charging.planning.master import Master, Mix
from rocade.services.charging.planning.windows import Blend, Windows

PARTS = 32
"""The most columns a round adds; classes beyond share one."""
TIGHTENED = 1e-6
"""Part of every limit that is left free, so that rounding to float32 never exceeds one."""
SMOOTHING = 0.6


@dataclass(frozen=True, slots=True)
class Spare:
    """Own power above what buildings take. Shape: S nodes. share (S, C) of a class's load that counts; saving per kWh (T,)."""

    share: Floats
    most_kw: Floats
    saving: Floats


@dataclass(frozen=True, slots=True)
class Found:
    """The mix of the last round: load (C, T) kW, limit prices (R, T) per kWh, what a kWh costs a class where own power is near (C, T)."""

    objective: float
    bound: float
    rounds: int
    load_kw: Floats
    room_price: Floats
    class_price: Floats
    blend: Blend


class Decomposition:
    def __init__(self, windows: Windows, rows: Rows, spare: Spare, price: Floats, hours: Floats) -> None:
        self.windows, self.rows, self.spare, self.price, self.hours = windows, rows, spare, price, hours
        self.worth = windows.worth(price)
        classes = len(windows.class_keys)
        self.parts = min(classes, PARTS)
        self.part_of = np.arange(classes) * self.parts // classes
        self.part_start = np.searchsorted(self.part_of, np.arange(self.parts))
        could = rows.share @ windows.peak_kw
        self.tight = np.nonzero((could > rows.room * (1 - TIGHTENED)) & (could > 0))
        self.spares = np.nonzero(spare.most_kw > 0)
        room, spares = rows.room[self.tight] * (1 - TIGHTENED), len(self.spares[0])
        self.master = Master(
            self.parts, np.concatenate([room, np.zeros(spares)]), len(room) + np.arange(spares),
            spare.most_kw[self.spares], (spare.saving * hours)[self.spares[1]],
        )  # fmt: skip
        self.prices: list[Floats] = []
        self.loads: list[Floats] = []
        self.left: list[Floats] = []
        """Of each column, what it pays for energy left uncharged."""

    def run(self, gap: float, rounds: int) -> Found:
        """Until the proven gap is small enough, or the rounds are used up."""
        least = float(np.abs(self.price).mean() * self.windows.energy_kwh.sum()) / 100
        places = len(self.windows.place_start)
        self._answer(np.full((places, len(self.price)), self.worth.max()))  # all left uncharged: always a mix
        duals = best = np.zeros(len(self.tight[0]) + len(self.spares[0]))
        bound, smoothing = -np.inf, 0.0
        for _ in range(rounds):
            asked = smoothing * best + (1 - smoothing) * duals
            proven = self._ask(asked)
            if proven > bound:
                bound, best = proven, asked
            mix = self.master.solve()
            paid = abs(mix.cost - float(np.concatenate(self.left) @ mix.weights))
            if mix.cost - bound <= gap * max(paid, least):
                break
            duals, smoothing = mix.duals, SMOOTHING
        return self._found(mix, bound, best)

    def _ask(self, duals: Floats) -> float:
        """One round's answers, and the bound they prove."""
        limit, saved, price = self._prices(duals)
        energy = self._answer(price)
        dear = price[self.windows.place_of] - self.worth[:, None]
        least = (dear * energy).sum() + self.worth @ self.windows.energy_kwh
        least -= (limit * self.rows.room).sum()
        least += (self.spare.most_kw * np.minimum(saved - self.spare.saving * self.hours, 0.0)).sum()
        return float(least)

    def _prices(self, duals: Floats) -> tuple[Floats, Floats, Floats]:
        """The rows' duals as limits and savings, and what a kWh costs each place in each slot with them."""
        limit, saved = np.zeros_like(self.rows.room), np.zeros_like(self.spare.most_kw)
        limit[self.tight] = duals[: len(self.tight[0])]
        saved[self.spares] = duals[len(self.tight[0]) :]
        first = self.windows.place_start
        return limit, saved, self.price + (
            self.rows.share[:, first].T @ limit - self.spare.share[:, first].T @ saved
        ) / self.hours  # fmt: skip

    def _answer(self, price: Floats) -> Floats:
        """What classes take at these prices, kept as columns of the master. Shape: (C, T) kWh."""
        energy = self.windows.respond(price, self.worth)
        load = energy / self.hours
        left = self.worth * (self.windows.energy_kwh - energy.sum(axis=1))
        cost = (energy * self.price).sum(axis=1) + left
        use = np.vstack([
            self.rows.share[self.tight[0]] * load[:, self.tight[1]].T,
            -self.spare.share[self.spares[0]] * load[:, self.spares[1]].T,
        ])  # fmt: skip
        start = self.part_start
        self.master.add(np.add.reduceat(cost, start), np.add.reduceat(use, start, axis=1), np.arange(self.parts))
        self.prices.append(price)
        self.loads.append(load)
        self.left.append(np.add.reduceat(left, start))
        return energy

    def _found(self, mix: Mix, bound: float, best: Floats) -> Found:
        weights = mix.weights.reshape(-1, self.parts)
        weights = (weights / weights.sum(axis=0))[:, self.part_of]
        used = np.flatnonzero(weights.any(axis=1))
        load = sum((weights[at][:, None] * self.loads[at] for at in used), np.zeros_like(self.loads[0]))
        blend = self.windows.blend([self.prices[at] for at in used], self.worth, weights[used])
        limit, saved, _ = self._prices(best)
        own = self.price - self.spare.share.T @ saved / self.hours
        return Found(mix.cost, bound, len(self.loads) - 1, load, limit / self.hours, own, blend)
