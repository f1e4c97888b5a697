"""Erasing one vehicle of a history of 100 million points over 30 days: until nobody finds it, until no file holds it.

Ours: the whole erasure as the API process does it (audit, row, ledger, keys, history parts, log tables, punctured key tables, dead
rows, certificate), on the embedded PostgreSQL with fsync and a store process on its encrypted disk. The history is made
as condensed days are: one chunk a signal, vehicle and hour. The vehicle has been on the road each of the 30 days, so that every
part holds it: the worst there is. "Unreadable" is seen by another client of the history that asks all the time. Peer in the
same run: the engine's own lightweight DELETE of another vehicle, which hides rows and leaves them in the files.

    python -m benchmarks --only proof --parts erase [--full]        10 million points, or 100 million
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from parts import figure
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.history import History, connect
from rocade.fabric.history.process import StoreProcess
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.telemetry import Eraser, Handover, Ledger, chunks, follow_erased, store
from rocade.services.telemetry.model import BATCH, STREAM
from rocade.services.vehicles import Registry
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority import AuditLog, create_region
from rocade.trust.authority.erasure import Erasures
from rocade.trust.authority.sealing import FileCustody, Keyring
from rocade.trust.identity.directory import load_root

CLOCK, RANDOM = SystemClock(), SystemRandom()
DAYS, SIGNALS, SAMPLES = 30, 20, 3_334
"""A day of a vehicle is one hour at 1 Hz."""
FIRST_SIGNAL = 9_000
PACKAGES = (
    "rocade.fabric.database",
    "rocade.fabric.log",
    "rocade.trust.authority",
    "rocade.trust.authority.sealing",
    "rocade.trust.authority.erasure",
    "rocade.trust.authority.people",
    "rocade.services.vehicles",
    "rocade.services.consent",
    "rocade.services.telemetry",
)
type Figure = dict[str, object]


def day(refs: list[int], number: int, midnight_us: int) -> chunks.Chunks:
    """One day of all vehicles: walks of tenths, the first two signals as wide as positions are."""
    random, count = np.random.default_rng(number), len(refs) * SIGNALS
    step = np.where(np.arange(count) % SIGNALS < 2, 900, 12)
    walk = (random.standard_normal((count, SAMPLES)) * step[:, None]).astype(np.int64).cumsum(axis=1)
    begin_us = midnight_us + 8 * chunks.HOUR_US
    return chunks.Chunks(
        vehicle=np.repeat(np.array(refs, np.uint64), SIGNALS),
        signal=np.tile(np.arange(FIRST_SIGNAL, FIRST_SIGNAL + SIGNALS, dtype=np.uint32), len(refs)),
        arrived_us=np.full(count, begin_us + chunks.HOUR_US),
        start_us=np.full(count, begin_us),
        step_us=np.full(count, 1_000_000),
        rows=np.full(count, SAMPLES),
        kind=np.full(count, chunks.INTEGER, np.uint8),
        exponent=np.full(count, -1, np.int8),
        ints=walk.reshape(-1),
        floats=np.zeros(0),
    )


async def fill(history: History, refs: list[int]) -> float:
    """Thirty days that are over; seconds it took."""
    begun_s = time.perf_counter()
    await store.ensure(history)
    today_us = CLOCK.now_us() // chunks.DAY_US * chunks.DAY_US
    for number in range(DAYS):
        made = await asyncio.to_thread(day, refs, number, today_us - (DAYS + 2 - number) * chunks.DAY_US)
        await store.insert(history, made, f"bench-{number}")
    return time.perf_counter() - begun_s


async def rows_of(history: History, ref: int) -> int:
    found = await history.query(
        f"SELECT toInt64(count()) AS n FROM {chunks.TABLE.name} WHERE vehicle = {{v:UInt64}}", {"v": ref}
    )
    return int(found.column("n")[0].as_py())


async def stored(history: History) -> tuple[int, int]:
    """Points and bytes on disk."""
    found = await history.query(
        "SELECT toInt64(sum(bytes_on_disk)) AS size FROM system.parts WHERE active AND table = {t:String}",
        {"t": chunks.TABLE.name},
    )
    return await store.samples_of_table(history, chunks.TABLE.name), int(found.column("size")[0].as_py())


async def until_gone(history: History, ref: int, begun_s: float) -> float:
    """Seconds until this client, which asks all the time, finds nothing of a vehicle."""
    while await rows_of(history, ref):
        pass
    return time.perf_counter() - begun_s


async def hidden_by_engine(history: History, ref: int) -> float:
    """The peer: the engine hides rows by itself."""
    begun_s = time.perf_counter()
    await history._command(f"DELETE FROM {chunks.TABLE.name} WHERE vehicle = {ref}", None, {"mutations_sync": 2})  # type: ignore[attr-defined]  # no part of our own interface
    return time.perf_counter() - begun_s


async def fill_log(log: PostgresLog, refs: list[int]) -> None:
    """An hour of sealed records, of the shape of minutes."""
    body, now_us = b"\x01" + bytes(1_400), CLOCK.now_us()
    for _ in range(60):
        await log.append(STREAM, [Record(partition_of(VehicleRef(ref)), ref, BATCH, now_us, body) for ref in refs])


async def measure_on(url: str, history_url: str, home: Path, points: int) -> list[Figure]:
    create_region(home / "trust", "eu", "bench.rocade", CLOCK, RANDOM)
    database = await Database.connect(url)
    keyring = await Keyring.open(database, FileCustody(home / "custody"), CLOCK)
    database.keyring = keyring
    audit = AuditLog(database, home / "trust/audit", CLOCK)
    registry = Registry(database, RANDOM, CLOCK)
    vehicles = max(2, points // (DAYS * SIGNALS * SAMPLES))
    refs = [
        int((await registry.add(f"MOPED-{n:05}", "moped", "peugeot", "Kisbee", "electric", "eu")).ref)
        for n in range(vehicles)
    ]
    history, reader, log = connect(history_url), connect(history_url), PostgresLog(database)
    filled_s = await fill(history, refs)
    await fill_log(log, refs)
    there, size = await stored(history)
    print(f"{there:,} points of {vehicles} vehicles over {DAYS} days in {size / 1e6:.0f} MB, made in {filled_s:.0f} s")
    erasures = Erasures(
        database, audit, CLOCK, RANDOM, home / "erasures", home / "trust/audit", load_root(home / "trust/trust.pem")
    )
    handover = Handover(database, registry, TwinStore(database), Ledger(database), CLOCK)
    eraser = Eraser(handover, erasures, database, history, log, CLOCK)
    following = asyncio.create_task(follow_erased(database, reader))
    await asyncio.sleep(1)
    ref = refs[vehicles // 2]

    begun_s = time.perf_counter()
    unreadable = asyncio.create_task(until_gone(reader, ref, begun_s))
    ordered = await eraser.erase(ref, "bench:1", is_physical=True)
    answered_s = time.perf_counter() - begun_s
    await eraser.work()
    gone_s = time.perf_counter() - begun_s
    state = await erasures.find(ordered.id)
    assert state.done_us, "it ended without being done"
    assert not await store.held_of(history, [ref]), "parts still hold it"
    assert state.facts["parts_after"] == 0
    left, _ = await stored(history)
    assert left == there - there // vehicles, "somebody else's points are gone"
    print(", ".join(f"{name} {value}" for name, value in state.facts.items()))
    peer_s = await hidden_by_engine(history, refs[0])

    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await audit.close()
    await log.close()
    await keyring.close()
    for each in (history, reader, database):
        await each.close()
    named = f"{there / 1e6:.0f} M points, {DAYS} days"
    return [
        figure(f"erasure: unreadable for another client ({named})", await unreadable, "s", 1.0,
               peer="engine's lightweight DELETE (stays on disk)", peer_value=peer_s),
        figure("erasure: order answered", answered_s, "s", 1.0),
        figure(f"erasure: gone from disk, certified ({named}, {state.facts['parts_before']} parts)", gone_s, "s", 60.0),
        figure("erasure: history rewritten", size / 1e6, "MB"),
    ]  # fmt: skip


async def measure(*, full: bool) -> list[Figure]:
    points = 100_020_000 if full else 10_002_000
    with tempfile.TemporaryDirectory(prefix="rocade-er-") as directory:
        home = Path(directory)
        postgres, engine = EmbeddedPostgres(home / "postgres"), StoreProcess(home / "history")
        try:
            url = await asyncio.to_thread(postgres.start)
            await asyncio.to_thread(migrate, url, PACKAGES)
            return await measure_on(url, await asyncio.to_thread(engine.start), home, points)
        finally:
            await asyncio.to_thread(engine.kill)
            await asyncio.to_thread(postgres.stop)
