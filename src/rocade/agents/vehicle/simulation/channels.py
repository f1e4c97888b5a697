"""What simulated vehicles report, in the catalogue's names: which kind says what, how exactly, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.simulation.models import Model
from rocade.wire.commands import CLIMATE, CLIMATE_C, HORN, IS_CHARGING, IS_LOCKED, LIGHTS, TIMER_MODE, TIMER_TIME

if TYPE_CHECKING:
    from rocade.agents.vehicle.simulation.fleet import Fleet

_BATTERY = "Vehicle.Powertrain.TractionBattery."
_CHARGING = f"{_BATTERY}Charging."
_ENGINE = "Vehicle.Powertrain.CombustionEngine."
_FUEL = "Vehicle.Powertrain.FuelSystem."


class Channel(msgspec.Struct, frozen=True):
    """One signal: `decimals` = digits after the point that the sensor has; -1 = a boolean."""

    signal: str
    decimals: int
    read: Callable[[Fleet], NDArray[Any]]
    belongs_to: Callable[[Model], bool]
    is_switched: bool = False
    """What commands switch or ask for. It is told at once; what moves by itself is told by the second only, because a value of
    the last second under the time of now would look like a jump."""


def _all(_model: Model) -> bool:
    return True


def _battery(model: Model) -> bool:
    return model.has_battery


def _big_battery(model: Model) -> bool:
    return model.battery_kwh > 3


def _engine(model: Model) -> bool:
    return model.has_engine


def _cabin(model: Model) -> bool:
    return model.has_cabin


def _diesel(model: Model) -> bool:
    return model.powertrain == "diesel"


def _clean_engine(model: Model) -> bool:
    return model.has_engine and model.has_cabin


def _rider(model: Model) -> bool:
    return model.has_rider_power


def _lock(model: Model) -> bool:
    return model.powertrain != "muscle"


CHANNELS: tuple[Channel, ...] = (
    Channel("Vehicle.CurrentLocation.Latitude", 7, lambda f: f.latitude, _all, True),
    Channel("Vehicle.CurrentLocation.Longitude", 7, lambda f: f.longitude, _all, True),
    Channel("Vehicle.CurrentLocation.Altitude", 1, lambda f: f.altitude, _all),
    Channel("Vehicle.CurrentLocation.Heading", 1, lambda f: f.heading, _all),
    Channel("Vehicle.Speed", 2, lambda f: f.traffic.speed * 3.6, _all),
    Channel("Vehicle.TraveledDistance", 0, lambda f: f.traffic.odometer_m, _all),
    Channel("Vehicle.Acceleration.Longitudinal", 2, lambda f: f.traffic.acceleration, _cabin),
    Channel("Vehicle.Exterior.AirTemperature", 1, lambda f: f.outside_c, _cabin),
    Channel("Vehicle.Cabin.HVAC.AmbientAirTemperature", 1, lambda f: f.energy.cabin_c, _cabin),
    Channel(f"{_BATTERY}StateOfCharge.Current", 2, lambda f: f.energy.charge, _battery),
    Channel(f"{_BATTERY}CurrentVoltage", 1, lambda f: f.energy.volts, _battery),
    Channel(f"{_BATTERY}CurrentCurrent", 1, lambda f: -f.energy.amperes, _battery),
    Channel(f"{_BATTERY}CurrentPower", 0, lambda f: -f.energy.battery_w, _battery),
    Channel(f"{_BATTERY}Temperature.Average", 1, lambda f: f.energy.battery_c, _battery),
    Channel(f"{_BATTERY}StateOfHealth", 1, lambda f: f.energy.health, _big_battery),
    Channel(f"{_BATTERY}Range", 0, lambda f: f.range_m, _big_battery),
    Channel(IS_CHARGING, -1, lambda f: f.energy.is_charging, _battery, True),
    Channel(
        f"{_CHARGING}ChargingPort.AnyPosition.IsChargingCableConnected",
        -1,
        lambda f: f.controls.is_plugged,
        _big_battery,
        True,
    ),
    Channel(f"{_CHARGING}ChargeLimit", 0, lambda f: f.controls.limit, _big_battery, True),
    Channel(f"{_CHARGING}AveragePower", 2, lambda f: f.energy.charging_kw, _big_battery, True),
    Channel(f"{_CHARGING}MaxPower", 1, lambda f: f.controls.rated_w / 1000, _big_battery),
    Channel(f"{_CHARGING}MaximumChargingCurrent.Phase1", 1, lambda f: f.controls.current_a, _big_battery, True),
    Channel("Vehicle.Powertrain.ElectricMotor.Power", 0, lambda f: f.energy.motor_w / 1000, _big_battery),
    Channel(f"{_ENGINE}IsRunning", -1, lambda f: f.energy.engine_on, _engine),
    Channel(f"{_ENGINE}Speed", 0, lambda f: f.energy.rpm, _engine),
    Channel(f"{_ENGINE}Power", 0, lambda f: f.energy.engine_w / 1000, _clean_engine),
    Channel(f"{_ENGINE}EngineCoolant.Temperature", 0, lambda f: f.energy.coolant_c, _clean_engine),
    Channel(f"{_FUEL}AbsoluteLevel", 1, lambda f: f.energy.fuel_l, _engine),
    Channel(f"{_FUEL}RelativeLevel", 0, lambda f: f.energy.tank_percent, _engine),
    Channel(f"{_FUEL}Rate", 2, lambda f: f.energy.fuel_lph, _clean_engine),
    Channel(f"{_FUEL}ConsumptionSinceStart", 3, lambda f: f.energy.trip_l, _clean_engine),
    Channel(f"{_ENGINE}Exhaust.Temperature.BeforeCatalyst", 0, lambda f: f.energy.exhaust_c, _clean_engine),
    Channel(f"{_ENGINE}Exhaust.Temperature.AfterCatalyst", 0, lambda f: f.energy.exhaust_c * 0.93, _clean_engine),
    Channel(f"{_ENGINE}Exhaust.CarbonDioxideRate", 2, lambda f: f.energy.carbon_gps, _clean_engine),
    Channel(f"{_ENGINE}Exhaust.NitrogenOxidesBefore", 0, lambda f: 40 + 900 * f.energy.load, _diesel),
    Channel(f"{_ENGINE}Exhaust.NitrogenOxidesAfter", 0, lambda f: f.nitrogen_after, _diesel),
    Channel(f"{_ENGINE}DieselParticulateFilter.SootLoad", 1, lambda f: f.energy.soot, _diesel),
    Channel(f"{_ENGINE}DieselParticulateFilter.IsRegenerating", -1, lambda f: f.energy.is_burning_soot, _diesel),
    Channel(f"{_ENGINE}DieselExhaustFluid.Level", 0, lambda f: f.energy.urea, _diesel),
    Channel(CLIMATE, -1, lambda f: f.controls.climate, _cabin, True),
    Channel(CLIMATE_C, 1, lambda f: f.controls.climate_c, _cabin, True),
    Channel(IS_LOCKED, -1, lambda f: f.controls.is_locked, _lock, True),
    Channel(HORN, -1, lambda f: f.controls.horn, _lock, True),
    Channel(LIGHTS, -1, lambda f: f.controls.lights, _lock, True),
    Channel("Vehicle.Rider.Power", 0, lambda f: f.energy.rider_w, _rider),
    Channel("Vehicle.Rider.Cadence", 0, lambda f: f.cadence, _rider),
    Channel("Vehicle.Rider.HeartRate", 0, lambda f: f.energy.heart, _rider),
)

TIMER = (TIMER_MODE, TIMER_TIME)
"""Texts, told by vehicles with a big battery in the last row of each batch."""


def round_like_sensor(values: Any, decimals: int) -> Any:
    """Sensors have steps; the batch then carries small integers."""
    return np.round(values, max(decimals, 0))
