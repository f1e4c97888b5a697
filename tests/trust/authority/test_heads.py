"""What the audit log keeps apart: each bit of each line counts, writes that are cut off are told from damage, and it is mended openly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest
from cryptography import x509

from rocade.core.errors import Corrupt
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.audit import AuditLog
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.heads import Head, Kept, Written, read_heads, rewrite_heads, sign_head
from rocade.trust.authority.region import create_region
from rocade.trust.authority.verification import mend, verify
from rocade.trust.identity.keys import new_key

KEY = new_key()
HEADS = [sign_head(Head(size, f"{size:064x}", 1_700_000_000_000_000 + size), KEY) for size in (1, 300, 41_200)]
WHOLE = b"".join(line + b"\n" for line in HEADS)


def judge(content: bytes) -> tuple[int, list[int]]:
    kept = read_heads(content, KEY.public_key(), HEADS)
    return len(kept.signed), kept.damaged


def turned(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def test_whole_heads_are_read() -> None:
    assert judge(WHOLE) == (3, [])
    assert judge(b"") == (0, [])


def test_every_single_turned_bit_of_the_kept_heads_is_found() -> None:
    line, ends = HEADS[1] + b"\n", [at for at, byte in enumerate(WHOLE) if byte == 10]
    turns = [turned(line, at, bit) for at in range(len(line)) for bit in range(8)]
    turns += [turned(WHOLE, at, bit) for at in ends for bit in range(8)]
    assert [one for one in turns if not judge(one)[1]] == []


def test_a_head_that_was_cut_off_anywhere_is_no_damage_and_a_bit_turned_in_it_is() -> None:
    for length in range(1, min(map(len, HEADS))):
        assert judge(WHOLE[: -1 - length]) == (2, [])
        assert judge(HEADS[0][:length] + b"\n" + HEADS[1] + b"\n") == (1, [])
        signed, damaged = judge(turned(HEADS[0][:length], length - 1, length % 8) + b"\n" + HEADS[1] + b"\n")
        assert (signed, bool(damaged)) == (1, True)


@pytest.mark.parametrize(
    "line", [b"", b" " + HEADS[1], HEADS[1] + b" ", HEADS[1].replace(b'","', b'", "', 1), sign_head(Head(2, "0", 0), new_key())]
)  # fmt: skip
def test_a_line_that_says_the_same_otherwise_or_by_another_key_is_damage(line: bytes) -> None:
    assert judge(HEADS[0] + b"\n" + line + b"\n" + HEADS[2] + b"\n") == (2, [2])


@pytest.mark.parametrize("room", [0, 1, 100, len(HEADS[1]), 2 * len(HEADS[1])])
def test_a_head_after_one_that_a_full_disk_cut_off_stands_on_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    kept, write, left = Kept(tmp_path), os.write, room

    def short(file: int, content: bytes) -> int:
        """As a disk does: so much still fits, then nothing."""
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, content[:left])
        left -= done
        return done

    kept.add(Written(0, [], HEADS[0]))
    with monkeypatch.context() as patch:
        patch.setattr("rocade.trust.authority.heads.os.write", short)
        with pytest.raises(OSError, match="No space") if room <= len(HEADS[1]) else contextlib.nullcontext():
            kept.add(Written(0, [], HEADS[1]))
    kept.add(Written(0, [], HEADS[2]))
    content = (tmp_path / "heads").read_bytes()
    assert (
        content == HEADS[0] + b"\n" + (HEADS[1] + b"\n")[:room] + b"\n" * (0 < room <= len(HEADS[1])) + HEADS[2] + b"\n"
    )
    assert judge(content) == (2 + (room >= len(HEADS[1])), [])
    kept.close()


@pytest.mark.parametrize("room", [0, 5, 32, 40, 100])
def test_of_a_hash_that_a_full_disk_cut_off_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    kept, left, pwrite = Kept(tmp_path), room, os.pwrite

    def short(file: int, content: bytes, at: int) -> int:
        nonlocal left
        if left < len(content) and not any(content):
            return pwrite(file, content, at)  # over what is there: needs no room
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = pwrite(file, content[:left], at)
        left -= done
        return done

    with monkeypatch.context() as patch:
        patch.setattr("rocade.trust.authority.heads.os.pwrite", short)
        with pytest.raises(OSError, match="No space"):
            kept.add(Written(0, [b"\xff" * 32] * 4, None))
    kept.add(Written(4, [b"\xee" * 32], None))
    content = (tmp_path / "leaves").read_bytes()
    assert content == (b"\xff" * (room - room % 32)).ljust(128, b"\0") + b"\xee" * 32
    kept.close()


def test_closing_leaves_the_file_to_a_thread_that_a_slow_disk_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed under it, the file's number would be the next one's that is opened, and the hashes would go there."""
    kept, pwrite, begun, go_on = Kept(tmp_path), os.pwrite, threading.Event(), threading.Event()

    def slow(file: int, content: bytes, at: int) -> int:
        begun.set()
        go_on.wait(60)
        return pwrite(file, content, at)

    monkeypatch.setattr("rocade.trust.authority.heads.os.pwrite", slow)
    writer = threading.Thread(target=kept.add, args=(Written(0, [b"\xff" * 32], None),))
    writer.start()
    assert begun.wait(60)
    kept.close()
    with (tmp_path / "another").open("w+b") as another:
        go_on.set()
        writer.join(60)
        assert another.read() == b""
    assert (tmp_path / "leaves").read_bytes() == b"\xff" * 32
    kept.close()
    with pytest.raises(OSError, match="Bad file"):
        kept.add(Written(1, [b"\xee" * 32], None))


