"""The archive's objects, and which of them must be there.

    object  road/<partition>/<day>/<first arrival>-<digest>.records      MessagePack: format, references, records; then 16 bytes
            of digest over name and MessagePack, since a record's seal does not cover who sent it when
    note    a row of its name in the database

Order of `add`: the object is on disk -> whether one of its vehicles was erased meanwhile is asked: then it is written anew without
-> the note -> only then may the log drop its records. Order of removing: the note, the object. So what was killed in between leaves an
object that no note knows; `settle` looks through those, as through all of a region from before there were notes. An
erasure therefore misses nothing: its order stands in the database before it lists, and who stores after that asks.
Refuses: a damaged object (`archive.corrupt`), one that must be there and is not (`archive.absent`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from rocade.core.errors import Corrupt, Refused
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.fabric.blobs import Blob, Blobs
from rocade.fabric.database import Database
from rocade.fabric.log import Log, Record
from rocade.services.telemetry.archive import store
from rocade.services.telemetry.model import STREAM

ROOT = "road"
FORMAT = 2
UNSUMMED = 1
"""The format from before there was a digest at the end."""
SUM_BYTES = 16
DAY_US = 86_400_000_000
REPLAY_RECORDS = 2_000
_NAME = re.compile(rf"{ROOT}/(\d+)/(\d{{8}})/(\d{{1,18}})-[0-9a-f]+\.records")
_log = logging.getLogger(__name__)


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What an object holds; `refs` come first, so that they are found without the records."""

    format: int
    refs: list[int]
    records: list[Record]


class Checked(msgspec.Struct, frozen=True):
    """`objects` that must be there, the names of those that are not, and of those that are there and cannot be read."""

    objects: int
    absent: list[str]
    damaged: list[str]


