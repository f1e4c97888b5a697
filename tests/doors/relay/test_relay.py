"""Lines over real TLS, policy in a real database, services that really listen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

import pytest
from overtaking import overtake
from tests.notebook import Notebook

from rocade.agents.dealer.relay import Entrance, Offer, Relay
from rocade.core.errors import RocadeError
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.relay.door import RelayDoor
from rocade.fabric.database import Database
from rocade.services.interconnection import Interconnection, NamedService, Relaying, Rule, SiteFacts, store
from rocade.trust.authority.region import create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.directory import load_issuers, load_leaf
from rocade.wire.relay import MOST_DATA_BYTES

PATIENCE_S = 120.0
SITES = {
    name: SiteFacts(name, f"d-{name}", "g1", name[:2], frozenset({"renault"})) for name in ("FR-1", "FR-2", "DE-1")
}


class Network:
    def facts(self, site: str, _at_us: int) -> SiteFacts | None:
        return SITES.get(site)

    def all(self) -> Iterable[str]:
        return SITES


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.01)


class Hub:
    """A region's relay door with its policy; makes agents with certificates of their own."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.directory, self.notebook, self.clock = directory, Notebook(), SystemClock()
        self.region = create_region(directory / "region", "eu", "test.rocade", self.clock, SystemRandom())
        issue_directory(self.region, directory / "door", self.region.identity("service", "relay"), hosts=["localhost"])
        self.policy = Interconnection(database, self.notebook, self.clock, Network())
        self.relaying = Relaying(self.policy, database, self.notebook, self.clock)
        issuers = load_issuers(directory / "door")
        self.door = RelayDoor(
            tls.ServerIdentity(directory / "door"),
            lambda leaf: verify_leaf(leaf, issuers, self.clock.now_us(), ("dealer",)),
            self.relaying,
            self.notebook,
            self.clock,
        )
        self.tasks: list[asyncio.Task[None]] = []
        self.relays: list[Relay] = []

    async def start(self) -> None:
        await self.policy.load()
        await self.relaying.start()
        self.port = await self.door.start("localhost", 0)
        self.tasks = [asyncio.create_task(self.policy.follow()), asyncio.create_task(self.relaying.keep())]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for relay in self.relays:
            await relay.close()
        await self.door.close()
        await self.relaying.close()

    def identity(self, site: str, kind: str = "dealer") -> Path:
        folder = self.directory / f"{kind}-{site}"
        if not folder.exists():
            issue_directory(self.region, folder, self.region.identity(kind, site))
        return folder

    async def agent(self, site: str, entrances: Sequence[Entrance] = (), offers: Sequence[Offer] = ()) -> Relay:
        relay = Relay(entrances, offers)
        await relay.start()
        self.relays.append(relay)
        self.tasks.append(
            asyncio.create_task(relay.run(lambda: tls.client_context(self.identity(site)), "localhost", self.port))
        )
        await until(lambda: site in self.door.lines)
        await until(lambda: relay.is_up)
        return relay

    async def allow(self, service: NamedService, *rules: Rule) -> None:
        await self.policy.put_service(service, "operator:test")
        for rule in rules:
            await self.policy.add_rule(rule, "operator:test")
        await self.policy.load()


