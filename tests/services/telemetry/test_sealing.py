"""The sealed road: nothing readable in log and quarantine, erased owners' records go, what was moved or changed is found."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from rocade.core.errors import Corrupt, Unavailable
from rocade.core.identifiers import partition_of
from rocade.fabric.log import Record
from rocade.services.telemetry import ledger as telemetry_ledger
from rocade.services.telemetry import quarantine
from rocade.services.telemetry.model import BAD_BATCH, BATCH, SEALED, STREAM, Held
from rocade.services.telemetry.sealing import RoadSeals, open_records, seal_record
from rocade.services.vehicles import twin
from rocade.services.vehicles.commands import sealing as command_sealing
from rocade.services.vehicles.commands import store as command_store
from rocade.trust.authority.sealing import Group, Keyring, keyring_of
from rocade.trust.authority.sealing.older import seal_older

KEY, OTHER = b"k" * 32, b"o" * 32
ROAD = int(Group.ROAD)


async def stored(road: Any) -> list[Record]:
    """The log as somebody with the database's password reads it."""
    return list((await road.log.read(STREAM, range(64), {}, 1000, 1 << 24)).records)


async def test_the_log_holds_no_byte_of_a_body_and_the_values_arrive_all_the_same(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    body = b'{"values": {"Vehicle.Speed": 73.125}}'
    assert await road.publish(context, road.speed_batch(1, [73.125, 9.0])) == [None]
    assert await road.publish(context, road.speed_batch(1, [1.0])[:-1], body, tail="batch", protocol=4) == [None, None]
    records = await stored(road)
    assert [record.kind for record in records] == [BATCH + SEALED, BAD_BATCH + SEALED, BAD_BATCH + SEALED]
    plain = open_records(records, {(vehicle.ref, ROAD): await key_of(road, vehicle.ref)}).records
    assert plain[0].body == road.speed_batch(1, [73.125, 9.0])
    assert all(part.body[10:30] not in whole.body for part, whole in zip(plain, records, strict=True))
    await road.drain()
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [73.125, 9.0]
    rows = await road.database.pool.fetch("SELECT body FROM telemetry_quarantine")
    assert len(rows) == 2
    assert not any(b"73.125" in row["body"] for row in rows)
    shown = [await quarantine.show(road.ledger, held.id) for held in await quarantine.list_held(road.ledger)]
    assert [(held.kind, held.size_bytes) for held, _ in shown] == [(BAD_BATCH, len(text)) for _, text in shown]
    assert body in {text for _, text in shown}


async def key_of(road: Any, ref: int) -> bytes:
    return (await keyring_of(road.database).fetch([(ref, ROAD)]))[ref, ROAD]


async def test_records_from_before_sealing_are_taken_in(road: Any) -> None:
    vehicle = await road.add_vehicle()
    body = road.speed_batch(1, [5.0])
    await road.log.append(STREAM, [Record(partition_of(vehicle.ref), vehicle.ref, BATCH, road.T0_US, body)])
    await road.drain()
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [5.0]
    old = Held(vehicle.ref, 7, BAD_BATCH, "batch.malformed", "", b"as it was")
    async with road.database.pool.acquire() as connection:
        await road.ledger.hold(connection, [old])
    (held,) = await quarantine.list_held(road.ledger)
    assert (await quarantine.show(road.ledger, held.id))[1] == b"as it was"


async def test_records_whose_key_was_destroyed_are_dropped_and_counted(road: Any) -> None:
    vehicle, kept = await road.add_vehicle(), await road.add_vehicle()
    for one in (vehicle, kept):
        await road.publish(await road.connect(one), road.speed_batch(1, [5.0]))
    async with road.database.pool.acquire() as connection, connection.transaction():
        await keyring_of(road.database).destroy(connection, [vehicle.ref])
    worker = await road.drain()
    assert worker.counters.erased == 1
    assert await road.samples(vehicle.ref) == {}
    assert len((await road.samples(kept.ref))[road.SPEED]) == 1


async def test_what_comes_after_the_key_is_gone_is_acknowledged_and_not_stored(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    async with road.database.pool.acquire() as connection, connection.transaction():
        await keyring_of(road.database).destroy(connection, [vehicle.ref])
    assert await road.publish(context, road.speed_batch(1, [5.0])) == [None]
    assert await stored(road) == []


def sealed(ref: int = 7, kind: int = BATCH, arrived_us: int = 1000, body: bytes = b"body" * 9) -> Record:
    return seal_record(Record(partition_of(ref), ref, kind, arrived_us, body), KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        (sealed(), {(7, ROAD): OTHER}),
        (Record(1, 8, BATCH + SEALED, 1000, sealed().body), {(8, ROAD): KEY}),
        (Record(1, 7, BATCH + SEALED + 1, 1000, sealed().body), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + SEALED, 1001, sealed().body), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + SEALED, 1000, sealed().body[:-1]), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + SEALED, 1000, b"never sealed, but said to be so, and long"), {(7, ROAD): KEY}),
    ],
    ids=["another key", "another vehicle", "another kind", "another instant", "cut", "no seal"],
)
def test_a_record_that_was_changed_or_moved_goes_to_quarantine_as_it_is(record: Record, keys: Any) -> None:
    opened = open_records([record, sealed()], {(7, ROAD): KEY, **keys} if record.key != 7 else keys)
    assert next((held.reason, held.body) for held in opened.broken) == ("seal.broken", record.body)
    assert all(one.body == b"body" * 9 for one in opened.records)


