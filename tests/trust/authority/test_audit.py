"""The audit log on a real PostgreSQL: order, durability, overflow, and each way of tampering named."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
from cryptography import x509

from rocade.core.errors import Corrupt, Unavailable
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority import audit as audit_module
from rocade.trust.authority.audit import AuditLog, Line
from rocade.trust.authority.heads import Head, sign_head
from rocade.trust.authority.region import create_region
from rocade.trust.authority.verification import Report, verify
from rocade.trust.identity.keys import new_key


def entry(number: int, action: str = "test.act") -> AuditEntry:
    return AuditEntry(number, "peer:127.0.0.1", action, f"certificate:{number:x}", facts={"n": number})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    return tmp_path / "trust" / "audit"


def root_of(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory.parent / "trust.pem").read_bytes())


async def check(database: Database, directory: Path) -> Report:
    return await verify(database, directory, root_of(directory))


@pytest.fixture
async def log(database: Database, directory: Path) -> AsyncIterator[AuditLog]:
    opened = AuditLog(database, directory, SystemClock())
    yield opened
    await opened.close()


async def test_recorded_entries_are_there_in_order_and_the_log_holds(
    log: AuditLog, database: Database, directory: Path
) -> None:
    for number in range(5):
        log.note(entry(number))
    await log.record(entry(5))
    bodies = [row["body"] for row in await database.pool.fetch("SELECT body FROM audit_entry ORDER BY position")]
    lines = [msgspec.json.decode(body, type=Line) for body in bodies]
    assert [(line.position, line.entry) for line in lines] == [(n, entry(n)) for n in range(6)]
    assert (await check(database, directory)).entries == 6


async def test_processes_writing_at_once_make_one_gapless_order(database: Database, directory: Path) -> None:
    logs = [AuditLog(database, directory, SystemClock()) for _ in range(3)]
    await asyncio.gather(*(log.record(entry(number)) for number in range(100) for log in logs))
    for log in logs:
        await log.close()
    report = await check(database, directory)
    assert (report.entries, report.signed) == (300, 300)


async def test_a_full_queue_counts_what_it_cannot_hold(
    database: Database, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "QUEUE_LIMIT", 10)
    log = AuditLog(database, directory, SystemClock())
    for number in range(1000):
        log.note(entry(number, f"test.{number % 2}"))
    await log.close()
    entries = await stored(database)
    assert {e.action: e.facts["more"] for e in entries if e.actor == "audit"} == {"test.0": 495, "test.1": 495}
    assert len(entries) == 10 + 2


async def test_a_flood_of_one_refusal_is_counted_and_hides_no_other(database: Database, directory: Path) -> None:
    log = AuditLog(database, directory, SystemClock())
    for _ in range(3000):
        log.note(AuditEntry(1, "peer:192.0.2.1", "tls.handshake", "door", "refused", "trust.handshake.plain_text"))
    log.note(AuditEntry(1, "peer:192.0.2.2", "tls.handshake", "door", "refused", "trust.handshake.expired"))
    for number in range(3000):
        log.note(entry(number))
    await log.close()
    entries = await stored(database)
    floods = [e for e in entries if e.reason == "trust.handshake.plain_text"]
    assert sum(int(e.facts.get("more", 1)) for e in floods) == 3000
    assert len(floods) <= 3 * audit_module.SAME_PER_S
    assert sum(e.reason == "trust.handshake.expired" for e in entries) == 1
    assert sum(e.action == "test.act" for e in entries) == 3000, "what was done is never summed up while there is room"


async def stored(database: Database) -> list[AuditEntry]:
    rows = await database.pool.fetch("SELECT body FROM audit_entry ORDER BY position")
    return [msgspec.json.decode(row["body"], type=Line).entry for row in rows]


async def test_a_record_that_cannot_be_written_says_so_and_a_note_waits_for_the_database(
    database_url: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "RECORD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(audit_module, "RETRY_S", 0.05)
    database = await Database.connect(database_url)
    log = AuditLog(database, directory, SystemClock())
    blocker = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT 1 FROM audit_tree FOR UPDATE")
    log.note(entry(1))
    with pytest.raises(Unavailable, match=r"audit\.down"):
        await log.record(entry(2))
    monkeypatch.setattr(audit_module, "RECORD_TIMEOUT_S", 120.0)
    await transaction.rollback()
    await blocker.close()
    await log.record(entry(3))
    await log.close()
    assert (await check(database, directory)).entries == 3
    await database.close()


async def test_a_commit_whose_answer_was_lost_is_not_written_twice(
    database: Database, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "RETRY_S", 0.01)
    log = AuditLog(database, directory, SystemClock())
    append, lost = log._append, []

    async def append_and_lose(connection: asyncpg.Connection, entries: list[AuditEntry]) -> object:
        written = await append(connection, entries)
        if entries and not lost:
            lost.append(True)
            log._tried = written.first, msgspec.json.encode(Line(written.first, entries[0]))
            raise asyncpg.ConnectionDoesNotExistError
        return written

    monkeypatch.setattr(log, "_append", append_and_lose)
    await asyncio.gather(*(log.record(entry(number)) for number in range(4)))
    await log.close()
    assert lost
    assert (await check(database, directory)).entries == 4


FORGED_ENTRY = """INSERT INTO audit_entry SELECT 20, regexp_replace(convert_from(body, 'UTF8'), '^.19', '[20')::bytea
                  FROM audit_entry WHERE position = 19"""


async def test_a_log_that_is_being_written_verifies(
    database: Database, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "HEAD_EVERY_ENTRIES", 1)
    log = AuditLog(database, directory, SystemClock())
    await log.record(entry(0))

    seen = set[int]()

    async def write() -> None:
        number = 0
        while len(seen) < 10:
            await log.record(entry(number := number + 1))

    writing = asyncio.create_task(write())
    async with asyncio.timeout(120):
        while not writing.done():
            seen.add((await check(database, directory)).entries)
    await writing
    await log.close()


TAMPERING = {
    "altered": (
        ["UPDATE audit_entry SET body = replace(convert_from(body, 'UTF8'), 'test.act', 'test.lie')::bytea WHERE position = 7"],
        "audit.altered", 7,
    ),
    "made unreadable": (["UPDATE audit_entry SET body = 'x' WHERE position = 3"], "audit.altered", 3),
    "dropped in the middle": (["DELETE FROM audit_entry WHERE position = 9"], "audit.dropped", 9),
    "dropped first": (["DELETE FROM audit_entry WHERE position = 0"], "audit.dropped", 0),
    "dropped and closed up": (
        ["DELETE FROM audit_entry WHERE position = 9"]
        + [f"UPDATE audit_entry SET position = {n - 1} WHERE position = {n}" for n in range(10, 20)],
        "audit.reordered", 9,
    ),
    "swapped": (
        ["UPDATE audit_entry SET position = 99 WHERE position = 4", "UPDATE audit_entry SET position = 4 WHERE position = 5",
         "UPDATE audit_entry SET position = 5 WHERE position = 99"],
        "audit.reordered", 4,
    ),
    "truncated": (["DELETE FROM audit_entry WHERE position >= 15"], "audit.truncated", 15),
    "emptied": (["DELETE FROM audit_entry", "UPDATE audit_tree SET size = 0, edge = ''", "DELETE FROM audit_head"],
                "audit.truncated", 0),
    "appended behind the tree": ([FORGED_ENTRY], "audit.tree", None),
    "a node changed": (["UPDATE audit_node SET hash = sha256('lie') WHERE level = 1"], "audit.nodes", 0),
    "a node dropped": (["DELETE FROM audit_node"], "audit.nodes", 0),
    "a node forged": (["INSERT INTO audit_node VALUES (1, 7, sha256('lie'))"], "audit.nodes", 7 * 256),
    "head forged": (["UPDATE audit_head SET signed = replace(convert_from(signed, 'UTF8'), 'payload\":\"', 'payload\":\"AAAA')::bytea"],
                    "audit.head", None),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERING)
async def test_tampering_is_found_and_the_first_entry_is_named(name: str, database: Database, directory: Path) -> None:
    statements, code, position = TAMPERING[name]
    await fill(database, directory, 300 if code == "audit.nodes" else 20)
    for statement in statements:
        await database.pool.execute(statement)
    with pytest.raises(Corrupt) as found:
        await check(database, directory)
    assert (found.value.code, found.value.facts.get("position")) == (code, position)


async def test_without_the_kept_hashes_a_forged_entry_is_found_between_two_heads(
    database: Database, directory: Path
) -> None:
    await fill(database, directory, 10)
    await fill(database, directory, 10)
    (directory / "leaves").unlink()
    body = await database.pool.fetchval("SELECT body FROM audit_entry WHERE position = 13")
    line = msgspec.json.decode(body, type=Line)
    forged = msgspec.json.encode(Line(13, msgspec.structs.replace(line.entry, actor="peer:nobody")))
    await database.pool.execute("UPDATE audit_entry SET body = $1 WHERE position = 13", forged)
    with pytest.raises(Corrupt, match="one of the entries 10 to 19"):
        await check(database, directory)


async def test_a_log_rewritten_with_its_tree_does_not_match_the_heads_kept_apart(
    database: Database, directory: Path
) -> None:
    await fill(database, directory, 10)
    heads = (directory / "heads").read_bytes()
    for table in ("audit_entry", "audit_head"):
        await database.pool.execute(f"DELETE FROM {table}")
    await database.pool.execute("UPDATE audit_tree SET size = 0, edge = '', head_size = 0, head_us = 0")
    for name in ("heads", "leaves"):
        (directory / name).unlink()
    await fill(database, directory, 10, action="test.lie")
    (directory / "heads").write_bytes(heads)
    with pytest.raises(Corrupt, match=r"audit\.forked"):
        await check(database, directory)


async def test_heads_cut_off_by_a_full_disk_and_hashes_not_kept_are_no_alarm(
    database: Database, directory: Path
) -> None:
    await fill(database, directory, 5)
    heads = (directory / "heads").read_bytes()
    (directory / "heads").write_bytes(heads[:40])
    with (directory / "leaves").open("r+b") as file:
        file.seek(2 * 32)
        file.write(bytes(32))
    await fill(database, directory, 5)
    assert (await check(database, directory)).entries == 10


async def test_a_database_that_refuses_is_tried_again_and_nothing_is_dropped(
    database: Database, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "RETRY_S", 0.05)
    await database.pool.execute("ALTER TABLE audit_entry RENAME TO gone")
    log = AuditLog(database, directory, SystemClock())
    waiting = asyncio.create_task(log.record(entry(1)))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await database.pool.execute("ALTER TABLE gone RENAME TO audit_entry")
    await waiting
    await log.close()
    assert (await check(database, directory)).entries == 1


async def test_a_head_signed_by_another_key_is_refused(database: Database, directory: Path) -> None:
    await fill(database, directory, 3)
    with (directory / "heads").open("ab") as file:
        file.write(sign_head(Head(2, "00", 0), new_key()) + b"\n")
    with pytest.raises(Corrupt, match=r"audit\.head"):
        await check(database, directory)


async def fill(database: Database, directory: Path, count: int, action: str = "test.act") -> None:
    log = AuditLog(database, directory, SystemClock())
    await asyncio.gather(*(log.record(entry(number, action)) for number in range(count)))
    await log.close()
