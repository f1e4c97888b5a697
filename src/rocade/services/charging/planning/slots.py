"""Time in slots, and what is known for each: prices and CO2 as series of intervals laid over the slots.

`Slots` are contiguous and of one length, counted from the epoch in UTC, so a day of a zone has 92, 96 or 100 quarters of an
hour as its clocks have it. `Series` is a value per interval (hourly, quarter-hourly, five-minutely, with holes), each
known or forecast with a band; `on` gives the mean over each slot, NaN where the series does not cover the whole slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from rocade.services.charging.planning import errors

type Floats = NDArray[np.float64]
type Instants = NDArray[np.int64]
type Flags = NDArray[np.bool_]

QUARTER_S = 900
SECOND_US = 1_000_000
_COVERED_US = 1_000
"""A slot counts as covered when no more than this is missing of it: instants pass through float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Contiguous slots of one length. Units: microseconds UTC, seconds. Shape: both [n]."""

    start_us: Instants
    length_s: NDArray[np.int32]

    @classmethod
    def over(cls, from_us: int, to_us: int, step_s: int = QUARTER_S) -> Self:
        """The slots, on multiples of their length, that hold the whole time; the first and the last may reach beyond it."""
        step_us = step_s * SECOND_US
        first, last = from_us // step_us, -(-max(to_us, from_us + 1) // step_us)
        starts = np.arange(first, last, dtype=np.int64) * step_us
        return cls(starts, np.full(len(starts), step_s, np.int32))

    def __len__(self) -> int:
        return len(self.start_us)

    @property
    def step_s(self) -> int:
        return int(self.length_s[0])

    @property
    def step_h(self) -> float:
        return self.step_s / 3600

    @property
    def end_us(self) -> Instants:
        return self.start_us + self.length_s * np.int64(SECOND_US)

    def available_h(self, from_us: int, to_us: int) -> Floats:
        """Hours of each slot that lie between two instants."""
        begin, end = np.maximum(self.start_us, from_us), np.minimum(self.end_us, to_us)
        return np.asarray(np.maximum(end - begin, 0) / (3600 * SECOND_US))


def local_day(day: date, zone: str, step_s: int = QUARTER_S) -> Slots:
    """The slots of one day as the clocks of a zone have it. Raises: Refused `charging.zone`."""
    clock = zone_of(zone)
    begin, end = (instant_us(datetime.combine(one, time(), clock)) for one in (day, day + timedelta(days=1)))
    return Slots.over(begin, end, step_s)


def zone_of(name: str) -> ZoneInfo:
    """Raises: Refused `charging.zone`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or a folder's name
        raise errors.zone(name) from None


def instant_us(at: datetime) -> int:
    """An aware datetime as microseconds UTC."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class OnSlots(NamedTuple):
    """A series laid over slots. Shape: all [n]; NaN in `value`, `low`, `high` where nothing is known."""

    value: Floats
    low: Floats
    high: Floats
    is_forecast: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A value for each of some intervals, in order and without overlap; holes are allowed.

    Units: `unit` is `<currency>/kWh` or `g/kWh`; `currency` is empty for CO2; `zone` names the price zone or grid area ("" = any).
    `low` and `high` bound a forecast and equal `value` where it is known.
    """

    start_us: Instants
    end_us: Instants
    value: Floats
    unit: str
    zone: str
    currency: str
    is_forecast: Flags
    low: Floats
    high: Floats

    @classmethod
    def known(
        cls, start_us: Instants, end_us: Instants, value: Floats, *, unit: str, zone: str = "", currency: str = ""
    ) -> Self:
        """A series of published values. Raises: ValueError if intervals overlap, are empty or out of order."""
        start_us, end_us = np.asarray(start_us, np.int64), np.asarray(end_us, np.int64)
        value = np.asarray(value, np.float64)
        if np.any(end_us <= start_us) or np.any(start_us[1:] < end_us[:-1]):
            raise ValueError("the intervals of a series stand in order, none empty, none over another")
        return cls(start_us, end_us, value, unit, zone, currency, np.zeros(len(value), np.bool_), value, value)

    def __len__(self) -> int:
        return len(self.start_us)

    def on(self, slots: Slots) -> OnSlots:
        """The mean over each slot. Cost: one pass over both."""
        length = slots.length_s * float(SECOND_US)
        whole = self._over(slots, np.ones(len(self), np.float64)) >= length - _COVERED_US
        value, low, high = (
            np.asarray(np.where(whole, self._over(slots, of) / length, np.nan))
            for of in (self.value, self.low, self.high)
        )
        return OnSlots(value, low, high, whole & (self._over(slots, self.is_forecast.astype(np.float64)) > _COVERED_US))

    def _over(self, slots: Slots, weight: Floats) -> Floats:
        """The integral of a weight per interval over each slot, in microseconds."""
        if not len(self):
            return np.zeros(len(slots))
        base = self.start_us[0]
        times = np.empty(2 * len(self))
        times[::2], times[1::2] = self.start_us - base, self.end_us - base
        gathered = np.zeros(2 * len(self))
        gathered[1::2] = np.cumsum(weight * (self.end_us - self.start_us))
        gathered[2::2] = gathered[1:-1:2]
        begin, end = np.interp(slots.start_us - base, times, gathered), np.interp(slots.end_us - base, times, gathered)
        return np.asarray(end - begin)
