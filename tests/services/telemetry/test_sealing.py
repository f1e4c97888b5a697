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
from rocade.services.telemetry.model import BAD_BATCH, BATCH, JSON, NUMBERED, SEALED, STREAM, Held
from rocade.services.telemetry.sealing import RoadSeals, number_of, open_records, seal_record
from rocade.services.vehicles import twin
from rocade.services.vehicles.commands import sealing as command_sealing
from rocade.services.vehicles.commands import store as command_store
from rocade.trust.authority.sealing import Group, Keyring, aad, keyring_of, seal
from rocade.trust.authority.sealing.older import seal_older

KEY, OTHER, BODY = b"k" * 32, b"o" * 32, b"body" * 9
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
    assert [record.kind for record in records] == [BATCH + NUMBERED, BAD_BATCH + NUMBERED, BAD_BATCH + NUMBERED]
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


def sealed(ref: int = 7, kind: int = BATCH, arrived_us: int = 1000, number: int = 41) -> Record:
    return seal_record(Record(partition_of(ref), ref, kind, arrived_us, BODY), number, KEY)  # type: ignore[arg-type]


def numbered(number: int) -> bytes:
    """The record above, said to be another of the vehicle's batches."""
    return number.to_bytes(8) + sealed().body[8:]


BEFORE = seal(KEY, BODY, aad(7, STREAM, BATCH, 1000))
"""As records were sealed before the number was bound."""


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        (sealed(), {(7, ROAD): OTHER}),
        (Record(1, 8, BATCH + NUMBERED, 1000, sealed().body), {(8, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED + 1, 1000, sealed().body), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED, 1001, sealed().body), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED, 1000, numbered(42)), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED, 1000, sealed(number=42).body[:8] + sealed().body[8:]), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + SEALED, 1000, sealed().body[8:]), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED, 1000, bytes(8) + BEFORE), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + SEALED, 1001, BEFORE), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED, 1000, sealed().body[:-1]), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED, 1000, b"short"), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + NUMBERED, 1000, b"never sealed, but said to be so, and long"), {(7, ROAD): KEY}),
        (Record(1, 7, BATCH + SEALED, 1000, b"never sealed, but said to be so, and long"), {(7, ROAD): KEY}),
    ],
    ids=["another key", "another vehicle", "another kind", "another instant", "another number", "another batch's number",
         "its number taken off", "given a number", "from before, another instant", "cut", "short", "no seal", "no seal, from before"],
)  # fmt: skip
def test_a_record_that_was_changed_or_moved_goes_to_quarantine_as_it_is(record: Record, keys: Any) -> None:
    opened = open_records([record, sealed()], {(7, ROAD): KEY, **keys} if record.key != 7 else keys)
    assert next((held.reason, held.body) for held in opened.broken) == ("seal.broken", record.body)
    assert all(one.body == BODY for one in opened.records)


def test_a_record_sealed_before_the_number_was_bound_still_opens() -> None:
    opened = open_records([Record(1, 7, BATCH + SEALED, 1000, BEFORE), sealed()], {(7, ROAD): KEY})
    assert [(one.kind, one.body) for one in opened.records] == [(BATCH, BODY), (BATCH, BODY)]
    assert not opened.broken


async def test_a_batch_presented_under_another_number_is_held_and_a_copy_of_it_counts_once(road: Any) -> None:
    vehicle = await road.add_vehicle()
    await road.publish(await road.connect(vehicle), road.speed_batch(1, [5.0]))
    (record,) = await stored(road)
    renumbered = msgspec.structs.replace(record, body=(2).to_bytes(8) + record.body[8:])
    await road.log.append(STREAM, [record, renumbered])
    worker = await road.drain()
    assert worker.counters.duplicates == 1
    assert [held.reason for held in await quarantine.list_held(road.ledger)] == ["seal.broken"]
    assert len((await road.samples(vehicle.ref))[road.SPEED]) == 1


async def test_the_number_that_is_bound_is_the_batchs_own(road: Any) -> None:
    """From the gateway's check, short message recognised or not; from the body where a record is sealed again."""
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    batches = [road.speed_batch(number, [5.0]) for number in (7, 8, 9)]
    for body in batches:
        assert await road.publish(context, body) == [None]
    said = b'{"version": 1, "epoch": "a1", "sequence": 11, "sent_at_us": 1}'
    assert await road.publish(context, said, tail="json") == [None]
    assert await road.publish(context, batches[0][:-1], protocol=4) == [None]
    assert [int.from_bytes(record.body[:8]) for record in await stored(road)] == [7, 8, 9, 11, 0]
    assert [number_of(BATCH, body) for body in (*batches, b"no envelope")] == [7, 8, 9, 0]
    assert [number_of(JSON, said), number_of(JSON, b"no json"), number_of(BAD_BATCH, batches[0])] == [11, 0, 0]
    (again,) = await RoadSeals(keyring_of(road.database)).sealed(
        [Record(partition_of(vehicle.ref), vehicle.ref, BATCH, 5, batches[1])]
    )
    assert int.from_bytes(again.body[:8]) == 8


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
    assert (await pool.fetchval("SELECT body FROM telemetry_quarantine"))[:9] == bytes(8) + b"\x01"
    stored_command = await pool.fetchrow("SELECT id, ref, parameters, result, sealed FROM command")
    assert {stored_command["parameters"][0], stored_command["sealed"][0]} == {1}
    (opened,) = await command_sealing.opened(keyring_of(road.database), [stored_command])
    assert (opened["parameters"], opened["result"], opened["sealed"]) == (b'{"a":1}', b"", b'{"payload":1}')
