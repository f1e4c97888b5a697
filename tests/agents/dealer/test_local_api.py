"""The API for the dealer's software: prices, messages, receipts, under tokens that can do what they say and nothing else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.agents.dealer.conftest import QUICK, Hub, until
from tests.agents.dealer.publisher import START_US
from tests.agents.dealer.test_pair import message_to_us

from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.tokens import SCOPES
from rocade.core.errors import Refused


class Desk:
    """A running agent and an HTTP client on its local API."""

    def __init__(self, dealer: Dealer) -> None:
        self.dealer = dealer
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{dealer.ports['local']}", timeout=30)

    def token(self, *scopes: str) -> dict[str, str]:
        name = f"dms-{len(self.dealer.tokens.list())}"
        return {"authorization": f"Bearer {self.dealer.tokens.create(name, scopes, 30)}"}


@contextlib.asynccontextmanager
async def desk_of(place: Path) -> AsyncIterator[Desk]:
    settings = place / "dealer.toml"
    settings.write_text(settings.read_text().replace("port = 0", "port = -1", 1))
    dealer = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    try:
        await asyncio.wait_for(dealer.is_serving.wait(), 30)
        desk = Desk(dealer)
        async with desk.http:
            yield desk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()


def a_message(id: str = "order-1", **more: Any) -> dict[str, Any]:
    body = base64.b64encode(b"<order/>").decode()
    return {
        "recipient": {"brand": "lune", "service": "orders"}, "content_class": "technical", "content_type": "text/xml",
        "body": body, "id": id, **more,
    }  # fmt: skip


async def test_prices_are_answered_with_and_without_the_line(hub: Hub, place: Path) -> None:
    hub.publish(parts=30)
    async with desk_of(place) as desk:
        await until(desk.dealer.prices.lists)
        await hub.shut()
        held = desk.token("prices.read")
        lists = (await desk.http.get("/v1/lists", headers=held)).json()
        assert [(one["list"], one["number"], one["parts"]) for one in lists] == [("parts", 1, 30)]
        price = (await desk.http.get("/v1/lists/parts/parts/REF-000004/price", headers=held)).json()
        assert (price["price_minor"], price["currency"], price["known_seq"]) == (1004, "EUR", 1)
        body = {"refs": ["REF-000001", "none"], "at": START_US}
        many = (await desk.http.post("/v1/lists/parts/prices", headers=held, json=body)).json()
        assert (many["REF-000001"]["price_minor"], many["none"]) == (1001, None)
        found = (await desk.http.get("/v1/lists/parts/parts", headers=held, params={"q": "REF-00000"})).json()
        assert (len(found), found[0]["ref"]) == (10, "REF-000000")
        assert (await desk.http.get("/v1/lists/parts/parts/REF-000001/history", headers=held)).json()[0]["number"] == 1
        assert (await desk.http.get("/v1/lists/parts/changes/1", headers=held)).json()[0]["before_minor"] is None
        proof = await desk.http.get("/v1/lists/parts/parts/REF-000001/proof", headers=held)
        assert "type" in proof.json()
        for path, status, code in (
            ("/v1/lists/parts/parts/none/price", 404, "prices.part.unknown"),
            ("/v1/lists/none/parts/none/price", 404, "prices.list.unknown"),
            ("/v1/lists/parts/parts/REF-000001/price?at=2026-01-01", 400, "dealer.instant.malformed"),
            ("/v1/nowhere", 404, "dealer.web.request"),
        ):
            refused = await desk.http.get(path, headers=held)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
            assert refused.headers["content-type"] == "application/problem+json"


async def test_a_message_is_sent_and_both_receipts_come_back_proven(hub: Hub, place: Path) -> None:
    hub.is_receipting = True
    async with desk_of(place) as desk:
        may = desk.token("messages.send", "messages.read")
        sent = await desk.http.post("/v1/messages", headers=may, json=a_message())
        assert (sent.status_code, sent.json()["id"]) == (202, "order-1")
        outbox = desk.dealer.outbox
        await until(lambda: outbox.get("eu", "order-1").state == "received")
        hub._push(
            *hub.receipt("order-1", hub.taken["order-1"], "decided", outcome="refused", code="no.stock", reason="sold")
        )
        await until(lambda: outbox.get("eu", "order-1").state == "refused")
        found = (await desk.http.get("/v1/messages/order-1", headers=may)).json()
        assert (found["message"]["code"], found["message"]["reason"]) == ("no.stock", "sold")
        assert [one["kind"] for one in found["receipts"]] == ["received", "decided"]
        assert all(one["document"]["root"]["payloadType"] for one in found["receipts"])
        refused = (
            await desk.http.get("/v1/messages", headers=may, params={"status": "refused", "text": "stock"})
        ).json()
        assert [one["id"] for one in refused] == ["order-1"]
        again = await desk.http.post("/v1/messages", headers=may, json=a_message())
        assert again.json()["number"] == sent.json()["number"]
        other = await desk.http.post("/v1/messages", headers=may, json=a_message(content_type="text/csv"))
        assert (other.status_code, other.json()["code"]) == (409, "dealer.message.conflict")
        for wrong in ({"content_class": "secret"}, {"stream": "with blanks"}, {"recipient": {"country": "france"}}):
            answer = await desk.http.post("/v1/messages", headers=may, json=a_message("x", **wrong))
            assert answer.status_code == 400
        assert desk.dealer.store.fact("cursor/eu") == "1"


async def test_a_receipt_that_the_hub_did_not_sign_or_for_another_content_moves_nothing(hub: Hub, place: Path) -> None:
    async with desk_of(place) as desk:
        sent = await desk.http.post("/v1/messages", headers=desk.token("messages.send"), json=a_message())
        assert sent.status_code == 202
        await until(lambda: "order-1" in hub.taken)
        tail, body = hub.receipt("order-1", hub.taken["order-1"], "received")
        tampered = json.loads(body)
        tampered["leaves"][0]["receipt"] = base64.b64encode(
            base64.b64decode(tampered["leaves"][0]["receipt"]).replace(b"received", b"decided")
        ).decode()
        hub._push(tail, json.dumps(tampered).encode())
        hub._push(*hub.receipt("order-1", "0" * 64, "received"))
        hub._push(tail, b"nonsense")
        wrong = {"exchange.receipt.root", "exchange.receipt.malformed"}
        await until(lambda: {code for _, _, code, _ in desk.dealer.store.troubles()} >= wrong)
        assert desk.dealer.outbox.get("eu", "order-1").state == "taken"


async def test_what_comes_in_is_read_by_cursor_and_decided(hub: Hub, place: Path) -> None:
    async with desk_of(place) as desk:
        may = desk.token("messages.send", "messages.read")
        await until(lambda: desk.dealer.hub().line.is_connected)
        waiting = asyncio.create_task(desk.http.get("/v1/inbox", headers=may, params={"wait_s": 25}))
        hub.deliver(message_to_us("news-1"))
        found = (await waiting).json()
        if not found:
            found = (await desk.http.get("/v1/inbox", headers=may, params={"wait_s": 25})).json()
        assert [(one["id"], one["cursor"]) for one in found] == [("news-1", 1)]
        envelope = (await desk.http.get("/v1/inbox/1", headers=may)).json()
        assert len(envelope["signatures"]) == 2
        decided = await desk.http.post("/v1/inbox/1/decision", headers=may, json={"outcome": "accepted"})
        assert decided.status_code == 202
        await until(lambda: hub.told("decision"))
        (decision,) = hub.told("decision")
        assert (decision["message_id"], decision["outcome"]) == ("news-1", "accepted")
        twice = await desk.http.post("/v1/inbox/1/decision", headers=may, json={"outcome": "refused"})
        assert twice.status_code == 409
        nothing = await desk.http.get("/v1/inbox/99", headers=may)
        assert nothing.status_code == 404


async def test_a_token_opens_what_it_says_and_nothing_else(hub: Hub, place: Path) -> None:
    routes = {"prices.read": "/v1/lists", "messages.read": "/v1/inbox", "state.read": "/v1/state"}
    async with desk_of(place) as desk:
        for scope in SCOPES:
            held = desk.token(scope)
            for needed, path in routes.items():
                answer = await desk.http.get(path, headers=held)
                assert answer.status_code == (200 if needed == scope else 403), (scope, path)
        for header in (
            {},
            {"authorization": "Bearer x"},
            {"authorization": "Bearer rdt_x"},
            {"authorization": "Basic rdt_x"},
        ):
            assert (await desk.http.get("/v1/lists", headers=header)).status_code in {401, 404}
        held = desk.token("state.read")
        desk.dealer.tokens.end(desk.dealer.tokens.list()[-1].name)
        assert (await desk.http.get("/v1/state", headers=held)).json()["code"] == "dealer.token.ended"
        with pytest.raises(Refused):
            desk.dealer.tokens.create("x", ("everything",), 1)
        secret = desk.token("state.read")["authorization"].removeprefix("Bearer rdt_")
        assert (
            secret.encode() not in (place / "agent.sqlite3").read_bytes() + (place / "agent.sqlite3-wal").read_bytes()
        )
        foreign = await desk.http.get("/v1/state", headers={**desk.token("state.read"), "host": "evil.example"})
        assert (foreign.status_code, foreign.json()["code"]) == (421, "dealer.web.host")
        document = (await desk.http.get("/v1/openapi.json", headers=desk.token("state.read"))).json()
        assert len(document["paths"]) >= 12


async def test_what_comes_before_it_can_be_believed_comes_again(hub: Hub, place: Path) -> None:
    answers, late = hub._answers, []

    def signers_late(asked: dict[str, Any]) -> list[tuple[str, bytes]]:
        if asked["want"] == "signers" and not late:
            late.append(asked)
            return []
        return answers(asked)

    hub._answers = signers_late
    hub.deliver(message_to_us("news-1"))
    hub.deliver(message_to_us("news-2"))
    async with desk_of(place) as desk:
        await until(lambda: any(code == "trust.envelope.signer" for _, _, code, _ in desk.dealer.store.troubles()))
        assert desk.dealer.inbox.after("eu", 0) == []
        assert desk.dealer.store.fact("cursor/eu") == ""
        hub._push(*answers({"want": "signers"})[0])
        await until(lambda: [one.id for one in desk.dealer.inbox.after("eu", 0)] == ["news-1", "news-2"])
        assert desk.dealer.store.fact("cursor/eu") == "2"
