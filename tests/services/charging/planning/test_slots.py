"""Slots over any day, series laid over slots, forecasts beyond what is known."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning import Series, Slots, local_day
from rocade.services.charging.planning.areas import ZONES, is_eic, zone_name
from rocade.services.charging.planning.series import extended, require
from rocade.services.charging.planning.slots import Floats

HOUR_US = 3_600_000_000


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def hourly(begin: str, values: Floats | list[float], *, zone: str = "FR", currency: str = "EUR") -> Series:
    start = us(begin) + HOUR_US * np.arange(len(values))
    return Series.known(start, start + HOUR_US, np.array(values), unit="EUR/kWh", zone=zone, currency=currency)


@pytest.mark.parametrize(
    ("day", "zone", "quarters"),
    [
        (date(2026, 3, 29), "Europe/Paris", 92),
        (date(2026, 10, 25), "Europe/Paris", 100),
        (date(2026, 11, 22), "Europe/Paris", 96),
        (date(2026, 10, 25), "Asia/Shanghai", 96),
        (date(2026, 10, 4), "Australia/Lord_Howe", 94),  # their clocks move by half an hour
        (date(2026, 11, 22), "Asia/Kathmandu", 96),  # 5:45 from UTC
    ],
)
def test_a_local_day_has_the_quarters_its_clocks_have(day: date, zone: str, quarters: int) -> None:
    slots = local_day(day, zone)
    assert len(slots) == quarters
    assert np.all(np.diff(slots.start_us) == 900_000_000)


def test_a_zone_nobody_knows_is_refused() -> None:
    for zone in ("Europe/Nowhere", "../etc", "", "Europe", "\x00"):
        with pytest.raises(Refused) as refused:
            local_day(date(2026, 1, 1), zone)
        assert refused.value.code == "charging.zone"


def test_hourly_five_minutely_and_broken_series_are_means_over_slots() -> None:
    series = hourly("2026-11-22T00:00Z", [1, 2, 3])
    slots = Slots.over(us("2026-11-22T00:00Z"), us("2026-11-22T03:30Z"))
    found = series.on(slots)
    assert found.value[:12].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert np.isnan(found.value[12:]).all()
    halves = Slots.over(
        us("2026-11-22T00:30Z"), us("2026-11-22T02:30Z"), 7200
    )  # slots stand on multiples of their length
    assert series.on(halves).value[0] == pytest.approx(1.5)
    five = us("2026-11-22T00:00Z") + 300_000_000 * np.arange(6)
    fine = Series.known(five, five + 300_000_000, np.array([1.0, 2, 3, 4, 5, 9]), unit="g/kWh")
    assert fine.on(slots).value[:2].tolist() == pytest.approx([2, 6])
    holed = Series.known(five[[0, 2]], five[[0, 2]] + 300_000_000, np.array([1.0, 2]), unit="g/kWh")
    assert np.isnan(holed.on(slots).value).all()


def test_intervals_over_one_another_are_no_series() -> None:
    start = np.array([0, 5], np.int64)
    with pytest.raises(ValueError):
        Series.known(start, start + 10, np.array([1.0, 2.0]), unit="g/kWh")


def test_tomorrow_is_forecast_from_the_same_time_of_such_days_in_local_time() -> None:
    """Two weeks over the change of clocks: the price follows the local hour, higher at weekends."""
    clock = "Europe/Paris"
    begin = us("2026-10-12T00:00+02:00")
    start = begin + HOUR_US * np.arange(24 * 21 + 1)
    local = [datetime.fromtimestamp(at / 1e6, UTC).astimezone(ZoneInfo(clock)) for at in start]
    value = np.array([at.hour + (100 if at.weekday() >= 5 else 0) + 0.1 * at.day for at in local])
    series = Series.known(start, start + HOUR_US, value, unit="EUR/kWh", zone="FR", currency="EUR")
    until = us("2026-11-08T20:00+01:00")
    longer = extended(series, int(start[-1]), until, clock)
    slots = Slots.over(us("2026-11-03T08:00+01:00"), us("2026-11-03T09:00+01:00"))
    found = longer.on(slots)
    assert found.is_forecast.all()
    assert np.all((found.value > 8) & (found.value < 12))
    sunday = longer.on(Slots.over(us("2026-11-08T08:00+01:00"), us("2026-11-08T09:00+01:00")))
    assert np.all((sunday.value > 108) & (sunday.value < 112))
    assert np.all((found.low <= found.value) & (found.value <= found.high))
    assert not longer.on(Slots.over(int(start[0]), int(start[5]))).is_forecast.any()
    assert (
        longer.on(Slots.over(int(start[0]), until)).value.size
        == np.isfinite(longer.on(Slots.over(int(start[0]), until)).value).sum()
    )


def test_a_hole_is_forecast_too_and_known_values_stay() -> None:
    series = hourly("2026-11-20T00:00Z", list(range(24)))
    holed = Series.known(
        series.start_us[[0, 1, 5]], series.end_us[[0, 1, 5]], series.value[[0, 1, 5]], unit="EUR/kWh", currency="EUR"
    )
    whole = extended(holed, int(series.start_us[0]), int(series.start_us[6]), "UTC")
    found = whole.on(Slots.over(int(series.start_us[0]), int(series.start_us[6])))
    assert np.isfinite(found.value).all()
    assert found.is_forecast.tolist() == [False] * 8 + [True] * 12 + [False] * 4
    assert found.value[:4].tolist() == [0] * 4


def test_a_forecast_needs_something_to_start_from_and_does_not_reach_for_ever() -> None:
    empty = Series.known(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), unit="EUR/kWh")
    with pytest.raises(Refused) as refused:
        extended(empty, 0, HOUR_US, "UTC")
    assert refused.value.code == "charging.prices.none"
    longer = extended(hourly("2026-11-20T00:00Z", [1, 2]), us("2026-11-20T00:00Z"), us("2030-01-01T00:00Z"), "UTC")
    assert longer.end_us[-1] <= us("2026-12-01T00:00Z")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"unit": "EUR/kWh", "zone": "BE"}, "charging.prices.zone"),
        ({"unit": "EUR/kWh", "currency": "CHF"}, "charging.prices.currency"),
        ({"unit": "g/kWh"}, "charging.prices.unit"),
    ],
)
def test_prices_for_another_zone_currency_or_unit_are_refused(asked: dict[str, str], code: str) -> None:
    series = hourly("2026-11-20T00:00Z", [1])
    assert require(series, unit="EUR/kWh", zone="10YFR-RTE------C", currency="EUR") is series
    with pytest.raises(Refused) as refused:
        require(series, **asked)
    assert refused.value.code == code


def test_the_zones_codes_bear_their_check_sign() -> None:
    assert [name for name, code in ZONES.items() if not is_eic(code) or zone_name(code) != name] == []
    assert not is_eic("10YFR-RTE------D")
    assert zone_name("BZN|DE_LU") == "DE-LU"
