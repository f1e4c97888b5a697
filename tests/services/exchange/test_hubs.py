"""Two hubs, two databases, two regions with authorities of their own: one message across, one system whose messages must not cross."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from keyed import keyed
from tests.services.exchange.hub import Dealer, Hub, eventually, running

from rocade.agents.link import Link
from rocade.fabric.database import Database
from rocade.services.dealers import NationalException
from rocade.services.exchange import Rule, Wanted, store
from rocade.services.exchange.peers import Peer
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.identity import envelope
from rocade.wire.exchange.receipts import proven, read_receipts, read_root


async def dial(host: str, port: int, context: ssl.SSLContext, id: str, peer: Peer) -> Link:
    return await Link.open(host, port, context, id, peer, window=32)


@pytest.fixture(name="other")
async def a_second_hub(tmp_path: Path, database_url: str, postgres_url: str, template: str) -> AsyncIterator[Hub]:
    """Region `ca`, on a database of its own."""
    name = "other_" + database_url.rpartition("/")[2].partition("?")[0]
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    database = keyed(await Database.connect(postgres_url.replace("@/rocade?", f"@/{name}?")))
    try:
        async with running(tmp_path / "ca", database, "ca") as hub:
            await hub.rules(Rule(to="local/desk"))
            yield hub
    finally:
        await database.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def joined(hub: Hub, other: Hub) -> Peer:
    """`hub` gets an identity in the other's region and dials it."""
    folder = hub.directory / "hubs" / f"hub-{other.region}"
    identity = other.authority.region.identity("service", f"hub-{hub.region}")
    (await other.authority.provision([identity], "test"))[0].write(folder)
    (folder / "address.json").write_text(json.dumps({"host": "localhost", "port": other.port}))
    peer = Peer(folder.name, folder, hub.database, hub.exchange, dial)
    hub.tasks.append(asyncio.create_task(peer.run()))
    return peer


RULES = (Rule(to="local/desk"), Rule(to="hub/hub-ca", country="CA"))


async def a_dealer(hub: Hub) -> Dealer:
    await hub.rules(*RULES)
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.ask("replay", after=0)
    return dealer


async def desk_decides(other: Hub, outcome: str, code: str = "", reason: str = "") -> None:
    async def arrived() -> bool:
        return bool(await other.exchange.search(Wanted(state="received")))

    await eventually(arrived)
    (standing,) = await other.exchange.search(Wanted(state="received"))
    await other.exchange.decide(standing.number, "local/desk", outcome, code, reason)  # type: ignore[arg-type]


async def test_a_message_crosses_and_its_decision_comes_back(hub: Hub, other: Hub) -> None:
    dealer = await a_dealer(hub)
    await joined(hub, other)
    message = dealer.message(b"a part for Montreal", "orders", to={"country": "CA"})
    assert await dealer.send(message) == (0, "")
    await desk_decides(other, "refused", "orders.none", "none left")
    (refusal,) = await dealer.receipts(message, "decided")
    assert (refusal.code, refusal.reason, refusal.hub) == (
        "orders.none",
        "none left",
        "spiffe://test.rocade/eu/service/exchange",
    )
    (standing,) = await other.exchange.search(Wanted())
    assert (standing.party, standing.service, standing.content_type) == (
        "service/hub-eu",
        "orders",
        "application/vnd.rocade.message+dsse",
    )
    inner = envelope.payload_of(await other.exchange.envelope(standing.number))
    assert b"vnd.rocade" in inner, "the sender's own envelope is inside, as he signed it"


async def test_the_other_hubs_receipt_is_kept_as_evidence(hub: Hub, other: Hub) -> None:
    dealer = await a_dealer(hub)
    peer = await joined(hub, other)
    message = dealer.message(b"x", "orders", to={"country": "CA"})
    await dealer.send(message)
    await desk_decides(other, "accepted")
    await dealer.receipts(message, "decided")
    async with hub.database.pool.acquire() as connection:
        number = await connection.fetchval("SELECT number FROM exchange_message WHERE id = $1", message.id)
        found = await store.read_envelope(connection, Columns(hub.database), number)
    evidence = found[1]
    bundle = read_receipts(evidence)
    root = read_root(envelope.payload_of(bytes(bundle.root)))
    assert [one.hub for one in proven(bundle, root)] == ["spiffe://test.rocade/ca/service/exchange"]
    assert peer.last_problem == ""


