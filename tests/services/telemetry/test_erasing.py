"""An erasure broken off anywhere goes on where it stood; it is ordered once, hidden at once, and done again in an older copy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from rocade.core.errors import Unavailable
from rocade.fabric.history import History, connect
from rocade.services.telemetry import Eraser, follow_erased, hide_erased, store
from rocade.services.telemetry import erasing as subject
from rocade.trust.authority.erasure import read_ledger
from rocade.trust.authority.erasure import store as rows
from rocade.trust.identity.directory import load_root


class Shelf:
    """A place with files, as the archive is."""

    name = "archive"

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def forget(self, refs: list[int]) -> int:
        self.asked.append(list(refs))
        return 3


class PowerCutError(Exception):
    """The process ends here."""


BROKEN: list[tuple[str, Any, str]] = [
    ("before the line in the ledger", "erasures", "wrote"),
    ("while blocks are under way", "_ledger_of_handover", "settled"),
    ("before rows are counted", subject.store, "held_of"),
    ("before parts are rewritten", subject.store, "erase_vehicles"),
    ("before the log", "_log", "forget"),
    ("before the archive", "shelf", "forget"),
    ("before the key tables are punctured", "_keyring", "puncture"),
    ("before dead rows are swept", "erasures", "sweep"),
    ("before the certificate", "erasures", "finish"),
    ("between ledger and audit entry", "audit", "record"),
    ("before the row says done", rows, "finish"),
]


@pytest.mark.parametrize(("when", "where", "what"), BROKEN, ids=[case[0] for case in BROKEN])
async def test_broken_off_anywhere_it_goes_on_and_is_done_once(
    road: Any, tmp_path: Path, when: str, where: Any, what: str
) -> None:
    vehicle = await road.add_vehicle()
    await road.publish(await road.connect(vehicle), road.speed_batch(1, [1.0, 2.0]))
    road.eraser.places = [shelf := Shelf()]
    places = {
        "shelf": shelf, "_ledger_of_handover": road.handover._ledger, "erasures": road.erasures, "audit": road.audit,
        "_log": road.log, "_keyring": road.eraser._keyring,
    }  # fmt: skip
    target = places[where] if isinstance(where, str) else where
    if (where, what) == ("audit", "record"):
        real, seen = road.audit.record, []

        async def record(entry: Any) -> None:
            if entry.action == "telemetry.erased" and not seen:
                seen.append(entry)
                raise PowerCutError
            await real(entry)

        broken = mock.patch.object(target, what, record)
    else:
        broken = mock.patch.object(target, what, mock.AsyncMock(side_effect=PowerCutError))
    with broken:
        with pytest.raises(PowerCutError):
            await road.eraser.erase(vehicle.ref, "person:1", is_physical=True)
            await road.eraser.work()
        assert (await road.erasures.unfinished())[0].done_us == 0
    again = Eraser(road.handover, road.erasures, road.database, road.history, road.log, road.clock, [shelf])
    await again.work()  # whatever process comes next
    assert await road.erasures.unfinished() == []
    ledger = read_ledger(tmp_path / "erasures", load_root(tmp_path / "trust/trust.pem"))
    assert [entry.state for entry in ledger.entries] == ["ordered", "done"]
    done = await road.erasures.find(ledger.entries[0].erasure)
    assert (done.step, done.facts["log_records"], done.facts["archive_records"]) == ("done", 1, 3)
    assert shelf.asked[-1] == [vehicle.ref]
    assert (await road.registry.resolve(vehicle.id)).ref == done.renewed
    assert (
        await road.database.pool.fetchval(
            "SELECT count(*) FROM seal_key WHERE owner = $1 AND wrapped IS NOT NULL", vehicle.ref
        )
        == 0
    )
    assert [entry.action for entry in road.audit.entries if entry.action.startswith("telemetry.eras")][-1] == (
        "telemetry.erased"
    )


async def test_an_order_given_twice_is_one_erasure_and_the_second_may_hurry_it(road: Any) -> None:
    vehicle = await road.add_vehicle()
    with mock.patch.object(
        road.handover, "forget", mock.AsyncMock(side_effect=Unavailable("telemetry.blocks.pending", "x"))
    ):
        first = await road.eraser.erase(vehicle.ref, "person:1")
        second = await road.eraser.erase(vehicle.ref, "person:1", is_physical=True)
    assert (first.id, first.renewed, first.is_physical) == (second.id, second.renewed, False)
    assert second.is_physical


async def test_two_who_forget_at_once_do_it_once(road: Any) -> None:
    """The request that orders, and the process that carries out and hears of it at once."""
    vehicle = await road.add_vehicle()
    await road.publish(await road.connect(vehicle), road.speed_batch(1, [1.0, 2.0]))
    wanted = await road.erasures.order(f"vehicle:{vehicle.ref}", vehicle.ref, 12_345, "person:1", is_physical=False)
    await asyncio.gather(*(road.eraser._forget(wanted) for _ in range(3)))
    assert (await road.erasures.find(wanted.id)).step == "forgotten"
    assert (await road.registry.resolve(vehicle.id)).ref == 12_345


async def test_a_block_and_an_erasure_take_rows_in_one_order(road: Any) -> None:
    """A block writes the twin, then the numbers. Who took them the other way round would wait for it, and it for him."""
    vehicle = await road.add_vehicle()
    await road.publish(await road.connect(vehicle), road.speed_batch(1, [1.0, 2.0]))
    await road.drain()
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with road.database.pool.acquire() as block, block.transaction():
        await block.execute("UPDATE twin SET arrived_us = arrived_us WHERE ref = $1", vehicle.ref)
        erasing = asyncio.create_task(road.erase(vehicle.ref, "person:1"))
        async with asyncio.timeout(30):
            while not await road.database.pool.fetch(waiting):
                await asyncio.sleep(0.02)
        await block.execute("UPDATE telemetry_sequence SET arrived_us = arrived_us WHERE ref = $1", vehicle.ref)
    assert await asyncio.wait_for(erasing, 60)
    assert await road.twins.latest(vehicle.ref) is None


async def test_without_hurry_files_follow_within_the_hour(road: Any) -> None:
    vehicle = await road.add_vehicle()
    await road.eraser.erase(vehicle.ref, "person:1")
    await road.eraser.work()
    assert [one.step for one in await road.erasures.unfinished()] == ["forgotten"]
    road.clock.ahead_us += subject.REST_US
    await road.eraser.work()
    assert await road.erasures.unfinished() == []


async def test_another_process_finds_nothing_from_the_order_on_while_a_worker_is_stuck(
    road: Any, store_url: str
) -> None:
    """Its block cannot finish, so neither can the erasure; hidden it is all the same."""
    vehicle = await road.add_vehicle()
    await road.publish(await road.connect(vehicle), road.speed_batch(1, [1.0, 2.0]))
    await road.drain()
    other: History = connect(store_url)
    await hide_erased(road.database, other)
    following = asyncio.create_task(follow_erased(road.database, other))
    await road.database.pool.execute(
        "INSERT INTO telemetry_block (name, token, partitions, writers, after, upto) VALUES ('w', 't', '{}', '{}', '{}', '{}')"
    )
    ordering = asyncio.create_task(road.eraser.erase(vehicle.ref, "person:1"))
    async with asyncio.timeout(30):
        while await store.signals_of(other, vehicle.ref, 0, 1 << 62):
            await asyncio.sleep(0.05)
    assert [one.step for one in await road.erasures.unfinished()] == ["ordered"]
    assert await road.twins.latest(vehicle.ref) is None
    await road.database.pool.execute("DELETE FROM telemetry_block")
    ordered = await asyncio.wait_for(ordering, 60)  # a busy machine may have left it to the next turn
    await road.eraser.work()
    assert (await road.erasures.find(ordered.id)).step == "forgotten"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await other.close()


async def test_in_a_region_restored_from_an_older_copy_it_is_done_again(road: Any, tmp_path: Path) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, road.speed_batch(1, [1.0, 2.0]))
    await road.drain()
    renewed = await road.erase(vehicle.ref, "person:1")
    (ordered, _) = read_ledger(tmp_path / "erasures", load_root(tmp_path / "trust/trust.pem")).entries
    async with road.database.pool.acquire() as connection:  # the copy knows the vehicle under its old reference
        await connection.execute("UPDATE vehicle SET ref = $2 WHERE ref = $1", renewed, vehicle.ref)
        await connection.execute("DELETE FROM telemetry_erased")
        await connection.execute("DELETE FROM seal_key WHERE owner = $1", vehicle.ref)
        await connection.execute(
            "INSERT INTO telemetry_block (name, token, partitions, writers, after, upto) VALUES ('w', 't', '{}', '{}', '{}', '{}')"
        )
    await road.history.insert(store.chunks.TABLE.name, await _rows(road, vehicle.ref), "restored")
    assert len(await road.samples(vehicle.ref)) == 1
    assert await road.eraser.erase_again([ordered]) == 1
    assert await road.samples(vehicle.ref) == {}
    assert (await road.registry.resolve(vehicle.id)).ref == renewed
    assert await road.erasures.unfinished() == []
    assert len(read_ledger(tmp_path / "erasures", load_root(tmp_path / "trust/trust.pem")).entries) == 2


async def _rows(road: Any, ref: int) -> Any:
    import numpy as np

    from rocade.services.telemetry.chunks import INTEGER, Chunks, rows_from

    one = np.ones(1, np.int64)
    return rows_from(
        Chunks(
            vehicle=np.array([ref], np.uint64),
            signal=np.array([road.SPEED], np.uint32),
            arrived_us=one * road.T0_US,
            start_us=one * road.T0_US,
            step_us=one * 1_000_000,
            rows=one * 5,
            kind=np.array([INTEGER], np.uint8),
            exponent=np.zeros(1, np.int8),
            ints=np.arange(5),
            floats=np.zeros(0),
        )
    )
