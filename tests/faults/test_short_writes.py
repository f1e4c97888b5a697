"""Engines whose disk takes only part of a write: the log and the history refuse, keep what they acknowledged, and go on when there is room.

Two ways, both real. A limit on the size of files set from outside while the engine runs: the kernel then writes the bytes that fit
and returns their number, the next write fails (EFBIG). A small file system of its own that fills up (ENOSPC). What each engine did
stands in docs/disks.md. Killed in the middle of a write: test_log_postgres.py, test_log_jetstream.py, test_history_kill.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from rocade.core.errors import RocadeError, Unavailable
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.history import Table, connect
from rocade.fabric.history.process import StoreProcess
from rocade.fabric.log import Log, Record
from rocade.fabric.log.cluster import NatsCluster
from rocade.fabric.log.jetstream import JetStreamLog
from rocade.fabric.log.postgres import PostgresLog
from rocade.fabric.log.segments import Retention

TABLE = Table("kept", (("n", "UInt64"), ("body", "String")), ("n",), "n % 2")
ROWS = 3_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


@contextlib.contextmanager
def files_of_at_most(pid: int, size_bytes: int) -> Iterator[None]:
    """No file of these processes may grow beyond so much; what they start meanwhile is bound as well."""

    def limit(soft: int) -> None:
        for each in family(pid):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(each, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    limit(size_bytes)
    try:
        yield
    finally:
        limit(resource.RLIM_INFINITY)


class Sent:
    """What a door was told of numbered records."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.next = 0
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()
        self.codes: Counter[str] = Counter()

    async def append(self) -> None:
        numbers = range(self.next, self.next + 40)
        self.next = numbers.stop
        try:
            await self.log.append("telemetry", [Record(n % 64, n, 1, n, os.urandom(5000)) for n in numbers])
            self.acknowledged.update(numbers)
        except Unavailable as error:
            self.refused.update(numbers)
            self.codes[error.code] += 1

    async def check(self) -> None:
        found: Counter[int] = Counter()
        cursor: dict[tuple[int, int], int] = {}
        while (each := await self.log.read("telemetry", range(64), cursor, 1_000, 4 << 20)).records:
            cursor |= each.positions
            found.update(record.key for record in each.records)
        assert self.acknowledged - found.keys() == set(), "acknowledged and lost"
        assert [key for key, count in found.items() if count > 1] == [], "doubled"
        assert self.refused & found.keys() == set(), "refused and yet stored"


@pytest.fixture
async def postgres() -> AsyncIterator[tuple[EmbeddedPostgres, int, Database]]:
    with tempfile.TemporaryDirectory(prefix="rocade-w-") as name:
        server = EmbeddedPostgres(Path(name) / "home")
        url = server.start()
        migrate(url, ["rocade.fabric.log"])
        database = await Database.connect(url)
        pid = int((Path(name) / "home/data/postmaster.pid").read_text().split()[0])
        yield server, pid, database
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(database.close(), 30)
        server.stop()


async def test_postgres_that_writes_half_a_page_refuses_the_append_and_keeps_all_before(
    postgres: tuple[EmbeddedPostgres, int, Database],
) -> None:
    _, pid, database = postgres
    log = PostgresLog(database)
    sent = Sent(log)
    with files_of_at_most(
        pid, (17 << 20) + 5_000
    ):  # a segment of its write-ahead log fits, half a page of the table's does not
        while not sent.refused:
            await sent.append()
        for _ in range(5):
            await sent.append()
    assert sent.acknowledged
    assert sum(sent.codes.values()) == 6
    assert sent.codes.keys() <= {"log.full", "log.down"}
    before = len(sent.acknowledged)
    while len(sent.acknowledged) < before + 400:
        await sent.append()
    await sent.check()
    await log.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
async def test_jetstream_whose_disks_fill_in_the_middle_of_a_write_loses_and_doubles_nothing(
    database: Database,
) -> None:
    with tempfile.TemporaryDirectory(prefix="rocade-w-") as folder:
        await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", folder], check=True)
        cluster = NatsCluster(Path(folder))
        try:
            cluster.start()
            log = await JetStreamLog.connect(database, cluster.urls, retention=Retention(limit_bytes=1 << 30))
            sent = Sent(log)
            appending = asyncio.ensure_future(sent.append())
            async with asyncio.timeout(120):
                while (
                    True
                ):  # until the disks are full: an append that is neither taken nor refused for seconds, or is refused
                    done, _ = await asyncio.wait([appending], timeout=8)
                    if not done or sent.refused:
                        break
                    appending = asyncio.ensure_future(sent.append())
            print(
                f"{len(sent.acknowledged)} acknowledged until full, {dict(sent.codes)}, waits: {not appending.done()}"
            )
            assert sent.acknowledged
            await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=600m", folder], check=True)
            for node in range(3):
                cluster.kill(node)
                cluster.restart(node)
            await asyncio.wait_for(appending, 120)
            before = len(sent.acknowledged)
            async with asyncio.timeout(120):
                while len(sent.acknowledged) < before + 400:
                    await sent.append()
            await sent.check()
            await log.close()
        finally:
            cluster.stop()
            await asyncio.to_thread(subprocess.run, ["umount", "-l", folder], check=True)


