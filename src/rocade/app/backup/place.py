"""Where a backup lies: a folder, or a bucket named by a URL (s3://, gs://, az://, file://).

Objects are written whole or not at all: a kill leaves none half there. In a folder they are synced before `put` returns, and
readable by their owner alone.
Refuses: Unavailable `backup.full`, `backup.place`.
"""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Protocol

from rocade.core.errors import Refused, Unavailable
from rocade.fabric.blobs import open_blobs
from rocade.trust.identity.keys import write_private


class Place(Protocol):
    """Called from threads; every method may block. Names are relative, with `/` between their parts."""

    def put(self, name: str, content: bytes) -> None:
        """Raises: Unavailable `backup.full`, `backup.place`."""
        ...

    def get(self, name: str) -> bytes | None:
        """None if it is not there. Raises: Unavailable `backup.place`."""
        ...

    def names(self, below: str = "") -> list[str]:
        """Names of all objects below, in order."""
        ...

    def remove(self, names: list[str]) -> None: ...


def open_place(target: str) -> Place:
    """A folder's path or a bucket's URL."""
    if "://" in target and not target.startswith("file://"):
        return Bucket(target)
    return Folder(Path(target.removeprefix("file://")))


class Folder:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, name: str, content: bytes) -> None:
        path = self.directory / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, content)
        except OSError as error:
            raise _failed(error) from error

    def get(self, name: str) -> bytes | None:
        try:
            return (self.directory / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(error) from error

    def names(self, below: str = "") -> list[str]:
        root = self.directory / below
        found = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(str(path.relative_to(self.directory)) for path in found)

    def remove(self, names: list[str]) -> None:
        folders = set[Path]()
        for name in names:
            path = self.directory / name
            path.unlink(missing_ok=True)
            folders.update(parent for parent in path.parents if parent.is_relative_to(self.directory))
        for folder in sorted(folders - {self.directory}, key=lambda one: len(one.parts), reverse=True):
            for half in folder.glob(".*.new"):  # what a kill has left of a file that was being written
                half.unlink(missing_ok=True)
            try:
                folder.rmdir()
            except OSError:
                continue  # something else is in it


class Bucket:
    """An object store, by the credentials its environment gives. Raises: also what `fabric.blobs` raises."""

    def __init__(self, url: str) -> None:
        self._blobs = open_blobs(url)

    def put(self, name: str, content: bytes) -> None:
        asyncio.run(self._blobs.put(name, content))

    def get(self, name: str) -> bytes | None:
        try:
            return asyncio.run(self._blobs.get(name))
        except Refused:
            return None

    def names(self, below: str = "") -> list[str]:
        async def found() -> list[str]:
            return sorted([blob.name async for blob in self._blobs.list(below)])

        return asyncio.run(found())

    def remove(self, names: list[str]) -> None:
        async def gone() -> None:
            for name in names:
                await self._blobs.delete(name)

        asyncio.run(gone())


def _failed(error: OSError) -> Unavailable:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return Unavailable(
            "backup.full", "the backup's place has no room; make some and run the command again, it goes on"
        )
    return Unavailable("backup.place", f"the backup's place cannot be used: {os.strerror(error.errno or 0)}")
