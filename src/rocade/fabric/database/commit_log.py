"""The embedded PostgreSQL's commit log held against sums of our own: PostgreSQL keeps none, and a turned bit there undoes a transaction.

`pg_xact` says in two bits of each transaction whether it was committed; `pg_multixact` who holds a row together. Page checksums cover
neither: a turned bit makes rows vanish or come back, and nobody is told. What is said of a finished transaction never changes, so each page
is kept as a digest, as far as its transactions are finished and their bits in the files.

Flow: what `pg_controldata` says -> of each file the pages below the last border are held against the record -> the record grows to the
new border. Stopped cleanly that is everything; of a running server what two checkpoints have seen finished (`Border`).
Files that vacuum has cut off are forgotten; one that is missed otherwise is an error of PostgreSQL itself. Another cluster (system identifier) or
a damaged record begins anew, the latter is told. Files are read from the disk, not from memory, where the kernel allows it.
Refuses: `database.commit_log`, naming file, byte and transaction: any single turned bit of a page is found by trying which one gives
the digest, hence `mend`; `database.commit_log.older`, a database from before its record.
Cost and reasons: docs/decisions/0063-commit-log.md. Layout: PostgreSQL's access/transam/clog.c, multixact.c and slru.c.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from rocade.core.errors import Corrupt, Unavailable

PAGE_BYTES = 8192
SEGMENT_PAGES = 32
DIGEST_BYTES = 16
STATES = ("not committed", "committed", "aborted", "sub-committed")
NAMED = 4
"""Damaged pages whose turned bit is looked for and named: each costs up to half a second."""
_HEAD = b"rocade commit log 1\n"
_log = logging.getLogger(__name__)


class Border(NamedTuple):
    """Below these numbers everything is finished: transactions, multixacts, members of multixacts."""

    xid: int
    multi: int
    member: int


NONE = Border(0, 0, 0)


class Control(NamedTuple):
    """What the cluster's control file says."""

    system: str
    is_shut_down: bool
    redo: int
    """Where the last finished checkpoint began."""
    next: Border


class Damage(NamedTuple):
    """Bytes that are not what they were: a page, or where one bit alone turned that byte."""

    file: str
    page: int
    bit: int | None = None
    """Of the page."""
    what: str = ""

    @property
    def byte(self) -> int:
        return self.page * PAGE_BYTES + (self.bit or 0) // 8

    def __str__(self) -> str:
        if self.bit is None:
            return f"{self.file} bytes {self.byte} to {self.byte + PAGE_BYTES - 1}"
        return f"{self.file} byte {self.byte} bit {self.bit % 8} ({self.what})"


class Book(NamedTuple):
    """One of the three: how many items a page holds, which bytes of a page are the first `n` of them, what a turned bit means."""

    folder: str
    page_items: int
    first: Callable[[bytes, int], bytes]
    mean: Callable[[int, bytes, int], str]
    """Of a page that begins with this item, as it stands, and the bit of it that turned."""

    @property
    def segment_items(self) -> int:
        return self.page_items * SEGMENT_PAGES

    def below(self, border: int, segment: int) -> int:
        """How many items of a segment are below the border."""
        return min(max(border - segment * self.segment_items, 0), self.segment_items)


def _first_xids(page: bytes, count: int) -> bytes:
    whole, rest = divmod(count, 4)
    return page[:whole] + bytes(byte & (1 << 2 * rest) - 1 for byte in page[whole : whole + (rest > 0)])


def _first_members(page: bytes, count: int) -> bytes:
    """Groups of four members: a byte of flags for each, then their transactions."""
    whole, rest = divmod(count, 4)
    group = page[whole * 20 : whole * 20 + 20]
    return page[: whole * 20] + group[:rest] + group[4 : 4 + 4 * rest]


