"""Downward: a vehicle subscribes to its own topics only, and a message counts as delivered when it acknowledged it."""

from __future__ import annotations

import asyncio

import pytest

from rocade.wire import mqtt as wire

from .stand import OTHER_VIN, VIN, Call, Stand

BOTH = pytest.mark.parametrize("protocol", [4, 5])
DOWN = f"rocade/v1/{VIN}/down/#"


@BOTH
async def test_only_the_vehicles_own_down_topics_can_be_subscribed(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    wanted = [
        (DOWN, 1, 1), (f"rocade/v1/{VIN}/down/resend", 2, 1), (f"rocade/v1/{VIN}/down/+/x", 0, 0), ("#", 1, 0x87),
        (f"rocade/v1/{OTHER_VIN}/down/#", 1, 0x87), ("rocade/v1/+/down/#", 1, 0x87), (f"rocade/v1/{VIN}/#", 1, 0x87),
        (f"$share/g/{DOWN}", 1, 0x9E), ("$SYS/#", 0, 0x87),
    ]  # fmt: skip
    vehicle.send(wire.Subscribe(1, tuple(wire.Subscription(one, qos) for one, qos, _ in wanted)))
    suback = await vehicle.receive()
    expected = [reason if protocol == 5 else min(reason, 0x80) for _, _, reason in wanted]
    assert list(suback.reasons) == expected
    assert len(door.audit.entries) == 6
    assert {entry.action for entry in door.audit.entries} == {"mqtt.subscribe"}


async def test_subscription_identifiers_and_too_many_filters_are_refused(door: Stand, call: Call) -> None:
    vehicle = await call(door)
    one = (wire.Subscription(DOWN, 1),)
    vehicle.send(wire.Subscribe(1, one, wire.Properties(subscription_identifiers=(1,))))
    assert (await vehicle.receive()).reasons == (0xA1,)
    many = tuple(wire.Subscription(f"rocade/v1/{VIN}/down/{n}", 1) for n in range(10))
    vehicle.send(wire.Subscribe(2, many))
    assert (await vehicle.receive()).reasons == (1,) * 8 + (0x97,) * 2


@BOTH
async def test_a_message_is_delivered_when_the_vehicle_acknowledged_it(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    vehicle.send(wire.Subscribe(1, (wire.Subscription(DOWN, 1),)))
    await vehicle.receive()
    delivered = door.send(VIN, "resend", b"{}")
    message = await vehicle.receive()
    assert (message.topic, message.payload, message.qos) == (f"rocade/v1/{VIN}/down/resend", b"{}", 1)
    await asyncio.sleep(0.05)
    assert not delivered.done()
    vehicle.send(wire.Puback(message.packet_id))
    assert await delivered is True
    assert door.meter.down_acknowledged == 1


async def test_it_is_not_delivered_to_who_is_absent_not_subscribed_or_gone(door: Stand, call: Call) -> None:
    assert await door.send(VIN, "resend", b"") is False
    vehicle = await call(door)
    assert await door.send(VIN, "resend", b"") is False
    vehicle.send(wire.Subscribe(1, (wire.Subscription(DOWN, 1),)))
    await vehicle.receive()
    pending = door.send(VIN, "resend", b"")
    vehicle.send(wire.Disconnect())
    assert await asyncio.wait_for(pending, 30) is False
    again = await call(door)
    assert await again.is_silent(), "the caller's queue sends again, the door keeps nothing"


async def test_a_negative_puback_is_no_delivery(door: Stand, call: Call) -> None:
    vehicle = await call(door)
    vehicle.send(wire.Subscribe(1, (wire.Subscription(DOWN, 1),)))
    await vehicle.receive()
    pending = door.send(VIN, "resend", b"")
    vehicle.send(wire.Puback((await vehicle.receive()).packet_id, 0x83))
    assert await pending is False


async def test_no_more_is_in_flight_than_the_vehicle_announced(door: Stand, call: Call) -> None:
    vehicle = await call(door, properties=wire.Properties(receive_maximum=2))
    vehicle.send(wire.Subscribe(1, (wire.Subscription(DOWN, 1),)))
    await vehicle.receive()
    sent = [door.send(VIN, "x", b"%d" % n) for n in range(3)]
    assert await sent[2] is False
    first = await vehicle.receive()
    vehicle.send(wire.Puback(first.packet_id))
    assert await sent[0] is True


async def test_a_vehicle_that_does_not_read_holds_one_message_at_most(door: Stand, call: Call) -> None:
    vehicle = await call(door)
    vehicle.send(wire.Subscribe(1, (wire.Subscription(DOWN, 1),)))
    await vehicle.receive()
    vehicle.writer.transport.pause_reading()
    sent = [door.send(VIN, "x", bytes(4 << 20)) for _ in range(5)]
    assert sum(one.done() and not one.result() for one in sent) >= 3
    assert door._house.parties[VIN].link.unsent_bytes <= 4 << 20


@BOTH
async def test_after_unsubscribe_nothing_comes(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    vehicle.send(wire.Subscribe(1, (wire.Subscription(DOWN, 1),)), wire.Unsubscribe(2, (DOWN, "other")))
    await vehicle.receive()
    assert (await vehicle.receive()).reasons == ((0, 0x11) if protocol == 5 else ())
    assert await door.send(VIN, "resend", b"") is False
