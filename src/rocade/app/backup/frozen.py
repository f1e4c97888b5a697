"""The embedded history's files, held still while they are copied.

Flow: `hold` has the engine link every part of every table into `shadow/<name>`, which takes milliseconds whatever it weighs
-> `sources` lists those files under the names they have to come back under, and the definitions of the tables -> `release`
removes the links. Put back into an empty history directory they are found by the engine at its next start.
The parts are encrypted files (fabric/history/disk.py); they come back under the same key. While a backup holds them, parts that an
erasure has rewritten are still on the disk: `HeldParts` makes it wait for the end of the backup, and removes what one that was
killed has left. One backup at a time: a lock that its process holds tells both.
Refuses: Unavailable `backup.running`, `backup.frozen`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from rocade.app.backup.trees import Source, below
from rocade.app.configuration import Configuration
from rocade.core.errors import Unavailable
from rocade.fabric.history import History, connect
from rocade.fabric.history.process import StoreProcess
from rocade.trust.authority.sealing import REGION, Group, Keyring

LOCK = "backup.lock"
ENGINE, SEALED = "chdb", "sealed"
"""What lies below the history directory: definitions (and parts of earlier versions, in clear), encrypted parts."""
_TABLES = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' ORDER BY name"


_HELD = "SELECT toInt64(countIf(rows > 0)) AS parts FROM system.parts WHERE active AND database = currentDatabase()"


class Frozen:
    """The parts of all tables as they were at one instant. `name`: an identifier; the engine writes other names otherwise."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name

    async def hold(self, history: History) -> int:
        """Hold every table; how many there were. Raises: Unavailable `history.down`, Refused `history.freeze.remote`."""
        self.release()
        tables = (await history.query(_TABLES)).column(0).to_pylist()
        for table in tables:
            await history.freeze(table, self._name)
        is_held = any((self._directory / disk / "shadow" / self._name).exists() for disk in (ENGINE, SEALED))
        if not is_held and (await history.query(_HELD)).column(0)[0].as_py():
            raise Unavailable(
                "backup.frozen", "the history's parts could not be held still in its directory; try again"
            )
        return len(tables)

    def sources(self) -> list[Source]:
        found = list[Source]()
        for disk in (ENGINE, SEALED):
            place = self._directory / disk
            found += below(place / "shadow" / self._name, disk)
            found += [
                Source(path, f"{disk}/{path.relative_to(place).as_posix()}")
                for path in sorted(place.glob("store/*/*/format_version.txt"))
            ]
        engine = self._directory / ENGINE
        found += below(engine / "metadata", f"{ENGINE}/metadata")
        found += [
            Source(path, f"{ENGINE}/{path.relative_to(engine).as_posix()}")
            for path in sorted(engine.glob("store/*/*/*.sql"))
        ]
        return found

    def release(self) -> None:
        for disk in (ENGINE, SEALED):
            shutil.rmtree(self._directory / disk / "shadow" / self._name, ignore_errors=True)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """While this lasts nobody else backs this history up; what a backup that was killed still holds is let go.

    Raises: Unavailable `backup.running`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("backup.running", "a backup of this region is being made; wait for its end") from None
        for disk in (ENGINE, SEALED):
            for left in (directory / disk / "shadow").glob("backup_*"):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(lock)


class HeldParts:
    """What an erasure asks besides history and archive: that no backup holds parts from before (`telemetry.erasing.Place`)."""

    name = "backup"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def forget(self, refs: Sequence[int]) -> int:  # noqa: ARG002  # whatever was erased: all of them go
        """Raises: Unavailable `backup.running`: the erasure goes on when the backup has ended."""
        with alone(self._directory):
            return 0


@contextlib.asynccontextmanager
async def history_of(configuration: Configuration, keyring: Keyring) -> AsyncIterator[History]:
    """The region's history where it runs; else started for as long as this lasts.

    Raises: Unavailable `custody.*`, `history.down`; Misconfigured `history.start`.
    """
    store: StoreProcess | None = None
    history = connect(configuration.effective_history_url)
    try:
        try:
            await history.query("SELECT 1")
        except Unavailable:
            if not configuration.owns_store:
                raise
            name = (REGION, int(Group.HISTORY))
            configuration.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            store = StoreProcess(configuration.root / "history", (await keyring.ensure([name]))[name])
            store.socket_path = configuration.socket_directory / "store.sock"
            await asyncio.to_thread(store.start)
        yield history
    finally:
        await history.close()
        if store is not None:
            await asyncio.to_thread(store.stop)
