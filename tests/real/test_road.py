"""The whole road on real input: three Renaults and a Hyundai are enrolled, all 17 Twizy files and the four Kona logs go
through `rocade replay` and the real gateway, and what `rocade history` gives back equals an independent reading.

The Twizy files are read here with the csv module; the CAN logs with `slow_can`, which shares no code with the product.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from tests.app.stand import Region
from tests.real import slow_can

DATA = Path(os.environ.get("ROCADE_DATA", Path(__file__).parents[3] / "shared" / "data"))
EXAMPLES = Path(__file__).parents[2] / "examples"
VINS = {"T1": "VF1TWZY0000000001", "T2": "VF1TWZY0000000002", "T3": "VF1TWZY0000000003", "kona": "KMHK0000000000001"}
BAD_DATES = {"T1": 44, "T2": 126, "T3": 0}
JUMP, ZERO, IMPOSSIBLE, REPAIRED = 2, 16, 32, 64
SOC = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current"
PLACE = "Vehicle.CurrentLocation."

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="no real data here; set ROCADE_DATA"),
    pytest.mark.timeout(240),
]


@dataclass
class Road:
    """The region after everything was sent, and what the command line said meanwhile."""

    region: Region
    said: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str], list[dict[str, str]]] = field(default_factory=dict)

    def history(self, car: str, signal: str) -> list[dict[str, str]]:
        """All samples, by the command line, as csv."""
        if (car, signal) not in self.answers:
            text = self.region.rocade("history", VINS[car], "--signal", signal, "--format", "csv")
            assert text.startswith("time,value,quality\n")
            self.answers[car, signal] = list(csv.DictReader(io.StringIO(text)))
        return self.answers[car, signal]

    def ask_ahead(self, wanted: list[tuple[str, str]]) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: self.history(*one), wanted))


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    folder = tmp_path_factory.mktemp("road")
    region = Region(folder / "eu")
    region.init()
    with region.serving():
        road = Road(region)
        for car, vin in VINS.items():
            brand = ("hyundai", "Kona") if car == "kona" else ("renault", "Twizy")
            region.enrol(vin, folder / car, "--brand", brand[0], "--model", brand[1])
            logs = sorted((DATA / "kona_can").glob("*.csv.gz") if car == "kona" else twizy_files(car))
            mapping = EXAMPLES / ("kona.toml" if car == "kona" else "twizy.toml")
            road.said[car] = region.rocade("replay", *logs, "--identity", folder / car, "--mapping", mapping)
        region.settled()
        yield road


# --- the Twizy, by the csv module ------------------------------------------------------------------------------------


def twizy_files(car: str) -> list[Path]:
    return sorted((DATA / "twizy_gps_soc").glob(f"{car}_*.csv.gz"))


def columns() -> dict[str, str]:
    return {rule["name"]: rule["signal"] for rule in tomllib.loads((EXAMPLES / "twizy.toml").read_text())["column"]}


@functools.cache
def reading(car: str) -> list[tuple[str, bool, str, dict[str, str]]]:
    """(true time, whether the date is impossible, raw time, row) of every row: own time of day, the trip's day."""
    rows = []
    for path in twizy_files(car):
        day = datetime.strptime(path.name[3:13], "%m_%d_%Y").replace(tzinfo=UTC).date()
        with gzip.open(path, "rt", newline="") as stream:
            for row in csv.DictReader(stream):
                hour, minute, second = map(int, row["Time"].split(":"))
                true = f"{day}T{hour:02}:{minute:02}:{second:02}.000000Z"
                month, of_month, year = map(int, row["Date"].split("/"))
                is_bad = (year, month, of_month) != (day.year, day.month, day.day)
                rows.append((true, is_bad, f"{row['Date']} {row['Time']}", row))
    return rows


