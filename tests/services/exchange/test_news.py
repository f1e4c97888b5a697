"""News behind a cursor, webhooks that are told until they take it, and messages the hub vouches for."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import h11
import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from tests.services.exchange.hub import Hub

from rocade.core.errors import Refused, Unavailable
from rocade.core.identifiers import Identity
from rocade.doors.webhooks import Poster, posting
from rocade.services.exchange import Rule
from rocade.services.exchange.news import Log, Newsroom, read_cursor, reader_of
from rocade.services.exchange.vouching import Vouching
from rocade.services.exchange.webhooks import Webhooks
from rocade.services.exchange.webhooks.service import RETRY_S
from rocade.wire import resources
from rocade.wire.exchange import Address

TO_SITE = Rule(to="site")


@dataclass
class Receiver:
    """Somebody's web server over TLS; keeps what came and answers as told."""

    port: int = 0
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        headers: dict[str, str] = {}
        body = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                content = await reader.read(65_536)
                http.receive_data(content)
                if not content:
                    break
            elif isinstance(event, h11.Request):
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
        self.got.append((headers, body))
        answer = h11.Response(
            status_code=self.status, headers=[("location", "https://127.0.0.1:1/"), ("content-length", "0")]
        )
        writer.write(http.send(answer) + http.send(h11.EndOfMessage()))
        await writer.drain()
        writer.close()


class Stand:
    def __init__(self, hub: Hub, receiver: Receiver, context: ssl.SSLContext) -> None:
        self.hub, self.receiver = hub, receiver
        self.news = Newsroom(hub.database, [Log(hub.database)])
        self.webhooks = Webhooks(
            hub.database, self.news, hub.authority.region.identity("service", "api"), hub.directory / "webhooks.key",
            hub.audit, hub.clock, hub.random, Poster(context, lambda address: str(address) == "127.0.0.1"),
        )  # fmt: skip
        self.url = f"https://localhost:{receiver.port}/hook?x=1"
        self.vouching = Vouching(hub.database, hub.recorder, hub.signer, hub.routes, hub.clock)

    async def tell(self) -> int:
        """Whatever is due, now."""
        await self.hub.database.pool.execute("UPDATE webhook_endpoint SET due_us = 0")
        return await self.webhooks.tell()


@pytest.fixture
async def stand(hub: Hub) -> AsyncIterator[Stand]:
    receiver, server = Receiver(), hub.directory / "server"
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(server / "certificate.pem", server / "key.pem")
    trusting = ssl.create_default_context(cafile=server / "trust.pem")
    listening = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=own)
    receiver.port = listening.sockets[0].getsockname()[1]
    await hub.rules(TO_SITE)
    yield Stand(hub, receiver, trusting)
    listening.close()


def a_message(id: str = "order-1", to: str = "FR-2", **more: Any) -> resources.Message:
    given = {
        "id": id, "site": to, "content_class": "technical", "content_type": "application/xml", "body": b"<order/>",
        "created_us": 1_763_000_000_000_000, **more,
    }  # fmt: skip
    return resources.Message(**given)


async def two_sites(hub: Hub) -> tuple[Identity, Identity]:
    return (await hub.dealer("FR-1")).identity, (await hub.dealer("FR-2")).identity


# --- vouching -------------------------------------------------------------------------------------------------------------


async def test_a_vouched_message_is_receipted_once_and_its_evidence_kept(stand: Stand) -> None:
    sender, recipient = await two_sites(stand.hub)
    first = await stand.vouching.take(sender, a_message(), "soap", b"<signed envelope/>")
    again = await stand.vouching.take(sender, a_message(), "soap", b"<signed anew/>")
    assert first == again
    assert (first.kind, first.sender, first.message_id) == ("received", sender.uri, "order-1")
    kept = await stand.vouching.evidence(sender, "order-1", bytes.fromhex(first.message_sha256))
    assert kept == ("soap", b"<signed envelope/>")
    found, _ = await stand.news.after(recipient, "")
    assert [(one.type, one.data.sender, one.data.body) for one in found] == [("message", sender.uri, b"<order/>")]


async def test_evidence_is_kept_as_long_as_its_message(stand: Stand) -> None:
    sender, _ = await two_sites(stand.hub)
    first = await stand.vouching.take(sender, a_message("kept"), "soap", b"1")
    gone = await stand.vouching.take(sender, a_message("gone"), "soap", b"2")
    pool = stand.hub.database.pool
    await pool.execute("UPDATE exchange_vouched SET kept_us = 0")
    await pool.execute("UPDATE exchange_message SET envelope = NULL WHERE id = 'gone'")
    assert await stand.vouching.sweep() == 1
    for receipt, form in ((first, ("soap", b"1")), (gone, None)):
        sha = bytes.fromhex(receipt.message_sha256)
        assert await stand.vouching.evidence(sender, receipt.message_id, sha) == form


