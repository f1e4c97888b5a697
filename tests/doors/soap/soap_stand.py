"""The SOAP door over real mutual TLS, with a desk that knows one price list by heart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from soap_parties import RANDOM, SITE, Parties, pem
from tests.notebook import Notebook
from tests.unowned import Unowned

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.doors.http import Access, Listeners, build, tcp_socket
from rocade.doors.soap import door
from rocade.doors.soap.dispatch import Dispatcher
from rocade.trust.authority.gate import Gate
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.wire.resources import Message, PriceChange, PriceLine, Receipt, Site
from rocade.wire.resources.operations import GetPrice, GetPriceChanges, GetReceipts, GetSites, Page


class Desk:
    """Answers from a few rows; keeps what it was sent with its evidence."""

    def __init__(self) -> None:
        self.sent: dict[str, tuple[Message, bytes]] = {}

    async def price(self, caller: Identity, asked: GetPrice) -> PriceLine:
        if asked.ref == "nothing":
            raise Refused("prices.part.unknown", "the list has no such part")
        if asked.ref == "broken":
            raise ZeroDivisionError
        return PriceLine(
            list=asked.list, ref=asked.ref, label="Bolt <M6> & nut, 5 \u20ac", currency="EUR", price_minor=1999,
            valid_from_us=1_760_000_000_000_000, seq=7, at_us=asked.at_us or 1_763_000_000_000_000, known_seq=9,
        )  # fmt: skip

    async def price_changes(self, caller: Identity, asked: GetPriceChanges) -> Page:
        first = int(asked.cursor or 0)
        rows = [
            PriceChange(list=asked.list, seq=asked.since_seq + 1, ref=f"P{n}", currency="EUR", price_minor=n or None,
                        valid_from_us=1_760_000_000_000_000)
            for n in range(first, min(first + 2, 5))
        ]  # fmt: skip
        return Page(rows, str(first + 2) if first + 2 < 5 else "")

    async def send(self, caller: Identity, message: Message, evidence: bytes) -> Receipt:
        self.sent[message.id] = message, evidence
        return Receipt(
            message_id=message.id, message_sha256="0" * 64, sender=caller.uri, kind="received", at_us=1, hub="hub"
        )

    async def receipts(self, caller: Identity, asked: GetReceipts) -> Page:
        return Page([await self.send(caller, message, b"") for message, _ in list(self.sent.values())])

    async def sites(self, caller: Identity, asked: GetSites) -> Page:
        return Page([Site(id=SITE, dealer="FR-00123", name="Garage", country="FR", opened_us=0, sells=("acme", "zed"))])


class Stand:
    """Parties, an application with the SOAP door, and files for programs that know nothing of Rocade."""

    def __init__(self, directory: Path, desk: Desk | None = None) -> None:
        self.directory = directory
        self.parties = Parties(directory)
        self.audit, self.desk = Notebook(), desk or Desk()
        region = self.parties.region
        dispatcher = Dispatcher(
            self.parties.verifier(), self.desk, lambda: self.parties.hub, self.parties.clock, RANDOM
        )
        access = Access(
            lambda leaf, at_us: verify_leaf(leaf, region.issuers, at_us, ("operator", "partner", "dealer")),
            self.parties.revoked.__contains__,
            Gate("eu", Unowned()),
            self.audit,
            self.parties.clock,
        )
        self.socket = tcp_socket("127.0.0.1", 0)
        self.address = f"https://localhost:{self.socket.getsockname()[1]}"
        given = {
            "soap": dispatcher,
            "audit": self.audit,
            "clock": self.parties.clock,
            "described": door.Described(self.address, "0"),
        }
        self.app = build(door.HANDLERS, given, access, version="0")
        server = directory / "server"
        region.credential(region.identity("service", "web"), hosts=["localhost", "127.0.0.1"]).write(server)
        self._tls = tls.server_context(server / "certificate.pem", server / "key.pem", server / "trust.pem")
        self.site = directory / "site"
        region.credential(self.parties.site).write(self.site)
        for name in ("ec", "rsa", "hub"):
            key, certificate = pem(getattr(self.parties, name))
            (directory / f"{name}.key.pem").write_bytes(key)
            (directory / f"{name}.pem").write_bytes(certificate)

    def other_site(self, name: str) -> Path:
        out = self.directory / name
        self.parties.region.credential(self.parties.region.identity("dealer", name)).write(out)
        return out

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve from a thread of its own: foreign clients block."""
        loop = asyncio.new_event_loop()
        ready, stopped = threading.Event(), threading.Event()
        held: list[Listeners] = []

        async def serve() -> None:
            listeners = Listeners(self.app, RANDOM, api=[self.socket], tls=self._tls)
            held.append(listeners)
            serving = asyncio.create_task(listeners.serve())
            await listeners.started()
            ready.set()
            await serving

        def run() -> None:
            loop.run_until_complete(serve())
            stopped.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(30)
        try:
            yield self.address
        finally:
            loop.call_soon_threadsafe(held[0].stop)
            thread.join(30)
            loop.close()


def message(body: bytes = b"<order/>") -> Message:
    return msgspec.convert(
        {
            "id": "order-1", "content_class": "technical", "content_type": "application/xml",
            "created_us": 1_763_000_000_000_000, "body": body, "brand": "acme",
        },
        Message,
    )  # fmt: skip
