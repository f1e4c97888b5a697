"""History alone: insert cost, bytes a point, read latency while inserting. `python benchmarks/history.py [--seconds 60]`.

Flow: real minutes of 20 signals (benchmarks/minutes.py) dealt to 1,000 vehicles -> a store
process fed through its socket at 3,000,000 points/s -> its processor time and disk -> reads while a quarter of that goes on.
Bodies are made before the clock starts; minutes return only to other vehicles.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

from minutes import SIGNALS as DECIMALS
from minutes import drives, widen
from rocade.fabric.history import History, connect
from rocade.fabric.history.process import StoreProcess
from rocade.services.telemetry import chunks, store
from rocade.services.telemetry.chunks import HOUR_US

VEHICLES, SIGNALS, ROWS, BATCHES = 1000, 20, 60, 1250
POINTS = BATCHES * SIGNALS * ROWS
EXPONENTS = -np.array([decimals for _, decimals in DECIMALS], np.int8)
START_US = 1_700_000_000_000_000 // HOUR_US * HOUR_US


def minutes(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Shape: [count, SIGNALS, ROWS] scaled integers; runs of twenty minutes belong together."""
    found, _ = drives()
    found = [drive for drive in found if len(drive) >= 21 * ROWS]
    out = np.empty((count, SIGNALS, ROWS))
    for place in range(0, count, 20):
        drive = found[random.integers(len(found))]
        begin = random.integers(0, len(drive) - 20 * ROWS)
        out[place : place + 20] = (
            widen(drive[begin : begin + 20 * ROWS], random).reshape(20, ROWS, SIGNALS).transpose(0, 2, 1)
        )
    return np.rint(out / 10.0 ** EXPONENTS[:, None]).astype(np.int64)


def block(pool: NDArray[np.int64], number: int) -> chunks.Chunks:
    """The batches of one worker turn, in order of vehicle."""
    random = np.random.default_rng(number)
    turn = number * BATCHES + np.arange(BATCHES)
    turn = turn[np.argsort(turn % VEHICLES, kind="stable")]
    which, minute = turn % VEHICLES, turn // VEHICLES
    begin = random.integers(0, len(pool) // 20) * 20
    values = pool[(which * 20 + minute % 20 + begin) % len(pool)]
    count = BATCHES * SIGNALS
    start = START_US + np.repeat(minute * 60_000_000 + which * 59_123, SIGNALS)
    arrived = START_US + number * 75_000_000 + 60_000_000 + np.repeat(random.integers(0, 500_000, BATCHES), SIGNALS)
    return chunks.Chunks(
        vehicle=np.repeat((which.astype(np.uint64) + np.uint64(1)) * np.uint64(0x1E3779B97F4A7C15), SIGNALS),
        signal=np.tile(np.arange(1, SIGNALS + 1, dtype=np.uint32), BATCHES),
        arrived_us=arrived,
        start_us=start,
        step_us=np.full(count, 1_000_000),
        rows=np.full(count, ROWS),
        kind=np.zeros(count, np.uint8),
        exponent=np.tile(EXPONENTS, BATCHES),
        ints=values.reshape(-1),
        floats=np.zeros(0),
    )


async def feed(
    history: History, tables: list[pa.Table], first: int, per_s: float, until_s: float
) -> tuple[int, list[float]]:
    begun, sent, walls = time.monotonic(), 0, list[float]()
    while time.monotonic() - begun < until_s and sent < len(tables):
        await asyncio.sleep(max(0.0, begun + sent / per_s - time.monotonic()))
        at = time.monotonic()
        await history.insert(chunks.TABLE.name, tables[sent], f"bench {first + sent}")
        walls.append(time.monotonic() - at)
        sent += 1
    return sent, walls


async def disk(history: History) -> float:
    table = await history.query(
        "SELECT sum(bytes_on_disk) / sum(rows) / 60 AS b FROM system.parts WHERE active AND table = 'signal_chunk'"
    )
    return float(table.column("b")[0].as_py())


def percentiles(seconds: list[float]) -> str:
    return "p50 {:.1f} p99 {:.1f} max {:.1f} ms".format(*np.percentile(np.array(seconds) * 1e3, [50, 99, 100]))


async def main(seconds: float) -> None:
    pool = minutes(np.random.default_rng(7), 20_000)
    begun = time.process_time()
    tables = [chunks.rows_from(block(pool, number)) for number in range(int(seconds * 2))]
    print(
        f"rows_from {(time.process_time() - begun) / len(tables) / POINTS * 1e9:.1f} ns/point, making the block included"
    )
    with tempfile.TemporaryDirectory() as directory:
        process = StoreProcess(Path(directory))
        history = connect(process.start())
        await store.ensure(history)
        watched = psutil.Process(process.pid)
        before, begun = watched.cpu_times(), time.monotonic()
        sent, walls = await feed(history, tables, 0, 2.0, seconds)
        wall = time.monotonic() - begun
        after = watched.cpu_times()
        spent = after.user + after.system - before.user - before.system
        print(
            f"inserted {sent * POINTS / 1e6:.0f} M points, {sent * POINTS / wall / 1e6:.2f} M/s; insert {percentiles(walls)}"
        )
        print(
            f"store {spent / (sent * POINTS / 1e6):.4f} cpu s per M points, {spent / wall:.2f} core, rss {watched.memory_info().rss >> 20} MiB"
        )
        await asyncio.sleep(5)
        print(f"bytes/point {await disk(history):.3f} after natural merges")
        vehicle = (1 + 500) * 0x1E3779B97F4A7C15 & (1 << 64) - 1
        until = START_US + (int(sent * 75 / 3600) + 2) * HOUR_US
        quarter = asyncio.create_task(
            feed(history, [chunks.rows_from(block(pool, n)) for n in range(sent, sent + 30)], sent, 0.5, 45)
        )
        day, fleet, opened = list[float](), list[float](), 0
        for turn in range(200):
            at = time.monotonic()
            opened = len((await store.series(history, vehicle, 1 + turn % 20, START_US, until)).time_us)
            day.append(time.monotonic() - at)
            if turn % 5 == 0:
                at = time.monotonic()
                await store.hourly(history, [2], START_US, until)
                fleet.append(time.monotonic() - at)
            await asyncio.sleep(0.05)
        print(
            f"one signal of one vehicle, {opened} samples: {percentiles(day)}; hourly mean of all: {percentiles(fleet)}"
        )
        await quarter
        await history.query("SELECT 1")
        history_driver = history._connected()  # type: ignore[attr-defined]
        history_driver.command("OPTIMIZE TABLE signal_chunk FINAL")
        print(f"bytes/point {await disk(history):.3f} after OPTIMIZE FINAL")
        await history.close()
        process.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    asyncio.run(main(parser.parse_args().seconds))
