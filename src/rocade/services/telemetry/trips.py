"""Trips of a vehicle, found in its speed and position samples. For any kind: car, bicycle, moped, standing scooter.

Flow: `find_trips` (pure) takes good samples of speed, position, and of what is used up (charge, fuel) -> moments of
movement (speed >= `start_kmh`) -> joined over standstills up to `stop_s` (counted from the first still sample) and silence up to `gap_s`
-> trips long enough in time and way. Without a speed signal, speed comes from the positions. `trips_of` reads the samples.
Way = integral of speed (each value holds until the next sample, `gap_s` at most). Energy and fuel = integral of the battery's
power and of the fuel rate where these cover the trip (`COVERED` of its time, a value holds `HOLD_US`), else the level at the start
minus the level at the end; `*_from` says which. Levels are never corrected for charging or refuelling under way: what was
filled in shows as less than nothing used. What a vehicle does not report stays None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.fabric.history import History
from rocade.services.telemetry import store
from rocade.services.telemetry.chunks import DOUBTFUL, Ints, Samples

EARTH_RADIUS_KM = 6371.0088
HOLD_US = 60_000_000
COVERED = 0.9
ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "speed": ("Vehicle.Speed",),
        "latitude": ("Vehicle.CurrentLocation.Latitude",),
        "longitude": ("Vehicle.CurrentLocation.Longitude",),
        "charge": (
            "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed",
            "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
        ),
        "stored": ("Vehicle.Powertrain.TractionBattery.StateOfCharge.CurrentEnergy",),
        "power": ("Vehicle.Powertrain.TractionBattery.CurrentPower",),
        "fuel": ("Vehicle.Powertrain.FuelSystem.AbsoluteLevel",),
        "tank": ("Vehicle.Powertrain.FuelSystem.RelativeLevel",),
        "rate": ("Vehicle.Powertrain.FuelSystem.Rate",),
    }
)
"""Which signals play which part; the first that has samples in the range counts."""


class Rules(msgspec.Struct, frozen=True):
    start_kmh: float = 3.0
    stop_s: float = 300.0
    gap_s: float = 600.0
    shortest_s: float = 60.0
    shortest_km: float = 0.1


class Series(msgspec.Struct, frozen=True):
    """Samples of one signal in order of time, doubtful ones left out."""

    time_us: Ints
    value: NDArray[np.float64]

    @classmethod
    def of(cls, samples: Samples) -> Series:
        if samples.value.dtype == object:
            return cls(np.zeros(0, np.int64), np.zeros(0))
        value = samples.value.astype(np.float64)
        good = ((samples.quality & DOUBTFUL) == 0) & np.isfinite(value)
        return cls(samples.time_us[good], value[good])

    def at(self, instant_us: int) -> float | None:
        """The value that held at an instant: the last one before it, else the first one after it."""
        if not len(self.time_us):
            return None
        return float(self.value[max(int(np.searchsorted(self.time_us, instant_us, "right")) - 1, 0)])


class Trip(msgspec.Struct, frozen=True, omit_defaults=True):
    """One trip. Units: `charge_used` and `tank_used` percent of the whole, `fuel_used` litres, `energy_kwh` from the battery
    (what braking gave back is taken off). `energy_from` and `fuel_from`: power | rate | level, '' = unknown.
    """

    start_us: int
    end_us: int
    distance_km: float
    top_kmh: float
    start_position: tuple[float, float] | None = None
    end_position: tuple[float, float] | None = None
    charge_used: float | None = None
    fuel_used: float | None = None
    tank_used: float | None = None
    energy_kwh: float | None = None
    energy_from: str = ""
    fuel_from: str = ""

    @property
    def duration_s(self) -> float:
        return (self.end_us - self.start_us) / 1e6


EMPTY = Series(np.zeros(0, np.int64), np.zeros(0))


def find_trips(series: Mapping[str, Series], rules: Rules = Rules()) -> list[Trip]:  # noqa: B008 - frozen
    """Trips in order of time, from the series of the `ROLES` that are known."""
    latitude, longitude = series.get("latitude", EMPTY), series.get("longitude", EMPTY)
    speed_kmh = series.get("speed", EMPTY)
    if not len(speed_kmh.time_us):
        speed_kmh = speed_from(latitude, longitude)
    time_us, speed = speed_kmh.time_us, speed_kmh.value
    moving = np.flatnonzero(speed >= rules.start_kmh)
    if not len(moving):
        return []
    step_s = np.diff(time_us) / 1e6
    held_s = np.append(np.minimum(step_s, rules.gap_s), 0.0)
    way_km = np.concatenate([[0.0], np.cumsum(speed * held_s / 3600)])
    silent = np.concatenate([[0], np.cumsum(step_s > rules.gap_s)])
    still_s = (time_us[moving[1:]] - time_us[np.minimum(moving[:-1] + 1, moving[1:])]) / 1e6
    apart = (still_s > rules.stop_s) | (np.diff(silent[moving]) > 0)
    edges = np.concatenate([[0], np.flatnonzero(apart) + 1, [len(moving)]])
    found = list[Trip]()
    for first, last in zip(moving[edges[:-1]], moving[edges[1:] - 1], strict=True):
        end = min(int(last) + 1, len(time_us) - 1)
        if silent[end] != silent[last]:
            end = int(last)
        start_us, end_us, distance = int(time_us[first]), int(time_us[end]), float(way_km[end] - way_km[first])
        if (end_us - start_us) / 1e6 < rules.shortest_s or distance < rules.shortest_km:
            continue
        trip = Trip(
            start_us=start_us,
            end_us=end_us,
            distance_km=round(distance, 3),
            top_kmh=float(speed[first : end + 1].max()),
            start_position=_position(latitude, longitude, start_us),
            end_position=_position(latitude, longitude, end_us),
        )
        found.append(_with_used(trip, series))
    return found


def _with_used(trip: Trip, series: Mapping[str, Series]) -> Trip:
    """The trip with what it used up, as far as the vehicle says."""

    def level(role: str) -> float | None:
        return _used(series.get(role, EMPTY), trip.start_us, trip.end_us)

    drawn_j = _integral(series.get("power", EMPTY), trip.start_us, trip.end_us)
    burnt_l = _integral(series.get("rate", EMPTY), trip.start_us, trip.end_us)
    energy_kwh = (
        level("stored") if drawn_j is None else round(-drawn_j / 3.6e6, 3)
    )  # VSS: power into the battery is positive
    fuel_l = level("fuel") if burnt_l is None else round(burnt_l / 3600, 3)
    return msgspec.structs.replace(
        trip,
        charge_used=level("charge"),
        tank_used=level("tank"),
        energy_kwh=energy_kwh,
        energy_from="" if energy_kwh is None else "level" if drawn_j is None else "power",
        fuel_used=fuel_l,
        fuel_from="" if fuel_l is None else "level" if burnt_l is None else "rate",
    )


async def trips_of(
    history: History,
    vehicle: int,
    signals: Mapping[str, Sequence[int]],
    from_us: int,
    until_us: int,
    rules: Rules = Rules(),  # noqa: B008
) -> list[Trip]:
    """Trips of a vehicle in a range. `signals` gives the ids of each of the `ROLES`. Cost: one query of the history."""
    return find_trips(await series_of(history, vehicle, signals, from_us, until_us), rules)


async def series_of(
    history: History, vehicle: int, signals: Mapping[str, Sequence[int]], from_us: int, until_us: int
) -> dict[str, Series]:
    """Good samples by role, from the first of its signals that has any; roles without samples are left out."""
    wanted = [number for numbers in signals.values() for number in numbers]
    parts = defaultdict[int, list[Series]](list)
    async for _, signal, samples in store.samples(history, [vehicle], wanted, from_us, until_us):
        parts[signal].append(Series.of(samples))
    series = {}
    for role, numbers in signals.items():
        if known := next((parts[number] for number in numbers if number in parts), None):
            series[role] = Series(
                *(np.concatenate([getattr(one, name) for one in known]) for name in ("time_us", "value"))
            )
    return series


def distance_km(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Great-circle distance from each position to the next (haversine formula)."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    half = np.sin(np.diff(phi) / 2) ** 2 + np.cos(phi[:-1]) * np.cos(phi[1:]) * np.sin(np.diff(lam) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1))))


def speed_from(latitude: Series, longitude: Series) -> Series:
    """Speed from one changed position to the next, standing at the instant of the earlier one."""
    time_us, ours, theirs = np.intersect1d(latitude.time_us, longitude.time_us, return_indices=True)
    if len(time_us) < 2:
        return EMPTY
    north, east = latitude.value[ours], longitude.value[theirs]
    changed = np.concatenate([[True], (np.diff(north) != 0) | (np.diff(east) != 0)])
    changed[-1] = True
    time_us, north, east = time_us[changed], north[changed], east[changed]
    speed = distance_km(north, east) / (np.diff(time_us) / 3.6e9)
    return Series(time_us, np.append(speed, 0.0))


def _position(latitude: Series, longitude: Series, instant_us: int) -> tuple[float, float] | None:
    north, east = latitude.at(instant_us), longitude.at(instant_us)
    return None if north is None or east is None else (north, east)


def _used(level: Series, start_us: int, end_us: int) -> float | None:
    before, after = level.at(start_us), level.at(end_us)
    return None if before is None or after is None else round(before - after, 6)


def _integral(rate: Series, start_us: int, end_us: int) -> float | None:
    """Integral over the seconds of a trip, scaled up to the whole of it; None where too little of it is covered."""
    first = max(int(np.searchsorted(rate.time_us, start_us, "right")) - 1, 0)
    last = int(np.searchsorted(rate.time_us, end_us))
    begin_us = np.clip(rate.time_us[first:last], start_us, end_us)
    left_us = rate.time_us[first:last] + HOLD_US - begin_us  # of a value from before the trip, what is left
    held_us = np.clip(np.minimum(np.diff(begin_us, append=end_us), left_us), 0, None)
    covered_us = int(held_us.sum())
    if covered_us < COVERED * (end_us - start_us) or not covered_us:
        return None
    return float(rate.value[first:last] @ held_us) / 1e6 * (end_us - start_us) / covered_us
