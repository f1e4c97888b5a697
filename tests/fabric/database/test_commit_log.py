"""A turned bit of PostgreSQL's commit log is named at the next start or scrub, and turned back; real servers, and files of any age."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import asyncpg
import pytest

from rocade.core.errors import Corrupt, Unavailable
from rocade.fabric.database import EmbeddedPostgres, embedded
from rocade.fabric.database.commit_log import (
    BOOKS,
    NONE,
    PAGE_BYTES,
    SEGMENT_PAGES,
    Border,
    CommitLog,
    Control,
    read_control,
)
from rocade.fabric.database.embedded import wheel_binaries

PAGE_XIDS = PAGE_BYTES * 4
SEGMENT_XIDS = PAGE_XIDS * SEGMENT_PAGES


def turn(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, bit // 8)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)


def run(url: str, *statements: str) -> list[object]:
    async def work() -> list[object]:
        connection = await asyncpg.connect(url)
        try:
            return [await connection.fetchval(one) for one in statements]
        finally:
            await connection.close()

    return asyncio.run(work())


async def _transactions(url: str) -> int:
    """Committed, rolled back, with a subtransaction, with a row that two hold; the transaction that wrote row 7."""
    one, two = await asyncpg.connect(url), await asyncpg.connect(url)
    await one.execute("CREATE TABLE kept (n int PRIMARY KEY)")
    for number in range(20):
        undone = one.transaction()
        await undone.start()
        await one.execute("INSERT INTO kept VALUES ($1)", number)
        await (undone.rollback() if number % 5 == 4 else undone.commit())
    async with one.transaction(), two.transaction():
        await one.execute("SELECT n FROM kept WHERE n = 1 FOR SHARE")
        await two.execute("SELECT n FROM kept WHERE n = 1 FOR SHARE")
        async with one.transaction():
            await one.execute("INSERT INTO kept VALUES (100)")
    xid = int(await one.fetchval("SELECT xmin::text::int FROM kept WHERE n = 7"))
    await one.close()
    await two.close()
    return xid


class Home(EmbeddedPostgres):
    """A server that ran and was stopped."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.place = place
        self.xact = place / "data/pg_xact/0000"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    place = tmp_path_factory.mktemp("stopped") / "pg"
    server = EmbeddedPostgres(place)
    try:
        xid = asyncio.run(_transactions(server.start()))
    finally:
        server.stop()
    yield place, xid
    shutil.rmtree(place)


