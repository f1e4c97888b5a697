"""The least current: vehicles that charge with 6 A or more on each of their phases, or not at all.

`round_to_minimum` takes a plan in which any power is allowed and gives one in which each vehicle's power is 0 or between its least and its
greatest:

1. `_follow`, slot by slot: who lags most behind what the plan would have given him by then is switched on, those first who could not
   make up for it later, as long as there is room on the whole path; what the plan meant for a slot and nobody lags behind for goes to
   anybody present. So each slot carries about what the plan meant for it.
2. `_improve`, vehicle by vehicle, those that miss most first: gives all it has back and takes the cheapest slots with room, if that is
   better. No step makes the plan dearer or leaves more uncharged.

Where a rest of the need is too small for a slot of its own and the other slots cannot give way, one slot of the vehicle is charged in part:
its mean is below the least power, and it counts with the least power against the limits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rocade.services.charging.planning.limits import Fleet, Floats, Ints, Rows

PASSES = 2
TINY_KWH = 1e-6
READY = 0.5
"""Part of the least energy of a slot that a vehicle must lag behind to be switched on."""


def round_to_minimum(
    fleet: Fleet, rows: Rows, class_of: Ints, present_h: Floats, power: NDArray[np.float32], class_price: Floats,
    worth: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Powers that vehicles can really take, and the load that counts against limits.

    Shape: class_of (N,), present_h (N, T) hours of a slot inside the stay, power (N, T); of classes price (C, T) and worth (C,).
    """
    rounding = _Rounding(fleet, rows, class_of, present_h)
    rounding.follow(power.astype(np.float64))
    for _ in range(PASSES):
        rounding.improve(class_price[class_of], worth[class_of])
    return rounding.taken, rounding.counted


class _Rounding:
    """The plan as it becomes. `taken` (N, T) what vehicles get, `counted` what limits see, `room` (R, T) what is left."""

    def __init__(self, fleet: Fleet, rows: Rows, class_of: Ints, present_h: Floats) -> None:
        self.need, self.low, self.high = fleet.energy_kwh, fleet.min_kw, fleet.max_kw
        self.present_h, self.priority = present_h, fleet.priority
        self.room = rows.room.copy()
        on = [np.flatnonzero(share) for share in rows.share.T]
        self.path = [(on[at], rows.share[on[at], at]) for at in class_of]
        self.taken, self.counted = np.zeros(present_h.shape), np.zeros(present_h.shape)

    def follow(self, power: Floats) -> None:
        wanted = np.cumsum(power * self.present_h, axis=1)
        left_h = np.cumsum(self.present_h[:, ::-1], axis=1)[:, ::-1]
        got = np.zeros(len(power))
        for slot in np.flatnonzero(self.present_h.any(axis=0)).tolist():
            hours = self.present_h[:, slot]
            rest = wanted[:, -1] - got
            lag = np.minimum(wanted[:, slot] - got, rest)
            late = rest - self.high * (left_h[:, slot] - hours)  # what no later slot could make up for
            least = self.low * hours
            here = np.flatnonzero((hours > 0) & (rest > TINY_KWH))
            first = here[(lag[here] > READY * least[here]) | (late[here] > TINY_KWH)]
            urgency = np.where(late[first] > TINY_KWH, 1e3, 0.0) + lag[first] / np.maximum(least[first], TINY_KWH)
            for at in first[np.lexsort((-urgency, -self.priority[first]))].tolist():
                got[at] += self._give(at, slot, min(max(lag[at], late[at]), rest[at]))
            behind = float((wanted[:, slot] - got).sum())
            for at in here[
                np.lexsort((-late[here], -self.priority[here]))
            ].tolist():  # what is left of the slot's share
                if behind <= TINY_KWH:
                    break
                more = self._give(at, slot, min(behind, wanted[at, -1] - got[at]))
                got[at] += more
                behind -= more

    def improve(self, price: Floats, worth: Floats) -> None:
        missing = self.need - (self.taken * self.present_h).sum(axis=1)
        for at in np.lexsort((-missing, -self.priority)).tolist():
            on, share = self.path[at]
            before = self.counted[at]
            room = self.room[on] + share[:, None] * before
            most = np.full(price.shape[1], self.high[at])
            if len(on):
                most = np.minimum(most, (room / share[:, None]).min(axis=0))
            most[self.present_h[at] <= 0] = 0.0
            taken, counted = _fill(self.need[at], self.low[at], most, self.present_h[at], price[at], worth[at])
            if float(((taken - self.taken[at]) * self.present_h[at]) @ (worth[at] - price[at])) > TINY_KWH:
                self.room[on] = room - share[:, None] * counted
                self.taken[at], self.counted[at] = taken, counted

    def _give(self, at: int, slot: int, energy: float) -> float:
        """So much more in a slot if limits and the least power let it; what it came to."""
        on, share = self.path[at]
        hours, had = self.present_h[at, slot], self.counted[at, slot]
        most = min(float((self.room[on, slot] / share).min(initial=np.inf)) + had, self.high[at])
        rest = self.need[at] - float(self.taken[at] @ self.present_h[at])
        if energy <= TINY_KWH or most <= had or most < self.low[at]:
            return 0.0
        energy = min(
            max(energy, self.low[at] * hours - self.taken[at, slot] * hours),
            most * hours - self.taken[at, slot] * hours,
            rest,
        )
        self.taken[at, slot] += energy / hours
        self.counted[at, slot] = max(self.taken[at, slot], self.low[at])
        self.room[on, slot] -= share * (self.counted[at, slot] - had)
        return energy


def _fill(
    need_kwh: float, low: float, most: Floats, hours: Floats, score: Floats, worth: float
) -> tuple[Floats, Floats]:
    """The cheapest slots up to the need, each with nothing or at least `low`."""
    power = np.zeros(len(most))
    usable = np.flatnonzero((most >= max(low, 1e-9)) & (score < worth))
    usable = usable[np.argsort(score[usable], kind="stable")]
    got = np.cumsum(most[usable] * hours[usable])
    full = int(np.searchsorted(got, need_kwh - TINY_KWH))
    power[usable[:full]] = most[usable[:full]]
    rest = need_kwh - (got[full - 1] if full else 0.0)
    if full == len(usable) or rest <= TINY_KWH:
        return power, power
    last = usable[full]
    power[last] = rest / hours[last]
    if power[last] >= low:
        return power, power
    lack = (low - power[last]) * hours[last]  # the others give way for it, dearest first
    for at in usable[:full][::-1]:
        give = min(lack, (power[at] - low) * hours[at])
        power[at] -= give / hours[at]
        power[last] += give / hours[last]
        lack -= give
        if lack <= TINY_KWH:
            power[last] = max(power[last], low)
            return power, power
    counted = power.copy()
    counted[last] = low
    return power, counted
