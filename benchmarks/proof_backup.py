"""Backup and restore measured: a region of sealed log records and signal history, copied while it takes in more.

    python benchmarks/proof_backup.py [--full]

Ours: `rocade backup` and `rocade restore` as functions, everything included: snapshot, compression, sealing, checksums, fsync,
keys part; restore with indexes, migrations and `audit verify`. Peers on the same data and disk, neither sealing nor signing:
`pg_dump -Fd` and `tar` for the copy, `pg_restore` and `tar x` for the way back. Rates are of bytes before compression.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import asyncpg
import msgspec
import numpy as np

import parts
from rocade.app import backing_up, initialise
from rocade.app import configuration as settings
from rocade.app.backup.checking import Asked
from rocade.app.backup.progress import Progress
from rocade.app.supervisor import Supervisor
from rocade.fabric.database import EmbeddedPostgres
from rocade.fabric.database.embedded import wheel_binaries
from rocade.fabric.history import connect
from rocade.fabric.log import segments
from rocade.services.telemetry import chunks, store

GOAL_MB_PER_S = 100.0
HOUR_US = chunks.HOUR_US
BODY_BYTES = 8_000
SIGNALS, SAMPLES = 20, 60
BLOCK_VEHICLES = 1_000
type Figure = dict[str, object]
figure = partial(parts.figure, less=False)


async def fill_log(url: str, size_bytes: int) -> None:
    """Log rows as the gateway writes them: sealed, so nothing compresses them."""
    connection = await asyncpg.connect(url)
    await segments.roll(connection, "bench", 0, time.time_ns() // 1000)
    table = segments.table_of("bench", 1)
    random = np.random.default_rng(7)
    for first in range(0, size_bytes // BODY_BYTES, 2_000):
        rows = [(at % 16, 1, at, 1, 20, 1, at, random.bytes(BODY_BYTES)) for at in range(first + 1, first + 2_001)]
        await connection.copy_records_to_table(table.split(".")[1], schema_name="log_data", records=rows)
    await connection.close()


def block(number: int, vehicles: int = BLOCK_VEHICLES) -> chunks.Chunks:
    """A minute of many vehicles: signals that wander."""
    random = np.random.default_rng(number)
    count = vehicles * SIGNALS
    start = 1_700_000_000_000_000 // HOUR_US * HOUR_US + number * 60_000_000
    return chunks.Chunks(
        vehicle=np.repeat(np.arange(1, vehicles + 1, dtype=np.uint64), SIGNALS),
        signal=np.tile(np.arange(1, SIGNALS + 1, dtype=np.uint32), vehicles),
        arrived_us=np.full(count, start + 60_000_000),
        start_us=np.full(count, start),
        step_us=np.full(count, 1_000_000),
        rows=np.full(count, SAMPLES),
        kind=np.zeros(count, np.uint8),
        exponent=np.full(count, -1, np.int8),
        ints=np.cumsum(random.integers(-60, 61, (count, SAMPLES)), axis=1).reshape(-1),
        floats=np.zeros(0),
    )


async def fill_history(url: str, size_bytes: int) -> float:
    """Blocks until the parts weigh this much; what they weigh."""
    history = connect(url)
    await store.ensure(history)
    weight, number = 0, 0
    while weight < size_bytes:
        for _ in range(10):
            await store.insert(history, block(number), f"bench-{number}")
            number += 1
        found = await history.query("SELECT sum(bytes_on_disk) AS b FROM system.parts WHERE active")
        weight = int(found.column("b")[0].as_py())
    await history.close()
    return weight


@contextlib.asynccontextmanager
async def coming_in(url: str, history_url: str) -> AsyncIterator[list[float]]:
    """A block into the history and a row into the log, again and again; how long each pair took, in ms."""
    waits, stop = list[float](), asyncio.Event()

    async def work() -> None:
        connection, history = await asyncpg.connect(url), connect(history_url)
        small, number = block(10**6, 50), 0
        while not stop.is_set():
            begun = time.monotonic()
            await store.insert(history, small, f"live-{number}")
            await connection.execute(
                "INSERT INTO log_data.bench_1 VALUES (1, 2, $1, 1, 1, 1, 1, $2)", number, os.urandom(BODY_BYTES)
            )
            waits.append((time.monotonic() - begun) * 1000)
            number += 1
            await asyncio.sleep(0.3)
        await connection.close()
        await history.close()

    running = asyncio.create_task(work())
    try:
        yield waits
    finally:
        stop.set()
        await running


def cpu_s() -> float:
    """Of this process and of those it has waited for (an embedded PostgreSQL that was stopped)."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def peer_dump(url: str, home: Path) -> float:
    begun = time.monotonic()
    run(wheel_binaries() / "pg_dump", "-Fd", "-Z0", "-f", home / "dump", "-d", url)
    return time.monotonic() - begun


