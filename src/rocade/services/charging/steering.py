"""From a plan to what a car is told: the fewest commands that make it follow, and that keep it safe when nobody can reach it.

The better way first: a connector whose station keeps limits is steered there, at once and without waking the car. Else a car that
takes schedules gets the whole plan before it sleeps, and follows by itself; one that does not is started and stopped at the plan's
edges, with its own timer as what remains if it cannot be reached. Start and stop also correct a car that does not do what it was
told. What was told already is not told again: the newest command of each lane says what the car knows (so a restart forgets
nothing), and one that a car refused is tried again after a while only.
Source: docs/decisions/0052-charging.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rocade.services.charging.acting import Picture
from rocade.services.charging.model import Goal, StoredPlan
from rocade.services.vehicles.commands import Order, Standing

PURPOSE = "charging"
POWER, LIMIT, SCHEDULE, TIMER = "charging.power", "charging.limit", "charging.schedule", "charging.timer"
CORRECTED_US = 15_000_000
"""How long a car that has a schedule may differ from it before it is corrected."""
AGAIN_US = 60_000_000
"""After this a start or stop that showed no effect is given again."""
REFUSED_US = 900_000_000
"""After this what a car refused is tried again."""
LEAST_PERCENT, LEAST_LIFE_US = 20, 60_000_000
DAY_US = 86_400_000_000
MOST_LIFE_US = 6 * DAY_US
SAFE_LEAD_US = 20 * 60_000_000
"""So long before the latest safe start a car that is silent is told to charge now."""
UNHEARD_US = 5 * 60_000_000
type Lanes = Mapping[str, Standing]


class Steps(msgspec.Struct, frozen=True):
    """What is to be told: orders to the car, and the limit of its connector (None = as it is)."""

    orders: tuple[Order, ...] = ()
    station: tuple[tuple[int, float], ...] | None = None
    until_us: int = 0
    way: str = "car"
    is_fail_safe: bool = False


def newest(standings: Sequence[Standing]) -> dict[str, Standing]:
    """The newest command of each lane, of a list that begins with the newest."""
    found: dict[str, Standing] = {}
    for one in standings:
        found.setdefault(one.lane, one)
    return found


def steps(
    plan: StoredPlan, picture: Picture, can: Mapping[str, str], lanes: Lanes, now_us: int, differs_since_us: int
) -> Steps:
    """What to tell now. `differs_since_us`: since when the car does otherwise than planned, 0 = it does as planned."""
    goal, now = picture.goal, picture.now
    if goal is None or goal.is_stopped or not now.is_plugged or plan.departure_us <= now_us:
        return Steps()
    orders = _Orders(goal, plan, lanes, can, now_us)
    at = picture.station
    if at is not None and at.can_limit:
        return _by_station(orders, plan, now_us)
    orders.limit()
    takes_schedule = orders.may("charge.schedule", SCHEDULE)
    if takes_schedule:
        orders.schedule()
    elif plan.pieces and plan.pieces[0][0] > now_us and orders.may("charge.timer", TIMER):
        orders.timer()
    wait_us = CORRECTED_US if takes_schedule else 0
    if differs_since_us and now_us - differs_since_us >= wait_us:
        orders.power(is_on=plan.power_at(now_us) > 0)
    is_fail_safe = _is_endangered(plan, picture, now_us)
    if is_fail_safe:
        orders.fail_safe()
    return Steps(tuple(orders.given), is_fail_safe=is_fail_safe)


def differs(plan: StoredPlan | None, picture: Picture, now_us: int) -> bool:
    """Whether a plugged-in car charges though it is to wait, or the other way round."""
    now, goal = picture.now, picture.goal
    if plan is None or goal is None or goal.is_stopped or not now.is_plugged or plan.departure_us <= now_us:
        return False
    return now.is_charging != (plan.power_at(now_us) > 0)


def _is_endangered(plan: StoredPlan, picture: Picture, now_us: int) -> bool:
    """Nobody hears the car, it does not charge, and soon it would be too late to begin."""
    now = picture.now
    silent = now_us - now.seen_us > UNHEARD_US
    return silent and not now.is_charging and plan.energy_kwh > 0 and now_us >= plan.latest_us - SAFE_LEAD_US


def _by_station(orders: _Orders, plan: StoredPlan, now_us: int) -> Steps:
    """The connector's limit follows the plan; the car charges as it is offered power, so older words to it are taken back."""
    slots: list[tuple[int, float]] = [] if plan.power_at(now_us) else [(now_us, 0.0)]
    for from_us, to_us, kw in plan.pieces:
        if to_us > now_us:
            if slots and slots[-1][0] == max(from_us, now_us):
                slots.pop()
            slots += [(max(from_us, now_us), kw), (to_us, 0.0)]
    orders.clear_schedule()
    until_us = min(max(plan.departure_us, now_us + LEAST_LIFE_US), now_us + MOST_LIFE_US)
    inside = tuple((at_us, kw) for at_us, kw in slots if at_us < until_us)
    return Steps(tuple(orders.given), inside, until_us, "station")


