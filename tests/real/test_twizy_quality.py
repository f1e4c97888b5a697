"""The dirt of the 17 real Twizy files: flagged where it is, nothing lost, nothing else flagged as void or impossible.

The files are read here with the csv module alone, packed by the minute, decoded and judged; sums and counts of what comes
out equal those of the files.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rocade.core import catalogue
from rocade.core.signals import Quality
from rocade.fabric.log import Record
from rocade.services.telemetry import chunks
from rocade.services.telemetry.decoding import State, digest
from rocade.wire.batch import Batch, Clock, Column, pack

FOLDER = Path(os.environ.get("ROCADE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "twizy_gps_soc"
FILES = sorted(FOLDER.glob("T*.csv.gz"))
CATALOGUE = catalogue.standard()
COLUMNS = {
    "Soc": "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
    "Speed": "Vehicle.Speed",
    "LAT": "Vehicle.CurrentLocation.Latitude",
    "LON": "Vehicle.CurrentLocation.Longitude",
    "ALT": "Vehicle.CurrentLocation.Altitude",
}
IDS = {name: int(CATALOGUE.by_name(signal).id) for name, signal in COLUMNS.items()}
T0_US = 1_620_000_000_000_000
VOID = {
    ("T1_06_30_2021_2", "LAT", "ZERO_POSITION"): 4,
    ("T1_06_30_2021_2", "LON", "ZERO_POSITION"): 4,
    ("T3_06_07_2021", "LON", "IMPOSSIBLE_POSITION"): 3,
}


def numbers(path: Path) -> dict[str, np.ndarray]:
    """The columns of a file; the row number stands for the second."""
    with gzip.open(path, "rt", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}


@pytest.mark.skipif(not FILES, reason="the real data set is not here (ROCADE_DATA)")
def test_the_known_dirt_is_flagged_and_every_value_comes_through() -> None:
    state = State(CATALOGUE)
    found: Counter[tuple[str, str, str]] = Counter()
    for ref, path in enumerate(FILES, 1):
        name, values = path.name.removesuffix(".csv.gz"), numbers(path)
        state.sequences.load(ref, [])
        state.twins.load(ref, None)
        records = []
        for number, at in enumerate(range(0, len(values["Soc"]), 60), 1):
            some = {column: every[at : at + 60] for column, every in values.items()}
            times = T0_US + (at + np.arange(len(some["Soc"]))) * 1_000_000
            made = [Column(IDS[column], 0, every) for column, every in some.items()]
            records.append(Record(0, ref, 1, T0_US * 2, pack(Batch(1, number, int(times[-1]), [Clock(times)], made))))
        outcome = digest(records, state)
        assert not outcome.held
        stored: dict[int, list[float]] = {}
        for table in outcome.rows:
            for row in range(table.num_rows):
                part = chunks.samples_of(table.slice(row, 1))
                signal = table["signal"][row].as_py()
                stored.setdefault(signal, []).extend(part.value.tolist())
                for flags in part.quality[part.quality > 0].tolist():
                    column = next(column for column, number in IDS.items() if number == signal)
                    found.update((name, column, str(flag.name)) for flag in Quality(flags))
        for column, every in values.items():
            assert sorted(stored[IDS[column]]) == sorted(every.tolist()), (name, column)
    print(dict(found))
    void = {key: many for key, many in found.items() if key[2] in {"ZERO_POSITION", "IMPOSSIBLE_POSITION"}}
    assert void == VOID
    jumps = {key[0]: many for key, many in found.items() if key[1:] == ("Soc", "JUMP")}
    # the one-row drop to 0.02; and where the afternoon trip of 30 June pauses, for rows stand for seconds here
    assert jumps == {"T3_05_25_2021_04": 1, "T1_06_30_2021_1": 1}
    assert not [key for key in found if key[1] == "ALT" and key[2] == "OUT_OF_RANGE"]
