"""The tables of the local price store, in one SQLite file; all SQL of prices stands here.

A part's number in the tables is its slot: list number x 2^32 + index. `words` holds first descriptions, 512 parts a row and
never changed but at the end of the last one; `described` later ones; `entry` every price ever. `remembered` holds the columns that memory
needs at start, as of a number; what came after it is read from the rows. WAL, synchronous FULL: a commit is on disk or never was.
Against turned bits: heads and signers are signed, parts are held against the tree of the signed head and the sums in memory (`reading`),
frames of `words` and rows of `remembered` have checksums, small rows that nothing signed covers a sum beside them in `row_sum`.
Refuses: Unavailable `prices.store.full`, `prices.store.busy`; Corrupt `prices.store.damaged`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Buffer, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import zstandard

from rocade.agents.dealer.prices.ledger import Ledger, ListRow, damaged, reading
from rocade.core.prices import SEPARATOR, Description
from rocade.wire.prices import Delta, Descriptions, Entries, Part, Release

BLOCK = 512
"""Parts in a row of words."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS release (list INTEGER, seq INTEGER, effective_us INTEGER NOT NULL, currency TEXT NOT NULL,
    note TEXT NOT NULL, PRIMARY KEY (list, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS words (list INTEGER, block INTEGER, body BLOB NOT NULL, PRIMARY KEY (list, block));
CREATE TABLE IF NOT EXISTS described (slot INTEGER, seq INTEGER, text TEXT NOT NULL, PRIMARY KEY (slot, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entry (slot INTEGER, valid_from INTEGER, seq INTEGER, price INTEGER NOT NULL,
    PRIMARY KEY (slot, valid_from, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS remembered (list INTEGER, place INTEGER, seq INTEGER NOT NULL, body BLOB NOT NULL,
    checksum BLOB NOT NULL, PRIMARY KEY (list, place));
DROP TABLE IF EXISTS kept; -- as earlier versions remembered; one that is put back reads the rows instead
"""
_AS_OF = (
    "SELECT valid_from, seq, price FROM entry WHERE slot = ? AND valid_from <= ? AND seq <= ?"
    " ORDER BY valid_from DESC, seq DESC LIMIT 1"
)

_OF_PART = "SELECT seq, valid_from, price FROM entry WHERE slot = ? ORDER BY seq, valid_from"


class Words(msgspec.Struct, array_like=True):
    """First descriptions of the parts of one block, in columns."""

    seq: list[int] = []
    ref: list[str] = []
    family: list[str] = []
    label: list[str] = []
    superseded_by: list[str] = []

    def at(self, place: int) -> Description:
        return Description(self.ref[place], self.family[place], self.label[place], self.superseded_by[place])


class Tables(Ledger):
    """One connection: one for the writer, one for readers. A cursor whose rows cannot be understood does not stay open: it would hold back
    what this connection sees of later commits.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA)
        self._fold = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._unfold = zstandard.ZstdDecompressor()

    def empty(self, number: int) -> None:
        """Forget the parts, prices and releases of a list; its heads stay."""
        span = (number << 32, (number + 1) << 32)
        self.db.execute("DELETE FROM entry WHERE slot >= ? AND slot < ?", span)
        self.db.execute("DELETE FROM described WHERE slot >= ? AND slot < ?", span)
        for table in ("words", "release", "remembered"):
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
        with reading():
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
            words = self._words(number, block) if place else Words()
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
        """(seq, valid_from, price) of a part, in order; within `reading`."""
        return self.db.execute(_OF_PART, (slot,)).fetchall()

    def descriptions_of(self, number: int, index: int) -> list[tuple[int, Description]]:
        """(seq, description) of a part, in order; within `reading`."""
        words, place = self._words(number, index // BLOCK), index % BLOCK
        later = self.db.execute(
            "SELECT seq, text FROM described WHERE slot = ? ORDER BY seq", ((number << 32) + index,)
        ).fetchall()
        return [
            (words.seq[place], words.at(place)),
            *((seq, Description(*text.split(SEPARATOR))) for seq, text in later),
        ]

    def read_delta(self, row: ListRow, releases: list[Release], from_seq: int, low: int, high: int) -> Delta:
        """What the rows say of the parts from index `low` to before `high` after number `from_seq`."""
        with reading():
            span = ((row.number << 32) + low, (row.number << 32) + high, from_seq)
            priced = self.db.execute(
                "SELECT slot & 4294967295, seq, valid_from, price FROM entry"
                " WHERE slot >= ? AND slot < ? AND seq > ? ORDER BY slot, seq, valid_from",
                span,
            ).fetchall()
            table = np.fromiter((n for one in priced for n in one), np.int64).reshape(-1, 4)
            later = self.db.execute(
                "SELECT slot & 4294967295, seq, text FROM described WHERE slot >= ? AND slot < ? AND seq > ?", span
            ).fetchall()
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

    def prices_of(self, number: int, seq: int) -> list[tuple[int, int, int, int]]:
        """(index, seq, valid_from, price) of the entries that came with a number."""
        with reading():
            return self.db.execute(
                "SELECT slot & 4294967295, seq, valid_from, price FROM entry WHERE slot >= ? AND slot < ? AND seq = ?",
                (number << 32, (number + 1) << 32, seq),
            ).fetchall()

    def later_texts(self, number: int, first_seq: int, last_seq: int) -> list[tuple[int, int, str]]:
        """(index, seq, text) of the parts that were described anew from number `first_seq` to `last_seq`, in order."""
        with reading():
            return self.db.execute(
                "SELECT slot & 4294967295, seq, text FROM described WHERE slot >= ? AND slot < ? AND seq BETWEEN ? AND ?"
                " ORDER BY slot, seq",
                (number << 32, (number + 1) << 32, first_seq, last_seq),
            ).fetchall()

    def words(self, number: int) -> Iterator[tuple[int, Words]]:
        """First index and first descriptions of the parts of each block."""
        with reading(), contextlib.closing(self.db.cursor()) as cursor:
            cursor.execute("SELECT block, body FROM words WHERE list = ? ORDER BY block", (number,))
            for block, body in cursor:
                yield block * BLOCK, self._open(body)

    # --- columns kept for the next start ---

    def fold_again(self, number: int) -> None:
        """Give frames of words from versions that wrote no checksum theirs."""
        with reading():
            bare = [
                (self._fold.compress(self._unfold.decompress(body)), number, block)
                for block, body in self.db.execute("SELECT block, body FROM words WHERE list = ?", (number,)).fetchall()
                if not zstandard.get_frame_parameters(body).has_checksum
            ]
        self.db.executemany("UPDATE words SET body = ? WHERE list = ? AND block = ?", bare)

    def put_kept(self, number: int, seq: int, columns: Iterable[Buffer]) -> None:
        for place, body in enumerate(columns):
            row = (number, place, seq, body, _checksum(number, place, seq, body))
            self.db.execute("INSERT OR REPLACE INTO remembered VALUES (?,?,?,?,?)", row)

    def kept(self, number: int) -> tuple[int, list[bytes]]:
        """The columns and their number; 0 and none if one is not what was kept."""
        with reading():
            rows = self.db.execute(
                "SELECT seq, body, checksum FROM remembered WHERE list = ? ORDER BY place", (number,)
            ).fetchall()
            is_whole = all(
                seq == rows[0][0] and _checksum(number, place, seq, body) == checksum
                for place, (seq, body, checksum) in enumerate(rows)
            )
        return (rows[0][0], [body for _, body, _ in rows]) if rows and is_whole else (0, [])

    def kept_seq(self, number: int) -> int:
        """The number that the kept columns are of; 0 if there are none."""
        with reading():
            found = self.db.execute("SELECT min(seq) FROM remembered WHERE list = ?", (number,)).fetchone()
        return found[0] or 0

    def _words(self, number: int, block: int) -> Words:
        row = self.db.execute("SELECT body FROM words WHERE list = ? AND block = ?", (number, block)).fetchone()
        if row is None:
            raise damaged("descriptions are missing")
        return self._open(row[0])

    def _open(self, body: bytes) -> Words:
        try:
            return msgspec.msgpack.decode(self._unfold.decompress(body), type=Words)
        except (zstandard.ZstdError, msgspec.MsgspecError, ValueError):
            raise damaged("descriptions cannot be read") from None


def _checksum(number: int, place: int, seq: int, body: Buffer) -> bytes:
    made = sha256(f"{number} {place} {seq} ".encode())
    made.update(body)
    return made.digest()
