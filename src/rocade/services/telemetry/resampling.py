"""Fewer points from many: min, max, mean, last, count and time-weighted mean by steps of time. Pure numpy, streaming.

Flow: parts of one signal in order of time -> `Resampler.add` -> finished buckets; `finish` gives the rest. Buckets begin at
whole multiples of `every_us` since 1970 UTC. Doubtful values (`chunks.DOUBTFUL`) and values that are no number are left out.
Time-weighted mean: the signal is a step function, each value holds until the next sample, but for `HOLD_US` at most (a
silent vehicle says nothing), and into the following bucket where it does. A bucket with values but no held time has none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Refused
from rocade.services.telemetry.chunks import DOUBTFUL, Ints, Samples

HOLD_US = 60_000_000
AGGREGATES = ("min", "max", "mean", "last", "count", "twmean")

type Buckets = dict[str, NDArray[np.float64] | Ints]
"""Column `time_us` (begin of the bucket) and one column for each aggregate."""


class Resampler:
    """Feed it the parts of one signal of one vehicle. Raises: Refused `telemetry.every`, `telemetry.resample.text`."""

    def __init__(self, every_us: int, until_us: int, hold_us: int = HOLD_US) -> None:
        if every_us <= 0:
            raise Refused("telemetry.every", "the step must be longer than nothing, for example 60s")
        self._every_us, self._until_us, self._hold_us = every_us, until_us, hold_us
        self._times: list[Ints] = []
        self._values: list[NDArray[np.float64]] = []
        self._before: tuple[int, float] | None = None

    def add(self, part: Samples) -> Buckets:
        """Take samples; return the buckets that no later sample can change."""
        if part.value.dtype == object:
            raise Refused("telemetry.resample.text", "texts have no mean; read this signal without `every`")
        value = part.value.astype(np.float64)
        good = ((part.quality & DOUBTFUL) == 0) & np.isfinite(value)
        self._times.append(part.time_us[good])
        self._values.append(value[good])
        time_us = np.concatenate(self._times)
        if not len(time_us):
            return self._buckets(time_us, np.zeros(0), 0)
        value = np.concatenate(self._values)
        open_from_us = time_us[-1] // self._every_us * self._every_us
        done = int(np.searchsorted(time_us, open_from_us))
        self._times, self._values = [time_us[done:]], [value[done:]]
        return self._buckets(time_us[:done], value[:done], int(time_us[done]))

    def finish(self) -> Buckets:
        time_us, value = (
            np.concatenate([np.zeros(0, np.int64), *self._times]),
            np.concatenate([np.zeros(0), *self._values]),
        )
        self._times, self._values = [], []
        return self._buckets(time_us, value, self._until_us)

    def _buckets(self, time_us: Ints, value: NDArray[np.float64], next_us: int) -> Buckets:
        """Aggregate whole buckets; `next_us` is the instant of the sample after them."""
        if not len(time_us):
            return {"time_us": time_us, **{name: np.zeros(0) for name in AGGREGATES}}
        bucket = time_us // self._every_us
        begin = np.concatenate([[0], np.flatnonzero(np.diff(bucket)) + 1])
        count = np.diff(begin, append=len(bucket))
        buckets: Buckets = {
            "time_us": bucket[begin] * self._every_us,
            "min": np.minimum.reduceat(value, begin),
            "max": np.maximum.reduceat(value, begin),
            "mean": np.add.reduceat(value, begin) / count,
            "last": value[begin + count - 1],
            "count": count,
            "twmean": self._time_weighted(time_us, value, bucket[begin] * self._every_us, next_us),
        }
        self._before = int(time_us[-1]), float(value[-1])
        return buckets

    def _time_weighted(
        self, time_us: Ints, value: NDArray[np.float64], from_us: Ints, next_us: int
    ) -> NDArray[np.float64]:
        """Integral of the step function over each bucket, divided by the time it is defined there."""
        if self._before is not None:
            time_us, value = np.concatenate([[self._before[0]], time_us]), np.concatenate([[self._before[1]], value])
        held = np.minimum(np.diff(time_us, append=max(next_us, int(time_us[-1]))), self._hold_us)
        area = np.concatenate([[0.0], np.cumsum(value * held)])
        span = np.concatenate([[0], np.cumsum(held)])

        def upto(instant: Ints) -> tuple[NDArray[np.float64], Ints]:
            last = np.searchsorted(time_us, instant, "right") - 1
            inside = np.minimum(np.clip(instant - time_us[last], 0, None), held[last]) * (last >= 0)
            return area[np.maximum(last, 0)] + value[last] * inside, span[np.maximum(last, 0)] + inside

        area_from, span_from = upto(from_us)
        area_until, span_until = upto(np.minimum(from_us + self._every_us, self._until_us))
        width = span_until - span_from
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(width > 0, (area_until - area_from) / width, np.nan)
