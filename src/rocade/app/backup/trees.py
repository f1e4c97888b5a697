"""Many files as one stream, and back: per file its name, size and mode, then its bytes. A link's bytes are where it leads.

Files of `OWN_BYTES` or more begin a chunk of their own, so that a file which did not change gives the same chunks in the next
attempt. On the way back only plain relative names are believed.
Refuses: Corrupt `backup.tree`; Unavailable `backup.changed` for a file that shrank while it was read.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from struct import Struct

import msgspec

from rocade.app.backup.chunks import Cutter
from rocade.core.errors import Corrupt, Unavailable

OWN_BYTES = 1 << 20
READ_BYTES = 4 << 20
_HEAD = Struct(">HHQ")


class Source(msgspec.Struct, frozen=True):
    """A file to copy and the name it gets."""

    path: Path
    name: str


def below(directory: Path, name: str = "", skip: Iterable[str] = ()) -> list[Source]:
    """All files and links of a folder, in order; what goes meanwhile is not there. `skip`: names of entries directly in it."""
    left_out = set(skip)
    found = list[Source]()
    for folder, folders, files in os.walk(directory):
        here = Path(folder)
        if here == directory:
            folders[:] = [one for one in folders if one not in left_out]
            files = [one for one in files if one not in left_out]
        folders.sort()
        for file in sorted([*files, *(one for one in folders if (here / one).is_symlink())]):
            path = here / file
            with suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                    found.append(Source(path, str(PurePosixPath(name) / path.relative_to(directory).as_posix())))
    return found


def total_bytes(sources: Iterable[Source]) -> int:
    """How much there is to copy, about: files grow and go meanwhile."""
    total = 0
    for source in sources:
        with suppress(FileNotFoundError):
            total += source.path.lstat().st_size
    return total


def pack(source: Source, size_bytes: int, mode: int) -> bytes:
    """What stands before a file's bytes."""
    name = source.name.encode()
    return _HEAD.pack(len(name), mode, size_bytes) + name


async def send(sources: Iterable[Source], cutter: Cutter, *, may_go: bool = True) -> None:
    """Put these files into a stream; a file that grows is taken as long as it was when it was opened. `may_go`: one that is
    removed since it was listed had no part in what is copied.

    Raises: Unavailable `backup.changed`.
    """
    for source in sources:
        if source.path.is_symlink():
            target = os.fsencode(source.path.readlink())
            await cutter.add(pack(source, len(target), stat.S_IFLNK) + target)
            continue
        try:
            file = source.path.open("rb", buffering=0)
        except FileNotFoundError:
            if may_go:
                continue
            raise Unavailable(
                "backup.changed", f"{source.name} went while it was copied; run the command again"
            ) from None
        with file:
            status = os.fstat(file.fileno())
            left = status.st_size
            if left >= OWN_BYTES:
                await cutter.cut()
            await cutter.add(pack(source, left, status.st_mode))
            while left:
                piece = file.read(min(left, READ_BYTES))
                if not piece:
                    raise Unavailable(
                        "backup.changed", f"{source.name} shrank while it was copied; run the command again"
                    )
                await cutter.add(piece)
                left -= len(piece)


async def receive(stream: AsyncIterable[bytes], directory: Path) -> int:
    """Write the files of a stream below `directory`, on disk when this returns; how many there were.

    Raises: Corrupt `backup.tree`; OSError when the disk is full.
    """
    reader = _Reader(stream)
    count = 0
    while (head := await reader.take(_HEAD.size, may_end=True)) is not None:
        name_bytes, mode, size_bytes = _HEAD.unpack(head)
        count += 1
        name = (await reader.exactly(name_bytes)).decode(errors="replace")
        path = inside(directory, name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_ISLNK(mode):
            path.unlink(missing_ok=True)
            path.symlink_to(_leading_inside(directory, path, (await reader.exactly(size_bytes)).decode()))
            continue
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            async for piece in reader.some(size_bytes):
                file.write(piece)
            os.fchmod(file.fileno(), stat.S_IMODE(mode))
    await asyncio.to_thread(os.sync)  # once for all of them: a history has thousands
    return count


def inside(directory: Path, name: str) -> Path:
    """Where a file of this name belongs. Raises: Corrupt `backup.tree`."""
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or "\x00" in name:
        raise Corrupt("backup.tree", "a file of the backup has a name that leads elsewhere; nothing more was written")
    return directory / parts


def _leading_inside(directory: Path, link: Path, target: str) -> str:
    if Path(target).is_absolute() or not os.path.normpath(link.parent / target).startswith(
        f"{os.path.normpath(directory)}/"
    ):
        raise Corrupt("backup.tree", "a link of the backup leads elsewhere; nothing more was written")
    return target


class _Reader:
    """Takes exact lengths from a stream of pieces."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._pieces = aiter(stream)
        self._piece = memoryview(b"")

    async def take(self, length: int, *, may_end: bool = False) -> bytes | None:
        gathered = bytearray()
        async for piece in self.some(length, may_end=may_end):
            gathered += piece
        return bytes(gathered) if gathered or not length else None

    async def exactly(self, length: int) -> bytes:
        return await self.take(length) or b""

    async def some(self, length: int, *, may_end: bool = False) -> AsyncIterator[memoryview]:
        left = length
        while left:
            if not self._piece:
                following = await anext(self._pieces, None)
                if following is None:
                    if may_end and left == length:
                        return
                    raise Corrupt("backup.tree", "a file of the backup ends too early")
                self._piece = memoryview(following)
            piece, self._piece = self._piece[:left], self._piece[left:]
            left -= len(piece)
            yield piece
