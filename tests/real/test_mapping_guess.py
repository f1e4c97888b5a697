"""A guessed mapping alone brings real logs onto the road: all 17 cars' trips, all e-bikes, all e-scooters, CAN logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocade.agents.vehicle import mapping
from rocade.agents.vehicle.mapping_guess import Proposal, guess
from rocade.agents.vehicle.replay import read
from rocade.core.catalogue import standard
from rocade.core.ports import SystemClock

PLACE = {"Vehicle.CurrentLocation.Latitude", "Vehicle.CurrentLocation.Longitude", "Vehicle.CurrentLocation.Altitude"}
AROUND = {"Vehicle.Exterior.WindSpeed", "Vehicle.Exterior.Weather"}
CHARGE = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current"


def found(proposal: Proposal) -> dict[str, str]:
    return {one.column: one.signal for one in proposal.guesses}


def units(proposal: Proposal) -> dict[str, str]:
    return {one.column: one.unit for one in proposal.guesses}


def test_every_twizy_file_gets_what_the_hand_made_mapping_says(data: Path, examples: Path) -> None:
    catalogue = standard()
    byhand = mapping.load(examples / "twizy.toml", catalogue)
    wanted = {rule.name: rule.signal for rule in byhand.column if rule.name != "Mode"}
    for file in sorted((data / "twizy_gps_soc").glob("*.csv.gz")):
        proposal = guess(file, catalogue)
        assert found(proposal) == wanted, file.name
        assert (proposal.mapping.time.columns, proposal.mapping.time.formats) == (
            byhand.time.columns,
            byhand.time.formats,
        )
        assert proposal.unknown == ("Mode",)
        assert {unit for column, unit in units(proposal).items() if "peed" in column} == {"km/h", "m/s"}
        assert units(proposal)["WindSpeedAv"] == "m/s"
        if not file.name.startswith("T3_05"):
            continue
        ours, _ = read(file, proposal.mapping, catalogue, SystemClock())
        theirs, _ = read(file, byhand, catalogue, SystemClock())
        assert (ours.account.sent, ours.account.repaired) == (theirs.account.sent, theirs.account.repaired)


def test_an_ambiguous_date_is_said_to_be_ambiguous(data: Path) -> None:
    sure = guess(data / "twizy_gps_soc/T1_03_29_2021.csv.gz", standard())
    unsure = guess(data / "twizy_gps_soc/T3_06_07_2021.csv.gz", standard())
    assert sure.time_confidence > 0.9
    assert unsure.time_confidence < 0.6
    assert "check" in unsure.toml


def test_all_e_bike_files_with_their_four_column_sets(data: Path) -> None:
    files = sorted((data / "micromobility/e-bike").glob("trip_*.csv.gz"))
    rows = 0
    for file in files:
        proposal = guess(file, standard())
        signals = set(found(proposal).values())
        assert signals >= PLACE | AROUND | {"Vehicle.Speed", "Vehicle.TraveledDistanceSinceStart"}, file.name
        assert set(proposal.unknown) <= {"cycle_length", "cycle_length.1"}
        assert (units(proposal)["speed"], units(proposal)["distance"], units(proposal)["Wind speed"]) == ("km/h", "m", "km/h") or units(proposal)["Wind speed"] == "m/s"  # fmt: skip
        account = read(file, proposal.mapping, standard(), SystemClock())[0].account
        assert account.adds_up
        assert (account.repaired, account.refused.total(), account.cells_refused.total()) == (0, 0, 0)
        rows += account.sent
    assert (len(files), rows) == (36, 22_827)


def test_fillers_are_recognised(data: Path) -> None:
    proposal = guess(data / "micromobility/e-bike/trip_5.csv.gz", standard())
    absent = {one.column: one.absent for one in proposal.guesses}
    assert absent["heart_rate"] == ("255",)
    assert found(proposal)["cadence"] == "Vehicle.Rider.Cadence"


def test_all_e_scooter_files_in_their_four_orders(data: Path) -> None:
    rows = bad = 0
    for file in sorted((data / "micromobility/e-scooter").glob("trip_*.csv.gz")):
        proposal = guess(file, standard())
        assert set(found(proposal).values()) >= PLACE | {"Vehicle.Speed", CHARGE, "Vehicle.Exterior.WindSpeed"}, (
            file.name
        )
        assert units(proposal)["SoC"] == "percent"
        account = read(file, proposal.mapping, standard(), SystemClock())[0].account
        assert account.adds_up
        rows += account.sent
        bad += account.cells_refused["Latitude: not a number"]
    assert (rows, bad) == (3_470, 1)


def test_the_proposal_is_a_mapping_file_that_can_be_used(data: Path, tmp_path: Path) -> None:
    for name in ("twizy_gps_soc/T3_06_07_2021", "micromobility/e-bike/trip_1", "micromobility/e-scooter/trip_4"):
        proposal = guess(data / f"{name}.csv.gz", standard())
        (tmp_path / "guess.toml").write_text(proposal.toml)
        assert mapping.load(tmp_path / "guess.toml", standard()) == proposal.mapping


@pytest.mark.parametrize(
    ("name", "dbc", "diagnostics"),
    [
        ("250105-1-2020-comp-can-heating", {"0": "comp_can.dbc"}, ()),
        ("230112-7-2019-pcan-ccan-power-off-on-ready-off", {"0": "pcan.dbc"}, ()),
        ("221217-1-2021-pcan-bcan-no-key", {"0": "pcan.dbc"}, ()),
        ("221210-1-2021-dcan-car-scanner-elm327", {}, (1,)),
    ],
)
def test_can_logs_are_matched_with_the_dictionaries_beside_them(
    data: Path, tmp_path: Path, name: str, dbc: dict[str, str], diagnostics: tuple[int, ...]
) -> None:
    proposal = guess(data / f"kona_can/{name}.csv.gz", standard())
    assert proposal.mapping.log[0].dbc.items() >= dbc.items()
    assert proposal.mapping.log[0].diagnostics == diagnostics
    (tmp_path / "guess.toml").write_text(proposal.toml)
    assert mapping.load(tmp_path / "guess.toml", standard()) == proposal.mapping


@pytest.mark.parametrize("name", ["e-bike", "e-scooter"])
def test_the_examples_read_all_files_of_their_kind(data: Path, examples: Path, name: str) -> None:
    rules = mapping.load(examples / f"{name}.toml", standard())
    for file in sorted((data / "micromobility" / name).glob("trip_*.csv.gz")):
        account = read(file, rules, standard(), SystemClock())[0].account
        assert account.read == account.sent, file.name
