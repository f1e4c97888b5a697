"""kill -9 of the store process at random moments: nothing acknowledged is lost, nothing repeated is doubled."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from rocade.core.errors import Unavailable
from rocade.fabric.history import History, Table, connect
from rocade.fabric.history.process import StoreProcess

TABLE = Table(
    name="kept",
    columns=(
        ("key", "UInt64 CODEC(Delta, ZSTD)"),
        ("day", "UInt16"),
        ("block", "UInt32"),
        ("v", "Array(Int32) CODEC(ZSTD)"),
    ),
    order_by=("key",),
    partition_by="day",
    settings={"old_parts_lifetime": 1, "cleanup_delay_period": 1, "max_cleanup_delay_period": 1},
)
ROWS, DAYS = 4000, 6


def rows(block: int) -> pa.Table:
    """One block over several day partitions; keys never repeat."""
    keys = range(block * ROWS, (block + 1) * ROWS)
    return pa.table(
        {
            "key": pa.array(keys, pa.uint64()),
            "day": pa.array([key % DAYS for key in keys], pa.uint16()),
            "block": pa.array([block] * ROWS, pa.uint32()),
            "v": pa.array([[key % 1000] * 20 for key in keys], pa.list_(pa.int32())),
        }
    )


async def insert_until_stored(history: History, block: int) -> int:
    """What a worker does: the same block under the same token until it is acknowledged. Returns the failed attempts."""
    failures = 0
    while True:
        try:
            await history.insert(TABLE.name, rows(block), f"block {block}")
        except Unavailable:
            failures += 1
            await asyncio.sleep(0.02)
        else:
            return failures


async def run(rounds: int, seed: int) -> tuple[int, int]:
    """Returns how many blocks were stored and how many inserts a kill interrupted."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="rocade-k-") as directory:
        process = StoreProcess(Path(directory))
        history = connect(process.start())
        await history.ensure(TABLE)
        stop, block, failures = asyncio.Event(), 0, 0

        async def feed() -> None:
            nonlocal block, failures
            while not stop.is_set():
                failures += await insert_until_stored(history, block)
                block += 1

        feeding = asyncio.create_task(feed())
        for _ in range(rounds):
            stored = block
            while block == stored:
                await asyncio.sleep(0.01)
            await asyncio.sleep(chance.uniform(0, 0.15))
            process.kill()
            await asyncio.to_thread(process.start)
        stop.set()
        await feeding
        found = await history.query(
            f"SELECT count() AS n, uniqExact(key) AS k, sum(key) AS s, sum(length(v)) AS l FROM {TABLE.name}"
        )
        stored = block * ROWS
        assert found.to_pylist() == [{"n": stored, "k": stored, "s": stored * (stored - 1) // 2, "l": stored * 20}]
        await history.close()
        process.stop()
    return block, failures


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.slow)])
async def test_a_store_killed_at_any_moment_keeps_each_block_exactly_once(rounds: int) -> None:
    seed = int(os.environ.get("ROCADE_SEED") or random.SystemRandom().getrandbits(32))
    print(f"seed {seed}")
    blocks, interrupted = await run(rounds, seed)
    print(f"{blocks} blocks, {interrupted} attempts failed")
    assert blocks >= rounds
    assert interrupted >= rounds
