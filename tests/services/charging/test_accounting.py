"""Cost and CO2 of what was drawn, against charged at once; gaps, meters that run backwards, prices nobody published."""

from __future__ import annotations

import numpy as np
import pytest

from rocade.services.charging.accounting import account, register_of_meter, register_of_power
from rocade.services.charging.planning import Series

HOUR_US, MINUTE_US = 3_600_000_000, 60_000_000
BEGAN = 500_000 * HOUR_US


def hourly(*values: float, currency: str = "EUR") -> Series:
    start = BEGAN + np.arange(len(values)) * HOUR_US
    unit = f"{currency}/kWh" if currency else "g/kWh"
    return Series.known(start, start + HOUR_US, np.array(values), unit=unit, currency=currency)


def test_energy_is_paid_by_the_price_of_its_time() -> None:
    at = BEGAN + np.arange(0, 121) * MINUTE_US
    kw = np.where(np.arange(121) < 60, 0.0, 10.0)
    found = account(
        register_of_power(at, kw, BEGAN + 2 * HOUR_US), BEGAN, BEGAN + 2 * HOUR_US, hourly(0.4, 0.1), None, 10.0
    )
    assert found.energy_kwh == pytest.approx(10.0, abs=0.01)
    assert (found.cost_minor, found.at_once_minor, found.co2_g) == (100, 400, 0)


def test_a_sample_counts_for_five_minutes_at_most() -> None:
    register = register_of_power([BEGAN, BEGAN + HOUR_US], [12.0, 0.0], BEGAN + HOUR_US)
    assert register.total_kwh == pytest.approx(1.0)


def test_a_meter_that_runs_backwards_is_not_believed() -> None:
    register = register_of_meter([BEGAN, BEGAN + HOUR_US, BEGAN + 2 * HOUR_US, BEGAN + 3 * HOUR_US], [100, 105, 3, 107])
    assert register.total_kwh == pytest.approx(7.0)
    assert register.peak_kw == pytest.approx(5.0)


@pytest.mark.parametrize("kw", [float("nan"), float("inf"), -7.0])
def test_what_is_no_power_counts_as_nothing(kw: float) -> None:
    assert register_of_power([BEGAN, BEGAN + MINUTE_US], [kw, kw], BEGAN + HOUR_US).total_kwh == 0


def test_negative_prices_earn_and_at_once_may_be_dearer_or_cheaper() -> None:
    at = BEGAN + np.arange(0, 60) * MINUTE_US
    found = account(
        register_of_power(at, np.full(60, 6.0), BEGAN + HOUR_US), BEGAN, BEGAN + HOUR_US, hourly(-0.05), None, 6.0
    )
    assert found.cost_minor == pytest.approx(-30, abs=1)


def test_a_price_that_nobody_published_is_said_to_be_a_guess() -> None:
    at = BEGAN + np.arange(0, 120) * MINUTE_US
    found = account(
        register_of_power(at, np.full(120, 6.0), BEGAN + 2 * HOUR_US),
        BEGAN,
        BEGAN + 2 * HOUR_US,
        hourly(0.2),
        None,
        6.0,
    )
    assert found.is_forecast
    assert found.cost_minor == pytest.approx(240, abs=3)


def test_yen_have_no_cents() -> None:
    at = BEGAN + np.arange(0, 61) * MINUTE_US
    kw = np.full(61, 10.0)
    series = hourly(30.0, 30.0, currency="JPY")
    assert (
        account(register_of_power(at, kw, BEGAN + HOUR_US), BEGAN, BEGAN + HOUR_US, series, None, 10.0).cost_minor
        == 300
    )
