"""A vehicle's state at a glance, for its owner and its drivers: charge or fuel, range, where, last seen.

`glance` and `readings` take the twin, the catalogue and the mask of data classes the viewer may see; what the mask does
not name is not in the answer, not even as an empty field with a meaning. Doubtful values are left out of the glance and
shown with their doubt among the readings. Works for whatever a vehicle reports: car, bicycle, moped, standing scooter,
electric, fuelled, both or neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rocade.core import data_classes
from rocade.core.catalogue import Catalogue
from rocade.services.telemetry.chunks import DOUBTFUL
from rocade.services.vehicles.api import SYMBOLS, quality_names
from rocade.services.vehicles.twin import Twin, Value

_BATTERY = "Vehicle.Powertrain.TractionBattery."
_FUEL = "Vehicle.Powertrain.FuelSystem."
MOVING_KMH = 1.0
FACTS: dict[str, tuple[tuple[str, ...], float]] = {
    "speed_kmh": (("Vehicle.Speed",), 1),
    "latitude": (("Vehicle.CurrentLocation.Latitude",), 1),
    "longitude": (("Vehicle.CurrentLocation.Longitude",), 1),
    "charge_percent": ((f"{_BATTERY}StateOfCharge.Displayed", f"{_BATTERY}StateOfCharge.Current"), 1),
    "charge_range_km": ((f"{_BATTERY}Range",), 0.001),
    "full_in_s": ((f"{_BATTERY}Charging.TimeToComplete",), 1),
    "power_kw": ((f"{_BATTERY}CurrentPower",), 0.001),
    "health_percent": ((f"{_BATTERY}StateOfHealth",), 1),
    "fuel_percent": ((f"{_FUEL}RelativeLevel",), 1),
    "fuel_l": ((f"{_FUEL}AbsoluteLevel",), 1),
    "fuel_range_km": ((f"{_FUEL}Range",), 0.001),
    "range_km": (("Vehicle.Powertrain.Range",), 0.001),
    "odometer_km": (("Vehicle.TraveledDistance",), 0.001),
    "outside_c": (("Vehicle.Exterior.AirTemperature",), 1),
    "cabin_c": (("Vehicle.Cabin.HVAC.AmbientAirTemperature",), 1),
    "rider_w": (("Vehicle.Rider.Power",), 1),
}
"""Which signals a figure comes from, the first that is there, and the factor to the unit in its name."""
SWITCHES = {
    "is_charging": f"{_BATTERY}Charging.IsCharging",
    "is_running": "Vehicle.Powertrain.CombustionEngine.IsRunning",
}


class Glance(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known now and may be seen; None = not reported, doubtful or not shared. Instants: microseconds UTC."""

    ref: str
    seen_us: int = 0
    speed_kmh: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    charge_percent: float | None = None
    charge_range_km: float | None = None
    full_in_s: float | None = None
    power_kw: float | None = None
    health_percent: float | None = None
    fuel_percent: float | None = None
    fuel_l: float | None = None
    fuel_range_km: float | None = None
    range_km: float | None = None
    odometer_km: float | None = None
    outside_c: float | None = None
    cabin_c: float | None = None
    rider_w: float | None = None
    is_charging: bool | None = None
    is_running: bool | None = None

    @property
    def is_moving(self) -> bool:
        return self.speed_kmh is not None and self.speed_kmh >= MOVING_KMH

    @property
    def reach_km(self) -> float | None:
        """How far it goes: as reported for the whole vehicle, else what its battery and its tank report together."""
        parts = [part for part in (self.charge_range_km, self.fuel_range_km) if part is not None]
        return self.range_km if self.range_km is not None else sum(parts) if parts else None


class Reading(msgspec.Struct, frozen=True):
    """One value as the page lists it. `doubts` names what speaks against it."""

    signal: int
    name: str
    data_class: str
    value: float | bool | str
    symbol: str
    time_us: int
    doubts: Sequence[str] = ()


def visible(twin: Twin, catalogue: Catalogue, mask: int) -> dict[int, Value]:
    """The values of these data classes; a signal the catalogue does not know is of class other."""
    wanted = set(data_classes.names(mask))
    return {number: value for number, value in twin.reported.items() if catalogue.class_of(number) in wanted}


def glance(ref: int, twin: Twin | None, catalogue: Catalogue, mask: int) -> Glance:
    """The state of now, as far as `mask` allows. When it was last seen says no more than that it lives, so any class will do."""
    if twin is None or not mask:
        return Glance(str(ref))
    values = {number: one for number, one in visible(twin, catalogue, mask).items() if not one.quality & DOUBTFUL}

    def first(names: Sequence[str]) -> float | bool | str | None:
        found = (values.get(int(catalogue.by_name(name).id)) for name in names)
        return next((one.value for one in found if one is not None), None)

    figures = {name: _number(first(names), factor) for name, (names, factor) in FACTS.items()}
    switches = {name: bool(found) for name, signal in SWITCHES.items() if (found := first([signal])) is not None}
    if figures["latitude"] is None or figures["longitude"] is None:
        figures["latitude"] = figures["longitude"] = None
    known = {"ref": str(ref), "seen_us": twin.arrived_us, **figures, **switches}
    return msgspec.convert(known, Glance)


def _number(value: float | bool | str | None, factor: float) -> float | None:
    return round(float(value) * factor, 6) if isinstance(value, int | float) else None


def readings(twin: Twin | None, catalogue: Catalogue, mask: int) -> list[Reading]:
    """Every value that may be seen, by data class and name."""
    made = []
    for number, one in (visible(twin, catalogue, mask) if twin else {}).items():
        known = catalogue.get(number)
        name, unit = (known.name, known.unit) if known else (f"signal.{number}", "")
        group = catalogue.class_of(number)
        doubts = quality_names(one.quality)
        made.append(Reading(number, name, group, one.value, SYMBOLS.get(unit, unit), one.time_us, doubts))
    return sorted(made, key=lambda one: (data_classes.DATA_CLASSES.index(one.data_class), one.name))
