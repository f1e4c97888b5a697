"""The signal history on a real engine: ranges, hourly summaries, gaps, erasure, retention, exports of it."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from rocade.core.errors import Misconfigured, Refused
from rocade.core.signals import Quality
from rocade.fabric.history import History
from rocade.services.telemetry import export, retention, store
from rocade.services.telemetry.chunks import DAY_US, FLOAT, HOUR_US, INTEGER, TEXT, Chunks
from rocade.services.telemetry.retention import Rule

START_US = 1_700_000_000_000_000 // DAY_US * DAY_US
SECOND_US = 1_000_000
_tokens = itertools.count()
_vehicles = itertools.count(7_000_000_000_000_000_001)


class Told(list[tuple[str, retention.Facts]]):
    """What a run of retention would write into the audit log."""

    async def __call__(self, action: str, facts: retention.Facts) -> None:
        self.append((action, facts))


@pytest.fixture
def vehicle() -> int:
    return next(_vehicles)


async def put(
    history: History,
    vehicle: int,
    signal: int,
    start_us: int,
    values: list[float] | list[str],
    *,
    step_us: int = SECOND_US,
    arrived_us: int | None = None,
    doubts: dict[int, int] | None = None,
    kind: int = INTEGER,
) -> None:
    """One chunk; INTEGER values have two decimals."""
    numbers = np.rint(np.array(values, float) * 100).astype(np.int64) if kind == INTEGER else np.zeros(0, np.int64)
    block = Chunks(
        vehicle=np.array([vehicle], np.uint64),
        signal=np.array([signal], np.uint32),
        arrived_us=np.array([start_us + len(values) * step_us if arrived_us is None else arrived_us]),
        start_us=np.array([start_us]),
        step_us=np.array([step_us]),
        rows=np.array([len(values)]),
        kind=np.array([kind], np.uint8),
        exponent=np.array([-2], np.int8),
        ints=numbers,
        floats=np.array(values if kind == FLOAT else [], float),
        words=[str(value) for value in values] if kind == TEXT else [],
        doubt_at=np.array(sorted(doubts or {}), np.int64),
        doubt_flags=np.array([(doubts or {})[at] for at in sorted(doubts or {})], np.uint8),
    )
    await store.insert(history, block, f"test {next(_tokens)}")


async def test_a_range_is_half_open_in_order_and_holds_quality(history: History, vehicle: int) -> None:
    await put(history, vehicle, 5, START_US + HOUR_US - 30 * SECOND_US, [n / 4 for n in range(60)], doubts={31: 4})
    await put(history, vehicle, 5, START_US, [100.0, 101.0])
    from_us, until_us = START_US + SECOND_US, START_US + HOUR_US + 10 * SECOND_US
    found = await store.series(history, vehicle, 5, from_us, until_us)
    assert found.time_us[0] == from_us
    assert found.time_us[-1] == until_us - SECOND_US
    assert (np.diff(found.time_us) > 0).all()
    assert found.value.tolist() == [101.0, *(n / 4 for n in range(40))]
    assert {at: int(flag) for at, flag in enumerate(found.quality) if flag} == {32: Quality.STUCK}


async def test_many_vehicles_and_signals_come_in_order_texts_apart_from_numbers(history: History) -> None:
    vehicles = [next(_vehicles) for _ in range(20)]
    for vehicle in vehicles:
        await put(history, vehicle, 1, START_US, [1.0, 2.0])
        await put(history, vehicle, 2, START_US, ["P", "D"], kind=TEXT)
        await put(history, vehicle, 2, START_US + 60 * SECOND_US, [7.5], kind=FLOAT)
    found = [part async for part in store.samples(history, vehicles, [1, 2], START_US, START_US + HOUR_US)]
    places = [(vehicle, signal) for vehicle, signal, _ in found]
    assert places == [(v, 1) for v in vehicles] + [(v, 2) for v in vehicles for _ in range(2)]
    assert [part.value.tolist() for _, _, part in found[19:22]] == [[1.0, 2.0], ["P", "D"], [7.5]]
    assert await store.signals_of(history, vehicles[0], START_US, START_US + HOUR_US) == [1, 2]


async def test_hourly_summaries_by_group_leave_doubtful_values_out(history: History) -> None:
    first, second, third = (next(_vehicles) for _ in range(3))
    signal = 900_001
    await put(history, first, signal, START_US, [10.0, 20.0, 999.0], doubts={2: Quality.OUT_OF_RANGE})
    await put(history, second, signal, START_US + HOUR_US, [1.25, 2.25], kind=FLOAT)
    await put(history, third, signal, START_US + 60 * SECOND_US, [40.0])
    until = START_US + 2 * HOUR_US
    rows = (await store.hourly(history, [signal], START_US, until, groups={first: 1, second: 1, third: 2})).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (signal, 1, START_US, 2, 15.0, 10.0, 20.0),
        (signal, 1, START_US + HOUR_US, 2, 1.75, 1.25, 2.25),
        (signal, 2, START_US, 1, 40.0, 40.0, 40.0),
    ]
    fleet = (await store.hourly(history, [signal], START_US, until, every_us=2 * HOUR_US)).to_pylist()
    assert [(row["group"], row["count"], row["lowest"], row["highest"]) for row in fleet] == [(0, 5, 1.25, 40.0)]
    own = (await store.hourly(history, [signal], START_US, until, vehicles=[third])).to_pylist()
    assert [(row["group"], row["mean"]) for row in own] == [(third, 40.0)]
    with pytest.raises(Refused):
        await store.hourly(history, [signal], START_US + 1, until)


async def test_gaps_are_the_time_without_any_signal(history: History, vehicle: int) -> None:
    minute = 60 * SECOND_US
    await put(history, vehicle, 1, START_US, [1.0] * 60)
    await put(history, vehicle, 2, START_US + 50 * SECOND_US, [1.0] * 60)
    await put(history, vehicle, 1, START_US + 10 * minute, [1.0] * 60)
    await put(history, vehicle, 3, START_US + 20 * minute, [1.0] * 4, step_us=3 * minute)
    found = await store.gaps(history, vehicle, START_US, START_US + 30 * minute, longer_than_us=2 * minute)
    begin = START_US // SECOND_US
    assert [(g.from_us // SECOND_US - begin, g.until_us // SECOND_US - begin) for g in found] == [
        (109, 600), (659, 1200), (1200, 1380), (1380, 1560), (1560, 1740),
    ]  # fmt: skip


async def test_an_erased_vehicle_is_in_no_query_and_no_export_and_others_stay(history: History, vehicle: int) -> None:
    other = next(_vehicles)
    for who in (vehicle, other):
        await put(history, who, 1, START_US, [1.0, 2.0])
        await put(history, who, 1, START_US, [3.0], arrived_us=START_US + 9 * DAY_US)
    await store.erase_vehicles(history, [vehicle])
    parts = store.samples(history, [vehicle, other], [1], START_US, START_US + HOUR_US)
    text = b"".join([piece async for piece in export.export(parts, "csv", {vehicle: "GONE", other: "HERE"})]).decode()
    assert text.count("HERE") == 3
    assert "GONE" not in text
    named = await history.query(f"SELECT count() AS n FROM signal_chunk WHERE vehicle = {vehicle}")
    assert named.to_pylist() == [{"n": 0}]
    inactive = "SELECT name FROM system.parts WHERE table = 'signal_chunk' AND NOT active"
    async with asyncio.timeout(60):  # others may be merged just now
        while (await history.query(inactive)).num_rows:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("form", export.MEDIA_TYPES)
async def test_every_export_format_reads_back_the_same_samples(history: History, vehicle: int, form: str) -> None:
    await put(history, vehicle, 1, START_US + 1, [0.1, 48.85, -3.25], doubts={1: 2})
    await put(history, vehicle, 2, START_US, ['say "P", please', "D"], kind=TEXT)
    parts = store.samples(history, [vehicle], [1, 2], START_US, START_US + HOUR_US)
    body = b"".join([piece async for piece in export.export(parts, form, None, {1: "Speed", 2: "Gear"})])
    times = [f"2023-11-14T00:00:0{n}.00000{f}Z" for n, f in ((0, 1), (1, 1), (2, 1), (0, 0), (1, 0))]
    values = [0.1, 48.85, -3.25, 'say "P", please', "D"]
    if form == "csv":
        lines = body.decode().splitlines()
        assert lines[0] == "signal,time,value,quality"
        assert lines[2] == f"Speed,{times[1]},48.85,2"
        assert list(csv.reader(lines))[4] == ["Gear", times[3], 'say "P", please', "0"]
        assert len(lines) == 6
    elif form == "json":
        rows = json.loads(body)
        assert [row["time"] for row in rows] == times
        assert [row["value"] for row in rows] == values
        assert [row["quality"] for row in rows] == [0, 2, 0, 0, 0]
    else:
        table = pa.ipc.open_stream(body).read_all() if form == "arrow" else pyarrow.parquet.read_table(io.BytesIO(body))
        assert table.column("signal").to_pylist() == ["Speed"] * 3 + ["Gear"] * 2
        assert [
            value or text for value, text in zip(table["value"].to_pylist(), table["text"].to_pylist(), strict=True)
        ] == values
        assert table["time"][0].as_py().isoformat() == "2023-11-14T00:00:00.000001+00:00"


@pytest.mark.parametrize(
    ("form", "empty"), [("csv", b"time,value,quality\n"), ("json", b"[]\n"), ("arrow", None), ("parquet", None)]
)
async def test_an_export_of_nothing_is_whole(history: History, form: str, empty: bytes | None) -> None:
    parts = store.samples(history, [1], [1], START_US, START_US + HOUR_US)
    body = b"".join([piece async for piece in export.export(parts, form)])
    if empty is not None:
        assert body == empty
    else:
        table = pa.ipc.open_stream(body).read_all() if form == "arrow" else pyarrow.parquet.read_table(io.BytesIO(body))
        assert table.num_rows == 0


async def test_an_unknown_format_is_refused(history: History) -> None:
    with pytest.raises(Refused) as raised:
        async for _ in export.export(store.samples(history, [1], [1], 0, 1), "xls"):
            pass
    assert raised.value.code == "telemetry.export.format"


async def test_the_most_particular_rule_decides_and_counts_from_arrival_or_event(history: History) -> None:
    """Days since arrival: who stays. Rules: all 30, signal 71 five, vehicle B ten, signal 72 of B two (by event)."""
    a, b = next(_vehicles), next(_vehicles)
    now_us = START_US + 1000 * DAY_US
    await retention.apply(
        history, [Rule(30)], now_us, Told()
    )  # what other tests left in this store is not counted here
    cases = {  # (vehicle, signal, days since arrival, days since event): kept
        (a, 70, 29, 29): True, (a, 70, 31, 31): False, (a, 71, 4, 400): True, (a, 71, 6, 6): False,
        (b, 70, 9, 9): True, (b, 70, 11, 11): False, (b, 71, 4, 4): True, (b, 71, 6, 6): False,
        (b, 72, 1, 3): False, (b, 72, 1, 1): True, (a, 72, 20, 20): True,
    }  # fmt: skip
    for vehicle, signal, arrived, event in cases:
        await put(
            history, vehicle, signal, now_us - event * DAY_US, [float(arrived)], arrived_us=now_us - arrived * DAY_US
        )
    rules = [
        Rule(30),
        Rule(5, signals=(71,)),
        Rule(10, vehicles=(b,), of="b"),
        Rule(2, signals=(72,), vehicles=(b,), counted_from="event", of="Door of b"),
    ]
    told = Told()
    assert (await retention.apply(history, rules, now_us, told)).rows_erased
    kept = await history.query(
        f"SELECT vehicle, signal, intDiv({now_us} - arrived_us, {DAY_US}) AS a, intDiv({now_us} - t0_us, {DAY_US}) AS e "
        f"FROM signal_chunk WHERE vehicle IN ({a}, {b}) AND signal >= 70 ORDER BY ALL"
    )
    assert {tuple(row.values()) for row in kept.to_pylist()} == {case for case, stays in cases.items() if stays}
    assert [action for action, _ in told] == ["telemetry.retention", "telemetry.retention.done"]
    begun, done = (facts for _, facts in told)
    assert {begun[f"rule{n}"]: begun[f"rows{n}"] for n in range(4)} == {
        "Door of b: 2 days from event": 1, "all: 5 days from arrival": 2, "b: 10 days from arrival": 1,
        "all: 30 days from arrival": 1,
    }  # fmt: skip
    assert [now_us - int(begun[f"before{n}_us"]) for n in range(4)] == [days * DAY_US for days in (2, 5, 10, 30)]
    assert (done["rows"], done["rows_erased"], done["parts_after"]) == (5, 5, 0)
    assert begun.items() <= done.items()
    assert not (await retention.apply(history, rules, now_us, told)).rows_erased
    assert len(told) == 2, "a run that removes nothing is not told"


async def test_whole_days_of_arrival_are_dropped_without_rewriting(history: History, vehicle: int) -> None:
    await put(history, vehicle, 1, 400 * DAY_US, [1.0], arrived_us=400 * DAY_US)
    await put(history, vehicle, 1, 402 * DAY_US, [1.0], arrived_us=402 * DAY_US)
    applied = await retention.apply(history, [Rule(3)], 405 * DAY_US, Told())
    assert applied.days_dropped == 1
    assert (await store.series(history, vehicle, 1, 0, 500 * DAY_US)).time_us.tolist() == [402 * DAY_US]


@pytest.mark.parametrize(
    "rules", [[], [Rule(1, signals=(1,))], [Rule(1), Rule(2)], [Rule(0)], [Rule(1, counted_from="birth")]]
)
async def test_rules_that_leave_a_doubt_are_refused(history: History, rules: list[Rule]) -> None:
    with pytest.raises(Misconfigured):
        await retention.apply(history, rules, START_US, Told())
