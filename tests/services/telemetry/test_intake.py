"""What the gateway says to a tick of publishes, and what it puts into the log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rocade.core.errors import Refused, Unavailable
from rocade.core.identifiers import Identity, partition_of
from rocade.doors.mqtt import Client, Publish
from rocade.services.telemetry.intake import Quota
from rocade.services.telemetry.model import BAD_BATCH, BATCH
from rocade.services.telemetry.sealing import RoadSeals
from rocade.trust.authority.sealing import keyring_of


async def logged(road: Any) -> list[Any]:
    found = (await road.log.read("telemetry", range(64), {}, 1000, 1 << 24)).records
    return list((await RoadSeals(keyring_of(road.database)).opened(found)).records)


async def test_each_publish_gets_its_own_verdict_and_good_ones_are_in_the_log(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    good, other = road.speed_batch(1, [1.0]), road.speed_batch(2, [2.0])
    verdicts = await road.publish(context, good, good[:-1], b"", other)
    assert [verdict and verdict.code for verdict in verdicts] == [None, "batch.malformed", "batch.version", None]
    records = await logged(road)
    assert [(record.key, record.kind, record.body) for record in records] == [
        (vehicle.ref, BATCH, good),
        (vehicle.ref, BATCH, other),
    ]
    assert {record.partition for record in records} == {partition_of(vehicle.ref)}
    refused = [entry for entry in road.audit.entries if entry.action == "telemetry.accept"]
    assert [(entry.reason, entry.subject) for entry in refused] == [
        ("batch.malformed", f"vehicle:{vehicle.ref}"),
        ("batch.version", f"vehicle:{vehicle.ref}"),
    ]
    assert not any(vehicle.id in repr((entry.subject, entry.facts)) for entry in refused)


@pytest.mark.parametrize("protocol", [4, 5])
async def test_a_batch_that_names_another_vehicle_is_not_taken(road: Any, protocol: int) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle, protocol)
    body = road.speed_batch(1, [1.0]) + b"\x62\x05OTHER"
    assert (await road.publish(context, road.speed_batch(2, [1.0]) + b"\x62\x0b" + vehicle.id.encode())) == [None]
    (verdict,) = await road.publish(context, body, protocol=protocol)
    kinds = [record.kind for record in await logged(road)]
    if protocol == 5:
        assert verdict.code == "batch.vehicle"
        assert kinds == [BATCH]
    else:
        assert verdict is None
        assert kinds == [BATCH, BAD_BATCH]
        await road.drain()
        assert [held.reason for held in await road.ledger.list_held()] == ["batch.vehicle"]


async def test_over_its_quota_a_vehicle_is_refused_and_audited_once_and_the_others_are_served(road: Any) -> None:
    road.intake._quota = Quota(messages_per_s=1, bytes_per_s=1 << 20, burst_s=3)
    eager, calm = [await road.connect(await road.add_vehicle()) for _ in range(2)]
    bodies = [road.speed_batch(number, [1.0]) for number in range(1, 7)]
    verdicts = await road.publish(eager, *bodies)
    assert [verdict is None for verdict in verdicts] == [True] * 3 + [False] * 3
    assert {verdict.code for verdict in verdicts if verdict} == {"quota.exceeded"}
    assert await road.publish(calm, bodies[0]) == [None]
    assert [entry.reason for entry in road.audit.entries] == ["quota.exceeded"]
    later_us = road.clock.now_us() + 2_000_000
    (verdict,) = await road.intake.accept([Publish(eager, "batch", bodies[4], later_us, 5)])
    assert verdict is None


async def test_values_count_too_however_small_they_travel(road: Any) -> None:
    road.intake._quota = Quota(points_per_s=10, burst_s=10)
    context = await road.connect(await road.add_vehicle())
    many = road.speed_batch(1, [5.0] * 60_000)
    assert len(many) < 200
    verdicts = [(await road.publish(context, body))[0] for body in (many, road.speed_batch(2, [1.0]))]
    assert [verdict and verdict.code for verdict in verdicts] == [None, "quota.exceeded"]


async def test_reconnecting_is_no_way_to_more_quota(road: Any) -> None:
    road.intake._quota = Quota(messages_per_s=0.001, bytes_per_s=1 << 20, burst_s=1000)
    vehicle = await road.add_vehicle()
    assert await road.publish(await road.connect(vehicle), road.speed_batch(1, [1.0])) == [None]
    (verdict,) = await road.publish(await road.connect(vehicle), road.speed_batch(2, [1.0]))
    assert verdict.code == "quota.exceeded"


async def test_an_unknown_vehicle_is_not_admitted(road: Any) -> None:
    identity = Identity("rocade.test", "eu", "vehicle", "NOBODY-1")
    with pytest.raises(Refused, match=r"vehicles\.unknown"):
        await road.intake.admit(Client(identity, "c", 5, "peer"))


async def test_a_thousand_reconnects_are_a_handful_of_queries(road: Any) -> None:
    vehicles = [await road.add_vehicle() for _ in range(20)]
    asked: list[int] = []
    resolve_many = road.registry.resolve_many

    async def counted(ids: Any) -> Any:
        asked.append(len(ids))
        return await resolve_many(ids)

    road.registry.resolve_many = counted
    contexts = await asyncio.gather(*(road.connect(vehicle) for vehicle in vehicles * 50))
    assert {context.ref for context in contexts} == {vehicle.ref for vehicle in vehicles}
    assert len(asked) <= 2
    await road.connect(vehicles[0])
    assert len(asked) <= 2


async def test_a_log_that_is_down_gives_no_verdict(road: Any) -> None:
    context = await road.connect(await road.add_vehicle())

    class Down:
        async def append(self, *_: Any) -> None:
            raise Unavailable("log.down", "")

    road.intake._log = Down()
    held = context.messages
    for _ in range(3):  # the door hands the same tick in again and again
        with pytest.raises(Unavailable, match=r"log\.down"):
            await road.publish(context, road.speed_batch(1, [1.0]))
    assert context.messages == held
