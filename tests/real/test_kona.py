"""The Kona logs become catalogue signals through the Hyundai overlay; every frame is accounted for."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from rocade.agents.vehicle import batching, can_logs, mapping
from rocade.agents.vehicle.replay import read
from rocade.agents.vehicle.series import Reading
from rocade.core.catalogue import standard
from rocade.core.errors import Misconfigured
from rocade.core.ports import SystemClock
from rocade.wire.can import read as read_gvret

VOLTS = "Vehicle.Powertrain.TractionBattery.CurrentVoltage"
MINUTE_US = 60_000_000


def replayed(data: Path, examples: Path, name: str) -> Reading:
    return read(data / "kona_can" / name, mapping.load(examples / "kona.toml", standard()), standard(), SystemClock())[
        0
    ]


@pytest.mark.parametrize(
    ("name", "frames", "repaired"),
    [
        ("230112-7-2019-pcan-ccan-power-off-on-ready-off.csv.gz", 39_546, 0),
        ("221217-1-2021-pcan-bcan-no-key.csv.gz", 14_294, 0),
        ("250105-1-2020-comp-can-heating.csv.gz", 27_982, 30),
        ("221210-1-2021-dcan-car-scanner-elm327.csv.gz", 1_845, 0),
    ],
)
def test_every_frame_is_counted_once(data: Path, examples: Path, name: str, frames: int, repaired: int) -> None:
    reading = replayed(data, examples, name)
    account = reading.account
    assert account.read == frames == account.sent + account.repaired + account.refused.total()
    assert account.repaired == repaired
    assert account.sent > 0
    for series in reading.series:
        assert bool((np.diff(series.at_us) >= 0).all()), series.signal.name
    points = sum(points for _, points in batching.cut(reading.series))
    assert points == reading.points


def test_the_overlay_names_the_battery_and_keeps_its_values_exact(data: Path, examples: Path) -> None:
    reading = replayed(data, examples, "230112-7-2019-pcan-ccan-power-off-on-ready-off.csv.gz")
    by_name = {series.signal.name: series for series in reading.series}
    volts = by_name[VOLTS]
    assert volts.exponent == -1
    assert (min(volts.values), max(volts.values), len(volts)) == (3548, 3551, 70)
    assert "Vehicle.Hyundai.Heating.CompressorPower" in by_name
    metres = by_name["Vehicle.TraveledDistance"]
    assert (min(metres.values), metres.exponent) == (267_165_000, -1)
    day_us = int(np.datetime64("2023-01-12", "us").astype(int))
    assert day_us <= int(volts.at_us[0]) < day_us + MINUTE_US


def test_the_restarted_clock_is_moved_to_touch_and_marked(data: Path, examples: Path) -> None:
    name = "250105-1-2020-comp-can-heating.csv.gz"
    reading = replayed(data, examples, name)
    stamps = read_gvret(gzip.decompress((data / "kona_can" / name).read_bytes())).frames.stamp_us
    power = next(series for series in reading.series if series.signal.name.endswith("HeaterPower"))
    assert power.repaired is not None
    assert int(power.repaired.sum()) > 5
    assert bool(power.repaired[: int(power.repaired.sum())].all())
    assert int(power.at_us[-1] - power.at_us[0]) < int(stamps.max() - stamps.min()) + 30_000_000
    assert int(np.diff(power.at_us).max()) < 1_000_000


def test_trouble_codes_of_all_modules_are_found(data: Path, examples: Path) -> None:
    reading = replayed(data, examples, "221210-1-2021-dcan-car-scanner-elm327.csv.gz")
    texts = next(list(series.values) for series in reading.series if series.signal.name == can_logs.LIST)
    assert "72D: B1603-00" in texts
    assert "7EC: none" in texts
    counts = next(series for series in reading.series if series.signal.name == can_logs.COUNT)
    assert int(np.max(counts.values)) == 5


def test_a_dbc_alone_is_enough_with_a_brand(data: Path) -> None:
    file = data / "kona_can/250105-1-2020-comp-can-heating.csv.gz"
    rules = can_logs.dbc_mapping(data / "kona_can/comp_can.dbc", "hyundai")
    reading, _ = read(file, rules, standard(), SystemClock())
    assert {series.signal.name for series in reading.series} == {
        "Vehicle.Hyundai.Heating.CompressorPower",
        "Vehicle.Hyundai.Heating.HeaterPower",
    }


def test_a_missing_dbc_is_named(data: Path) -> None:
    rules = mapping.Mapping(format="gvret", log=(mapping.LogRule(dbc={"0": "nowhere.dbc"}),))
    with pytest.raises(Misconfigured, match=r"nowhere\.dbc"):
        read(data / "kona_can/250105-1-2020-comp-can-heating.csv.gz", rules, standard(), SystemClock())
