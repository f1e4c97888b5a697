"""What the vehicle page draws: curves of signals, thinned to the pixels there are, and the track of a trip."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.catalogue import Catalogue
from rocade.core.signals import Quality, Signal
from rocade.fabric.history import History
from rocade.services.telemetry import store
from rocade.services.telemetry.chunks import DAY_US, HOUR_US
from rocade.services.telemetry.resampling import Resampler
from rocade.services.vehicles.api import SYMBOLS

SECOND_US = 1_000_000
SUMMARY_FROM_US = 8 * DAY_US
"""Longer ranges are drawn from hourly summaries alone."""
TRACK_POINTS = 2000
NO_PLACE = int(Quality.ZERO_POSITION | Quality.IMPOSSIBLE_POSITION | Quality.NOT_FINITE | Quality.OUT_OF_RANGE)


class Curve(msgspec.Struct, frozen=True):
    """Parallel arrays; mean, lowest and highest of each stretch of time."""

    signal: int
    name: str
    symbol: str
    times_s: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


class Curves(msgspec.Struct, frozen=True):
    from_us: int
    until_us: int
    curves: list[Curve]


class Track(msgspec.Struct, frozen=True):
    """Longitude and latitude in order of time."""

    coordinates: list[tuple[float, float]]


async def curves(
    history: History, catalogue: Catalogue, ref: int, signals: Sequence[int], from_us: int, until_us: int, points: int
) -> Curves:
    """Curves of these signals; unknown and text signals are left out. `from_us` 0 = whatever there is."""
    known = [signal for number in signals if (signal := catalogue.get(number)) and not signal.is_text]
    if until_us - from_us > SUMMARY_FROM_US:
        found = [await _summary(history, ref, signal, from_us, until_us, points) for signal in known]
        drawn = [time for curve in found for time in curve.times_s[:1]]
        return Curves(int(min(drawn) * SECOND_US) if drawn else from_us, until_us, found)
    every_us = max(1, (until_us - from_us) // max(1, points))
    return Curves(from_us, until_us, [await _curve(history, ref, one, from_us, until_us, every_us) for one in known])


async def _curve(history: History, ref: int, signal: Signal, from_us: int, until_us: int, every_us: int) -> Curve:
    found = await store.series(history, ref, signal.id, from_us, until_us)
    resampler = Resampler(every_us, until_us)
    first, rest = resampler.add(found), resampler.finish()
    time_us, mean, low, high = (np.concatenate([first[name], rest[name]]) for name in ("time_us", "mean", "min", "max"))
    return _made(signal, (time_us + every_us // 2) / SECOND_US, mean, low, high)


async def _summary(history: History, ref: int, signal: Signal, from_us: int, until_us: int, points: int) -> Curve:
    first, last = from_us // HOUR_US * HOUR_US, -(-until_us // HOUR_US) * HOUR_US
    hours = await store.hourly(history, [signal.id], first, last, vehicles=[ref])
    start, count, mean, low, high = (hours.column(at).to_numpy() for at in range(2, 7))
    if not len(start):
        return _made(signal, start / SECOND_US, mean, low, high)
    stretch = max(1, -(-int(start[-1] - start[0] + HOUR_US) // HOUR_US // points)) * HOUR_US
    edges = np.flatnonzero(np.r_[True, np.diff(start // stretch) != 0])
    means = np.add.reduceat(mean * count, edges) / np.add.reduceat(count, edges)
    times_s = (start[edges] + stretch // 2) / SECOND_US
    return _made(signal, times_s, means, np.minimum.reduceat(low, edges), np.maximum.reduceat(high, edges))


def _made(
    signal: Signal,
    times_s: NDArray[np.float64],
    mean: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> Curve:
    lists = (array.tolist() for array in (times_s, mean, low, high))
    return Curve(int(signal.id), signal.name, SYMBOLS.get(signal.unit, signal.unit), *lists)


async def track(history: History, catalogue: Catalogue, ref: int, from_us: int, until_us: int) -> Track:
    """Where the vehicle was, thinned; positions that cannot be right are left out."""
    east, north = [
        await store.series(history, ref, catalogue.by_name(f"Vehicle.CurrentLocation.{name}").id, from_us, until_us)
        for name in ("Longitude", "Latitude")
    ]
    _, at_east, at_north = np.intersect1d(east.time_us, north.time_us, return_indices=True)
    is_placed = ((east.quality[at_east] | north.quality[at_north]) & NO_PLACE) == 0
    places = np.column_stack((east.value[at_east][is_placed], north.value[at_north][is_placed])).astype(np.float64)
    thinned = places[:: max(1, -(-len(places) // TRACK_POINTS))]
    return Track([(round(float(x), 6), round(float(y), 6)) for x, y in thinned])
