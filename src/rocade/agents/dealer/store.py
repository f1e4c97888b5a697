"""The agent's one SQLite file: messages out and in, receipts, tokens, staff, offers, troubles.

Every commit is on disk when it returns (synchronous=FULL), for what the agent has accepted exists nowhere else. One
connection, used by the event loop's thread alone; the command line opens the file beside it (WAL).
Whoever opens the file first checks it: the chain of the write-ahead file, SQLite's structure, and the sum of every row (cost: once
through the file). A running agent does it once a day, `rocade dealer doctor` at any time.
Refuses: Unavailable `dealer.disk` when the disk cannot be written (nothing was half written), Corrupt `dealer.damaged`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from rocade.agents.sqlite.faults import BROKEN, is_of_the_disk
from rocade.agents.sqlite.sums import RowSums
from rocade.agents.sqlite.write_ahead import EachFlushed, mend
from rocade.core.errors import Corrupt, Unavailable
from rocade.core.ports import Clock, Random

FILE = "agent.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, hub TEXT NOT NULL, tail TEXT NOT NULL DEFAULT 'message', id TEXT NOT NULL,
    stream TEXT NOT NULL, sequence INTEGER NOT NULL, address TEXT NOT NULL, content_class TEXT NOT NULL, content_type TEXT NOT NULL,
    size INTEGER NOT NULL, made_us INTEGER NOT NULL, asked_sha256 TEXT NOT NULL, sent_sha256 TEXT NOT NULL,
    envelope BLOB NOT NULL, state INTEGER NOT NULL DEFAULT 0, code TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '', taken_us INTEGER NOT NULL DEFAULT 0, decided_us INTEGER NOT NULL DEFAULT 0,
    at_pair INTEGER NOT NULL DEFAULT 0, UNIQUE (hub, id));
CREATE INDEX IF NOT EXISTS outbox_state ON outbox (hub, state, number);
CREATE INDEX IF NOT EXISTS outbox_sent ON outbox (hub, sent_sha256);
CREATE TABLE IF NOT EXISTS stream (
    hub TEXT NOT NULL, name TEXT NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (hub, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipt (
    hub TEXT NOT NULL, message_id TEXT NOT NULL, kind TEXT NOT NULL, at_us INTEGER NOT NULL, got_us INTEGER NOT NULL,
    document BLOB NOT NULL, PRIMARY KEY (hub, message_id, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox (
    hub TEXT NOT NULL, cursor INTEGER NOT NULL, sender TEXT NOT NULL, id TEXT NOT NULL, stream TEXT NOT NULL,
    sequence INTEGER NOT NULL, content_class TEXT NOT NULL, content_type TEXT NOT NULL, got_us INTEGER NOT NULL,
    envelope BLOB NOT NULL, PRIMARY KEY (hub, cursor), UNIQUE (hub, sender, id));
CREATE TABLE IF NOT EXISTS trouble (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, hub TEXT NOT NULL, code TEXT NOT NULL,
    text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS token (
    hash TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL, made_us INTEGER NOT NULL, until_us INTEGER NOT NULL,
    used_us INTEGER NOT NULL DEFAULT 0, ended_us INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS staff (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, role TEXT NOT NULL, made_us INTEGER NOT NULL,
    ended_us INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS passkey (
    id BLOB PRIMARY KEY, staff INTEGER NOT NULL, key BLOB NOT NULL, counter INTEGER NOT NULL, made_us INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS link (
    hash TEXT PRIMARY KEY, staff INTEGER NOT NULL, until_us INTEGER NOT NULL, used_us INTEGER NOT NULL DEFAULT 0)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session (
    hash TEXT PRIMARY KEY, staff INTEGER NOT NULL, made_us INTEGER NOT NULL, until_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offer (
    version TEXT PRIMARY KEY, sha256 TEXT NOT NULL, text TEXT NOT NULL, offered_us INTEGER NOT NULL,
    answer TEXT NOT NULL DEFAULT '', answered_by TEXT NOT NULL DEFAULT '', answered_us INTEGER NOT NULL DEFAULT 0,
    applied_us INTEGER NOT NULL DEFAULT 0, outcome TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
"""
TROUBLES_KEPT = 2000