async def test_a_broken_record_is_held_with_its_reason_and_cannot_be_replayed(road: Any) -> None:
    vehicle = await road.add_vehicle()
    await road.publish(await road.connect(vehicle), road.speed_batch(1, [5.0]))
    (record,) = await stored(road)
    moved = Record(record.partition, record.key, record.kind, record.arrived_us + 1, record.body)
    await road.log.append(STREAM, [moved])
    await road.drain()
    (held,) = await quarantine.list_held(road.ledger)
    assert held.reason == "seal.broken"
    with pytest.raises(Corrupt, match=r"seal\.broken"):
        await quarantine.replay(road.ledger, road.log, held.id)
    await quarantine.drop(road.ledger, held.id)


class NoCustody:
    """A keyring whose lease has ended."""

    def held(self, *_: object) -> None:
        return None

    async def ensure(self, *_: object) -> Any:
        raise Unavailable("custody.down", "key custody does not answer")

    fetch = ensure


async def test_without_custody_nothing_is_acknowledged_and_nothing_is_lost(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    whole, road.intake._seals = road.intake._seals, RoadSeals(NoCustody())
    with pytest.raises(Unavailable, match=r"custody\.down"):
        await road.publish(context, road.speed_batch(1, [5.0]))
    assert await stored(road) == []
    road.intake._seals = whole
    assert await road.publish(context, road.speed_batch(1, [5.0])) == [None]
    worker = road.worker()
    working, worker._seals = worker._seals, RoadSeals(NoCustody())

    async def has_failed() -> bool:
        worker._seals = worker._seals if worker.counters.failures < 2 else working
        return bool(worker.counters.batches == 1)

    await road.work(has_failed, worker)
    assert worker.counters.failures >= 2
    assert [value for _, value, _ in (await road.samples(vehicle.ref))[road.SPEED]] == [5.0]


def test_keyring_and_road_speak_the_same_words() -> None:
    assert {"held", "fetch", "ensure"} <= set(vars(Keyring))


async def test_rows_of_an_older_region_are_sealed_at_its_first_start(road: Any) -> None:
    ref = int((await road.add_vehicle()).ref)
    pool = road.database.pool
    slots = np.zeros(1, twin.SLOT)
    slots["signal"], slots["value"], slots["time_us"] = road.SPEED, 42, 7
    reported = twin.pack(slots, ())
    await pool.execute(
        "INSERT INTO twin (ref, updated_us, arrived_us, skew_us, latitude, longitude, speed_kmh, reported, desired)"
        " VALUES ($1, 5, 6, 0, 48.5, 2.5, 42, $2, $3)", ref, reported, msgspec.msgpack.encode({1: 80.0}),
    )  # fmt: skip
    before = await road.twins.latest(ref)
    async with pool.acquire() as connection:
        await road.ledger.hold(connection, [Held(ref, 7, BAD_BATCH, "batch.malformed", "", b"as it was")])
    await pool.execute(
        "INSERT INTO command (id, ref, lane, version, act, parameters, actor, purpose, key, brand, not_before_us, expires_us,"
        " sealed, key_id, created_us, state, changed_us) VALUES ($1, $2, 'climate', 1, 'climate.start', '{\"a\":1}', 'me', '',"
        " '', 'peugeot', 0, 9, '{\"payload\":1}', '', 1, 1, 1)", bytes(16), ref,
    )  # fmt: skip
    steps = (*twin.OLDER, *command_store.OLDER, *telemetry_ledger.OLDER)
    await pool.execute("DELETE FROM sealed_column")
    assert await seal_older(road.database, steps) == 3
    assert await seal_older(road.database, steps) == 0
    row = await pool.fetchrow("SELECT latitude, reported, desired, place, moves FROM twin WHERE ref = $1", ref)
    assert (row["latitude"], row["moves"], row["desired"][0], row["reported"] == reported) == (None, True, 1, False)
    assert await road.twins.latest(ref) == before
    assert (before.latitude, before.speed_kmh, before.desired) == (48.5, 42.0, {1: 80.0})
    (held,) = await quarantine.list_held(road.ledger)
    assert (await quarantine.show(road.ledger, held.id))[1] == b"as it was"
    assert (await pool.fetchval("SELECT body FROM telemetry_quarantine"))[0] == 1
    stored_command = await pool.fetchrow("SELECT id, ref, parameters, result, sealed FROM command")
    assert {stored_command["parameters"][0], stored_command["sealed"][0]} == {1}
    (opened,) = await command_sealing.opened(keyring_of(road.database), [stored_command])
    assert (opened["parameters"], opened["result"], opened["sealed"]) == (b'{"a":1}', b"", b'{"payload":1}')
