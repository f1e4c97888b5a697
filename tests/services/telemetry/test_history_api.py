"""The history through the HTTP API, with a real store process: ranges, windows, formats, the fleet, erasure."""

from __future__ import annotations

import csv
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pyarrow import ipc, parquet

from rocade.core import catalogue
from rocade.core.errors import Refused, Unavailable
from rocade.core.signals import Quality
from rocade.doors.http.sessions import TOUCH
from rocade.fabric.history import connect
from rocade.fabric.history.process import StoreProcess
from rocade.services.telemetry import store
from rocade.services.telemetry.chunks import TEXT, Chunks
from rocade.trust.authority.erasure import Erasure
from rocade.trust.authority.gate.acts import ERASE

sys.path.insert(0, str(Path(__file__).parents[2] / "console"))
import toytown

START_US = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z
HOURS = 3
NAMES = ("Vehicle.Speed", "Vehicle.Exterior.AirTemperature")


NUMBER = "00000000000000aa"


class ToyEraser:
    """Notes what was ordered and removes it from the history; it has one erasure under way."""

    def __init__(self, history: Any) -> None:
        self.history, self.ordered = history, list[tuple[int, str, bool]]()
        self.erasures = self

    async def erase(self, ref: int, actor: str, *, is_physical: bool) -> Erasure:
        self.ordered.append((ref, actor, is_physical))
        await store.erase_vehicles(self.history, [ref])
        return await self.find(NUMBER)

    async def find(self, number: str) -> Erasure:
        if number != NUMBER:
            raise Refused("erasure.unknown", "no such erasure")
        ref, actor, is_physical = self.ordered[-1]
        return Erasure(NUMBER, f"vehicle:{ref}", ref, 99, actor, START_US, is_physical, "forgotten")

    async def certificate(self, _number: str) -> bytes:
        raise Unavailable("erasure.certificate.early", "not yet")

    async def run(self) -> None: ...


