"""The agent and a hub through the real door: heads followed, messages sent in order, nothing lost when either goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agents.dealer.conftest import QUICK, SITE, Hub, envelope, until

from rocade.agents.dealer import agent
from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.outbox import Draft
from rocade.agents.dealer.store import FILE
from rocade.core.errors import Corrupt, Misconfigured, Refused, Unavailable
from rocade.doors.mqtt import Publish
from rocade.wire.exchange import Address
from rocade.wire.exchange.messages import VOID


class NoPrices:
    """Stands for the price store where a test is about the way to it."""

    def __init__(self, *_: object) -> None:
        self.applied: list[bytes] = []
        self.troubles: list[Exception] = []

    def apply(self, head: bytes, fetch: Callable[[str], bytes]) -> str:
        if self.troubles:
            raise self.troubles.pop(0)
        fetch("ab" * 32)
        self.applied.append(head)
        return "cd" * 32

    def heads(self) -> list[Any]:
        return []

    def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def running(place: Path) -> AsyncIterator[Dealer]:
    dealer = Dealer.open(place, NoPrices, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    try:
        yield dealer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()


def a_draft(number: int, **more: Any) -> Draft:
    return Draft(
        recipient=Address(brand="lune", service="orders"), content_class="technical", content_type="text/plain",
        body=f"message {number}".encode(), id=f"dms-{number}", **more,
    )  # fmt: skip


async def test_a_head_is_fetched_applied_and_acknowledged_signed(hub: Hub, place: Path) -> None:
    hub.blobs["ab" * 32] = b"content"
    async with running(place) as dealer:
        await until(lambda: hub.told("ask"))  # it has subscribed: it speaks after that
        assert await hub.send("head", envelope({"list": "parts", "seq": 3}))
        await until(lambda: hub.told("ack"))
        (ack,) = hub.told("ack")
        assert (ack["list"], ack["seq"], ack["state"], ack["state_root"]) == ("parts", 3, "applied", "cd" * 32)
        assert dealer.hub().prices.applied
        assert hub.asked == ["ab" * 32]
        assert {publish.tail for publish in hub.said} == {"keys", "state", "ask", "ack"}
        assert hub.clients[0].identity.id == SITE


async def test_a_blob_that_cannot_be_had_is_tried_again_and_a_refused_head_is_said(hub: Hub, place: Path) -> None:
    hub.blobs["ab" * 32] = b"content"
    async with running(place) as dealer:
        prices = dealer.hub().prices
        prices.troubles = [Unavailable("dealer.blob.down", "away"), Unavailable("dealer.blob.down", "away")]
        dealer.hub().following.offer(envelope({"list": "parts", "seq": 1}))
        await until(lambda: prices.applied)
        await until(lambda: dealer.hub().line.is_connected)
        prices.troubles = [Refused("prices.head.forked", "made up")]
        await hub.send("head", envelope({"list": "parts", "seq": 2}))
        await until(lambda: any(ack["state"] == "refused" for ack in hub.told("ack")))
        assert hub.told("ack")[-1]["code"] == "prices.head.forked"
        assert [code for _, _, code, _ in dealer.store.troubles()] == ["prices.head.forked", "dealer.blob.down"]


async def test_messages_made_without_the_line_arrive_in_order_once_it_is_there(hub: Hub, place: Path) -> None:
    port = hub.port
    await hub.shut()
    async with running(place) as dealer:
        for number in range(300):
            dealer.hub().send(a_draft(number))
        assert dealer.outbox.counts() == {"waiting": 300}
        await hub.open(port)
        await until(lambda: dealer.outbox.counts() == {"taken": 300})
    told = hub.told("message")
    assert [message["id"] for message in told] == [f"dms-{number}" for number in range(300)]
    assert [message["sequence"] for message in told] == list(range(1, 301))
    assert {message["sender"] for message in told} == {f"spiffe://test.rocade/eu/dealer/{SITE}"}


async def test_a_message_refused_for_good_stands_in_nobodys_way(hub: Hub, place: Path) -> None:
    hub.verdict = lambda publish: (
        Refused("exchange.route.none", "nobody there")
        if publish.tail == "message" and hub_id(publish.body) == "dms-1"
        else None
    )
    async with running(place) as dealer:
        for number in range(4):
            dealer.hub().send(a_draft(number))
        await until(lambda: dealer.outbox.counts() == {"taken": 4, "set_aside": 1})
        assert dealer.outbox.get("eu", "dms-1").code == "exchange.route.none"
    told = hub.told("message")
    assert [message["sequence"] for message in told] == [1, 3, 4, 2]
    assert told[-1]["content_type"] == VOID


def hub_id(body: bytes) -> str:
    import base64

    return str(json.loads(base64.b64decode(json.loads(body)["payload"]))["id"])


async def test_what_may_pass_goes_again_in_order(hub: Hub, place: Path) -> None:
    refusals = iter([Refused("quota.dealer", "too fast")] * 5)
    hub.verdict = lambda publish: next(refusals, None) if publish.tail == "message" else None
    async with running(place) as dealer:
        for number in range(50):
            dealer.hub().send(a_draft(number))
        await until(lambda: dealer.outbox.counts() == {"taken": 50})
    ids = list(dict.fromkeys(message["id"] for message in hub.told("message")))
    assert sorted(ids) == sorted(f"dms-{number}" for number in range(50))


async def test_the_same_id_is_one_message_and_another_content_is_a_conflict(hub: Hub, place: Path) -> None:
    async with running(place) as dealer:
        first = dealer.hub().send(a_draft(1))
        assert dealer.hub().send(a_draft(1)).number == first.number
        with pytest.raises(Refused) as conflict:
            dealer.hub().send(Draft(**{**_fields(a_draft(1)), "body": b"other"}))
        assert conflict.value.code == "dealer.message.conflict"


def _fields(draft: Draft) -> dict[str, Any]:
    return {name: getattr(draft, name) for name in draft.__struct_fields__}


async def test_two_agents_on_one_folder_are_refused(hub: Hub, place: Path) -> None:
    async with running(place):
        with pytest.raises(Misconfigured) as second:
            Dealer.open(place, NoPrices)
    assert second.value.code == "dealer.running"


async def test_a_message_whose_key_no_longer_counts_is_signed_again_and_stays_the_same(hub: Hub, place: Path) -> None:
    refusals = iter([Refused("exchange.key.ended", "made up", reason=0x87)] * 3)
    seen: list[bytes] = []

    def judge(publish: Publish) -> Refused | None:
        if publish.tail != "message":
            return None
        seen.append(publish.body)
        return next(refusals, None)

    hub.verdict = judge
    async with running(place) as dealer:
        dealer.hub().send(a_draft(1))
        await until(lambda: dealer.outbox.counts() == {"taken": 1})
        assert len(seen) == 4
        assert len({json.loads(body)["signatures"][0]["sig"] for body in seen}) == 4
        assert len({json.loads(body)["payload"] for body in seen}) == 1


async def test_a_full_disk_or_outbox_refuses_what_is_new_and_drops_nothing(hub: Hub, place: Path) -> None:
    await hub.shut()
    async with running(place) as dealer:
        dealer.hub().send(a_draft(1))
        dealer.outbox._free_bytes = lambda: 1
        with pytest.raises(Unavailable) as full:
            dealer.hub().send(a_draft(2))
        assert full.value.code == "dealer.outbox.full"
        assert dealer.outbox.counts() == {"waiting": 1}


async def test_an_address_that_is_taken_is_said_in_one_line(hub: Hub, place: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = place / "dealer.toml"
        settings.write_text(settings.read_text().replace("port = 0", f"port = {other.getsockname()[1]}", 1))
        dealer = Dealer.open(place, NoPrices, backoff=QUICK)
        with pytest.raises(Misconfigured) as taken:
            await dealer.run()
        dealer.close()
    assert taken.value.code == "dealer.web.address"


async def test_a_row_that_changed_on_the_disk_is_told_while_the_agent_runs(
    hub: Hub, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_CHECK_EVERY_S", 0.05)
    async with running(place) as dealer:
        await dealer.send("", a_draft(1))
        with contextlib.closing(sqlite3.connect(place / FILE)) as beside:
            beside.execute("DROP TRIGGER token_made")  # as a disk would: past everything that keeps the sums
            beside.execute("INSERT INTO token VALUES ('x', 'made up', 'send', 1, 2, 0, 0)")
            beside.commit()
        await until(lambda: ("dealer.damaged", "token 'x' has changed") in [one[2:] for one in dealer.store.troubles()])
        await dealer.send("", a_draft(2))
    with pytest.raises(Corrupt, match=r"dealer\.damaged"):
        Dealer.open(place, NoPrices, backoff=QUICK)
