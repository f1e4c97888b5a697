"""Disks that write half, that fail to flush, that turn bits: each thing Rocade keeps refuses to go on or finds it out.

Others of these faults stand where the thing is tested: chunks of backups (tests/app/backup/test_chunks.py), heads of the audit log cut short
(tests/trust/authority/test_audit.py), seals (tests/trust/authority/sealing/test_seals.py), the erasure ledger
(tests/trust/authority/erasure/test_ledger.py), full disks (test_full_disk.py, test_log_postgres.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import asyncpg
import numpy as np
import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from rocade.agents.vehicle.command_book import BEGUN, Book, Lane, report_of
from rocade.agents.vehicle.journal import Entry, Journal
from rocade.core.errors import Corrupt, RocadeError
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.history import Table, connect
from rocade.fabric.history.process import StoreProcess
from rocade.trust.authority import create_region, issue_directory
from rocade.trust.authority.audit import AuditLog
from rocade.trust.authority.verification import verify
from rocade.trust.identity import tls
from rocade.trust.identity.directory import load_identity, load_leaf
from rocade.wire.batch import Batch, Clock, Column, decode_many
from rocade.wire.commands import Command

KEY = bytes(range(32))
SCRIPT = Path(__file__).with_name("disk_journal.py")
STRACE = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync")


def turn_bits(path: Path, dice: Random, count: int = 1) -> None:
    """Turn single bits of a file, anywhere."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(count):
            at = dice.randrange(size)
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << dice.randrange(8)]))


