"""The estimate against made truth: near it, honest about how near, and no number where the data do not carry one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from rocade.services.battery import Pack, Rules, Seen, Segment, estimate
from rocade.services.battery.estimating import total_least_squares

DAY_US = 86_400_000_000
NOW_US = 1_790_000_000_000_000
NEW_KWH = 64.0
PACK = Pack(NEW_KWH, "NMC")
SEEN = Seen("charge", "power", has_temperature=True, resistance_mohm=80.0)


def segments(
    health: float, count: int = 30, *, reading_sd: float = 1.0, gain: float = 1.0, yearly: float = 0.0, seed: int = 1,
    low: float = 20.0, high: float = 90.0,
) -> list[Segment]:  # fmt: skip
    random = np.random.default_rng(seed)
    found = []
    for place in range(count):
        age_days = 300 * (1 - place / count)
        begin = random.uniform(low, (low + high) / 2 - 10)
        end = random.uniform(begin + 25, high)
        energy = NEW_KWH * (health + yearly * age_days / 365) / 100 * (end - begin) / 100 * gain
        first, last = np.array([begin, end]) + reading_sd * random.standard_normal(2)
        at_us = int(NOW_US - age_days * DAY_US)
        found.append(
            Segment("charge", at_us - 3_600_000_000, at_us, float(first), float(last), float(energy), 0.0, 20.0)
        )
    return found


@pytest.mark.parametrize("health", [62.0, 75.0, 88.0, 96.0])
def test_truth_lies_in_the_interval_and_the_value_near_it(health: float) -> None:
    inside, off = 0, []
    for seed in range(12):
        found = estimate(segments(health, yearly=2.0, seed=seed), PACK, SEEN, NOW_US)
        assert found.percent
        inside += found.percent.low <= health <= found.percent.high
        off.append(found.percent.value - health)
    assert inside >= 10
    assert abs(float(np.mean(off))) < 1.0
    assert float(np.mean(np.abs(off))) < 1.5


def test_noise_of_the_readings_pulls_least_squares_down_and_not_this() -> None:
    random = np.random.default_rng(3)
    true_swing = random.uniform(0.2, 0.6, 4_000)
    energy = 50.0 * true_swing
    swing = true_swing + 0.03 * random.standard_normal(4_000)
    least = float(swing @ energy / (swing @ swing))
    ours = total_least_squares(swing, energy, np.full(4_000, 0.03), np.full(4_000, 0.01))
    assert least < 49.8
    assert ours == pytest.approx(50.0, abs=0.12)


@pytest.mark.parametrize("seed", range(5))
def test_a_battery_never_holds_more_than_when_new(seed: int) -> None:
    """A sensor that counts 2 % too much on a pack that is as new: reported at most 100 %."""
    found = estimate(segments(100.0, gain=1.02, seed=seed), PACK, SEEN, NOW_US)
    assert found.percent
    assert found.percent.high <= 100.01
    assert found.percent.value <= 100.0


def test_short_swings_are_not_extrapolated() -> None:
    """What made another logger say 155 %: thirty top-ups by 8 % are no segments."""
    small = [msgspec.structs.replace(one, to_percent=one.from_percent + 8) for one in segments(90)]
    found = estimate(small, PACK, SEEN, NOW_US)
    assert (found.state, found.used, found.percent) == ("waiting", 0, None)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_below_ten_segments_there_is_no_number_at_all(count: int) -> None:
    found = estimate(segments(90, 30)[:count], PACK, SEEN, NOW_US)
    assert (found.state, found.used, found.needed) == ("waiting", count, 10)
    assert (found.percent, found.capacity_kwh, found.fit_kwh) == (None, None, None)


@pytest.mark.parametrize("gain", [1.15, 1.33, 2.0])
def test_more_than_new_by_far_is_a_doubt_about_the_figures_not_a_hundred_percent(gain: float) -> None:
    found = estimate(segments(98.0, gain=gain), PACK, SEEN, NOW_US)
    assert (found.state, found.percent) == ("doubtful", None)
    assert found.fit_kwh


def test_single_wrong_segments_do_not_decide() -> None:
    clean = segments(85.0, 30, seed=4)
    spoilt = [
        msgspec.structs.replace(one, energy_kwh=one.energy_kwh * 0.4) if place % 10 == 3 else one
        for place, one in enumerate(clean)
    ]
    with_faults, without = (estimate(these, PACK, SEEN, NOW_US) for these in (spoilt, clean))
    assert with_faults.percent
    assert without.percent
    assert with_faults.odd == 3
    assert abs(with_faults.percent.value - without.percent.value) < 1.0


def test_noisier_segments_widen_the_interval_and_more_of_them_narrow_it() -> None:
    def width(count: int, reading_sd: float) -> float:
        found = estimate(segments(85.0, count, reading_sd=reading_sd, seed=8), PACK, SEEN, NOW_US)
        assert found.percent
        return found.percent.high - found.percent.low

    assert width(30, 4.0) > width(30, 1.0)
    assert width(100, 3.0) < width(12, 3.0)
    assert width(100, 0.3) > 2 * 1.2, "the sensor's own gain stays, whatever the number"


def test_drift_only_goes_down() -> None:
    """Segments that seem to grow with time do not make a battery that heals."""
    growing = segments(85.0, 40, yearly=-8.0, reading_sd=0.5)
    found = estimate(growing, PACK, SEEN, NOW_US)
    assert found.drift_per_year is not None
    assert 0 <= found.drift_per_year < 1.0
    falling = estimate(segments(85.0, 40, yearly=6.0, reading_sd=0.5), PACK, SEEN, NOW_US)
    assert falling.drift_per_year is not None
    assert falling.drift_per_year > 3.0


def test_a_flat_voltage_is_flagged_and_trusted_less() -> None:
    readings = segments(90.0, 15, reading_sd=0.5)
    nmc, lfp = (estimate(readings, Pack(NEW_KWH, kind), SEEN, NOW_US) for kind in ("NMC", "LFP"))
    assert "flat_voltage" in lfp.flags
    assert "flat_voltage" not in nmc.flags
    assert "chemistry_unknown" in estimate(readings, Pack(NEW_KWH), SEEN, NOW_US).flags
    assert nmc.percent
    assert lfp.percent


def test_without_a_new_capacity_there_are_kwh_and_no_percentage() -> None:
    found = estimate(segments(80.0), Pack(), SEEN, NOW_US)
    assert (found.state, found.percent) == ("unrelated", None)
    assert found.capacity_kwh
    assert found.capacity_kwh.low < NEW_KWH * 0.8 < found.capacity_kwh.high


@pytest.mark.parametrize("left_out", ["cold", "hot", "long"])
def test_what_was_marked_is_not_counted(left_out: str) -> None:
    marked = [msgspec.structs.replace(one, left_out=left_out) for one in segments(90)]
    assert estimate(marked, PACK, SEEN, NOW_US).used == 0


def test_old_segments_and_those_of_the_future_do_not_count() -> None:
    rules = Rules(window_days=100)
    found = estimate(segments(90, 30), PACK, SEEN, NOW_US, rules)
    assert found.used == 10
    assert estimate(segments(90, 30), PACK, SEEN, NOW_US - 400 * DAY_US).used == 0
