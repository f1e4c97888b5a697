"""What the hub said, in the local price store: lists with their heads, conflicts, keys of epochs, signers; its connection and errors.

Heads and signers are signed, and believed by whoever reads them; what nothing signed covers has a sum beside it in `row_sum`.
Refuses: as `store`.
"""

from __future__ import annotations

import logging
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import msgspec

from rocade.agents.sqlite.write_ahead import EachFlushed, mend
from rocade.core.errors import Corrupt, Unavailable

log = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS list (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL,
    parts INTEGER NOT NULL, envelope BLOB NOT NULL, applied_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS head (list INTEGER, seq INTEGER, id TEXT NOT NULL, envelope BLOB NOT NULL,
    PRIMARY KEY (list, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conflict (name TEXT, seq INTEGER, envelope BLOB, seen_us INTEGER,
    PRIMARY KEY (name, seq, envelope)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS row_sum (of TEXT PRIMARY KEY, sum BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epoch (name TEXT, epoch INTEGER, key BLOB NOT NULL, PRIMARY KEY (name, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signer (statement BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_MOST_LISTS = 1 << 30
_MENDED_BYTES = 16 << 20
"""A write-ahead file above this is that of a list that was being loaded whole: it is not looked at, the list comes again."""
BROKEN = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error)
"""What is raised where a row holds other values than were written: another type, a number out of range, a text that is none."""


class Stored(msgspec.Struct, frozen=True):
    """A list as it stands on disk, to be believed when one of `envelopes` (of the list, of its newest head) is; `applied_us` None = damaged."""

    number: int
    name: str
    envelopes: tuple[bytes, bytes]
    applied_us: int | None


class ListRow(msgspec.Struct, frozen=True):
    number: int
    name: str
    seq: int
    parts: int
    envelope: bytes
    applied_us: int


class Ledger:
    """One connection, and the small tables."""

    def __init__(self, path: Path, schema: str) -> None:
        """`schema`: of the tables beside these."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with failing():
            _mend(path)
            self.db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            _check_names(self.db, _SCHEMA + schema)
            self.db.executescript(_SCHEMA + schema)
            path.chmod(0o600)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; a full disk is Unavailable. Raises: as the module says."""
        with failing():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            finally:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")

    # --- lists and heads ---

    def lists(self) -> list[Stored]:
        with reading():
            rows = self.db.execute(
                "SELECT number, CAST(name AS BLOB), envelope, applied_us, seq,"
                " (SELECT envelope FROM head WHERE list = number ORDER BY seq DESC LIMIT 1)"
                " FROM list WHERE number BETWEEN 1 AND ? ORDER BY number",
                (_MOST_LISTS,),
            ).fetchall()
            return [
                Stored(
                    number,
                    bytes(name or b"").decode(errors="replace"),
                    (_bytes(envelope), _bytes(newest)),
                    applied_us if self._holds(f"applied/{number}/{seq}", applied_us) else None,
                )
                for number, name, envelope, applied_us, seq, newest in rows
            ]

    def add_list(self, name: str) -> int:
        """The number of a list that is not held; empty so far, but for the rows of one that could not be believed."""
        held = self.db.execute("SELECT number FROM list WHERE name = ? AND number BETWEEN 1 AND ?", (name, _MOST_LISTS))
        if (row := held.fetchone()) is not None:
            return int(row[0])
        (number,) = self.db.execute(
            "SELECT coalesce(max(number), 0) + 1 FROM list WHERE number BETWEEN 1 AND ?", (_MOST_LISTS,)
        ).fetchone()
        self.db.execute("INSERT OR REPLACE INTO list VALUES (?, ?, 0, 0, x'', 0)", (number, name))
        return int(number)

    def put_head(self, row: ListRow, head_id: str) -> None:
        self.db.execute(
            "UPDATE list SET name = ?, seq = ?, parts = ?, envelope = ?, applied_us = ? WHERE number = ?",
            (row.name, row.seq, row.parts, row.envelope, row.applied_us, row.number),
        )
        self.db.execute("INSERT OR REPLACE INTO head VALUES (?,?,?,?)", (row.number, row.seq, head_id, row.envelope))
        self.db.execute("DELETE FROM row_sum WHERE of LIKE ?", (f"applied/{row.number}/%",))
        self._put_sum(f"applied/{row.number}/{row.seq}", row.applied_us)

    def add_conflict(self, name: str, seq: int, envelope: bytes, seen_us: int) -> None:
        """Keep two statements about one number as evidence."""
        made = self.db.execute("INSERT OR IGNORE INTO conflict VALUES (?,?,?,?)", (name, seq, envelope, seen_us))
        if made.rowcount:
            self._put_sum(_conflict(name, seq, envelope), seen_us)

    def conflicts(self) -> tuple[list[tuple[str, int, bytes, int]], bool]:
        """The rows that are what was written, and whether all are."""
        with reading():
            found = self.db.execute("SELECT name, seq, envelope, seen_us FROM conflict ORDER BY seen_us")
            rows = [(name, seq, _bytes(envelope), seen_us) for name, seq, envelope, seen_us in found]
            whole = [row for row in rows if self._holds(_conflict(*row[:3]), row[3])]
        return whole, len(whole) == len(rows)

    # --- keys ---

    def put_epoch(self, name: str, epoch: int, key: bytes) -> None:
        self.db.execute("INSERT OR REPLACE INTO epoch VALUES (?,?,?)", (name, epoch, key))
        self._put_sum(f"epoch/{name}/{epoch}", key)

    def epochs(self) -> tuple[dict[tuple[str, int], bytes], bool]:
        """The keys that are what was written, and whether all are."""
        with reading():
            rows = [
                (name, epoch, _bytes(key)) for name, epoch, key in self.db.execute("SELECT name, epoch, key FROM epoch")
            ]
            whole = {(name, epoch): key for name, epoch, key in rows if self._holds(f"epoch/{name}/{epoch}", key)}
        return whole, len(whole) == len(rows)

    def put_signers(self, statements: Iterable[bytes]) -> None:
        """These and no others."""
        self.db.execute("DELETE FROM signer")
        self.db.executemany("INSERT OR IGNORE INTO signer VALUES (?)", [(one,) for one in statements])

    def signers(self) -> list[bytes]:
        with reading():
            return [_bytes(statement) for (statement,) in self.db.execute("SELECT statement FROM signer")]

    def is_intact(self) -> bool:
        """Whether SQLite finds its own structure and indexes whole. Cost: 0.2 s for 500,000 parts."""
        with reading():
            return self.db.execute("PRAGMA integrity_check(1)").fetchall() == [("ok",)]

    # --- sums of small rows that nothing signed covers ---

    def _put_sum(self, of: str, value: object) -> None:
        self.db.execute("INSERT OR REPLACE INTO row_sum VALUES (?,?)", (of, _sum(of, value)))

    def _holds(self, of: str, value: object) -> bool:
        """Whether a row is what was written; one without a sum was written by a version that wrote none."""
        row = self.db.execute("SELECT sum FROM row_sum WHERE of = ?", (of,)).fetchone()
        return row is None or row[0] == _sum(of, value)


def _mend(path: Path) -> None:
    """Turn a bit back that turned after a power cut; where that cannot be, SQLite takes the list as it was before, and the hub's head
    brings it forward. Raises: Unavailable `prices.store.full`.
    """
    ahead = path.with_name(f"{path.name}-wal")
    try:
        if ahead.exists() and ahead.stat().st_size <= _MENDED_BYTES:
            mend(path, EachFlushed())
    except sqlite3.Error as error:
        log.warning("%s: %s; what was before is taken", path.name, error)
    except OSError as error:
        raise _full(error) from error


def _check_names(connection: sqlite3.Connection, schema: str) -> None:
    """That no table is one of ours under a name with a turned bit: it would be begun anew. Raises: Corrupt `prices.store.damaged`."""
    with closing(sqlite3.connect(":memory:")) as whole:
        whole.executescript(schema)
        ours = _tables(whole)
    for name, columns in _tables(connection).items():
        if columns != ours.get(name, columns) or any(_is_a_bit_apart(name, one) for one in ours):
            raise damaged(f"the table {name} is none of ours")


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    """The columns of each table, by name; in small letters, as it is all the same in SQL."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    columns = "SELECT * FROM pragma_table_info(?)"
    return {name.lower(): str(connection.execute(columns, (name,)).fetchall()).lower() for (name,) in names}


def _is_a_bit_apart(one: str, other: str) -> bool:
    first, second = one.encode(), other.encode()
    return len(first) == len(second) and (int.from_bytes(first) ^ int.from_bytes(second)).bit_count() == 1


def _sum(of: str, value: object) -> bytes:
    return sha256(f"{of} {value!r}".encode()).digest()[:8]


def _conflict(name: str, seq: int, envelope: bytes) -> str:
    return f"conflict/{name}/{seq}/{sha256(envelope).hexdigest()}"


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


@contextmanager
def failing() -> Iterator[None]:
    """SQLite's errors as Rocade's; one whose text names a damaged table cannot even be read."""
    try:
        yield
    except sqlite3.Error as error:
        _raise(error)
    except UnicodeError as error:
        raise damaged(f"a name cannot be read: {error}") from None


@contextmanager
def reading() -> Iterator[None]:
    """Also what rows raise that hold other values than were written."""
    try:
        yield
    except sqlite3.Error as error:
        _raise(error)
    except BROKEN as error:
        raise damaged(f"a row cannot be read: {error}") from None


def _raise(error: sqlite3.Error) -> NoReturn:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise Unavailable("prices.store.busy", "another program is writing the price store; try again") from error
    is_cut = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ  # a page that is not there
    if not is_cut and code in {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }:
        raise _full(error) from error
    raise damaged(getattr(error, "sqlite_errorname", "") or type(error).__name__) from error


def _full(error: Exception) -> Unavailable:
    return Unavailable(
        "prices.store.full", f"the price store cannot be written ({error}); free the disk, nothing was half applied"
    )


def damaged(what: str) -> Corrupt:
    return Corrupt(
        "prices.store.damaged", f"the price store is damaged ({what}); set the file aside, a snapshot fills a new one"
    )