async def test_another_content_under_the_same_id_is_a_conflict(stand: Stand) -> None:
    sender, _ = await two_sites(stand.hub)
    await stand.vouching.take(sender, a_message(), "soap", b"1")
    await stand.vouching.take(sender, a_message(body=b"<other/>"), "soap", b"2")
    receipts, more = await stand.vouching.receipts(sender, 0, "order-1", 100)
    assert [(one.kind, one.code) for one in receipts if one.kind == "decided"] == [
        ("decided", "exchange.message.conflict")
    ]
    assert more == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sender": "spiffe://test.rocade/eu/dealer/FR-2"}, "exchange.sender.foreign"),
        ({"id": "x y"}, "exchange.message.malformed"),
        ({"brand": "A B"}, "exchange.message.malformed"),
    ],
)
async def test_nobody_speaks_for_another(stand: Stand, change: dict[str, Any], code: str) -> None:
    sender, _ = await two_sites(stand.hub)
    with pytest.raises(Refused) as refused:
        await stand.vouching.take(sender, msgspec.structs.replace(a_message(), **change), "soap", b"")
    assert refused.value.code == code


async def test_a_provider_and_an_operator_sign_nothing(stand: Stand) -> None:
    stand.hub.places.providers.add("acme-it")
    for kind, name, code in (
        ("partner", "acme-it", "dealers.provider.signs"),
        ("operator", "o", "exchange.sender.role"),
    ):
        with pytest.raises(Refused) as refused:
            await stand.vouching.take(stand.hub.authority.region.identity(kind, name), a_message(), "file", b"")
        assert refused.value.code == code


# --- news -----------------------------------------------------------------------------------------------------------------


async def test_a_cursor_goes_on_without_gap_or_repetition(stand: Stand) -> None:
    sender, recipient = await two_sites(stand.hub)
    for number in range(5):
        await stand.vouching.take(sender, a_message(f"m-{number}"), "soap", b"")
    seen, cursor = [], ""
    while True:
        found, cursor = await stand.news.after(recipient, cursor, 2)
        if not found:
            break
        seen += [one.data.id for one in found]
    assert seen == [f"m-{number}" for number in range(5)]
    assert await stand.news.after(sender, "") == ([], "")


async def test_a_decision_is_news_for_the_sender(stand: Stand) -> None:
    sender, _ = await two_sites(stand.hub)
    await stand.vouching.take(sender, a_message(), "soap", b"")
    await stand.hub.exchange.decide(1, "dealer/FR-2", "refused", "parts.unknown", "no such part")
    found, _ = await stand.news.after(sender, "")
    assert [(one.type, one.data.outcome, one.data.code) for one in found] == [("receipt", "refused", "parts.unknown")]


async def test_a_waiting_reader_is_woken(stand: Stand) -> None:
    sender, recipient = await two_sites(stand.hub)
    running = asyncio.create_task(stand.news.run())
    try:
        async with asyncio.timeout(30):
            sending = asyncio.create_task(stand.vouching.take(sender, a_message(), "soap", b""))
            while not (await stand.news.after(recipient, ""))[0]:
                await stand.news.wait(30)
            await sending
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("cursor", ["x", "m", "m1.", "M1", "m-1", "m1'; --", "m" + "9" * 30])
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Refused, match=r"exchange\.news\.cursor"):
        read_cursor(cursor)


@pytest.mark.parametrize("caller", ["person:1", "peer:1.2.3.4", "spiffe://t/eu/operator/o", "spiffe://t/eu/service/s"])
def test_only_parties_have_news(caller: str) -> None:
    with pytest.raises(Refused, match=r"exchange\.news\.party"):
        reader_of(caller)


# --- webhooks -------------------------------------------------------------------------------------------------------------


async def test_a_webhook_is_verified_by_the_published_library(stand: Stand) -> None:
    sender, recipient = await two_sites(stand.hub)
    await stand.vouching.take(sender, a_message("before"), "soap", b"")
    _, secret = await stand.webhooks.add(recipient, stand.url, ("message",))
    await stand.vouching.take(sender, a_message(), "soap", b"")
    assert await stand.tell() == 1
    ((headers, body),) = stand.receiver.got
    told = Webhook(secret).verify(body, headers)
    assert (told["type"], told["data"]["id"], told["data"]["sender"]) == ("message", "order-1", sender.uri)
    assert "body" not in told["data"], "content is fetched, not sent"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)
    assert await stand.tell() == 0


