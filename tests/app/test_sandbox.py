"""The sandbox: a whole first day by our own client, by plain HTTP, by event stream and by webhook's owner; and its report."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
from tests.ports import free_port

from rocade.app.sandbox.conformance import Seen, judge
from rocade.app.sandbox.hub import Sandbox, opened
from rocade.app.sandbox.rehearsal import rehearse
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import SystemClock
from rocade.sdk import Client
from rocade.trust.identity.tls import client_context
from rocade.wire.resources import MESSAGE, Message, Receipt, to_csv

DAY_US = 86_400_000_000


@contextlib.asynccontextmanager
async def http(running: Sandbox, name: str) -> AsyncIterator[httpx.AsyncClient]:
    context = client_context(running.identities[name])
    async with httpx.AsyncClient(base_url=running.address, verify=context, trust_env=False, timeout=60) as client:
        yield client


def an_order(id: str, body: bytes = b"<order/>", **more: str) -> Message:
    return Message(
        id=id,
        content_class="technical",
        content_type="application/xml",
        created_us=SystemClock().now_us(),
        body=body,
        **more,
    )


async def sent(hub: Client, message: Message) -> None:
    """As often as it takes: the sandbox loses each first receipt."""
    with contextlib.suppress(Refused, Unavailable):
        await asyncio.to_thread(hub.send, message)
    await asyncio.to_thread(hub.send, message)


@pytest.mark.timeout(300)
async def test_a_first_day(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        now_us = SystemClock().now_us()
        said = await asyncio.to_thread(rehearse, running.address, running.identities["rue-haute"], now_us)
        assert "order-2: refused none in stock until spring" in said
        (report,) = running.reports()
        assert report.is_conformant, running.text()
        await a_stranger_sees_nothing(running)
        await news_by_stream_and_long_poll(running)
        await webhooks_are_kept_by_their_owner(running)
        async with http(running, "rue-haute") as client:
            assert (await client.get("/v1/sandbox/report")).json()["is_conformant"]


async def a_stranger_sees_nothing(running: Sandbox) -> None:
    """The list of a brand that porto-velho does not have, in three ways; and a partner that signs for nobody."""
    with Client(running.identities["porto-velho"], running.address) as hub:
        for ask in (lambda: hub.price("lune-fr", "L-100"), lambda: list(hub.price_changes("lune-fr", 0))):
            with pytest.raises(Refused, match=r"prices\.list\.unknown"):
                await asyncio.to_thread(ask)
    with Client(running.identities["your-dms"], running.address) as partner:
        with pytest.raises(Refused, match=r"exchange\.sender\.role"):
            await asyncio.to_thread(partner.send, an_order("p-1"))
    async with http(running, "porto-velho") as client:
        for path in ("/v1/price-lists/lune-fr/changes", "/v1/price-lists/lune-fr/stream"):
            assert (await client.get(path)).json()["code"] == "prices.list.unknown"
        assert (await client.get("/v1/exchange/news")).json()["items"] == []


async def news_by_stream_and_long_poll(running: Sandbox) -> None:
    async with http(running, "rue-basse") as client:
        first = (await client.get("/v1/exchange/news")).json()
        waiting = asyncio.create_task(client.get("/v1/exchange/news", params={"cursor": first["next"], "wait_s": 50}))
        with Client(running.identities["rue-haute"], running.address) as hub:
            await sent(hub, an_order("to-basse", b"hello", site="rue-basse"))
        (item,) = (await waiting).json()["items"]
        assert (item["type"], item["data"]["id"], item["data"]["body"]) == ("message", "to-basse", "aGVsbG8=")
        events = []
        async with client.stream("GET", "/v1/exchange/stream", headers={"last-event-id": first["next"]}) as stream:
            async for line in stream.aiter_lines():
                events.append(line)
                if line.startswith("data:"):
                    break
        assert events[0] == "event: message"
        assert events[1].startswith("id: m")
        async with client.stream("GET", "/v1/price-lists/lune-fr/stream", params={"since": 2}) as stream:
            names = []
            async for line in stream.aiter_lines():
                names += [line.removeprefix("event: ")] if line.startswith("event:") else []
                if names[-1:] == ["release"]:
                    break
        assert set(names[:-1]) == {"price-change"}
        page = (await client.get("/v1/price-lists/lune-fr/changes", params={"limit": 2})).json()
        assert len(page["items"]) == 2
        assert (await client.get("/v1/price-lists/lune-fr/changes", params={"cursor": "x"})).json()[
            "code"
        ] == "prices.cursor"


async def webhooks_are_kept_by_their_owner(running: Sandbox) -> None:
    async with http(running, "rue-basse") as client:
        refused = await client.post("/v1/webhooks", json={"url": "https://127.0.0.1/hook"})
        assert refused.json()["code"] == "webhooks.address.private"
        assert (await client.get("/v1/webhooks")).json() == {"items": []}
        assert (await client.delete("/v1/webhooks/wh_0")).json()["code"] == "webhooks.unknown"


@pytest.mark.timeout(300)
async def test_files_over_sftp_with_the_key_of_the_certificate_become_messages(tmp_path: Path) -> None:
    port = free_port()
    async with opened(tmp_path, sftp_port=port) as running:
        key = asyncssh.import_private_key((running.identities["rue-haute"] / "key.pem").read_text())
        lines = to_csv(
            [an_order(f"file-{n}", b"hello", site=to) for n, to in enumerate(("rue-basse", "nowhere"))], MESSAGE
        )

        def connected(user: str) -> Any:
            return asyncssh.connect(
                "127.0.0.1", port, username=user, client_keys=[key], known_hosts=None, config=None, agent_path=None
            )

        for stranger in ("rue-basse", "nowhere"):
            with pytest.raises(asyncssh.PermissionDenied):
                async with connected(stranger):
                    pass
        async with connected("rue-haute") as connection, connection.start_sftp_client() as sftp:
            async with sftp.open("message-1.csv", "wb") as file:
                await file.write(lines)
            async with asyncio.timeout(60):
                while not await sftp.exists("message-1.csv.answer.csv"):
                    await asyncio.sleep(0.05)
            async with sftp.open("message-1.csv.answer.csv", "rb") as answer:
                rows = (await answer.read()).decode().splitlines()
        assert rows[1:] == ["2;taken;;;file-0", "3;taken;;;file-1"]
        with Client(running.identities["rue-haute"], running.address) as hub:
            decided = [one async for one in _decided(hub, "file-1")]
        assert decided[0].outcome == "refused", "an address nobody has is refused with a receipt, as on every road"
        async with http(running, "rue-basse") as client:
            (item,) = (await client.get("/v1/exchange/news", params={"wait_s": 50})).json()["items"][:1]
        assert item["type"] in {"price-release", "message"}


async def _decided(hub: Client, id: str) -> AsyncIterator[Receipt]:
    for one in await asyncio.to_thread(lambda: list(hub.receipts(id))):
        if one.kind == "decided":
            yield one


def test_the_report_names_what_would_do_harm() -> None:
    seen = Seen("spiffe://s/s/dealer/x")
    seen.sent = {"order-1": [b"1", b"2"], "order-2": [b"3"]}
    seen.lost, seen.asked_after = {"order-1", "order-2"}, {"order-1"}
    seen.refused["soap.algorithm.sha1"] = 3
    states = {line.rule: (line.state, line.seen) for line in judge(seen).lines}
    assert states["repeats a message with the same content under the same id"][0] == "failed"
    assert states["sends a message again when its receipt was lost"] == ("failed", "never repeated: order-2")
    assert states["is refused nothing for its signatures, certificates or XML"] == ("failed", "soap.algorithm.sha1 (3)")
    assert states["asks a price at an instant of the past"][0] == "not seen yet"
    assert not judge(seen).is_conformant
