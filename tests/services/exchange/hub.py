"""A hub in this process: real database, authority, door and line; dealers who sign for themselves and keep what comes down."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

import msgspec

from rocade.agents.link import Link
from rocade.core.errors import RocadeError
from rocade.core.ports import AuditEntry, Clock, SystemClock, SystemRandom
from rocade.doors.mqtt import Door, Settings
from rocade.fabric.database import Database
from rocade.services.dealers import BrandAt, NationalException, Site
from rocade.services.dealers import errors as dealers_errors
from rocade.services.exchange import (
    SIGNER,
    TAILS,
    Downstream,
    Evidence,
    Exchange,
    ExchangeIntake,
    KeyBook,
    Line,
    Presence,
    Questions,
    Quota,
    Recorder,
    Revocations,
    Router,
    RouteTable,
    Rule,
    Signer,
)
from rocade.trust.authority import AuditLog, Authority, DenySet, Region, create_region, issue_directory
from rocade.trust.identity import envelope, signers, tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.directory import load_identity, load_issuers, load_key
from rocade.wire.exchange import (
    DECISION_TYPE,
    KEYS_TYPE,
    MESSAGE_TYPE,
    ROOT_TYPE,
    Address,
    Decision,
    Delivery,
    Message,
    Receipt,
    encode,
    proven,
    read_delivery,
    read_message,
    read_receipts,
    read_root,
    sha256_of,
)

LIMIT_S = 30.0


class Places:
    """Who is what, as tests say it."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.exceptions: dict[tuple[str, str], NationalException] = {}
        self.providers: set[str] = set()

    def add(self, id: str, country: str = "FR", brands: Sequence[str] = ("renault",), primary: str = "") -> None:
        held = tuple(BrandAt(one, sells=True, services=True, from_us=0) for one in brands)
        self.sites[id] = Site(
            id, id, "", id, country, primary, "", "", None, None, "Europe/Paris", "", "", 0, 1 << 62, held
        )

    def site(self, id: str) -> Site | None:
        return self.sites.get(id)

    def check_site(self, id: str, at_us: int) -> Site:
        if (found := self.sites.get(id)) is None:
            raise dealers_errors.site_unknown()
        if not found.is_open(at_us):
            raise dealers_errors.site_closed()
        return found

    def check_brand(self, site: str, brand: str, at_us: int) -> Site:
        found = self.check_site(site, at_us)
        if all(one.brand != brand for one in found.brands_at(at_us)):
            raise dealers_errors.foreign_brand(brand)
        return found

    def exception(self, country: str, service: str, _brand: str) -> NationalException | None:
        return self.exceptions.get((country, service))

    def is_provider(self, partner: str) -> bool:
        return partner in self.providers


