"""From the intake to twin and history with real engines: exactly once, whatever happens to a worker on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from rocade.core.errors import Unavailable
from rocade.core.identifiers import partition_of
from rocade.services.telemetry import quarantine
from rocade.services.telemetry import worker as worker_module
from rocade.services.telemetry.model import unnamed_id


async def taken_in(road: Any) -> None:
    """Wait until the workers have read all of the log."""
    async with asyncio.timeout(30):
        while (await road.log.lag("telemetry", "telemetry")).records:
            await asyncio.sleep(0.05)


async def test_what_is_acknowledged_is_in_history_and_twin_once(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    verdicts = await road.publish(context, road.speed_batch(1, [1.5, 2.5, 3.5]), road.speed_batch(2, [4.5]))
    assert verdicts == [None, None]
    worker = await road.drain()
    assert (worker.counters.batches, worker.counters.points, worker.counters.failures) == (2, 4, 0)
    assert 0 < worker.counters.visible_p50_ms <= worker.counters.visible_p99_ms < 60_000
    start = road.T0_US + 60_000_000
    assert await road.samples(vehicle.ref) == {
        road.SPEED: [(start + k * 1_000_000, 1.5 + k, 0) for k in range(3)] + [(start + 60_000_000, 4.5, 0)]
    }
    twin = await road.twins.latest(vehicle.ref)
    assert (twin.reported[road.SPEED].value, twin.reported[road.SPEED].time_us) == (4.5, start + 60_000_000)
    assert twin.speed_kmh == 4.5
    assert [position.ref for position in await road.twins.changed_since(twin.updated_us)] == [vehicle.ref]


async def test_repeats_are_stored_once_within_a_block_and_across_blocks(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, *[road.speed_batch(1, [1.0, 2.0])] * 3)
    first = await road.drain()
    await road.publish(context, road.speed_batch(1, [1.0, 2.0]), road.speed_batch(2, [3.0]))
    second = await road.drain()
    assert (first.counters.duplicates, second.counters.duplicates) == (2, 1)
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [1.0, 2.0, 3.0]


async def test_a_worker_that_dies_between_history_and_commit_leaves_a_block_that_the_next_one_finishes(
    road: Any,
) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, road.speed_batch(1, [1.0, 2.0]))
    died = asyncio.Event()

    async def die(*_: Any) -> None:
        died.set()
        raise Unavailable("test.died", "")

    dying = road.worker("dying")
    dying._hooks = (die,)
    task = asyncio.create_task(dying.run(asyncio.Event()))
    await asyncio.wait_for(died.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await road.database.pool.execute("DELETE FROM lease_member")
    await road.publish(context, road.speed_batch(2, [3.0]))
    rescuer = await road.drain(road.worker("rescuer"))
    assert rescuer.counters.recovered == 1
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [1.0, 2.0, 3.0]
    assert await road.database.pool.fetchval("SELECT count(*) FROM telemetry_block") == 0


async def test_a_zombie_that_wakes_up_after_its_block_was_taken_writes_nothing(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, road.speed_batch(1, [1.0, 2.0]))
    asleep, wake = asyncio.Event(), asyncio.Event()
    zombie, finish = road.worker("zombie"), road.ledger.finish

    async def sleep_first(connection: Any, intent: Any) -> None:
        asleep.set()
        await wake.wait()
        await finish(connection, intent)

    zombie._ledger.finish = sleep_first
    stop = asyncio.Event()
    task = asyncio.create_task(zombie.run(stop))
    await asyncio.wait_for(asleep.wait(), 30)
    await road.database.pool.execute("UPDATE lease_member SET expires = clock_timestamp() - interval '1 second'")
    heir = await road.drain(road.worker("heir"))
    assert heir.counters.recovered == 1
    stop.set()
    wake.set()
    await asyncio.gather(task, return_exceptions=True)
    assert zombie.counters.batches == 0
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [1.0, 2.0]


async def test_two_workers_share_the_partitions_and_store_everything_once(road: Any) -> None:
    vehicles = [await road.add_vehicle() for _ in range(12)]
    while len({partition_of(vehicle.ref) // 32 for vehicle in vehicles}) == 1:
        vehicles[0] = await road.add_vehicle()
    contexts = [await road.connect(vehicle) for vehicle in vehicles]
    workers, stop = [road.worker("one"), road.worker("two")], asyncio.Event()
    for leases in [worker._leases for worker in workers] * 2:
        leases._renewed_s = float("-inf")  # the time has come to renew them
        await leases.renew()
    assert [len(worker._leases.partitions) for worker in workers] == [32, 32]
    tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
    for number in range(1, 31):
        for context in contexts:
            await road.publish(context, road.speed_batch(number, [float(number)]))
        await asyncio.sleep(0.02)
    await taken_in(road)
    stop.set()
    await asyncio.gather(*tasks)
    assert min(worker.counters.batches for worker in workers) > 0
    assert sum(worker.counters.batches for worker in workers) == 360
    for vehicle in vehicles:
        values = [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]]
        assert values == [float(number) for number in range(1, 31)]


async def test_a_record_that_breaks_the_worker_is_held_and_the_others_go_on(
    road: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    poison = road.speed_batch(2, [66.6])
    digest = worker_module.digest

    def fragile(records: Any, *rest: Any) -> Any:
        if any(record.body == poison for record in records):
            raise RuntimeError("planted")
        return digest(records, *rest)

    monkeypatch.setattr(worker_module, "digest", fragile)
    await road.publish(context, road.speed_batch(1, [1.0]), poison, road.speed_batch(3, [3.0]))
    await road.drain()
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [1.0, 3.0]
    (held,) = await quarantine.list_held(road.ledger)
    assert (held.reason, held.ref) == ("worker.failed", vehicle.ref)
    assert held.detail.startswith("RuntimeError at test_worker.py:"), "where, and nothing of what it said"
    monkeypatch.setattr(worker_module, "digest", digest)
    await quarantine.replay(road.ledger, road.log, held.id)
    await road.drain()
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [1.0, 66.6, 3.0]
    assert await quarantine.list_held(road.ledger) == []


async def test_a_bad_batch_of_an_old_client_is_acknowledged_and_held_with_its_reason(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle, protocol=4)
    bad = road.speed_batch(1, [1.0])[:-1]
    assert await road.publish(context, bad, protocol=4) == [None]
    await road.drain()
    (held,) = await quarantine.list_held(road.ledger)
    assert held.reason == "batch.malformed"
    assert (await quarantine.show(road.ledger, held.id))[1] == bad
    assert [entry.reason for entry in road.audit.entries if entry.action == "telemetry.quarantine"] == [
        "batch.malformed"
    ]
    await quarantine.drop(road.ledger, held.id)
    assert (await quarantine.show(road.ledger, held.id))[1] == b""


async def test_a_number_far_ahead_is_held_and_nothing_else_is(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(
        context,
        road.speed_batch(1, [1.0]),
        road.speed_batch(1 << 40, [9.0], start_us=road.T0_US),
        road.speed_batch(2, [2.0]),
    )
    await road.drain()
    assert [held.reason for held in await quarantine.list_held(road.ledger)] == ["sequence.far_ahead"]
    assert len((await road.samples(vehicle.ref))[road.SPEED]) == 2


async def test_json_goes_the_same_way_and_unknown_names_are_reported(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    body = msgspec.json.encode(
        {
            "version": 1,
            "epoch": "a1",
            "sequence": 1,
            "sent_at_us": road.T0_US,
            "clocks": [{"times_us": [road.T0_US - 2, road.T0_US - 1]}],
            "columns": [
                {"signal": "Vehicle.Speed", "clock": 0, "values": [3.5, None]},
                {"signal": "Flux.Level", "clock": 0, "values": ["low", "high"]},
            ],
        }
    )
    assert await road.publish(context, body, tail="json") == [None]
    await road.drain()
    flux = unnamed_id("Flux.Level")
    assert await road.samples(vehicle.ref) == {
        road.SPEED: [(road.T0_US - 2, 3.5, 0)],
        flux: [(road.T0_US - 2, "low", 0), (road.T0_US - 1, "high", 0)],
    }
    assert [(one.signal, one.name, one.batches) for one in await road.ledger.unknown()] == [(flux, "Flux.Level", 1)]
    assert (await road.twins.latest(vehicle.ref)).reported[flux].value == "high"


async def test_records_of_an_erased_vehicle_are_not_stored_any_more(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, road.speed_batch(1, [1.0]))
    async with road.database.pool.acquire() as connection, connection.transaction():
        await road.ledger.erase(connection, vehicle.ref, road.T0_US)
    worker = await road.drain()
    assert worker.counters.erased == 1
    assert await road.samples(vehicle.ref) == {}
    assert await road.twins.latest(vehicle.ref) is None


async def test_memory_that_is_worn_is_begun_again_from_the_database(road: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    worker, cleared = road.worker(), []
    clear = worker._state.clear
    monkeypatch.setattr(worker._state, "clear", lambda: (cleared.append(1), clear()))
    monkeypatch.setattr("rocade.services.vehicles.twin.Twins.is_worn", property(lambda _: True))
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    for number in range(1, 6):
        await road.publish(context, *[road.speed_batch(number, [float(number)])] * 2)
        await taken_in(road)
    stop.set()
    await task
    assert len(cleared) > 3
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert worker.counters.duplicates == 5
