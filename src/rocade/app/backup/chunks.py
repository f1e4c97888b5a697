"""A stream cut into sealed chunks, and back.

Out: pieces gather to `CHUNK_BYTES` -> named by a keyed hash of what they hold -> compressed where that helps, sealed with the
backup's key, bound to their name -> put. Two are worked on at a time, in threads. A chunk that is there already and opens is
not written again: that is how a backup goes on after it was broken off. In: SHA-256 against the manifest -> opened -> unfolded.
Refuses: Corrupt `backup.chunk` (missing, changed, cut off, exchanged), `backup.key` (the key is not this backup's).
"""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from hashlib import sha256
from threading import Lock
from typing import Self

import zstandard

from rocade.app.backup.model import Chunk
from rocade.app.backup.place import Place
from rocade.core.errors import Corrupt
from rocade.trust.authority.sealing import aad, open_sealed, seal

CHUNK_BYTES = 8 << 20
AT_A_TIME = 2
PROBE_BYTES = 64 << 10
_NAMING = b"names of a backup's chunks"


class Sealer:
    """The key of one backup, and the chunks under one folder of a place."""

    def __init__(self, place: Place, folder: str, number: int, key: bytes) -> None:
        self._place = place
        self._folder = folder
        self._number = number
        self._key = key
        self._naming = hmac.digest(key, _NAMING, "sha256")
        self._there = {name.rpartition("/")[2] for name in place.names(f"{folder}/chunks")}
        self._made: dict[str, Future[Chunk]] = {}
        self._lock = Lock()
        self.kept = 0
        """Chunks that were there already."""

    def put(self, plain: bytes, *, squeeze: bool) -> Chunk:
        """Chunks that hold the same are one, written once."""
        name = hmac.digest(self._naming, plain, "sha256")[:16].hex()
        with self._lock:
            is_first = name not in self._made
            made = self._made.setdefault(name, Future())
        if is_first:
            try:
                made.set_result(self._put(name, plain, squeeze=squeeze))
            except BaseException as error:
                made.set_exception(error)
        return made.result()

    def _put(self, name: str, plain: bytes, *, squeeze: bool) -> Chunk:
        sealed = self._whole(name, plain) if name in self._there else None
        if sealed is not None:
            self.kept += 1
        else:
            body = _squeezed(plain) if squeeze else plain
            sealed = seal(self._key, body, self._bound(name))
            self._place.put(self._path(name), sealed)
        return Chunk(name, sha256(sealed).hexdigest(), len(sealed), len(plain))

    def get(self, chunk: Chunk) -> bytes:
        """Raises: Corrupt `backup.chunk`, `backup.key`."""
        return self._opened(chunk.name, self.sealed(chunk), chunk.size_bytes)

    def sealed(self, chunk: Chunk) -> bytes:
        """The bytes as they lie there, checked. Raises: Corrupt `backup.chunk`."""
        return read_sealed(self._place, self._folder, chunk)

    def _whole(self, name: str, plain: bytes) -> bytes | None:
        """The sealed bytes if they hold exactly this."""
        sealed = self._place.get(self._path(name))
        try:
            return sealed if sealed is not None and self._opened(name, sealed, len(plain)) == plain else None
        except Corrupt:
            return None

    def _opened(self, name: str, sealed: bytes, size_bytes: int) -> bytes:
        try:
            body = open_sealed(self._key, sealed, self._bound(name))
        except Corrupt:
            raise Corrupt(
                "backup.key", f"chunk {name} is whole but does not open: the key is not this backup's"
            ) from None
        try:
            plain = body if len(body) == size_bytes else zstandard.ZstdDecompressor().decompress(body, size_bytes)
        except zstandard.ZstdError:
            plain = b""
        if len(plain) != size_bytes:
            raise Corrupt("backup.chunk", f"chunk {name} holds another length than the manifest says")
        return plain

    def _bound(self, name: str) -> bytes:
        return aad(self._number, f"backup/{name}", 1, 0)

    def _path(self, name: str) -> str:
        return f"{self._folder}/chunks/{name}"


def _squeezed(plain: bytes) -> bytes:
    """Shorter if that is possible: a body as long as its content is the content itself. Sealed records are known by a probe."""
    packer = zstandard.ZstdCompressor(level=1)
    probe = plain[:PROBE_BYTES]
    if len(packer.compress(probe)) > 0.95 * len(probe):
        return plain
    packed = packer.compress(plain)
    return packed if len(packed) < len(plain) else plain


def read_sealed(place: Place, folder: str, chunk: Chunk) -> bytes:
    """A chunk's bytes as they lie there. Raises: Corrupt `backup.chunk`."""
    sealed = place.get(f"{folder}/chunks/{chunk.name}")
    if sealed is None:
        raise Corrupt("backup.chunk", f"chunk {chunk.name} is missing; take another backup")
    if len(sealed) != chunk.stored_bytes or sha256(sealed).hexdigest() != chunk.sha256:
        raise Corrupt("backup.chunk", f"chunk {chunk.name} is not what was written; take another backup")
    return sealed


class Cutter:
    """One stream on its way out: inside `async with`, `add` pieces, `finish` for its chunks. `moved(bytes)` is told of each."""

    def __init__(self, sealer: Sealer, moved: Callable[[int], object], *, squeeze: bool = True) -> None:
        self._sealer = sealer
        self._moved = moved
        self._squeeze = squeeze
        self._gathered = bytearray()
        self._working = deque[asyncio.Task[Chunk]]()
        self._chunks = list[Chunk]()
        self.size_bytes = 0

    async def add(self, piece: bytes | memoryview) -> None:
        self._gathered += piece
        while len(self._gathered) >= CHUNK_BYTES:
            await self._send(CHUNK_BYTES)

    async def cut(self) -> None:
        """End the chunk here: what follows can then be found again as it is, whatever came before it."""
        if self._gathered:
            await self._send(len(self._gathered))

    async def finish(self) -> tuple[Chunk, ...]:
        await self.cut()
        while self._working:
            await self._take()
        return tuple(self._chunks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is written after this: a thread cannot be cancelled, and a late one would replace what the next attempt wrote."""
        await asyncio.gather(*self._working, return_exceptions=True)

    async def _send(self, length: int) -> None:
        plain = bytes(memoryview(self._gathered)[:length])
        del self._gathered[:length]
        if len(self._working) >= AT_A_TIME:
            await self._take()
        self.size_bytes += length
        work = asyncio.to_thread(self._sealer.put, plain, squeeze=self._squeeze)
        self._working.append(asyncio.create_task(work))

    async def _take(self) -> None:
        chunk = await self._working.popleft()
        self._chunks.append(chunk)
        self._moved(chunk.size_bytes)


async def pieces(sealer: Sealer, chunks: Iterable[Chunk], moved: Callable[[int], object]) -> AsyncIterator[bytes]:
    """What the chunks hold, in order; the next is fetched and opened while one is used."""
    ahead = deque[tuple[Chunk, asyncio.Task[bytes]]]()
    waiting = iter(chunks)
    try:
        while True:
            while len(ahead) < AT_A_TIME and (chunk := next(waiting, None)) is not None:
                ahead.append((chunk, asyncio.create_task(asyncio.to_thread(sealer.get, chunk))))
            if not ahead:
                return
            chunk, task = ahead.popleft()
            yield await task
            moved(chunk.size_bytes)
    finally:
        for _, task in ahead:
            task.cancel()