class Hub:
    """One region's exchange. `region` names it; parties get certificates from its own authority."""

    def __init__(self, directory: Path, database: Database, region: str = "eu", clock: Clock | None = None) -> None:
        self.directory, self.database, self.region = directory, database, region
        self.clock, self.random = clock or SystemClock(), SystemRandom()
        self.places = Places()
        self.dealers: list[Dealer] = []
        self.tasks: list[asyncio.Task[Any]] = []

    async def open(self, quota: Quota | None = None) -> Self:
        trust = self.directory / "trust"
        if not trust.exists():
            create_region(trust, self.region, "test.rocade", SystemClock(), self.random)
            made = Region(trust, SystemClock(), self.random)
            issue_directory(made, self.directory / "server", made.identity("service", "server"), hosts=["localhost"])
        self.audit = AuditLog(self.database, trust / "audit", self.clock)
        self.authority = Authority(
            Region(trust, self.clock, self.random), self.database, self.audit, self.clock, self.random
        )
        self.denied = await DenySet.open(self.database, self.clock)
        self.routes = await RouteTable.open(self.database, self.places, self.clock)  # type: ignore[arg-type]
        self.router = Router(self.database, self.places, self.audit, self.clock)  # type: ignore[arg-type]
        self.signer = await Signer.of_hub(self.directory / SIGNER, self.database, self.clock, self.authority)
        self.keys, self.line, self.evidence = KeyBook(self.database, self.clock), Line(), Evidence(self.database)
        self.intake = ExchangeIntake(
            places=self.places, keys=self.keys, evidence=self.evidence, audit=self.audit, clock=self.clock, quota=quota
        )
        self.recorder = Recorder(
            self.database, self.signer, self.audit, self.clock, f"spiffe://test.rocade/{self.region}/"
        )
        self.exchange = Exchange(
            self.database, self.recorder, self.signer, self.routes, self.clock, line=self.line, intake=self.intake
        )
        self.downstream = Downstream(self.database, self.intake, self.line, self.signer, self.exchange.trees)
        self.revocations = Revocations(self.database, self.signer, self.clock, self.region)
        self.presence = Presence(self.database, self.clock, "test")
        self.questions = Questions(self.line)
        for tail, handler in {
            "message": self.exchange.take, "decision": self.exchange.take_decisions, "keys": self.exchange.take_keys,
            "ask": self.questions.take, "state": self.presence.take,
        }.items():  # fmt: skip
            self.intake.on(tail, handler)
        self.questions.on("replay", self._replay)
        self.questions.on("receipts", self._receipts)
        self.questions.on("revocations", self._revocations)
        self.questions.on("signers", self._signers)
        server = self.directory / "server"
        context = tls.server_context(server / "certificate.pem", server / "key.pem", server / "trust.pem")
        issuers = load_issuers(trust)
        self.door = Door(
            self.intake,
            context,
            lambda leaf: verify_leaf(leaf, issuers, self.clock.now_us(), tuple(TAILS), denied=self.denied),
            self.audit,
            is_revoked=self.denied.is_revoked,
            tails=TAILS,
            settings=Settings(max_down_in_flight=64, tick_min_ms=1.0, tick_max_ms=5.0),
            clock=self.clock,
        )
        self.line.over(self.door)
        for watcher in (self.door.revoked, self.keys.revoked, self.revocations.revoked):
            await self.denied.watch(watcher)
        self.port = await self.door.open("127.0.0.1", 0)
        self.tasks = [
            asyncio.create_task(self.downstream.run()),
            asyncio.create_task(self.revocations.run(self.push)),
        ]
        return self

    def push(self, tail: str, body: bytes) -> None:
        for party in self.line.connected():
            self.line.send(party, tail, body)

    async def _replay(self, party: str, question: Any) -> list[tuple[str, bytes]]:
        self.downstream.replay(party, question.after)
        return []

    async def _receipts(self, party: str, question: Any) -> list[tuple[str, bytes]]:
        return [("receipt", body) for body in await self.exchange.bundles(party, question.ids)]

    async def _revocations(self, _party: str, _question: Any) -> list[tuple[str, bytes]]:
        return [("revocations", await self.revocations.body())]

    async def _signers(self, _party: str, _question: Any) -> list[tuple[str, bytes]]:
        chains = [chain.decode() for chain in await self.exchange.chains()]
        return [("signers", msgspec.json.encode({"chains": chains}))]

    async def rules(self, *rules: Rule) -> None:
        """Put these rules into force."""
        current = await self.router.current()
        await self.router.publish(rules, current.version, "", "test")
        await self.routes.refresh()

    async def dealer(self, id: str, kind: str = "dealer", **site: Any) -> Dealer:
        """A party with its certificate, a site unless it is something else; not connected yet."""
        if kind == "dealer" and id not in self.places.sites:
            self.places.add(id, **site)
        identity = self.authority.region.identity(kind, id)
        directory = self.directory / f"{kind}-{id}"
        (await self.authority.provision([identity], "test"))[0].write(directory)
        dealer = Dealer(self, directory)
        self.dealers.append(dealer)
        return dealer

    async def close(self) -> None:
        for dealer in self.dealers:
            dealer.hang_up()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.door.drain(2.0)
        await self.exchange.close()
        await self.routes.close()
        await self.denied.close()
        await self.audit.close()

    async def audited(self, text: str) -> list[AuditEntry]:
        """Audit entries that hold this text."""
        rows = await self.database.pool.fetch(
            "SELECT body FROM audit_entry WHERE position($1::bytea in body) > 0", text.encode()
        )
        return [msgspec.json.decode(row["body"], type=tuple[int, AuditEntry])[1] for row in rows]


