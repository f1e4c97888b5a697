"""`Blobs` over `obstore`: one client for a local folder and for the clouds.

In a folder an object is written beside its place, then renamed; what the library leaves out is done here: file and folders are
fsynced before `put` returns, and the folder is the owner's alone. Names are segments of letters, digits, `-`, `_` and `.`.
Its blocking calls run in threads: those that are awaited leave a runtime behind that aborts the process at its end (obstore 0.12).
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.fabric.blobs import Blob

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]+(/(?!\.)[A-Za-z0-9._-]+)*\Z")


class StoredBlobs:
    """Implements `Blobs`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        try:
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._store: Any = LocalStore(self._folder)
            else:
                self._store = from_url(url)
        except (BaseError, OSError, ValueError) as error:
            raise Misconfigured(
                "blobs.url", "the blobs address must be file:///folder, s3://, gs:// or az:// with a bucket"
            ) from error

    async def put(self, name: str, body: bytes) -> None:
        def work() -> None:
            obstore.put(self._store, name, body)
            if self._folder is not None:
                _sync(self._folder, name)

        _check(name)
        with _translated():
            await asyncio.to_thread(work)

    async def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        def work() -> bytes:
            if start == 0 and end is None:
                return bytes(obstore.get(self._store, name).bytes())
            until = obstore.head(self._store, name)["size"] if end is None else end
            return bytes(obstore.get_range(self._store, name, start=start, end=until))

        _check(name)
        with _translated():
            return await asyncio.to_thread(work)

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        with _translated():
            pages = obstore.list(self._store, prefix or None)
            while (some := await asyncio.to_thread(next, pages, None)) is not None:
                for one in some:
                    yield Blob(one["path"], one["size"])

    async def delete(self, name: str) -> None:
        def work() -> None:
            with suppress(FileNotFoundError, NotFoundError):
                obstore.delete(self._store, name)
                if self._folder is not None:
                    _sync_folder((self._folder / name).parent)

        _check(name)
        with _translated():
            await asyncio.to_thread(work)


def _check(name: str) -> None:
    if not _NAME.match(name) or len(name) > 512:
        raise Refused(
            "blobs.name", "an object's name is segments of letters, digits, - _ and . with / between", name=name
        )


def _sync(folder: Path, name: str) -> None:
    """The object's bytes, then each folder on the way to it."""
    path = folder / name
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for parent in path.parents:
        _sync_folder(parent)
        if parent == folder:
            return


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotFoundError) as error:
        raise Refused("blobs.absent", "no object has this name") from error
    except (BaseError, OSError) as error:
        if getattr(error, "errno", 0) in _NO_ROOM or any(os.strerror(each) in str(error) for each in _NO_ROOM):
            raise Unavailable("blobs.full", "there is no room for more objects; nothing was stored") from error
        raise Unavailable("blobs.down", f"the blobs do not answer: {type(error).__name__}") from error
