"""Price files on disk, named by the SHA-256 of their bytes and never changed: DIR/prices/files/ab/abcdef...

A file is whole and durable before anything names it. One that nothing names (a crash before the commit) does no harm
and is swept when it is a day old.
"""

from __future__ import annotations

import re
import time
from collections.abc import Set
from hashlib import sha256
from pathlib import Path

from rocade.trust.identity.keys import write_atomically

_NAME = re.compile(r"[0-9a-f]{64}")
ORPHAN_S = 86_400.0


class Shelf:
    def __init__(self, directory: Path) -> None:
        self._directory = directory / "files"

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

    def sweep(self, known: Set[str]) -> int:
        """Remove files that nothing names and that are older than a day; how many."""
        old = [
            path for path in self._directory.glob("??/*")
            if path.name not in known and time.time() - path.stat().st_mtime > ORPHAN_S
        ]  # fmt: skip
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / name
