"""What is written in files: the same samples in each form, whole, marked; the zip that explains itself."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from tests.services.sharing.conftest import SIGNALS, SOC, SPEED

from rocade.core.errors import Refused
from rocade.core.ports import SystemClock
from rocade.services.sharing import files, whole
from rocade.services.sharing.records import about
from rocade.services.telemetry.chunks import Samples

T0_US = 1_780_000_000_000_000
TEXT = int(next(one.id for one in SIGNALS if one.is_text and one.data_class == "condition"))
HEALTH = int(SIGNALS.by_name("Vehicle.Powertrain.TractionBattery.StateOfHealth").id)


def part(signal: int, values: list[Any]) -> tuple[int, int, Samples]:
    size = len(values)
    kept = np.array(values, object if isinstance(values[0], str) else np.float64)
    return 1, signal, Samples(T0_US + np.arange(size) * 500_000, kept, np.arange(size).astype(np.uint8), np.zeros(size, np.int64))  # fmt: skip


PARTS = [
    part(SPEED, [1.5, float("nan"), -3.0]),
    part(SPEED, [4.0]),
    part(TEXT, ['a,"b"\n', "=1+1"]),
    part(HEALTH, [96.25]),
]


async def parts() -> AsyncIterator[tuple[int, int, Samples]]:
    for one in PARTS:
        yield one


async def written(form: str) -> bytes:
    return b"".join([piece async for piece in files.write(parts(), form, lambda one: about(SIGNALS, one))])


async def test_each_form_holds_the_same_samples_with_their_marks() -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(await written("parquet")))
    rows = list(csv.DictReader(io.StringIO((await written("csv")).decode())))
    entries = json.loads(await written("json"))
    assert table.num_rows == len(rows) == sum(len(one["value"]) for one in entries) == 7
    assert table.column("origin").to_pylist() == ["raw"] * 6 + ["derived"]
    assert [row["origin"] for row in rows] == table.column("origin").to_pylist()
    assert rows[0]["time"] == "2026-05-28T20:26:40.000000Z" == entries[0]["time"][0]
    assert [row["text"] for row in rows[4:6]] == ['a,"b"\n', "=1+1"] == entries[2]["value"]
    assert table.column("quality").to_pylist() == [0, 1, 2, 0, 0, 1, 0] == [int(row["quality"]) for row in rows]
    assert entries[0]["value"] == [1.5, None, -3.0], "no number is no number in JSON"
    assert entries[0]["unit"] == "km/h"


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
async def test_of_nothing_there_is_a_file_too(form: str) -> None:
    async def none() -> AsyncIterator[tuple[int, int, Samples]]:
        for one in PARTS[:0]:
            yield one

    found = b"".join([piece async for piece in files.write(none(), form, lambda one: about(SIGNALS, one))])
    assert found


async def test_another_form_is_refused_before_anything_is_written() -> None:
    with pytest.raises(Refused) as refused:
        await written("xlsx")
    assert refused.value.code == "sharing.form"


class OneVehicle:
    """A history that holds PARTS."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(whole.history_store, "signals_of", self.signals_of)
        monkeypatch.setattr(whole.history_store, "samples", self.samples)

    async def signals_of(self, _history: object, _ref: int, _from_us: int, _until_us: int) -> list[int]:
        return sorted({SPEED, TEXT, HEALTH})

    async def samples(
        self, _history: object, _refs: list[int], signals: list[int], _from_us: int, _until_us: int
    ) -> AsyncIterator[tuple[int, int, Samples]]:
        for one in PARTS:
            if one[1] in signals:
                yield one


@pytest.mark.parametrize("is_owner", [True, False])
async def test_the_zip_holds_what_may_be_seen_and_says_what_it_holds(
    monkeypatch: pytest.MonkeyPatch, *, is_owner: bool
) -> None:
    history: Any = OneVehicle(monkeypatch)
    seen: list[whole.Contents] = []

    async def rows(_ref: int) -> list[dict[str, Any]]:
        return [{"id": "grant-1", "note": "=HYPERLINK(1)", "classes": ("driving",)}]

    async def derived(ref: int, classes: Sequence[str]) -> list[dict[str, Any]] | None:
        return await rows(ref) if "driving" in classes else None

    async def places(ref: int, classes: Sequence[str]) -> list[dict[str, Any]] | None:
        return await rows(ref) if "location" in classes else None

    def index(contents: whole.Contents) -> dict[str, bytes]:
        seen.append(contents)
        return {"index.html": b"<h1>all</h1>"}

    readers = {"trips": derived, "places": places}
    made = whole.Whole(history, SIGNALS, SystemClock(), readers, {"permissions": rows})
    pieces = [piece async for piece in made.zipped(1, ("driving", "energy"), index, is_owner=is_owner)]
    assert len(pieces) > 3, "streamed"
    found = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert found.testzip() is None
    names = {name for name in found.namelist() if name.startswith("data/")}
    assert names == {f"data/{kind}.{form}" for kind in ("driving", "energy") for form in whole.FORMS}
    assert ("agreements/permissions.json" in found.namelist()) is is_owner
    assert not [name for name in found.namelist() if "places" in name], "classes that do not suffice give no file"
    speed = seen[0].kinds[0].signals[0]
    assert (speed.name, speed.samples, speed.first_us) == ("Vehicle.Speed", 4, T0_US)
    assert seen[0].kinds[1].signals[0].origin == "derived"
    assert "'=HYPERLINK(1)" in found.read("derived/trips.csv").decode(), "no formula for a spreadsheet"
    assert SOC not in {TEXT, HEALTH}
