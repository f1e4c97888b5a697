"""The raw batch archive: what vehicles sent, as it was sealed at the intake, kept as objects longer than the log keeps it.

Flow: the archiver is a group of the log of its own, so that nothing is dropped before it was archived -> every few minutes it takes
what is new of each of its partitions -> one object, on disk -> its position moves on. A crash between the two writes the object
again. `replay` puts a vehicle's records back into the log, where the worker drops those it knows by their numbers.
    object  road/<partition>/<day>/<first arrival>-<digest>.records      MessagePack: format, references, records; then 16 bytes
            of digest over name and MessagePack, since a record's seal does not cover who sent it when
Erasure: the key is destroyed, so the objects open no more; `forget` also writes them anew without the vehicle's records, under a new
name. Days beyond `keep_days` go. Refuses: a damaged object (`archive.corrupt`). Decision: docs/decisions/0055-sealed-road.md.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from rocade.core.errors import Corrupt, Refused, RocadeError
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.core.ports import Clock
from rocade.fabric.blobs import Blob, Blobs
from rocade.fabric.database import Leases
from rocade.fabric.database.connection import DOWN
from rocade.fabric.log import Limits, Log, Record
from rocade.services.telemetry.model import STREAM

GROUP = "archive"
ROOT = "road"
FORMAT = 2
UNSUMMED = 1
"""The format from before there was a digest at the end."""
SUM_BYTES = 16
DAY_US = 86_400_000_000
EVERY_S = 300.0
RETRY_S = 5.0
SWEEP_S = 3_600.0
OLD_US = 3_600_000_000
"""What has waited so long is archived, however little it is."""
WORTH_BYTES = 4 << 20
OBJECT_BYTES = 16 << 20
OBJECT_RECORDS = 100_000
REPLAY_RECORDS = 2_000
_NAME = re.compile(rf"{ROOT}/\d+/(\d{{8}})/(\d{{1,18}})-[0-9a-f]+\.records")
_log = logging.getLogger(__name__)


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What an object holds; `refs` come first, so that they are found without the records."""

    format: int
    refs: list[int]
    records: list[Record]


