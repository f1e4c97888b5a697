"""What one vehicle needs, and the plan it gets: always a plan, never "infeasible".

A goal out of reach is charged towards as far as time and power allow; the plan then says how much is missing, why, and the
smallest change that would reach it. What is no goal at all (a negative efficiency, 130 %) is refused: `charging.need.*`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from rocade.services.charging.planning import errors
from rocade.services.charging.planning.slots import SECOND_US, Flags, Floats, Slots
from rocade.services.charging.planning.taper import Taper

LATEST_US = 7_258_118_400_000_000
"""The year 2200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is to be charged by when. Either a target in percent with the capacity, or `energy_kwh`.

    Units: instants in microseconds UTC; power at the plug; `energy_kwh` and `capacity_kwh` in the battery, the plug gives
    1 / `efficiency` times as much. `minimum_percent`: charged first, whatever it costs. `late_from_percent`: what lies above
    is charged as late as it can be (battery care; None = no matter). `min_kw`: below it the charger gives nothing.
    """

    arrival_us: int
    departure_us: int
    max_kw: float
    energy_kwh: float | None = None
    now_percent: float = 0.0
    target_percent: float = 100.0
    capacity_kwh: float = 0.0
    efficiency: float = 1.0
    min_kw: float = 0.0
    taper: Taper | None = None
    minimum_percent: float = 0.0
    late_from_percent: float | None = None

    def check(self) -> None:
        """Raises: Refused `charging.need.*`."""
        percents = (self.now_percent, self.target_percent, self.minimum_percent)
        late = 100.0 if self.late_from_percent is None else self.late_from_percent
        rules = {
            "efficiency": 0 < self.efficiency <= 1,
            "power": 0 <= self.max_kw < math.inf and 0 <= self.min_kw < math.inf,
            "percent": all(0 <= one <= 100 for one in percents),
            "late": 0 <= late <= 100,
            "energy": self.energy_kwh is None or 0 <= self.energy_kwh < math.inf,
            "capacity": 0 < self.capacity_kwh < math.inf or self._is_energy_alone,
            "minimum": self.minimum_percent <= self.target_percent,
            "instant": 0 <= self.arrival_us < LATEST_US and 0 <= self.departure_us < LATEST_US,
        }
        for name, is_kept in rules.items():
            if not is_kept:
                raise errors.need(name)

    @property
    def _is_energy_alone(self) -> bool:
        """An energy for a battery of which nothing is known, hence no taper either."""
        return self.energy_kwh is not None and not self.capacity_kwh and self.taper is None

    @property
    def percents(self) -> tuple[float, float]:
        """State of charge now and at the target. An energy without a capacity counts as a battery of that energy."""
        if self.energy_kwh is None:
            return self.now_percent, max(self.now_percent, self.target_percent)
        if not self.capacity_kwh:
            return 0.0, 100.0 if self.energy_kwh else 0.0
        return self.now_percent, min(100.0, self.now_percent + 100 * self.energy_kwh / self.capacity_kwh)

    @property
    def plug_kwh_per_percent(self) -> float:
        """What the plug gives for one percent of charge."""
        return (self.capacity_kwh or self.energy_kwh or 1.0) / 100 / self.efficiency


class Reason(StrEnum):
    """Why a plan does not reach its target, or does nothing."""

    REACHED = ""
    ALREADY = "charging.plan.already"
    SHORT = "charging.plan.short"
    NO_POWER = "charging.plan.no_power"
    WEAK = "charging.plan.weak"
    PAST = "charging.plan.past"


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes each of which alone would make the target reachable; `smallest` names the one that changes least.

    `later_min`: depart so much later (0 = no use). `target_percent`: ask for this instead. `power_kw`: give this (0 = no use).
    `smallest`: later | target | power.
    """

    later_min: int
    target_percent: float
    power_kw: float
    smallest: str


@dataclass(frozen=True, slots=True)
class AtOnce:
    """The same energy charged without pause from arrival on."""

    cost_minor: int
    co2_g: int
    energy_kwh: float


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """When to charge. Shape: per slot [n], `soc_percent` [n + 1] at slot boundaries.

    Units: `power_kw` is the mean over the slot at the plug, `on_h` for how long of it the car charges as fast as it takes;
    `cost` in units of the objective, `lower_bound` what no plan can undercut, `gap` their relative distance.
    `cost_low_minor` and `cost_high_minor` bound the cost by the forecast's band; `forecast_kwh` rests on forecast prices.
    """

    need: Need
    slots: Slots
    power_kw: Floats
    on_h: Floats
    soc_percent: Floats
    energy_kwh: float
    cost: float
    lower_bound: float
    cost_minor: int
    cost_low_minor: int
    cost_high_minor: int
    currency: str
    co2_g: int
    shortfall_kwh: float
    shortfall_percent: float
    reason: Reason
    remedy: Remedy | None
    at_once: AtOnce
    is_forecast: Flags
    forecast_kwh: float

    @property
    def gap(self) -> float:
        return max(0.0, self.cost - self.lower_bound) / max(abs(self.cost), 1e-9)

    @property
    def saved_minor(self) -> int:
        return self.at_once.cost_minor - self.cost_minor

    def schedule(self) -> list[tuple[int, int, float]]:
        """What to command: (from, to, kW) in order, each as fast as the car takes it; a partly used slot is used in one piece.

        The piece stands at the slot's end if the next slot follows on and the one before does not.
        """
        begin_us = np.maximum(self.slots.start_us, self.need.arrival_us)
        end_us = self.slots.end_us
        if self.reason != Reason.PAST:
            end_us = np.minimum(end_us, self.need.departure_us)
        on_us = np.minimum(np.rint(self.on_h * 3600 * SECOND_US).astype(np.int64), end_us - begin_us)
        pieces: list[tuple[int, int, float]] = []
        for slot in np.flatnonzero(on_us >= SECOND_US).tolist():
            begin, end, on = int(begin_us[slot]), int(end_us[slot]), int(on_us[slot])
            follows = bool(pieces) and pieces[-1][1] == begin
            leads = slot + 1 < len(on_us) and on_us[slot + 1] >= SECOND_US
            begin, end = (end - on, end) if leads and not follows else (begin, begin + on)
            if pieces and pieces[-1][1] == begin:
                begin = pieces.pop()[0]
            pieces.append((begin, end, self.need.max_kw))
        return pieces
