"""What a drive costs: power at the wheels, battery, engine, fuel, exhaust, temperatures, the rider's legs.

Wheel power = inertia + rolling + drag + grade, times speed. Batteries: open-circuit voltage by charge, sag by inner
resistance, regeneration within its limit and not below walking pace, heat. Engines: Willans line (friction grows with
revolutions, the rest is a fixed share), idling, fuel cut when coasting. Hybrids drive electrically until the battery is
low. Riders give a share of the power and rest when it rolls. Source: textbook vehicle dynamics; constants are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.simulation.controls import Controls
from rocade.agents.vehicle.simulation.models import Model
from rocade.agents.vehicle.simulation.traffic import GRAVITY, Floats

_AIR = 1.2
_LITRE_J = {"petrol": 32.0e6, "diesel": 35.8e6, "hybrid": 32.0e6}
_CARBON_G_PER_L = {"petrol": 2310.0, "diesel": 2640.0, "hybrid": 2310.0}
_WALK_MPS = 2.0
_HYSTERESIS = 0.5
"""A full battery is not topped up for less than this, in percent."""
_CLIMATE_W = 2_000.0
_ASLEEP_W = 15.0


class Energy:
    """State of all vehicles' stores and machines. Shape: one entry per vehicle. Units: W, V, A, %, litres, Celsius."""

    def __init__(
        self, models: Sequence[Model], ambient_c: float, random: np.random.Generator, controls: Controls
    ) -> None:
        count = len(models)
        self._controls = controls

        def numbers(name: str) -> Floats:
            return np.array([getattr(model, name) for model in models], float)

        def these(wanted: str) -> NDArray[np.bool_]:
            return np.array([model.powertrain == wanted for model in models])

        self._mass, self._drag, self._rolling = numbers("mass_kg"), numbers("drag_area_m2"), numbers("rolling")
        self._capacity_j = numbers("battery_kwh") * 3.6e6
        self._nominal_v, self._ohm = numbers("battery_v"), numbers("battery_ohm")
        self._regeneration_w, self._standby_w = numbers("regeneration_kw") * 1e3, numbers("standby_kw") * 1e3
        self._power_w, self._litres, self._tank_l = (
            numbers("power_kw") * 1e3,
            numbers("engine_litres"),
            numbers("tank_l"),
        )
        self.is_diesel, self._is_hybrid = these("diesel"), these("hybrid")
        self._is_rider, self._is_assisted = these("muscle") | these("assisted"), these("assisted")
        self.has_battery, self.has_engine = self._capacity_j > 0, self._litres > 0
        self._litre_j = np.array([_LITRE_J.get(model.powertrain, 1.0) for model in models])
        self._carbon = np.array([_CARBON_G_PER_L.get(model.powertrain, 0.0) for model in models])
        self._is_small = self._litres < 0.2

        self.charge = random.uniform(25, 95, count)
        self.health = random.uniform(86, 100, count)
        self.fuel_l = self._tank_l * random.uniform(0.2, 1.0, count)
        self.is_charging = np.zeros(count, bool)
        self.is_refuelling = np.zeros(count, bool)
        self.battery_w, self.volts, self.amperes = np.zeros(count), self._nominal_v.copy(), np.zeros(count)
        self.motor_w, self.engine_w, self.fuel_lph = np.zeros(count), np.zeros(count), np.zeros(count)
        self.rpm, self.engine_on = np.zeros(count), self.has_engine & ~self._is_hybrid
        self.battery_c = ambient_c + random.uniform(0, 8, count)
        self.coolant_c = np.where(random.random(count) < 0.8, random.uniform(70, 90, count), ambient_c)
        self.exhaust_c = self.coolant_c + 100
        self.cabin_c = np.full(count, 20.0)
        self.soot = random.uniform(5, 80, count)
        self.is_burning_soot = np.zeros(count, bool)
        self.urea = random.uniform(20, 100, count)
        self.rider_w, self.heart = np.zeros(count), random.uniform(80, 105, count)
        self.used_l, self.trip_l = random.uniform(100, 9000, count) * self.has_engine, np.zeros(count)

    @property
    def must_stop(self) -> NDArray[np.bool_]:
        return self._controls.is_plugged | self._controls.stays | self.is_refuelling

    @property
    def charging_kw(self) -> Floats:
        return np.where(self.is_charging, -self.battery_w / 1000, 0.0)

    def choose_charging(self) -> None:
        """Who charges from now on: plugged, allowed, and below where it ends."""
        controls = self._controls
        missing = controls.stop_at - self.charge
        allowed = controls.is_plugged & controls.may_charge & (controls.most_w > 0) & self.has_battery
        self.is_charging = allowed & (missing > np.where(self.is_charging, 0.0, _HYSTERESIS))

    def step(self, dt_s: float, speed: Floats, acceleration: Floats, grade: Floats, ambient_c: float) -> None:
        """Spend, or win back, what this step of driving takes."""
        force = self._mass * (acceleration * 1.04 + GRAVITY * (grade + self._rolling * (speed > 0.1)))
        wheel_w = (force + 0.5 * _AIR * self._drag * speed**2) * speed
        self._ride(dt_s, wheel_w, speed)
        low = self.charge < 22
        was_on = self.engine_on & self._is_hybrid
        self.engine_on = self.has_engine & (
            ~self._is_hybrid | low | (was_on & (self.charge < 26)) | (wheel_w > 0.55 * self._power_w)
        )
        self.engine_on &= ~self.is_refuelling
        engine_share = np.where(self.engine_on, np.where(self._is_hybrid, 0.8, 1.0), 0.0)
        self._burn(dt_s, wheel_w * engine_share, speed)
        drive_w = (wheel_w - self.rider_w * self._is_rider) * (1 - engine_share)
        self._draw(dt_s, np.where(self._is_rider & ~self._is_assisted, 0.0, drive_w), speed, ambient_c)
        usual_c = np.where(speed > 0, 21.0, 20.0) + 0.04 * (ambient_c - 21)
        self.cabin_c += (
            (np.where(self._controls.climate, self._controls.climate_c, usual_c) - self.cabin_c) * dt_s / 240
        )

    def _ride(self, dt_s: float, wheel_w: Floats, speed: Floats) -> None:
        """A rider gives up to 180 W at need; an assistance adds at most 250 W below 25 km/h."""
        need = np.where(self._is_rider, wheel_w.clip(0, None), 0.0)
        own = np.where(self._is_assisted & (speed < 25 / 3.6), np.maximum(need * 0.45, need - 250), need).clip(0, 260)
        self.rider_w += (own - self.rider_w) * min(1.0, dt_s / 2.5)
        self.heart += (82 + 0.32 * self.rider_w - self.heart) * dt_s / 40

    def _draw(self, dt_s: float, wheel_w: Floats, speed: Floats, ambient_c: float) -> None:
        regenerating = wheel_w < 0
        back = np.where(speed > _WALK_MPS, np.maximum(wheel_w * 0.62, -self._regeneration_w), 0.0)
        self.motor_w = np.where(self.has_battery, np.where(regenerating, back, np.minimum(wheel_w, self._power_w)), 0.0)
        climate_w = np.where(self._standby_w > 300, 45 * np.abs(21 - ambient_c), 0.0)
        standby = np.where(self._controls.asleep, _ASLEEP_W, self._standby_w + climate_w * 0.6)
        standby = standby + _CLIMATE_W * self._controls.climate
        drawn = np.where(regenerating, back, self.motor_w / 0.9) + standby
        taper_w = self._controls.rated_w * ((100 - self.charge) / 20).clip(0.05, 1)
        charging_w = np.minimum(self._controls.most_w, taper_w)
        self.battery_w = np.where(self.is_charging, -charging_w, drawn) * self.has_battery
        open_v = self._nominal_v * (0.86 + 0.2 * self.charge / 100 - 0.05 * np.exp(-self.charge / 5))
        inside = (open_v**2 - 4 * self._ohm * self.battery_w).clip(0.09 * open_v**2, None)
        safe_ohm = np.where(self._ohm > 0, self._ohm, 1.0)
        self.amperes = np.where(self.has_battery, (open_v - np.sqrt(inside)) / (2 * safe_ohm), 0.0)
        self.volts = open_v - self.amperes * self._ohm
        usable_j = np.where(self.has_battery, self._capacity_j * self.health / 100, 1.0)
        self.charge = (self.charge - 100 * open_v * self.amperes * dt_s / usable_j * self.has_battery).clip(0, 100)
        heat_w = self.amperes**2 * self._ohm
        inertia_j = 900.0 * np.maximum(self._capacity_j / 3.6e6 * 7, 3)
        cooling_w = np.maximum(self._capacity_j / 3.6e6 * 2.5, 0.4) * (self.battery_c - ambient_c)
        self.battery_c += (heat_w - cooling_w) * dt_s / inertia_j
        self.choose_charging()

    def _burn(self, dt_s: float, wheel_w: Floats, speed: Floats) -> None:
        on = self.engine_on
        gear_rpm = np.interp(
            speed,
            [0, 3, 5, 5.1, 9, 9.1, 14, 14.1, 20, 20.1, 36],
            [0, 1900, 2700, 1700, 2700, 1800, 2600, 1800, 2500, 1750, 2900],
        )
        idle = np.where(self._is_small, 1600.0, 820.0)
        scale = np.where(self._is_small, 2.3, np.where(self.is_diesel, 0.82, 1.0))
        self.rpm = np.where(on, np.maximum(idle, gear_rpm * scale * (1 + 0.15 * (wheel_w > 0.4 * self._power_w))), 0.0)
        self.engine_w = np.where(on, wheel_w.clip(0, None) / 0.92 + self._standby_w * 1.4, 0.0)
        friction_w = 1.25 * self._litres * self.rpm * np.where(self._is_small, 0.5, 1.0)
        coasting = on & (wheel_w < -600) & (speed > 6)
        fuel_w = np.where(coasting, 0.0, (self.engine_w + friction_w) / np.where(self.is_diesel, 0.43, 0.39)) * on
        self.fuel_lph = fuel_w / self._litre_j * 3600
        burnt_l = self.fuel_lph * dt_s / 3600
        self.fuel_l = (self.fuel_l - burnt_l).clip(0, None)
        self.used_l += burnt_l
        self.trip_l += burnt_l
        pumping = self.is_refuelling
        self.fuel_l = np.where(pumping, np.minimum(self.fuel_l + 0.55 * dt_s, self._tank_l), self.fuel_l)
        self.is_refuelling = self.has_engine & np.where(
            pumping, self.fuel_l < 0.97 * self._tank_l, (self.fuel_l < 0.08 * self._tank_l) & (speed < 0.3)
        )
        load = (self.engine_w / np.maximum(self._power_w, 1)).clip(0, 1)
        self.coolant_c += np.where(on, (90 + 6 * load - self.coolant_c) / 260, (20 - self.coolant_c) / 3600) * dt_s
        hot = np.where(on, 210 + 520 * load + 60 * self.is_burning_soot * 6, 60)
        self.exhaust_c += (hot - self.exhaust_c) * min(1.0, dt_s / 18)
        self.soot = (
            self.soot + np.where(self.is_burning_soot, -0.35, 0.0012 * self.fuel_lph) * dt_s * self.is_diesel
        ).clip(0, 130)
        self.is_burning_soot = self.is_diesel & on & np.where(self.is_burning_soot, self.soot > 6, self.soot > 100)
        self.urea = (self.urea - 0.00002 * self.fuel_lph * dt_s * self.is_diesel).clip(0, 100)

    @property
    def carbon_gps(self) -> Floats:
        """Carbon dioxide, grams a second."""
        return np.asarray(self.fuel_lph / 3600 * self._carbon)

    @property
    def load(self) -> Floats:
        return np.asarray((self.engine_w / np.maximum(self._power_w, 1)).clip(0, 1))

    @property
    def tank_percent(self) -> Floats:
        return np.asarray(100 * self.fuel_l / np.maximum(self._tank_l, 0.1))
