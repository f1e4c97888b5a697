"""What kind of data a signal is, in the words of the EU Data Act and the Commission's guidance on vehicle data.

`raw`: what a sensor said; `preprocessed`: made usable in the vehicle from what sensors said, without more than that (a range, a
mean, a state of charge): both are in scope and go out as the maker sees them. `derived`: an estimate or judgement that somebody
invested in (a state of health, a driver's tiredness, an assistant's decision): marked wherever it leaves.
Found by the longest rule a name begins with, as data classes are; what nothing names is raw.
Source: Regulation (EU) 2023/2854 recital 15; Commission guidance C/2025/5026.
"""

from __future__ import annotations

import functools

ORIGINS = ("raw", "preprocessed", "derived")

_RULES = {
    "Vehicle.AverageSpeed": "preprocessed",
    "Vehicle.IsMoving": "preprocessed",
    "Vehicle.IsBrokenDown": "preprocessed",
    "Vehicle.TripDuration": "preprocessed",
    "Vehicle.TripMeterReading": "preprocessed",
    "Vehicle.TraveledDistanceSinceStart": "preprocessed",
    "Vehicle.EmissionsCO2": "preprocessed",
    "Vehicle.Service": "preprocessed",
    "Vehicle.Powertrain.Range": "preprocessed",
    "Vehicle.Powertrain.TimeRemaining": "preprocessed",
    "Vehicle.Powertrain.AccumulatedBrakingEnergy": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.Range": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.TimeRemaining": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.StateOfCharge": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.StateOfHealth": "derived",
    "Vehicle.Powertrain.TractionBattery.Charging.TimeToComplete": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.AccumulatedChargedEnergy": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.AccumulatedConsumedEnergy": "preprocessed",
    "Vehicle.Powertrain.FuelSystem.Range": "preprocessed",
    "Vehicle.Powertrain.FuelSystem.AverageConsumption": "preprocessed",
    "Vehicle.Powertrain.FuelSystem.InstantConsumption": "preprocessed",
    "Vehicle.Powertrain.FuelSystem.ConsumptionSinceStart": "preprocessed",
    "Vehicle.Powertrain.FuelSystem.TimeRemaining": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.Temperature.Average": "preprocessed",
    "Vehicle.Powertrain.TractionBattery.Charging.AveragePower": "preprocessed",
    "Vehicle.Powertrain.RangeExtender.CombinedFuelEconomy": "preprocessed",
    "Vehicle.Powertrain.CombustionEngine.EngineOil.LifeRemaining": "derived",
    "Vehicle.Powertrain.CombustionEngine.EngineCoolant.LifeRemaining": "derived",
    "Vehicle.Powertrain.ElectricMotor.EngineCoolant.LifeRemaining": "derived",
    "Vehicle.Body.Windshield.Front.Wiping.WiperWear": "derived",
    "Vehicle.Body.Windshield.Rear.Wiping.WiperWear": "derived",
    "Vehicle.Powertrain.Transmission.ClutchWear": "derived",
    "Vehicle.ADAS": "preprocessed",
    "Vehicle.ADAS.DMS": "derived",
    "Vehicle.ADAS.ObstacleDetection": "derived",
    "Vehicle.Driver": "derived",
    "Vehicle.Driver.HeartRate": "raw",
    "Vehicle.Occupant": "preprocessed",
    "Vehicle.Exterior.SpeedLimit": "preprocessed",
    "Vehicle.Exterior.TrafficLevel": "derived",
}


@functools.cache
def origin_of(name: str) -> str:
    """raw | preprocessed | derived, by a signal's name."""
    words = name.split(".")
    fitting = [rule for rule in _RULES if words[: rule.count(".") + 1] == rule.split(".")]
    return _RULES[max(fitting, key=len)] if fitting else "raw"


def rules() -> dict[str, str]:
    """Origin by the beginning of a name, for documents."""
    return dict(_RULES)
