"""A sum of every row of an SQLite file, so that a bit that turned in a value is found.

SQLite finds what does not fit its own structure; that a value is still the one that was written it cannot tell. So each table has another
beside it (`NAME_sum`: the row's key, CRC-32 of the row). Triggers in plain SQL, which any program that writes the file obeys, leave
the sum of a row that changed empty; `fill` gives it before the commit. A version from before there were sums, to which somebody went
back, leaves them empty: such rows get theirs at the next start, and are not taken for damage.
Also kept: the text of the schema (its sum), and the last number of each AUTOINCREMENT table, which has no triggers of its own.
Cost: some 10 us a row that is written; `find_damage` reads the whole file once.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

_MOST_IGNORED = 1 << 32
_DONE = ("made", "changed", "gone")
"""What a row's triggers are named by."""


class _Table(NamedTuple):
    """A table's name and, as SQL, the columns of its key and all its columns, of a table named `t`."""

    name: str
    key: tuple[str, ...]
    types: tuple[str, ...]
    """Of the key's columns: with others SQLite would not look up a sum by its index."""
    columns: str
    is_numbered: bool

    def keyed(self, form: str) -> str:
        """The key's columns, each written as `form` says, in a list."""
        return ", ".join(form.format(column) for column in self.key)

    def same(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{column} = {other}.{column}" for column in self.key)


class RowSums:
    """The sums of all tables that one connection's file had when this was made."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._db.create_function("row_sum", -1, _row_sum, deterministic=True)
        self._db.execute("PRAGMA recursive_triggers = ON")  # or an OR REPLACE takes rows away untold
        self._tables = [
            _read_table(connection, str(name), str(text))
            for name, text in connection.execute(
                "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                " AND name NOT LIKE '%\\_sum' ESCAPE '\\' ORDER BY name"
            ).fetchall()
        ]
        self._fills = [_fill(table) for table in self._tables]
        self._unsummed = " UNION ALL ".join(
            f"SELECT {place} WHERE EXISTS (SELECT 1 FROM {table.name}_sum WHERE sum IS NULL)"
            for place, table in enumerate(self._tables)
        )

    def begin(self) -> None:
        """Give every table its sums, in the transaction that is open; what is there already stays."""
        self._db.execute("CREATE TABLE IF NOT EXISTS number_sum (name TEXT PRIMARY KEY, seq INTEGER) WITHOUT ROWID")
        for table in self._tables:
            if not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (f"{table.name}_sum",)).fetchone():
                for statement in _made(table):
                    self._db.execute(statement)
        self.fill()

    def fill(self) -> None:
        """Give the rows that were written since the last time their sums, before the commit."""
        for (place,) in self._db.execute(self._unsummed).fetchall():
            self._db.execute(self._fills[place])

    def keep_schema(self) -> None:
        """Take the schema for right as it is now, in the transaction that is open."""
        self._db.execute("CREATE TABLE IF NOT EXISTS schema_sum (sum INTEGER NOT NULL)")
        self._db.execute("DELETE FROM schema_sum")
        self._db.execute("INSERT INTO schema_sum VALUES (?)", (self._schema(),))

    def find_damage(self) -> Iterator[str]:
        """Name each place that is not what was written, for people; nothing is told twice. Rows without a sum yet are passed over.

        Raises: sqlite3.Error as reading a damaged file does.
        """
        self._db.execute("BEGIN")  # all of it as it was at one moment, while others write
        try:
            yield from self._damage()
        finally:
            self._db.execute("ROLLBACK")

    def accept(self) -> None:
        """Take everything for right as it stands, in the transaction that is open: after people have looked."""
        self._db.execute("REINDEX")
        for table in self._tables:
            for what in _DONE:
                self._db.execute(f"DROP TRIGGER IF EXISTS {table.name}_{what}")
            self._db.execute(f"DROP TABLE IF EXISTS {table.name}_sum")
        self.begin()
        for name in list(self._misnumbered()):
            self._db.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
            self._db.execute("INSERT INTO sqlite_sequence SELECT name, seq FROM number_sum WHERE name = ?", (name,))
        self.keep_schema()

    def _damage(self) -> Iterator[str]:
        for (text,) in self._db.execute("PRAGMA integrity_check(20)").fetchall():
            if text != "ok":
                yield str(text)
        if self._has("schema_sum") and self._db.execute("SELECT sum FROM schema_sum").fetchall() != [(self._schema(),)]:
            yield "the schema has changed"
        for table in self._tables:
            if self._has(f"{table.name}_sum"):
                yield from self._changed(table)
        if self._has("number_sum"):
            yield from (f"the last number of {name} has changed" for name in self._misnumbered())

    def _changed(self, table: _Table) -> Iterator[str]:
        first, name = table.key[0], table.name
        key = " || ', ' || ".join(f"quote({{0}}.{column})" for column in table.key)
        changed = self._db.execute(
            f"SELECT {key.format('t')} FROM {name} t LEFT JOIN {name}_sum s ON {table.same('t', 's')}"
            f" WHERE s.{first} IS NULL OR s.sum IS NOT NULL AND s.sum <> row_sum({table.columns}) LIMIT 20"
        ).fetchall()
        gone = self._db.execute(
            f"SELECT {key.format('s')} FROM {name}_sum s LEFT JOIN {name} t ON {table.same('t', 's')}"
            f" WHERE t.{first} IS NULL LIMIT 20"
        ).fetchall()
        yield from (f"{name} {row[0]} has changed" for row in changed)
        yield from (f"{name} {row[0]} is gone" for row in gone)

    def _misnumbered(self) -> Iterator[str]:
        """Tables whose last number has changed.

        An INSERT that is ignored takes a number, too: so the last one given may be above the last one kept, but not far.
        """
        last = dict(self._db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        for name, kept in self._db.execute("SELECT name, seq FROM number_sum").fetchall():
            given = last.get(name, 0)
            if not isinstance(given, int) or not kept <= given <= kept + _MOST_IGNORED:
                yield str(name)

    def _has(self, table: str) -> bool:
        return self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone() is not None

    def _schema(self) -> int:
        return _row_sum(
            *(
                part
                for row in self._db.execute(
                    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name <> 'schema_sum' ORDER BY type, name"
                ).fetchall()
                for part in row
            )
        )


def _row_sum(*values: object) -> int:
    """Of the values with their types: a text is not the bytes it is written with."""
    return zlib.crc32(msgspec.msgpack.encode(values))


def _read_table(connection: sqlite3.Connection, name: str, text: str) -> _Table:
    rows = connection.execute(f"PRAGMA table_info({name})").fetchall()
    key = sorted((row for row in rows if row[5]), key=lambda row: int(row[5]))
    names, types = tuple(str(row[1]) for row in key), tuple(str(row[2]) for row in key)
    columns = ", ".join(f"t.{row[1]}" for row in rows)
    return _Table(name, names, types, columns, "AUTOINCREMENT" in text.upper())


def _made(table: _Table) -> Iterator[str]:
    """What gives a table its sums, and the rows that are there a place for theirs."""
    name, key = table.name, table.keyed("{}")
    typed = ", ".join(f"{column} {kind}" for column, kind in zip(table.key, table.types, strict=True))
    yield f"CREATE TABLE {name}_sum ({typed}, sum INTEGER, PRIMARY KEY ({key})) WITHOUT ROWID"
    yield f"CREATE INDEX {name}_unsummed ON {name}_sum ({key}) WHERE sum IS NULL"
    old = " AND ".join(f"{column} = OLD.{column}" for column in table.key)
    new = ", ".join(f"{column} = NEW.{column}" for column in table.key)
    # in a trigger the OR of the statement outside holds: an OR REPLACE of a row that is there would be an OR IGNORE
    number = f"UPDATE number_sum SET seq = NEW.{key} WHERE name = '{name}';" if table.is_numbered else ""
    yield (
        f"CREATE TRIGGER {name}_made AFTER INSERT ON {name} BEGIN"
        f" INSERT OR REPLACE INTO {name}_sum ({key}) VALUES ({table.keyed('NEW.{}')}); {number} END"
    )
    yield f"CREATE TRIGGER {name}_changed AFTER UPDATE ON {name} BEGIN UPDATE {name}_sum SET {new}, sum = NULL WHERE {old}; END"
    yield f"CREATE TRIGGER {name}_gone AFTER DELETE ON {name} BEGIN DELETE FROM {name}_sum WHERE {old}; END"
    yield f"INSERT INTO {name}_sum ({key}) SELECT {key} FROM {name}"
    if table.is_numbered:
        yield _numbered(table)


def _numbered(table: _Table) -> str:
    return f"INSERT OR REPLACE INTO number_sum SELECT '{table.name}', coalesce(max({table.keyed('{}')}), 0) FROM {table.name}"


def _fill(table: _Table) -> str:
    return (
        f"UPDATE {table.name}_sum SET sum = (SELECT row_sum({table.columns}) FROM {table.name} t"
        f" WHERE {table.same('t', f'{table.name}_sum')}) WHERE sum IS NULL"
    )
