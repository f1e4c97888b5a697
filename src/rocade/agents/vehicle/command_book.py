"""What the vehicle remembers of commands, in its journal's file: the newest version of each lane, and reports not yet acknowledged.

One row a lane: a version, once taken, is never undercut, whatever happens afterwards. Every change of a lane and the report of it
are one transaction, flushed to disk before the call returns, so that a vehicle that loses power at any instant neither forgets
what it began nor what it owes the platform. Every row carries its checksum. Refuses: Unavailable `journal.full`, Corrupt `journal.damaged` as the journal does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from rocade.agents.sqlite.faults import BROKEN
from rocade.agents.vehicle.row_sums import add_sums, check_sums, raise_for, row_sum, teach
from rocade.wire.commands import Command, Report, State, encode, encode_report, read_command

WAITING, BEGUN = "waiting", "begun"
"""A lane's state before it is over: taken but not acted on; acting, recorded before the first thing is done."""
MOST_REPORTS = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS command_lane (
    lane TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL DEFAULT '',
    is_waking INTEGER NOT NULL DEFAULT 0, at_us INTEGER NOT NULL, issued_us INTEGER NOT NULL, command BLOB NOT NULL, sum INTEGER)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS command_report (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, state TEXT NOT NULL, body BLOB NOT NULL, sum INTEGER,
    UNIQUE (id, state));
"""
_SUMMED = {
    "command_lane": "lane, version, state, code, is_waking, at_us, issued_us, command",
    "command_report": "id, state, body",
}


class Lane(msgspec.Struct, frozen=True):
    """The newest command of a lane and what became of it; `state` is WAITING, BEGUN or how it ended."""

    command: Command
    state: str
    code: str
    is_waking: bool
    at_us: int

    @property
    def is_open(self) -> bool:
        return self.state in (WAITING, BEGUN)


class Book:
    """Uses the journal's own connection: its file is locked for one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        try:
            teach(self._db)
            self._db.executescript(_SCHEMA)
            for table, columns in _SUMMED.items():
                add_sums(self._db, table, columns)
                check_sums(self._db, table, columns)
            rows = self._db.execute("SELECT lane, command, state, code, is_waking, at_us FROM command_lane").fetchall()
        except sqlite3.Error as error:
            raise_for(error)
        self._lanes = {row[0]: Lane(read_command(row[1]), row[2], row[3], bool(row[4]), row[5]) for row in rows}

    def newest(self, lane: str) -> Lane | None:
        return self._lanes.get(lane)

    def open_lanes(self) -> list[Lane]:
        """What is not over yet, in order of issue."""
        return sorted((one for one in self._lanes.values() if one.is_open), key=lambda one: one.command.issued_us)

    @property
    def newest_issue_us(self) -> int:
        """The latest instant at which the platform is known to have been alive; never in the future of a right clock."""
        return max((one.command.issued_us for one in self._lanes.values()), default=0)

    def put(self, lane: Lane, reports: Sequence[Report]) -> None:
        """Make this the lane's newest state, and owe these reports."""
        command = lane.command
        row = (
            *(command.lane, command.version, lane.state, lane.code),
            *(int(lane.is_waking), lane.at_us, command.issued_us, encode(command)),
        )
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO command_lane VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, row_sum(*row))
            )
            self._owe(reports)
        self._lanes[command.lane] = lane

    def owe(self, report: Report) -> None:
        """Owe a report that changes no lane; one of this command and state that still waits is replaced."""
        with self._transaction():
            self._owe([report])

    def owed(self, after: int, count: int) -> list[tuple[int, bytes]]:
        """Reports not acknowledged yet, oldest first: (number, body)."""
        asked = "SELECT number, body FROM command_report WHERE number > ? ORDER BY number LIMIT ?"
        try:
            check_sums(self._db, "command_report", _SUMMED["command_report"])
            return self._db.execute(asked, (after, count)).fetchall()
        except BROKEN as error:
            raise_for(error)

    def settle(self, number: int) -> None:
        """The platform has this report. Not flushed: losing this costs one more report, which changes nothing there."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("DELETE FROM command_report WHERE number = ?", (number,))
        self._db.execute("PRAGMA synchronous = FULL")

    def _owe(self, reports: Sequence[Report]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO command_report (id, state, body, sum) VALUES (?, ?, ?, ?)",
            [(*row, row_sum(*row)) for row in ((one.id, one.state, encode_report(one)) for one in reports)],
        )
        self._db.execute(
            "DELETE FROM command_report WHERE number <= (SELECT max(number) FROM command_report) - ?", (MOST_REPORTS,)
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise_for(error)


def report_of(lane: Lane, state: State, at_us: int, **result: int | str) -> Report:
    return Report(
        id=lane.command.id, version=lane.command.version, state=state, at_us=at_us, code=lane.code, result=dict(result)
    )