class Dealer:
    """A party at the other end of the line. Implements `agents.link.Listener`; everything that came down is kept."""

    def __init__(self, hub: Hub, directory: Path) -> None:
        self.hub, self.directory = hub, directory
        self.identity = load_identity(directory)
        self.link: Link | None = None
        self.sequences: dict[str, int] = {}
        self.heard: list[tuple[str, bytes]] = []
        self.verdicts: dict[int, tuple[int, str]] = {}
        self.changed = asyncio.Event()
        self.ended = ""
        self._handle = 0

    async def connect(self, *, port: int | None = None, context: ssl.SSLContext | None = None) -> Self:
        context = context or tls.client_context(self.directory)
        self.ended = ""
        self.link = await Link.open("localhost", port or self.hub.port, context, self.identity.id, self, window=64)
        return self

    def hang_up(self) -> None:
        if self.link is not None:
            self.link.abort()
            self.link = None

    # --- saying ---

    def message(self, body: bytes = b"content", service: str = "warranty", *, stream: str = "main", id: str = "",
                sequence: int = 0, **more: Any) -> Message:  # fmt: skip
        """The next message of a stream."""
        if not sequence:
            sequence = self.sequences[stream] = self.sequences.get(stream, 0) + 1
        address = {"brand": "renault", "country": "FR", "service": service, **more.pop("to", {})}
        fields = {
            "sender": self.identity.uri, "content_class": "technical", "content_type": "application/json",
            "created_us": self.hub.clock.now_us(), **more,
        }  # fmt: skip
        return Message(
            id=id or f"{stream}-{sequence}",
            recipient=Address(**address),
            stream=stream,
            sequence=sequence,
            body=body,
            **fields,
        )

    def sealed(self, message: Message, key: Any = None) -> bytes:
        return envelope.seal(MESSAGE_TYPE, encode(message), key or load_key(self.directory))

    async def say(self, tail: str, body: bytes) -> tuple[int, str]:
        """Publish; the reason of the acknowledgement and its text ((0, "") = it is on disk)."""
        assert self.link is not None
        self._handle += 1
        handle = self._handle
        self.link.send(tail, handle, body)
        await self.until(lambda: handle in self.verdicts or self.ended)
        return self.verdicts.get(handle, (-1, self.ended))

    async def send(self, message: Message, key: Any = None) -> tuple[int, str]:
        return await self.say("message", self.sealed(message, key))

    async def decide(
        self, message: Message, outcome: str, code: str = "", reason: str = "", key: Any = None
    ) -> tuple[int, str]:
        decision = Decision(message.sender, message.id, sha256_of(encode(message)), outcome, code, reason)  # type: ignore[arg-type]
        return await self.say(
            "decision", envelope.seal(DECISION_TYPE, encode(decision), key or load_key(self.directory))
        )

    async def announce(self, *keys: tuple[bytes, int]) -> tuple[int, str]:
        """Register encryption keys."""
        said = msgspec.json.encode({
            "encryption_keys": [{"key": key, "not_after_us": end} for key, end in keys], "at_us": self.hub.clock.now_us()
        })  # fmt: skip
        return await self.say("keys", envelope.seal(KEYS_TYPE, said, load_key(self.directory)))

    async def ask(self, want: str, **more: Any) -> tuple[int, str]:
        return await self.say("ask", msgspec.json.encode({"want": want, **more}))

    # --- hearing ---

    def acknowledged(self, handle: int) -> None:
        self.verdicts[handle] = 0, ""
        self.changed.set()

    def refused(self, handle: int, reason: int, text: str) -> None:
        self.verdicts[handle] = reason, text
        self.changed.set()

    def received(self, tail: str, body: bytes) -> None:
        self.heard.append((tail, body))
        self.changed.set()

    def has_room(self) -> None:
        self.changed.set()

    def closed(self, why: str, reason: int) -> None:
        if self.link is not None:  # else it was we who hung up
            self.ended = f"{why} {reason:#04x}"
        self.changed.set()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait for what comes down. Raises: TimeoutError after a generous while."""
        async with asyncio.timeout(LIMIT_S):
            while not is_so():
                self.changed.clear()
                await self.changed.wait()

    def bodies(self, tail: str) -> list[bytes]:
        return [body for name, body in self.heard if name == tail]

    async def receipts(self, message: Message | str, *kinds: str) -> list[Receipt]:
        """This message's receipts of these kinds, proven; waits until all have come."""
        id = message if isinstance(message, str) else message.id
        wanted = set(kinds or ("received",))
        await self.until(lambda: wanted <= {one.kind for one in self._receipts() if one.message_id == id})
        return [one for one in self._receipts() if one.message_id == id and one.kind in wanted]

    def _receipts(self) -> list[Receipt]:
        found = []
        for body in self.bodies("receipt"):
            bundle = read_receipts(body)
            chain = (self.hub.directory / SIGNER / "certificate.pem").read_bytes()
            known = signers.read_signers([chain], load_issuers(self.directory), SIGNER)
            payload, signer = signers.unseal(ROOT_TYPE, bytes(bundle.root), known)
            root = read_root(payload)
            signers.check_time(signer, root.at_us)
            found += proven(bundle, root)
        return found

    def deliveries(self) -> list[Delivery]:
        return [read_delivery(body) for body in self.bodies("message")]

    async def messages(self, count: int) -> list[Message]:
        """The first messages that came down, in order."""
        await self.until(lambda: len(self.bodies("message")) >= count)
        return [read_message(envelope.payload_of(bytes(one.message))) for one in self.deliveries()][:count]


@contextlib.asynccontextmanager
async def running(directory: Path, database: Database, region: str = "eu", **more: Any) -> AsyncIterator[Hub]:
    clock = more.pop("clock", None)
    hub = Hub(directory, database, region, clock)
    try:
        yield await hub.open(**more)
    finally:
        await hub.close()


async def eventually(is_so: Callable[[], Awaitable[object]]) -> None:
    """Wait until it is so. Raises: TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            with contextlib.suppress(RocadeError):
                if await is_so():
                    return
            await asyncio.sleep(0.02)


ROUTE = Rule(to="local/desk")
SEED = Random(4)
