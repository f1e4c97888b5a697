"""Samples -> rows -> samples, against a reading sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from rocade.services.telemetry import chunks
from rocade.services.telemetry.chunks import DOUBTFUL, FLOAT, HOUR_US, INTEGER, REAL, Chunks

START_US = 1_700_000_000_000_000


def mixed(seed: int, count: int = 60) -> Chunks:
    """All kinds of chunk: empty, regular and irregular clocks, long ones over many hours, wide integers, NaN, doubts."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 50, count)
    kind = random.integers(0, 3, count).astype(np.uint8)
    steps = np.array([1, 1_000_000, 60_000_000, 1_900_000_000, 7_300_000_000])
    step = np.where(random.random(count) < 0.4, 0, random.choice(steps, count))
    ints = random.integers(-(10**6), 10**6, rows[kind == INTEGER].sum())
    ints[random.integers(0, len(ints), 5)] = random.choice([2**40 + 1, -(2**52), 40_000, 2**31], 5)
    floats = random.normal(size=rows[kind == FLOAT].sum())
    floats[:3] = [np.nan, np.inf, -np.inf]
    spans = [3 * HOUR_US if random.random() < 0.3 else 1_000_000 for _ in range(count)]
    offsets = [np.sort(random.integers(0, spans[c], rows[c])) for c in range(count) if step[c] == 0]
    doubt_at = np.unique(random.integers(0, rows.sum(), rows.sum() // 20))
    return Chunks(
        vehicle=np.arange(count, dtype=np.uint64),
        signal=np.arange(count, dtype=np.uint32),
        arrived_us=np.full(count, START_US),
        start_us=START_US + random.integers(0, HOUR_US, count),
        step_us=step,
        rows=rows,
        kind=kind,
        exponent=random.integers(-7, 3, count).astype(np.int8),
        ints=ints,
        floats=floats,
        words=[f"word {n % 7}" for n in range(rows[kind == chunks.TEXT].sum())],
        offsets_us=np.concatenate(offsets),
        doubt_at=doubt_at,
        doubt_flags=random.integers(1, 256, len(doubt_at)).astype(np.uint8),
    )


def one_by_one(block: Chunks) -> list[tuple[int, int, Any, int]]:
    quality = np.zeros(block.rows.sum(), int)
    quality[block.doubt_at] = block.doubt_flags
    ints, floats, words = iter(block.ints.tolist()), iter(block.floats.tolist()), iter(block.words)
    offsets, found = iter(block.offsets_us.tolist()), []
    for c, rows in enumerate(block.rows):
        for k in range(rows):
            time_us = int(block.start_us[c]) + (
                int(k * block.step_us[c]) or (next(offsets) if not block.step_us[c] else 0)
            )
            exponent = int(block.exponent[c])
            value: Any = None
            if block.kind[c] == INTEGER:
                whole = float(next(ints))
                value = whole / 10.0**-exponent if exponent < 0 else whole * 10.0**exponent
            else:
                value = next(floats) if block.kind[c] == FLOAT else next(words)
            found.append((c, time_us, value, int(quality[len(found)])))
    return found


def read_back(table: pa.Table) -> list[tuple[int, int, Any, int]]:
    samples = chunks.samples_of(table)
    vehicle = table.column("vehicle").to_numpy()[samples.row]
    parallel = (vehicle, samples.time_us, samples.value, samples.quality)
    return list(zip(*(column.tolist() for column in parallel), strict=True))


@pytest.mark.parametrize("seed", range(25))
def test_every_sample_comes_back_exactly(seed: int) -> None:
    block = mixed(seed)
    table = chunks.rows_from(block)
    is_text = pc.greater(pc.list_value_length(table.column("s")), 0)
    expected = one_by_one(block)
    assert read_back(table.filter(is_text)) == [row for row in expected if isinstance(row[2], str)]
    numbers = [row for row in expected if not isinstance(row[2], str)]
    assert repr(read_back(table.filter(pc.invert(is_text)))) == repr(numbers)  # repr: NaN equals itself


@pytest.mark.parametrize("seed", range(5))
def test_no_chunk_crosses_an_hour_and_summaries_count_good_numbers_only(seed: int) -> None:
    table = chunks.rows_from(mixed(seed))
    for row in range(table.num_rows):
        one = table.slice(row, 1)
        found, stored = chunks.samples_of(one), one.to_pylist()[0]
        assert len(set((found.time_us // HOUR_US).tolist())) == 1
        if found.value.dtype == object:
            assert stored["n"] == 0
            continue
        good = found.value[((found.quality & DOUBTFUL) == 0) & np.isfinite(found.value)]
        assert stored["n"] == len(good)
        if len(good):
            whole = [
                stored["first"] * stored["n"] + stored["total"],
                stored["first"] + stored["low"],
                stored["first"] + stored["high"],
            ]
            real = np.array([stored[name] for name in ("total", "low", "high")]).view(np.float64)
            sums = real if stored["exponent"] == REAL else np.array(whole) * 10.0 ** stored["exponent"]
            assert np.allclose(sums, [good.sum(), good.min(), good.max()], rtol=1e-9, atol=1e-6)


def test_a_longitude_that_overflows_32_bits_stays_exact() -> None:
    values = np.array([15_556_333_000, -67_654_321, 15_556_333_001])
    one = np.ones(1, np.int64)
    longitude = Chunks(
        one.astype(np.uint64), one.astype(np.uint32), one * START_US, one * START_US, one, one * 3, np.zeros(1, np.uint8),
        np.array([-7], np.int8), values, np.zeros(0),
    )  # fmt: skip
    assert chunks.samples_of(chunks.rows_from(longitude)).value.tolist() == [1555.6333, -6.7654321, 1555.6333001]