async def test_what_is_not_taken_is_tried_again_and_nothing_is_lost(stand: Stand) -> None:
    sender, recipient = await two_sites(stand.hub)
    _, secret = await stand.webhooks.add(recipient, stand.url, ("message",))
    for number in range(3):
        await stand.vouching.take(sender, a_message(f"m-{number}"), "soap", b"")
    stand.receiver.status = 503
    begun_us = stand.hub.clock.now_us()
    assert await stand.tell() == 1, "in order: the second waits for the first"
    (one,) = await stand.webhooks.of(recipient)
    assert (one.attempt, one.status) == (1, 503)
    least_us, most_us = (RETRY_S[0] * share * 1e6 for share in (0.9, 1.1))
    assert begun_us + least_us <= one.due_us <= stand.hub.clock.now_us() + most_us
    stand.receiver.status = 200
    assert await stand.tell() == 3
    told = [Webhook(secret).verify(body, headers)["data"]["id"] for headers, body in stand.receiver.got]
    assert told == ["m-0", "m-0", "m-1", "m-2"]
    assert stand.receiver.got[0][0]["webhook-id"] == stand.receiver.got[1][0]["webhook-id"]


@pytest.mark.parametrize("status", [410, 302])
async def test_an_endpoint_that_stays_wrong_is_paused_and_goes_on_when_resumed(stand: Stand, status: int) -> None:
    sender, recipient = await two_sites(stand.hub)
    made, _ = await stand.webhooks.add(recipient, stand.url, ("message",))
    await stand.vouching.take(sender, a_message(), "soap", b"")
    stand.receiver.status = status
    for _ in range(1 if status == 410 else len(RETRY_S) + 1):
        assert await stand.tell() == 1
    (one,) = await stand.webhooks.of(recipient)
    assert one.paused_us > 0
    assert await stand.tell() == 0
    stand.receiver.status = 204
    await stand.webhooks.resume(recipient, made.id)
    assert await stand.tell() == 1


async def test_old_and_new_secret_sign_for_a_day(stand: Stand) -> None:
    sender, recipient = await two_sites(stand.hub)
    made, old = await stand.webhooks.add(recipient, stand.url, ("message",))
    new = await stand.webhooks.rotate(recipient, made.id)
    assert old != new
    await stand.vouching.take(sender, a_message(), "soap", b"")
    await stand.tell()
    ((headers, body),) = stand.receiver.got
    assert Webhook(old).verify(body, headers) == Webhook(new).verify(body, headers)


async def test_nobody_touches_anothers_endpoint(stand: Stand) -> None:
    sender, recipient = await two_sites(stand.hub)
    made, _ = await stand.webhooks.add(recipient, stand.url, ("message",))
    for act in (stand.webhooks.remove, stand.webhooks.rotate, stand.webhooks.resume):
        with pytest.raises(Refused, match=r"webhooks\.unknown"):
            await act(sender, made.id)
    assert await stand.webhooks.of(sender) == []
    await stand.webhooks.remove(recipient, made.id)


async def test_there_is_an_end_to_endpoints_and_to_events(stand: Stand) -> None:
    _, recipient = await two_sites(stand.hub)
    with pytest.raises(Refused, match=r"webhooks\.events"):
        await stand.webhooks.add(recipient, stand.url, ("everything",))
    for _ in range(8):
        await stand.webhooks.add(recipient, stand.url, ("message",))
    with pytest.raises(Refused, match=r"webhooks\.many"):
        await stand.webhooks.add(recipient, stand.url, ("message",))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "https://u:p@example.org/", "https://example.org:22/", "https://example.org/#x", "https:///x",
        "ftp://example.org/", "file:///etc/hostname", "https://exa mple.org/", "https://example.org:x/", "https://ex\u00e4mple.org/",
        "https://example.org/" + "a" * 500,
    ],
)  # fmt: skip
def test_an_address_in_another_form_is_refused(url: str) -> None:
    with pytest.raises(Refused, match=r"webhooks\.address\.malformed"):
        posting.target_of(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "[::1]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "2130706433", "0x7f.1", "127.1",
    ],
)  # fmt: skip
async def test_the_way_inside_is_closed(host: str) -> None:
    """However the inside is spelt, the sender does not go there."""
    with pytest.raises((Refused, Unavailable)) as refused:
        await Poster().post(f"https://{host}/", {}, b"{}")
    assert refused.value.code in {"webhooks.address.private", "webhooks.unreachable"}
    assert refused.value.code == "webhooks.address.private" or not host[0].isdigit()


@pytest.mark.parametrize(
    ("address", "is_public"), [("93.184.216.34", True), ("2606:2800:220:1::1", True), ("192.0.2.1", False)]
)
def test_public_addresses_are_known(address: str, is_public: bool) -> None:
    assert posting.is_public(ip_address(address)) is is_public


async def test_a_certificate_of_a_stranger_is_not_trusted(stand: Stand, tmp_path: Path) -> None:
    poster = Poster(ssl.create_default_context(), lambda _: True)
    with pytest.raises(Unavailable, match=r"webhooks\.unreachable"):
        await poster.post(stand.url, {}, b"{}")


def test_the_address_of_a_message_is_the_exchanges_own() -> None:
    names = {field.name for field in msgspec.structs.fields(resources.Message)}
    assert {field.name for field in msgspec.structs.fields(Address)} <= names
