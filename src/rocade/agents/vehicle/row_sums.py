"""Checksums of rows in the journal's file, and what an error of that file means.

SQLite finds what does not fit its own structure; that the value in a row is still the one that was written it cannot tell. So a
table has a column `sum`, written with each row, and rows are held against it when they are read.
Refuses: Unavailable `journal.full`, Corrupt `journal.damaged`.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from rocade.agents.sqlite.faults import BROKEN, is_of_the_disk
from rocade.core.errors import Corrupt, Unavailable


def row_sum(*values: object) -> int:
    """What a row's bits are held against; also a function of the journal's SQL."""
    return zlib.crc32(b"\0".join(one if isinstance(one, bytes) else str(one).encode() for one in values))


def teach(connection: sqlite3.Connection) -> None:
    """Give a connection's SQL the function `row_sum`."""
    connection.create_function("row_sum", -1, row_sum, deterministic=True)


def add_sums(connection: sqlite3.Connection, table: str, columns: str) -> None:
    """Give a table from before there were sums its column, and its rows their sums where `columns` says of what."""
    if not any(column[1] == "sum" for column in connection.execute(f"PRAGMA table_info({table})")):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN sum INTEGER")
        if columns:
            connection.execute(f"UPDATE {table} SET sum = row_sum({columns})")


def check_sums(connection: sqlite3.Connection, table: str, columns: str) -> None:
    """Raises: Corrupt `journal.damaged` if a row of the table is not what was written."""
    if connection.execute(f"SELECT 1 FROM {table} WHERE sum IS NOT row_sum({columns}) LIMIT 1").fetchone():
        raise damaged(f"a row of {table} has changed")


@contextmanager
def translated() -> Iterator[None]:
    """Raises: as `raise_for`."""
    try:
        yield
    except (*BROKEN, OSError) as error:
        raise_for(error)


def raise_for(error: Exception) -> NoReturn:
    """What a failure of the journal's file means. Raises: Unavailable `journal.full`, Corrupt `journal.damaged`."""
    if is_of_the_disk(error):
        raise Unavailable(
            "journal.full", f"the journal cannot be written ({error}); free the disk, nothing was lost"
        ) from error
    raise damaged(str(error)) from error


def damaged(what: str) -> Corrupt:
    return Corrupt("journal.damaged", f"the journal is damaged ({what}); set it aside, a new one starts a new epoch")
