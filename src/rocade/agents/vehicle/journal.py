"""Store and forward: every batch is on disk before it is sent, and stays until the platform has it.

Flow: `append` packs batches, gives them the next sequence numbers and commits them with the source's position in one
transaction (fsync) -> `waiting` hands them to the link -> `acknowledge` marks them -> they are kept for a while for
resend requests -> dropped. A journal has a random 64-bit epoch made with it: a lost journal is a new epoch, never a
number used twice. After kill -9 everything appended is there, and the source goes on at its recorded position.
Every row carries a checksum: a batch whose bits have turned is not sent, an empty batch takes its number; any other row, and the
file's own structure (checked when it is opened), refuses. A batch's state stands twice, in its row and in an index.
Limits: bytes and age of what waits. What must be dropped unsent leaves an empty batch with its number, so that the
platform learns that the number is spent instead of asking for ever; it is counted in `dropped_points`.
Refuses: Unavailable `journal.full` when the disk is full (nothing was half written), Corrupt `journal.damaged`.
Source: docs/decisions/0020-vehicle-agent.md.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rocade.agents.sqlite.faults import BROKEN
from rocade.agents.sqlite.write_ahead import mend
from rocade.agents.vehicle.numbers_given import NumbersGiven
from rocade.agents.vehicle.row_sums import add_sums, check_sums, damaged, raise_for, row_sum, teach, translated
from rocade.core.ports import Clock, Random
from rocade.wire.batch import Batch, pack

log = logging.getLogger(__name__)
WAITING, ACKNOWLEDGED, SET_ASIDE = 0, 1, 2
_ASKED_AGAIN = "asked again"
"""Reason of a batch that had been acknowledged and waits again; acknowledged twice, it counts once."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL, sum INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (source TEXT PRIMARY KEY, value INTEGER NOT NULL, sum INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    sequence INTEGER PRIMARY KEY, state INTEGER NOT NULL, made_us INTEGER NOT NULL, start_us INTEGER NOT NULL,
    points INTEGER NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '', body BLOB NOT NULL, sum INTEGER);
CREATE INDEX IF NOT EXISTS batch_state ON batch (state, sequence);
"""
_WAITING = (
    "SELECT sequence, start_us, points, body, sum FROM batch WHERE state = 0 AND sequence > ? ORDER BY sequence LIMIT ?"
)
_SET_FACT = "INSERT OR REPLACE INTO fact (name, value, sum) VALUES (?, ?, ?)"
_SET_POSITION = "INSERT OR REPLACE INTO position (source, value, sum) VALUES (?, ?, ?)"
_SUMMED = {"fact": "name, value", "position": "source, value"}
"""Tables of which every row must fit its sum, and what the sum is of. A batch's is made by `_sum`."""
FORMAT = 3
"""`user_version` of a file in which every row has its sum; 0 = new, or from before there were any."""
_AGE_CHECK_US = 60_000_000
MOST_ASKED = 10_000
"""Numbers one resend request may name; the platform asks again for the rest."""


class Limits(msgspec.Struct, frozen=True):
    """What the journal may hold. Units: bytes of packed batches, seconds since a batch was made."""

    waiting_bytes: int = 256 << 20
    waiting_age_s: int = 30 * 86_400
    kept_bytes: int = 64 << 20
    """Acknowledged batches kept for resend requests."""
    kept_age_s: int = 3 * 86_400