class Archive:
    """Objects of one region's road."""

    name = "archive"

    def __init__(self, blobs: Blobs, database: Database) -> None:
        self._blobs = blobs
        self._pool = database.pool

    async def add(self, partition: int, records: Sequence[Record], salt: bytes = b"") -> str:
        """Store records of one partition as an object; its name, '' if all their vehicles were erased meanwhile."""
        first_us = min(record.arrived_us for record in records)
        refs = sorted({record.key for record in records})
        body = msgspec.msgpack.encode(Content(FORMAT, refs, list(records)))
        digest = blake2b(salt or body, digest_size=12).hexdigest()
        name = f"{ROOT}/{partition:02d}/{day_of(first_us)}/{first_us}-{digest}.records"
        await self._blobs.put(name, body + _sum(name, body))
        if gone := await store.erased(self._pool, refs):
            return await self._write_anew(name, partition, records, gone)
        await self._note(name, partition, first_us)
        return name

    async def _note(self, name: str, partition: int, first_us: int) -> None:
        """That it must be there, unless it was removed on purpose just before."""
        await store.note(self._pool, name, partition, first_us)
        try:
            await self._blobs.get(name, 0, 1)
        except Refused as error:
            if error.code != "blobs.absent":
                raise
            await store.drop(self._pool, [name])

    async def _write_anew(self, name: str, partition: int, records: Sequence[Record], gone: Collection[int]) -> str:
        """Put an object without these vehicles in the place of one with them."""
        kept = [record for record in records if record.key not in gone]
        taking_its_place = await self.add(partition, kept) if kept else ""
        await self.remove([name])
        return taking_its_place

    async def remove(self, names: Collection[str]) -> None:
        """On purpose: nobody misses them."""
        await store.drop(self._pool, names)
        for name in names:
            await self._blobs.delete(name)
        await store.drop(self._pool, names)  # `settle` may have noted one again as it went

    async def read(self, name: str) -> Content:
        """Raises: Corrupt `archive.corrupt`, `archive.absent`; Refused `blobs.absent` (no such object); Unavailable `blobs.down`."""
        try:
            return _content(name, await self._blobs.get(name))
        except Corrupt:
            await store.raise_doubt(self._pool, [name], store.DOUBTED)
            raise
        except Refused as error:
            if error.code != "blobs.absent" or not await store.is_noted(self._pool, name):
                raise
            await store.raise_doubt(self._pool, [name], store.DOUBTED)
            raise absent([name]) from error

    async def names(self, partition: int, since_us: int = 0, until_us: int = 1 << 62) -> list[str]:
        """Objects of a partition that can hold records which arrived in [since, until), oldest first: what is there and
        what must be.
        """
        first_us = await store.noted_in(self._pool, partition, since_us - DAY_US, until_us)
        async for blob, named in self._objects(f"{ROOT}/{partition:02d}"):
            if since_us - DAY_US <= (at_us := int(named[3])) < until_us:
                first_us[blob.name] = at_us
        return sorted(first_us, key=first_us.__getitem__)

    async def records(self, ref: int, since_us: int, until_us: int) -> AsyncIterator[Record]:
        """A vehicle's records by arrival, sealed as they are; one that was archived twice comes twice.

        Raises: Corrupt `archive.absent` after all the others, if objects are gone that may have held some; `archive.corrupt`.
        """
        seen, gone = set[str](), list[str]()
        partition = partition_of(VehicleRef(ref))
        while fresh := [name for name in await self.names(partition, since_us, until_us) if name not in seen]:
            seen.update(fresh)
            for name in fresh:
                try:
                    content = await self.read(name)
                except Corrupt as damage:
                    if damage.code != "archive.absent":
                        raise
                    gone.append(name)
                    continue
                except Refused as error:
                    if error.code != "blobs.absent":
                        raise
                    continue  # written anew since it was listed: the next round finds what took its place
                for record in content.records:
                    if record.key == ref and since_us <= record.arrived_us < until_us:
                        yield record
        if gone:
            raise absent(gone)

    async def replay(self, log: Log, ref: int, since_us: int, until_us: int) -> int:
        """Put a vehicle's records into the log again; how many. What the worker has, it drops by its number.

        Raises: Corrupt `archive.absent` when the rest is in the log, `replayed` in its facts; `archive.corrupt`; Unavailable
        `blobs.down`, `log.down`.
        """
        some, count = list[Record](), 0

        async def put() -> int:
            if some:
                await log.append(STREAM, some)
            return count + len(some)

        try:
            async for record in self.records(ref, since_us, until_us):
                some.append(record)
                if len(some) >= REPLAY_RECORDS:
                    count, some = await put(), []
        except Corrupt as error:
            if error.code == "archive.absent":
                error.facts["replayed"] = await put()
            raise
        return await put()

    async def forget(self, refs: Sequence[int]) -> int:
        """Write anew what holds records of these vehicles, without them; how many records went. Repeatable.

        A damaged object stays for who mends it from a copy, an absent one is missed: what they may hold of them has no key any more,
        and when they are whole again `settle` looks through them.
        """
        gone, removed = set(refs), 0
        for partition in sorted({partition_of(VehicleRef(ref)) for ref in refs}):
            for name in await self.names(partition):
                try:
                    content = await self.read(name)
                except Corrupt as damage:
                    _log.warning("%s; an erasure passed it over", damage)
                    continue
                except Refused as error:
                    if error.code != "blobs.absent":
                        raise
                    continue  # written anew since it was listed, without whoever is erased
                if gone.isdisjoint(content.refs):
                    continue
                await self._write_anew(name, partition, content.records, gone)
                removed += sum(record.key in gone for record in content.records)
        return removed

    async def days(self) -> dict[str, tuple[int, int]]:
        """Objects and bytes of each day that are there."""
        found: dict[str, tuple[int, int]] = {}
        async for blob, named in self._objects(ROOT):
            objects, size_bytes = found.get(named[2], (0, 0))
            found[named[2]] = objects + 1, size_bytes + blob.size_bytes
        return found

    async def older(self, before_us: int) -> list[str]:
        """Objects whose day has ended before an instant."""
        day = day_of(before_us)
        there = {blob.name: named[2] async for blob, named in self._objects(ROOT)}
        noted = {name: named[2] for name in await self.noted() if (named := _NAME.fullmatch(name))}
        return sorted(name for name, of in (noted | there).items() if of < day)

    async def noted(self) -> set[str]:
        """What must be there."""
        return set(await store.noted(self._pool))

    async def check(self, *, is_whole: bool = False) -> Checked:
        """What must be there and is not, or is known to be damaged. `is_whole`: every object is read."""
        noted = await store.noted(self._pool)
        there = {blob.name async for blob, _ in self._objects(ROOT)}
        looked_at = noted.keys() | there if is_whole else {one for one in noted if noted[one] or one not in there}
        gone, damaged = list[str](), list[str]()
        for name in sorted(looked_at):
            try:
                await self.read(name)
            except Corrupt as error:
                (gone if error.code == "archive.absent" else damaged).append(name)
            except Refused as error:
                if error.code != "blobs.absent":  # that one was removed on purpose since
                    damaged.append(name)
        return Checked(len(noted), gone, damaged)

    async def settle(self) -> Checked:
        """Look through what no note knows (of a writer that was killed, of a region from before there were notes) and what
        somebody doubted, take erased vehicles out of it and note it; then `check`.
        """
        noted = await store.noted(self._pool)
        unsure = [blob.name async for blob, _ in self._objects(ROOT) if noted.get(blob.name, store.DOUBTED)]
        for name in unsure:
            await self._look_through(name)
        return await self.check()

    async def _look_through(self, name: str) -> None:
        named = _NAME.fullmatch(name)
        assert named is not None
        partition, first_us = int(named[1]), int(named[3])
        try:
            content = await self.read(name)
            if gone := await store.erased(self._pool, content.refs):
                await self._write_anew(name, partition, content.records, gone)
                return
            await self._note(name, partition, first_us)
        except (Corrupt, Refused) as error:
            # one that was removed on purpose since needs no note, one that is gone has it
            if error.code not in {"blobs.absent", "archive.absent"}:
                await store.note(self._pool, name, partition, first_us, store.DOUBTED)

    async def untold(self, names: Collection[str]) -> list[str]:
        """Those of these that the audit log does not speak of yet."""
        doubts = await store.noted(self._pool)
        return [name for name in names if doubts.get(name, store.SURE) < store.TOLD]

    async def tell(self, names: Iterable[str]) -> None:
        """They stand in the audit log."""
        await store.raise_doubt(self._pool, names, store.TOLD)

    async def give_up(self, names: Iterable[str] | None = None) -> None:
        """Miss these no longer; None = whatever is not there now: what is, is noted anew by `settle`."""
        await (store.drop_all(self._pool) if names is None else store.drop(self._pool, names))

    async def _objects(self, under: str) -> AsyncIterator[tuple[Blob, re.Match[str]]]:
        """With partition, day and first instant; what else somebody laid there is none of ours."""
        async for blob in self._blobs.list(under):
            if named := _NAME.fullmatch(blob.name):
                yield blob, named


def absent(names: Sequence[str]) -> Corrupt:
    """What says that these are not there."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Corrupt(
        "archive.absent",
        f"of the archive {len(names)} objects are gone that must be there: {', '.join(names[:3])}{more}; put them back from a"
        " backup, or write them off: rocade archive check --write-off",
        objects=len(names),
    )


def day_of(at_us: int) -> str:
    """As it stands in names (UTC)."""
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y%m%d}"


def day_in(name: str) -> str:
    """Of an object, by its name."""
    return name.split("/")[2]


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