def rows(block: int) -> pa.Table:
    numbers = range(block * ROWS, (block + 1) * ROWS)
    return pa.table({"n": pa.array(numbers, pa.uint64()), "body": [os.urandom(40).hex() for _ in numbers]})


async def test_a_history_whose_files_end_in_the_middle_refuses_the_block_and_takes_it_once_afterwards(
    tmp_path: Path,
) -> None:
    store = StoreProcess(tmp_path, bytes(32))
    history = connect(store.start())
    try:
        await history.ensure(TABLE)
        blocks, codes = [rows(number) for number in range(6)], Counter[str]()
        for number in (0, 1):
            await history.insert("kept", blocks[number], f"block {number}")
        with files_of_at_most(store.pid, 30_001):
            for number in (2, 3, 2):
                with pytest.raises(RocadeError) as refused:
                    await history.insert("kept", blocks[number], f"block {number}")
                codes[refused.value.code] += 1
            found = await history.query("SELECT count() AS n FROM kept")
            assert found.to_pylist() == [{"n": 2 * ROWS}], "nothing of a refused block is seen"
        assert codes == {"history.full": 3}
        for number in (2, 3, 4, 5, 2):
            await history.insert("kept", blocks[number], f"block {number}")
        await history.close()
        store.kill()
        history = connect(store.start())
        ask = "SELECT n, body FROM kept ORDER BY n"
        assert (await history.query(ask)).to_pylist() == pa.concat_tables(blocks).to_pylist()
    finally:
        await history.close()
        store.stop()


async def test_a_history_whose_disk_cannot_flush_refuses_the_block_and_takes_it_once_afterwards(tmp_path: Path) -> None:
    store = StoreProcess(tmp_path, bytes(32))
    history = connect(store.start())
    fails = (
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        "inject=fsync,fdatasync:error=EIO",
    )
    try:
        await history.ensure(TABLE)
        blocks = [rows(number) for number in range(2)]
        await history.insert("kept", blocks[0], "block 0")
        tracer = await asyncio.create_subprocess_exec(*fails, "-p", str(store.pid))
        async with asyncio.timeout(30):
            while any(_tracer_of(task) == 0 for task in _threads_of(store.pid)):
                await asyncio.sleep(0.05)
        with pytest.raises(Unavailable, match=r"history\.disk"):
            await history.insert("kept", blocks[1], "block 1")
        tracer.terminate()
        await tracer.wait()
        for _ in range(2):
            await history.insert("kept", blocks[1], "block 1")
        ask = "SELECT n, body FROM kept ORDER BY n"
        assert (await history.query(ask)).to_pylist() == pa.concat_tables(blocks).to_pylist()
    finally:
        await history.close()
        store.stop()


def _threads_of(pid: int) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def _tracer_of(task: int) -> int:
    """Who traces a thread; one that has ended counts as traced."""
    try:
        said = Path(f"/proc/{task}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return int(said.split("TracerPid:")[1].split()[0])


async def test_a_history_whose_merge_ends_in_the_middle_goes_back_to_what_was_merged(tmp_path: Path) -> None:
    store = StoreProcess(tmp_path, bytes(32))
    history = connect(store.start())
    try:
        await history.ensure(TABLE)
        blocks = [rows(number) for number in range(3)]
        for number, block in enumerate(blocks):
            await history.insert("kept", block, f"block {number}")
        process = store._process
        assert process is not None
        with (
            files_of_at_most(store.pid, 200_001),
            contextlib.suppress(RocadeError),
        ):  # each block fits, all of them do not
            await history._run(lambda driver: driver.command("OPTIMIZE TABLE kept FINAL"))
        assert await asyncio.to_thread(process.wait, 60) == 70
        await history.close()
        history = connect(store.start())
        ask = "SELECT n, body FROM kept ORDER BY n"
        assert (await history.query(ask)).to_pylist() == pa.concat_tables(blocks).to_pylist()
    finally:
        await history.close()
        store.stop()
