"""The least current: vehicles that charge with 6 A or more on each of their phases, or not at all.

`round_to_minimum` takes a plan in which any power is allowed and gives one in which each vehicle's power is 0 or between its least and
its greatest. One vehicle after the other, higher priorities and shorter slack first, takes the slots that cost it least at the limits' prices
(among equals those it had), as far as there is room on its whole path; then each may move once more, seeing what the others left. Where a
rest of the need is too small for a slot of its own and the other slots cannot give way, one slot of the vehicle is charged in part: its mean
is below the least power, and it counts with the least power against the limits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rocade.services.charging.planning.limits import Fleet, Floats, Ints, Rows

PASSES = 2
TINY_KWH = 1e-6


def round_to_minimum(
    fleet: Fleet, rows: Rows, class_of: Ints, present_h: Floats, power: NDArray[np.float32], class_price: Floats,
    worth: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Powers that vehicles can really take, and the load that counts against limits.

    Shape: class_of (N,), present_h (N, T) hours of a slot inside the stay, power (N, T), class_price and worth of classes.
    """
    room = rows.room.copy()
    share = rows.share.T
    low, high = fleet.min_kw, fleet.max_kw
    taken, counted = np.zeros(present_h.shape), np.zeros(present_h.shape)
    slack = present_h.sum(axis=1) - fleet.energy_kwh / np.maximum(high, 1e-9)
    order = np.lexsort((slack, -fleet.priority))
    tie = 1e-6 * max(float(np.ptp(class_price)), 1e-6)
    score = class_price[class_of] - tie * power
    hours = present_h.max(axis=0)
    for _ in range(PASSES):
        for at in order:
            mine = share[class_of[at]]
            on = np.flatnonzero(mine)
            part = mine[on][:, None]
            room[on] += part * counted[at]
            most = np.minimum(high[at], (room[on] / part).min(axis=0)) if len(on) else np.full(len(hours), high[at])
            most = np.where(present_h[at] > 0, most, 0.0)
            taken[at], counted[at] = _fill(
                fleet.energy_kwh[at], low[at], most, present_h[at], score[at], worth[class_of[at]]
            )
            room[on] -= part * counted[at]
    return taken, counted


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
