"""Giving commands: what is refused, what a repetition gets, and two who want something else at the same moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rocade.core.errors import Refused
from rocade.services.vehicles.commands import Order, WakeBudget, ledger
from rocade.trust.authority.region import Region, issue_directory
from rocade.trust.authority.signing import ServiceSigner
from rocade.trust.identity.signers import read_signers, unseal
from rocade.wire.commands import COMMAND_TYPE, MOST_LIFE_US, SERVICE, read_command, read_down

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("command.act.unknown", {"act": "doors.open"}),
    ("command.parameters.malformed", {"parameters": {}}),
    ("command.parameters.malformed", {"parameters": {"percent": 300}}),
    ("command.parameters.malformed", {"parameters": {"percent": 80, "why": "so"}}),
    ("command.parameters.malformed", {"act": "charge.schedule", "parameters": {"slots": [[1, 2, 0]]}}),
    ("command.parameters.time", {"act": "charge.timer", "parameters": {"departure_us": 1, "target_percent": 80}}),
    (
        "command.parameters.time",
        {"act": "charge.timer", "parameters": {"departure_us": (1 << 62) - 1, "target_percent": 80}},
    ),
    (
        "command.parameters.time",
        {"act": "charge.schedule", "parameters": {"slots": [[(1 << 61), (1 << 61) + 1, 7.4]]}},
    ),
    ("command.deadline", {"after_us": -SECOND_US}),
    ("command.deadline", {"after_us": MOST_LIFE_US + SECOND_US}),
    ("command.deadline", {"after_us": HOUR_US, "not_before_after_us": 2 * HOUR_US}),
    ("command.key.malformed", {"key": "a b"}),
    ("command.key.malformed", {"key": "k" * 129}),
    ("vehicles.unknown", {"ref": 12345}),
]


@pytest.mark.parametrize(("code", "given"), REFUSED, ids=lambda one: one if isinstance(one, str) else "")
async def test_an_order_that_cannot_be_meant_is_refused_and_audited(hub: Any, code: str, given: dict[str, Any]) -> None:
    car = await hub.add_vehicle()
    now_us = hub.clock.now_us()
    order = Order(
        given.get("ref", int(car.ref)), given.get("act", "charge.limit"), given.get("parameters", {"percent": 80}), "person:01",
        now_us + given["after_us"] if "after_us" in given else 0,
        now_us + given.get("not_before_after_us", -now_us), given.get("key", ""),
    )  # fmt: skip
    with pytest.raises(Refused) as refusal:
        await hub.commands.order(order)
    assert refusal.value.code == code
    assert [(one.action, one.outcome, one.reason) for one in hub.audit.entries] == [("command.order", "refused", code)]


async def test_what_a_model_cannot_do_is_refused_and_what_nobody_wrote_down_is_tried(hub: Any) -> None:
    scooter = await hub.add_vehicle("lune", "Patin")
    assert set(hub.capabilities.of("lune", "Patin").values()) <= {"yes", "no", "unknown"}
    with pytest.raises(Refused, match=r"^command\.capability"):
        await hub.order(scooter)
    unknown = await hub.add_vehicle("renault", "Megane")
    assert hub.capabilities.of("renault", "Megane")["charge.limit"] == "unknown"
    assert (await hub.order(unknown)).state == "queued"


async def test_a_key_makes_a_repetition_harmless(hub: Any) -> None:
    car = await hub.add_vehicle()
    first = await hub.order(car, key="tonight")
    again = await hub.order(car, key="tonight")
    assert (again.id, again.version) == (first.id, first.version)
    assert (await hub.order(car, by="person:02", key="tonight")).id != first.id  # his own word
    with pytest.raises(Refused, match=r"^command\.key\.reused"):
        await hub.order(car, parameters={"percent": 90}, key="tonight")
    together = await asyncio.gather(*(hub.order(car, key="morning") for _ in range(20)))
    assert len({one.id for one in together}) == 1


async def test_processes_that_use_a_key_at_the_same_moment_get_one_command(hub: Any) -> None:
    car = await hub.add_vehicle()
    others = [hub.more_commands(hub.signer) for _ in range(4)]
    order = Order(int(car.ref), "charge.limit", {"percent": 70}, "person:01", key="same")
    together = await asyncio.gather(*(one.order(order) for one in others for _ in range(5)))
    assert len({one.id for one in together}) == 1
    assert len((await hub.commands.of(int(car.ref))).commands) == 1


async def test_of_two_owners_who_command_at_once_the_later_version_counts_and_each_is_answered(hub: Any) -> None:
    """Whoever comes, from whichever process: one command stays open, each other one says that it was superseded and by which."""
    car = await hub.add_vehicle()
    processes = [hub.more_commands(hub.signer) for _ in range(3)]
    given = await asyncio.gather(
        *(
            processes[at % 3].order(
                Order(int(car.ref), ("charge.start", "charge.stop")[at % 2], {}, f"person:0{at % 2}")
            )
            for at in range(30)
        )
    )
    assert len({one.version for one in given}) == 30
    now = {one.id: await hub.commands.standing(one.id) for one in given}
    newest = max(given, key=lambda one: one.version)
    assert [one.id for one in await hub.commands.open_of(int(car.ref))] == [newest.id]
    for one in now.values():
        if one.id != newest.id:
            assert (one.state, one.code) == ("superseded", "command.superseded")
            assert now[one.newer].version > one.version
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, set())
    assert [hub.opened(body).id for _, body in door.sent] == [newest.id]


async def test_lanes_do_not_disturb_each_other(hub: Any) -> None:
    car = await hub.add_vehicle()
    await hub.order(car, "charge.start")
    await hub.order(car, "charge.limit")
    await hub.order(car, "doors.lock")
    assert len(await hub.commands.open_of(int(car.ref))) == 3


async def test_many_orders_are_answered_one_by_one_in_their_order(hub: Any) -> None:
    cars = [await hub.add_vehicle() for _ in range(30)]
    orders = [Order(int(car.ref), "charge.limit", {"percent": 80}, "service:charging") for car in cars]
    orders[3] = Order(int(cars[3].ref), "charge.limit", {"percent": 1}, "service:charging")
    orders.append(Order(int(cars[0].ref), "charge.limit", {"percent": 90}, "service:charging"))
    answers = await hub.commands.order_many(orders)
    assert isinstance(answers[3], Refused)
    assert [one.ref for one in answers if not isinstance(one, Refused)] == [
        order.ref for at, order in enumerate(orders) if at != 3
    ]
    first = await hub.commands.standing(answers[0].id)
    assert (first.state, first.newer) == ("superseded", answers[-1].id)
    ordered = [one for one in hub.audit.entries if one.outcome == "done"]
    assert {one.facts["command"] for one in ordered} == {one.id for one in answers if not isinstance(one, Refused)}
    assert not any(car.id in str(one) for one in hub.audit.entries for car in cars)


async def test_versions_outlive_the_rows(hub: Any) -> None:
    """Nothing of a lane is undercut: neither after an erasure nor by a clock that went back."""
    car = await hub.add_vehicle()
    last = (await hub.order(car)).version
    async with hub.database.pool.acquire() as connection:
        await ledger.erase(connection, int(car.ref))
    hub.clock.ahead_us -= HOUR_US
    assert (await hub.commands.of(int(car.ref))).commands == []
    assert (await hub.order(car)).version == last + 1


async def test_a_list_is_turned_page_by_page(hub: Any) -> None:
    car = await hub.add_vehicle()
    given = [(await hub.order(car)).id for _ in range(7)]
    found, cursor = [], None
    while True:
        page = await hub.commands.of(int(car.ref), cursor, limit=3)
        found += [one.id for one in page.commands]
        if (cursor := page.cursor) is None:
            break
    assert found == given[::-1]
    for bad in ("x", "1.2", "1" * 16 + "." + "0" * 32, "f." + "0" * 31):
        with pytest.raises(Refused, match=r"^command\.cursor"):
            await hub.commands.of(int(car.ref), bad)
    for id in ("", "x", "0" * 32, "0" * 31):
        with pytest.raises(Refused, match=r"^command\.unknown"):
            await hub.commands.standing(id)


async def wake(hub: Any, car: Any, times: int) -> None:
    for _ in range(times):
        one = await hub.order(car)
        await hub.say(car, hub.report(one, "waking"), hub.report(one, "applied"))


async def test_a_sleeping_vehicle_is_woken_so_often_a_parked_day_and_no_more(hub: Any) -> None:
    car, most = await hub.add_vehicle(), WakeBudget().most
    await hub.measure(car, speed=0)
    hub.clock.ahead_us += HOUR_US
    await wake(hub, car, most)
    with pytest.raises(Refused, match=r"^command\.wake\.budget"):
        await hub.order(car)
    await hub.measure(car, speed=30)  # awake: it costs nothing
    assert (await hub.order(car)).state == "queued"
    hub.clock.ahead_us += HOUR_US
    with pytest.raises(Refused, match=r"^command\.wake\.budget"):
        await hub.order(car)
    await hub.measure(car, speed=0)  # it has driven: another parked day
    hub.clock.ahead_us += HOUR_US
    assert (await hub.order(car)).state == "queued"


async def test_a_day_later_a_vehicle_may_be_woken_again(hub: Any) -> None:
    car = await hub.add_vehicle()
    await wake(hub, car, WakeBudget().most)
    with pytest.raises(Refused, match=r"^command\.wake\.budget"):
        await hub.order(car)
    hub.clock.ahead_us += 24 * HOUR_US
    assert (await hub.order(car)).state == "queued"


async def test_who_follows_hears_every_change_and_an_end_ends_it(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    seen: list[str] = []
    started = asyncio.Event()

    async def follow() -> None:
        async for one in hub.commands.follow_one(ordered.id):
            if one is not None:
                seen.append(one.state)
            started.set()

    following = asyncio.create_task(follow())
    await started.wait()
    gateway, _ = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, set())
    async with asyncio.timeout(30):
        while seen[-1] != "sent":
            await asyncio.sleep(0.01)
        await hub.say(car, hub.report(ordered, "accepted"))
        while seen[-1] != "accepted":
            await asyncio.sleep(0.01)
    await hub.say(car, hub.report(ordered, "rejected", code="command.vehicle.full"))
    async with asyncio.timeout(30):
        await following
    assert seen == ["queued", "sent", "accepted", "rejected"]


async def test_what_waits_longer_than_its_key_lives_is_signed_again(hub: Any, trust: Path) -> None:
    """Another key has taken over; the command is the same, its signature one that the vehicle takes tonight too."""
    car = await hub.add_vehicle()
    ordered = await hub.order(car, expires_us=hub.clock.now_us() + 5 * 24 * HOUR_US)
    delivered = await hub.add_vehicle()
    has_it = await hub.order(delivered, expires_us=hub.clock.now_us() + 5 * 24 * HOUR_US)
    await hub.say(delivered, hub.report(has_it, "accepted"))
    issue_directory(Region(trust / "trust", hub.clock, hub.random), trust / "next", hub.identity)
    newer = await ServiceSigner.open(trust / "next", SERVICE, hub.publish, hub.clock)
    later = hub.more_commands(newer)
    assert await later.sign_again() == 0  # the old key lives for six more days
    await hub.database.pool.execute(
        "UPDATE command_signer SET not_after_us = $1 WHERE key_id = $2", hub.clock.now_us() + HOUR_US, hub.signer.key_id
    )
    assert await later.sign_again() == 1
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, set())
    sealed, chain = read_down(door.sent[0][1])
    keys = read_signers([chain.encode()], hub.issuers.table, SERVICE)
    assert list(keys) == [newer.key_id.hex()]
    command = read_command(unseal(COMMAND_TYPE, sealed, keys)[0])
    assert (command.id, command.version, command.expires_us) == (ordered.id, ordered.version, ordered.expires_us)
    assert command.issued_us > ordered.created_us
    assert await later.sign_again() == 0


async def test_what_is_open_ends_with_the_owners_time(hub: Any) -> None:
    car = await hub.add_vehicle()
    waiting, done = await hub.order(car, "doors.unlock"), await hub.order(car)
    await hub.measure(car, limit=80)
    await hub.say(car, hub.report(done, "applied", at_us=1))
    async with hub.database.pool.acquire() as connection, connection.transaction():
        await ledger.recall(connection, int(car.ref), hub.clock.now_us())
    ended = await hub.commands.standing(waiting.id)
    assert (ended.state, ended.code) == ("expired", "command.owner_changed")
    assert (await hub.commands.standing(done.id)).state == "verified"
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, {int(car.ref)})
    assert door.sent == []
