"""Feeds by webhook: in order, signed, at least once; a receiver that is slow, away or elsewhere delays nobody but itself."""

from __future__ import annotations

import asyncio

import pytest
from standardwebhooks import Webhook as Standard
from tests.services.sharing.conftest import LATITUDE, OWNER, PARTY, PATIENCE_S, SOC, SPEED, Stand, until

from rocade.core.errors import Refused
from rocade.doors.webhooks import Poster
from rocade.doors.webhooks.posting import Target
from rocade.services.sharing import Contract, tidy

DAY_US = 24 * 3_600_000_000


async def test_a_record_reaches_the_receiver_signed_with_every_sample_and_its_quality(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving")
    secret = await stand.hook(contract)
    stand.deliver()
    await stand.send(ref)
    await until(lambda: stand.receiver.got)
    _, headers, body = stand.receiver.got[0]
    Standard(secret).verify(body, headers)
    assert headers["webhook-id"].startswith(contract.id + ".")
    (data,) = stand.receiver.taken()
    (speed,) = data["series"]
    assert (speed["signal"], speed["value"], speed["quality"]) == ("Vehicle.Speed", [50, 51, 52], [4, 0, 0])
    assert (speed["data_class"], speed["origin"], speed["unit"]) == ("driving", "raw", "km/h")
    assert str(ref) not in body.decode(), "a contract's id stands for the vehicle"


async def test_records_come_in_order_over_one_connection_and_each_once(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    await stand.hook(contract)
    for value in range(60):  # more than a page waits already
        await stand.send(ref, {SPEED: [float(value)]})
    stand.deliver()
    await until(lambda: len(stand.receiver.got) == 60)
    assert [one["series"][0]["value"][0] for one in stand.receiver.taken()] == list(range(60))
    assert stand.receiver.connections == 1


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_what_a_receiver_refuses_waits_and_comes_when_it_takes_it_again(stand: Stand, status: int) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    await stand.hook(contract)
    stand.receiver.status = status
    delivery = stand.deliver()
    await stand.send(ref)
    await until(lambda: delivery.counters.failed)
    assert stand.receiver.got == []
    stand.receiver.status = 204
    await stand.hooks.resume(PARTY, contract.id, "spiffe://acme")
    await until(lambda: delivery.counters.posted)
    assert len(stand.receiver.got) == 1
    await stand.lines.flush()
    kinds = [one.kind for one in await stand.sharing.log(contract.id)]
    assert sorted(kinds) == ["accepted", "failing", "offered", "resumed", "sent"]
    assert [one.reason for one in stand.audit.of("sharing.webhook")] == ["webhooks.answer"]


async def test_receivers_that_do_not_answer_delay_no_other(stand: Stand) -> None:
    slow = [await stand.vehicle() for _ in range(8)]
    for number, ref in enumerate(slow):
        stand.receiver.delay_s[f"/slow{number}"] = 3_600.0
        await stand.hook(await stand.contract(ref), f"/slow{number}")
    ref = await stand.vehicle()
    await stand.hook(await stand.contract(ref), "/quick")
    stand.deliver()
    for one in slow:
        await stand.send(one)
    await stand.send(ref)
    await until(lambda: stand.receiver.taken("/quick"))
    assert [path for path, _, _ in stand.receiver.got] == ["/quick"]


async def test_after_a_day_of_500_records_expire_and_both_sides_are_told(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    await stand.hook(contract)
    stand.receiver.status = 500
    delivery = stand.deliver()
    for _ in range(3):
        await stand.send(ref)
    await until(lambda: delivery.counters.failed)
    await tidy(stand.feeding, stand.audit)
    assert await stand.waiting() == 3, "nothing goes before its time"
    stand.clock.ahead_us = DAY_US + 60_000_000
    await stand.send(ref, {SPEED: [7.0]})
    await tidy(stand.feeding, stand.audit)
    assert await stand.waiting() == 1
    lines = {one.kind: one for one in await stand.sharing.log(contract.id)}
    assert (lines["expired"].records, lines["expired"].samples) == (3, 9), "of each record its speeds alone"
    assert [one.facts for one in stand.audit.of("sharing.expired")] == [{"records": 3, "samples": 9}]
    stand.receiver.status = 204
    await stand.hooks.resume(PARTY, contract.id, "spiffe://acme")
    await until(stand.receiver.taken)
    assert stand.receiver.taken(kind="sharing.expired")[0]["records"] == 3
    assert [one["series"][0]["value"] for one in stand.receiver.taken()] == [[7]]


async def test_what_a_contract_does_not_show_is_not_counted_as_missed(stand: Stand) -> None:
    """Positions under a contract about driving, a signal that it does not name: nothing of them would have gone out."""
    ref, all_day = await stand.vehicle(), await stand.vehicle()
    contract, other = await stand.contract(ref, signals=(SPEED,)), await stand.contract(all_day)
    for one in (contract, other):
        await stand.hook(one)
    for one in (ref, all_day):
        await stand.send(one, {LATITUDE: [48.8, 48.9]})
    await stand.send(ref, {SOC: [80.0]})
    await stand.send(ref, {SPEED: [7.0, 8.0], SOC: [80.0, 80.0]})
    stand.clock.ahead_us = DAY_US + 60_000_000
    await tidy(stand.feeding, stand.audit)
    assert await stand.waiting() == 0
    assert [(one.subject, one.facts) for one in stand.audit.of("sharing.expired")] == [
        (contract.id, {"records": 1, "samples": 2})
    ]
    lines = {one.kind: one for one in await stand.sharing.log(contract.id)}
    assert (lines["expired"].records, lines["expired"].samples) == (1, 2)
    assert "expired" not in {one.kind for one in await stand.sharing.log(other.id)}
    assert [(await stand.hooks.of(one.id)).expired for one in (contract, other)] == [1, 0]


async def test_gone_pauses_a_feed_until_it_is_resumed(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    await stand.hook(contract)
    stand.receiver.status = 410
    stand.deliver()
    await stand.send(ref)
    async with asyncio.timeout(PATIENCE_S):
        while not (await stand.hooks.of(contract.id)).paused_us:
            await asyncio.sleep(0.02)
    stand.receiver.status = 204
    await stand.hooks.resume(PARTY, contract.id, "spiffe://acme")
    await until(stand.receiver.taken)


async def test_a_contract_that_ends_in_the_middle_of_a_feed_sends_nothing_more_and_says_so(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    await stand.hook(contract)
    stand.receiver.status = 500
    delivery = stand.deliver()
    await stand.send(ref)
    await until(lambda: delivery.counters.failed)
    await stand.sharing.withdraw(ref, OWNER, contract.id)
    await stand.table.refresh()
    stand.receiver.status = 204
    await stand.database.pool.execute("UPDATE sharing_webhook SET due_us = 0")
    await until(lambda: stand.receiver.got)
    assert stand.receiver.taken(kind="sharing.ended") == [{"contract": contract.id, "why": "withdrawn"}]
    assert stand.receiver.taken() == []
    await tidy(stand.feeding, stand.audit)
    assert await stand.waiting() == 0
    assert [one.facts["why"] for one in stand.audit.of("sharing.end")] == ["withdrawn"]


class Held(Poster):
    """A receiver whose connection stands when the test lets it."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(stand.receiver.trusting(), lambda address: str(address) == "127.0.0.1")
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.asked.set()
        await self.may.wait()
        return await super().connect(target)


async def held(stand: Stand) -> tuple[int, Contract, Held]:
    """A record that was read and waits for its connection."""
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving", "energy", signals=(SPEED, SOC))
    await stand.hook(contract)
    stand.poster = poster = Held(stand)
    stand.deliver()
    await stand.send(ref)
    await asyncio.wait_for(poster.asked.wait(), PATIENCE_S)
    return ref, contract, poster


async def test_what_is_withdrawn_while_a_post_waits_for_its_connection_does_not_leave(stand: Stand) -> None:
    ref, contract, poster = await held(stand)
    await stand.sharing.withdraw(ref, OWNER, contract.id)
    await stand.table.refresh()
    poster.may.set()
    await until(lambda: stand.receiver.taken(kind="sharing.ended"))
    assert stand.receiver.taken() == []


async def test_a_signal_taken_out_while_a_post_waits_for_its_connection_does_not_leave(stand: Stand) -> None:
    ref, contract, poster = await held(stand)
    await stand.sharing.narrow(ref, OWNER, contract.id, contract.classes, (SPEED,))
    await until(lambda: stand.book.by_id[contract.id].version == 2)
    poster.may.set()
    await until(stand.receiver.taken)
    assert [one["signal"] for one in stand.receiver.taken()[0]["series"]] == ["Vehicle.Speed"]


async def test_a_post_is_dated_when_it_leaves(stand: Stand) -> None:
    """Receivers refuse a timestamp that is more than minutes old."""
    _, _, poster = await held(stand)
    stand.clock.ahead_us = 600_000_000
    poster.may.set()
    await until(stand.receiver.taken)
    _, headers, _ = stand.receiver.got[0]
    assert abs(int(headers["webhook-timestamp"]) - stand.clock.now_us() // 1_000_000) < 300


async def test_a_second_process_takes_over_and_nothing_is_missing(stand: Stand) -> None:
    ref = await stand.vehicle()
    await stand.hook(await stand.contract(ref))
    stand.deliver()
    stand.deliver()
    for value in range(20):
        await stand.send(ref, {SPEED: [float(value)]})
    await until(lambda: len({one["number"] for one in stand.receiver.taken()}) == 20)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://localhost/x", "webhooks.address.malformed"),
        ("https://10.0.0.1/x", "webhooks.address.private"),
        ("https://no-such-name.invalid/x", "webhooks.address.unknown"),
    ],
)
async def test_addresses_that_may_not_be_written_to_are_refused(stand: Stand, url: str, code: str) -> None:
    contract = await stand.contract(await stand.vehicle())
    with pytest.raises(Refused) as refused:
        await stand.hooks.put(PARTY, contract.id, url, "spiffe://acme")
    assert refused.value.code == code


async def test_only_classes_that_are_shared_leave(stand: Stand) -> None:
    ref = await stand.vehicle()
    await stand.hook(await stand.contract(ref, "location"))
    stand.deliver()
    await stand.send(ref, {SPEED: [1.0], SOC: [2.0]})
    await stand.send(ref, {SPEED: [1.0], LATITUDE: [48.8]})
    await until(lambda: stand.receiver.got)
    (data,) = stand.receiver.taken()
    assert [one["signal"] for one in data["series"]] == ["Vehicle.CurrentLocation.Latitude"]
