"""A point of sale and a real hub: thirty days without the line, a renewed key in between, receipts of both kinds, a message down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.agents.dealer.conftest import QUICK, until
from tests.clocks import PassingClock
from tests.services.exchange.hub import Hub, eventually, running

from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.outbox import Draft
from rocade.agents.dealer.pricing import open_store
from rocade.core.ports import SystemRandom
from rocade.fabric.database import Database
from rocade.services.exchange import Judgement, Rule, Wanted
from rocade.wire.exchange import Address

SITE = "FR-00123-1"
DAY_US = 86_400_000_000
DAYS, A_DAY = 30, 10


@pytest.fixture(name="clock")
def a_clock() -> PassingClock:
    return PassingClock()


@pytest.fixture(name="hub")
async def a_hub(tmp_path: Path, database: Database, clock: PassingClock) -> AsyncIterator[Hub]:
    async with running(tmp_path / "eu", database, clock=clock) as hub:
        await hub.rules(Rule(to="site", service="news"), Rule(to="local/desk"))
        yield hub


async def agent(hub: Hub, tmp_path: Path, clock: PassingClock, site: str) -> Dealer:
    """A new agent's folder, with a certificate from the hub's own authority."""
    place = tmp_path / site
    if site not in hub.places.sites:
        hub.places.add(site)
    identity = hub.authority.region.identity("dealer", site)
    (await hub.authority.provision([identity], "test"))[0].write(place / "hubs/eu")
    (place / configured.FILE).write_text("[local]\nport = 0\n")
    configured.add_hub(place, configured.Hub(name="eu", host="localhost", line_port=hub.port, api_port=1, est_port=1))
    return Dealer(place, configured.load(place), clock, SystemRandom(), open_store, QUICK)


def order(number: int, service: str = "orders", site: str = "") -> Draft:
    return Draft(
        recipient=Address(service=service, site=site), content_class="technical", content_type="text/plain",
        body=f"order {number}".encode(), id=f"order-{number}",
    )  # fmt: skip


async def test_thirty_days_without_the_line_and_every_message_arrives_once_in_order(
    hub: Hub, tmp_path: Path, clock: PassingClock
) -> None:
    clock.ahead_us = -DAYS * DAY_US
    dealer = await agent(hub, tmp_path, clock, SITE)
    old_key = dealer.hub().key()
    for day in range(DAYS):
        for number in range(A_DAY):
            dealer.hub().send(order(day * A_DAY + number))
        clock.ahead_us += DAY_US
    identity = hub.authority.region.identity("dealer", SITE)  # what a renewal leaves behind, once the line is back
    (await hub.authority.provision([identity], "test"))[0].write(dealer.hub().directory)
    assert dealer.hub().key().private_numbers() != old_key.private_numbers()
    assert dealer.outbox.counts() == {"waiting": DAYS * A_DAY}
    task = asyncio.create_task(dealer.run())
    try:
        await until(lambda: dealer.outbox.counts() == {"received": DAYS * A_DAY})
        found = await hub.exchange.search(Wanted(party=f"dealer/{SITE}"), limit=1000)
        assert sorted((one.sequence, one.id) for one in found) == [
            (at + 1, f"order-{at}") for at in range(DAYS * A_DAY)
        ]
        first = found[-1]
        (verdict,) = await hub.exchange.judge(
            [
                Judgement(
                    f"dealer/{SITE}",
                    first.id,
                    bytes.fromhex(first.sha256),
                    "local/desk",
                    "refused",
                    "no.stock",
                    "sold out",
                )
            ]
        )
        assert verdict is None
        await until(lambda: dealer.outbox.get("eu", first.id).state == "refused")
        assert dealer.outbox.get("eu", first.id).reason == "sold out"
        kinds = [kind for kind, _, _ in dealer.outbox.receipts("eu", first.id)]
        assert kinds == ["received", "decided"]
        assert dealer.store.troubles() == []
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()


async def test_one_site_writes_to_another_and_is_told_what_became_of_it(
    hub: Hub, tmp_path: Path, clock: PassingClock
) -> None:
    sender, reader = await agent(hub, tmp_path, clock, SITE), await agent(hub, tmp_path, clock, "FR-00123-2")
    tasks = [asyncio.create_task(one.run()) for one in (sender, reader)]
    try:
        sent = await sender.send("", order(1, "news", "FR-00123-2"))
        await until(lambda: reader.inbox.after("eu", 0))
        (arrived,) = reader.inbox.after("eu", 0)
        assert (arrived.id, arrived.sender) == (sent.id, sender.hub().identity.uri)
        reader.decide("", arrived.cursor, "accepted", "", "")
        await until(lambda: sender.outbox.get("eu", sent.id).state == "accepted")

        async def is_taken() -> bool:
            return reader.outbox.counts() == {"taken": 1}

        await eventually(is_taken)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sender.close()
        reader.close()