@pytest.mark.parametrize("car", ["T1", "T2", "T3"])
def test_every_twizy_row_comes_back_at_its_time_with_its_value(road: Road, car: str) -> None:
    rows = reading(car)
    assert sum(is_bad for _, is_bad, _, _ in rows) == BAD_DATES[car]
    assert (
        f"rows read {len(rows)} = sent {len(rows) - BAD_DATES[car]} + repaired {BAD_DATES[car]} + refused 0"
        in road.said[car]
    )
    road.ask_ahead([(car, signal) for signal in columns().values()])
    for column, signal in columns().items():
        stored = road.history(car, signal)
        assert len(stored) == len(rows), column
        if column in ("Mode", "Weather"):
            assert Counter((one["time"], one["value"]) for one in stored) == Counter(
                (true, row[column]) for true, _, _, row in rows
            ), column
            continue
        assert sum(Decimal(one["value"]) for one in stored) == sum(Decimal(row[column]) for _, _, _, row in rows), (
            column
        )
        assert Counter((one["time"], Decimal(one["value"])) for one in stored) == Counter(
            (true, Decimal(row[column])) for true, _, _, row in rows
        ), column


def test_together_they_are_17_files_and_55645_rows() -> None:
    assert sum(len(twizy_files(car)) for car in BAD_DATES) == 17
    assert sum(len(reading(car)) for car in BAD_DATES) == 55_645
    assert sum(BAD_DATES.values()) == 170


@pytest.mark.parametrize("car", ["T1", "T2", "T3"])
def test_impossible_dates_are_repaired_flagged_and_their_text_is_kept(road: Road, car: str) -> None:
    bad = Counter(true for true, is_bad, _, _ in reading(car) if is_bad)
    for signal in columns().values():
        flagged = Counter(one["time"] for one in road.history(car, signal) if int(one["quality"]) & REPAIRED)
        assert flagged == bad, signal
    kept = Counter((one["time"], one["value"]) for one in road.history(car, "Vehicle.Recorder.TimeText"))
    assert kept == Counter((true, raw) for true, is_bad, raw, _ in reading(car) if is_bad)


def flags(road: Road, car: str, signal: str, flag: int) -> list[tuple[str, float]]:
    return [(one["time"], float(one["value"])) for one in road.history(car, signal) if int(one["quality"]) & flag]


def test_positions_that_cannot_be_are_flagged_and_kept(road: Road) -> None:
    zero = [(true, 0.0) for true, _, _, row in reading("T1") if float(row["LAT"]) == 0]
    assert flags(road, "T1", PLACE + "Latitude", ZERO) == zero
    assert len(zero) == 4
    assert [time for time, _ in flags(road, "T1", PLACE + "Longitude", ZERO)] == [time for time, _ in zero]
    far = [(true, float(row["LON"])) for true, _, _, row in reading("T3") if float(row["LON"]) > 180]
    assert flags(road, "T3", PLACE + "Longitude", IMPOSSIBLE) == far
    assert [round(value, 4) for _, value in far] == [1555.6333] * 3
    for car in ("T1", "T2", "T3"):
        for axis in ("Latitude", "Longitude"):
            expected = {("T1", "Latitude"): 4, ("T1", "Longitude"): 4, ("T3", "Longitude"): 3}.get((car, axis), 0)
            assert len(flags(road, car, PLACE + axis, ZERO | IMPOSSIBLE)) == expected


def test_a_charge_that_falls_to_nothing_for_one_row_is_a_jump(road: Road) -> None:
    assert [value for _, value in flags(road, "T3", SOC, JUMP) if value < 1] == [0.02]
    assert all(value > 1 for car in ("T1", "T2") for _, value in flags(road, car, SOC, JUMP))


def test_altitudes_of_minus_111_are_kept_as_they_are_and_the_step_to_them_is_a_jump(road: Road) -> None:
    for car in ("T1", "T3"):
        low = [float(one["value"]) for one in road.history(car, PLACE + "Altitude") if float(one["value"]) == -111]
        assert len(low) == sum(float(row["ALT"]) == -111 for _, _, _, row in reading(car)) > 0
        assert flags(road, car, PLACE + "Altitude", JUMP)


