"""The one owner of a chDB directory (embedded ClickHouse) inside the `store` process.

Flow: lock the directory -> open the engine on its encrypted disk -> hand out sessions; one session is one engine handle with its own settings.
Inserts go one at a time (`Engine.insert`), reads up to `READERS` at once, streams up to `STREAMS`; all run while background merges go on.
Refuses: a directory that another process owns, a key that does not open what is there. Facts behind it: one process may open a chDB directory, handles are cheap
(0.5 ms), a handle serves one statement at a time, the GIL is free while the engine works (docs/decisions/0005-history.md).
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chdb import ChdbError
from chdb.state.sqlitelike import Connection, connect

from rocade.core.errors import Misconfigured
from rocade.fabric.history import disk
from rocade.fabric.history.parts import NewParts

NOT_WRITTEN = 243
"""The engine's own code of a disk that is full."""
READERS = 4
STREAMS = 2
"""Streams wait for slow clients, so they have places of their own and never take those of short reads."""
OPTIONS: Mapping[str, str | int] = {
    "background_pool_size": 2,
    "os_threads_nice_value_merge_mutate": 10,
    "mark_cache_size": 268_435_456,
    "primary_index_cache_size": 536_870_912,
    **disk.NO_SPILL,
}
"""Server settings given at start. Merges yield the processor to inserts and reads."""


class Engine:
    """Open the directory with the key of its encrypted disk, or refuse.

    Raises: Misconfigured `history.directory.owned`, `history.directory.name`, `history.key`.
    """

    def __init__(self, directory: Path, key: bytes, options: Mapping[str, str | int] = OPTIONS) -> None:
        if set("?%#&") & set(str(directory)):
            raise Misconfigured("history.directory.name", "the history directory's path may not contain ? % # or &")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = _lock(directory / "owner.lock")
        disk.check_key(directory, key)
        given = {"config-file": disk.settings_file(directory), **options}
        self._address = f"{(directory / 'chdb').resolve()}?" + "&".join(f"{k}={v}" for k, v in given.items())
        with disk.key_in_environment(key):
            self._keeper = connect(self._address)  # keeps the engine open while sessions come and go
        self._writer = threading.Lock()
        self._parts = NewParts()
        self._readers = threading.BoundedSemaphore(READERS)
        self._streams = threading.BoundedSemaphore(STREAMS)

    def session(self) -> Session:
        return Session(connect(self._address), self._writer, self._readers, self._streams, self._parts)


class Session:
    """One engine handle. Settings stay on it, so each call says all it wants and only differences are sent."""

    def __init__(
        self,
        handle: Connection,
        writer: threading.Lock,
        readers: threading.BoundedSemaphore,
        streams: threading.BoundedSemaphore,
        parts: NewParts,
    ) -> None:
        self._handle = handle
        self._writer = writer
        self._readers = readers
        self._streams = streams
        self._parts = parts
        self._settings: dict[str, str] = {}

    def set(self, settings: Mapping[str, str]) -> None:
        """Make exactly these settings hold on this session."""
        for name in [name for name in self._settings if name not in settings]:
            self._handle.query(f"SET {_name(name)} = DEFAULT")
            del self._settings[name]
        for name, value in settings.items():
            if self._settings.get(name) != value:
                self._handle.query(f"SET {_name(name)} = {quote(value)}")
                self._settings[name] = value

    def insert(self, statement: str, data_format: str, body: bytes) -> None:
        """Run one INSERT without its FORMAT clause over `body`; durable when it returns.

        The engine's `finish` is silent when the part could not be written, so its count of failed inserts is compared; one
        of somebody else in that moment fails this one too, which is repeated under its token and does no harm.
        """
        with self._writer:
            failed = self._failed_inserts()
            with self._handle.send_insert(statement, data_format) as inserter:
                inserter.append(body)
                inserter.finish()
            if self._failed_inserts() != failed:
                code = self._asked("SELECT code FROM system.errors ORDER BY last_error_time DESC, value LIMIT 1")
                raise ChdbError(f"Code: {code or 1002}. The rows could not be written")
            self._drop_broken()

    def check_parts(self) -> list[str]:
        """Names of parts that are shorter on the disk than the engine believes and that no insert has dropped."""
        with self._writer:
            return [*self._parts.lost, *map(str, self._parts.broken(self._asked))]

    def _drop_broken(self) -> None:
        """Raises: ChdbError with the code of a full disk: who inserted repeats under its token."""
        broken = self._parts.broken(self._asked)
        self._parts.lost += [str(part) for part in broken if part.is_merged]
        cut = [part for part in broken if not part.is_merged]
        for part in cut:
            self._handle.query(f"ALTER TABLE {part.table} DROP PART {quote(part.name)}")
        if cut:
            raise ChdbError(f"Code: {NOT_WRITTEN}. {len(cut)} parts were cut off by the disk")

    def _failed_inserts(self) -> str:
        return self._asked("SELECT sum(value) FROM system.events WHERE event = 'FailedInsertQuery'")

    def _asked(self, statement: str) -> str:
        return bytes(self._handle.query(statement, "TabSeparated").bytes()).decode().strip()

    def run(self, statement: str, output_format: str, parameters: Mapping[str, str]) -> memoryview:
        """Run one statement and return the whole answer."""
        with self._readers:
            answer = self._handle.query(statement, output_format, params=dict(parameters))
        return memoryview(answer.bytes())

    @contextmanager
    def stream(self, statement: str, output_format: str, parameters: Mapping[str, str]) -> Iterator[Iterator[Any]]:
        """Run one SELECT and give its answer in pieces; each piece is complete in `output_format`."""
        with self._streams, self._handle.send_query(statement, output_format, params=dict(parameters)) as pieces:
            yield (piece.bytes() for piece in pieces)

    def close(self) -> None:
        self._handle.close()


def quote(text: str) -> str:
    """Write a ClickHouse string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _name(setting: str) -> str:
    if not setting.isidentifier():
        raise Misconfigured("history.setting.name", "a setting's name must be an identifier")
    return setting


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Misconfigured(
            "history.directory.owned",
            "another store process owns this history directory; stop it, or give this one a directory of its own",
        ) from None
    return descriptor
