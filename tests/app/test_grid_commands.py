"""Commands of the grid and of batteries against a running region, in this process: what they print is what a person needs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from click.testing import CliRunner
from tests.app.conftest import Car
from tests.app.stand import Region

from rocade.app.cli import main


def run(region: Region, *arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(main, [*map(str, arguments)], env={"ROCADE_CONFIG": str(region.directory)})
    assert done.exit_code == code, f"{arguments}: {done.output} {done.exception}"
    return done.output


def test_a_signal_from_hand_to_its_end_and_the_depots_report(region: Region, tmp_path: Path) -> None:
    depot = tmp_path / "depot.json"
    depot.write_text(json.dumps({"name": "Depot", "zone": "Europe/Paris", "nodes": [{"id": "root", "limit_kw": 40}]}))
    run(region, "charging", "site", "depot-grid", depot)
    assert "partner:netz" in run(region, "charging", "grid", "depot-grid", "--bind", "partner:netz")
    assert "partner:netz" not in run(region, "charging", "grid", "depot-grid", "--unbind", "partner:netz")
    said = run(region, "charging", "dim", "depot-grid", "12", "--minutes", "30", "--signal", "s-1")
    assert said.startswith("s-1: active, at most 12 kW until ")
    assert "s-1" in run(region, "charging", "signals", "depot-grid")
    assert "called_off" in run(region, "charging", "signals", "depot-grid", "s-1", "--end")
    assert "0.0 kWh in 0 sessions" in run(region, "charging", "report", "depot-grid")
    lines = list(csv.reader(io.StringIO(run(region, "charging", "report", "depot-grid", "--format", "csv"))))
    assert ["depot", "depot-grid", ""] in lines
    assert json.loads(run(region, "charging", "report", "depot-grid", "--format", "json"))["site"] == "depot-grid"
    assert "name the signal" in run(region, "charging", "signals", "depot-grid", "--end", code=2)


def test_a_car_that_reports_no_power_is_told_why_it_has_no_health(region: Region, car: Car) -> None:
    said = run(region, "battery", car.vin)
    assert said.startswith("this vehicle has not reported power, or voltage and current, of its battery")
    assert "rocade why battery:" in said
    passport = json.loads(run(region, "battery", car.vin, "--passport"))
    fields = {one["name"]: one for one in passport["fields"]}
    assert passport["known"] + passport["unknown"] == len(fields)
    assert fields["stateOfCertifiedEnergy"]["basis"] == "unknown"
    assert fields["batteryMass"]["value"] is None
