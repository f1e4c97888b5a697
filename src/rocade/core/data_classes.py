"""Data classes: the few words in which an owner says what of his vehicle somebody may see.

Each signal belongs to exactly one class, found by the longest rule its name begins with, or named by its brand's file; what
nothing names is `other`, which no grant includes unless it says so. A set of classes travels as a bit mask (`bit`, `mask`,
`names`). Source: docs/decisions/0033-consent.md; the resources of ISO 20078-1 at the grain a person can decide on.
Behind them stand the classes of control, in which he says what somebody may make the vehicle do (docs/decisions/0047-commands.md):
they show nothing, no set of "all data" includes them, and they are given by name only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from rocade.core.errors import Refused

DATA_CLASSES = ("identity", "location", "driving", "energy", "condition", "cabin", "other")
"""identity: plate, VIN, who drives and how they are; location: where, when and how far each trip; driving: speed and how it is
driven; energy: battery, fuel, range; condition: health, mileage, service, build; cabin: seats, climate, media, doors and
locks; other: what nothing names."""
ALL = (1 << len(DATA_CLASSES)) - 1
CONTROL_CLASSES = ("control.charging", "control.comfort", "control.access", "control.location")
"""charging: when, how much and how fast it charges, waking it; comfort: climate; access: doors; location: saying where it is, by
radio, horn or lights."""
CONTROL = ((1 << len(CONTROL_CLASSES)) - 1) << len(DATA_CLASSES)
_CLASSES = DATA_CLASSES + CONTROL_CLASSES

_RULES = {
    "Vehicle.VehicleIdentification": "identity",
    "Vehicle.Driver": "identity",
    "Vehicle.Rider": "identity",
    "Vehicle.Rider.AssistLevel": "driving",
    "Vehicle.Occupant": "identity",
    "Vehicle.ADAS.DMS": "identity",
    "Vehicle.CurrentLocation": "location",
    "Vehicle.Cabin.Infotainment.Navigation": "location",
    "Vehicle.Powertrain.TractionBattery.Charging.Location": "location",
    "Vehicle.Powertrain.TractionBattery.Charging.EvseId": "location",
    "Vehicle.StartTime": "location",
    "Vehicle.TripDuration": "location",
    "Vehicle.TripMeterReading": "location",
    "Vehicle.TraveledDistanceSinceStart": "location",
    "Vehicle.Speed": "driving",
    "Vehicle.AverageSpeed": "driving",
    "Vehicle.IsMoving": "driving",
    "Vehicle.Acceleration": "driving",
    "Vehicle.AngularVelocity": "driving",
    "Vehicle.ADAS": "driving",
    "Vehicle.MotionManagement": "driving",
    "Vehicle.Chassis": "driving",
    "Vehicle.Chassis.AxleCount": "condition",
    "Vehicle.Chassis.Wheelbase": "condition",
    "Vehicle.Chassis.Axle": "condition",
    "Vehicle.Chassis.Axle.*.SteeringAngle": "driving",
    "Vehicle.Chassis.Axle.*.Wheel.*.Speed": "driving",
    "Vehicle.Chassis.Axle.*.Wheel.*.AngularSpeed": "driving",
    "Vehicle.Body.Lights": "driving",
    "Vehicle.Body.Lights.*.IsDefect": "condition",
    "Vehicle.Body.Lights.*.*.IsDefect": "condition",
    "Vehicle.Body.Horn": "driving",
    "Vehicle.Body.LeanAngle": "driving",
    "Vehicle.Exterior.SpeedLimit": "driving",
    "Vehicle.Exterior.TrafficLevel": "driving",
    "Vehicle.Powertrain": "energy",
    "Vehicle.Powertrain.Type": "condition",
    "Vehicle.Powertrain.Transmission": "driving",
    "Vehicle.Powertrain.Transmission.ClutchWear": "condition",
    "Vehicle.Powertrain.Transmission.Temperature": "condition",
    "Vehicle.Powertrain.Transmission.TravelledDistance": "condition",
    "Vehicle.Powertrain.ElectricMotor.Speed": "driving",
    "Vehicle.Powertrain.ElectricMotor.Torque": "driving",
    "Vehicle.Powertrain.ElectricMotor.Power": "driving",
    "Vehicle.Powertrain.CombustionEngine": "condition",
    "Vehicle.Powertrain.CombustionEngine.IsRunning": "driving",
    "Vehicle.Powertrain.CombustionEngine.Speed": "driving",
    "Vehicle.Powertrain.CombustionEngine.Torque": "driving",
    "Vehicle.Powertrain.CombustionEngine.Power": "driving",
    "Vehicle.Powertrain.CombustionEngine.TPS": "driving",
    "Vehicle.EmissionsCO2": "energy",
    "Vehicle.PowerOptimizeLevel": "energy",
    "Vehicle.IsAutoPowerOptimize": "energy",
    "Vehicle.Cabin": "cabin",
    "Vehicle.Body.Hood": "cabin",
    "Vehicle.Body.Trunk": "cabin",
    "Vehicle.Body.IsLocked": "cabin",
    "Vehicle.CurrentOverallWeight": "cabin",
    "Vehicle.Trailer": "cabin",
    "Vehicle.Body": "condition",
    "Vehicle.ControlUnit": "condition",
    "Vehicle.Exterior": "condition",
    "Vehicle.Diagnostics": "condition",
    "Vehicle.OBD": "condition",
    "Vehicle.Service": "condition",
    "Vehicle.LowVoltageBattery": "condition",
    "Vehicle.LowVoltageSystemState": "condition",
    "Vehicle.Connectivity": "condition",
    "Vehicle.TraveledDistance": "condition",
    "Vehicle.IsBrokenDown": "condition",
    "Vehicle.VersionVSS": "condition",
    "Vehicle.Recorder": "condition",
    "Vehicle.CargoVolume": "condition",
    "Vehicle.CurbWeight": "condition",
    "Vehicle.GrossWeight": "condition",
    "Vehicle.Height": "condition",
    "Vehicle.Length": "condition",
    "Vehicle.MaxTowBallWeight": "condition",
    "Vehicle.MaxTowWeight": "condition",
    "Vehicle.RoofLoad": "condition",
    "Vehicle.TurningDiameter": "condition",
    "Vehicle.WidthExcludingMirrors": "condition",
    "Vehicle.WidthFoldedMirrors": "condition",
    "Vehicle.WidthIncludingMirrors": "condition",
}
"""Class by the beginning of a name, in whole words; `*` stands for one word. Where a branch says more than its neighbours (a
wheel's speed among tyre pressures, a charger's position among currents) its own longer rule counts."""
_PARTS = [(tuple(rule.split(".")), found) for rule, found in _RULES.items()]


def bit(name: str) -> int:
    """Raises: Refused `consent.class.unknown`."""
    if name not in _CLASSES:
        raise Refused("consent.class.unknown", f"classes are {', '.join(_CLASSES)}")
    return 1 << _CLASSES.index(name)


def mask(names: Iterable[str]) -> int:
    """Raises: Refused `consent.class.unknown`."""
    return functools.reduce(lambda sum_, name: sum_ | bit(name), names, 0)


def names(mask: int) -> tuple[str, ...]:
    return tuple(name for place, name in enumerate(_CLASSES) if mask >> place & 1)


@functools.cache
def class_of(signal_name: str) -> str:
    """The class of a VSS name, by its longest rule; `other` for a brand's own, which its brand file decides.

    A catalogue's signals carry theirs (`Signal.data_class`).
    """
    words = signal_name.split(".")
    fitting = [(len(rule), found) for rule, found in _PARTS if _begins(words, rule)]
    return max(fitting)[1] if fitting else "other"


def _begins(words: list[str], rule: tuple[str, ...]) -> bool:
    return len(words) >= len(rule) and all(part in ("*", word) for part, word in zip(rule, words, strict=False))


def rules() -> dict[str, str]:
    """Class by the beginning of a name, for documents."""
    return dict(_RULES)
