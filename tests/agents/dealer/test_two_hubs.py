"""One agent, two hubs of two makers: each has its own line, identity, lists and messages, and neither waits for the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.agents.dealer.conftest import QUICK, Hub, until
from tests.agents.dealer.test_agent import a_draft
from tests.agents.dealer.test_pair import message_to_us

from rocade.agents.dealer.agent import Dealer
from rocade.core.errors import Refused


async def test_one_agent_serves_two_hubs_side_by_side(hub: Hub, place: Path, tmp_path: Path) -> None:
    second = Hub(tmp_path / "second", "cn")
    await second.open()
    second.serve_blobs()
    second.enrol(place)
    here = await asyncio.to_thread(hub.publish, parts=300)
    there = await asyncio.to_thread(second.publish, parts=200)
    dealer = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    try:
        await until(lambda: {len(one.told("ack")) for one in (hub, second)} == {1})
        assert sorted(dealer.prices.names()) == sorted({f"eu/{here.name}", f"cn/{there.name}"})
        with pytest.raises(Refused, match="hub/list") as which:
            dealer.prices.price(here.name, "REF-000001", dealer.clock.now_us())
        assert which.value.code == "dealer.list.which"
        with pytest.raises(Refused) as unnamed:
            await dealer.send("", a_draft(0))
        assert unnamed.value.code == "dealer.hub.which"

        port = second.port
        await second.shut()
        for number in range(20):
            await dealer.send("eu" if number % 2 else "cn", a_draft(number))
        await until(lambda: dealer.outbox.counts("eu") == {"taken": 10})
        assert dealer.outbox.counts("cn") == {"waiting": 10}  # one hub away holds nothing of the other's up
        await second.open(port)
        await until(lambda: dealer.outbox.counts("cn") == {"taken": 10})
        assert [one["id"] for one in hub.told("message")] == [f"dms-{n}" for n in range(20) if n % 2]
        assert [one["id"] for one in second.told("message")] == [f"dms-{n}" for n in range(20) if not n % 2]
        senders = [str(one.told("message")[0]["sender"]) for one in (hub, second)]
        assert [sender.split("/")[3] for sender in senders] == ["eu", "cn"]

        for one, brand in ((hub, "lune"), (second, "vespelle")):
            one.deliver(message_to_us(f"order-{brand}"))
        await until(
            lambda: {(m.hub, m.id) for m in dealer.inbox.newest()} == {("eu", "order-lune"), ("cn", "order-vespelle")}
        )
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()
        await second.shut()
        second.stop_blobs()
