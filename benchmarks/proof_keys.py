"""The keyring: keys by the thousand, a seal, a destruction heard in another process, a puncture.

On the embedded PostgreSQL with fsync, region key in a file. Two keyrings stand for two processes. Peers in the same run: one key a
query, as a table of wrapped keys read where it is needed would do it; and bare AES-256-GCM with a cipher object kept for the key.

    python -m benchmarks --only proof --parts keys [--full]        10,000 keys, or 100,000
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from parts import figure
from rocade.app.supervisor import MIGRATED
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.trust.authority.sealing import FileCustody, Group, Keyring, aad, open_sealed, seal

CLOCK = SystemClock()
RECORD_BYTES = 1024
SEALS = 20_000
ALONE = 1_000
DESTROYED = 40
HEARD_GOAL_MS = 1_000.0
type Figure = dict[str, object]


async def timed(work: Awaitable[object]) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    await work
    return (time.perf_counter() - begin) * 1000


async def one_by_one(url: str, owners: list[int]) -> float:
    """Milliseconds a key when each is read where it is needed, without unwrapping."""
    connection = await asyncpg.connect(url)
    try:
        begin = time.perf_counter()
        for owner in owners:
            await connection.fetchval("SELECT wrapped FROM seal_key WHERE owner = $1 AND grp = 1", owner)
        return (time.perf_counter() - begin) * 1000 / len(owners)
    finally:
        await connection.close()


def seals() -> list[Figure]:
    key, plain, place = os.urandom(32), os.urandom(RECORD_BYTES), aad(2**62, "telemetry", 1, 7)
    cipher, nonce = AESGCM(key), os.urandom(12)

    def per_record(work: object) -> float:
        begin = time.process_time()
        for _ in range(SEALS):
            work()  # type: ignore[operator]  # a function of no arguments
        return (time.process_time() - begin) / SEALS * 1e6

    sealed = seal(key, plain, place)
    bare = per_record(lambda: cipher.encrypt(nonce, plain, place))
    return [
        figure("seal a record of 1 KiB", per_record(lambda: seal(key, plain, place)), "us CPU",
               peer="AES-256-GCM, cipher kept", peer_value=bare),
        figure("open a record of 1 KiB", per_record(lambda: open_sealed(key, sealed, place)), "us CPU",
               peer="AES-256-GCM, cipher kept", peer_value=bare),
    ]  # fmt: skip


async def heard(database: Database, ours: Keyring, other: Keyring, owners: list[int]) -> list[float]:
    """Milliseconds from the commit of a destruction until the other keyring has forgotten."""
    taken = []
    for owner in owners:
        await other.fetch([(owner, Group.ROAD)])
        async with database.pool.acquire() as connection, connection.transaction():
            await ours.destroy(connection, [owner])
        begin = time.perf_counter()
        while True:
            if other.held(owner, Group.ROAD) is None:
                break
            await asyncio.sleep(0.0005)
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


async def measure(*, full: bool) -> list[Figure]:
    count = 100_000 if full else 10_000
    names = [(2**62 + 7919 * number, int(Group.ROAD)) for number in range(count)]
    with tempfile.TemporaryDirectory(prefix="rocade-keys-") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg")
        url = server.start()
        try:
            await asyncio.to_thread(migrate, url, MIGRATED)
            database = await Database.connect(url)
            ours = await Keyring.open(database, FileCustody(Path(folder) / "custody"), CLOCK)
            rows = [figure(f"make {count:,} keys", await timed(ours.ensure(names)), "ms")]
            other = await Keyring.open(database, FileCustody(Path(folder) / "custody"), CLOCK)
            alone_ms = await one_by_one(url, [owner for owner, _ in names[:ALONE]])
            cold_ms = await timed(other.fetch(names))
            rows += [
                figure(f"fetch {count:,} keys, none in memory", cold_ms, "ms",
                       peer=f"a query each (from {ALONE:,})", peer_value=alone_ms * count),
                figure(f"fetch {count:,} keys, all in memory", await timed(other.fetch(names)), "ms"),
            ]  # fmt: skip
            taken = await heard(database, ours, other, [owner for owner, _ in names[:DESTROYED]])
            rows += [
                figure("destroyed until another process has forgotten, median", statistics.median(taken), "ms"),
                figure("destroyed until another process has forgotten, longest", max(taken), "ms", HEARD_GOAL_MS),
                figure(f"puncture, {DESTROYED} destroyed, {count:,} keys", await timed(ours.puncture()), "ms"),
                figure(f"puncture with new keys for all buckets, {count:,} keys",
                       await timed(ours.puncture(everything=True)), "ms"),
            ]  # fmt: skip
            await ours.close()
            await other.close()
            await database.close()
        finally:
            server.stop()
    return rows + seals()


if __name__ == "__main__":
    import parts

    parts.show(asyncio.run(measure(full=True)))
