"""Mapping files are checked before the first row is read; names of columns are understood in three languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocade.agents.vehicle import mapping
from rocade.agents.vehicle.mapping_guess import guess
from rocade.agents.vehicle.synonyms import split_name
from rocade.core.catalogue import Catalogue
from rocade.core.errors import Misconfigured, Refused

EXAMPLES = Path(__file__).parents[3] / "examples"
TIME = '[time]\ncolumns = ["t"]\n'


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.name)
def test_every_example_is_sound(file: Path, standard: Catalogue) -> None:
    mapping.load(file, standard)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("format = ", "Invalid value"),
        ('format = "xml"\n' + TIME, "format"),
        ("typo = 1\n" + TIME, "typo"),
        ("", r"\[time\] columns"),
        ('[time]\ncolumns = ["t"]\nzone = "Mars/Olympus"\n', "time zone"),
        ('brand = "nobody"\n' + TIME, "no brand"),
        (TIME + '[[column]]\nname = "v"\nsignal = "Vehicle.Spede"\n', "Vehicle.Spede"),
        (TIME + '[[column]]\nname = "v"\nsignal = "Vehicle.Speed"\nunit = "furlong"\n', "furlong"),
        ('format = "gvret"\n[[can]]\ncan = "NoDot"\nsignal = "Vehicle.Speed"\n', "NoDot"),
    ],
)
def test_a_wrong_file_is_refused_and_named(text: str, says: str, tmp_path: Path, standard: Catalogue) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(Misconfigured, match=says) as wrong:
        mapping.load(tmp_path / "m.toml", standard)
    assert wrong.value.code == "mapping.invalid"
    assert "m.toml" in wrong.value.message


@pytest.mark.parametrize(
    ("name", "words", "unit"),
    [
        ("GpsSpeed", ["gps", "speed"], ""),
        ("SoC", ["soc"], ""),
        ("Vitesse (km/h)", ["vitesse"], "km/h"),
        ("Température [°C]", ["temperature"], "Celsius"),
        ("position_lat", ["position", "lat"], ""),
        ("speed_kmh", ["speed"], "km/h"),
        ("车速(km/h)", ["车速"], "km/h"),
    ],
)
def test_column_names_are_taken_apart(name: str, words: list[str], unit: str) -> None:
    assert split_name(name) == (words, unit)


def test_french_and_chinese_logs_are_understood(tmp_path: Path, standard: Catalogue) -> None:
    french = "Horodatage;Latitude;Longitude;Vitesse (km/h);Niveau batterie (%);Température extérieure;Remarque\n"
    french += "".join(
        f"{day}/03/2024 08:00:{second:02};48,85{second};2,35;3{second},5;7{second};12,5;x\n"
        for day, second in ((28, 10), (28, 11), (29, 12))
    )
    (tmp_path / "fr.csv").write_text(french)
    chinese = "时间,经度,纬度,车速,总电压,总电流,剩余电量\n" + "".join(
        f"2024-03-28 08:00:{s},121.4{s},31.2{s},3{s},355.{s},-1{s},8{s}\n" for s in (10, 11, 12)
    )
    (tmp_path / "cn.csv").write_text(chinese)
    one, two = guess(tmp_path / "fr.csv", standard), guess(tmp_path / "cn.csv", standard)
    assert {guessed.signal.removeprefix("Vehicle.") for guessed in one.guesses} == {
        "CurrentLocation.Latitude", "CurrentLocation.Longitude", "Speed", "Powertrain.TractionBattery.StateOfCharge.Current", "Exterior.AirTemperature",
    }  # fmt: skip
    assert (one.mapping.delimiter, one.mapping.decimal, one.mapping.time.formats, one.unknown) == (
        ";",
        ",",
        ("%d/%m/%Y %H:%M:%S",),
        ("Remarque",),
    )
    battery = "Vehicle.Powertrain.TractionBattery."
    assert {guessed.column: guessed.signal for guessed in two.guesses} == {
        "经度": "Vehicle.CurrentLocation.Longitude", "纬度": "Vehicle.CurrentLocation.Latitude", "车速": "Vehicle.Speed",
        "总电压": f"{battery}CurrentVoltage", "总电流": f"{battery}CurrentCurrent", "剩余电量": f"{battery}StateOfCharge.Current",
    }  # fmt: skip


@pytest.mark.parametrize(("factor", "unit"), [(1.0, "km/h"), (1 / 3.6, "m/s"), (0.6214, "mph")])
def test_the_unit_of_a_speed_is_told_by_the_way_the_positions_moved(
    factor: float, unit: str, tmp_path: Path, standard: Catalogue
) -> None:
    rows = [
        f"{1_700_000_000 + second},{48 + second * 36 / 3.6 / 111_194.9:.7f},2.0,{36 * factor:.3f}"
        for second in range(120)
    ]
    (tmp_path / "log.csv").write_text("time,lat,lon,speed\n" + "\n".join(rows))
    proposal = guess(tmp_path / "log.csv", standard)
    assert proposal.mapping.time.formats == ("unix_s",)
    assert {one.column: one.unit for one in proposal.guesses}["speed"] == unit


@pytest.mark.parametrize("text", ["", "one line", "a,b\n1,2\n3,4\n"])
def test_a_file_that_is_no_log_is_refused(text: str, tmp_path: Path, standard: Catalogue) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(Refused) as refused:
        guess(tmp_path / "log.csv", standard)
    assert refused.value.code == "mapping.unreadable"
