"""Latencies counted in fixed steps, so that adding one costs nothing to speak of and quantiles of many are known.

Steps are about 19 % apart, from 100 us to 2 minutes; a quantile is the upper bound of its step.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike


class Histogram:
    """Latency counts since it was made."""

    BOUNDS_US = tuple(round(100 * 2 ** (step / 4)) for step in range(82))

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS_US) + 1)
        self.total_us = 0

    def add(self, latency_us: int, count: int = 1) -> None:
        self.counts[bisect_left(self.BOUNDS_US, latency_us)] += count
        self.total_us += latency_us * count

    def add_many(self, latencies_us: ArrayLike) -> None:
        found = np.asarray(latencies_us, np.int64)
        steps = np.bincount(np.searchsorted(self.BOUNDS_US, found), minlength=len(self.counts)).tolist()
        self.counts = [before + now for before, now in zip(self.counts, steps, strict=True)]
        self.total_us += int(found.sum())

    def __add__(self, other: Histogram) -> Histogram:
        total = Histogram()
        total.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        total.total_us = self.total_us + other.total_us
        return total

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile_us(self, share: float) -> int:
        """Upper bound of the step that holds this share of all values (0 when empty)."""
        wanted, seen = share * self.count, 0
        for bound_us, count in zip((*self.BOUNDS_US, self.BOUNDS_US[-1]), self.counts, strict=True):
            seen += count
            if seen and seen >= wanted:
                return bound_us
        return 0


class RecentHistogram:
    """The latencies of the last one to two spans; nothing is forgotten while nothing comes."""

    def __init__(self, span_us: int = 30_000_000) -> None:
        self._span_us = span_us
        self._since_us = 0
        self._before, self._now = Histogram(), Histogram()

    def add_many(self, latencies_us: ArrayLike, now_us: int) -> None:
        if now_us - self._since_us >= self._span_us:
            is_old = now_us - self._since_us >= 2 * self._span_us
            self._before, self._now, self._since_us = Histogram() if is_old else self._now, Histogram(), now_us
        self._now.add_many(latencies_us)

    def quantile_us(self, share: float) -> int:
        return (self._before + self._now).quantile_us(share)
