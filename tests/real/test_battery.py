"""Battery health on every real drive and log there is: computed where the data carry it, refused with the true reason where not.

None of these vehicles reports energy over a long enough swing of charge: the Twizys and scooters report charge and no power, the Konas'
logs last seconds. So the true answer is a refusal each time; what is checked is that it is the right one, and that the pieces that
are there (swings of charge, volts, amperes) are read as an independent reading of the files has them.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from rocade.agents.vehicle import mapping
from rocade.agents.vehicle.replay import read
from rocade.agents.vehicle.series import Reading
from rocade.core.catalogue import standard
from rocade.core.ports import SystemClock
from rocade.services.battery import ROLES, Finding, Health, Pack, Seen, Segment, estimate, find_segments
from rocade.services.battery.api import said
from rocade.services.telemetry import Series

TWIZY = Pack(6.1, "NMC", 52.0, "brand")
KONA = Pack(64.0, "NMC", 356.0, "brand")


def by_role(reading: Reading) -> dict[str, Series]:
    """What a drive said, by the part it plays for a battery."""
    known = {series.signal.name: series for series in reading.series}
    found = {}
    for role, names in ROLES.items():
        for name in names:
            if name in known and role not in found:
                one = known[name]
                values = np.asarray(one.values, float) * 10.0 ** (one.exponent or 0)
                found[role] = Series(np.asarray(one.at_us, np.int64), values)
    return found


def replayed(file: Path, examples: Path, name: str) -> dict[str, Series]:
    return by_role(read(file, mapping.load(examples / name, standard()), standard(), SystemClock())[0])


def answer(found: list[Segment], seen: Seen, pack: Pack) -> tuple[Finding, str]:
    finding = estimate(found, pack, seen, found[-1].end_us if found else 0)
    return finding, said(Health(1, finding, pack, seen))


def test_the_twizys_say_how_full_they_are_and_not_what_they_draw(data: Path, examples: Path) -> None:
    swings, files = [], sorted((data / "twizy_gps_soc").glob("T*.csv.gz"))
    for file in files:
        series = replayed(file, examples, "twizy.toml")
        found, seen = find_segments(series)
        finding, words = answer(found, seen, TWIZY)
        assert (finding.state, found, seen.energy_from) == ("silent", [], "")
        assert (
            words
            == "this vehicle has not reported power, or voltage and current, of its battery, so its health cannot be found"
        )
        with gzip.open(file, "rt", newline="") as stream:
            independent = [float(row["Soc"]) for row in csv.DictReader(stream)]
        assert sorted(series["charge"].value.tolist()) == pytest.approx(sorted(independent))
        swings.append(max(independent) - min(independent))
    assert len(files) == 17
    print(f"{sum(swing >= 20 for swing in swings)} of {len(files)} drives swing by 20 % or more; none has power")


def test_with_power_a_real_drives_swing_would_count_as_one_segment_of_ten(data: Path, examples: Path) -> None:
    """The segment finder on real charge readings, with an assumed steady power: one drive is one segment, and no answer yet."""
    series = replayed(data / "twizy_gps_soc/T2_03_29_2021.csv.gz", examples, "twizy.toml")
    at_us = np.unique(series["charge"].time_us)
    found, seen = find_segments(series | {"power": Series(at_us, np.full(len(at_us), -2_000.0))})
    assert len(found) >= 1
    assert {one.kind for one in found} == {"drive"}
    finding, words = answer(found, seen, TWIZY)
    assert finding.percent is None
    assert words == f"not enough data yet: {len(found)} of 10 segments"


def test_the_konas_volts_and_amperes_are_read_and_seconds_are_not_enough(data: Path, examples: Path) -> None:
    name = "230112-7-2019-pcan-ccan-power-off-on-ready-off.csv.gz"
    series = replayed(data / "kona_can" / name, examples, "kona.toml")
    assert (float(series["volts"].value.min()), float(series["volts"].value.max())) == pytest.approx((354.8, 355.1))
    found, seen = find_segments(series)
    assert seen.energy_from == "volts_amperes"
    assert seen.charge_from == "shown"
    finding, words = answer(found, seen, KONA)
    assert (finding.state, finding.used) == ("waiting", 0)
    assert words == "not enough data yet: 0 of 10 segments"
    assert "charge_as_shown" in finding.flags
    assert seen.resistance_mohm is None, "a car that stands changes its current too little to read a resistance from"


def test_scooters_whose_charge_was_read_from_a_screen_have_no_power_either(data: Path) -> None:
    files = sorted((data / "micromobility/e-scooter").glob("trip_*.csv.gz"))
    for file in files:
        with gzip.open(file, "rt", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("SoC")]
        at_us = np.arange(len(rows)) * 1_000_000
        found, seen = find_segments({"charge": Series(at_us, np.array([float(row["SoC"]) for row in rows]))})
        assert (found, seen.energy_from) == ([], "")
    assert len(files) == 30
