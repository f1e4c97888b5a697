"""Price files on disk, named by the SHA-256 of their bytes and never changed: DIR/prices/files/ab/abcdef...

A file is whole and durable before anything names it. One that nothing names (a crash before the commit) does no harm
and is swept when it is a day old.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Set
from hashlib import sha256
from pathlib import Path

from rocade.trust.identity.keys import write_atomically

_NAME = re.compile(r"[0-9a-f]{64}")
ORPHAN_S = 86_400.0
HELD_BYTES, HELD_EACH_BYTES = 64 << 20, 4 << 20


class Shelf:
    """Small files that everybody asks for at once are answered from memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "files"
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0

    def put(self, name: str, content: bytes) -> None:
        """Keep bytes under their hash. Raises: ValueError if that is not their hash."""
        if sha256(content).hexdigest() != name:
            raise ValueError("a file is named by the hash of its bytes")
        path = self._path(name)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(path, content)

    def find(self, name: str) -> Path | None:
        """Where the file lies; None for a name that is no hash or is not here."""
        if not _NAME.fullmatch(name):
            return None
        path = self._path(name)
        return path if path.is_file() else None

    async def read(self, name: str) -> bytes | None:
        """The file's bytes; None as `find`."""
        if (known := self._held.get(name)) is not None:
            self._held.move_to_end(name)
            return known
        if (path := self.find(name)) is None:
            return None
        content = await asyncio.to_thread(path.read_bytes)
        if len(content) <= HELD_EACH_BYTES and name not in self._held:
            self._held[name] = content
            self._held_bytes += len(content)
            while self._held_bytes > HELD_BYTES:
                self._held_bytes -= len(self._held.popitem(last=False)[1])
        return content

    def sweep(self, known: Set[str], now_us: int) -> int:
        """Remove files that nothing names and that are older than a day; how many."""
        old = [
            path for path in self._directory.glob("??/*")
            if path.name not in known and now_us / 1e6 - path.stat().st_mtime > ORPHAN_S
        ]  # fmt: skip
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / name
