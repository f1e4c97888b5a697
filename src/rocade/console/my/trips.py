"""Trips of one vehicle: a list with what each used, and one on the map with its speed.

The list is asked for after the page stands (it reads days of samples). A ride is drawn as lines of places with their
speeds, broken where nothing was sent for `SILENT_US`, and a curve of speed and of the level of charge or fuel, thinned to
`RIDE_POINTS`. What a vehicle does not report is said, never guessed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from litestar import Response, get
from litestar.params import FromPath, FromQuery
from numpy.typing import NDArray

from rocade.console import pages
from rocade.console.my.frame import DAY_US, MineDependency, car_of, figure, mask_names, piece, show, texts_of
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, does
from rocade.services.telemetry.history_api import trips_between
from rocade.services.telemetry.trips import EMPTY, ROLES, Series, Trip, series_of, speed_from
from rocade.trust.authority.gate import acts

LONGEST_DAYS = 31
LONGEST_RIDE_US = 7 * DAY_US
RIDE_POINTS = 2000
SILENT_US = 120_000_000
RIDE_ROLES = ("latitude", "longitude", "speed", "charge", "tank")


class Ride(msgspec.Struct, frozen=True):
    """One trip to draw. `lines`: longitude, latitude, speed_kmh of each place; `level`: percent, of `level_of` charge | fuel | ''."""

    lines: list[list[tuple[float, float, float | None]]]
    times_s: list[float]
    speed: list[float | None]
    level: list[float | None]
    level_of: str


@get("/my/{ref:int}/trips", opt=does(acts.READ_TRIPS), include_in_schema=False)
async def show_trips(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    car = await car_of(request, mine, ref)
    address = f"/my/{ref}/trips/list?days=7"
    return show(request, "my/trips.html", {"ref": str(ref)}, mine, car=car, list=address)


@get("/my/{ref:int}/trips/list", opt=does(acts.READ_TRIPS), include_in_schema=False)
async def list_trips(
    request: AnyRequest,
    ref: FromPath[int],
    mine: MineDependency,
    days: FromQuery[int] = 7,
    until_us: FromQuery[int | None] = None,
) -> Response[str]:
    """The trips of some days, the newest first."""
    days, now_us = max(1, min(days, LONGEST_DAYS)), mine.clock.now_us()
    end_us = min(until_us or now_us, now_us)
    from_us = end_us - days * DAY_US
    trips = (await trips_between(mine.history, mine.catalogue, ref, from_us, end_us))[::-1]
    language, texts = pages.language_of(request), texts_of(request)
    later_us = end_us + days * DAY_US if end_us < now_us else 0
    return piece(
        request, "my/trips_list.html", ref=ref, days=days, trips=trips, from_us=from_us, until_us=end_us,
        later_us=min(later_us, now_us), km=sum(trip.distance_km for trip in trips), mask=mask_names(request),
        minutes=lambda seconds: duration(language, seconds), used=lambda trip: used(language, texts, trip),
    )  # fmt: skip


def duration(language: str, seconds: float) -> str:
    """Hours and minutes, as people say them."""
    minutes = max(1, round(seconds / 60))
    hours, rest = divmod(minutes, 60)
    names = {"zh": ("小时", "分钟")}.get(language, ("h", "min"))
    parts = [f"{hours}\u202f{names[0]}"] * bool(hours) + [f"{rest}\u202f{names[1]}"] * bool(rest or not hours)
    return " ".join(parts)


def used(language: str, texts: Any, trip: Trip) -> list[tuple[str, str]]:
    """What a trip used, each with how it is known; empty = the vehicle does not say."""
    found: list[tuple[str, str]] = []

    def per_100(amount: float, unit: str, digits: int) -> str:
        text = f"{figure(language, amount, digits)}\u202f{unit}"
        if trip.distance_km < 1:
            return text
        each = f"{figure(language, amount / trip.distance_km * 100, 1)}\u202f{unit}"
        return f"{text} ({texts['my_trips.per_100'].format(value=each)})"

    if trip.energy_kwh is not None and (trip.energy_from == "power" or trip.energy_kwh >= 0):
        found.append((per_100(trip.energy_kwh, "kWh", 2), texts[f"my_trips.from_{trip.energy_from}"]))
    elif trip.charge_used is not None and trip.charge_used >= 0:
        found.append(
            (
                f"{texts['my_trips.charge']} −{figure(language, trip.charge_used, 1)}\u202f%",
                texts["my_trips.from_level"],
            )
        )
    if trip.fuel_used is not None and trip.fuel_used >= 0:
        found.append((per_100(trip.fuel_used, "l", 2), texts[f"my_trips.from_{trip.fuel_from}"]))
    elif trip.fuel_used is None and trip.tank_used is not None and trip.tank_used >= 0:
        found.append(
            (f"{texts['my_trips.fuel']} −{figure(language, trip.tank_used, 0)}\u202f%", texts["my_trips.from_level"])
        )
    if min(trip.charge_used or 0, trip.fuel_used or 0, trip.tank_used or 0) < -1:
        found.append((texts["my_trips.filled"], ""))
    return found


@get("/my/{ref:int}/ride", opt=does(acts.READ_TRIPS), include_in_schema=False)
async def show_ride(
    request: AnyRequest,
    ref: FromPath[int],
    mine: MineDependency,
    from_us: FromQuery[int],
    until_us: FromQuery[int],
) -> Ride:
    """Places and speeds of a stretch of time, for the map and the curve."""
    if not 0 < until_us - from_us <= LONGEST_RIDE_US:
        raise Refused("telemetry.range.trips", "a ride lasts at most seven days")
    names = RIDE_ROLES if "energy" in mask_names(request) else RIDE_ROLES[:3]
    signals = {name: [int(mine.catalogue.by_name(one).id) for one in ROLES[name]] for name in names}
    return ride_of(await series_of(mine.history, ref, signals, from_us, until_us + 1))


def ride_of(series: dict[str, Series]) -> Ride:
    """Thin and put together what is drawn; see `Ride`."""
    speed = series.get("speed") or speed_from(series.get("latitude", EMPTY), series.get("longitude", EMPTY))
    level_of = next((name for name in ("charge", "tank") if name in series), "")
    north, east = series.get("latitude", EMPTY), series.get("longitude", EMPTY)
    time_us, at_north, at_east = np.intersect1d(north.time_us, east.time_us, return_indices=True)
    step = max(1, -(-len(time_us) // RIDE_POINTS))
    keep = np.arange(0, len(time_us), step)
    places = np.column_stack((east.value[at_east], north.value[at_north]))[keep]
    kmh = _held(speed, time_us[keep])
    silences = np.concatenate([[0], np.cumsum(np.diff(time_us) > SILENT_US)])[: len(time_us)]
    breaks = np.flatnonzero(np.diff(silences[keep])) + 1
    points = [
        (round(float(x), 6), round(float(y), 6), _or_none(v)) for (x, y), v in zip(places, kmh, strict=True)
    ]  # fmt: skip
    edges = [0, *breaks.tolist(), len(points)]
    lines = [points[begin:end] for begin, end in pairwise(edges) if end > begin]
    level = series.get(level_of, EMPTY)
    shown_us = (speed if len(speed.time_us) else level).time_us
    shown_us = shown_us[:: max(1, -(-len(shown_us) // RIDE_POINTS))]
    return Ride(
        lines=lines,
        times_s=(shown_us / 1e6).tolist(),
        speed=[_or_none(one) for one in _held(speed, shown_us)],
        level=[_or_none(one) for one in _held(level, shown_us)],
        level_of={"charge": "charge", "tank": "fuel", "": ""}[level_of],
    )


def _held(series: Series, at_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """The value that held at each instant; not a number where none had come yet, or long before."""
    if not len(series.time_us):
        return np.full(len(at_us), np.nan)
    last = np.searchsorted(series.time_us, at_us, "right") - 1
    is_known = (last >= 0) & (at_us - series.time_us[np.maximum(last, 0)] <= SILENT_US)
    return np.where(is_known, series.value[np.maximum(last, 0)], np.nan)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 2)


HANDLERS = [show_trips, list_trips, show_ride]