def test_trips_are_found_where_the_files_are_and_are_as_long_as_their_speeds_say(road: Road) -> None:
    with road.region.api() as api:
        for car in ("T1", "T2", "T3"):
            ref = api.get(f"/v1/vehicles/by-id/{VINS[car]}")["ref"]
            by_day: dict[str, list[tuple[str, float]]] = {}
            for true, _, _, row in reading(car):
                by_day.setdefault(true[:10], []).append((true, float(row["Speed"])))
            for day, samples in by_day.items():
                samples.sort()
                following = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
                span = {"from": f"{day}T00:00:00Z", "to": following.isoformat()}
                trips = api.get(f"/v1/vehicles/{ref}/trips", **span)["items"]
                assert trips, (car, day)
                begin, end = (datetime.fromisoformat(samples[at][0]).timestamp() * 1e6 for at in (0, -1))
                assert all(begin <= trip["start_us"] < trip["end_us"] <= end for trip in trips)
                assert sum(trip["distance_km"] for trip in trips) == pytest.approx(driven_km(samples), rel=0.02), (
                    car,
                    day,
                )


def driven_km(samples: list[tuple[str, float]]) -> float:
    """Each speed holds until the next sample; a silence of more than ten minutes ends a trip."""
    way = 0.0
    for (time, speed), (following, _) in pairwise(samples):
        step_s = (datetime.fromisoformat(following) - datetime.fromisoformat(time)).total_seconds()
        way += speed * step_s / 3600 if step_s <= 600 else 0
    return way


# --- the Kona, by a slow decoder -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected() -> dict[str, slow_can.Values]:
    """Signal of the catalogue -> every (time in us, value), read slowly."""
    overlay = tomllib.loads((Path(__file__).parents[2] / "src/rocade/brands/hyundai.toml").read_text())
    return slow_can.catalogue_values(DATA / "kona_can", tomllib.loads((EXAMPLES / "kona.toml").read_text()), overlay)


def test_the_kona_speaks_in_catalogue_names_and_every_value_is_right(
    road: Road, expected: dict[str, slow_can.Values]
) -> None:
    assert len(expected) >= 15
    assert any(name.startswith("Vehicle.Hyundai.") for name in expected)
    road.ask_ahead([("kona", signal) for signal in expected])
    for signal, values in expected.items():
        stored = road.history("kona", signal)
        assert len(stored) == len(values), signal
        known = Counter((microseconds(one["time"]), number(one["value"])) for one in stored)
        assert known == Counter((at_us, round(float(value), 9)) for at_us, value in values), signal
        assert sum(map(Fraction, (number(one["value"]) for one in stored))) == sum(
            Fraction(round(float(value), 9)) for _, value in values
        ), signal


def number(text: str) -> float:
    return {"true": 1.0, "false": 0.0}.get(text) if text in {"true", "false"} else round(float(text), 9)  # type: ignore[return-value]


def microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_the_twin_of_the_kona_shows_exactly_these_signals_and_the_trouble_codes(
    road: Road, expected: dict[str, slow_can.Values]
) -> None:
    lines = road.region.rocade("twin", VINS["kona"]).splitlines()[1:]
    names = {line.split()[0] for line in lines}
    assert names - set(expected) == {"Vehicle.Diagnostics.DTCCount", "Vehicle.Diagnostics.DTCList"} | (
        {"Vehicle.Recorder.TimeText"} & names
    )
    assert set(expected) <= names
    assert all(re.search(r"20(22|23|25)-\d\d-\d\dT", line) for line in lines), "each value has the time of its log"
    codes = road.history("kona", "Vehicle.Diagnostics.DTCList")
    assert "72D: B1603-00" in [one["value"] for one in codes]
    assert len(codes) == len(road.history("kona", "Vehicle.Diagnostics.DTCCount"))


def test_every_can_frame_is_accounted_for(road: Road) -> None:
    found = re.search(r"rows read (\d+) = sent (\d+) \+ repaired (\d+) \+ refused (\d+)", road.said["kona"])
    assert found is not None
    read, sent, repaired, refused = map(int, found.groups())
    assert read == 83_667 == sent + repaired + refused
    reasons = [int(count) for count in re.findall(r"refused: (\d+) rows", road.said["kona"])]
    assert sum(reasons) == refused


def test_the_day_was_recorded_and_the_record_holds(road: Road) -> None:
    assert '"ok": true' in road.region.rocade("audit", "verify")
    assert sorted(line.split()[0] for line in road.region.rocade("vehicles").splitlines()[1:]) == sorted(VINS.values())
