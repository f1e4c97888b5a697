"""Stop intake before the disk is full: a database that hits the end of its disk panics; a door that waits loses nothing.

`GuardedLog` is the log it wraps; only `append` asks first, at most once in `CHECK_S`, whether the data directory still
has `min_free_bytes`, and raises Unavailable `log.full` if not. Readers go on, retention frees room, intake resumes.
The file `fault` pretends a full disk: the harmless form of that fault for demonstrations.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rocade.core.errors import Unavailable
from rocade.core.ports import Clock
from rocade.fabric.log import Lag, Limits, Log, Place, Positions, Record, Slice

CHECK_S = 0.5
MIN_FREE_BYTES = 500_000_000


class GuardedLog:
    def __init__(
        self, log: Log, directory: Path, clock: Clock, fault: Path, min_free_bytes: int = MIN_FREE_BYTES
    ) -> None:
        self._log = log
        self._directory = directory
        self._clock = clock
        self._fault = fault
        self._min_free_bytes = min_free_bytes
        self._checked_s = -CHECK_S
        self.is_full = False

    async def append(self, stream: str, records: Sequence[Record]) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._checked_s >= CHECK_S:
            self._checked_s = now_s
            free_bytes = shutil.disk_usage(self._directory).free
            self.is_full = free_bytes < self._min_free_bytes or self._fault.exists()
        if self.is_full:
            raise Unavailable("log.full", "the disk is nearly full; intake waits until there is room")
        await self._log.append(stream, records)

    async def read(
        self, stream: str, partitions: Sequence[int], after: Positions, max_records: int, max_bytes: int
    ) -> Slice:
        return await self._log.read(stream, partitions, after, max_records, max_bytes)

    async def reread(self, stream: str, limits: Limits) -> Slice:
        return await self._log.reread(stream, limits)

    async def positions(self, group: str, stream: str, partitions: Sequence[int]) -> dict[Place, int]:
        return await self._log.positions(group, stream, partitions)

    async def commit(self, group: str, stream: str, positions: Positions, connection: Any = None) -> None:
        await self._log.commit(group, stream, positions, connection)

    async def retire(self, group: str, stream: str) -> None:
        await self._log.retire(group, stream)

    async def lag(self, group: str, stream: str) -> Lag:
        return await self._log.lag(group, stream)

    async def trim(self) -> int:
        return await self._log.trim()

    async def forget(self, stream: str, keys: Mapping[int, int]) -> dict[int, int] | None:
        return await self._log.forget(stream, keys)

    async def close(self) -> None:
        await self._log.close()