ROOMY = Limits()


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch as it waits."""

    sequence: int
    start_us: int
    points: int
    body: bytes


class Journal:
    """The journal of one vehicle in one SQLite file; `None` keeps it in memory (simulated fleets)."""

    def __init__(self, path: Path | None, clock: Clock, random: Random, limits: Limits = ROOMY) -> None:
        self._clock, self._limits = clock, limits
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            with translated():
                mend(path, NumbersGiven())
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=5, cached_statements=32)
        try:
            with translated():
                if path:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA synchronous = FULL")
                self._begin(random)
                self._facts = self._read_facts()
                self.epoch = self._facts["epoch"] & 0xFFFFFFFFFFFFFFFF
                self._next = self._facts["next"]
                self.waiting_bytes, self._kept_bytes = self._sizes()
        except BaseException:
            self._db.close()
            raise
        self._enforce_at_us = 0

    def _begin(self, random: Random) -> None:
        """Check the file as a whole, or make it what it should be. Cost: once through the file.

        Raises: Corrupt `journal.damaged`.
        """
        teach(self._db)
        (format_read,) = self._db.execute("PRAGMA user_version").fetchone()
        if format_read not in (0, FORMAT) or self._db.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise damaged("its structure does not hold")
        if format_read == 0:
            self._db.executescript(_SCHEMA)
            self._db.execute("BEGIN IMMEDIATE")
            for table in ("batch", *_SUMMED):
                add_sums(self._db, table, _SUMMED.get(table, ""))
            for row in self._db.execute(
                "SELECT sequence, start_us, points, body FROM batch WHERE sum IS NULL"
            ).fetchall():
                self._db.execute("UPDATE batch SET sum = ? WHERE sequence = ?", (_sum(*row), row[0]))
            for name, value in (("epoch", _signed(random.bits(64) or 1)), ("next", 1)):
                if not self._db.execute("SELECT 1 FROM fact WHERE name = ?", (name,)).fetchone():
                    self._db.execute(_SET_FACT, (name, value, row_sum(name, value)))
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute("COMMIT")
        for table, columns in _SUMMED.items():
            check_sums(self._db, table, columns)

    def _read_facts(self) -> dict[str, int]:
        check_sums(self._db, "fact", _SUMMED["fact"])
        facts: dict[str, int] = dict(self._db.execute("SELECT name, value FROM fact").fetchall())
        if not {"epoch", "next"} <= facts.keys():
            raise damaged("epoch or next number is gone")
        return facts

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection its file allows, for what else the vehicle must not forget (`command_book`)."""
        return self._db

    @property
    def next_sequence(self) -> int:
        return self._next

    @property
    def acknowledged_points(self) -> int:
        """Points of all batches acknowledged since this journal was made."""
        return self._facts.get("acknowledged_points", 0)

    @property
    def acknowledged_batches(self) -> int:
        return self._facts.get("acknowledged_batches", 0)

    @property
    def dropped_points(self) -> int:
        """Points dropped unsent because of the journal's limits."""
        return self._facts.get("dropped_points", 0)

    def position(self, source: str) -> int:
        """How far a source got, as recorded with its last batches; 0 at first."""
        with translated():
            row = self._db.execute("SELECT value, sum FROM position WHERE source = ?", (source,)).fetchone()
        if row and row[1] != row_sum(source, row[0]):
            raise damaged("the position of a source has changed")
        return int(row[0]) if row else 0

    def append(self, batches: Sequence[tuple[Batch, int]], positions: Mapping[str, int] | None = None) -> range:
        """Give (batch, points) their numbers and put them on disk; all or none, with the source's position.

        Raises: Unavailable `journal.full`; Refused `batch.unpackable` before anything is written.
        """
        now_us, first = self._clock.now_us(), self._next
        rows = []
        for sequence, (batch, points) in enumerate(batches, first):
            start_us = min((int(clock.times_us[0]) for clock in batch.clocks), default=now_us)
            stamped = replace(batch, epoch=self.epoch, sequence=sequence, sent_at_us=now_us, start_us=start_us)
            body = pack(stamped)
            rows.append(
                (sequence, WAITING, now_us, start_us, points, len(body), body, _sum(sequence, start_us, points, body))
            )
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO batch (sequence, state, made_us, start_us, points, size, body, sum) VALUES (?,?,?,?,?,?,?,?)",
                rows,
            )
            self._set("next", first + len(rows))
            self._db.executemany(_SET_POSITION, [(*one, row_sum(*one)) for one in (positions or {}).items()])
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise_for(error)
        self._next = first + len(rows)
        self.waiting_bytes += sum(row[5] for row in rows)
        if self.waiting_bytes > self._limits.waiting_bytes or now_us >= self._enforce_at_us:
            self._enforce()
        return range(first, self._next)

    def waiting(self, after: int, count: int) -> list[Entry]:
        """Batches that wait, with sequence numbers above `after`, lowest first. Raises: Corrupt `journal.damaged`."""
        try:
            rows = self._db.execute(_WAITING, (after, count)).fetchall()
            changed = [row[0] for row in rows if row[4] != _sum(*row[:4])]
            if changed:
                self._spend(changed)
                rows = self._db.execute(_WAITING, (after, count)).fetchall()
        except BROKEN as error:
            self._undo()
            raise_for(error)
        return [Entry(*row[:4]) for row in rows]

    def newest_waiting(self, before: int) -> int | None:
        """The highest number below `before` that waits."""
        asked = "SELECT max(sequence) FROM batch WHERE state = 0 AND sequence < ?"
        with translated():
            row = self._db.execute(asked, (before,)).fetchone()
        return None if row[0] is None else int(row[0])

    def count_waiting(self) -> int:
        with translated():
            return int(self._db.execute("SELECT count(*) FROM batch WHERE state = 0").fetchone()[0])

    def acknowledge(self, sequences: Iterable[int]) -> None:
        """Mark batches as the platform's. Not flushed: a lost mark costs one duplicate, which the platform suppresses."""
        self._mark(sequences, ACKNOWLEDGED, "")

    def set_aside(self, sequence: int, reason: str) -> None:
        """Keep a batch the platform refused for good, out of the way."""
        self._mark([sequence], SET_ASIDE, reason)

    def aside(self) -> dict[int, str]:
        """Refused batches by sequence, with the reason."""
        with translated():
            return dict(self._db.execute("SELECT sequence, reason FROM batch WHERE state = 2").fetchall())

    def ask_again(self, ranges: Iterable[tuple[int, int]]) -> list[int]:
        """Make batches wait again that the platform asks for; a number no longer held is answered by an empty batch.

        Return those of the numbers that wait now. Numbers never given out, or refused for good, are ignored.
        Raises: as `append`.
        """
        wanted = [
            number
            for low, high in ranges
            for number in range(max(low, 1), min(high, self._next - 1, max(low, 1) + MOST_ASKED) + 1)
        ][:MOST_ASKED]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            states = {
                number: self._db.execute("SELECT state FROM batch WHERE sequence = ?", (number,)).fetchone()
                for number in wanted
            }
            for number, state in states.items():
                if state is None:
                    self._put_spent(number)
            self._db.executemany(
                "UPDATE batch SET state = 0, reason = ? WHERE sequence = ?",
                [
                    (_ASKED_AGAIN, number)
                    for number, state in states.items()
                    if state is None or state[0] == ACKNOWLEDGED
                ],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise_for(error)
        self.waiting_bytes, self._kept_bytes = self._sizes()
        return [number for number, state in states.items() if state is None or state[0] != SET_ASIDE]

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mark(self, sequences: Iterable[int], state: int, reason: str) -> None:
        try:
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("BEGIN IMMEDIATE")
            for sequence in sequences:
                row = self._db.execute(
                    "UPDATE batch SET state = ?, reason = ? || reason WHERE sequence = ? AND state = 0"
                    " RETURNING size, points, reason",
                    (state, reason, sequence),
                ).fetchone()
                if row is None:
                    continue
                self.waiting_bytes -= row[0]
                if state == ACKNOWLEDGED:
                    self._kept_bytes += row[0]
                if state == ACKNOWLEDGED and not row[2]:
                    self._set("acknowledged_batches", self.acknowledged_batches + 1)
                    self._set("acknowledged_points", self.acknowledged_points + row[1])
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            self.waiting_bytes, self._kept_bytes = self._sizes()
            raise_for(error)
        finally:
            self._db.execute("PRAGMA synchronous = FULL")
        if self._kept_bytes > self._limits.kept_bytes:
            self._enforce()

    def _enforce(self) -> None:
        """Drop acknowledged batches that are old or too many, and waiting ones only beyond their own limits."""
        now_us, limits = self._clock.now_us(), self._limits
        self._enforce_at_us = now_us + _AGE_CHECK_US
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM batch WHERE state = 1 AND made_us < ?", (now_us - limits.kept_age_s * 1_000_000,))
        if self._kept_bytes > limits.kept_bytes:
            self._drop_oldest(ACKNOWLEDGED, self._kept_bytes - limits.kept_bytes // 2)
        for (sequence,) in self._db.execute(
            "SELECT sequence FROM batch WHERE state = 0 AND points > 0 AND made_us < ?",
            (now_us - limits.waiting_age_s * 1_000_000,),
        ).fetchall():
            self._put_spent(sequence)
        if self.waiting_bytes > limits.waiting_bytes:
            self._drop_oldest(WAITING, self.waiting_bytes - limits.waiting_bytes)
        self._db.execute("COMMIT")
        self.waiting_bytes, self._kept_bytes = self._sizes()

    def _drop_oldest(self, state: int, excess_bytes: int) -> None:
        rows = self._db.execute(
            "SELECT sequence, size FROM batch WHERE state = ? AND points > 0 ORDER BY sequence", (state,)
        )
        doomed = []
        for sequence, size in rows:
            if excess_bytes <= 0:
                break
            doomed.append(sequence)
            excess_bytes -= size
        for sequence in doomed:
            if state == WAITING:
                self._put_spent(sequence)
            else:
                self._db.execute("DELETE FROM batch WHERE sequence = ?", (sequence,))

    def _spend(self, sequences: Iterable[int]) -> None:
        """Give up batches whose bits have turned on the disk; the platform learns that their numbers are spent."""
        self._db.execute("BEGIN IMMEDIATE")
        for sequence in sequences:
            log.error("batch %d is damaged on the disk and given up", sequence)
            self._put_spent(sequence)
        self._db.execute("COMMIT")
        self.waiting_bytes, self._kept_bytes = self._sizes()

    def _put_spent(self, sequence: int) -> None:
        """An empty batch in place of one that is gone."""
        row = self._db.execute("SELECT points FROM batch WHERE sequence = ? AND state = 0", (sequence,)).fetchone()
        now_us = self._clock.now_us()
        body = pack(Batch(epoch=self.epoch, sequence=sequence, sent_at_us=now_us, start_us=now_us))
        self._db.execute(
            "INSERT OR REPLACE INTO batch (sequence, state, made_us, start_us, points, size, body, sum)"
            " VALUES (?,0,?,?,0,?,?,?)",
            (sequence, now_us, now_us, len(body), body, _sum(sequence, now_us, 0, body)),
        )
        self._set("dropped_points", self.dropped_points + (int(row[0]) if row else 0))

    def _set(self, name: str, value: int) -> None:
        self._db.execute(_SET_FACT, (name, value, row_sum(name, value)))
        self._facts[name] = value

    def _undo(self) -> None:
        with translated():
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._facts = self._read_facts()

    def _sizes(self) -> tuple[int, int]:
        sizes = dict(self._db.execute("SELECT state, sum(size) FROM batch GROUP BY state").fetchall())
        return sizes.get(WAITING, 0), sizes.get(ACKNOWLEDGED, 0)


def _sum(sequence: int, start_us: int, points: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{sequence} {start_us} {points}".encode()))


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
