"""The API of the exchange: search without content, content by class and duty, the table changed with a touch that names it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import httpx
import pytest
from tests.services.dealers.standing import SECURITY, SUPPORT, Asked, machine
from tests.services.exchange.hub import Dealer, Hub
from tests.unowned import Unowned

from rocade.doors.http.application import build
from rocade.services.exchange import api
from rocade.trust.authority.gate import Gate, Principal
from rocade.trust.identity.directory import LiveIssuers
from rocade.trust.identity.proof import read_trust, verify

MESSAGES, ROUTES = "/v1/exchange/messages", "/v1/exchange/routes"


class Desk:
    """Asks as somebody; the document of an answer, or the code of a refusal."""

    def __init__(self, hub: Hub) -> None:
        gate = Gate("eu", Unowned(), sites=None)
        self._access = Asked(lambda *_: None, lambda _: False, gate, hub.audit, hub.clock)  # type: ignore[arg-type,return-value]
        issuers = LiveIssuers(hub.directory / "trust")
        given = {"exchange": hub.exchange, "router": hub.router, "issuers": issuers}
        transport = httpx.ASGITransport(app=build(api.HANDLERS, given, self._access, version="0"))  # type: ignore[arg-type]
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def ask(
        self, who: Principal, method: str, path: str, *, touch: bool = True, content: bytes | None = None, **query: Any
    ) -> Any:
        self._access.who = who
        headers = {"rocade-touch": "x"} if touch else {}
        answer = await self._client.request(method, path, params=query, content=content, headers=headers)
        found = answer.json() if answer.content else {}
        return found["code"] if answer.status_code >= 400 else found


async def sent(hub: Hub, count: int = 3, **more: Any) -> Dealer:
    dealer = await (await hub.dealer("FR-1")).connect()
    for number in range(count):
        assert await dealer.send(dealer.message(b"secret %d" % number, **more)) == (0, "")
    return dealer


async def test_search_pages_through_messages_and_tells_no_content(hub: Hub) -> None:
    dealer = await sent(hub, 5)
    await dealer.send(dealer.message(to={"brand": "dacia"}))
    desk = Desk(hub)
    page = await desk.ask(SUPPORT, "GET", MESSAGES, limit=4)
    rest = await desk.ask(SUPPORT, "GET", MESSAGES, limit=4, cursor=page["next"])
    assert [one["id"] for one in page["items"] + rest["items"]] == [f"main-{number}" for number in (6, 5, 4, 3, 2, 1)]
    assert "secret" not in json.dumps(page)
    (refused,) = (await desk.ask(SUPPORT, "GET", MESSAGES, refused=True))["items"]
    assert refused["code"] == "dealers.brand.foreign"
    assert len((await desk.ask(SUPPORT, "GET", MESSAGES, message_state="received"))["items"]) == 5
    for query in ({"message_state": "lost"}, {"content_class": "private"}, {"party": "a\x00b"}):
        assert await desk.ask(SUPPORT, "GET", MESSAGES, **query) == "exchange.search"
    assert await desk.ask(SUPPORT, "GET", MESSAGES, cursor="x") == "exchange.cursor"


@pytest.mark.parametrize(
    ("content_class", "reader", "needs_touch"),
    [("technical", SUPPORT, False), ("customer", SUPPORT, True), ("fiscal", SECURITY, True)],
)
async def test_content_is_read_by_its_class(hub: Hub, content_class: str, reader: Principal, needs_touch: bool) -> None:
    await sent(hub, 1, content_class=content_class)
    desk = Desk(hub)
    path = f"/v1/exchange/{content_class}/1"
    assert (await desk.ask(reader, "GET", path))["payloadType"] == "application/vnd.rocade.message+json"
    assert (await desk.ask(reader, "GET", path, touch=False) == "gate.touch") == needs_touch
    other = SECURITY if reader is SUPPORT else SUPPORT
    assert await desk.ask(other, "GET", path) == "gate.denied"
    for stranger in (machine("partner", "helpers"), machine("dealer", "FR-1")):
        assert await desk.ask(stranger, "GET", path) == "gate.denied", "a provider or a site reads nothing here"
    wrong = {"technical": "customer", "customer": "technical", "fiscal": "technical"}[content_class]
    assert await desk.ask(SUPPORT, "GET", f"/v1/exchange/{wrong}/1") == "exchange.message.unknown"


async def test_proofs_come_as_files_that_verify(hub: Hub) -> None:
    await sent(hub)
    (proof,) = await Desk(hub).ask(SUPPORT, "GET", f"{MESSAGES}/2/proofs")
    trust = read_trust((hub.directory / "trust" / "trust.pem").read_bytes())
    assert "main-2" in " ".join(verify(json.dumps(proof).encode(), trust))
    assert await Desk(hub).ask(SUPPORT, "GET", f"{MESSAGES}/99/proofs") == "exchange.message.unknown"


async def test_the_table_is_tried_and_then_changed_with_a_touch_that_names_it(hub: Hub) -> None:
    await sent(hub)
    desk, draft = Desk(hub), json.dumps([{"to": "local/other"}]).encode()
    tried = await desk.ask(SUPPORT, "POST", f"{ROUTES}/simulation", content=draft)
    assert (tried["messages"], tried["items"][0]["would_be"]) == (3, "local/other")
    digest = sha256(draft).hexdigest()
    change = {"based_on": 1, "digest": digest, "note": "trial"}
    assert await desk.ask(SECURITY, "PUT", ROUTES, touch=False, content=draft, **change) == "gate.touch"
    assert await desk.ask(SUPPORT, "PUT", ROUTES, content=draft, **change) == "gate.denied"
    other = json.dumps([{"to": "local/thief"}]).encode()
    assert await desk.ask(SECURITY, "PUT", ROUTES, content=other, **change) == "exchange.route.invalid"
    assert (await desk.ask(SECURITY, "PUT", ROUTES, content=draft, **change))["version"] == 2
    assert await desk.ask(SECURITY, "PUT", ROUTES, content=draft, **change) == "exchange.route.stale"
    assert [one["version"] for one in (await desk.ask(SUPPORT, "GET", ROUTES, limit=5))["items"]] == [2, 1]


async def test_a_stream_is_skipped_with_a_touch(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.send(dealer.message(sequence=3, id="m3"))
    desk, asked = Desk(hub), {"party": "dealer/FR-1", "stream": "main", "next": 3}
    assert await desk.ask(SUPPORT, "POST", "/v1/exchange/streams/skip", touch=False, **asked) == "gate.touch"
    assert await desk.ask(SUPPORT, "POST", "/v1/exchange/streams/skip", **asked) == {}
    assert (await desk.ask(SUPPORT, "GET", f"{MESSAGES}/1"))["state"] == "received"
