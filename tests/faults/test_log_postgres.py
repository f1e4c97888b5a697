"""The PostgreSQL log under fire: what was acknowledged is there once, what was refused is not there at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import PostgresLog

EVERY = range(64)
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rocade log writer'"


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rocade-f-") as name:
        yield Path(name) / "home"


@pytest.fixture
async def server(home: Path) -> AsyncIterator[tuple[EmbeddedPostgres, Database]]:
    postgres = EmbeddedPostgres(home)
    url = postgres.start()
    migrate(url, ["rocade.fabric.log"])
    database = await Database.connect(url)
    yield postgres, database
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(database.close(), 30)
    postgres.stop()


class Sender:
    """Appends numbered records as a door does: an append that is refused is sent again under new numbers."""

    def __init__(self, log: PostgresLog, first: int = 0) -> None:
        self.log = log
        self.next = first
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.longest_pause_s = 0.0

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            numbers = range(self.next, self.next + 1 + self.next % 40)
            self.next = numbers.stop
            began = time.monotonic()
            try:
                await self.log.append("telemetry", [Record(n % 64, n, 1, n, b"%0200d" % n) for n in numbers])
                self.acknowledged.update(numbers)
            except Unavailable:
                self.refused.update(numbers)
                await asyncio.sleep(0.05)
            self.longest_pause_s = max(self.longest_pause_s, time.monotonic() - began)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def stored(log: PostgresLog) -> Counter[int]:
    found: Counter[int] = Counter()
    cursor: dict[tuple[int, int], int] = {}
    while True:
        each = await log.read("telemetry", EVERY, cursor, 5_000, 4 << 20)
        if not each.records:
            return found
        cursor |= each.positions
        found.update(record.key for record in each.records)


async def assert_exact(log: PostgresLog, *senders: Sender) -> None:
    found = await stored(log)
    acknowledged = set().union(*(sender.acknowledged for sender in senders))
    refused = set().union(*(sender.refused for sender in senders))
    assert acknowledged, "nothing was acknowledged, nothing was tested"
    assert acknowledged - found.keys() == set(), "acknowledged and lost"
    assert [key for key, count in found.items() if count > 1] == [], "doubled"
    assert refused & found.keys() == set(), "refused and yet stored"


async def test_a_writer_whose_connection_is_cut_again_and_again_loses_and_doubles_nothing(
    server: tuple[EmbeddedPostgres, Database],
) -> None:
    database = server[1]
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    logs = [PostgresLog(database), PostgresLog(database)]
    senders = [Sender(logs[0]), Sender(logs[1], first=10_000_000)]
    over = asyncio.Event()
    sending = [asyncio.create_task(sender.run(over)) for sender in senders]
    for _ in range(60):
        await asyncio.sleep(chance.uniform(0.0, 0.06))
        await database.pool.execute(TERMINATE)
    await until(lambda: all(sender.acknowledged for sender in senders))
    over.set()
    await asyncio.gather(*sending)
    await assert_exact(logs[0], *senders)
    for log in logs:
        await log.close()


async def test_backends_killed_with_9_bring_the_whole_server_down_and_nothing_is_lost(
    server: tuple[EmbeddedPostgres, Database],
) -> None:
    """PostgreSQL restarts all its processes when one is killed."""
    database = server[1]
    log = PostgresLog(database)
    sender = Sender(log)
    over = asyncio.Event()
    sending = asyncio.create_task(sender.run(over))
    for _ in range(3):
        await asyncio.sleep(0.4)
        pid = await _writer_pid(database)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.6)
    await until(lambda: bool(sender.acknowledged))
    over.set()
    await asyncio.wait_for(sending, 60)
    await assert_exact(log, sender)
    await log.close()


async def _writer_pid(database: Database) -> int | None:
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'rocade log writer'"
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return await database.pool.fetchval(query)
    return None


async def _outage(server: tuple[EmbeddedPostgres, Database], home: Path, seconds: float) -> None:
    """kill -9 of the server in the middle of commits, `seconds` without database, then it is back."""
    postgres, database = server
    log = PostgresLog(database)
    sender = Sender(log)
    over = asyncio.Event()
    sending = asyncio.create_task(sender.run(over))
    await asyncio.sleep(0.7)
    before = len(sender.acknowledged)
    os.kill(int((home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(seconds)
    assert not sending.done()
    await asyncio.to_thread(postgres.start)
    await until(lambda: len(sender.acknowledged) > before)  # intake comes back
    over.set()
    await asyncio.wait_for(sending, 60)
    await assert_exact(log, sender)
    await log.close()


async def test_a_database_that_is_gone_for_seconds_loses_nothing(
    server: tuple[EmbeddedPostgres, Database], home: Path
) -> None:
    await _outage(server, home, 3.0)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_database_that_is_gone_for_60_s_loses_nothing(
    server: tuple[EmbeddedPostgres, Database], home: Path
) -> None:
    await _outage(server, home, 60.0)


WRITER_PROCESS = """
import asyncio, sys
from rocade.fabric.database import Database
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import PostgresLog
async def main():
    log = PostgresLog(await Database.connect(sys.argv[1]))
    first = int(sys.argv[2])
    for start in range(first, first + 10**6, 20):
        await log.append("telemetry", [Record(n % 64, n, 1, n, b"%0200d" % n) for n in range(start, start + 20)])
        print(start, flush=True)