def peer_tar(history: Path, home: Path) -> float:
    """Of a history that nobody writes: tar fails where the engine merges parts meanwhile."""
    tar = home / "history.tar"
    begun = time.monotonic()
    run("tar", "cf", tar, "-C", history, ".")
    run("sync", tar)
    return time.monotonic() - begun


def peer_in(home: Path) -> float:
    begun = time.monotonic()
    server = EmbeddedPostgres(home / "peer-pg")
    try:
        run(wheel_binaries() / "pg_restore", "-d", server.start(), home / "dump")
    finally:
        server.stop()
    back = home / "peer-history"
    back.mkdir()
    run("tar", "xf", home / "history.tar", "-C", back)
    run("sync", "-f", back)
    return time.monotonic() - begun


async def measure(*, full: bool) -> list[Figure]:
    log_bytes, history_bytes = (1_200_000_000, 600_000_000) if full else (160_000_000, 80_000_000)
    with tempfile.TemporaryDirectory(prefix="rocade-backup-", dir=os.environ.get("ROCADE_BENCH_DIR")) as name:
        home = Path(name)
        initialise.create(home / "eu", "eu", "bench.rocade")
        configuration = settings.load(home / "eu")
        supervisor = Supervisor(configuration)
        await supervisor.start(("store",))
        try:
            url, history_url = supervisor.database_url, configuration.effective_history_url
            await fill_log(url, log_bytes)
            weight = await fill_history(history_url, history_bytes)
            print(f"history {weight / 1e6:.0f} MB on disk")
            wanted = backing_up.wanted(configuration, str(home / "bk"), str(home / "keys"), None, None)
            said = list[str]()
            async with coming_in(url, history_url) as waits:
                await asyncio.sleep(1)
                before = max(waits)
                begun, spent = time.monotonic(), cpu_s()
                said = await asyncio.to_thread(backing_up.back_up, configuration, wanted, Progress())
                out_s, out_cpu_s = time.monotonic() - begun, cpu_s() - spent
            print(*said, sep="\n")
            begun = time.monotonic()
            await asyncio.to_thread(
                backing_up.back_up, configuration, msgspec.structs.replace(wanted, to=""), Progress()
            )
            again_s = time.monotonic() - begun
            peer_out_s = await asyncio.to_thread(peer_dump, url, home)
        finally:
            await supervisor.stop()
        peer_out_s += await asyncio.to_thread(peer_tar, configuration.root / "history" / "sealed", home)
        asked = Asked(str(home / "bk"), str(home / "keys"), home / "eu" / "erasures", home / "back")
        begun = time.monotonic()
        check = await asyncio.to_thread(backing_up.put_back, msgspec.structs.replace(asked, dry_run=True), Progress())
        check_s = time.monotonic() - begun
        print(*check, sep="\n")
        shutil.rmtree(home / "eu" / "postgres")
        begun, spent = time.monotonic(), cpu_s()
        done = await asyncio.to_thread(backing_up.put_back, asked, Progress())
        back_s, back_cpu_s = time.monotonic() - begun, cpu_s() - spent
        print(*done, sep="\n")
        peer_in_s = await asyncio.to_thread(peer_in, home)
        size_mb = float(done[0].rsplit(", ", 1)[1].removesuffix(" MB").replace(",", ""))
    held = next(line for line in said if line.startswith("workers waited")).split()[2]
    return [
        figure("backup", size_mb / out_s, "MB/s", GOAL_MB_PER_S, peer="pg_dump -Fd -Z0, then tar",
               peer_value=size_mb / peer_out_s, size_mb=size_mb, cpu_s=round(out_cpu_s, 1), while_taking_in=True),
        figure("restore", size_mb / back_s, "MB/s", GOAL_MB_PER_S, peer="pg_restore, then tar x",
               peer_value=size_mb / peer_in_s, size_mb=size_mb, cpu_s=round(back_cpu_s, 1)),
        figure("restore, dry run: every checksum", size_mb / check_s, "MB/s"),
        figure("keys part alone", again_s * 1000, "ms"),
        figure("worker's blocks held back by a backup", float(held), "ms"),
        figure("longest insert while the backup ran", max(waits), "ms", before_ms=round(before, 1)),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="1.8 GB instead of 240 MB")
    for row in asyncio.run(measure(full=parser.parse_args().full)):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