@pytest.fixture
async def hub(tmp_path: Path, database: Database) -> AsyncIterator[Hub]:
    made = Hub(tmp_path, database)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A service that answers what it hears."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def said(port: int, data: bytes) -> bytes:
    """What comes back for `data`; b"" when the connection is closed instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read(-1)
    except ConnectionError:
        return b""
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def test_a_site_reaches_a_service_of_the_hub_and_it_is_written_down(hub: Hub, echo: int) -> None:
    await hub.allow(
        NamedService(name="till", host="127.0.0.1", port=echo, priority="card"), Rule(service="till", caller="all")
    )
    relay = await hub.agent("FR-1", [Entrance("till", devices={"127.0.0.1": "terminal-1"})])
    sent = bytes(range(256)) * 4_000
    answer = await said(relay.ports["till"], sent)
    assert relay.refused == {}
    assert answer == sent
    await until(lambda: not hub.relaying._routes)
    await hub.relaying.close()
    (opening,) = await hub.policy.openings("FR-1")
    assert (opening.device, opening.service, opening.is_refused, opening.code) == ("terminal-1", "till", False, "")
    assert (opening.up_bytes, opening.down_bytes) == (len(sent), len(sent))
    assert opening.closed_us is not None
    (device,) = await hub.policy.devices("FR-1")
    assert (device.name, device.openings) == ("terminal-1", 1)
    now_us = hub.clock.now_us()
    assert sum(row[3] for row in await hub.policy.traffic(0, now_us)) == len(sent)


async def test_a_site_reaches_a_service_of_another_site_over_both_lines(hub: Hub, echo: int) -> None:
    service = NamedService(name="stock", at="FR-2", host="127.0.0.1", port=echo)
    await hub.allow(service, Rule(service="stock", caller="site:FR-1"))
    await hub.agent("FR-2", offers=[Offer("stock", "127.0.0.1", echo)])
    relay = await hub.agent("FR-1", [Entrance("stock")])
    assert await said(relay.ports["stock"], b"how many?") == b"how many?"


async def test_what_a_site_does_not_offer_stays_closed_whatever_the_hub_says(hub: Hub, echo: int) -> None:
    service = NamedService(name="stock", at="FR-2", host="127.0.0.1", port=echo)
    await hub.allow(service, Rule(service="stock", caller="all"))
    offering = await hub.agent("FR-2")
    relay = await hub.agent("FR-1", [Entrance("stock")])
    assert await said(relay.ports["stock"], b"?") == b""
    assert relay.refused == {"relay.not_offered": 1}
    assert offering.refused == {"relay.not_offered": 1}


async def test_what_is_foretold_is_what_happens(hub: Hub, echo: int) -> None:
    """Every site, service and device: the simulation's answer, then the real line's."""
    for name in ("till", "stock", "shut"):
        await hub.allow(NamedService(name=name, host="127.0.0.1", port=echo))
    for rule in (
        Rule(service="till", caller="country:FR"),
        Rule(service="stock", caller="site:DE-1", device="pos"),
        Rule(service="stock", caller="dealer:d-FR-2"),
        Rule(service="shut", caller="all", until_us=1),
    ):
        await hub.policy.add_rule(rule, "operator:test")
    await hub.policy.load()
    foretold, happened = {}, {}
    for site in SITES:
        for device in ("", "pos"):
            entrances = [Entrance(name, devices={"127.0.0.1": device}) for name in ("till", "stock", "shut", "none")]
            relay = await hub.agent(site, entrances)
            for entrance in entrances:
                key = (site, entrance.service, device)
                foretold[key] = hub.policy.decide(*key).code
                before = dict(relay.refused)
                answer = await said(relay.ports[entrance.service], b"hello")
                new = [code for code, count in relay.refused.items() if count != before.get(code, 0)]
                happened[key] = "" if answer == b"hello" else new[0]
            hub.tasks.pop().cancel()
            await until(lambda site=site: site not in hub.door.lines)
    assert happened == foretold
    assert {"", "relay.denied", "relay.service_unknown"} == set(foretold.values())
    reached = {(site, service) for site, service, _ in hub.policy.reach()}
    assert reached == {("FR-1", "till"), ("FR-2", "till"), ("FR-2", "stock")}
    refusals = await hub.policy.openings(refused=True)
    assert len(refusals) == sum(1 for code in foretold.values() if code)


async def test_a_new_rule_is_foretold_before_it_is_made(hub: Hub, echo: int) -> None:
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=echo), Rule(service="till", caller="site:FR-1"))
    assert await hub.policy.foretell(Rule(service="till", caller="country:FR")) == (["FR-2"], ["FR-1"])
    assert [site for site, _, _ in hub.policy.reach("till")] == ["FR-1"]


@pytest.mark.parametrize(
    ("quota", "code"),
    [
        ({"connections": 1}, "relay.quota.connections"),
        ({"per_minute": 1}, "relay.quota.openings"),
        ({"day_bytes": 10}, "relay.quota.day"),
    ],
)
async def test_a_quota_that_is_used_up_refuses(hub: Hub, echo: int, quota: dict[str, int], code: str) -> None:
    rule = Rule(service="till", caller="all", **quota)
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=echo), rule)
    relay = await hub.agent("FR-1", [Entrance("till")])
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.ports["till"])
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    if "day_bytes" in quota:
        writer.write(b"more than ten bytes")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert await said(relay.ports["till"], b"again") == b""
    assert code in relay.refused
    writer.close()


async def test_a_rule_that_is_dropped_closes_what_it_had_opened_even_when_idle(hub: Hub, echo: int) -> None:
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=echo))
    number = await hub.policy.add_rule(Rule(service="till", caller="all"), "operator:test")
    await hub.policy.load()
    relay = await hub.agent("FR-1", [Entrance("till")])
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.ports["till"])
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await hub.policy.drop_rule(number, "operator:test")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    await until(lambda: not hub.relaying._routes)
    await hub.relaying.close()
    (opening,) = await hub.policy.openings("FR-1")
    assert opening.code == "relay.denied"
    writer.close()


async def test_a_rule_just_made_stays_known_while_an_older_reading_ends(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=1))
    policy = Interconnection(hub.policy._database, hub.notebook, hub.clock, Network())

    async def allow_and_read() -> None:
        await hub.policy.add_rule(Rule(service="till", caller="all"), "operator:test")
        await policy.load()

    await overtake(monkeypatch, store, "rules", policy.load, allow_and_read)
    assert policy.decide("FR-1", "till").is_open


async def test_who_closes_waits_for_what_is_being_written_down(
    hub: Hub, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tasks.pop().cancel()  # what writes once a second
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=echo), Rule(service="till", caller="all"))
    relay = await hub.agent("FR-1", [Entrance("till")])
    assert await said(relay.ports["till"], b"hello") == b"hello"
    await until(lambda: not hub.relaying._routes)
    closed_us: list[int | None] = []

    async def close_and_look() -> None:
        await hub.relaying.close()
        closed_us.extend(one.closed_us for one in await hub.policy.openings("FR-1"))

    await overtake(monkeypatch, store, "add_traffic", hub.relaying._flush, close_and_look)
    assert len(closed_us) == 1
    assert None not in closed_us


async def test_guests_reach_nothing(hub: Hub, echo: int) -> None:
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=echo), Rule(service="till", caller="all"))
    relay = await hub.agent("FR-1", [Entrance("till", allowed=("192.0.2.0/24",))])
    assert await said(relay.ports["till"], b"hello") == b""
    assert relay.refused == {"relay.network": 1}


async def test_a_killed_relay_leaves_nothing_open_in_the_log(hub: Hub, database: Database) -> None:
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=1))
    async with database.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO interconnection_opening (at_us, site, device, service, rule, is_refused, code)"
            " VALUES (1, 'FR-1', '', 'till', 1, false, '')"
        )
    await Relaying(hub.policy, database, hub.notebook, hub.clock).start()
    (opening,) = await hub.policy.openings()
    assert opening.code == "relay.killed"


async def test_who_is_no_dealer_gets_no_line_and_a_revoked_one_loses_his(hub: Hub) -> None:
    car = Relay((), ())
    running = asyncio.create_task(
        car.run(lambda: tls.client_context(hub.identity("VF1AAAAA555111111", "vehicle")), "localhost", hub.port)
    )
    await until(lambda: "trust.certificate.kind" in hub.notebook.refusals)
    running.cancel()
    await hub.agent("FR-1")
    hub.door.revoked({load_leaf(hub.identity("FR-1")).serial_number})
    await until(lambda: "FR-1" not in hub.door.lines)


async def test_the_rate_holds_bulk_back(hub: Hub, echo: int) -> None:
    rule = Rule(service="till", caller="all", rate_bytes_s=100_000)
    await hub.allow(NamedService(name="till", host="127.0.0.1", port=echo, priority="bulk"), rule)
    relay = await hub.agent("FR-1", [Entrance("till")])
    began_s = asyncio.get_running_loop().time()
    assert len(await said(relay.ports["till"], bytes(100_000))) == 100_000
    assert asyncio.get_running_loop().time() - began_s > 0.6


class NarrowLine:
    """A line of `bytes_s` up, as a rural one is, with little memory on the way; what came down is not held back."""

    def __init__(self, to_port: int, bytes_s: int) -> None:
        self._to_port, self._bytes_s, self.passed_bytes = to_port, bytes_s, 0

    async def start(self) -> int:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
        listener.bind(("127.0.0.1", 0))
        self.server = await asyncio.start_server(self._carry, sock=listener, limit=4 << 10)
        return int(listener.getsockname()[1])

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._to_port)

        async def down() -> None:
            while data := await back.read(65536):
                writer.write(data)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(down())
            with contextlib.suppress(OSError):
                while data := await reader.read(4 << 10):
                    self.passed_bytes += len(data)
                    forth.write(data)
                    await asyncio.sleep(len(data) / self._bytes_s)
            forth.close()


async def test_on_a_full_line_a_card_terminal_waits_for_no_file(hub: Hub, echo: int) -> None:
    """Counted in bytes, so that a slow machine changes nothing: how much of others' goes out before the card's few do."""
    files, trips = 30, 12
    for name, priority in (("files", "bulk"), ("till", "card")):
        await hub.allow(
            NamedService(name=name, host="127.0.0.1", port=echo, priority=priority), Rule(service=name, caller="all")
        )
    line = NarrowLine(hub.port, 4 << 20)
    hub.port = await line.start()
    relay = await hub.agent("FR-1", [Entrance("till"), Entrance("files")])
    senders = [asyncio.create_task(said(relay.ports["files"], bytes(2 << 20))) for _ in range(files)]
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.ports["till"])
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    before = line.passed_bytes
    await until(lambda: line.passed_bytes > before + (1 << 20))  # it is full now
    waited = []
    for _ in range(trips):
        begun_bytes = line.passed_bytes
        writer.write(bytes(64))
        await reader.readexactly(64)
        waited.append(line.passed_bytes - begun_bytes)
    assert not any(sender.done() for sender in senders), "the line was not full to the end"
    writer.close()
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    line.server.close()
    turn_bytes = files * MOST_DATA_BYTES
    assert sorted(waited)[trips // 2] < turn_bytes / 2, (
        f"{waited} bytes of others went first, a turn of all is {turn_bytes}"
    )


async def test_an_unknown_service_or_rule_cannot_be_dropped(hub: Hub) -> None:
    for work, code in (
        (hub.policy.drop_service("none", "x"), "interconnection.service.unknown"),
        (hub.policy.add_rule(Rule(service="none", caller="all"), "x"), "interconnection.service.unknown"),
        (hub.policy.drop_rule(99, "x"), "interconnection.rule.unknown"),
        (hub.policy.drop_line("FR-1", "none", "x"), "interconnection.line.unknown"),
    ):
        with pytest.raises(RocadeError) as refusal:
            await work
        assert refusal.value.code == code