@pytest.fixture
def home(stopped: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(embedded, "ASK_TIMEOUT_S", 60.0)
    server = Home(shutil.copytree(stopped[0], tmp_path / "pg"))
    yield server
    server.stop()
    shutil.rmtree(server.place)


def test_a_bit_that_turned_while_the_server_was_stopped_is_named_and_turned_back(
    stopped: tuple[Path, int], home: Home
) -> None:
    xid, whole = stopped[1], home.xact.read_bytes()
    turn(home.xact, xid * 2)
    with pytest.raises(Corrupt) as said:
        home.start()
    assert said.value.code == "database.commit_log"
    assert f"pg_xact/0000 byte {xid // 4} bit {xid % 4 * 2}" in said.value.message
    assert f"transaction {xid} was committed and reads not committed" in said.value.message
    assert [damage.byte for damage in home.examine()] == [xid // 4]
    assert [damage.byte for damage in home.mend()] == [xid // 4]
    assert home.xact.read_bytes() == whole
    assert home.mend() == []
    assert run(home.start(), "SELECT count(*) FROM kept WHERE n = 7") == [1]


def test_what_is_taken_as_it_is_loses_a_row_in_silence_which_is_why_it_is_refused(
    stopped: tuple[Path, int], home: Home
) -> None:
    """PostgreSQL remembers in the row whom it found committed, so the row is written anew by a copy that nobody has read."""
    url = home.start()
    run(url, "CREATE TABLE fresh (n int)", "INSERT INTO fresh VALUES (1)", "CHECKPOINT")
    home.stop()
    control = read_control(home.place / "data", wheel_binaries())
    assert control is not None
    turn(home.xact, (control.next.xid - 1) * 2)
    assert [damage.byte for damage in home.mend(accept=True)] == [(control.next.xid - 1) // 4]
    assert run(home.start(), "SELECT count(*) FROM fresh") == [0]


def test_two_bits_of_a_page_are_named_by_the_page_and_cannot_be_turned_back(home: Home) -> None:
    turn(home.xact, 5)
    turn(home.xact, 700)
    with pytest.raises(Corrupt, match="pg_xact/0000 bytes 0 to 8191") as said:
        home.mend()
    assert said.value.code == "database.commit_log"


def test_every_bit_of_finished_transactions_counts_and_none_of_those_to_come(home: Home) -> None:
    control = read_control(home.place / "data", wheel_binaries())
    assert control is not None
    assert control.is_shut_down
    for book, border in zip(BOOKS, control.next, strict=True):
        (file,) = (home.place / "data" / book.folder).iterdir()
        bits = {"pg_xact": border * 2, "pg_multixact/offsets": border * 32}.get(book.folder, 0)
        turned = [*Random(5).sample(range(bits), min(bits, 40)), *range(max(0, bits - 4), bits)]
        for bit in turned:
            turn(file, bit)
            assert len(home._commit_log.verify(control, 0)) == 1, f"{book.folder} bit {bit}"
            turn(file, bit)
        if bits:
            turn(file, bits)
            assert home._commit_log.verify(control, 0) == []
            turn(file, bits)
    members = home.place / "data/pg_multixact/members/0000"
    for bit in (8 * 1, 8 * 1 + 3, 8 * 8, 8 * 11 + 7):  # of the first multixact: number 0 holds nobody
        turn(members, bit)
        assert len(home._commit_log.verify(control, 0)) == 1, f"member bit {bit}"
        turn(members, bit)


def test_a_bit_that_turns_while_the_server_runs_is_told_by_the_next_scrub(home: Home) -> None:
    url = home.start()
    before = home.transactions_checked
    (running, _) = run(url, "SELECT pg_current_xact_id()::text::bigint", "CHECKPOINT")
    home.scrub()
    assert home.transactions_checked == before
    run(url, "CHECKPOINT")
    home.scrub()
    assert home.transactions_checked == int(str(running)) + 1, "what two checkpoints have seen is known now"
    turn(home.xact, home.transactions_checked * 2 - 1)
    for _ in range(2):
        with pytest.raises(Corrupt, match=f"transaction {running} was committed and reads ") as said:
            home.scrub()
        assert said.value.code == "database.commit_log"
    home.stop()
    turn(home.xact, home.transactions_checked * 2 - 1)


def test_a_killed_server_starts_again_and_what_it_had_finished_is_still_held_against_the_record(home: Home) -> None:
    url = home.start()
    run(url, *("SELECT pg_current_xact_id()" for _ in range(50)))
    assert home.pid is not None
    os.kill(home.pid, 9)
    home.stop()
    turn(home.xact, 3 * 2)
    with pytest.raises(Corrupt, match="transaction 3 was committed"):
        home.start()
    turn(home.xact, 3 * 2)
    home.start()
    home.stop()
    assert home.examine() == []


def test_numbers_given_out_again_after_a_crash_that_the_server_survived_are_no_damage(home: Home) -> None:
    """Transactions that a crash took without a trace are given out again, while their sums were about to be kept."""

    async def lose(url: str) -> None:
        connection = await asyncpg.connect(url)
        (writer,) = await connection.fetchrow("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
        os.kill(writer, signal.SIGSTOP)  # what is written from here on reaches no disk
        for _ in range(50):
            with contextlib.suppress(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute("SELECT pg_current_xact_id()")
                    raise ZeroDivisionError
        await asyncio.to_thread(home.scrub)
        os.kill(writer, signal.SIGKILL)
        async with asyncio.timeout(30):
            while not connection.is_closed():
                await asyncio.sleep(0.02)

    async def go_on(url: str) -> None:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(asyncpg.PostgresError, OSError):
                    running, other = await asyncpg.connect(url), await asyncpg.connect(url)
                    break
        async with running.transaction():
            await running.execute("SELECT pg_current_xact_id()")
            await other.execute("CREATE TABLE more AS SELECT generate_series(1, 1000) AS n")
            await other.execute("CHECKPOINT")
            await asyncio.to_thread(home.scrub)
        await other.execute("CHECKPOINT")
        await asyncio.to_thread(home.scrub)
        await running.close()
        await other.close()

    url, first = home.start(), home.pid
    asyncio.run(lose(url))
    asyncio.run(go_on(url))
    assert home.pid == first
    home.stop()
    assert home.examine() == []


def test_a_scrub_that_a_stop_overtakes_takes_nothing_for_an_older_copy(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its control file is of before the stop, which keeps more than that knows."""
    run(home.start(), *("SELECT pg_current_xact_id()" for _ in range(50)))
    has_read, go_on = threading.Event(), threading.Event()

    def stalled(*arguments: Path) -> Control | None:
        found = read_control(*arguments)
        if not has_read.is_set():
            has_read.set()
            go_on.wait(30)
        return found

    monkeypatch.setattr(embedded, "read_control", stalled)
    with ThreadPoolExecutor() as pool:
        scrub = pool.submit(home.scrub)
        assert has_read.wait(30)
        stop = pool.submit(home.stop)
        with contextlib.suppress(TimeoutError):
            stop.result(2)  # it waits for the scrub
        go_on.set()
        with contextlib.suppress(Unavailable):  # the server is gone when it asks
            scrub.result(30)
        stop.result(30)


def test_an_older_copy_of_the_database_is_refused_until_somebody_takes_it(home: Home) -> None:
    control = read_control(home.place / "data", wheel_binaries())
    assert control is not None
    older = control._replace(next=control.next._replace(xid=control.next.xid - 1))
    with pytest.raises(Corrupt) as said:
        home._commit_log.check(older)
    assert said.value.code == "database.commit_log.older"
    home._commit_log.forget()
    home._commit_log.check(older)


# Files of any age, without a server.


class Files:
    """A commit log by hand."""

    def __init__(self, place: Path) -> None:
        self.data, self.record = place / "data", place / "sums"
        for book in BOOKS:
            (self.data / book.folder).mkdir(parents=True)
        self.dice = Random(1)
        self.log = CommitLog(self.data, self.record)

    def write(self, xid: int) -> None:
        """Every state, up to this transaction; those files that are there already grow."""
        pages = xid // PAGE_XIDS + 1
        for segment in range(max(0, pages // SEGMENT_PAGES - 2), -(-pages // SEGMENT_PAGES)):
            path = self.file(segment)
            old = path.read_bytes() if path.exists() else b""
            size = min(SEGMENT_PAGES, pages - segment * SEGMENT_PAGES) * PAGE_BYTES
            path.write_bytes(old + self.dice.randbytes(size - len(old)))

    def file(self, segment: int) -> Path:
        return self.data / "pg_xact" / f"{segment % 4096:04X}"

    def check(self, xid: int, *, is_shut_down: bool = True, system: str = "1", border: Border = NONE) -> None:
        self.log.check(Control(system, is_shut_down, 0, Border(xid, 1, 0)), border)

    def damages(self, xid: int, named: int = 0) -> list[str]:
        return list(map(str, self.log.verify(Control("1", False, 0, Border(xid, 1, 0)), named)))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def _grown(files: Files, first: int, second: int) -> int:
    for xid in (first, second):
        files.write(xid)
        files.check(xid)
    return second


AGES: dict[str, Callable[[Files], int]] = {
    "a first page": lambda files: _grown(files, 1_000, 1_003),
    "a border within a byte": lambda files: _grown(files, PAGE_XIDS + 1, PAGE_XIDS + 2),
    "a border between pages": lambda files: _grown(files, PAGE_XIDS - 1, PAGE_XIDS),
    "a border between files": lambda files: _grown(files, SEGMENT_XIDS, SEGMENT_XIDS + 5),
    "after the numbers began anew": lambda files: _grown(files, 4095 * SEGMENT_XIDS + 17, (1 << 32) + 5 * PAGE_XIDS),
}


@pytest.mark.parametrize("age", AGES)
def test_turned_bits_below_the_border_are_found_whatever_the_age(files: Files, age: str) -> None:
    xid = AGES[age](files)
    assert files.damages(xid) == []
    assert files.log.checked == xid
    for back in (1, 2, 3, 5, 900):
        number = xid - back
        path = files.file(number // SEGMENT_XIDS)
        bit = number % SEGMENT_XIDS * 2 + back % 2
        turn(path, bit)
        page = bit // 8 // PAGE_BYTES * PAGE_BYTES
        assert files.damages(xid) == [f"pg_xact/{path.name} bytes {page} to {page + PAGE_BYTES - 1}"]
        turn(path, bit)
    number = (xid - 1) // PAGE_XIDS * PAGE_XIDS
    path, bit = files.file(number // SEGMENT_XIDS), number % SEGMENT_XIDS * 2
    turn(path, bit)
    (told,) = files.damages(xid, 1)
    assert told.startswith(f"pg_xact/{path.name} byte {bit // 8} bit 0 (transaction {number} was ")
    turn(path, bit)
    if xid % PAGE_XIDS:
        turn(files.file(xid // SEGMENT_XIDS), xid % SEGMENT_XIDS * 2)
    assert files.damages(xid) == []


def test_files_that_vacuum_cut_off_are_forgotten(files: Files) -> None:
    files.write(3 * SEGMENT_XIDS)
    files.check(2 * SEGMENT_XIDS + 9)
    size = files.record.stat().st_size
    files.file(0).unlink(missing_ok=True)
    files.file(1).unlink()
    files.check(2 * SEGMENT_XIDS + 9)
    assert files.record.stat().st_size < size
    turn(files.file(2), 3)
    assert len(files.damages(2 * SEGMENT_XIDS + 9)) == 1


def test_a_short_file_is_damage(files: Files) -> None:
    files.write(3 * PAGE_XIDS)
    files.check(3 * PAGE_XIDS)
    os.truncate(files.file(0), PAGE_BYTES * 2)
    assert files.damages(3 * PAGE_XIDS) == ["pg_xact/0000 bytes 16384 to 24575"]


def test_a_running_server_is_known_as_far_as_its_border(files: Files) -> None:
    files.write(5_000)
    files.check(5_000, is_shut_down=False, border=Border(4_000, 1, 0))
    turn(files.file(0), 4_000 * 2)
    assert files.damages(5_000) == []
    turn(files.file(0), 3_999 * 2)
    assert len(files.damages(5_000)) == 1


def test_another_cluster_begins_anew(files: Files) -> None:
    files.write(5_000)
    files.check(5_000)
    files.file(0).write_bytes(bytes(PAGE_BYTES))
    files.check(900, system="2")
    assert files.log.checked == 900


def test_every_turned_bit_of_the_record_is_told_and_the_record_begun_anew(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(2 * PAGE_XIDS)
    files.check(2 * PAGE_XIDS)
    content = files.record.read_bytes()
    for bit in Random(4).sample(range(len(content) * 8), 100):
        turned = bytearray(content)
        turned[bit // 8] ^= 1 << bit % 8
        files.record.write_bytes(turned)
        caplog.clear()
        files.check(2 * PAGE_XIDS)
        assert "is damaged" in caplog.text
        assert files.record.read_bytes() == content


def test_sums_that_a_full_disk_does_not_take_leave_the_older_ones(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(900)
    files.check(500)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        files.check(900)
    assert "were not kept" in caplog.text
    turn(files.file(0), 499 * 2)
    assert len(files.damages(900)) == 1
    turn(files.file(0), 499 * 2)
    files.check(900)
    turn(files.file(0), 899 * 2)
    assert len(files.damages(900)) == 1


def test_a_digest_is_of_finished_bits_only() -> None:
    """Of a byte with four transactions, of a group with four members."""
    xacts, _, members = BOOKS
    page = Random(2).randbytes(PAGE_BYTES)
    digests = {xacts.first(page, count) for count in range(4, 10)}
    assert len(digests) == 6
    for book, items, stride in ((xacts, 7, 2), (members, 6, 0)):
        seen = book.first(page, items)
        for bit in range(8 * 44):
            turned = bytearray(page)
            turned[bit // 8] ^= 1 << bit % 8
            is_seen = book.first(bytes(turned), items) != seen
            if stride:
                assert is_seen == (bit < items * stride)
            else:
                group, byte = divmod(bit // 8, 20)
                count = min(4, items - 4 * group)
                assert is_seen == (byte < count or 4 <= byte < 4 + 4 * count)


def test_a_log_that_was_never_kept_is_nothing_to_compare_with(files: Files) -> None:
    files.write(100)
    assert files.damages(100) == []
