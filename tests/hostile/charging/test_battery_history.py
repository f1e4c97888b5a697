"""Histories no vehicle should send: whatever they hold, battery health ends in a state, never in an error or a number beyond new."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.services.battery import ROLES, Finding, Health, Pack, Segment, estimate, find_segments
from rocade.services.battery.api import said, view
from rocade.services.battery.passport import passport
from rocade.services.telemetry import Series

T0_US = 1_700_000_000_000_000
SHAPES = ("steady", "walk", "jumps", "extremes", "saw")


def line(random: np.random.Generator, shape: str, count: int, scale: float) -> np.ndarray:
    match shape:
        case "steady":
            return np.full(count, scale * random.uniform(-1, 1))
        case "walk":
            return np.cumsum(random.normal(0, scale / 20, count))
        case "jumps":
            return random.uniform(-scale, scale, count)
        case "extremes":
            return random.choice([-1e30, -scale, 0.0, scale, 1e30], count)
        case _:
            return scale * np.abs(np.linspace(0, 8, count) % 2 - 1)


def check(found: list[Segment], finding: Finding, pack: Pack) -> None:
    for one in found:
        assert one.swing >= 20
        assert one.end_us > one.start_us
        assert one.energy_kwh > 0
    if finding.percent is not None:
        assert finding.used >= 10
        assert 0 <= finding.percent.low <= finding.percent.value <= finding.percent.high <= 100.001
        assert finding.capacity_kwh
        assert all(map(math.isfinite, (finding.capacity_kwh.low, finding.capacity_kwh.high)))
        assert pack.new_kwh


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32), shapes=st.lists(st.sampled_from(SHAPES), min_size=9, max_size=9),
    roles=st.sets(st.sampled_from(sorted(ROLES)), max_size=9), new_kwh=st.sampled_from([None, 0.05, 6.1, 64.0, 2_000.0]),
    chemistry=st.sampled_from(["", "NMC", "LFP", "?"]),
)  # fmt: skip
def test_any_history_ends_in_a_state(
    seed: int, shapes: list[str], roles: set[str], new_kwh: float | None, chemistry: str
) -> None:
    random = np.random.default_rng(seed)
    scales = {"power": 50_000, "volts": 400, "amperes": 200, "taken": 500, "given": 500, "temperature": 60}
    series = {}
    for role, shape in zip(sorted(ROLES), shapes, strict=True):
        if role in roles:
            count = int(random.integers(1, 2_500))
            at_us = np.sort(T0_US + random.integers(0, 20 * 86_400_000_000, count))
            series[role] = Series(at_us, line(random, shape, count, scales.get(role, 100)))
    pack = Pack(new_kwh, chemistry)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # 1e30 squared is more than a float holds; the answer is what counts
        found, seen = find_segments(series)
        finding = estimate(found, pack, seen, T0_US + 30 * 86_400_000_000)
    check(found, finding, pack)
    health = Health(1, finding, pack, seen)
    assert said(health)
    assert view(health, [], found, 0.9).state == finding.state
    made = passport(health, found, T0_US)
    assert made.known + made.unknown == len(made.fields)


@pytest.mark.parametrize("ratio", [1e-6, 0.01, 0.29, 1.2, 3.0, 1e6])
def test_segments_that_agree_on_nonsense_give_no_number(ratio: float) -> None:
    segments = [
        Segment(
            "charge", T0_US + at * 10, T0_US + at * 10 + 5, 20.0, 80.0 - at % 3, 0.6 * 64 * ratio, temperature_c=20.0
        )
        for at in range(20)
    ]
    pack = Pack(64.0, "NMC")
    finding = estimate(segments, pack, find_segments({})[1], T0_US + 10_000)
    check(segments, finding, pack)
    assert (finding.state, finding.percent) == ("doubtful", None)


def test_energy_without_any_spread_and_times_all_alike_do_no_harm() -> None:
    same = [Segment("drive", T0_US, T0_US + 1, 80.0, 40.0, 20.0) for _ in range(30)]
    finding = estimate(same, Pack(64.0, "NMC"), find_segments({})[1], T0_US + 2)
    assert finding.percent
    assert abs(finding.percent.value - 100 * 50 / 64) < 1.5
