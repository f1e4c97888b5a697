"""What can be switched in simulated vehicles: cable, charging, climate, locks, horn, lights, sleep.

Who decides when a plugged vehicle charges, in this order: the driver's last start or stop, while no newer schedule or timer came
and the cable stays in; the schedule, while it has a slot that runs or is to come (only in its slots, with their power); the timer
(as late as still reaches its target, with a margin); else the vehicle by itself, at once and up to its limit.
A vehicle whose battery is low plugs in by itself where it stands and leaves when it is full; one that was plugged (`plug`) stays.
With `sleep_after_s`, a vehicle that stands idle falls asleep: it reports once a minute, and takes 3 to 8 seconds to wake up.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.simulation.models import Model
from rocade.agents.vehicle.simulation.traffic import Floats
from rocade.wire.commands import utc_text

type Flags = NDArray[np.bool_]

USUAL_LIMIT = 85.0
LOW_CHARGE = 12.0
PHASE_V, PHASES = 230.0, 3
AWAKE_US = 120_000_000
"""How long a vehicle that was woken stays awake."""
LEAVES_US = 60_000_000
"""A vehicle that plugged in by itself and was stopped drives on after this, if it can."""
_TIMER_MARGIN, _TIMER_SPARE_US = 1.15, 600_000_000


class Wish(msgspec.Struct):
    """What one vehicle was told about charging. Instants of issue decide which counts; 0 = never told."""

    power: bool = False
    power_us: int = 0
    slots: tuple[tuple[int, int, float], ...] = ()
    slots_us: int = 0
    departure_us: int = 0
    target_percent: float = 100.0
    timer_us: int = 0

    def slot(self, at_us: int) -> tuple[int, int, float] | None:
        """The slot that runs, or the next one."""
        return next((slot for slot in self.slots if slot[1] > at_us), None)


class Controls:
    """Shape: one entry per vehicle in all arrays. `step` first, then `Energy` reads `may_charge`, `most_w` and the climate."""

    def __init__(self, models: Sequence[Model], random: np.random.Generator, sleep_after_s: float) -> None:
        count = len(models)
        self._capacity_wh = np.array([model.battery_kwh * 1000 for model in models])
        self.rated_w: Floats = np.where(self._capacity_wh > 14_000, 22_000.0, self._capacity_wh * 0.4)
        """What the vehicle takes at most."""
        self._may_plug = (self._capacity_wh > 0) & np.array([model.powertrain != "hybrid" for model in models])
        self._random, self._sleep_after_s = random, sleep_after_s
        self.now_us = 0
        self.is_plugged, self.stays = np.zeros(count, bool), np.zeros(count, bool)
        self.may_charge, self.most_w = np.ones(count, bool), self.rated_w.copy()
        self.limit, self.current_a = np.full(count, USUAL_LIMIT), np.full(count, 32.0)
        self.stop_at: Floats = self.limit.copy()
        """Charge at which charging ends now: the limit, or a timer's target."""
        self.climate, self.climate_c, self._climate_until = np.zeros(count, bool), np.full(count, 21.0), np.zeros(count)
        self.is_locked = np.ones(count, bool)
        self._horn_until, self._lights_until = np.zeros(count), np.zeros(count)
        self.asleep, self._idle_s = np.zeros(count, bool), np.zeros(count)
        self._wakes_at, self._awake_until = np.zeros(count), np.zeros(count)
        self._stopped_since = np.zeros(count)
        self.wishes: dict[int, Wish] = {}

    @property
    def horn(self) -> Flags:
        return np.asarray(self._horn_until > self.now_us)

    @property
    def lights(self) -> Flags:
        return np.asarray(self._lights_until > self.now_us)

    def step(self, at_us: int, dt_s: float, speed: Floats, charge: Floats, is_charging: Flags) -> None:
        """Let time pass: who plugs in, who leaves, who falls asleep, what schedules want."""
        self.now_us = at_us
        stands = speed < 0.3
        self.is_plugged |= (self.stays | ((charge < LOW_CHARGE) & self._may_plug)) & stands
        self.climate &= self._climate_until > at_us
        self.decide(charge)
        self._leave(at_us, charge, is_charging)
        self._rest(at_us, dt_s, stands & ~is_charging & ~self.climate)

    def plug(self, vehicle: int) -> None:
        """The driver plugs it in as soon as it stands, and leaves it there."""
        self.stays[vehicle] = True

    def unplug(self, vehicle: int) -> None:
        """The cable is out; the start or stop of this stay is forgotten, schedule and timer stay."""
        self.stays[vehicle] = self.is_plugged[vehicle] = False
        if wish := self.wishes.get(vehicle):
            wish.power_us = 0

    def wish(self, vehicle: int) -> Wish:
        return self.wishes.setdefault(vehicle, Wish())

    def decide(self, charge: Floats) -> None:
        """Who may charge now, with what power, up to which charge."""
        self.may_charge[:] = True
        self.most_w = np.minimum(self.rated_w, self.current_a * PHASE_V * PHASES)
        self.stop_at = self.limit.copy()
        for vehicle, wish in self.wishes.items():
            self._decide_for(vehicle, wish, float(charge[vehicle]))

    def _decide_for(self, vehicle: int, wish: Wish, charge: float) -> None:
        slot, now_us = wish.slot(self.now_us), self.now_us
        has_timer = wish.departure_us > now_us
        newest_plan_us = max(wish.slots_us if slot else 0, wish.timer_us if has_timer else 0)
        if wish.power_us and wish.power_us >= newest_plan_us:
            self.may_charge[vehicle] = wish.power
        elif slot:
            self.may_charge[vehicle] = slot[0] <= now_us
            self.most_w[vehicle] = min(self.most_w[vehicle], slot[2] * 1000)
        elif has_timer:
            self.stop_at[vehicle] = wish.target_percent
            need_s = (wish.target_percent - charge) / 100 * self._capacity_wh[vehicle] * 3600 / self.most_w[vehicle]
            latest_us = wish.departure_us - max(need_s, 0) * _TIMER_MARGIN * 1e6 - _TIMER_SPARE_US
            self.may_charge[vehicle] = now_us >= latest_us

    def timer(self, vehicle: int) -> tuple[str, str]:
        """(mode, instant) as VSS names them: the slot that runs or comes, else the departure."""
        wish = self.wishes.get(vehicle)
        slot = wish.slot(self.now_us) if wish else None
        if wish and slot:
            return "START_TIME", utc_text(slot[0])
        if wish and wish.departure_us > self.now_us:
            return "END_TIME", utc_text(wish.departure_us)
        return "INACTIVE", ""

    def warm(self, vehicle: int, celsius: float, until_us: int) -> None:
        self.climate[vehicle], self.climate_c[vehicle], self._climate_until[vehicle] = True, celsius, until_us

    def cool_down(self, vehicle: int) -> None:
        self.climate[vehicle] = False

    def sound(self, vehicle: int, until_us: int) -> None:
        self._horn_until[vehicle] = until_us

    def flash(self, vehicle: int, until_us: int) -> None:
        self._lights_until[vehicle] = until_us

    def is_awake(self, vehicle: int, at_us: int) -> bool:
        """Whether it hears commands; a sleeping one begins to wake up."""
        if self.asleep[vehicle]:
            if not self._wakes_at[vehicle]:
                self._wakes_at[vehicle] = at_us + int(self._random.uniform(3e6, 8e6))
            if at_us < self._wakes_at[vehicle]:
                return False
            self.asleep[vehicle], self._wakes_at[vehicle] = False, 0
        self._awake_until[vehicle] = at_us + AWAKE_US
        return True

    def _leave(self, at_us: int, charge: Floats, is_charging: Flags) -> None:
        """Who plugged in by himself goes when full, or a while after he was stopped."""
        own = self.is_plugged & ~self.stays
        full = own & ~is_charging & (charge >= self.stop_at)
        since = np.where(self._stopped_since > 0, self._stopped_since, at_us)
        self._stopped_since = np.where(own & ~is_charging, since, 0)
        is_over = (self._stopped_since > 0) & (at_us - self._stopped_since > LEAVES_US)
        stopped = is_over & (charge > LOW_CHARGE + 3)
        for vehicle in np.flatnonzero(full | stopped).tolist():
            self.unplug(vehicle)

    def _rest(self, at_us: int, dt_s: float, idle: Flags) -> None:
        self._idle_s = np.where(idle, self._idle_s + dt_s, 0.0)
        if self._sleep_after_s < np.inf:
            self.asleep |= (self._idle_s > self._sleep_after_s) & (self._awake_until <= at_us)
            self.asleep &= idle
            self._wakes_at *= self.asleep