def _mean_xid(item: int, page: bytes, bit: int) -> str:
    shift = bit % 8 // 2 * 2
    now = page[bit // 8] >> shift & 3
    return f"transaction {item + bit // 2} was {STATES[now ^ 1 << bit % 2]} and reads {STATES[now]}"


def _mean_multi(*_: object) -> str:
    return "who holds a row"


BOOKS = (
    Book("pg_xact", PAGE_BYTES * 4, _first_xids, _mean_xid),
    Book("pg_multixact/offsets", PAGE_BYTES // 4, lambda page, count: page[: 4 * count], _mean_multi),
    Book("pg_multixact/members", PAGE_BYTES // 20 * 4, _first_members, _mean_multi),
)
"""In the order of `Border`. Each number has 32 bits in PostgreSQL; only transactions are counted on over the wrap."""


class _Record(msgspec.Struct):
    """`books[n]`: digests of the pages of each segment, below `border`."""

    system: str
    border: Border
    books: list[dict[int, bytes]]


def read_control(data: Path, binaries: Path) -> Control | None:
    """None where PostgreSQL will refuse the file itself.

    Raises: Unavailable `database.start`.
    """
    command = [str(binaries / "pg_controldata"), str(data)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={"LC_ALL": "C", "TZ": "UTC"})
    if done.returncode != 0 or "WARNING" in done.stdout + done.stderr:
        _log.error("the database's control file is damaged: %s", (done.stderr or done.stdout)[-300:])
        return None
    said = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in done.stdout.splitlines())
    }
    try:
        epoch, _, xid = said["Latest checkpoint's NextXID"].partition(":")
        multi, member = (int(said[f"Latest checkpoint's {name}"]) for name in ("NextMultiXactId", "NextMultiOffset"))
        border = Border(int(epoch) << 32 | int(xid), multi, member)
        redo = read_lsn(said["Latest checkpoint's REDO location"])
        is_shut_down = said["Database cluster state"] == "shut down"
        return Control(said["Database system identifier"], is_shut_down, redo, border)
    except (KeyError, ValueError) as error:
        raise Unavailable("database.start", f"pg_controldata says nothing of {error}") from None


def read_lsn(text: str) -> int:
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


class CommitLog:
    """`data`: the cluster. `record`: the file of the sums, outside of it."""

    def __init__(self, data: Path, record: Path) -> None:
        self._data = data
        self._path = record
        self.checked = 0
        """Transactions whose state holds, as of the last check."""

    def check(self, control: Control, border: Border = NONE) -> None:
        """Hold the files against the record, then let it grow to `border`; of a server that was shut down, over everything.

        Raises: Corrupt `database.commit_log`, `database.commit_log.older`; the record stays.
        """
        old = self._known(control)
        new = Border(*map(max, old.border, control.next if control.is_shut_down else border))
        grown, damages = self._compare(old, new, NAMED)
        _refuse(damages)
        self.checked = new.xid
        if grown != old:
            try:
                self._write(grown)
            except OSError as error:  # what was kept before still holds
                _log.warning("the sums of the commit log were not kept: %s", error.strerror)

    def verify(self, control: Control, named: int = NAMED) -> list[Damage]:
        """What is not as it was; nothing is written. Of so many pages the turned bit is looked for.

        Raises: Corrupt `database.commit_log.older`.
        """
        record = self._known(control)
        return self._compare(record, record.border, named)[1]

    def mend(self, control: Control) -> list[Damage]:
        """Turn back every bit that turned alone in its page, which the digest proves; what was mended. Of a stopped server only.

        Raises: as `verify`; Corrupt `database.commit_log` where more than one turned in a page: then nothing is done.
        """
        damages = self.verify(control, 1_000)
        _refuse([damage for damage in damages if damage.bit is None])
        for damage in damages:
            with (self._data / damage.file).open("r+b", buffering=0) as file:
                byte = os.pread(file.fileno(), 1, damage.byte)[0]
                os.pwrite(file.fileno(), bytes([byte ^ 1 << (damage.bit or 0) % 8]), damage.byte)
                os.fsync(file.fileno())
        return damages

    def forget(self) -> None:
        """Take the files as they stand: the next check begins anew."""
        self._path.unlink(missing_ok=True)

    def _compare(self, old: _Record, new: Border, named: int) -> tuple[_Record, list[Damage]]:
        """The record as it is at the new border, and what differs below the old one."""
        grown, damages = _Record(old.system, new, []), list[Damage]()
        for book, known, was, border in zip(BOOKS, old.books, old.border, new, strict=True):
            digests = dict[int, bytes]()
            for segment, path in _segments(self._data / book.folder, border, book.segment_items):
                if (content := _read_from_disk(path)) is None:
                    continue
                count, grows_to = book.below(was, segment) if segment in known else 0, book.below(border, segment)
                before = _digests(book, content, count)
                for page in _different(before, known.get(segment, b"")):
                    is_named = sum(damage.bit is not None for damage in damages) < named
                    damages.append(_judge(book, path, segment, page, content, count, known[segment], is_named=is_named))
                if after := before if count == grows_to else _digests(book, content, grows_to):
                    digests[segment] = after
            grown.books.append(digests)
        return grown, damages

    def _known(self, control: Control) -> _Record:
        """The record, or an empty one to begin with."""
        empty = _Record(control.system, NONE, [{} for _ in BOOKS])
        try:
            record = self._read()
        except Corrupt as damage:
            _log.error("%s; it begins anew", damage.message, extra={"facts": {"code": damage.code}})
            return empty
        if record is None or record.system != control.system:
            return empty
        if record.border.xid > control.next.xid:
            raise Corrupt(
                "database.commit_log.older",
                f"the database has {control.next.xid} transactions and had {record.border.xid}: it is an older copy of itself; "
                "put the newer one back, or take it as it is: rocade database mend --accept",
            )
        return record

    def _read(self) -> _Record | None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        digest, body = content[:32], content[32:]
        if not hmac.compare_digest(digest, _sum(body)):
            raise Corrupt("database.commit_log.record", f"{self._path.name}, the sums of the commit log, is damaged")
        return msgspec.msgpack.decode(body, type=_Record)

    def _write(self, record: _Record) -> None:
        """Whole or not at all, whoever else does it at this moment."""
        body = msgspec.msgpack.encode(record)
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_sum(body) + body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _sum(body: bytes) -> bytes:
    return sha256(_HEAD + body).digest()


def _segments(folder: Path, border: int, segment_items: int) -> Iterator[tuple[int, Path]]:
    """The files that begin below the border, with their numbers; their names begin anew after 2^32 items."""
    last, names = border // segment_items, -(-(1 << 32) // segment_items)
    for path in sorted(folder.iterdir()):
        if re.fullmatch(r"[0-9A-F]{4,6}", path.name):
            segment = last - (last - int(path.name, 16)) % names
            if segment >= max(0, last - names // 2):  # else it is of the future
                yield segment, path


def _read_from_disk(path: Path) -> bytes | None:
    """A file of at most 256 kB, not as the kernel remembers it; None when vacuum has just removed it."""
    try:
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()
    except FileNotFoundError:
        return None


def _digests(book: Book, content: bytes, count: int) -> bytes:
    """Of each page as far as its first items of `count` stand in it."""
    starts = range(0, count, book.page_items)
    return b"".join(
        _digest(book.first(_page(content, at // book.page_items), min(book.page_items, count - at))) for at in starts
    )


def _page(content: bytes, number: int) -> bytes:
    return content[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]


def _digest(page: bytes) -> bytes:
    return sha256(page).digest()[:DIGEST_BYTES]


def _digest_of(digests: bytes, page: int) -> bytes:
    return digests[page * DIGEST_BYTES : (page + 1) * DIGEST_BYTES]


def _different(now: bytes, known: bytes) -> list[int]:
    pages = range(len(known) // DIGEST_BYTES) if now != known else ()
    return [page for page in pages if _digest_of(now, page) != _digest_of(known, page)]


def _judge(
    book: Book, path: Path, segment: int, number: int, content: bytes, count: int, known: bytes, *, is_named: bool
) -> Damage:
    """A page that differs; the single bit that makes it what it was when turned back, if there is one."""
    file, wanted = f"{book.folder}/{path.name}", _digest_of(known, number)
    page, start = _page(content, number), number * book.page_items
    count, turned = min(book.page_items, count - start), bytearray(page)
    for bit in range(len(page) * 8 if is_named else 0):
        turned[bit // 8] ^= 1 << bit % 8
        if _digest(book.first(bytes(turned), count)) == wanted:
            return Damage(file, number, bit, book.mean(segment * book.segment_items + start, page, bit))
        turned[bit // 8] ^= 1 << bit % 8
    return Damage(file, number)


def _refuse(damages: list[Damage]) -> None:
    """Raises: Corrupt `database.commit_log` if there are any."""
    if damages:
        more = f"; {len(damages) - NAMED} more" if len(damages) > NAMED else ""
        named = "; ".join(map(str, damages[:NAMED])) + more
        raise Corrupt(
            "database.commit_log",
            f"the database's commit log is not what was written: {named}. Look after the disk, then `rocade database mend` "
            "turns single bits back; else restore a backup, or take it as it is: rocade database mend --accept",
        )
