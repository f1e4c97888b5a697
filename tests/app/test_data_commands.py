"""Commands that read and erase data, as people use them: in a pipe, against a running region."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as paho
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.app.conftest import BEGIN, ROWS, Car, make_car, speed
from tests.app.stand import Region

from rocade.fabric.history import connect
from rocade.services.telemetry.footprint import points_by_vehicle
from rocade.trust.identity.tls import client_context

SPEED = "Vehicle.Speed"
SENT = [row for row in range(ROWS) if row != 200]


def stamp(row: int) -> str:
    return (BEGIN + timedelta(seconds=row)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def test_replay_accounts_for_every_row_and_sends_nothing_twice(region: Region, car: Car) -> None:
    assert f"rows read {ROWS} = sent {ROWS - 2} + repaired 1 + refused 1" in car.said
    assert "refused: 1 rows, time cannot be read" in car.said
    arguments = ["replay", car.log, "--identity", car.identity, "--mapping", car.mapping]
    region.rocade(*arguments, says="was sent before; --again sends it once more")
    assert len(region.rocade("history", car.vin, "--signal", SPEED).splitlines()) == 1 + len(SENT)


def test_replay_says_what_is_wrong_with_a_mapping_or_a_log(region: Region, car: Car, tmp_path: Path) -> None:
    mapping, log = tmp_path / "odd.toml", tmp_path / "odd.csv"
    mapping.write_text('[time]\ncolumns = ["time"]\n[[column]]\nname = "x"\nsignal = "Vehicle.NoSuchThing"\n')
    log.write_text("a,b\n1,2\n")
    replay = ["replay", "--identity", car.identity, "--mapping"]
    region.rocade(*replay, mapping, log, code=1, says="no signal is called 'Vehicle.NoSuchThing'")
    region.rocade(*replay, car.mapping, log, code=1, says="[table.header]")


def test_vehicles_are_listed_with_when_they_were_last_heard(region: Region, car: Car) -> None:
    line = next(line for line in region.rocade("vehicles").splitlines() if car.vin in line)
    assert line.split()[:5] == [car.vin, "car", "renault", "Zoe", "electric"]
    heard = datetime.fromisoformat(line.split()[5])
    assert datetime.now(UTC) - heard < timedelta(hours=3)
    found = [json.loads(line) for line in region.rocade("vehicles", "--brand", "renault", "--json").splitlines()]
    assert car.vin in {one["id"] for one in found}
    assert region.rocade("vehicles", "--brand", "opel").splitlines()[1:] == []


def test_the_twin_has_whole_names_the_last_value_and_its_time(region: Region, car: Car) -> None:
    lines = region.rocade("twin", car.vin).splitlines()
    values = {line.split()[0]: re.split(r" {2,}", line)[1:] for line in lines[1:]}
    assert values[SPEED] == [str(speed(299)), "km/h", "2026-11-20T08:04:59+00:00", "good"]
    assert values["Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed"][0] == "77.01"
    assert values["Vehicle.Recorder.TimeText"][2:] == ["2026-11-20T08:01:40+00:00", "time_repaired"] or (
        values["Vehicle.Recorder.TimeText"][-1] == "time_repaired"
    )
    answer = json.loads(region.rocade("twin", car.vin, "--json"))
    assert {one["name"] for one in answer["signals"]} == set(values)
    region.rocade("twin", "VF1NOBODY00000001", code=1, says="[vehicles.unknown]")


def test_history_says_the_same_in_every_format(region: Region, car: Car, tmp_path: Path) -> None:
    ask = ["history", car.vin, "--signal", SPEED, "--format"]
    rows = list(csv.DictReader(io.StringIO(region.rocade(*ask, "csv"))))
    assert [(row["time"], float(row["value"])) for row in rows] == [(stamp(row), speed(row)) for row in SENT]
    assert [row["time"] for row in rows if row["quality"] != "0"] == [stamp(100)], "the repaired row"
    assert json.loads(region.rocade(*ask, "json")) == [
        {"time": row["time"], "value": float(row["value"]), "quality": int(row["quality"])} for row in rows
    ]
    for form in ("arrow", "parquet"):
        file = tmp_path / f"speed.{form}"
        assert region.rocade(*ask, form, "--out", file) == ""
        table = pa.ipc.open_stream(file.read_bytes()).read_all() if form == "arrow" else pq.read_table(file)
        assert table.column("value").to_pylist() == [float(row["value"]) for row in rows]
        assert table.column("time").to_pylist()[0] == BEGIN


def test_texts_with_commas_survive_csv(region: Region, car: Car) -> None:
    rows = list(csv.DictReader(io.StringIO(region.rocade("history", car.vin, "--signal", "Vehicle.Exterior.Weather"))))
    assert [row["value"] for row in rows] == ["rain, hail"] * 10 + ["sun"] * (len(SENT) - 10)


@pytest.mark.parametrize(
    ("arguments", "times", "values"),
    [
        (["--from", stamp(10), "--to", stamp(13)], [10, 11, 12], [speed(10), speed(11), speed(12)]),
        (["--from", "2026-11-20T09:00:10+01:00", "--to", stamp(11)], [10], [speed(10)]),
        (["--to", stamp(60), "--every", "20s", "--agg", "max"], [0, 20, 40], [49.5] * 3),
        (["--to", stamp(60), "--every", "20s", "--agg", "min"], [0, 20, 40], [30.5] * 3),
        (["--to", stamp(60), "--every", "20s"], [0, 20, 40], [40.0] * 3),
        (["--to", stamp(60), "--every", "20s", "--agg", "last"], [0, 20, 40], [49.5] * 3),
        (["--to", stamp(60), "--every", "1m", "--agg", "count"], [0], [60.0]),
    ],
)
def test_ranges_and_windows(
    region: Region, car: Car, arguments: list[str], times: list[int], values: list[float]
) -> None:
    rows = list(csv.DictReader(io.StringIO(region.rocade("history", car.vin, "--signal", SPEED, *arguments))))
    assert [(row["time"], float(row["value"])) for row in rows] == [
        (stamp(time), value) for time, value in zip(times, values, strict=True)
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--signal", "Vehicle.Sped"], "catalogue.signal.unknown"),
        (["--signal", SPEED, "--from", "yesterday"], "telemetry.range.instant"),
        (["--signal", SPEED, "--every", "soon"], "telemetry.range.every"),
        (["--signal", SPEED, "--from", stamp(5), "--to", stamp(5)], "telemetry.range.empty"),
        (["--signal", "Vehicle.Exterior.Weather", "--every", "1m"], "telemetry.history.text"),
    ],
)
def test_questions_that_make_no_sense_are_refused_with_their_code(
    region: Region, car: Car, arguments: list[str], code: str
) -> None:
    region.rocade("history", car.vin, *arguments, code=1, says=f"[{code}]")


async def test_erasing_asks_then_leaves_nothing_and_the_old_reference_names_nobody(
    region: Region, drive: tuple[Path, Path], tmp_path: Path
) -> None:
    car = make_car(region, drive, "VF1ERAS0000000001")
    stored = 4 * len(SENT) + 1
    with region.api() as api:
        ref = api.get(f"/v1/vehicles/by-id/{car.vin}")["ref"]
    region.rocade("erase", car.vin, "--dry-run", says=f"{stored:,} stored points")
    region.rocade("erase", car.vin, answer="n\n", code=1, says="Erase them? This cannot be undone")
    assert len(region.rocade("history", car.vin, "--signal", SPEED).splitlines()) == 1 + len(SENT)

    certificate = tmp_path / "erased.json"
    said = json.loads(region.rocade("erase", car.vin, "--yes", "--certificate", str(certificate)))
    assert (said["points"], said["is_done"], said["step"]) == (stored, True, "done")
    root = region.configuration.trust / "trust.pem"
    assert f"vehicle:{ref}" in region.rocade("verify", str(certificate), "--key", str(root))
    assert region.rocade("history", car.vin, "--signal", SPEED) == "time,value,quality\n"
    assert region.rocade("twin", car.vin).splitlines()[1:] == []
    with region.api() as api:
        assert api.get(f"/v1/vehicles/by-id/{car.vin}")["ref"] != ref
        with pytest.raises(Exception, match="no vehicle"):
            api.get(f"/v1/vehicles/{ref}/twin")
    history = connect(region.configuration.effective_history_url)
    assert await points_by_vehicle(history, [int(ref)]) == {}
    left = await history.query(
        "SELECT count() AS parts FROM system.parts WHERE NOT active AND database = currentDatabase() AND rows > 0"
        " AND modification_time < now() - 3600"
    )
    await history.close()
    assert left.column("parts")[0].as_py() == 0
    assert "telemetry.erase" in region.rocade("audit", "tail", "-n", "40")


def test_a_bad_batch_of_an_old_client_is_in_quarantine_until_somebody_decides(region: Region, car: Car) -> None:
    publish(region, car, b"this is no batch")
    region.settled()
    table = [line.split() for line in region.rocade("quarantine", "list").splitlines()[1:]]
    number, reason = table[-1][0], table[-1][2]
    assert reason.startswith("batch.")
    shown = json.loads(region.rocade("quarantine", "show", number))
    assert (shown["state"], shown["size_bytes"]) == ("held", 16)
    assert json.loads(region.rocade("quarantine", "replay", number))["state"] == "replayed"
    region.rocade("quarantine", "replay", number, code=1, says="was replayed already")
    publish(region, car, b"nor is this")
    region.settled()
    newest = region.rocade("quarantine", "list").splitlines()[-1].split()[0]
    assert json.loads(region.rocade("quarantine", "drop", newest))["state"] == "dropped"
    region.rocade("quarantine", "drop", newest, code=1, says="[quarantine.gone]")
    region.rocade("quarantine", "show", "999999", code=1, says="[quarantine.unknown]")


def publish(region: Region, car: Car, body: bytes) -> None:
    """One QoS 1 publish by somebody else's MQTT 3.1.1 client."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=car.vin, protocol=paho.MQTTv311)
    client.connect_timeout = 60.0
    client.tls_set_context(client_context(car.identity))
    client.connect("localhost", region.configuration.mqtt.port)
    client.loop_start()
    client.publish(f"rocade/v1/{car.vin}/up/batch", body, qos=1).wait_for_publish(120)
    client.disconnect()
    client.loop_stop()