class Archive:
    """Objects of one region's road."""

    name = "archive"

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def add(self, partition: int, records: Sequence[Record], salt: bytes = b"") -> str:
        """Store records of one partition as an object; its name."""
        first_us = min(record.arrived_us for record in records)
        body = msgspec.msgpack.encode(Content(FORMAT, sorted({record.key for record in records}), list(records)))
        digest = blake2b(salt or body, digest_size=12).hexdigest()
        name = f"{ROOT}/{partition:02d}/{_day(first_us)}/{first_us}-{digest}.records"
        await self._blobs.put(name, body + _sum(name, body))
        return name

    async def read(self, name: str) -> Content:
        """Raises: Corrupt `archive.corrupt`; Refused `blobs.absent`; Unavailable `blobs.down`."""
        return _content(name, await self._blobs.get(name))

    async def names(self, partition: int, since_us: int = 0, until_us: int = 1 << 62) -> list[str]:
        """Objects of a partition that can hold records which arrived in [since, until), oldest first."""
        first_us = {blob.name: int(named[2]) async for blob, named in self._objects(f"{ROOT}/{partition:02d}")}
        chosen = [name for name, at_us in first_us.items() if since_us - DAY_US <= at_us < until_us]
        return sorted(chosen, key=first_us.__getitem__)

    async def records(self, ref: int, since_us: int, until_us: int) -> AsyncIterator[Record]:
        """A vehicle's records by arrival, sealed as they are; one that was archived twice comes twice."""
        for name in await self.names(partition_of(VehicleRef(ref)), since_us, until_us):
            for record in (await self.read(name)).records:
                if record.key == ref and since_us <= record.arrived_us < until_us:
                    yield record

    async def replay(self, log: Log, ref: int, since_us: int, until_us: int) -> int:
        """Put a vehicle's records into the log again; how many. What the worker has, it drops by its number.

        Raises: Corrupt `archive.corrupt`; Unavailable `blobs.down`, `log.down`.
        """
        some: list[Record] = []
        count = 0
        async for record in self.records(ref, since_us, until_us):
            some.append(record)
            if len(some) >= REPLAY_RECORDS:
                await log.append(STREAM, some)
                count, some = count + len(some), []
        if some:
            await log.append(STREAM, some)
        return count + len(some)

    async def forget(self, refs: Sequence[int]) -> int:
        """Write anew what holds records of these vehicles, without them; how many records went. Repeatable.

        A damaged object stays for who mends it from a copy: what it may hold of them has no key any more.
        """
        gone, removed = set(refs), 0
        for partition in sorted({partition_of(VehicleRef(ref)) for ref in refs}):
            for name in await self.names(partition):
                try:
                    content = await self.read(name)
                except Corrupt as damage:
                    _log.warning("%s; an erasure passed it over", damage)
                    continue
                if gone.isdisjoint(content.refs):
                    continue
                kept = [record for record in content.records if record.key not in gone]
                if kept:
                    await self.add(partition, kept)
                await self._blobs.delete(name)
                removed += len(content.records) - len(kept)
        return removed

    async def days(self) -> dict[str, tuple[int, int]]:
        """Objects and bytes of each day."""
        found: dict[str, tuple[int, int]] = {}
        async for blob, named in self._objects(ROOT):
            objects, size_bytes = found.get(named[1], (0, 0))
            found[named[1]] = objects + 1, size_bytes + blob.size_bytes
        return found

    async def drop_before(self, before_us: int) -> int:
        """Remove objects whose day has ended before an instant; how many."""
        day = _day(before_us)
        old = [blob.name async for blob, named in self._objects(ROOT) if named[1] < day]
        for name in old:
            await self._blobs.delete(name)
        return len(old)

    async def _objects(self, under: str) -> AsyncIterator[tuple[Blob, re.Match[str]]]:
        """With day and first instant; what else somebody laid there is none of ours."""
        async for blob in self._blobs.list(under):
            if named := _NAME.fullmatch(blob.name):
                yield blob, named


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


async def sweep(archive: Archive, clock: Clock, keep_days: float, every_s: float = SWEEP_S) -> None:
    """For ever: objects of days that ended so long ago go; what fails is tried again."""
    while True:
        try:
            await archive.drop_before(clock.now_us() - int(keep_days * DAY_US))
        except RocadeError as error:
            _log.warning("old objects of the archive stay for now: %s", error.code)
        await asyncio.sleep(every_s)


async def put_away(log: Log) -> None:
    """Where the archive is off: the log waits for nobody."""
    while True:
        try:
            return await log.retire(GROUP, STREAM)
        except (RocadeError, *DOWN, TimeoutError):
            await asyncio.sleep(RETRY_S)


def _content(name: str, stored: bytes) -> Content:
    is_unsummed = stored[:2] == bytes((0x93, UNSUMMED))  # an array of three, the first of them the format
    body = stored if is_unsummed else stored[:-SUM_BYTES]
    try:
        if not (is_unsummed or stored[-SUM_BYTES:] == _sum(name, body)):
            raise ValueError
        content = msgspec.msgpack.decode(body, type=Content)
    except (msgspec.DecodeError, ValueError) as error:
        raise Corrupt("archive.corrupt", f"the archive's object {name} is damaged; take it from a backup") from error
    if content.format not in (UNSUMMED, FORMAT):
        raise Refused("archive.format", f"the archive's object {name} is of another version of Rocade")
    return content


def _sum(name: str, body: bytes) -> bytes:
    return blake2b(body, digest_size=SUM_BYTES, key=blake2b(name.encode()).digest()).digest()


def _salt(limits: Limits) -> bytes:
    return repr(sorted(limits.items())).encode()


def _day(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y%m%d}"
