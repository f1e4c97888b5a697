"""Moves what is new from the log to the archive.

Flow: the archiver is a group of the log of its own, so that nothing is dropped before it was archived -> every few minutes it takes
what is new of each of its partitions -> one object, on disk and noted -> its position moves on. A crash in between writes the object
again.
"""

from __future__ import annotations

import asyncio
import logging

from rocade.core.errors import RocadeError
from rocade.core.ports import Clock
from rocade.fabric.database import Leases
from rocade.fabric.database.connection import DOWN
from rocade.fabric.log import Limits, Log
from rocade.services.telemetry.archive.objects import Archive
from rocade.services.telemetry.model import STREAM

GROUP = "archive"
EVERY_S = 300.0
RETRY_S = 5.0
OLD_US = 3_600_000_000
"""What has waited so long is archived, however little it is."""
WORTH_BYTES = 4 << 20
OBJECT_BYTES = 16 << 20
OBJECT_RECORDS = 100_000
_log = logging.getLogger(__name__)


class Archiver:
    """Moves what is new from the log to the archive; one in each worker process, partitions shared by leases."""

    def __init__(self, archive: Archive, log: Log, leases: Leases, clock: Clock) -> None:
        self._archive = archive
        self._log = log
        self._leases = leases
        self._clock = clock
        self.archived = 0
        """Records since the start."""

    async def run(self, every_s: float = EVERY_S) -> None:
        """For ever; what fails is tried again."""
        while True:
            try:
                await self.turn()
                await self._leave_alone(every_s)
            except (RocadeError, *DOWN, TimeoutError) as error:
                _log.warning("the archive waits: %s", getattr(error, "code", type(error).__name__))
                await asyncio.sleep(RETRY_S)

    async def _leave_alone(self, every_s: float) -> None:
        """Until the next turn; leases are kept alive meanwhile."""
        end_s = self._clock.monotonic_s() + every_s
        while (left_s := end_s - self._clock.monotonic_s()) > 0:
            await self._leases.renew()
            await asyncio.sleep(min(left_s, 2.0))

    async def turn(self, *, is_everything: bool = False) -> int:
        """Archive what is worth it of every partition that is ours; how many records."""
        before = self.archived
        for partition in await self._leases.renew():
            while await self._take(partition, is_everything=is_everything):
                await self._leases.renew()
        return self.archived - before

    async def _take(self, partition: int, *, is_everything: bool) -> bool:
        """One object; whether there may be more."""
        after = await self._log.positions(GROUP, STREAM, [partition])
        taken = await self._log.read(STREAM, [partition], after, OBJECT_RECORDS, OBJECT_BYTES)
        if not taken.records:
            return False
        size = sum(len(record.body) for record in taken.records)
        oldest_us = min(record.arrived_us for record in taken.records)
        if not (is_everything or size >= WORTH_BYTES or oldest_us <= self._clock.now_us() - OLD_US):
            return False
        await self._archive.add(partition, taken.records, _salt(taken.limits))
        await self._log.commit(GROUP, STREAM, taken.positions)
        self.archived += len(taken.records)
        return True


async def put_away(log: Log) -> None:
    """Where the archive is off: the log waits for nobody."""
    while True:
        try:
            return await log.retire(GROUP, STREAM)
        except (RocadeError, *DOWN, TimeoutError):
            await asyncio.sleep(RETRY_S)


def _salt(limits: Limits) -> bytes:
    return repr(sorted(limits.items())).encode()
