"""A hub to talk to: the real MQTT door behind real certificates, files over HTTPS, and what it was told kept in lists."""

from __future__ import annotations

import asyncio
import base64
import json
import random as stdlib_random
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from tests.doors.mqtt.stand import RecordingAudit

from rocade.agents.dealer import settings as configured
from rocade.agents.link import Backoff
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.mqtt import Client, Door, Publish, Verdict
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import Verified, verify_leaf

SITE = "FR-00123-1"
TAILS = {"dealer": frozenset(("message", "ack", "keys", "state", "ask"))}
QUICK = Backoff(first_s=0.02, most_s=0.2)


class Seeded:
    """Random with a printed seed."""

    def __init__(self, seed: int = 5) -> None:
        self._random = stdlib_random.Random(seed)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)

    def uniform(self) -> float:
        return self._random.random()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


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
        self.audit = RecordingAudit()
        self.said: list[Publish] = []
        self.clients: list[Client] = []
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.verdict: Callable[[Publish], Verdict] = lambda _publish: None
        self.port = self.blob_port = 0
        self.door: Door | None = None

    async def open(self, port: int = 0) -> None:
        self.door = Door(self, self.context, self.verify, self.audit, tails=TAILS)
        self.port = await self.door.open("127.0.0.1", port)

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
        self.said += [p for p, verdict in zip(publishes, verdicts, strict=True) if verdict is None]
        return verdicts

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
