"""Which objects of the archive must be there: one that is gone is missed by whoever lists, one removed on purpose by nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.notebook import Notebook

from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.core.ports import SystemClock
from rocade.fabric.blobs import Blobs, open_blobs
from rocade.fabric.database import Database
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.telemetry.archive import Archive, store, sweep_once
from rocade.services.telemetry.ledger import Ledger
from rocade.services.telemetry.model import BATCH, SEALED, STREAM

DAY_US = 86_400_000_000
MINE = VehicleRef(7_001)
OTHER = next(VehicleRef(ref) for ref in range(7_002, 9_000) if partition_of(VehicleRef(ref)) == partition_of(MINE))
PLACE = partition_of(MINE)


def records(*refs: int, at_us: int = 0, count: int = 2) -> list[Record]:
    begin_us = at_us or SystemClock().now_us() - 60_000_000
    return [
        Record(PLACE, ref, BATCH + SEALED, begin_us + number, b"sealed %d %d" % (ref, number))
        for ref in refs for number in range(count)
    ]  # fmt: skip


class Faulty:
    """Blobs in which a test does something before or after an object is stored or removed; may raise = killed there."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.before_put = self.after_put = self.before_get = self.after_get = _nothing
        self.before_delete = self.after_delete = _nothing

    async def put(self, name: str, body: bytes) -> None:
        await self.before_put()
        await self._blobs.put(name, body)
        await self.after_put()

    async def delete(self, name: str) -> None:
        await self.before_delete()
        await self._blobs.delete(name)
        await self.after_delete()

    async def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        await self.before_get()
        body = await self._blobs.get(name, start, end)
        await self.after_get()
        return body

    def list(self, prefix: str = "") -> AsyncIterator[Any]:
        return self._blobs.list(prefix)


async def _nothing() -> None:
    pass


async def killed() -> None:
    raise Unavailable("test.killed", "killed here")


