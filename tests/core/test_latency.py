"""Quantiles of counted latencies, and how the past is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from rocade.core.latency import Histogram, RecentHistogram


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_a_quantile_is_at_most_one_step_above_the_true_one(share: float) -> None:
    latencies = np.random.default_rng(3).lognormal(9, 1.5, 20_000).astype(np.int64) + 100
    counted = Histogram()
    counted.add_many(latencies)
    true = np.quantile(latencies, share, method="inverted_cdf")
    assert true <= counted.quantile_us(share) <= true * 2**0.25 + 1


def test_adding_many_is_adding_each() -> None:
    latencies = [0, 100, 101, 5_000, 119_000_000, 10**9]
    each, many = Histogram(), Histogram()
    for latency in latencies:
        each.add(latency)
    many.add_many(latencies)
    assert (each.counts, each.total_us) == (many.counts, many.total_us)


def test_only_the_last_two_spans_count_and_silence_forgets_nothing() -> None:
    recent = RecentHistogram(span_us=10)
    recent.add_many([1_000_000], 0)
    recent.add_many([1_000_000], 12)
    recent.add_many([100], 22)
    assert recent.quantile_us(1.0) >= 1_000_000
    recent.add_many([100], 32)
    assert recent.quantile_us(1.0) == 100