class _Orders:
    """Orders as they gather."""

    def __init__(self, goal: Goal, plan: StoredPlan, lanes: Lanes, can: Mapping[str, str], now_us: int) -> None:
        self.given: list[Order] = []
        self._goal, self._plan, self._lanes, self._can, self._now_us = goal, plan, lanes, can, now_us

    def may(self, act: str, lane: str) -> bool:
        """Whether the model can, and this car did not refuse or leave unproven the last of this lane."""
        if self._can.get(act, "unknown") == "no":
            return False
        last = self._lanes.get(lane)
        failed = last is not None and last.act == act and (last.state == "rejected" or last.doubt)
        return not (failed and last and self._now_us - last.changed_us < REFUSED_US)

    def limit(self) -> None:
        """The car itself stops at the target, whatever happens to us."""
        wanted = {"percent": max(round(self._goal.target_percent), LEAST_PERCENT)}
        if self._is_new(LIMIT, "charge.limit", wanted) and self.may("charge.limit", LIMIT):
            self._give("charge.limit", wanted, self._plan.departure_us)

    def schedule(self) -> None:
        pieces = [list(piece) for piece in self._plan.pieces if piece[1] > self._now_us and piece[2] > 0]
        last, power = self._lanes.get(SCHEDULE), self._lanes.get(POWER)
        known = _slots(last, self._now_us) if last is not None and last.act == "charge.schedule" else None
        if not pieces:
            if known:
                self._give("charge.schedule", {"slots": []}, self._now_us + DAY_US)
            return
        is_known = known == [tuple(piece) for piece in pieces] and not _is_void(last)
        is_overruled = bool(last and power and power.created_us >= last.created_us and not _is_void(power))
        agrees = power is not None and (power.act == "charge.start") == (self._plan.power_at(self._now_us) > 0)
        if not is_known or (is_overruled and not agrees):
            self._give("charge.schedule", {"slots": pieces}, int(pieces[-1][1]))

    def clear_schedule(self) -> None:
        last = self._lanes.get(SCHEDULE)
        if last is not None and _slots(last, self._now_us):
            self._give("charge.schedule", {"slots": []}, self._now_us + DAY_US)

    def timer(self) -> None:
        """Ready by the departure by its own clock, if it is not told better in time."""
        wanted = {
            "departure_us": self._plan.departure_us,
            "target_percent": max(round(self._goal.target_percent), LEAST_PERCENT),
        }
        if self._is_new(TIMER, "charge.timer", wanted):
            self._give("charge.timer", wanted, self._plan.departure_us)

    def power(self, *, is_on: bool) -> None:
        act = "charge.start" if is_on else "charge.stop"
        last = self._lanes.get(POWER)
        if last is not None and last.act == act:
            wait_us = REFUSED_US if last.state == "rejected" else AGAIN_US
            if last.is_open or self._now_us - last.changed_us < wait_us:
                return
        if self._can.get(act, "unknown") != "no":
            self._give(act, {}, self._plan.edge_after(self._now_us) or self._plan.departure_us)

    def fail_safe(self) -> None:
        """Charge as soon as anything reaches it; once for a plan."""
        last = self._lanes.get(POWER)
        if (last is None or last.act != "charge.start" or _is_void(last)) and self.may("charge.start", POWER):
            self._give("charge.start", {}, self._plan.departure_us)

    def _is_new(self, lane: str, act: str, parameters: Mapping[str, Any]) -> bool:
        last = self._lanes.get(lane)
        if last is None or last.act != act or _is_void(last):
            return True
        return any(last.parameters.get(name) != value for name, value in parameters.items())

    def _give(self, act: str, parameters: dict[str, Any], expires_us: int) -> None:
        earliest, latest = self._now_us + LEAST_LIFE_US, self._now_us + MOST_LIFE_US
        self.given.append(
            Order(
                self._goal.ref, act, parameters, self._goal.by, min(max(expires_us, earliest), latest), purpose=PURPOSE
            )
        )


def _is_void(standing: Standing | None) -> bool:
    """Whether a command had no effect that lasts."""
    return standing is None or standing.state in ("rejected", "expired", "superseded")


def _slots(standing: Standing, now_us: int) -> list[tuple[int, int, float]]:
    """What of a schedule is still to come."""
    found = standing.parameters.get("slots") or ()
    return [(int(a), int(b), float(kw)) for a, b, kw in found if b > now_us]