class Place:
    """An archive in a folder, with what its notes stand in."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.blobs = Faulty(open_blobs(folder.as_uri()))
        self.archive = Archive(self.blobs, database)
        self.notebook = Notebook()
        self.clock = SystemClock()

    async def sweep(self, keep_days: float = 30.0) -> None:
        await sweep_once(self.archive, self.database, self.notebook, self.clock, keep_days)

    async def erase(self, ref: int) -> None:
        """As far as it goes before the archive is told."""
        async with self.database.pool.acquire() as connection, connection.transaction():
            await Ledger(self.database).erase(connection, ref, self.clock.now_us())

    async def held(self) -> set[int]:
        """Whose records lie in files, whatever is noted."""
        names = [blob.name async for blob in self.blobs.list()]
        return {record.key for name in names for record in (await self.archive.read(name)).records}


@pytest.fixture
def place(tmp_path: Path, database: Database) -> Place:
    return Place(tmp_path / "blobs", database)


async def test_an_object_that_is_gone_is_missed_by_every_reader_and_keeps_nobody_from_the_others(place: Place) -> None:
    archive = place.archive
    first, second = await archive.add(PLACE, records(MINE)), await archive.add(PLACE, records(MINE, OTHER))
    (place.folder / first).unlink()
    assert set(await archive.names(PLACE)) == {first, second}
    assert (await archive.check()).absent == [first]
    found = list[Record]()
    with pytest.raises(Corrupt, match=r"archive\.absent") as said:
        async for record in archive.records(MINE, 0, 1 << 62):
            found.append(record)
    assert (len(found), first in said.value.message) == (2, True)
    log = PostgresLog(place.database)
    with pytest.raises(Corrupt, match=r"archive\.absent") as said:
        await archive.replay(log, MINE, 0, 1 << 62)
    assert said.value.facts["replayed"] == 2
    assert (await log.read(STREAM, range(64), {}, 100, 1 << 20)).records == found
    await log.close()
    assert await archive.forget([MINE]) == 2
    assert await place.held() == {OTHER}
    assert (await archive.check()).absent == [first], "no erasure makes up for a loss"
    await archive.give_up([first])
    assert (await archive.check()).absent == []


async def test_a_loss_enters_the_audit_log_once_and_what_comes_back_is_looked_through(place: Place) -> None:
    first = await place.archive.add(PLACE, records(MINE, OTHER))
    content = (place.folder / first).read_bytes()
    (place.folder / first).unlink()
    await place.sweep()
    await place.sweep()
    (told,) = place.notebook.entries
    assert (told.action, told.reason, told.facts["absent"]) == ("telemetry.archive.damaged", "archive.absent", 1)
    await place.erase(MINE)
    assert await place.archive.forget([MINE]) == 0
    (place.folder / first).write_bytes(content)  # from a backup of before the erasure
    await place.sweep()
    assert await place.held() == {OTHER}
    assert await place.archive.check() == (await place.archive.check(is_whole=True))
    assert (await place.archive.check()).absent == []
    assert len(place.notebook.entries) == 1


async def test_a_damaged_object_is_told_and_looked_through_when_it_is_whole_again(place: Place) -> None:
    name = await place.archive.add(PLACE, records(MINE, OTHER))
    content = (place.folder / name).read_bytes()
    (place.folder / name).write_bytes(content[:-1])
    assert (await place.archive.check()).damaged == [], "nobody has read it"
    assert (await place.archive.check(is_whole=True)).damaged == [name]
    assert (await place.archive.check()).damaged == [name], "it stays known"
    await place.sweep()
    assert [(entry.reason, entry.facts["damaged"]) for entry in place.notebook.entries] == [("archive.corrupt", 1)]
    await place.erase(MINE)
    (place.folder / name).write_bytes(content)
    await place.sweep()
    assert await place.held() == {OTHER}


async def test_what_a_writer_left_when_it_was_killed_is_never_missed_and_noted_later(place: Place) -> None:
    archive = place.archive
    place.blobs.before_put = killed
    with pytest.raises(Unavailable):
        await archive.add(PLACE, records(MINE))
    assert (await archive.check()).objects == 0, "noted before it was there"
    place.blobs.before_put, place.blobs.after_put = _nothing, killed
    with pytest.raises(Unavailable):
        await archive.add(PLACE, records(MINE))
    place.blobs.after_put = _nothing
    assert (await archive.check()).objects == 0
    assert len(await archive.names(PLACE)) == 1, "readers have it all the same"
    await place.sweep()
    (name,) = await archive.noted()
    (place.folder / name).unlink()
    assert (await archive.check()).absent == [name]


async def test_objects_from_before_there_were_notes_are_noted_by_the_first_sweep(place: Place) -> None:
    names = sorted([await place.archive.add(PLACE, records(ref)) for ref in (MINE, OTHER)])
    await place.archive.give_up()
    await place.erase(OTHER)
    assert sorted(await place.archive.names(PLACE)) == names
    await place.sweep()
    assert await place.archive.noted() == set(await place.archive.names(PLACE))
    assert await place.held() == {MINE}, "what an erasure of before left is taken out"
    assert place.notebook.entries == []


@pytest.mark.parametrize("moment", ["", "before_delete", "after_delete"])
async def test_what_is_removed_on_purpose_is_not_missed_wherever_it_is_broken_off(place: Place, moment: str) -> None:
    archive, now_us = place.archive, place.clock.now_us()
    old = await archive.add(PLACE, records(MINE, at_us=now_us - 9 * DAY_US))
    young = await archive.add(PLACE, records(MINE, OTHER))
    for act, keep_days in ((lambda: place.sweep(7.0), 7.0), (lambda: archive.forget([MINE]), 30.0)):
        if moment:
            await _killed_removing(place, moment, act)
            assert (await archive.check()).absent == []
            await place.sweep(keep_days=30.0)
            assert (await archive.check()).absent == []
        await act()
        assert (await archive.check()).absent == []
        await place.sweep(keep_days)
    assert await place.held() == {OTHER}
    assert {old, young}.isdisjoint(await archive.names(PLACE))
    begun, *others = [entry.action for entry in place.notebook.entries]
    assert begun == "telemetry.retention", "told before the first object goes"
    assert moment == "after_delete" or others[-1] == "telemetry.retention.done"
    bounds = place.notebook.entries[0].facts
    assert (bounds["objects"], bounds["keep_days"]) == (1, 7.0)
    begun_us, ended_us = (at_us - 7 * DAY_US for at_us in (now_us, place.clock.now_us()))
    assert begun_us - DAY_US < int(bounds["before_us"]) <= ended_us, "whole days, also over midnight"


async def _killed_removing(place: Place, moment: str, act: Callable[[], Awaitable[Any]]) -> None:
    setattr(place.blobs, moment, killed)
    with pytest.raises(Unavailable, match=r"test\.killed"):
        await act()
    setattr(place.blobs, moment, _nothing)


async def test_an_archiver_that_read_before_an_erasure_leaves_nothing_of_it(place: Place) -> None:
    """It stores when the erasure has listed already; its object is written anew before anybody counts on it."""

    async def erased_meanwhile() -> None:
        place.blobs.before_put = _nothing
        await place.erase(MINE)
        assert await place.archive.forget([MINE]) == 0

    place.blobs.before_put = erased_meanwhile
    await place.archive.add(PLACE, records(MINE, OTHER))
    assert await place.held() == {OTHER}
    assert (await place.archive.check()).absent == []
    place.blobs.before_put = _nothing
    assert await place.archive.add(PLACE, records(MINE)) == "", "nothing is left of it"
    assert await place.held() == {OTHER}


async def test_an_object_that_is_removed_just_before_its_note_is_written_is_not_missed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archiver has asked, then stood still; meanwhile an erasure wrote its object anew."""
    note = store.note

    async def erased_just_before(*row: Any) -> None:
        monkeypatch.setattr(store, "note", note)
        await place.erase(MINE)
        assert await place.archive.forget([MINE]) == 2
        await note(*row)

    monkeypatch.setattr(store, "note", erased_just_before)
    await place.archive.add(PLACE, records(MINE, OTHER))
    assert await place.held() == {OTHER}
    assert (await place.archive.check()).absent == []


