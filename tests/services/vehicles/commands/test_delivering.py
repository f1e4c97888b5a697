"""Taking commands to vehicles: again until there is a word, in order, by several gateways, whatever dies on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from unittest import mock

import msgspec
import pytest

from rocade.core import catalogue
from rocade.services.vehicles.commands import Capabilities, ledger, store
from rocade.services.vehicles.commands.delivering import HOLD_US, NO_ROOM_US, TOO_FAST_US

SECOND_US = 1_000_000


def ids(hub: Any, door: Any) -> list[str]:
    return [hub.opened(body).id for _, body in door.sent]


async def test_a_command_goes_again_until_the_vehicle_says_a_word(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car, expires_us=hub.clock.now_us() + 3600 * SECOND_US)
    gateway, door = hub.gateway(car)
    hub.clock.hold()  # seconds count here
    for after_s, sent in ((0, 1), (4, 1), (2, 2), (6, 2), (6, 3)):
        hub.clock.ahead_us += after_s * SECOND_US
        await gateway.deliver({int(car.ref)}, set())
        assert len(door.sent) == sent, after_s
    assert len({body for _, body in door.sent}) == 1  # the same bytes
    assert (await hub.commands.standing(ordered.id)).sends == 3
    await hub.say(car, hub.report(ordered, "accepted"))
    hub.clock.ahead_us += 600 * SECOND_US
    await gateway.deliver({int(car.ref)}, {int(car.ref)})
    assert len(door.sent) == 3


async def test_a_vehicle_that_comes_back_gets_everything_it_has_not_said_to_have(hub: Any) -> None:
    car = await hub.add_vehicle()
    limit, lock = await hub.order(car), await hub.order(car, "doors.lock")
    hub.clock.hold()  # what was just sent is not sent again
    first, door = hub.gateway(car)
    await first.deliver({int(car.ref)}, set())
    await hub.say(car, hub.report(lock, "accepted"))
    second, other = hub.gateway(car)  # another gateway, at once
    await second.deliver({int(car.ref)}, set())
    assert other.sent == []
    await second.deliver({int(car.ref)}, {int(car.ref)})
    assert (ids(hub, door), ids(hub, other)) == ([limit.id, lock.id], [limit.id])


async def test_what_follows_does_not_overtake_what_had_no_room(hub: Any) -> None:
    car = await hub.add_vehicle()
    given = [await hub.order(car, act) for act in ("charge.limit", "doors.lock", "charge.start")]
    gateway, door = hub.gateway(car)
    door.is_open = False
    hub.clock.hold()
    await gateway.deliver({int(car.ref)}, set())
    assert [(await hub.commands.standing(one.id)).state for one in given] == ["queued"] * 3
    door.is_open = True
    await gateway.deliver({int(car.ref)}, set())
    assert door.sent == []
    hub.clock.ahead_us += NO_ROOM_US + 1
    await gateway.deliver({int(car.ref)}, set())
    assert ids(hub, door) == [one.id for one in given]


async def test_gateways_that_look_at_once_send_each_command_once(hub: Any) -> None:
    hub.clock.hold()  # what was just sent is not sent again
    cars = [await hub.add_vehicle() for _ in range(40)]
    given = {(await hub.order(car)).id for car in cars}
    gateways = [hub.gateway(*cars) for _ in range(4)]
    refs = {int(car.ref) for car in cars}
    await asyncio.gather(*(gateway.deliver(refs, set()) for gateway, _ in gateways for _ in range(3)))
    sent = Counter(id for _, door in gateways for id in ids(hub, door))
    assert sent == Counter(given)


@pytest.mark.parametrize("where", ["before it was sent", "after it was sent"])
async def test_a_gateway_that_dies_with_a_command_in_hand_leaves_it_to_the_next(hub: Any, where: str) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    dying, door = hub.gateway(car)
    hub.clock.hold()
    target = "read_chain" if where == "before it was sent" else "mark_sent"
    with (
        mock.patch.object(store if target == "read_chain" else ledger, target, side_effect=RuntimeError("killed")),
        pytest.raises(RuntimeError),
    ):
        await dying.deliver({int(car.ref)}, set())
    assert len(door.sent) == (where == "after it was sent")
    assert (await hub.commands.standing(ordered.id)).state == "queued"
    living, other = hub.gateway(car)
    await living.deliver({int(car.ref)}, set())
    assert other.sent == []  # it may still be in the dead one's hand
    hub.clock.ahead_us += HOLD_US + 1
    await living.deliver({int(car.ref)}, set())
    assert ids(hub, other) == [ordered.id]
    await hub.say(car, hub.report(ordered, "applied"), hub.report(ordered, "applied"))
    assert (await hub.commands.standing(ordered.id)).state == "applied"


async def test_a_running_gateway_hears_of_orders_and_of_vehicles_that_come(hub: Any) -> None:
    hub.clock.hold()  # what was just sent is not sent again
    car, late = await hub.add_vehicle(), await hub.add_vehicle()
    before = await hub.order(late)
    gateway, door = hub.gateway(car)
    running = asyncio.create_task(gateway.run())
    try:
        ordered = await hub.order(car)
        async with asyncio.timeout(30):
            while not door.sent:
                await asyncio.sleep(0.01)
            gateway._connected[int(late.ref)] = hub.seat(late)
            gateway.came(hub.seat(late))
            while len(door.sent) < 2:
                await asyncio.sleep(0.01)
        assert ids(hub, door) == [ordered.id, before.id]
        assert set(gateway.expected) == {int(car.ref), int(late.ref)}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_lost_notification_costs_a_moment_only(hub: Any) -> None:
    """The order's notification goes to nobody; the round finds the command."""
    hub.clock.hold()  # what was just sent is not sent again
    car = await hub.add_vehicle()
    with mock.patch.object(store, "notify", mock.AsyncMock()):
        ordered = await hub.order(car)
    gateway, door = hub.gateway(car)
    with mock.patch("rocade.services.vehicles.commands.delivering.listen", mock.AsyncMock()):
        running = asyncio.create_task(gateway.run())
        async with asyncio.timeout(30):
            while not door.sent:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert ids(hub, door) == [ordered.id]


