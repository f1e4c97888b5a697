"""Publishing: acknowledged after the intake returned and never before, refused with the right reason, bounded."""

from __future__ import annotations

import asyncio
import re

import pytest

from rocade.core.errors import Refused, Unavailable
from rocade.doors.mqtt import Publish, Settings
from rocade.wire import mqtt as wire
from rocade.wire.mqtt import Reason

from .stand import OTHER_VIN, VIN, Call, OpenDoor, Stand, until

BOTH = pytest.mark.parametrize("protocol", [4, 5])


@BOTH
async def test_no_puback_leaves_before_the_intake_returned(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    door.intake.gate.clear()
    vehicle.publish(1)
    await until(lambda: door.intake.handed == 1)
    assert await vehicle.is_silent()
    vehicle.publish(2)
    assert await vehicle.is_silent()
    door.intake.gate.set()
    assert [await vehicle.receive(), await vehicle.receive()] == [wire.Puback(1), wire.Puback(2)]
    assert door.intake.ticks == [1, 1], "the second tick collects while the first is being stored"
    first = door.intake.stored[0]
    assert (first.tail, first.body, first.protocol) == ("batch", b"body", protocol)
    assert first.context.identity.id == VIN


@BOTH
async def test_messages_of_one_tick_are_stored_together_and_in_order(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    vehicle.send(*(wire.Publish(vehicle.up, b"%d" % n, 1, n) for n in range(1, 61)))
    assert [(await vehicle.receive()).packet_id for _ in range(60)] == list(range(1, 61))
    assert [p.body for p in door.intake.stored] == [b"%d" % n for n in range(1, 61)]
    assert len(door.intake.ticks) <= 3


@BOTH
async def test_qos_0_is_stored_without_an_answer_and_counted(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    vehicle.publish(0, b"once")
    await until(lambda: [p.body for p in door.intake.stored] == [b"once"])
    assert await vehicle.is_silent()
    assert (door.meter.publishes_qos0, door.meter.acknowledged) == (1, 0)


FOREIGN = [f"rocade/v1/{OTHER_VIN}/up/batch", f"rocade/v1/{VIN}/up/other", f"rocade/v1/{VIN}/down/x", "batch", "json",
           f"rocade/v1/{VIN}/up/batch/x", f"rocade/v1/{VIN}/up/", f"rocade/v2/{VIN}/up/batch"]  # fmt: skip


@pytest.mark.parametrize("topic", FOREIGN)
async def test_mqtt_5_answers_0x87_to_another_topic_and_audits_it(door: Stand, call: Call, topic: str) -> None:
    vehicle = await call(door)
    vehicle.send(wire.Publish(topic, b"x", 1, 9), wire.Publish(vehicle.up, b"mine", 1, 10))
    refused = await vehicle.receive()
    assert (refused.packet_id, refused.reason) == (9, Reason.NOT_AUTHORIZED)
    assert await vehicle.receive() == wire.Puback(10)
    assert [p.body for p in door.intake.stored] == [b"mine"]
    entry = door.audit.entries[0]
    assert (entry.action, entry.reason, entry.outcome) == ("mqtt.publish", "mqtt.topic", "refused")
    assert re.fullmatch("certificate:[0-9a-f]+", entry.actor), "its URI holds its number"


@pytest.mark.parametrize("topic", FOREIGN[:2])
async def test_311_is_disconnected_after_another_topic_and_it_is_audited(door: Stand, call: Call, topic: str) -> None:
    vehicle = await call(door, 4)
    vehicle.send(wire.Publish(topic, b"x", 1, 9))
    assert await vehicle.receive() is None
    assert door.audit.reasons == ["mqtt.topic"]
    assert door.intake.stored == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("batch.truncated", 0x99), ("quota.vehicle", 0x97), ("auth.unknown", 0x87), ("trust.vehicle", 0x87),
        ("something.else", 0x83),
    ],
)  # fmt: skip
async def test_a_verdict_becomes_the_reason_of_its_family(door: Stand, call: Call, code: str, reason: int) -> None:
    vehicle = await call(door)
    door.intake.verdict = lambda publish: Refused(code, "no") if publish.body == b"bad" else None
    vehicle.send(*(wire.Publish(vehicle.up, body, 1, n) for n, body in ((1, b"good"), (2, b"bad"), (3, b"good"))))
    answers = [await vehicle.receive() for _ in range(3)]
    assert [(a.packet_id, a.reason) for a in answers] == [(1, 0), (2, reason), (3, 0)]
    assert answers[1].properties.reason_string == code
    assert code in door.audit.reasons


async def test_no_reason_string_for_a_client_that_wants_none(door: Stand, call: Call) -> None:
    vehicle = await call(door, properties=wire.Properties(request_problem_information=0))
    door.intake.verdict = lambda _publish: Refused("batch.bad", "no")
    vehicle.publish(1)
    assert await vehicle.receive() == wire.Puback(1, 0x99)


async def test_311_over_its_quota_is_closed_after_what_was_stored_is_acknowledged(door: Stand, call: Call) -> None:
    vehicle = await call(door, 4)
    door.intake.verdict = lambda publish: Refused("quota.vehicle", "no") if publish.body == b"2" else None
    vehicle.send(*(wire.Publish(vehicle.up, b"%d" % n, 1, n) for n in (1, 2, 3)))
    assert await vehicle.receive() == wire.Puback(1)
    assert await vehicle.receive() is None
    assert door.audit.reasons == ["quota.vehicle"]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (wire.Publish("U", b"", 2, 1), 0x9B), (wire.Publish("U", b"", 1, 1, retain=True), 0x9A),
        (wire.Publish("U", b"", 1, 1, properties=wire.Properties(topic_alias=1)), 0x94),
        (wire.Publish("", b"", 1, 1, properties=wire.Properties(topic_alias=1)), 0x94),
        (wire.Publish("other", b"", 0), 0x87), (wire.Pubrel(1), 0x82), (wire.Connect("again"), 0x82),
        (wire.Auth(0x18, wire.Properties(authentication_method="x")), 0x82), (wire.Pingresp(), 0x82),
    ],
)  # fmt: skip
async def test_mqtt_5_is_told_which_rule_it_broke(door: Stand, call: Call, packet: wire.Packet, reason: int) -> None:
    vehicle = await call(door)
    if isinstance(packet, wire.Publish) and packet.topic == "U":
        packet = wire.Publish(vehicle.up, b"", packet.qos, 1, packet.retain, properties=packet.properties)
    vehicle.send(packet)
    assert (await vehicle.receive()).reason == reason
    assert await vehicle.receive() is None
    assert len(door.audit.entries) == 1
    assert door.intake.stored == []