def test_a_writer_that_waits_while_the_heads_are_written_anew_adds_to_the_new_file(tmp_path: Path) -> None:
    kept, path = Kept(tmp_path), tmp_path / "heads"
    kept.add(Written(0, [], HEADS[0]))
    path.write_bytes(turned(path.read_bytes(), 40, 3))
    aside = rewrite_heads(path, KEY.public_key(), HEADS[:2], 7)
    kept.add(Written(0, [], HEADS[2]))
    assert path.read_bytes() == WHOLE
    assert judge(aside.read_bytes()) == (0, [1])
    kept.close()


async def test_verify_names_a_damaged_line_and_it_is_mended_only_then_and_on_the_record(
    tmp_path: Path, database: Database
) -> None:
    region = create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    directory, root = tmp_path / "trust" / "audit", x509.load_pem_x509_certificate(region.trust_pem)
    for _ in range(3):
        log = AuditLog(database, directory, SystemClock())
        await log.record(AuditEntry(1, "peer:127.0.0.1", "test.act", "certificate:1"))
        await log.close()
    whole, log = (directory / "heads").read_bytes(), AuditLog(database, directory, SystemClock())
    assert await mend(database, directory, root, log, SystemClock(), "local:uid-0") is None
    damaged = turned(whole, len(whole) // 2, 4)
    (directory / "heads").write_bytes(damaged)
    with pytest.raises(Corrupt, match="line 2 is not what was signed") as said:
        await verify(database, directory, root)
    assert (said.value.code, said.value.facts) == ("audit.heads", {"lines": 1, "line": 2})

    body = await database.pool.fetchval("SELECT body FROM audit_entry WHERE position = 1")
    await database.pool.execute("UPDATE audit_entry SET body = 'x' WHERE position = 1")
    with pytest.raises(Corrupt, match=r"audit\.altered"):  # nothing is mended over what does not hold
        await mend(database, directory, root, log, SystemClock(), "local:uid-0")
    assert (directory / "heads").read_bytes() == damaged
    await database.pool.execute("UPDATE audit_entry SET body = $1 WHERE position = 1", body)

    aside = await mend(database, directory, root, log, SystemClock(), "local:uid-0")
    assert aside is not None
    assert (await asyncio.to_thread(aside.read_bytes)).startswith(damaged)
    await log.close()
    assert (directory / "heads").read_bytes().startswith(whole)
    assert (await verify(database, directory, root)).signed == 4
    newest = await AuditBook(database, directory, root).tail(1)
    assert (newest[0][1].action, newest[0][1].actor) == ("audit.heads.mended", "local:uid-0")
