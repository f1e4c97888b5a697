"""Data classes: the few words in which an owner says what of his vehicle somebody may see.

Each signal belongs to exactly one class, found by the longest prefix of its name; what no prefix names is `other`, which
no grant includes unless it says so. A set of classes travels as a bit mask (`bit`, `mask`, `names`).
Source: docs/decisions/0033-consent.md; the resources of ISO 20078-1 at the grain a person can decide on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from rocade.core.errors import Refused

DATA_CLASSES = ("identity", "location", "driving", "energy", "condition", "cabin", "other")
"""identity: plate, VIN, who drives; location: where, trips; driving: speed and how it is driven; energy: battery, fuel,
range; condition: health, mileage, service; cabin: seats, climate, doors; other: what no rule names."""
ALL = (1 << len(DATA_CLASSES)) - 1

_PREFIXES = {
    "Vehicle.VehicleIdentification": "identity",
    "Vehicle.Driver": "identity",
    "Vehicle.Occupant": "identity",
    "Vehicle.CurrentLocation": "location",
    "Vehicle.Cabin.Infotainment.Navigation": "location",
    "Vehicle.StartTime": "location",
    "Vehicle.Trip": "location",
    "Vehicle.Speed": "driving",
    "Vehicle.AverageSpeed": "driving",
    "Vehicle.IsMoving": "driving",
    "Vehicle.Acceleration": "driving",
    "Vehicle.AngularVelocity": "driving",
    "Vehicle.ADAS": "driving",
    "Vehicle.MotionManagement": "driving",
    "Vehicle.Chassis": "driving",
    "Vehicle.Chassis.Axle": "condition",
    "Vehicle.Powertrain": "energy",
    "Vehicle.Powertrain.Transmission": "driving",
    "Vehicle.Powertrain.CombustionEngine": "condition",
    "Vehicle.Powertrain.Type": "condition",
    "Vehicle.Cabin": "cabin",
    "Vehicle.Body": "condition",
    "Vehicle.ControlUnit": "condition",
    "Vehicle.Exterior": "condition",
    "Vehicle.Diagnostics": "condition",
    "Vehicle.OBD": "condition",
    "Vehicle.Service": "condition",
    "Vehicle.LowVoltage": "condition",
    "Vehicle.TraveledDistance": "condition",
    "Vehicle.IsBrokenDown": "condition",
    "Vehicle.VersionVSS": "condition",
}


def bit(name: str) -> int:
    """Raises: Refused `consent.class.unknown`."""
    if name not in DATA_CLASSES:
        raise Refused("consent.class.unknown", f"data classes are {', '.join(DATA_CLASSES)}")
    return 1 << DATA_CLASSES.index(name)


def mask(names: Iterable[str]) -> int:
    """Raises: Refused `consent.class.unknown`."""
    return functools.reduce(lambda sum_, name: sum_ | bit(name), names, 0)


def names(mask: int) -> tuple[str, ...]:
    return tuple(name for place, name in enumerate(DATA_CLASSES) if mask >> place & 1)


@functools.cache
def class_of(signal_name: str) -> str:
    """The class of a signal, by the longest prefix that ends at a word of its name."""
    parts = signal_name.split(".")
    for count in range(len(parts), 0, -1):
        head = ".".join(parts[:count])
        if found := _PREFIXES.get(head):
            return found
    stem = [name for prefix, name in _PREFIXES.items() if signal_name.startswith(prefix)]
    return stem[0] if stem and len(parts) == 2 else "other"