def fill_journal(path: Path, batches: int) -> list[bytes]:
    """Batches as they were when they were appended."""
    with Journal(path, SystemClock(), SystemRandom()) as journal:
        for number in range(batches):
            times = np.arange(50, dtype=np.int64) * 1_000_000 + number
            journal.append([(Batch(0, 0, 0, [Clock(times)], [Column(1, 0, times * 0.5)]), 50)])
        return [entry.body for entry in journal.waiting(0, 1000)]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([], id="short writes"),
        pytest.param([*STRACE, "-e", "inject=fsync,fdatasync:error=EIO:when=40+"], id="fsync errors"),
    ],
)
def test_what_a_vehicle_was_told_is_kept_is_kept_when_the_disk_fails(tmp_path: Path, command: list[str]) -> None:
    path, mode = tmp_path / "journal.db", "sync" if command else "short"
    run = [*command, sys.executable, str(SCRIPT), str(path), mode]
    said = subprocess.run(run, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\n")
    told = [int(line) for line in said if line.isdigit()]
    assert len(told) >= 3
    assert "refused journal.full" in said or "refused journal.damaged" in said
    with Journal(path, SystemClock(), SystemRandom()) as journal:
        kept = journal.waiting(0, 1000)
        assert [entry.sequence for entry in kept][: len(told)] == told
        assert decode_many([entry.body for entry in kept]).reasons == [None] * len(kept)
        assert journal.append([(Batch(0, 0, 0), 0)])[0] > told[-1], "no number is given twice"


def make_journal(path: Path, batches: int) -> None:
    """A journal with all that is ever in one: batches, how far the source got, a command under way and a report owed."""
    fill_journal(path, batches)
    command = Command(
        id="1" * 32, vehicle="VF1VANX0000000001", lane="charging", version=7, act="charging.limit",
        parameters={"percent": 80}, issued_us=1_700_000_000_000_000, expires_us=1_800_000_000_000_000,
    )  # fmt: skip
    with Journal(path, SystemClock(), SystemRandom()) as journal:
        journal.append([(Batch(0, 0, 0), 0)], {"can0": 4_000_000_000, "log": 17})
        book = Book(journal.connection)
        lane = Lane(command, BEGUN, "", is_waking=False, at_us=1_700_000_000_000_000)
        book.put(lane, [report_of(lane, "accepted", 1_700_000_000_000_001)])


def read_journal(path: Path) -> tuple[object, list[Entry]]:
    """All that decides what the vehicle does next, and what it would send."""
    with Journal(path, SystemClock(), SystemRandom()) as journal:
        book = Book(journal.connection)
        facts = (journal.epoch, journal.next_sequence, journal.position("can0"), journal.position("log"))
        return (*facts, book.newest("charging"), book.owed(0, 10), journal.aside()), journal.waiting(0, 1000)


@pytest.mark.parametrize("turns", [150, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_turned_bit_in_a_journal_is_refused_or_costs_one_batch_and_changes_nothing_else(
    tmp_path: Path, turns: int
) -> None:
    whole = tmp_path / "whole.db"
    make_journal(whole, 60)
    state, entries = read_journal(whole)
    content, place = bytearray(whole.read_bytes()), tmp_path / "turned"
    refused, spent = list[str](), 0
    seed = int(os.environ.get("ROCADE_SEED") or 61)
    print(f"seed {seed}")
    for bit in Random(seed).sample(range(len(content) * 8), turns):
        place.mkdir()
        content[bit // 8] ^= 1 << bit % 8
        (place / "journal.db").write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        try:
            seen, found = read_journal(place / "journal.db")
        except Corrupt as error:
            refused.append(error.code)
        else:
            assert seen == state, f"bit {bit}"
            assert [entry.sequence for entry in found] == [entry.sequence for entry in entries], f"bit {bit}"
            changed = [one for one, other in zip(found, entries, strict=True) if one != other]
            assert len(changed) <= 1, f"bit {bit}"
            assert all(entry.points == 0 and decode_many([entry.body]).reasons == [None] for entry in changed), (
                f"bit {bit}"
            )
            spent += len(changed)
        shutil.rmtree(place)
    print(f"{len(refused)} refused, {spent} batches spent, {turns - len(refused) - spent} in unused room")
    assert len(refused) > 2
    assert set(refused) == {"journal.damaged"}
    assert spent > turns // 5


def _identity(place: Path) -> Callable[[], object]:
    def load() -> object:
        tls.client_context(place)
        return load_identity(place), load_leaf(place).fingerprint(hashes.SHA256())

    return load


def test_a_turned_bit_in_an_identity_is_refused_or_harmless(tmp_path: Path) -> None:
    clock = SystemClock()
    region = create_region(tmp_path / "trust", "eu", "rocade.test", clock, SystemRandom())
    whole = tmp_path / "car"
    issue_directory(region, whole, region.identity("vehicle", "VR3UPHNKSKT101604"))
    good, dice, refused = _identity(whole)(), Random(7), 0
    print("seed 7")
    for name in sorted(path.name for path in whole.iterdir() if path.is_file()):
        for _ in range(40):
            place = tmp_path / "turned"
            shutil.copytree(whole, place)
            turn_bits(place / name, dice)
            try:
                found = _identity(place)()
            except (RocadeError, ValueError, OSError):
                refused += 1
            else:
                if (
                    name != "certificate.pem"
                ):  # a leaf is judged by its peer: tests/hostile/test_certificates.py turns each of its bits
                    assert found == good, f"{name} proves another identity"
            shutil.rmtree(place)
    assert refused > 30


async def test_turned_bits_in_the_heads_and_leaves_of_the_audit_log_are_found(
    tmp_path: Path, database: Database
) -> None:
    region = create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    directory, root = tmp_path / "trust" / "audit", x509.load_pem_x509_certificate(region.trust_pem)
    log = AuditLog(database, directory, SystemClock())
    for number in range(40):
        await log.record(AuditEntry(number, "peer:127.0.0.1", "test.act", f"certificate:{number:x}"))
    await log.close()
    report = await verify(database, directory, root)
    dice = Random(3)
    print("seed 3")
    for name, code in (("heads", "audit.heads"), ("leaves", "audit.altered")):
        whole = (directory / name).read_bytes()
        for _ in range(15):
            turn_bits(directory / name, dice)
            with pytest.raises(Corrupt) as said:
                await verify(database, directory, root)
            assert said.value.code == code
            (directory / name).write_bytes(whole)
    assert await verify(database, directory, root) == report


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    server = EmbeddedPostgres(folder)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.slow
def test_a_turned_bit_in_the_database_is_an_error_and_never_a_wrong_value(tmp_path: Path) -> None:
    async def fill(url: str) -> str:
        database = await Database.connect(url)
        await database.pool.execute(
            "CREATE TABLE kept AS SELECT n, sha256(n::text::bytea) AS body FROM generate_series(1, 50000) n"
        )
        await database.pool.execute("CHECKPOINT")
        path = await database.pool.fetchval("SELECT pg_relation_filepath('kept')")
        await database.close()
        return str(path)

    async def read(url: str) -> bool:
        database = await Database.connect(url)
        try:
            return bool(await database.pool.fetchval("SELECT bool_and(body = sha256(n::text::bytea)) FROM kept"))
        except asyncpg.DataCorruptedError:
            return False
        finally:
            await database.close()

    with _postgres(tmp_path) as url:
        migrate(url, ("rocade.fabric.database",))
        relation = asyncio.run(fill(url))
    (file,) = tmp_path.rglob(relation)
    turn_bits(file, Random(5))
    with _postgres(tmp_path) as url:
        assert not asyncio.run(read(url))


@pytest.mark.slow
async def test_turned_bits_in_the_history_are_an_error_and_never_a_wrong_value(tmp_path: Path) -> None:
    table = Table("kept", (("n", "UInt64"), ("body", "String")), ("n",), "n % 2")
    rows = pa.table({"n": pa.array(range(20000), pa.uint64()), "body": [f"{n * 7919:x}" for n in range(20000)]})
    store = StoreProcess(tmp_path, KEY)
    store.start()
    client = connect(store.url)
    await client.ensure(table)
    await client.insert("kept", rows, "one")
    await client.close()
    store.stop()
    files = [
        path for path in await asyncio.to_thread(lambda: [*tmp_path.rglob("*.bin")]) if path.stat().st_size > 10_000
    ]
    assert files
    dice = Random(9)
    for path in files:
        turn_bits(path, dice)
    store = StoreProcess(tmp_path, KEY)
    store.start()
    client = connect(store.url)
    try:
        with pytest.raises(RocadeError):
            await client.query("SELECT sum(cityHash64(n, body)) FROM kept")
    finally:
        await client.close()
        store.stop()


@pytest.mark.slow
def test_a_database_whose_disk_cannot_flush_acknowledges_nothing_more(tmp_path: Path) -> None:
    """PostgreSQL stops itself when fsync fails, so nobody is told "kept" who is not; what it had said before is there."""

    async def write(url: str, started: Callable[[], None]) -> int:
        database = await Database.connect(url)
        await database.pool.execute("CREATE TABLE kept (n bigint)")
        started()
        told = 0
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            for number in range(1, 100_000):
                await database.pool.execute("INSERT INTO kept VALUES ($1)", number)
                told = number
        await database.close()
        return told

    async def count(url: str) -> int:
        database = await Database.connect(url)
        found = int(await database.pool.fetchval("SELECT count(*) FROM kept"))
        await database.close()
        return found

    watcher: list[subprocess.Popen[bytes]] = []
    server = EmbeddedPostgres(tmp_path)
    url = server.start()
    (pid_file,) = tmp_path.rglob("postmaster.pid")
    pid = pid_file.read_text().split()[0]

    def inject() -> None:
        inject_after = "inject=fsync,fdatasync:error=EIO:when=200+"
        watcher.append(subprocess.Popen([*STRACE, "-e", inject_after, "-p", pid], env={**os.environ, "LC_ALL": "C"}))

    try:
        told = asyncio.run(write(url, inject))
    finally:
        for one in watcher:
            one.terminate()
            one.wait()
        server.stop()
    with _postgres(tmp_path) as url:
        assert asyncio.run(count(url)) >= told > 0
