"""A hub to talk to: the real MQTT door behind real certificates, files over HTTPS, and what it was told kept in lists."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agents.dealer.publisher import Publisher
from tests.notebook import Notebook
from tests.ports import free_port

from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.believing import opened
from rocade.agents.link import Backoff
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.mqtt import Client, Door, Publish, Verdict
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.directory import load_key
from rocade.trust.identity.envelope import countersign, seal
from rocade.trust.identity.keys import PrivateKey, new_key, read_private
from rocade.wire.exchange import (
    MESSAGE_TYPE,
    ROOT_TYPE,
    Delivery,
    Message,
    Receipt,
    Root,
    Tree,
    bundle_of,
    encode,
    leaf_hash,
    read_keys,
    read_message,
    sha256_of,
)
from rocade.wire.exchange.receipts import encode_receipt

SITE = "FR-00123-1"
TAILS = {"dealer": frozenset(("message", "ack", "keys", "state", "ask", "decision"))}
QUICK = Backoff(first_s=0.02, most_s=0.2)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true; what is waited for is in the failure."""
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"waited 30 s for {inspect.getsource(condition).strip()}")


class Hub:
    """The hub's side: `said` is what the site told it, `blobs` what it serves. `verdict` judges a publish."""

    def __init__(self, directory: Path, name: str = "eu") -> None:
        self.directory, self.name = directory, name
        self.region: Region = create_region(directory / "region", name, "test.rocade", SystemClock(), SystemRandom())
        service = directory / "door"
        issue_directory(
            self.region, service, self.region.identity("service", f"hub-{name}"), hosts=["localhost", "127.0.0.1"]
        )
        self.context = tls.server_context(service / "certificate.pem", service / "key.pem", service / "trust.pem")
        self.audit = Notebook()
        self.said: list[Publish] = []
        self.clients: list[Client] = []
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.lists: list[Publisher] = []
        self.log: list[tuple[str, bytes]] = []
        """What stands in the site's log: (tail, body), its cursor is its place, counted from 1."""
        self.taken: dict[str, str] = {}
        """Messages recorded: id -> SHA-256 of what was said."""
        self.conflicts: list[str] = []
        self.duplicates = 0
        self.is_receipting = False
        self.keys: list[bytes] = []
        self._recorded: list[str] = []
        self._signer = directory / "signer"
        issue_directory(self.region, self._signer, self.region.identity("service", "exchange"), hosts=["localhost"])
        self.signing_key = load_key(self._signer)
        self.verdict: Callable[[Publish], Verdict] = lambda _publish: None
        self.port = self.blob_port = 0
        self.door: Door | None = None

    async def open(self, port: int = 0) -> None:
        self.door = Door(self, self.context, self.verify, self.audit, tails=TAILS)
        self.port = await self.door.open("127.0.0.1", port or free_port())  # it may be opened there again

    async def shut(self) -> None:
        if self.door:
            await self.door.drain(1.0)
            self.door = None

    def verify(self, leaf: bytes) -> Verified:
        return verify_leaf(leaf, self.region.issuers, SystemClock().now_us(), ("dealer",))

    async def admit(self, client: Client) -> object:
        self.clients.append(client)
        return client

    async def accept(self, publishes: Sequence[Publish]) -> Sequence[Verdict]:
        verdicts = [self.verdict(publish) for publish in publishes]
        for publish, verdict in zip(publishes, verdicts, strict=True):
            if verdict is None:
                self.said.append(publish)
                asyncio.get_running_loop().call_soon(self._answer, publish.tail, publish.body)
        return verdicts

    def _answer(self, tail: str, body: bytes) -> None:
        """What a hub says to what it was told; never before its acknowledgement."""
        if tail == "message":
            self._record(opened(body))
        elif tail == "keys":
            self.keys = [one.key for one in read_keys(opened(body)).encryption_keys]
        elif tail == "ask":
            asked = json.loads(body)
            for down, answer in self._answers(asked):
                self._push(down, answer)

    def _answers(self, asked: dict[str, Any]) -> list[tuple[str, bytes]]:
        match asked["want"]:
            case "signers":
                chain = (self._signer / "certificate.pem").read_text()
                return [("signers", msgspec.json.encode({"chains": [chain]}))]
            case "epochs":
                return [("epoch", one.letter(self.keys, SITE)) for one in self.lists]
            case "heads":
                return [("head", one.head) for one in self.lists]
            case "replay":
                return self.log[asked["after"] :]
            case "receipts":
                return [self.receipt(id, self.taken[id], "received") for id in asked["ids"] if id in self.taken]
        return []

    def _push(self, tail: str, body: bytes) -> None:
        assert self.door
        for party in self.door.connected():
            self.door.send(party, tail, body)

    def _record(self, payload: bytes) -> None:
        """One message, one effect: the same again gets the same receipt, another content is a conflict."""
        message, sha = read_message(payload), sha256_of(payload)
        known = self.taken.setdefault(message.id, sha)
        if known != sha:
            self.conflicts.append(message.id)
        elif message.id in self._recorded:
            self.duplicates += 1
        else:
            self._recorded.append(message.id)
        if self.is_receipting and self.door:
            self._push(*self.receipt(message.id, sha, "received"))

    def receipt(self, id: str, sha: str, kind: str, **more: str) -> tuple[str, bytes]:
        """A signed receipt; a decided one stands in the log."""
        now_us = SystemClock().now_us()
        made = encode_receipt(
            Receipt(
                message_id=id, message_sha256=sha, sender="x", kind=kind, at_us=now_us, hub="h", **more
            )
        )  # fmt: skip
        tree = Tree([leaf_hash(made)])
        root = msgspec.json.encode(Root("h", 1, 1, tree.root.hex(), now_us))
        cursor = len(self.log) + 1 if kind == "decided" else 0
        body = "receipt", bundle_of(seal(ROOT_TYPE, root, self.signing_key), tree, [(0, made)], cursor)
        if cursor:
            self.log.append(body)
        return body

    def deliver(self, message: Message) -> None:
        """Put a message from somebody into the site's log, and on its line."""
        sender = new_key()
        envelope = countersign(seal(MESSAGE_TYPE, encode(message), sender), self.signing_key)
        delivery = msgspec.json.encode(Delivery(len(self.log) + 1, msgspec.Raw(envelope)))
        self.log.append(("message", delivery))
        self._push("message", delivery)

    async def leave(self, context: object) -> None:
        pass

    def told(self, tail: str) -> list[dict[str, object]]:
        """What came with this tail, opened."""
        bodies = [json.loads(publish.body) for publish in self.said if publish.tail == tail]
        return [json.loads(base64.b64decode(b["payload"])) if "payload" in b else b for b in bodies]

    async def send(self, tail: str, body: bytes, site: str = SITE) -> bool:
        assert self.door
        party = next((party for party in self.door.connected() if party.endswith(site)), site)
        return await self.door.send(party, tail, body)

    def publish(self, **more: Any) -> Publisher:
        """A list of this hub, whose files it serves."""
        made = Publisher(self.root_key, files=self.blobs, **more)
        self.lists.append(made)
        return made

    def push_head(self, publisher: Publisher) -> None:
        self._push("head", publisher.head)

    def serve_blobs(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                hub.asked.append(name)
                body = hub.blobs.get(name)
                self.send_response(200 if body is not None else 404)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = self.context.wrap_socket(server.socket, server_side=True)
        self.blob_port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
        self._server = server

    def stop_blobs(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def settings(self) -> configured.Hub:
        return configured.Hub(
            name=self.name, host="localhost", line_port=self.port, api_port=self.blob_port, est_port=1
        )

    @property
    def root_key(self) -> PrivateKey:
        """The region's root key, which a test may have at hand."""
        return read_private(self.directory / "region" / "root" / "key.pem")

    def enrol(self, place: Path, site: str = SITE, life_us: int | None = None) -> Path:
        """An agent's DIR as `rocade dealer init` leaves it."""
        identity = self.region.identity("dealer", site)
        self.region.credential(identity, life_us=life_us).write(place / "hubs" / self.name)
        if not (place / configured.FILE).exists():
            (place / configured.FILE).write_text("[local]\nport = 0\n")
        configured.add_hub(place, self.settings())
        return place


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    one = Hub(tmp_path / "hub")
    await one.open()
    one.serve_blobs()
    yield one
    await one.shut()
    one.stop_blobs()


@pytest.fixture
def place(tmp_path: Path, hub: Hub) -> Path:
    return hub.enrol(tmp_path / "dealer")


def envelope(payload: object) -> bytes:
    """Something in the form of a signed statement, signed by nobody."""
    return msgspec.json.encode(
        {
            "payloadType": "x",
            "payload": base64.b64encode(msgspec.json.encode(payload)).decode(),
            "signatures": [{"keyid": "00", "sig": "AA=="}],
        }
    )


def insecure(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    return context