async def test_a_brand_gets_no_more_a_second_than_its_back_end_takes(hub: Any) -> None:
    standard = catalogue.standard()
    renault = standard.brands["renault"]
    slow = msgspec.structs.replace(renault, commands=msgspec.structs.replace(renault.commands, rate_per_s=2.0, burst=3))
    brands = {**standard.brands, "renault": slow}
    limited = Capabilities(catalogue.Catalogue(standard.signals, {}, brands))
    cars = [await hub.add_vehicle() for _ in range(8)]
    for car in cars:
        await hub.order(car, expires_us=hub.clock.now_us() + 3600 * SECOND_US)
    gateways = [hub.gateway(*cars) for _ in range(2)]
    refs, sent = {int(car.ref) for car in cars}, []
    for gateway, _ in gateways:
        gateway._capabilities = limited
    hub.clock.hold()
    for after_us in (0, SECOND_US + TOO_FAST_US, SECOND_US + TOO_FAST_US):
        hub.clock.ahead_us += after_us
        for gateway, _ in gateways:
            await gateway.deliver(refs, set())
        sent.append(sum(len(door.sent) for _, door in gateways))
    assert sent == [3, 6, 8]


async def test_a_vehicle_too_often_woken_is_left_asleep_at_the_moment_of_sending_too(hub: Any) -> None:
    car = await hub.add_vehicle()
    for _ in range(5):
        one = await hub.order(car)
        await hub.say(car, hub.report(one, "waking"), hub.report(one, "applied"))
    last, lock = await hub.order(car), await hub.order(car, "doors.lock")
    await hub.say(car, hub.report(last, "waking"), hub.report(last, "applied"))
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, set())
    refused = await hub.commands.standing(lock.id)
    assert (door.sent, refused.state, refused.code) == ([], "rejected", "command.wake.budget")


async def test_a_command_that_went_down_before_the_budget_was_spent_is_not_ended_by_it(hub: Any) -> None:
    """Its message may only be slow; what the vehicle says of it counts, also against an end that the hub gave itself."""
    car = await hub.add_vehicle()
    slow = await hub.order(car, "doors.lock")
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, set())
    for _ in range(6):
        one = await hub.order(car)
        await hub.say(car, hub.report(one, "waking"), hub.report(one, "applied"))
    hub.clock.ahead_us += 60 * SECOND_US
    await gateway.deliver({int(car.ref)}, set())
    assert ((await hub.commands.standing(slow.id)).state, len(door.sent)) == ("sent", 1)
    async with hub.database.pool.acquire() as connection, connection.transaction():
        await ledger.refuse(connection, [bytes.fromhex(slow.id)], "command.wake.budget", hub.clock.now_us())
    await hub.say(car, hub.report(slow, "applied"))
    assert (await hub.commands.standing(slow.id)).state == "applied"


@pytest.mark.parametrize("turn", range(5))
async def test_word_and_proof_at_the_same_moment_always_meet(hub: Any, turn: int) -> None:
    """The gateway's transaction and the worker's, side by side over and over: whichever is first, the command is verified."""
    cars = [await hub.add_vehicle() for _ in range(10)]
    given = [(car, await hub.order(car)) for car in cars]
    await hub.verifier.look()
    act_us = hub.clock.now_us()
    work: list[Any] = []
    for at, (car, one) in enumerate(given):
        both = [hub.say(car, hub.report(one, "applied", at_us=act_us)), hub.measure(car, limit=80)]
        work += both if (at + turn) % 2 else both[::-1]
    await asyncio.gather(*work)
    assert Counter([(await hub.commands.standing(one.id)).state for _, one in given]) == {"verified": 10}