asyncio.run(main())
"""


async def test_a_killed_process_leaves_all_it_acknowledged_and_its_place_is_taken_over(
    server: tuple[EmbeddedPostgres, Database],
) -> None:
    database = server[1]
    acknowledged: set[int] = set()
    for turn in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER_PROCESS, database.url, str(turn * 10**6)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            await asyncio.to_thread(process.stdout.readline)
            await asyncio.sleep(0.3)
            process.kill()
            lines = process.stdout.read().decode().splitlines()
        async with asyncio.timeout(60):  # the server notices
            while await _writer_pid(database) is not None:
                await asyncio.sleep(0.02)
        acknowledged.update(n for line in lines if line for n in range(int(line), int(line) + 20))
    log = PostgresLog(database)
    found = await stored(log)
    assert acknowledged
    assert acknowledged - found.keys() == set()
    assert max(found.values()) == 1
    assert await database.pool.fetchval("SELECT max(writer) FROM log_writer") == 1


DISK_FULL = """
import asyncio, subprocess, sys, time
from pathlib import Path
from rocade.core.errors import Unavailable
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.log import Record
from rocade.fabric.log.guard import GuardedLog
from rocade.fabric.log.postgres import PostgresLog

async def main(disk: Path, reserve_bytes: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(disk)], check=True)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(120 << 20))
    postgres = EmbeddedPostgres(disk / "home")
    url = postgres.start()
    migrate(url, ["rocade.fabric.log"])
    database = await Database.connect(url)
    log = PostgresLog(database)
    if reserve_bytes:
        log = GuardedLog(log, disk, SystemClock(), disk / "fault", reserve_bytes)
    acknowledged, refused, codes = set(), set(), set()
    freed_at = None
    number = 0
    while freed_at is None or number < freed_at + 400:
        numbers = range(number, number + 40)
        number = numbers.stop
        appending = asyncio.ensure_future(log.append("telemetry", [Record(n % 64, n, 1, n, bytes(5000)) for n in numbers]))
        while not appending.done():
            await asyncio.wait([appending], timeout=1.0)
            if not postgres.is_running:  # what a supervisor does
                ballast.unlink(missing_ok=True)
                freed_at = freed_at or number
                postgres.stop()
                postgres.start()
        try:
            appending.result()
            acknowledged.update(numbers)
            await asyncio.sleep(0.01)
        except Unavailable as error:
            refused.update(numbers)
            codes.add(error.code)
            if error.code == "log.full" and ballast.exists():
                ballast.unlink()
                freed_at = number
            await asyncio.sleep(0.6)
    found, cursor = [], {}
    while each := (await log.read("telemetry", range(64), cursor, 1000, 4 << 20)):
        if not each.records:
            break
        cursor |= each.positions
        found += [record.key for record in each.records]
    assert acknowledged <= set(found), "acknowledged and lost"
    assert len(found) == len(set(found)), "doubled"
    assert not refused & set(found), "refused and yet stored"
    assert any(n >= freed_at for n in acknowledged), "intake did not come back"
    print(sorted(codes))
    await log.close()
    await database.close()
    postgres.stop()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""
OWN_MOUNTS = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]


@pytest.mark.timeout(330)
@pytest.mark.parametrize("reserve_bytes", [100 << 20, 0])
def test_a_full_disk_stops_intake_with_a_clear_error_and_loses_nothing(tmp_path: Path, reserve_bytes: int) -> None:
    """With a reserve intake stops first; without one PostgreSQL meets the full disk itself."""
    done = subprocess.run(
        [*OWN_MOUNTS, sys.executable, "-c", DISK_FULL, str(tmp_path), str(reserve_bytes)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if reserve_bytes:
        assert done.stdout.strip() == "['log.full']"
