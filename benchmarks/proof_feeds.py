"""Feeds to third parties: from a batch's arrival at the gateway to the receiver's hands, over 1,000 feeds at once.

A region's store, worker, API and sharing processes as `rocade serve` starts them, on the embedded PostgreSQL with fsync. 1,000 vehicles, each
under one contract: half posted by webhook over TLS to a receiving server, half read as server-sent events, a connection of mutual TLS
each. Every vehicle sends a batch of 20 signals x 10 samples each 10 s, evenly spread; batches are sealed and appended to the log as the gateway
does, each says its own instant of arrival, which the receiver takes from the record. Then the same with every tenth webhook's
server never answering. The receivers run in this process, on the same two cores.

    python -m benchmarks --only proof --parts feeds [--full]        100 feeds, or 1,000
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import resource
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import h11
import msgspec
import numpy as np
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray

from parts import figure
from ports import free_port
from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.configuration import Configuration, Est, Http, Mqtt
from rocade.app.custodies import open_keyring
from rocade.app.supervisor import MIGRATED, Supervisor
from rocade.core import catalogue
from rocade.core.data_classes import mask
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.consent import FOREVER_US
from rocade.services.sharing import recipient_of
from rocade.services.telemetry.model import BATCH, STREAM
from rocade.services.telemetry.sealing import RoadSeals
from rocade.trust.authority import Region
from rocade.trust.authority.sealing import Keyring
from rocade.trust.identity.tls import client_context
from rocade.wire.batch import Batch, Clock, Column, pack

CLOCK, RANDOM = SystemClock(), SystemRandom()
SIGNALS, SAMPLES, EVERY_S, TICK_S = 20, 10, 10.0, 0.05
GOAL_MS = 2_000.0
type Figure = dict[str, object]


@dataclass
class Seen:
    """What receivers have: lags of first arrivals, and how often each record came."""

    lags_us: dict[str, list[int]] = field(default_factory=lambda: {"webhook": [], "sse": []})
    times: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, way: str, data: dict[str, object]) -> None:
        key = str(data["contract"]), str(data["number"])
        self.times[key] += 1
        if self.times[key] == 1:
            arrived_us = max(series["time_us"][-1] for series in data["series"])  # type: ignore[attr-defined]  # parsed JSON
            self.lags_us[way].append(CLOCK.now_us() - arrived_us)

    def clear(self) -> None:
        self.lags_us = {"webhook": [], "sse": []}
        self.times.clear()


class Receiver:
    """A third party's web server; paths beginning with /silent are never answered."""

    def __init__(self, folder: Path, seen: Seen) -> None:
        self.identity, self._seen = make_identity(folder), seen
        self.port = 0

    async def open(self) -> asyncio.Server:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(self.identity)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=own, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        with contextlib.suppress(OSError, h11.ProtocolError, asyncio.CancelledError):
            while await self._answer(http, reader, writer):
                http.start_next_cycle()
        writer.close()

    async def _answer(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        path, body = b"", b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                path = event.target
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return False
        if path.startswith(b"/silent"):
            await asyncio.sleep(3_600)
        found = msgspec.json.decode(body)
        if found["type"] == "sharing.record":
            self._seen.take("webhook", found["data"])
        answer = h11.Response(status_code=204, headers=[])
        writer.write((http.send(answer) or b"") + (http.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        return True


def make_identity(folder: Path) -> Path:
    """A certificate for localhost that signs itself, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = folder / "receiver.pem"
    file.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return file


@dataclass
class World:
    configuration: Configuration
    database: Database
    keyring: Keyring
    supervisor: Supervisor
    partner: Path
    receiver: Receiver
    seen: Seen
    refs: list[int]
    streams: int = 0
    """Connections that are open and have said so."""
    turns: int = 0
    """Batches each vehicle has sent."""

    def contract(self, ref: int) -> str:
        return f"contract-{ref:016x}"

    def cpu_s(self) -> dict[str, float]:
        found = {}
        for process in self.supervisor.processes:
            if process.pid is not None:
                times = psutil.Process(process.pid).cpu_times()
                found[process.name] = times.user + times.system
        return found


@contextlib.asynccontextmanager
async def opened(home: Path, feeds: int) -> AsyncIterator[World]:
    seen = Seen()
    receiver = Receiver(home, seen)
    listening = await receiver.open()
    initialise.create(home / "eu", "eu", "bench.rocade", template=_wanted(receiver))
    configuration = settings.load(home / "eu")
    postgres = EmbeddedPostgres(home / "eu" / "postgres")
    try:
        url = await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(migrate, url, MIGRATED)
        database = await Database.connect(url)
        region = Region(configuration.trust, CLOCK, RANDOM)
        partner = home / "acme"
        region.credential(region.identity("partner", "acme")).write(partner)
        refs = [RANDOM.bits(62) | 1 for _ in range(feeds)]
        running = msgspec.structs.replace(configuration, database_url=url)
        async with open_keyring(running, database, CLOCK) as keyring:
            world = World(running, database, keyring, Supervisor(running), partner, receiver, seen, refs)
            await fill(world)
            try:
                await world.supervisor.start(("store", "worker", "api", "sharing"))
                yield world
            finally:
                await world.supervisor.stop()
        await database.close()
    finally:
        postgres.stop()
        listening.close()


def _wanted(receiver: Receiver) -> Configuration:
    return Configuration(
        "eu", "bench.rocade", http=Http(api_port=free_port(), pages_port=free_port()), est=Est(port=free_port()),
        mqtt=Mqtt(port=free_port()),
        sharing=settings.Sharing(processes=1, networks=("127.0.0.0/8", "::1/128"), roots=str(receiver.identity)),
    )  # fmt: skip


async def fill(world: World) -> None:
    """Owners, consents and contracts that were taken up, webhooks for the first half: copied, as many at once."""
    now_us, classes = (
        CLOCK.now_us() - 60_000_000,
        mask(["location", "driving", "energy", "condition", "cabin", "other"]),
    )
    owners: list[tuple[object, ...]] = []
    grants, contracts, hooks = owners[:], owners[:], owners[:]
    for place, ref in enumerate(world.refs):
        id, person = world.contract(ref), f"person:{ref:016x}"
        way = "webhook" if place < len(world.refs) // 2 else "sse"
        owners.append((ref, person, now_us, FOREVER_US))
        grants.append(
            (f"grant-{ref:016x}", ref, person, recipient_of(id), "insurance", classes, now_us, FOREVER_US, now_us)
        )
        contracts.append(
            (
                id,
                1,
                ref,
                "partner:acme",
                "insurance",
                classes,
                [],
                [way],
                0,
                f"grant-{ref:016x}",
                now_us,
                FOREVER_US,
                now_us,
                now_us,
            )
        )
        if way == "webhook":
            hooks.append(
                (id, f"https://localhost:{world.receiver.port}/hook/{place}", 1, now_us, 0, 0, 0, 0, 0, 0, now_us, 0)
            )
    names = ("id", "version", "ref", "party", "purpose", "classes", "signals", "ways", "terms", "grant", "from_us", "until_us", "made_us", "accepted_us")  # fmt: skip
    given = ("id", "ref", "owner", "recipient", "purpose", "classes", "from_us", "until_us", "made_us")
    async with world.database.pool.acquire() as connection:
        await connection.copy_records_to_table("consent_owner", records=owners)
        await connection.copy_records_to_table("consent_grant", records=grants, columns=given)
        await connection.copy_records_to_table("sharing_contract", records=contracts, columns=names)
        await connection.copy_records_to_table("sharing_webhook", records=hooks)
        await connection.execute("ANALYZE")


def _batches(places: NDArray[np.int64], number: int, signals: list[int]) -> list[bytes]:
    """One batch for each of these vehicles, its last sample now."""
    now_us = CLOCK.now_us()
    times = now_us - np.arange(SAMPLES - 1, -1, -1) * 1_000_000
    return [
        pack(Batch(int(place) + 1, number, now_us, [Clock(times)],
                   [Column(one, 0, (np.arange(SAMPLES) * 0.5 + place % 7).astype(np.float64)) for one in signals]))
        for place in places
    ]  # fmt: skip


async def drive(world: World, seconds: float) -> NDArray[np.int64]:
    """Send what `seconds` bring; how many batches each vehicle sent."""
    signals = [int(one.id) for one in catalogue.standard().signals if one.data_class == "driving" and not one.is_text and one.datatype == "float"][:SIGNALS]  # fmt: skip
    log, seals = PostgresLog(world.database, random=RANDOM, clock=CLOCK), RoadSeals(world.keyring)
    due = (np.arange(len(world.refs)) * 7919 % len(world.refs)) / len(world.refs) * EVERY_S
    turn, sent, began_s = 0, np.zeros(len(world.refs), np.int64), time.monotonic()
    world.turns += 1
    try:
        while (at_s := time.monotonic() - began_s) < seconds:
            until_s = at_s - turn * EVERY_S
            places = np.flatnonzero(due <= until_s)
            if len(places):
                bodies = _batches(places, world.turns, signals)
                now_us = CLOCK.now_us()
                records = [
                    Record(partition_of(VehicleRef(world.refs[place])), world.refs[place], BATCH, now_us, body)
                    for place, body in zip(places.tolist(), bodies, strict=True)
                ]
                await log.append(STREAM, await seals.sealed(records))
                sent[places] += 1
                due[places] = np.inf
            if until_s >= EVERY_S:
                turn, world.turns = turn + 1, world.turns + 1
                due = (np.arange(len(world.refs)) * 7919 % len(world.refs)) / len(world.refs) * EVERY_S
            await asyncio.sleep(TICK_S)
    finally:
        await log.close()
    return sent


async def listen(world: World, ref: int, ready: asyncio.Semaphore) -> None:
    """One feed by server-sent events, until cancelled."""
    port = world.configuration.http.api_port
    async with ready:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(world.partner), server_hostname="localhost", limit=1 << 22
        )
        path = f"/v1/sharing/stream?contract={world.contract(ref)}"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        await reader.readuntil(b"\n\n")
        world.streams += 1
    while True:
        found = await reader.readuntil(b"\n\n")
        if b"event: record" in found:
            world.seen.take("sse", msgspec.json.decode(found[found.index(b"data: ") + 6 :]))


async def measured(
    world: World, seconds: float, silent: int
) -> tuple[dict[str, NDArray[np.int64]], int, int, dict[str, float]]:
    """(lags by way, records lost, records told twice, CPU seconds by process)."""
    world.seen.clear()
    before = world.cpu_s()
    sent = await drive(world, seconds)
    expected = int(sent[silent:].sum())
    limit_s = time.monotonic() + 60
    while len(world.seen.times) < expected and time.monotonic() < limit_s:  # noqa: ASYNC110 - what counts is read elsewhere
        await asyncio.sleep(0.1)
    cpu = {name: value - before[name] for name, value in world.cpu_s().items()}
    doubled = sum(times - 1 for times in world.seen.times.values())
    lags = {way: np.array(found, np.int64) for way, found in world.seen.lags_us.items()}
    return lags, max(0, expected - len(world.seen.times)), doubled, cpu


def _figures(feeds: int, note: str, lags: dict[str, NDArray[np.int64]], lost: int, doubled: int) -> list[Figure]:  # fmt: skip
    both = np.concatenate(list(lags.values()))
    rows = [
        figure(f"{feeds} feeds{note}: arrival to receiver, p99", float(np.quantile(both, 0.99)) / 1000, "ms", GOAL_MS)
    ]
    rows.append(figure(f"{feeds} feeds{note}: arrival to receiver, p50", float(np.median(both)) / 1000, "ms"))
    rows += [
        figure(f"{feeds} feeds{note}: {way}, p99", float(np.quantile(found, 0.99)) / 1000, "ms")
        for way, found in lags.items()
        if len(found)
    ]
    rows.append(figure(f"{feeds} feeds{note}: records received", float(len(both)), "records"))
    rows.append(figure(f"{feeds} feeds{note}: records lost", float(lost), "records", 0.0))
    rows.append(figure(f"{feeds} feeds{note}: records told twice", float(doubled), "records"))
    return rows


async def measure(*, full: bool = False) -> list[Figure]:
    feeds, seconds = (1_000, 60.0) if full else (100, 20.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    rows: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="rocade-feeds-") as home:
        async with opened(Path(home), feeds) as world:
            ready = asyncio.Semaphore(20)
            streams = [asyncio.create_task(listen(world, ref, ready)) for ref in world.refs[feeds // 2 :]]
            try:
                while world.streams < len(streams) and not any(one.done() for one in streams):  # noqa: ASYNC110 - counted there
                    await asyncio.sleep(0.1)
                await drive(world, EVERY_S)  # connections to the receiver are made, plans of statements too
                await asyncio.sleep(EVERY_S)
                lags, lost, doubled, cpu = await measured(world, seconds, 0)
                rows += _figures(feeds, "", lags, lost, doubled)
                rows += [figure(f"{feeds} feeds: CPU of {name}", 1000 * spent / max(1, len(world.seen.times)), "ms/record") for name, spent in cpu.items()]  # fmt: skip
                silent = feeds // 20
                await silence(world, silent)
                lags, lost, doubled, _ = await measured(world, seconds, silent)
                rows += _figures(feeds, f", {silent} receivers silent", lags, lost, doubled)
            finally:
                for one in streams:
                    one.cancel()
                done = await asyncio.gather(*streams, return_exceptions=True)
                for failure in {repr(one) for one in done if not isinstance(one, asyncio.CancelledError)}:
                    print(f"a stream ended: {failure}")
    return rows


async def silence(world: World, count: int) -> None:
    """Give the first webhooks an address that never answers."""
    ids = [world.contract(ref) for ref in world.refs[:count]]
    await world.database.pool.execute(
        "UPDATE sharing_webhook SET url = replace(url, '/hook', '/silent'), generation = generation + 1 WHERE contract = ANY($1)", ids
    )  # fmt: skip


def main() -> None:
    import sys

    import parts

    parts.show(asyncio.run(measure(full="--full" in sys.argv)))


if __name__ == "__main__":
    main()
