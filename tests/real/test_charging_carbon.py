"""Real marginal CO2 of California, five-minutely, and real car curves: read as they are, planned greener than charged at once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from rocade.services.charging.planning import Need, Slots, Taper, plan_one
from rocade.services.charging.planning.series import extended
from rocade.services.charging.tariffs import Parsed, read_carbon

HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def carbon(data: Path) -> Parsed:
    content = gzip.decompress((data / "charging/moer_caiso_sce_2019-05_5min.csv.gz").read_bytes())
    return read_carbon(content, unit="kg/kWh")


def test_a_month_of_five_minutes_is_read_without_a_hole(carbon: Parsed) -> None:
    assert carbon.notes == ()
    assert set(np.diff(carbon.series.start_us).tolist()) == {300_000_000}
    assert len(carbon.series) == 33 * 288  # from 30 April to 1 June
    assert 0 <= carbon.series.value.min() < carbon.series.value.max() < 1_000


@pytest.mark.parametrize("car", range(0, 12, 3))
def test_cars_that_may_wait_emit_less_every_night(carbon: Parsed, data: Path, car: int) -> None:
    specs = json.loads((data / "charging/ev2gym_ev_specs.json").read_text("utf-8"))
    spec = list(specs.values())[car % len(specs)]
    capacity, max_kw = float(spec["battery_capacity"]), float(spec["max_ac_charge_power"])
    taper = Taper((80, 100), (max_kw, max_kw / 5))
    saved = []
    for night in range(1, 28):
        arrival = int(carbon.series.start_us[0]) + (night * 24 + 1) * HOUR_US  # 18:00 there
        need = Need(arrival_us=arrival, departure_us=arrival + 14 * HOUR_US, max_kw=max_kw, now_percent=35,
                    target_percent=90, capacity_kwh=capacity, efficiency=0.9, taper=taper)  # fmt: skip
        slots = Slots.over(need.arrival_us, need.departure_us)
        grams = carbon.series.on(slots).value
        plan = plan_one(need, slots, grams, price=np.zeros(len(slots)), carbon=grams)
        assert plan.co2_g <= plan.at_once.co2_g
        assert plan.gap <= 1e-9
        saved.append(1 - plan.co2_g / plan.at_once.co2_g)
    assert np.mean(saved) > 0.05


def test_a_plan_on_a_forecast_of_real_days_is_better_than_not_waiting(carbon: Parsed) -> None:
    """Planned as if the coming night were unknown, counted by what it really was: on most nights it emits less than at once."""
    series, better = carbon.series, []
    for night in range(15, 28):
        arrival = int(series.start_us[0]) + (night * 24 + 1) * HOUR_US
        known = series.start_us < arrival
        past = type(series)(*(column[known] if isinstance(column, np.ndarray) else column for column in (
            series.start_us, series.end_us, series.value, series.unit, series.zone, series.currency, series.is_forecast, series.low, series.high)))  # fmt: skip
        slots = Slots.over(arrival, arrival + 14 * HOUR_US)
        guessed = extended(past, arrival, arrival + 14 * HOUR_US, "America/Los_Angeles").on(slots)
        assert guessed.is_forecast.all()
        need = Need(arrival_us=arrival, departure_us=arrival + 14 * HOUR_US, max_kw=7.2, energy_kwh=25)
        plan = plan_one(need, slots, guessed.value, carbon=series.on(slots).value)
        better.append(plan.at_once.co2_g - plan.co2_g)
    assert np.mean(better) > 0
    assert np.mean(np.array(better) > 0) > 0.6