async def test_mqtt_5_above_its_receive_maximum_is_disconnected(open_door: OpenDoor, call: Call) -> None:
    door = await open_door(Settings(receive_maximum=5))
    vehicle = await call(door)
    door.intake.gate.clear()
    vehicle.send(*(wire.Publish(vehicle.up, b"", 1, n) for n in range(1, 7)))
    assert (await vehicle.receive()).reason == Reason.RECEIVE_MAXIMUM_EXCEEDED


async def test_311_that_sends_more_than_fits_is_read_later_and_loses_nothing(open_door: OpenDoor, call: Call) -> None:
    door = await open_door(Settings(receive_maximum=5))
    vehicle = await call(door, 4)
    door.intake.gate.clear()
    for n in range(1, 301):
        vehicle.publish(n, bytes(1000))
    await asyncio.sleep(0.2)
    assert door.meter.publishes < 40, "a read's worth, not everything"
    door.intake.gate.set()
    assert [(await vehicle.receive()).packet_id for _ in range(300)] == list(range(1, 301))


@BOTH
async def test_an_unavailable_intake_stops_reading_and_nothing_is_lost_or_failed(
    door: Stand, call: Call, protocol: int
) -> None:
    vehicle = await call(door, protocol)
    door.intake.troubles = troubles = [Unavailable("log.down", "gone")] * 1_000
    vehicle.publish(1)
    await until(lambda: door.meter.is_paused and len(troubles) < 999)
    vehicle.publish(2)
    raised, troubles[:] = 1_000 - len(troubles), [RuntimeError("bug")]
    assert [await vehicle.receive(), await vehicle.receive()] == [wire.Puback(1), wire.Puback(2)]
    assert len(door.intake.stored) == 2
    assert not door.meter.is_paused
    assert door.meter.accept_retries == raised + 1
    assert door.meter.paused_us > 100_000


async def test_unacknowledged_bytes_are_bounded_by_not_reading(open_door: OpenDoor, call: Call) -> None:
    door = await open_door(Settings(max_unacknowledged_bytes=100_000, receive_maximum=65_535))
    vehicles = [await call(door, 4, f"VF1AAAAA55500000{n}") for n in range(4)]
    door.intake.gate.clear()
    for vehicle in vehicles:
        for n in range(1, 101):
            vehicle.publish(n, bytes(4000))
    await until(lambda: door.meter.is_paused)
    await asyncio.sleep(0.2)
    assert door.meter.is_paused
    assert door.meter.unacknowledged_bytes < 100_000 + 4 * 16_384
    door.intake.gate.set()
    for vehicle in vehicles:
        assert [(await vehicle.receive()).packet_id for _ in range(100)] == list(range(1, 101))
    assert door.meter.unacknowledged_bytes == 0
    assert len(door.intake.stored) == 400


async def test_unfinished_packets_are_bounded_over_all_connections(open_door: OpenDoor, call: Call) -> None:
    door = await open_door(Settings(max_partial_bytes=100_000))
    first, second = await call(door), await call(door, vehicle_id=OTHER_VIN)
    frame = wire.encode(wire.Publish(first.up, bytes(90_000), 1, 1), 5)
    first.writer.write(frame[:80_000])
    await until(lambda: door.meter.partial_bytes > 70_000)
    second.writer.write(frame[:80_000])
    assert (await second.receive()).reason == Reason.SERVER_BUSY
    first.writer.write(frame[80_000:])
    assert await first.receive() == wire.Puback(1)
    assert door.meter.partial_bytes == 0


async def test_a_failure_inside_one_session_closes_that_one_only(door: Stand, call: Call) -> None:
    vehicle, other = await call(door), await call(door, vehicle_id=OTHER_VIN)
    door._house.parties[VIN]._context = None
    door._house.add = None
    vehicle.publish(1)
    assert (await vehicle.receive()).reason == Reason.UNSPECIFIED
    door._house.add = door._commit.add
    other.publish(1)
    assert await other.receive() == wire.Puback(1)


async def test_a_broken_commit_is_reported_to_the_process(door: Stand, call: Call) -> None:
    vehicle = await call(door)
    door._commit._answer = None
    vehicle.publish(1)
    with pytest.raises(TypeError):
        await asyncio.wait_for(door.failed(), 30)


def test_publish_has_no_other_identity_than_the_context() -> None:
    assert "identity" not in Publish.__struct_fields__