class Store:
    """`rows`, `row` read; `write` is one transaction, on disk at its end."""

    def __init__(self, path: Path, clock: Clock, random: Random) -> None:
        self.path, self.clock = path, clock
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _translated((OSError, *BROKEN)):
            mend(path, EachFlushed())
            self._db = _connect(path)
        try:
            with _translated((OSError, *BROKEN)):
                path.chmod(0o600)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA cache_size = -4096")
                self._sums = self._begin(random)
        except BaseException:
            self._db.close()
            raise
        self.epoch = self.fact("epoch")
        """Random, made with the file: two stores of one site never number the same stream."""

    def _begin(self, random: Random) -> RowSums:
        """Check the file, and make it what it should be. Raises: Corrupt `dealer.damaged`."""
        if damage := list(RowSums(self._db).find_damage()):
            raise _damaged(damage[0])
        self._db.execute("BEGIN IMMEDIATE")
        before = self._db.execute("PRAGMA schema_version").fetchone()
        for statement in _SCHEMA.split(";\n"):
            self._db.execute(statement)
        sums = RowSums(self._db)
        sums.begin()
        self._db.execute("INSERT OR IGNORE INTO fact VALUES ('epoch', ?)", (f"{random.bits(32):08x}",))
        sums.fill()
        if self._db.execute("PRAGMA schema_version").fetchone() != before:
            sums.keep_schema()
        self._db.execute("COMMIT")
        return sums

    def fact(self, name: str) -> str:
        row = self.row("SELECT value FROM fact WHERE name = ?", name)
        return str(row[0]) if row else ""

    def keep_fact(self, name: str, value: str) -> None:
        with self.write() as write:
            write("INSERT OR REPLACE INTO fact VALUES (?, ?)", name, value)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with _translated():
            return self._db.execute(statement, values).fetchall()

    def row(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        found = self.rows(statement, *values)
        return found[0] if found else None

    @contextlib.contextmanager
    def write(self) -> Iterator[Execute]:
        """One transaction; the caller gets `execute(statement, *values) -> rows`."""
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._execute
                self._sums.fill()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def note_trouble(self, hub: str, code: str, text: str) -> None:
        """Keep what went wrong for the page; the same trouble again takes the place of the last one."""
        with self.write() as write:
            last = write("SELECT number, hub, code, text FROM trouble ORDER BY number DESC LIMIT 1")
            if last and last[0][1:] == (hub, code, text):
                write("UPDATE trouble SET at_us = ? WHERE number = ?", self.clock.now_us(), last[0][0])
                return
            write("INSERT INTO trouble (at_us, hub, code, text) VALUES (?,?,?,?)", self.clock.now_us(), hub, code, text)
            write("DELETE FROM trouble WHERE number <= (SELECT max(number) FROM trouble) - ?", TROUBLES_KEPT)

    def troubles(self, count: int = 100) -> list[tuple[int, str, str, str]]:
        """Newest first: (at_us, hub, code, text)."""
        return [
            (int(at_us), hub, code, text)
            for at_us, hub, code, text in self.rows(
                "SELECT at_us, hub, code, text FROM trouble ORDER BY number DESC LIMIT ?", count
            )
        ]

    def close(self) -> None:
        self._db.close()

    def _execute(self, statement: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        return self._db.execute(statement, values).fetchall()


class Execute(Protocol):
    """The shape of what `write` hands out."""

    def __call__(self, statement: str, *values: Any) -> Sequence[tuple[Any, ...]]: ...


def find_damage(path: Path) -> list[str]:
    """What in an agent's file is not what was written, beside the agent if it runs; for any thread. Raises: Unavailable `dealer.disk`."""
    try:
        mend(
            path, EachFlushed()
        )  # first: SQLite would forget what lies behind a turned bit, and this look would be the end of it
        with contextlib.closing(_connect(path)) as beside:
            return list(RowSums(beside).find_damage())
    except (OSError, *BROKEN) as error:
        if is_of_the_disk(error):
            fail(error)
        return [str(error)]


def accept_damage(path: Path) -> None:
    """Take the file of an agent that does not run for right as it stands, after people have looked.

    Raises: Corrupt `dealer.damaged` where its structure is broken, and nothing was changed; Unavailable `dealer.disk`.
    """
    with _translated((OSError, *BROKEN)), contextlib.closing(_connect(path)) as alone:
        alone.execute("BEGIN EXCLUSIVE")
        RowSums(alone).accept()
        if alone.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("its structure does not hold")
        alone.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=10, cached_statements=128)


@contextlib.contextmanager
def _translated(kinds: tuple[type[Exception], ...] = (sqlite3.Error,)) -> Iterator[None]:
    """Raises: as `fail`."""
    try:
        yield
    except kinds as error:
        fail(error)


def fail(error: Exception) -> NoReturn:
    """Raises: Unavailable `dealer.disk`, Corrupt `dealer.damaged`."""
    if is_of_the_disk(error):
        raise Unavailable(
            "dealer.disk", f"the agent's file cannot be written ({error}); free the disk, nothing was lost"
        ) from error
    raise _damaged(str(error)) from error


def _damaged(what: str) -> Corrupt:
    return Corrupt(
        "dealer.damaged",
        f"the agent's file is damaged ({what}); restore it, look with `rocade dealer mend`, or set it aside: a new one is begun",
    )
