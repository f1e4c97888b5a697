"""Trips from speed and positions, and resampling: pure functions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.telemetry.chunks import Samples
from rocade.services.telemetry.resampling import Resampler
from rocade.services.telemetry.trips import Rules, Series, Trip, find_trips

SECOND_US = 1_000_000


def series(values: list[float], step_s: float = 1.0, start_s: float = 0.0) -> Series:
    return Series(((start_s + np.arange(len(values)) * step_s) * SECOND_US).astype(np.int64), np.array(values, float))


def joined(*pieces: Series) -> Series:
    return Series(np.concatenate([p.time_us for p in pieces]), np.concatenate([p.value for p in pieces]))


def test_ten_minutes_at_thirty_are_one_trip_of_five_kilometres() -> None:
    speed = series([0.0] * 60 + [30.0] * 600 + [0.0] * 400)
    (trip,) = find_trips({"speed": speed, "charge": series([80.0] * 60 + [70.0] * 1000)})
    assert (trip.start_us, trip.end_us) == (60 * SECOND_US, 660 * SECOND_US)
    assert trip.distance_km == pytest.approx(5.0)
    assert trip.top_kmh == 30
    assert trip.charge_used == 0  # the level already was 70 when it started
    assert trip.fuel_used is None


@pytest.mark.parametrize(
    ("speed", "count"),
    [
        (series([]), 0),
        (series([2.0] * 1000), 0),  # pushed, not ridden
        (series([20.0] * 120 + [0.0] * 200 + [20.0] * 120), 1),  # a traffic light
        (series([20.0] * 120 + [0.0] * 400 + [20.0] * 120), 2),  # a stop
        (joined(series([20.0] * 120), series([20.0] * 120, start_s=500)), 1),  # a tunnel
        (joined(series([20.0] * 120), series([20.0] * 120, start_s=900)), 2),  # silence
        (series([20.0] * 30), 0),  # too short
        (joined(series([50.0] * 120), series([0.0], start_s=4000)), 1),  # silence after the last movement is no trip
    ],
)
def test_standstills_join_stops_and_silence_cut(speed: Series, count: int) -> None:
    assert len(find_trips({"speed": speed})) == count


def test_a_bicycle_without_a_speed_signal_is_followed_by_its_positions() -> None:
    north = series([34.0] * 20 + [34.0 + n * 5e-5 for n in range(300)] + [34.0 + 299 * 5e-5] * 400, step_s=2)
    east = series([-6.8] * 720, step_s=2)
    (trip,) = find_trips({"latitude": north, "longitude": east}, Rules())
    assert trip.distance_km == pytest.approx(299 * 5e-5 * 111.195, rel=0.01)
    assert trip.top_kmh == pytest.approx(5.56e-3 * 1800, rel=0.02)
    assert trip.start_position == pytest.approx((34.00005, -6.8))  # it moves where the position first changes
    assert trip.end_position == pytest.approx((34.01495, -6.8))


def ten_minutes(**more: Series) -> Trip:
    (trip,) = find_trips({"speed": series([0.0] * 60 + [30.0] * 600 + [0.0] * 400), **more})
    return trip


def test_energy_is_the_battery_s_power_over_the_trip_and_braking_gives_back() -> None:
    power_w = series([-999_999.0] * 60 + [-12_000.0] * 450 + [6_000.0] * 150 + [-999_999.0] * 400)
    trip = ten_minutes(power=power_w, stored=series([40.0] * 1060))
    assert trip.energy_kwh == pytest.approx((12 * 450 - 6 * 150) / 3600, abs=1e-3)
    assert trip.energy_from == "power"


def test_slow_samples_of_power_count_from_before_the_trip_too() -> None:
    trip = ten_minutes(power=series([-3_600.0] * 40, step_s=50, start_s=-10))
    assert trip.energy_kwh == pytest.approx(0.6, abs=1e-3)


SPARSE = [
    (series([-9_000.0] * 200, start_s=60), 1.5, "level"),  # only a third of the trip is covered
    (series([-9_000.0] * 9, step_s=90, start_s=-30), 1.5, "level"),  # holes longer than a value holds
    (series([]), 1.5, "level"),
]


@pytest.mark.parametrize(("power", "energy_kwh", "source"), SPARSE)
def test_where_power_does_not_cover_the_trip_the_level_of_energy_counts(
    power: Series, energy_kwh: float, source: str
) -> None:
    trip = ten_minutes(power=power, stored=series([41.5] * 61 + [40.0] * 1000))
    assert (trip.energy_kwh, trip.energy_from) == (energy_kwh, source)


def test_what_a_vehicle_does_not_report_stays_unknown() -> None:
    trip = ten_minutes()
    assert (trip.energy_kwh, trip.fuel_used, trip.tank_used, trip.charge_used) == (None, None, None, None)
    assert (trip.energy_from, trip.fuel_from) == ("", "")


def test_fuel_is_the_rate_over_the_trip_else_the_level_and_refuelling_shows() -> None:
    assert ten_minutes(rate=series([6.0] * 1060)).fuel_used == pytest.approx(1.0)
    filled = ten_minutes(fuel=series([10.0] * 300 + [42.0] * 760), tank=series([20.0] * 300 + [84.0] * 760))
    assert (filled.fuel_used, filled.fuel_from, filled.tank_used) == (-32, "level", -64)


def samples(times_s: list[float], values: list[float], quality: list[int] | None = None) -> Samples:
    size = len(times_s)
    flags = np.array(quality or [0] * size, np.uint8)
    return Samples(
        (np.array(times_s) * SECOND_US).astype(np.int64), np.array(values, float), flags, np.zeros(size, np.int64)
    )


def collected(parts: list[Samples], every_s: float, until_s: float) -> dict[str, list[float]]:
    resampler = Resampler(int(every_s * SECOND_US), int(until_s * SECOND_US))
    buckets = [*(resampler.add(part) for part in parts), resampler.finish()]
    return {name: np.concatenate([b[name] for b in buckets]).tolist() for name in buckets[0]}


def test_aggregates_do_not_depend_on_how_samples_come_in_parts() -> None:
    random = np.random.default_rng(5)
    times = np.sort(random.choice(4000, 900, replace=False)).astype(float).tolist()
    values = random.normal(size=900).tolist()
    whole = collected([samples(times, values)], 60, 4000)
    for cuts in ([300], [1, 2, 3], list(range(0, 900, 7))):
        edges = [0, *cuts, 900]
        parts = [samples(times[a:b], values[a:b]) for a, b in itertools.pairwise(edges) if b > a]
        for name, column in collected(parts, 60, 4000).items():
            assert np.allclose(column, whole[name], equal_nan=True), name
    assert sum(whole["count"]) == 900


def test_the_time_weighted_mean_holds_a_value_until_the_next_but_a_minute_at_most() -> None:
    found = collected([samples([0, 10, 90, 200], [100.0, 0.0, 50.0, 8.0])], 60, 240)
    assert found["time_us"] == [0, 60 * SECOND_US, 180 * SECOND_US]
    assert found["twmean"][0] == pytest.approx(100 * 10 / 60)  # 100 for 10 s, then 0 for 50 s
    assert found["twmean"][1] == pytest.approx((0 * 10 + 50 * 30) / 40)  # 0 held to 70 s, silence, 50 from 90 s
    assert found["twmean"][2] == pytest.approx(8.0)  # 50 held to 150 s only
    assert found["mean"] == [50.0, 50.0, 8.0]
    assert found["last"] == [0.0, 50.0, 8.0]


def test_doubtful_values_and_numbers_that_are_none_do_not_count() -> None:
    found = collected([samples([0, 1, 2, 3], [1.0, 900.0, np.nan, 3.0], [0, 1, 0, 8])], 60, 60)
    assert (found["count"], found["max"], found["mean"]) == ([2], [3.0], [2.0])


def test_texts_and_steps_of_nothing_are_refused() -> None:
    with pytest.raises(Refused):
        Resampler(0, 10)
    with pytest.raises(Refused):
        Resampler(10, 10).add(
            Samples(np.zeros(1, np.int64), np.array(["P"], object), np.zeros(1, np.uint8), np.zeros(1, np.int64))
        )
