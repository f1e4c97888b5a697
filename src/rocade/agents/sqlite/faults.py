"""What an error of an SQLite file means: that the disk did not do, or that the file is damaged."""

from __future__ import annotations

import sqlite3

BROKEN = (sqlite3.Error, UnicodeError, TypeError)
"""What reading a damaged file raises: a text that is none and a number where bytes stood are among it."""
_NO_SUCH_THING, _CORRUPT, _NO_DATABASE = 1, 11, 26


def is_of_the_disk(error: Exception) -> bool:
    """Whether nothing is wrong with the file itself: the disk is full, not writable, or another process holds the file."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", _CORRUPT) & 0xFF not in {_NO_SUCH_THING, _CORRUPT, _NO_DATABASE}
    return isinstance(error, OSError)