async def test_an_archiver_killed_before_it_could_ask_is_caught_by_the_sweep(place: Place) -> None:
    async def killed_after_erasure() -> None:
        await place.erase(MINE)
        assert await place.archive.forget([MINE]) == 0
        place.blobs.before_put = _nothing

    place.blobs.before_put, place.blobs.after_put = killed_after_erasure, killed
    with pytest.raises(Unavailable):
        await place.archive.add(PLACE, records(MINE, OTHER))
    place.blobs.after_put = _nothing
    assert await place.held() == {MINE, OTHER}
    await place.sweep()
    assert await place.held() == {OTHER}
    assert (await place.archive.check()).absent == []


@pytest.mark.parametrize("moment", ["after_get", "before_delete"])
async def test_a_sweep_that_looks_at_what_is_just_being_removed_misses_nothing_later(place: Place, moment: str) -> None:
    """It reads the object, the object goes, it notes it; or it notes it again between the removal's two steps."""
    name = await place.archive.add(PLACE, records(MINE))
    await place.archive.give_up()

    async def remove() -> None:
        place.blobs.after_get = _nothing
        await place.archive.remove([name])

    async def settle() -> None:
        place.blobs.before_delete = _nothing
        await place.archive.settle()
        assert await place.archive.noted() == {name}

    if moment == "after_get":
        place.blobs.after_get = remove
        await place.archive.settle()
    else:
        place.blobs.before_delete = settle
        await place.archive.remove([name])
    assert (await place.archive.check()).objects == 0


async def test_what_is_written_anew_while_somebody_reads_is_read_where_it_is_now(place: Place) -> None:
    await place.archive.add(PLACE, records(MINE, OTHER))

    async def forget() -> None:
        place.blobs.before_get = _nothing
        assert await place.archive.forget([MINE]) == 2

    place.blobs.before_get = forget
    assert len([record async for record in place.archive.records(OTHER, 0, 1 << 62)]) == 2
    (name,) = await place.archive.noted()
    place.blobs.before_get = lambda: place.archive.remove([name])
    assert await place.archive.forget([OTHER]) == 0, "another has removed it; no erasure stops at that"


async def test_who_asks_for_an_object_that_never_was_is_told_so(place: Place) -> None:
    with pytest.raises(Refused, match=r"blobs\.absent"):
        await place.archive.read("road/07/20251122/1-00.records")
