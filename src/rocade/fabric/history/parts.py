"""Whether what the embedded engine wrote is on the disk in its whole length.

Found by trial (docs/disks.md): where a write ends short and the next one fails, the engine of chDB 4.4 says nothing, makes the part
active and answers "stored". So the files of each new part are held against the sizes the engine believes in: after every insert,
before it is acknowledged, and every few seconds for merged ones. A broken part of an insert is dropped by who inserted, and with it the
memory of its token, so that the repeated block is taken; after any other the process ends, and the next start goes back to the parts a merge
came from, which the engine keeps for eight minutes. A part is broken when it is shorter: what is longer holds a file we do not know. Encrypted files have a head of `HEAD_BYTES`; the few files that are in no sum are checked to be there.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 64
_UNSUMMED = frozenset(
    {
        "checksums.txt",
        "columns.txt",
        "columns_substreams.txt",
        "default_compression_codec.txt",
        "invalidated_system_columns.txt",
        "metadata_version.txt",
        "txn_version.txt",
        "uuid.txt",
    }
)
LOOK_BACK_S = 60
"""Parts younger than so much before the last look are looked at; each only once."""


class Part(NamedTuple):
    table: str
    """As SQL writes it."""
    name: str
    path: Path
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.table} {self.name}"

    @property
    def is_merged(self) -> bool:
        """By its name: <partition>_<first block>_<last block>_<level>, then _<mutation> if there was one."""
        return not re.fullmatch(r".*_(\d+)_\1_0", self.name)


class NewParts:
    """Asks the engine for its parts and the file system for their files."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        """Broken ones of merges, for who ends the process."""
        self._lock = threading.Lock()
        self._seen: dict[Path, None] = {}
        self._since = 0

    def broken(self, ask: Callable[[str], str]) -> list[Part]:
        """Parts that are shorter than the engine believes, since the last look; `ask` runs a statement, tab-separated."""
        with self._lock:
            answer = ask(
                "SELECT database, table, name, path, bytes_on_disk, toUnixTimestamp(modification_time) FROM system.parts"
                " WHERE active AND disk_name = 'sealed' AND database != 'system'"
                f" AND modification_time >= toDateTime({max(0, self._since - LOOK_BACK_S)})"
            )
            found, seen = [], dict[Path, None]()
            for line in answer.splitlines():
                database, table, name, path, size_bytes, at_s = line.split("\t")
                part = Part(f"`{database}`.`{table}`", name, Path(path), int(size_bytes))
                self._since = max(self._since, int(at_s))
                seen[part.path] = None
                if part.path not in self._seen and not _is_whole(part):
                    found.append(part)
            self._seen = seen
            return found


def _is_whole(part: Part) -> bool:
    try:
        sizes = {file.name: file.stat().st_size for file in part.path.iterdir()}
    except FileNotFoundError:
        return True  # merged away meanwhile
    summed = sum(max(0, size - HEAD_BYTES) for name, size in sizes.items() if name not in _UNSUMMED)
    rest = [size for name, size in sizes.items() if name in _UNSUMMED]
    return summed >= part.size_bytes and all(size > HEAD_BYTES for size in rest)
