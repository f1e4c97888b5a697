"""Joined chunks hold exactly the samples of the chunks they came from, and are as few as the rules allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rocade.services.telemetry import chunks
from rocade.services.telemetry.chunks import FLOAT, HOUR_US, INTEGER, TEXT, Chunks
from rocade.services.telemetry.joining import is_short, join

START_US = 1_700_000_000_000_000 // HOUR_US * HOUR_US


def messages(random: np.random.Generator, count: int = 80) -> Chunks:
    """Short chunks of three vehicles and two signals in any order; some overlap, some cross hours, some are irregular."""
    rows = random.integers(1, 4, count)
    signal = random.integers(1, 3, count)
    kind = np.where(signal == 1, INTEGER, random.choice([FLOAT, TEXT], count)).astype(np.uint8)
    step = np.where(rows == 1, 1, random.choice([0, 1_000_000, 1_500_000_000], count))
    offsets = [np.sort(random.integers(0, 2 * HOUR_US, rows[c])) for c in range(count) if step[c] == 0]
    doubt_at = np.unique(random.integers(0, rows.sum(), 9))
    return Chunks(
        vehicle=random.integers(1, 4, count).astype(np.uint64),
        signal=signal.astype(np.uint32),
        arrived_us=START_US + random.choice([0, 400_000, 1_200_000], count),
        start_us=START_US + random.integers(0, 4000, count) * 1_000_000,
        step_us=step,
        rows=rows,
        kind=kind,
        exponent=np.where(kind == INTEGER, random.integers(-2, 0, count), 0).astype(np.int8),
        ints=random.integers(-(10**6), 10**6, rows[kind == INTEGER].sum()),
        floats=random.normal(size=rows[kind == FLOAT].sum()),
        words=[f"word {n}" for n in range(rows[kind == TEXT].sum())],
        offsets_us=np.concatenate([np.zeros(0, np.int64), *offsets]),
        doubt_at=doubt_at,
        doubt_flags=random.integers(1, 256, len(doubt_at)).astype(np.uint8),
    )


def samples(block: Chunks) -> list[tuple[Any, ...]]:
    """Every sample with its vehicle, signal and second of arrival, sorted."""
    table, found = chunks.rows_from(block), []
    is_text = pc.greater(pc.list_value_length(table.column("s")), 0)
    for some in (table.filter(is_text), table.filter(pc.invert(is_text))):
        read = chunks.samples_of(some)
        keys = [some.column(name).to_numpy()[read.row] for name in ("vehicle", "signal", "arrived_us")]
        found += zip(*(column.tolist() for column in (*keys, read.time_us, read.value, read.quality)), strict=True)
    return sorted(found, key=repr)


@pytest.mark.parametrize("seed", range(25))
def test_every_sample_keeps_its_time_value_quality_and_arrival(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [messages(random) for _ in range(3)]
    joined = join(parts)
    assert samples(joined) == sorted([sample for part in parts for sample in samples(part)], key=repr)
    assert len(joined.rows) < sum(len(part.rows) for part in parts)


def single(vehicle: int, second: int, value: int, arrived_us: int = 0) -> Chunks:
    return Chunks(
        vehicle=np.array([vehicle], np.uint64),
        signal=np.array([1], np.uint32),
        arrived_us=np.array([START_US + arrived_us]),
        start_us=np.array([START_US + second * 1_000_000]),
        step_us=np.array([1]),
        rows=np.array([1]),
        kind=np.array([INTEGER], np.uint8),
        exponent=np.array([-1], np.int8),
        ints=np.array([value]),
        floats=np.zeros(0),
    )


@pytest.mark.parametrize(
    ("parts", "rows", "steps"),
    [
        ([single(1, 3, 5), single(1, 1, 6), single(1, 2, 7)], [3], [1_000_000]),
        ([single(1, 1, 5), single(1, 2, 6), single(1, 4, 7)], [3], [0]),
        ([single(1, 1, 5), single(1, 1, 6)], [2], [0]),
        ([single(1, 1, 5), single(2, 2, 6)], [1, 1], [1, 1]),
        ([single(1, 1, 5), single(1, 2, 6, arrived_us=1_000_000)], [1, 1], [1, 1]),
    ],
    ids=["steady", "irregular", "same instant", "two vehicles", "two seconds of arrival"],
)
def test_single_samples_are_joined_where_they_belong_together(
    parts: list[Chunks], rows: list[int], steps: list[int]
) -> None:
    joined = join(parts)
    assert (joined.rows.tolist(), joined.step_us.tolist()) == (rows, steps)


def test_the_order_of_arrival_in_the_log_alone_decides_the_rows() -> None:
    random = np.random.default_rng(1)
    parts = [messages(random) for _ in range(2)]
    again = [pa.table(chunks.rows_from(join(parts)).to_pydict()) for _ in range(2)]
    assert again[0].equals(again[1])


def test_a_minute_is_not_short_and_three_points_are() -> None:
    assert is_short(single(1, 1, 5))
    assert not is_short(Chunks(**{n: getattr(single(1, 1, 5), n) for n in Chunks.__slots__} | {"rows": np.array([60])}))
