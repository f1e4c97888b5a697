"""Series that do not reach far enough, or are not the ones meant.

Prices of tomorrow come at midday. What is not published yet is forecast from the days before: at the same time of day, on the same kind
of day (working day or weekend), the median of what was, with a band from a tenth to nine tenths of it. A plan says what of it rests
on such values and is made anew when the real ones come. Prices of another zone, currency or unit are refused, never converted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from rocade.services.charging.planning import errors
from rocade.services.charging.planning.areas import zone_name
from rocade.services.charging.planning.slots import QUARTER_S, SECOND_US, Floats, Instants, Series, Slots, zone_of

HISTORY_DAYS = 28
MOST_DAYS = 10
"""No forecast reaches further than this beyond the last known value."""
_DAY_US = 86_400 * SECOND_US
_BAND = (0.1, 0.5, 0.9)


def require(series: Series, *, unit: str, zone: str = "", currency: str = "") -> Series:
    """The same series, if it is what is wanted; '' asks nothing.

    Raises: Refused `charging.prices.zone`, `charging.prices.currency`, `charging.prices.unit`.
    """
    if zone and series.zone and zone_name(series.zone) != zone_name(zone):
        raise errors.prices_zone(zone, series.zone)
    if currency and series.currency != currency:
        raise errors.prices_currency(currency, series.currency or "no currency")
    if series.unit != unit:
        raise errors.prices_unit(unit, series.unit)
    return series


def extended(series: Series, from_us: int, until_us: int, clock: str) -> Series:
    """The series with a forecast wherever it says nothing between two instants; `clock` is the zone of the daily pattern.

    Cost: 10 ms. Raises: Refused `charging.prices.none` if there is nothing to forecast from, `charging.zone`.
    """
    if not len(series):
        raise errors.prices_none()
    until_us = min(until_us, int(series.end_us[-1]) + MOST_DAYS * _DAY_US)
    begin_us, end_us = _holes(series, from_us, until_us)
    if not len(begin_us):
        return series
    zone, base_us = zone_of(clock), int(begin_us[0])
    past = Slots.over(base_us - HISTORY_DAYS * _DAY_US, base_us, QUARTER_S)
    values = series.on(past).value
    if not np.isfinite(values).any():  # what is known lies elsewhere, after a hole: better than nothing
        past = Slots.over(int(series.start_us[0]), int(series.end_us[-1]), QUARTER_S)
        values = series.on(past).value
    if not np.isfinite(values).any():  # nothing of it fills a quarter of an hour
        past, values = Slots(series.start_us, np.full(len(series), QUARTER_S, np.int32)), series.value
    low, median, high = _typical(past.start_us, values, begin_us, zone)
    start = np.concatenate([series.start_us, begin_us])
    order = np.argsort(start, kind="stable")

    def merged[T: np.generic](
        known: np.ndarray[tuple[int, ...], np.dtype[T]], guessed: object
    ) -> np.ndarray[tuple[int, ...], np.dtype[T]]:
        return np.concatenate([known, np.asarray(guessed, known.dtype)])[order]

    return Series(
        start[order],
        merged(series.end_us, end_us),
        merged(series.value, median),
        series.unit,
        series.zone,
        series.currency,
        merged(series.is_forecast, np.ones(len(begin_us), np.bool_)),
        merged(series.low, low),
        merged(series.high, high),
    )


def _holes(series: Series, from_us: int, until_us: int) -> tuple[Instants, Instants]:
    """What the series leaves open, in pieces that end on quarters of an hour."""
    begins = np.concatenate([[from_us], np.clip(series.end_us, from_us, until_us)])
    ends = np.concatenate([np.clip(series.start_us, from_us, until_us), [until_us]])
    open_ = ends > begins
    step = QUARTER_S * SECOND_US
    starts: list[Instants] = []
    stops: list[Instants] = []
    for begin, end in zip(begins[open_].tolist(), ends[open_].tolist(), strict=True):
        inner = np.arange(begin // step + 1, -(-end // step), dtype=np.int64) * step
        starts.append(np.concatenate([[begin], inner]).astype(np.int64))
        stops.append(np.concatenate([inner, [end]]).astype(np.int64))
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *starts]), np.concatenate([none, *stops])


def _typical(past_us: Instants, values: Floats, wanted_us: Instants, zone: ZoneInfo) -> tuple[Floats, Floats, Floats]:
    """Band and median of what was at the same quarter of the same kind of day; of any such quarter; of all."""
    known = np.isfinite(values)
    values = values[known]
    then, wanted = _quarters(past_us[known], zone), _quarters(wanted_us, zone)
    bands: dict[int, Floats] = {}
    for key in set(wanted.tolist()):
        same = values[then == key]
        if not len(same):
            same = values[then % 96 == key % 96]
        bands[key] = np.quantile(same if len(same) else values, _BAND)
    low, median, high = np.array([bands[key] for key in wanted.tolist()]).T
    return low, median, high


def _quarters(at_us: Instants, zone: ZoneInfo) -> Instants:
    """Quarter of the local day, 0 to 95, and 96 more on Saturdays and Sundays."""
    local = [datetime.fromtimestamp(at // SECOND_US, UTC).astimezone(zone) for at in at_us.tolist()]
    return np.array([t.hour * 4 + t.minute // 15 + (96 if t.weekday() >= 5 else 0) for t in local], np.int64)
