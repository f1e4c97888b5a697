"""The tables of the local price store, in one SQLite file; all SQL of prices stands here.

A part's number in the tables is its slot: list number x 2^32 + index. `words` holds first descriptions, 512 parts a row and
never changed but at the end of the last one; `described` later ones; `entry` every price ever. `kept` holds the columns that memory needs
at start, as of a number; what came after it is read from the rows. WAL, synchronous FULL: a commit is on disk or never was.
Refuses: Unavailable `prices.store.full`, `prices.store.busy`; Corrupt `prices.store.damaged`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Buffer, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import msgspec
import numpy as np
import zstandard

from rocade.core.errors import Corrupt, Unavailable
from rocade.core.prices import SEPARATOR, Description
from rocade.wire.prices import Delta, Descriptions, Entries, Part, Release

BLOCK = 512
"""Parts in a row of words."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS list (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL,
    parts INTEGER NOT NULL, envelope BLOB NOT NULL, applied_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS head (list INTEGER, seq INTEGER, id TEXT NOT NULL, envelope BLOB NOT NULL,
    PRIMARY KEY (list, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conflict (name TEXT, seq INTEGER, envelope BLOB, seen_us INTEGER,
    PRIMARY KEY (name, seq, envelope)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS release (list INTEGER, seq INTEGER, effective_us INTEGER NOT NULL, currency TEXT NOT NULL,
    note TEXT NOT NULL, PRIMARY KEY (list, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS words (list INTEGER, block INTEGER, body BLOB NOT NULL, PRIMARY KEY (list, block));
CREATE TABLE IF NOT EXISTS described (slot INTEGER, seq INTEGER, text TEXT NOT NULL, PRIMARY KEY (slot, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entry (slot INTEGER, valid_from INTEGER, seq INTEGER, price INTEGER NOT NULL,
    PRIMARY KEY (slot, valid_from, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (list INTEGER, place INTEGER, seq INTEGER NOT NULL, body BLOB NOT NULL,
    checksum BLOB NOT NULL, PRIMARY KEY (list, place));
CREATE TABLE IF NOT EXISTS epoch (name TEXT, epoch INTEGER, key BLOB NOT NULL, PRIMARY KEY (name, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signer (statement BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_AS_OF = (
    "SELECT valid_from, seq, price FROM entry WHERE slot = ? AND valid_from <= ? AND seq <= ?"
    " ORDER BY valid_from DESC, seq DESC LIMIT 1"
)


class _Words(msgspec.Struct, array_like=True):
    """First descriptions of the parts of one block, in columns."""

    seq: list[int] = []
    ref: list[str] = []
    family: list[str] = []
    label: list[str] = []
    superseded_by: list[str] = []

    def at(self, place: int) -> Description:
        return Description(self.ref[place], self.family[place], self.label[place], self.superseded_by[place])


class ListRow(msgspec.Struct, frozen=True):
    number: int
    name: str
    seq: int
    parts: int
    envelope: bytes
    applied_us: int


class Tables:
    """One connection: one for the writer, one for readers."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with failing():
            self.db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            self.db.executescript(_SCHEMA)
            path.chmod(0o600)
        self._fold = zstandard.ZstdCompressor(level=1)
        self._unfold = zstandard.ZstdDecompressor()

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

    def lists(self) -> list[ListRow]:
        with failing():
            rows = self.db.execute("SELECT number, name, seq, parts, envelope, applied_us FROM list").fetchall()
        return [ListRow(*row) for row in rows]

    def add_list(self, name: str) -> int:
        """The number of a new list, empty so far."""
        return int(self.db.execute("INSERT INTO list VALUES (NULL, ?, 0, 0, x'', 0)", (name,)).lastrowid or 0)

    def put_head(self, row: ListRow, head_id: str) -> None:
        self.db.execute(
            "UPDATE list SET seq = ?, parts = ?, envelope = ?, applied_us = ? WHERE number = ?",
            (row.seq, row.parts, row.envelope, row.applied_us, row.number),
        )
        self.db.execute("INSERT OR REPLACE INTO head VALUES (?,?,?,?)", (row.number, row.seq, head_id, row.envelope))

    def head_ids(self, number: int) -> dict[int, str]:
        with failing():
            return dict(self.db.execute("SELECT seq, id FROM head WHERE list = ?", (number,)).fetchall())

    def add_conflict(self, name: str, seq: int, envelope: bytes, seen_us: int) -> None:
        """Keep two statements about one number as evidence."""
        self.db.execute("INSERT OR IGNORE INTO conflict VALUES (?,?,?,?)", (name, seq, envelope, seen_us))

    def conflicts(self) -> list[tuple[str, int, bytes, int]]:
        with failing():
            return self.db.execute("SELECT name, seq, envelope, seen_us FROM conflict ORDER BY seen_us").fetchall()

    def empty(self, number: int) -> None:
        """Forget the parts, prices and releases of a list; its heads stay."""
        span = (number << 32, (number + 1) << 32)
        self.db.execute("DELETE FROM entry WHERE slot >= ? AND slot < ?", span)
        self.db.execute("DELETE FROM described WHERE slot >= ? AND slot < ?", span)
        for table in ("words", "release", "kept"):
            self.db.execute(f"DELETE FROM {table} WHERE list = ?", (number,))

    def drop(self, number: int) -> None:
        """Forget a list wholly."""
        self.empty(number)
        self.db.execute("DELETE FROM head WHERE list = ?", (number,))
        self.db.execute("DELETE FROM list WHERE number = ?", (number,))

    # --- rows ---

    def add_releases(self, number: int, releases: Iterable[Release]) -> None:
        rows = [(number, r.seq, r.effective_us, r.currency, r.note) for r in releases]
        self.db.executemany("INSERT INTO release VALUES (?,?,?,?,?)", rows)

    def releases(self, number: int) -> list[Release]:
        with failing():
            rows = self.db.execute(
                "SELECT seq, effective_us, currency, note FROM release WHERE list = ? ORDER BY seq", (number,)
            ).fetchall()
        return [Release(*row) for row in rows]

    def add_entries(self, number: int, entries: Entries) -> None:
        columns = (entries.index + (number << 32), entries.valid_from_us, entries.seq, entries.price_minor)
        self.db.executemany("INSERT INTO entry VALUES (?,?,?,?)", zip(*(c.tolist() for c in columns), strict=True))

    def add_parts(self, number: int, first: int, described: Descriptions) -> None:
        """First descriptions of the parts from index `first` on, one row each."""
        at, end = first, first + len(described)
        while at < end:
            block, place = divmod(at, BLOCK)
            words = self._words(number, block) if place else _Words()
            take = slice(at - first, at - first + min(BLOCK - place, end - at))
            words.seq += described.seq[take].tolist()
            words.ref += described.ref[take]
            words.family += described.family[take]
            words.label += described.label[take]
            words.superseded_by += described.superseded_by[take]
            body = self._fold.compress(msgspec.msgpack.encode(words))
            self.db.execute("INSERT OR REPLACE INTO words VALUES (?,?,?)", (number, block, body))
            at += BLOCK - place

    def add_descriptions(self, number: int, described: Descriptions) -> None:
        """Later descriptions of parts that are there."""
        rows = [
            (
                (number << 32) + part.index,
                part.seq,
                SEPARATOR.join((part.ref, part.family, part.label, part.superseded_by)),
            )
            for part in described.rows()
        ]
        self.db.executemany("INSERT INTO described VALUES (?,?,?)", rows)

    def entry_at(self, slot: int, at_us: int, known_seq: int) -> tuple[int, int, int] | None:
        """(valid_from, seq, price) by the rule of prices."""
        found: tuple[int, int, int] | None = self.db.execute(_AS_OF, (slot, at_us, known_seq)).fetchone()
        return found

    def entries_of(self, slot: int) -> list[tuple[int, int, int]]:
        """(seq, valid_from, price) of a part, in order."""
        with failing():
            return self.db.execute(
                "SELECT seq, valid_from, price FROM entry WHERE slot = ? ORDER BY seq, valid_from", (slot,)
            ).fetchall()

    def descriptions_of(self, number: int, index: int) -> list[tuple[int, Description]]:
        """(seq, description) of a part, in order."""
        with failing():
            words, place = self._words(number, index // BLOCK), index % BLOCK
            first = words.at(place)
            later = self.db.execute(
                "SELECT seq, text FROM described WHERE slot = ? ORDER BY seq", ((number << 32) + index,)
            ).fetchall()
        return [(words.seq[place], first), *((seq, Description(*text.split(SEPARATOR))) for seq, text in later)]

    def read_delta(self, row: ListRow, releases: list[Release], from_seq: int, low: int, high: int) -> Delta:
        """What the rows say of the parts from index `low` to before `high` after number `from_seq`."""
        with failing():
            span = ((row.number << 32) + low, (row.number << 32) + high, from_seq)
            priced = self.db.execute(
                "SELECT slot & 4294967295, seq, valid_from, price FROM entry"
                " WHERE slot >= ? AND slot < ? AND seq > ? ORDER BY slot, seq, valid_from",
                span,
            )
            table = np.fromiter((n for one in priced for n in one), np.int64).reshape(-1, 4)
            later = self.db.execute(
                "SELECT slot & 4294967295, seq, text FROM described WHERE slot >= ? AND slot < ? AND seq > ?", span
            )
            parts = [Part(index, seq, *text.split(SEPARATOR)) for index, seq, text in later]
            for block in range(low // BLOCK, (min(high, row.parts) + BLOCK - 1) // BLOCK):
                words = self._words(row.number, block)
                at = range(max(low - block * BLOCK, 0), min(high - block * BLOCK, len(words.seq)))
                parts += [
                    Part(
                        block * BLOCK + n,
                        words.seq[n],
                        words.ref[n],
                        words.family[n],
                        words.label[n],
                        words.superseded_by[n],
                    )
                    for n in at
                    if words.seq[n] > from_seq
                ]
        after = tuple(release for release in releases if release.seq > from_seq)
        return Delta(row.name, from_seq, row.seq, after, Descriptions.of(parts), Entries(*table.T.copy()))

    def prices_of(self, number: int, seq: int) -> list[tuple[int, int, int]]:
        """(index, valid_from, price) of the entries that came with a number."""
        with failing():
            return self.db.execute(
                "SELECT slot & 4294967295, valid_from, price FROM entry WHERE slot >= ? AND slot < ? AND seq = ?",
                (number << 32, (number + 1) << 32, seq),
            ).fetchall()

    def descriptions_with(self, number: int, seq: int) -> dict[int, Description]:
        """The descriptions that came with a number, by index."""
        with failing():
            rows = self.db.execute(
                "SELECT slot & 4294967295, text FROM described WHERE slot >= ? AND slot < ? AND seq = ?",
                (number << 32, (number + 1) << 32, seq),
            )
            found = {index: Description(*text.split(SEPARATOR)) for index, text in rows}
            for block, body in self.db.execute("SELECT block, body FROM words WHERE list = ?", (number,)):
                words = self._open(body)
                for at in [at for at, since in enumerate(words.seq) if since == seq] if seq in words.seq else ():
                    found[block * BLOCK + at] = words.at(at)
        return found

    def words(self, number: int) -> Iterator[tuple[int, list[str], list[str], list[str], list[str]]]:
        """First index, references, families, labels and replacements of each block, as first described."""
        with failing():
            rows = self.db.execute("SELECT block, body FROM words WHERE list = ? ORDER BY block", (number,))
            for block, body in rows:
                words = self._open(body)
                yield block * BLOCK, words.ref, words.family, words.label, words.superseded_by

    def later_words(self, number: int) -> dict[int, Description]:
        """The last description of each part that was described anew, by index."""
        with failing():
            rows = self.db.execute(
                "SELECT slot & 4294967295, text FROM described WHERE slot >= ? AND slot < ? ORDER BY slot, seq",
                (number << 32, (number + 1) << 32),
            ).fetchall()
        return {index: Description(*text.split(SEPARATOR)) for index, text in rows}

    # --- columns kept for the next start, keys ---

    def put_kept(self, number: int, seq: int, columns: Iterable[Buffer]) -> None:
        for place, body in enumerate(columns):
            row = (number, place, seq, body, sha256(body).digest())
            self.db.execute("INSERT OR REPLACE INTO kept VALUES (?,?,?,?,?)", row)

    def kept(self, number: int) -> list[bytes] | None:
        """The columns, None if one is not what was kept."""
        columns = []
        with failing():
            for body, checksum in self.db.execute(
                "SELECT body, checksum FROM kept WHERE list = ? ORDER BY place", (number,)
            ):
                if sha256(body).digest() != checksum:
                    return None
                columns.append(body)
        return columns

    def kept_seq(self, number: int) -> int:
        """The number that the kept columns are of; 0 if there are none."""
        with failing():
            found = self.db.execute("SELECT min(seq) FROM kept WHERE list = ?", (number,)).fetchone()
        return found[0] or 0

    def put_epoch(self, name: str, epoch: int, key: bytes) -> None:
        self.db.execute("INSERT OR REPLACE INTO epoch VALUES (?,?,?)", (name, epoch, key))

    def epochs(self) -> dict[tuple[str, int], bytes]:
        with failing():
            return {(name, epoch): key for name, epoch, key in self.db.execute("SELECT name, epoch, key FROM epoch")}

    def put_signer(self, statement: bytes) -> None:
        self.db.execute("INSERT OR IGNORE INTO signer VALUES (?)", (statement,))

    def signers(self) -> list[bytes]:
        with failing():
            return [statement for (statement,) in self.db.execute("SELECT statement FROM signer")]

    def _words(self, number: int, block: int) -> _Words:
        row = self.db.execute("SELECT body FROM words WHERE list = ? AND block = ?", (number, block)).fetchone()
        if row is None:
            raise _damaged("descriptions are missing")
        return self._open(row[0])

    def _open(self, body: bytes) -> _Words:
        try:
            return msgspec.msgpack.decode(self._unfold.decompress(body), type=_Words)
        except (zstandard.ZstdError, msgspec.MsgspecError, ValueError):
            raise _damaged("descriptions cannot be read") from None


@contextmanager
def failing() -> Iterator[None]:
    """SQLite's errors as Rocade's."""
    try:
        yield
    except sqlite3.Error as error:
        _raise(error)


def _raise(error: sqlite3.Error) -> NoReturn:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise Unavailable("prices.store.busy", "another program is writing the price store; try again") from error
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        raise Unavailable(
            "prices.store.full", f"the price store cannot be written ({error}); free the disk, nothing was half applied"
        ) from error
    raise _damaged(getattr(error, "sqlite_errorname", "") or type(error).__name__) from error


def _damaged(what: str) -> Corrupt:
    return Corrupt(
        "prices.store.damaged", f"the price store is damaged ({what}); set the file aside, a snapshot fills a new one"
    )