class Api:
    def __init__(self, address: str, token: str, toys: toytown.Toys, services: Any) -> None:
        self.eraser = services.eraser
        self.client = httpx.Client(base_url=address, headers=toytown.signed_in(address), timeout=60)
        self.toys = toys
        self.audit = services.audit
        self.refs = list(toys.vehicles)

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.client.get(path, params=parameters)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    toys = toytown.Toys(4)
    with tempfile.TemporaryDirectory(prefix="rocade-ha-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        toytown.run(fill(process.url, list(toys.vehicles)))
        history = connect(process.url)
        services, token = toytown.services(
            toys, tmp_path_factory.mktemp("api"), history=history, eraser=ToyEraser(history)
        )
        with toytown.Served(services) as served:
            yield Api(served.address, token, toys, services)
        process.stop()


async def fill(url: str, refs: list[int]) -> None:
    """Three hours of speed for all vehicles; the first has a jump, a temperature and a drive mode too."""
    history, names = connect(url), catalogue.standard()
    await store.ensure(history)
    speed = names.by_name(NAMES[0]).id
    for number, ref in enumerate(refs):
        ramp = np.arange(HOURS * 3600) % 100 + number * 10.0
        if not number:
            ramp[30] = 900.0
        await store.insert(
            history,
            toytown.samples(ref, speed, START_US, ramp, {} if number else {30: int(Quality.JUMP)}),
            f"speed-{ref}",
        )
    temperature = np.full(HOURS * 3600, 11.5)
    await store.insert(
        history, toytown.samples(refs[0], names.by_name(NAMES[1]).id, START_US, temperature), "temperature"
    )
    text = names.by_name("Vehicle.VehicleIdentification.Brand").id
    one = toytown.samples(refs[0], text, START_US, np.zeros(0))
    words = Chunks(**{name: getattr(one, name) for name in one.__slots__} | {"kind": np.array([TEXT], np.uint8), "rows": np.array([2]), "words": ["Renault", 'Re"n,ault']})  # fmt: skip
    await store.insert(history, words, "text")
    await history.close()


def test_a_range_comes_as_csv_with_time_value_quality(api: Api) -> None:
    answer = api.get(
        f"/v1/vehicles/{api.refs[0]}/history", signal=NAMES[0], format="csv",
        **{"from": "2026-11-21T00:00:29Z", "to": "2026-11-21T00:00:32"},
    )  # fmt: skip
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.replace('"', "").splitlines() == [
        "time,value,quality",
        "2026-11-21T00:00:29.000000Z,29,0",
        "2026-11-21T00:00:30.000000Z,900,2",
        "2026-11-21T00:00:31.000000Z,31,0",
    ]


def test_every_format_holds_the_same_rows(api: Api) -> None:
    path, asked = f"/v1/vehicles/{api.refs[0]}/history", {"signal": NAMES[0]}
    lines = list(csv.DictReader(io.StringIO(api.get(path, **asked, format="csv").text)))
    items = api.get(path, **asked, format="json").json()
    arrow = ipc.open_stream(api.get(path, **asked, format="arrow").content).read_all()
    table = parquet.read_table(io.BytesIO(api.get(path, **asked, format="parquet").content))
    assert len(lines) == len(items) == arrow.num_rows == table.num_rows == HOURS * 3600
    totals = {sum(float(line["value"]) for line in lines), sum(item["value"] for item in items)}
    assert totals == {sum(arrow.column("value").to_pylist())} == {sum(table.column("value").to_pylist())}
    assert str(arrow.schema.field("time").type) == "timestamp[us, tz=UTC]"


WINDOWS = [
    ("60s", "mean", 29.5, HOURS * 60),
    ("60s", "min", 0.0, HOURS * 60),
    ("60s", "max", 59.0, HOURS * 60),
    ("60s", "last", 59.0, HOURS * 60),
    ("60s", "count", 59.0, HOURS * 60),
    ("7m", "max", 99.0, -(-HOURS * 60 // 7) + 1),
    ("2h", "min", 0.0, 2),
    ("1d", "max", 99.0, 1),
]


@pytest.mark.parametrize(("every", "aggregate", "first", "count"), WINDOWS)
def test_windows_count_good_values_only_and_span_stored_hours(
    api: Api, every: str, aggregate: str, first: float, count: int
) -> None:
    asked = {"signal": NAMES[0], "every": every, "agg": aggregate}
    items = api.get(f"/v1/vehicles/{api.refs[0]}/history", **asked).json()
    assert abs(len(items) - count) <= 1
    expected = first if aggregate != "mean" else (sum(range(60)) - 30) / 59
    assert items[0]["value"] == pytest.approx(expected)
    assert len({item["time"] for item in items}) == len(items), "a window was answered in two pieces"


def test_many_vehicles_and_signals_are_told_apart(api: Api) -> None:
    asked = {"ref": api.refs[:2], "signal": list(NAMES), "every": "1h", "agg": "max"}
    items = api.get("/v1/history", **asked).json()
    assert {(item["vehicle"], item["signal"]) for item in items} == {
        (str(api.refs[0]), NAMES[0]),
        (str(api.refs[0]), NAMES[1]),
        (str(api.refs[1]), NAMES[0]),
    }
    assert len(items) == 3 * HOURS


def test_a_text_signal_keeps_its_words(api: Api) -> None:
    asked = {"signal": "Vehicle.VehicleIdentification.Brand", "format": "csv"}
    lines = list(csv.DictReader(io.StringIO(api.get(f"/v1/vehicles/{api.refs[0]}/history", **asked).text)))
    assert [line["value"] for line in lines] == ["Renault", 'Re"n,ault']


def test_the_fleet_is_summed_up_by_hour_and_brand(api: Api) -> None:
    whole = api.get("/v1/fleet/history", signal=NAMES[0]).json()["items"]
    assert [line["count"] for line in whole] == [3600 * 4 - 1, 3600 * 4, 3600 * 4]
    assert max(line["max"] for line in whole) == 99 + 30
    grouped = api.get("/v1/fleet/history", signal=NAMES[0], by="brand").json()["items"]
    assert {line["group"] for line in grouped} == {vehicle.brand for vehicle in api.toys.vehicles.values()}
    assert sum(line["count"] for line in grouped) == sum(line["count"] for line in whole)


def test_every_read_of_a_vehicle_is_audited(api: Api) -> None:
    before = len(api.audit.entries)
    api.get("/v1/history", ref=api.refs[1:3], signal=NAMES[0], every="1h")
    noted = api.audit.entries[before:]
    assert [entry.subject for entry in noted] == [f"vehicle:{ref}" for ref in sorted(api.refs[1:3])]
    assert {(entry.action, entry.actor[:6]) for entry in noted} == {("telemetry.history.read", "person")}


REFUSED = [
    ({"signal": "Vehicle.Nonsense"}, "catalogue.signal.unknown"),
    ({"signal": NAMES[0], "from": "yesterday"}, "telemetry.range.instant"),
    ({"signal": NAMES[0], "from": "2026-11-22", "to": "2026-11-21"}, "telemetry.range.empty"),
    ({"signal": NAMES[0], "every": "0s"}, "telemetry.range.every"),
    ({"signal": NAMES[0], "every": "soon"}, "telemetry.range.every"),
    ({"signal": NAMES[0], "agg": "mode"}, "telemetry.history.aggregate"),
    ({"signal": NAMES[0], "format": "xls"}, "telemetry.export.format"),
    ({"signal": [NAMES[0], "Vehicle.VehicleIdentification.Brand"]}, "telemetry.history.text"),
    ({}, "http.request.invalid"),
]


@pytest.mark.parametrize(("asked", "code"), REFUSED)
def test_a_wrong_question_is_refused_with_its_reason(api: Api, asked: dict[str, Any], code: str) -> None:
    answer = api.get(f"/v1/vehicles/{api.refs[0]}/history", **asked)
    assert answer.status_code in {400, 404}
    assert answer.json()["code"] == code


def test_an_unknown_vehicle_among_many_is_refused(api: Api) -> None:
    answer = api.get("/v1/history", ref=[api.refs[0], 99], signal=NAMES[0])
    assert (answer.status_code, answer.json()["code"]) == (404, "vehicles.unknown")


def test_curves_are_thinned_to_the_points_asked_for(api: Api) -> None:
    speed = int(catalogue.standard().by_name(NAMES[0]).id)
    asked = {"signal": speed, "from_us": START_US, "until_us": START_US + HOURS * 3_600_000_000, "points": 100}
    curve = api.get(f"/live/vehicles/{api.refs[1]}/curves", **asked).json()["curves"][0]
    assert 95 <= len(curve["times_s"]) <= 101
    assert (min(curve["low"]), max(curve["high"])) == (10.0, 109.0)
    everything = api.get(f"/live/vehicles/{api.refs[1]}/curves", **{**asked, "from_us": 0}).json()
    assert everything["from_us"] >= START_US
    assert len(everything["curves"][0]["times_s"]) == HOURS


def test_erasing_is_planned_then_recorded_then_done(api: Api) -> None:
    ref = api.refs[3]
    path, touch = f"/v1/vehicles/{ref}/data", f"{ERASE.name} vehicle:{ref}"
    planned = {"params": {"dry_run": "true"}, "headers": {TOUCH: f"{touch}?dry_run=true"}}
    assert api.client.delete(path, **planned).json() == {"ref": str(ref), "points": HOURS * 3600, "is_done": False}
    assert api.client.delete(path).json()["code"] == "gate.touch"
    nobodys = api.client.delete("/v1/vehicles/99/data", headers={TOUCH: f"{ERASE.name} vehicle:99"})
    assert nobodys.json()["code"] == "vehicles.unknown"
    done = api.client.delete(path, params={"physical": "true"}, headers={TOUCH: f"{touch}?physical=true"}).json()
    assert done == {"ref": str(ref), "points": HOURS * 3600, "is_done": True, "erasure": NUMBER}
    assert api.eraser.ordered == [(ref, "person:000000000000000a", True)]
    assert api.get(f"/v1/erasures/{NUMBER}").json()["step"] == "forgotten"
    assert api.get(f"/v1/erasures/{NUMBER}/certificate").json()["code"] == "erasure.certificate.early"
    assert api.get("/v1/erasures/ffff").json()["code"] == "erasure.unknown"
    assert api.client.delete(path, **planned).json()["points"] == 0
    asked = {"ref": ref, "signal": NAMES[0], "format": "csv"}
    assert api.get("/v1/history", **asked).text == "time,value,quality\n"


def test_trips_are_found_in_the_stored_speed(api: Api) -> None:
    asked = {"from": "2026-11-20", "to": "2026-11-22"}
    trips = api.get(f"/v1/vehicles/{api.refs[1]}/trips", **asked).json()["items"]
    assert len(trips) == 1
    assert trips[0]["start_us"] == START_US
    assert trips[0]["distance_km"] == pytest.approx(59.5 * HOURS, rel=0.01)
    too_long = api.get(f"/v1/vehicles/{api.refs[1]}/trips", **{"from": "2020-01-01"})
    assert too_long.json()["code"] == "telemetry.range.trips"
