"""All 17 Twizy files: what goes into the batches equals an independent reading of the files, dirt included."""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from rocade.agents.vehicle import batching, mapping
from rocade.agents.vehicle.journal import Journal
from rocade.agents.vehicle.replay import read
from rocade.core.catalogue import standard
from rocade.core.ports import SystemClock, SystemRandom
from rocade.core.signals import Quality
from rocade.wire.batch import Decoded, decode_many

ROWS = {
    "T1_03_29_2021": (6189, 10), "T1_06_30_2021_1": (5200, 34), "T1_06_30_2021_2": (5903, 0), "T1_07_01_2021": (4535, 0),
    "T2_03_29_2021": (8521, 57), "T2_03_30_2021": (6868, 56), "T2_04_26_2021": (5840, 13), "T3_04_22_2021_1": (1049, 0),
    "T3_04_22_2021_2": (1098, 0), "T3_04_26_2021_1": (1032, 0), "T3_04_26_2021_2": (1033, 0), "T3_05_25_2021_04": (2517, 0),
    "T3_05_25_2021_1": (961, 0), "T3_05_25_2021_2": (1121, 0), "T3_05_25_2021_3": (953, 0), "T3_05_31_2021": (1122, 0),
    "T3_06_07_2021": (1703, 0),
}  # fmt: skip
TEXTS = ("Mode", "Weather")


def independent(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def through_the_wire(path: Path, examples: Path) -> tuple[Decoded, list[bytes], Counter[str]]:
    """Source, batches, journal, and back out of the packed bytes."""
    catalogue = standard()
    rules = mapping.load(examples / "twizy.toml", catalogue)
    reading, _ = read(path, rules, catalogue, SystemClock())
    account = reading.account
    assert account.adds_up
    with Journal(None, SystemClock(), SystemRandom()) as journal:
        journal.append(batching.cut(reading.series))
        bodies = [entry.body for entry in journal.waiting(0, 10_000)]
    counts = Counter(read=account.read, sent=account.sent, repaired=account.repaired, refused=account.refused.total())
    return decode_many(bodies), bodies, counts


@pytest.mark.parametrize("name", list(ROWS))
def test_rows_sums_texts_and_times_equal_an_independent_reading(data: Path, examples: Path, name: str) -> None:
    path = data / "twizy_gps_soc" / f"{name}.csv.gz"
    rows = independent(path)
    decoded, bodies, counts = through_the_wire(path, examples)
    expected, bad_dates = ROWS[name]
    assert len(rows) == expected
    assert counts == Counter(read=expected, sent=expected - bad_dates, repaired=bad_dates, refused=0)
    assert [reason for reason in decoded.reasons if reason] == []

    catalogue = standard()
    columns = {
        rule.name: catalogue.by_name(rule.signal, "renault").id
        for rule in mapping.load(examples / "twizy.toml", catalogue).column
    }
    sums: dict[int, Decimal] = defaultdict(Decimal)
    numbers: Counter[int] = Counter()
    words: dict[int, Counter[str]] = defaultdict(Counter)
    times: Counter[int] = Counter()
    for place, signal in enumerate(decoded.columns.signal.tolist()):
        values = decoded.columns.values_of(place)
        numbers[signal] += len(values)
        if isinstance(values, list):
            words[signal].update(values)
        else:
            sums[signal] += sum(Decimal(repr(value)) for value in values.tolist())
        if signal == columns["Speed"]:
            times.update(decoded.clocks.times_of(int(decoded.columns.clock[place])).tolist())
    for column, signal in columns.items():
        assert numbers[signal] == expected
        if column in TEXTS:
            assert words[signal] == Counter(row[column] for row in rows)
        else:
            assert sums[signal] == sum(Decimal(row[column]) for row in rows), column

    day = datetime.strptime(name[3:13], "%m_%d_%Y").replace(tzinfo=UTC)
    true_times = Counter(
        int(day.replace(hour=h, minute=m, second=s).timestamp()) * 1_000_000
        for h, m, s in (map(int, row["Time"].split(":")) for row in rows)
    )
    assert times == true_times
    speed = np.flatnonzero(decoded.columns.signal == columns["Speed"])
    marked = np.isin(decoded.mark_column, speed) & (decoded.mark_flags == Quality.TIME_REPAIRED)
    assert int(marked.sum()) == bad_dates
    assert sum(map(len, bodies)) / int(decoded.points.sum()) < 1.0


def test_all_together_are_55645_rows_with_170_impossible_dates() -> None:
    assert (sum(rows for rows, _ in ROWS.values()), sum(bad for _, bad in ROWS.values())) == (55_645, 170)


@pytest.mark.parametrize(
    ("name", "column", "value", "count"),
    [
        ("T1_06_30_2021_2", "Vehicle.CurrentLocation.Latitude", 0.0, 4),
        ("T3_06_07_2021", "Vehicle.CurrentLocation.Longitude", None, 3),
        ("T3_05_25_2021_04", "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", 0.02, 1),
    ],
)
def test_dirt_travels_unchanged(
    data: Path, examples: Path, name: str, column: str, value: float | None, count: int
) -> None:
    decoded, _, _ = through_the_wire(data / "twizy_gps_soc" / f"{name}.csv.gz", examples)
    signal = standard().by_name(column).id
    places = [place for place, other in enumerate(decoded.columns.signal.tolist()) if other == signal]
    values = [one for place in places for one in decoded.columns.values_of(place).tolist()]
    found = [one for one in values if (one == value if value is not None else abs(one - 1555.6333) < 1e-4)]
    assert len(found) == count


def test_the_raw_text_of_a_repaired_row_is_kept(data: Path, examples: Path) -> None:
    catalogue = standard()
    rules = mapping.load(examples / "twizy.toml", catalogue)
    reading, _ = read(data / "twizy_gps_soc/T1_03_29_2021.csv.gz", rules, catalogue, SystemClock())
    notes = [(note.line, note.what, note.raw) for note in reading.account.notes]
    assert notes[0] == (3264, "time repaired", "90/02/2032 12:08:07")
    assert len(notes) == 10
