"""The exchange killed with signal 9 in the middle of its work: nothing receipted is lost, nothing counts twice, every root is noted."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest
from tests.faults.region import eventually, free_port

from rocade.agents.link import Link
from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.custodies import hang_keyring
from rocade.app.supervisor import MIGRATED, Supervisor
from rocade.core.errors import RocadeError
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.services.dealers import Dealers, SiteTable, import_file
from rocade.services.exchange import Router, Rule
from rocade.trust.authority import AuditLog, Authority, Region
from rocade.trust.identity import envelope, tls
from rocade.trust.identity.directory import load_key
from rocade.wire.exchange import MESSAGE_TYPE, Address, Message, encode, read_receipt, read_receipts

CLOCK, RANDOM = SystemClock(), SystemRandom()
LINES = "site;dealer;dealer_name;country;name;timezone;brands;opened\n"
SITES = ("FR-1", "FR-2", "FR-3")


class Sender:
    """A site that sends its stream in order, again and again until each message is receipted. Implements Listener."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.key, self.id = load_key(directory), directory.name
        self.uri = f"spiffe://test.rocade/eu/dealer/{self.id}"
        self.link: Link | None = None
        self.sent: dict[str, bytes] = {}
        self.receipted: dict[str, set[bytes]] = {}
        self.number = 0

    def make(self) -> None:
        """The next message, sealed."""
        self.number += 1
        message = Message(
            id=f"m{self.number}", sender=self.uri, recipient=Address("renault", "FR", "claims"), stream="main",
            sequence=self.number, content_class="technical", content_type="text/plain", created_us=CLOCK.now_us(),
            body=b"%d" % self.number,
        )  # fmt: skip
        self.sent[message.id] = envelope.seal(MESSAGE_TYPE, encode(message), self.key)

    async def drive(self, ended: asyncio.Event) -> None:
        while not ended.is_set() or len(self.receipted) < len(self.sent):
            with contextlib.suppress(RocadeError, OSError, ssl.SSLError):
                if self.link is None:
                    self.link = await Link.open(
                        "localhost", self.port, tls.client_context(self.directory), self.id, self, window=16
                    )
                if not ended.is_set() and len(self.sent) - len(self.receipted) < 8:
                    self.make()
                for id, sealed in self.sent.items():
                    if id not in self.receipted and self.link is not None and self.link.room > 0:
                        self.link.send("message", 0, sealed)
            await asyncio.sleep(0.02)
        if self.link is not None:
            self.link.abort()

    def received(self, tail: str, body: bytes) -> None:
        if tail == "receipt":
            for leaf in read_receipts(body).leaves:
                self.receipted.setdefault(read_receipt(leaf.receipt).message_id, set()).add(leaf.receipt)

    def acknowledged(self, _sequence: int) -> None: ...
    def refused(self, _sequence: int, _reason: int, _text: str) -> None: ...
    def has_room(self) -> None: ...
    def closed(self, _why: str, _reason: int) -> None:
        self.link = None


async def prepared(directory: Path, database: Database, configuration: settings.Configuration) -> list[Path]:
    """Sites with certificates and one rule."""
    audit = AuditLog(database, configuration.trust / "audit", CLOCK)
    rows = [f"{id};{id};{id};FR;{id};Europe/Paris;renault:sells+services;2001-01-01\n" for id in SITES]
    await import_file(
        Dealers(database, audit, CLOCK, RANDOM), (LINES + "".join(rows)).encode(), dry_run=False, actor="test"
    )
    authority = Authority(Region(configuration.trust, CLOCK, RANDOM), database, audit, CLOCK, RANDOM)
    table = await SiteTable.open(database, CLOCK)
    await Router(database, table, audit, CLOCK).publish([Rule(to="local/desk")], 0, "", "test")
    await table.close()
    made = []
    for id, credential in zip(
        SITES, await authority.provision([authority.region.identity("dealer", id) for id in SITES], "test"), strict=True
    ):
        credential.write(directory / id)
        made.append(directory / id)
    await audit.close()
    return made


async def storm(directory: Path, kills: int, processes: int) -> None:
    template = settings.Configuration(
        "eu", "test.rocade", exchange=settings.Exchange("127.0.0.1", free_port(), processes)
    )
    initialise.create(directory / "region", "eu", "test.rocade", template=template)
    postgres = EmbeddedPostgres(directory / "postgres")
    url = await asyncio.to_thread(postgres.start)
    configuration = msgspec.structs.replace(settings.load(directory / "region"), database_url=url)
    supervisor = Supervisor(configuration)
    try:
        migrate(url, MIGRATED)
        database = await Database.connect(url, max_connections=3)
        keyring = await hang_keyring(configuration, database, SystemClock())
        places = await prepared(directory, database, configuration)
        await supervisor.start(("exchange",))
        senders, ended = [Sender(place, configuration.exchange.port) for place in places], asyncio.Event()
        driving = [asyncio.create_task(one.drive(ended)) for one in senders]
        draw = Random(kills)
        for at in range(kills):
            before = sum(len(one.receipted) for one in senders)

            async def moved(before: int = before) -> bool:
                return sum(len(one.receipted) for one in senders) >= before + 15

            await eventually(moved, 60)
            await asyncio.sleep(draw.random() * 0.05)
            supervisor.processes[at % processes].kill()
        ended.set()
        await asyncio.wait_for(asyncio.gather(*driving), 90)
        for one in senders:
            rows = await database.pool.fetch(
                "SELECT id, sequence, state, received FROM exchange_message WHERE party = $1 ORDER BY number",
                f"dealer/{one.id}",
            )
            assert [row["id"] for row in rows] == list(one.sent), "each once, in order"
            assert {row["state"] for row in rows} == {1}
            assert {row["id"]: {row["received"]} for row in rows} == one.receipted, (
                "the same receipt, whatever was killed"
            )
        entries = await database.pool.fetch("SELECT message FROM exchange_entry WHERE party = 'local/desk'")
        assert max(Counter(row["message"] for row in entries).values()) == 1, "handed on once"

        async def all_noted() -> bool:
            commits = {row["number"] for row in await database.pool.fetch("SELECT number FROM exchange_commit")}
            bodies = await database.pool.fetch(
                "SELECT body FROM audit_entry WHERE position('exchange-commit:'::bytea in body) > 0"
            )
            noted = {int(msgspec.json.decode(row["body"])[1]["subject"].partition(":")[2]) for row in bodies}
            return commits <= noted

        await eventually(all_noted, 90)
        await keyring.close()
        await database.close()
    finally:
        await supervisor.stop()
        await asyncio.to_thread(postgres.stop)


async def test_a_killed_exchange_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    await storm(tmp_path, kills=2, processes=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_two_exchanges_killed_in_turn_twenty_times(tmp_path: Path) -> None:
    await storm(tmp_path, kills=20, processes=2)