async def test_messages_of_a_national_system_do_not_cross(hub: Hub, other: Hub) -> None:
    """Neither out of the region, whatever a rule says, nor in from another hub whose table is wrong."""
    hub.places.exceptions["FR", "invoices"] = NationalException(
        "FR", "invoices", "", "partner:tax", may_cross=False, note=""
    )
    await hub.rules(Rule(to="local/desk"), Rule(to="hub/hub-ca", service="invoices", dealer="FR-1"))
    dealer = await (await hub.dealer("FR-1")).connect()
    invoice = dealer.message(b"invoice", "invoices")
    await dealer.send(invoice)
    assert [one.id for one in await hub.exchange.replay("partner/tax", 0)] == [invoice.id]
    assert await hub.exchange.replay("hub/hub-ca", 0) == []
    await joined(other, hub)
    stranger = await (await other.dealer("CA-1", country="CA")).connect()
    await stranger.ask("replay", after=0)
    await other.rules(Rule(to="hub/hub-eu", service="invoices"))
    smuggled = stranger.message(b"invoice", "invoices")
    await stranger.send(smuggled)
    (refusal,) = await stranger.receipts(smuggled, "decided")
    assert refusal.code == "exchange.route.confined"
    assert len(await hub.exchange.replay("partner/tax", 0)) == 1


async def test_messages_cross_in_order_once_each_while_the_line_breaks(hub: Hub, other: Hub) -> None:
    dealer = await a_dealer(hub)
    peer = await joined(hub, other)
    sent = [dealer.message(b"%d" % number, "orders", to={"country": "CA"}) for number in range(40)]
    for number, message in enumerate(sent):
        await dealer.send(message)
        if number in {5, 20}:
            peer.hang_up()

    async def arrived() -> bool:
        return len(await other.exchange.search(Wanted(party="service/hub-eu"), limit=100)) == len(sent)

    await eventually(arrived)
    log = [entry for entry in await other.exchange.replay("local/desk", 0) if entry.kind == 0]
    from rocade.services.exchange.reading import message_of

    assert [message_of(entry.envelope or b"").id for entry in log] == [message.id for message in sent]


async def test_our_identity_at_the_other_hub_is_renewed_without_losing_a_message(hub: Hub, other: Hub) -> None:
    dealer = await a_dealer(hub)
    peer = await joined(hub, other)
    for number in range(9):
        await dealer.send(dealer.message(b"%d" % number, "orders", to={"country": "CA"}))
        if number in {2, 5}:
            identity = other.authority.region.identity("service", "hub-eu")
            (await other.authority.provision([identity], "test"))[0].write(hub.directory / "hubs" / "hub-ca")
            peer.hang_up()

    async def arrived() -> bool:
        return [one.state for one in await other.exchange.search(Wanted(party="service/hub-eu"))] == ["received"] * 9

    await eventually(arrived)


async def test_what_came_from_a_hub_is_not_handed_to_a_third(hub: Hub, other: Hub) -> None:
    dealer = await a_dealer(hub)
    await other.rules(Rule(to="hub/hub-us"))
    await joined(hub, other)
    message = dealer.message(b"x", "orders", to={"country": "CA"})
    await dealer.send(message)
    (refusal,) = await dealer.receipts(message, "decided")
    assert refusal.code == "exchange.route.hop"


async def test_a_message_too_large_to_be_wrapped_is_refused_here(hub: Hub, other: Hub) -> None:
    dealer = await a_dealer(hub)
    await joined(hub, other)
    large = dealer.message(bytes(400 << 10), "orders", to={"country": "CA"})
    await dealer.send(large)
    (refusal,) = await dealer.receipts(large, "decided")
    assert refusal.code == "exchange.hub.size"
    small = dealer.message(b"x", "orders", to={"country": "CA"})
    await dealer.send(small)
    await desk_decides(other, "accepted")
    assert [one.outcome for one in await dealer.receipts(small, "decided")] == ["accepted"]
