"""Hostile peers at the door's socket: they are told why and closed, others are served meanwhile, memory stays bounded."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from tests.doors.mqtt.stand import OTHER_VIN, VIN, Call, OpenDoor, Stand, a_call, a_door, a_yard, an_open_door

from rocade.doors.mqtt import Settings
from rocade.wire import mqtt as wire
from rocade.wire.mqtt import Reason

__all__ = ["a_call", "a_door", "a_yard", "an_open_door"]


async def test_a_batch_of_100_mb_is_refused_by_its_length_before_it_is_read(door: Stand, call: Call) -> None:
    vehicle, other = await call(door), await call(door, 5, OTHER_VIN)
    size = 100 << 20
    frame = wire.encode(wire.Publish(vehicle.up, bytes(size), 1, 1), 5)

    async def pour() -> None:
        try:
            for at in range(0, len(frame), 1 << 16):
                vehicle.writer.write(frame[at : at + (1 << 16)])
                await vehicle.writer.drain()
        except OSError:
            pass

    pouring = asyncio.create_task(pour())
    told = await vehicle.receive()
    assert isinstance(told, wire.Disconnect)
    assert told.reason == Reason.PACKET_TOO_LARGE
    assert door.meter.partial_bytes == 0
    other.publish(1)
    assert await other.receive() == wire.Puback(1)
    await asyncio.wait_for(pouring, 120)
    assert door.audit.reasons == ["mqtt.too_large"]


@pytest.mark.parametrize("protocol", [4, 5])
async def test_malformed_bytes_close_the_connection_with_a_reason(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    vehicle.writer.write(b"\x32\x05\x00\x01a\x00\x00\x00")
    if protocol == 5:
        assert (await vehicle.receive()).reason == Reason.PROTOCOL_ERROR
    assert await vehicle.receive() is None
    assert door.audit.reasons == ["mqtt.malformed.packet_id"]


async def test_noise_after_the_handshake_never_harms_others(door: Stand, call: Call) -> None:
    random = Random(20261121)
    good = await call(door, 5, OTHER_VIN)
    for number in range(1, 41):
        noisy = await call(door, 5, connect=number % 2 == 0)
        noisy.writer.write(random.randbytes(random.randrange(1, 3000)))
        good.publish(number)
        assert await good.receive() == wire.Puback(number)
        noisy.writer.close()
    assert len(door.intake.stored) == 40
    assert door.meter.partial_bytes == 0 or door.meter.connections > 1


async def test_no_bytes_before_connect_are_answered(door: Stand, call: Call) -> None:
    vehicle = await call(door, connect=False)
    vehicle.publish(1)
    assert await vehicle.receive() is None
    assert door.intake.clients == []
    assert door.intake.stored == []
    assert door.audit.reasons == ["mqtt.malformed.first"]


async def test_a_peer_that_never_reads_its_answers_is_cut_off(open_door: OpenDoor, call: Call) -> None:
    door = await open_door(Settings(max_unsent_bytes=10_000))
    vehicle = await call(door)
    vehicle.writer.transport.pause_reading()
    pings = wire.encode(wire.Pingreq()) * 8000
    async with asyncio.timeout(120):
        while door.meter.connections:
            vehicle.writer.write(pings)
            await asyncio.sleep(0.005)
    assert door.audit.reasons == ["mqtt.slow_reader"]


async def test_the_certificate_of_another_vehicle_opens_no_topic_of_this_one(door: Stand, call: Call) -> None:
    thief = await call(door, 5, OTHER_VIN)
    thief.send(wire.Publish(f"rocade/v1/{VIN}/up/batch", b"forged", 1, 1))
    assert (await thief.receive()).reason == Reason.NOT_AUTHORIZED
    thief.send(wire.Subscribe(1, (wire.Subscription(f"rocade/v1/{VIN}/down/#", 1),)))
    assert (await thief.receive()).reasons == (Reason.NOT_AUTHORIZED,)
    assert door.intake.stored == []
    [actor] = {entry.actor for entry in door.audit.entries}
    assert actor.startswith("certificate:"), "its URI holds its number"
