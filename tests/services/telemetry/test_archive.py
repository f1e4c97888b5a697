"""The raw batch archive: nothing leaves the log before it is an object, objects stay sealed, an erasure rewrites them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rocade.core.errors import Corrupt, Unavailable
from rocade.core.identifiers import partition_of
from rocade.fabric.blobs import Blobs, open_blobs
from rocade.fabric.database import Leases
from rocade.fabric.log.postgres import PostgresLog
from rocade.fabric.log.segments import Retention
from rocade.services.telemetry.archive import Archive, Archiver, put_away
from rocade.services.telemetry.model import STREAM

DAY_US = 86_400_000_000


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return open_blobs(f"file://{tmp_path}/blobs")


def archiver(road: Any, blobs: Blobs, name: str = "a1") -> Archiver:
    return Archiver(
        Archive(blobs, road.database), road.log, Leases(road.database, "archive", STREAM, name, 6.0), road.clock
    )


async def drive(road: Any, count: int = 3) -> Any:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, *(road.speed_batch(number, [float(number), 48.8566]) for number in range(1, count + 1)))
    return vehicle


async def all_names(archive: Archive) -> list[str]:
    return [name for partition in range(64) for name in await archive.names(partition)]


async def test_records_become_objects_once_and_no_object_can_be_read_without_the_key(road: Any, blobs: Blobs) -> None:
    first, second = await drive(road), await drive(road, 2)
    one = archiver(road, blobs)
    assert await one.turn() == 0, "too little and too young to be worth an object"
    assert await one.turn(is_everything=True) == 5
    assert await one.turn(is_everything=True) == 0
    archive = Archive(blobs, road.database)
    now_us = road.clock.now_us()
    for vehicle, count in ((first, 3), (second, 2)):
        found = [record async for record in archive.records(vehicle.ref, 0, now_us + DAY_US)]
        assert len(found) == count
        assert not any(road.speed_batch(number, [float(number), 48.8566])[20:60] in record.body
                       for record in found for number in (1, 2, 3))  # fmt: skip
    assert [record async for record in archive.records(first.ref, 0, now_us - DAY_US)] == []


async def test_what_was_archived_is_archived_again_under_the_same_name_after_a_crash(road: Any, blobs: Blobs) -> None:
    await drive(road)

    class Dying:
        """A log whose commit never comes back."""

        def __getattr__(self, name: str) -> Any:
            return getattr(road.log, name)

        async def commit(self, *_: Any) -> None:
            raise Unavailable("log.down", "killed here")

    dying = archiver(road, blobs)
    dying._log = Dying()
    with pytest.raises(Unavailable):
        await dying.turn(is_everything=True)
    before = await all_names(Archive(blobs, road.database))
    assert len(before) == 1
    await dying._leases.release()
    assert await archiver(road, blobs, "a2").turn(is_everything=True) == 3
    assert await all_names(Archive(blobs, road.database)) == before


async def test_the_log_keeps_what_is_not_archived_yet_and_waits_for_nobody_when_it_is_off(
    road: Any, blobs: Blobs
) -> None:
    await drive(road)
    one = archiver(road, blobs)
    await one.turn()
    await road.drain()
    road.clock.ahead_us = 3 * 3_600_000_000
    retention = Retention(age_s=0.0, segment_s=0.001)
    log = PostgresLog(road.database, clock=road.clock, retention=retention)
    context = await road.connect(await road.add_vehicle())
    road.intake._log = log
    await road.publish(context, road.speed_batch(1, [1.0]))  # rolls to the next segment
    await road.drain()
    assert await log.trim() == 0
    await put_away(log)
    assert await log.trim() > 0
    await log.close()


async def test_an_erasure_writes_objects_anew_without_the_vehicle_and_touches_no_other(road: Any, blobs: Blobs) -> None:
    vehicle = await drive(road)
    ref = vehicle.ref
    neighbour = ref
    while neighbour == ref or partition_of(neighbour) != partition_of(ref):
        neighbour = road.registry.draw_ref()
    archive = Archive(blobs, road.database)
    one = archiver(road, blobs)
    await one.turn(is_everything=True)
    (name,) = await archive.names(partition_of(ref))
    mine = (await archive.read(name)).records
    others = [type(record)(record.partition, neighbour, record.kind, record.arrived_us, record.body) for record in mine]
    await archive.add(partition_of(ref), [*mine, *others])
    assert await archive.forget([ref]) == 6
    (left,) = await archive.names(partition_of(ref))
    assert [record.key for record in (await archive.read(left)).records] == [neighbour] * 3
    assert await archive.forget([ref]) == 0


async def test_replayed_records_are_dropped_by_their_numbers_or_taken_in(road: Any, blobs: Blobs) -> None:
    vehicle = await drive(road)
    await archiver(road, blobs).turn(is_everything=True)
    await road.drain()
    archive, now_us = Archive(blobs, road.database), road.clock.now_us()
    assert await archive.replay(road.log, vehicle.ref, 0, now_us + 1) == 3
    worker = await road.drain()
    assert worker.counters.duplicates == 3
    assert len((await road.samples(vehicle.ref))[road.SPEED]) == 6


async def test_old_days_go_and_a_damaged_object_is_told(road: Any, blobs: Blobs) -> None:
    vehicle = await drive(road)
    archive = Archive(blobs, road.database)
    await archiver(road, blobs).turn(is_everything=True)
    (name,) = await all_names(archive)
    assert await archive.older(road.clock.now_us() - DAY_US) == []
    await blobs.put(name, (await blobs.get(name))[:-9])
    with pytest.raises(Corrupt, match=r"archive\.corrupt"):
        await archive.replay(road.log, vehicle.ref, 0, road.clock.now_us() + 1)
    assert await archive.forget([vehicle.ref]) == 0, "no damaged object holds up an erasure"
    await blobs.put(f"{name.rpartition('/')[0]}/notes.txt", b"laid here by hand")
    ((objects, size_bytes),) = (await archive.days()).values()
    assert (objects, size_bytes > 200) == (1, True)
    assert await archive.older(road.clock.now_us() + 2 * DAY_US) == [name]
    await archive.remove([name])
    assert await all_names(archive) == []
