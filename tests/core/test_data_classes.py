"""Every signal has one data class, and what tells most of a person stands in the class that says so."""

from __future__ import annotations

import re
import shutil
from importlib import resources
from pathlib import Path

import pytest

from rocade.core import catalogue, data_classes
from rocade.core.errors import Misconfigured, Refused

SIGNALS = list(catalogue.standard())


def test_every_signal_of_the_catalogue_has_a_class_and_only_these_are_named_by_nobody() -> None:
    assert {signal.data_class for signal in SIGNALS} == set(data_classes.DATA_CLASSES)
    assert {signal.name for signal in SIGNALS if signal.data_class == "other"} == {"Vehicle.Lune.CycleLength"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (r"(Latitude|Longitude|EvseId|DestinationSet|CurrentLocation)", "location"),
        (r"(HeartRate|VIN|LicensePlate|Identifier|FatigueLevel|EyeGaze)", "identity"),
        (r"(Speed|AngularSpeed|RotationalSpeed|PedalPosition|CurrentGear)", "driving"),
        (r"(StateOfCharge|ChargeLimit|InstantConsumption)", "energy"),
        (r"(Pressure|PadWear|DTCList|StateOfHealth)", "condition|energy"),
        (r"(OccupancyStatus|IsBelted|Artist|IsLocked)", "cabin|condition"),
    ],
)
def test_what_tells_much_stands_in_its_class_wherever_vss_put_it(words: str, expected: str) -> None:
    pattern = re.compile(rf"(?:^|\.){words}(?:\.|$)")
    elsewhere = {"Vehicle.CurrentLocation.Speed": "location", "Vehicle.Body.Lights.LicensePlate": "driving"}
    found = [signal for signal in SIGNALS if pattern.search(signal.name)]
    assert found
    wrong = {
        signal.name: signal.data_class
        for signal in found
        if not re.fullmatch(expected, signal.data_class)
        and not any(signal.name.startswith(name) and signal.data_class != "other" for name in elsewhere)
        and "LowVoltage" not in signal.name
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Vehicle.Speed", "driving"),
        ("Vehicle.SpeedOfLight", "other"),
        ("Vehicle.Powertrain.TractionBattery.Charging.Location.Latitude", "location"),
        ("Vehicle.Powertrain.TractionBattery.Charging.LocationHint", "energy"),
        ("Vehicle.Chassis.Axle.Row1.Wheel.Left.Speed", "driving"),
        ("Vehicle.Chassis.Axle.Row1.Wheel.Left.Tire.Pressure", "condition"),
        ("Vehicle", "other"),
        ("", "other"),
        ("Vehicle.Nobody.Knows", "other"),
    ],
)
def test_rules_hold_for_whole_words_and_the_longest_counts(name: str, expected: str) -> None:
    assert data_classes.class_of(name) == expected


def test_a_brands_own_signal_has_the_class_its_file_names(tmp_path: Path) -> None:
    assert catalogue.standard().by_name("Vehicle.Hyundai.Gear").data_class == "driving"
    assert catalogue.standard().class_of(4_000_000) == "other"
    brands = tmp_path / "brands"
    shutil.copytree(str(resources.files("rocade") / "brands"), brands)
    file = brands / "lune.toml"
    file.write_text(file.read_text().replace("min = 0\n", 'min = 0\ndata_class = "secret"\n', 1))
    with pytest.raises(Misconfigured, match="unknown data class 'secret'"):
        catalogue.load(resources.files("rocade.core") / "data", brands)


def test_masks_and_names_are_each_others_inverse() -> None:
    for mask in range(data_classes.ALL + 1):
        assert data_classes.mask(data_classes.names(mask)) == mask
    with pytest.raises(Refused, match=r"consent\.class\.unknown"):
        data_classes.bit("secrets")


def test_the_table_in_the_documents_is_the_one_in_force() -> None:
    document = (Path(__file__).resolve().parents[2] / "docs/consent.md").read_text("utf-8")
    told = re.findall(r"^\| (\w+) \| (\d+) \| (.*) \|$", document, re.MULTILINE)
    assert [name for name, _, _ in told] == list(data_classes.DATA_CLASSES)
    for name, count, begins in told:
        assert int(count) == sum(signal.data_class == name for signal in SIGNALS), name
        expected = {rule.removeprefix("Vehicle.") for rule, found in data_classes.rules().items() if found == name}
        assert set(re.findall(r"`([^`]+)`", begins)) == expected
