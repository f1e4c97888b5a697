"""A sold vehicle goes on under a new reference: each owner's time stays his, nothing is lost, nothing is asked for twice."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.fabric.log import Record
from rocade.services.telemetry import Asker
from rocade.services.telemetry.apportioning import Renewal, Renewals, apportion
from rocade.services.telemetry.model import BATCH
from rocade.wire.batch import Batch, Clock, Column, Mark, decode_many, pack

S = 1_000_000
AT_US = 1_780_000_000 * S
OLD, NEW, NEWEST = 11, 22, 33


class Door:
    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def send(self, vehicle_id: str, tail: str, body: bytes) -> None:
        self.asked.append(body)


def batch(first_s: int, count: int, number: int = 1, sent_s: int | None = None) -> bytes:
    """Speed, a text, a flag and a mark, once a second from `first_s` after the change of owner."""
    times = AT_US + (first_s + np.arange(count)) * S
    seconds = first_s + np.arange(count)
    columns = [
        Column(1, 0, seconds * 1.5),
        Column(2, 0, [f"at {second}" for second in seconds.tolist()]),
        Column(3, 0, seconds % 2 == 0),
        Column(4, 1, np.array([7, 8], np.int64)),
    ]
    sent_us = AT_US + (first_s + count if sent_s is None else sent_s) * S
    clocks = [Clock(times), Clock(AT_US + np.array([-9, 9]) * S)]
    return pack(Batch(77, number, sent_us, clocks, columns, [Mark(count - 1, 4, column=0)], 3, 2, "VF3X"))


def told(body: bytes) -> dict[int, list[tuple[int, Any]]]:
    """Values by signal with the second they were measured, and the marks as signal 0."""
    decoded = decode_many([body])
    assert decoded.reasons == [None]
    found: dict[int, list[tuple[int, Any]]] = {}
    for number in range(len(decoded.columns.rows)):
        seconds = (decoded.clocks.times_of(int(decoded.columns.clock[number])) - AT_US) // S
        values = decoded.columns.values_of(number)
        found[int(decoded.columns.signal[number])] = list(
            zip(seconds.tolist(), list(values) if isinstance(values, list) else values.tolist(), strict=True)
        )
    for column, row in zip(decoded.mark_column.tolist(), decoded.mark_row.tolist(), strict=True):
        second = int(decoded.clocks.times_of(int(decoded.columns.clock[column]))[row] - AT_US) // S
        found.setdefault(0, []).append((second, 0))
    return found


def record(key: int, body: bytes, arrived_s: int) -> Record:
    return Record(0, key, BATCH, AT_US + arrived_s * S, body)


SOLD = Renewals([Renewal(OLD, NEW, AT_US)])
SOLD_TWICE = Renewals([Renewal(OLD, NEW, AT_US), Renewal(NEW, NEWEST, AT_US + 5 * S)])
CASES: list[tuple[str, Renewals, Record, dict[int, tuple[int, int] | None]]] = [
    # reference -> seconds [from, until) of the batch that it gets, None = only the number; the first is what stays
    ("live, filed under the new", SOLD, record(NEW, batch(3, 4), 7), {NEW: (0, 10), OLD: (-9, 0)}),
    ("on its way when it was sold", SOLD, record(OLD, batch(-8, 4), -4), {OLD: (-9, 10), NEW: None}),
    ("filed under the old a moment too long", SOLD, record(OLD, batch(1, 2), 3), {OLD: (-9, 0), NEW: (0, 10)}),
    ("over the moment of sale", SOLD, record(NEW, batch(-3, 6), 3), {NEW: (0, 10), OLD: (-9, 0)}),
    ("over the moment of sale, under the old", SOLD, record(OLD, batch(-3, 6), 3), {OLD: (-9, 0), NEW: (0, 10)}),
    ("a clock an hour ahead", SOLD, record(NEW, batch(3595, 9), 4), {NEW: (3600, 3604), OLD: (-9, 3600)}),
    ("kept in the car for long", SOLD, record(NEW, batch(-8, 4, sent_s=60), 60), {NEW: (0, 10), OLD: (-9, 0)}),
    ("sold twice, over both", SOLD_TWICE, record(NEW, batch(-3, 12), 9), {NEW: (0, 5), OLD: (-9, 0), NEWEST: (5, 10)}),
    ("of a vehicle never sold", SOLD, record(99, batch(-3, 6), 3), {99: (-9, 10)}),
]


@pytest.mark.parametrize(("name", "renewals", "given", "expected"), CASES, ids=[case[0] for case in CASES])
def test_each_sample_goes_to_the_owner_of_its_time(
    name: str, renewals: Renewals, given: Record, expected: dict[int, tuple[int, int] | None]
) -> None:
    """`name` says the case."""
    whole = told(given.body)
    kept, forwarded = apportion([given], renewals)
    shares = {one.key: one for one in [*kept, *forwarded]}
    assert list(shares) == list(expected)
    assert kept[0].key == given.key
    for ref, span in expected.items():
        mine = told(shares[ref].body)
        since, until = span or (0, 0)
        by_signal = {signal: [row for row in rows if since <= row[0] < until] for signal, rows in whole.items()}
        assert mine == {signal: rows for signal, rows in by_signal.items() if rows}
        sound = decode_many([shares[ref].body])
        assert (int(sound.epoch[0]), int(sound.sequence[0])) == (77, 1)
        assert shares[ref].arrived_us == given.arrived_us


def test_what_cannot_be_read_stays_for_quarantine() -> None:
    broken = record(OLD, b"\x00nonsense", 3)
    assert apportion([broken], SOLD) == ([broken], [])


def test_no_sample_is_lost_or_given_to_two() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        body = batch(int(rng.integers(-40, 40)), int(rng.integers(1, 60)), sent_s=50)
        given = record(int(rng.choice([OLD, NEW, NEWEST])), body, int(rng.integers(-5, 60)))
        kept, forwarded = apportion([given], SOLD_TWICE)
        shares = [told(one.body) for one in [*kept, *forwarded]]
        for signal, rows in told(body).items():
            assert sorted(row for share in shares for row in share.get(signal, [])) == sorted(rows)


async def sell(road: Any, vehicle: Any, in_s: float) -> int:
    """Change of owner at the moment, in effect a little later; the new reference."""
    at_us = road.clock.now_us() + int(in_s * S)
    async with road.database.pool.acquire() as connection, connection.transaction():
        return int(await road.handover.renew(connection, vehicle.ref, at_us))


def live(road: Any, number: int, speed: float) -> bytes:
    """One sample measured now."""
    return bytes(road.speed_batch(number, [speed], start_us=road.clock.now_us()))


async def speeds(road: Any, ref: int) -> list[float]:
    return [value for _, value, _ in (await road.samples(ref)).get(road.SPEED, [])]


async def test_a_sold_vehicle_that_is_sending_goes_on_under_its_new_reference(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    door = Door()
    asker = Asker(intake=road.intake, ledger=road.ledger, records=road.log, sender=door, clock=road.clock)  # type: ignore[arg-type]
    await road.publish(context, live(road, 1, 1.0))
    await road.drain()
    await road.publish(context, live(road, 2, 2.0))  # acknowledged, not taken in when the vehicle is sold
    renewed = await sell(road, vehicle, 60)
    await asker.ask_due()
    assert list(road.intake.connected) == [vehicle.ref], "it is the old owner's for another moment"
    late = live(road, 5, 5.0)
    road.clock.ahead_us += 61 * S
    await road.publish(context, live(road, 3, 3.0))  # the gateway has not heard yet
    await asker.ask_due()
    assert list(road.intake.connected) == [renewed]
    await road.publish(context, live(road, 4, 4.0), late)  # the car had kept this one
    async with asyncio.timeout(30):
        while await speeds(road, renewed) != [3.0, 4.0] or await speeds(road, vehicle.ref) != [1.0, 2.0, 5.0]:
            await road.drain()
    assert (await road.registry.resolve(vehicle.id)).ref == renewed
    with pytest.raises(Refused, match=r"vehicles\.unknown"):
        await road.registry.by_ref(vehicle.ref)
    (state,) = (await road.ledger.load_numbers([renewed]))[renewed]
    assert (state.highest, state.gaps) == (5, []), "no number is missing, none is asked for again"
    assert door.asked == []
    twin, former = await road.twins.latest(renewed), await road.twins.latest(vehicle.ref)
    assert [value.value for value in twin.reported.values()] == [4.0]
    assert [value.value for value in former.reported.values()] == [5.0]


async def test_a_block_that_commits_while_the_vehicle_is_sold_counts_for_the_new_reference_too(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, live(road, 1, 1.0))
    await road.drain()
    await road.publish(context, live(road, 2, 2.0))
    held, go_on, selling = asyncio.Event(), asyncio.Event(), None

    async def hold(*_: Any) -> None:
        held.set()
        await go_on.wait()

    worker, stop = road.worker(), asyncio.Event()
    worker._hooks = (hold,)
    working = asyncio.create_task(worker.run(stop))
    await asyncio.wait_for(held.wait(), 30)  # the block's numbers are written, its transaction is open
    selling = asyncio.create_task(sell(road, vehicle, 2))
    await asyncio.sleep(0.2)
    assert not selling.done(), "the sale waits for the block"
    go_on.set()
    renewed = await asyncio.wait_for(selling, 30)
    stop.set()
    await asyncio.wait_for(working, 30)
    (state,) = (await road.ledger.load_numbers([renewed]))[renewed]
    assert state.highest == 2


async def test_a_block_taken_apart_before_the_sale_and_stored_after_it_is_taken_in_again(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, live(road, 1, 1.0))
    worker = road.worker()
    digest = worker._digest
    renewed: list[int] = []

    async def slow(records: Any, storing: Any = None) -> Any:
        outcome = await digest(records, storing)
        if not renewed:
            renewed.append(await sell(road, vehicle, 0.1))
        return outcome

    worker._digest = slow
    await road.drain(worker)
    assert worker.counters.failures == 1
    assert await speeds(road, vehicle.ref) == [1.0]
    await road.drain()
    (state,) = (await road.ledger.load_numbers(renewed))[renewed[0]]
    assert (state.highest, state.gaps) == (1, [])


async def test_a_former_owner_erases_his_time_and_the_new_owners_stays(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, live(road, 1, 1.0))
    await road.drain()
    kept_in_the_car = live(road, 2, 9.0)
    await asyncio.sleep(0.05)
    renewed = await sell(road, vehicle, 0)
    await road.intake.follow(frozenset([vehicle.ref]))
    await asyncio.sleep(0.05)
    await road.publish(context, live(road, 3, 2.0))
    await road.drain()
    assert await road.erase(vehicle.ref, "person:a1") is None
    await road.publish(context, kept_in_the_car, live(road, 4, 4.0))
    async with asyncio.timeout(30):
        while await speeds(road, renewed) != [2.0, 4.0]:
            await road.drain()
    await road.drain()
    assert await road.samples(vehicle.ref) == {}
    assert await road.twins.latest(vehicle.ref) is None


async def test_after_an_owners_erasure_late_data_of_the_former_owner_still_go_past_him(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, live(road, 1, 1.0))
    await road.drain()
    late = live(road, 3, 9.0)
    await asyncio.sleep(0.05)
    second = await sell(road, vehicle, 0)
    await road.intake.follow(frozenset([vehicle.ref]))
    await asyncio.sleep(0.05)
    await road.publish(context, live(road, 2, 2.0))
    await road.drain()
    renamed: list[tuple[int, int]] = []

    async def follow(_connection: Any, ref: int, renewed: int) -> None:
        renamed.append((ref, renewed))

    road.handover.renamed = follow
    third = await road.erase(second, "person:b2")
    assert renamed == [(second, third)]
    await road.intake.follow(frozenset([second]))
    await road.publish(context, late, live(road, 4, 4.0))
    async with asyncio.timeout(30):
        while await speeds(road, vehicle.ref) != [1.0, 9.0] or await speeds(road, third) != [4.0]:
            await road.drain()
    assert await road.samples(second) == {}
