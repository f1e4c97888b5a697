"""A region's sharing on a real database: owners, contracts, what vehicles sent, and a third party's real web server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from tests.clocks import TurnedClock
from tests.notebook import Notebook
from tests.services.sharing.receiver import Receiver, make_identity

from rocade.core import catalogue
from rocade.core.data_classes import mask
from rocade.core.identifiers import Identity
from rocade.core.ports import SystemRandom
from rocade.doors.webhooks import Poster
from rocade.fabric.database import Database, Leases
from rocade.services.consent import Consents, ConsentTable, Looks, table
from rocade.services.sharing import (
    Bell,
    Book,
    Contract,
    Delivery,
    Feeding,
    Hooks,
    Lines,
    Outbox,
    Secrets,
    Sharing,
)
from rocade.services.telemetry import chunks
from rocade.services.telemetry.decoding import Outcome

OWNER, PARTY = "person:0a", "partner:acme"
SIGNALS = catalogue.standard()
SPEED, SOC, LATITUDE = (
    int(SIGNALS.by_name(name).id)
    for name in (
        "Vehicle.Speed",
        "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
        "Vehicle.CurrentLocation.Latitude",
    )
)
PATIENCE_S = 30.0


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


class Stand:
    """Everything of one process."""

    def __init__(self, database: Database, receiver: Receiver) -> None:
        self.database, self.receiver = database, receiver
        self.clock, self.audit, self.random = TurnedClock(), Notebook(), SystemRandom()
        self.consents = Consents(database, self.audit, self.clock, self.random)
        self._running: list[asyncio.Task[None]] = []
        self._stops: list[asyncio.Event] = []

    async def open(self) -> None:
        self.table = await ConsentTable.open(self.database, self.clock)
        self.looks = Looks(self.database, self.audit, self.clock)
        self.sharing = Sharing(self.database, self.consents, self.table, SIGNALS, self.audit, self.clock, self.random)
        self.book = await Book.open(self.database)
        keyring = self.database.keyring
        self.outbox = Outbox(self.book, keyring, self.clock)
        self.feeding = Feeding(self.sharing, self.book, keyring, self.looks, SIGNALS, self.clock)
        self.bell, self.lines, self.secrets = Bell(self.database), Lines(self.sharing), Secrets(keyring)
        self.poster = Poster(self.receiver.trusting(), lambda address: str(address) == "127.0.0.1")
        self.hooks = Hooks(self.sharing, self.secrets, self.audit, is_on=True, poster=self.poster)
        self._running.append(asyncio.create_task(self.bell.run()))

    async def close(self) -> None:
        for stop in self._stops:
            stop.set()
        for task in self._running[1:]:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(task, PATIENCE_S)
        self._running[0].cancel()
        await self.book.close()
        await self.looks.close()
        await self.table.close()

    # --- agreeing -----------------------------------------------------------------------------------------------------

    async def vehicle(self, person: str = OWNER) -> int:
        ref = self.random.bits(62)
        await self.consents.own(ref, person)
        return ref

    async def offer(self, ref: int, *classes: str, **more: object) -> Contract:
        given = {"signals": (), "ways": ("sse", "webhook", "parquet"), **more}
        return await self.sharing.share(ref, OWNER, PARTY, "insurance", mask(classes or ("driving",)), **given)

    async def contract(self, ref: int, *classes: str, **more: object) -> Contract:
        """Agreed, taken up and known to this process."""
        made = await self.offer(ref, *classes, **more)
        taken = await self.sharing.accept(PARTY, made.id, "spiffe://acme")
        await until(lambda: made.id in self.book.by_id)
        await self.table.refresh()
        return taken

    # --- the road -----------------------------------------------------------------------------------------------------

    async def send(self, ref: int, values: dict[int, list[float]] | None = None, at_us: int | None = None) -> None:
        """What a worker does with one block of a vehicle: one sample a second of each signal."""
        values = values or {SPEED: [50.0, 51.0, 52.0], SOC: [80.0, 79.0, 78.0]}
        now_us = self.clock.now_us() if at_us is None else at_us
        count = len(next(iter(values.values())))
        size = len(values)
        block = chunks.Chunks(
            vehicle=np.full(size, ref, np.uint64),
            signal=np.array(sorted(values), np.uint32),
            arrived_us=np.full(size, now_us),
            start_us=np.full(size, now_us - count * 1_000_000),
            step_us=np.full(size, 1_000_000),
            rows=np.full(size, count),
            kind=np.full(size, chunks.FLOAT, np.uint8),
            exponent=np.zeros(size, np.int8),
            ints=np.zeros(0, np.int64),
            floats=np.concatenate([values[signal] for signal in sorted(values)]),
            doubt_at=np.arange(size) * count,
            doubt_flags=np.full(size, 4, np.uint8),
        )
        async with self.database.pool.acquire() as connection, connection.transaction():
            await self.outbox.hook(connection, Outcome(rows=[chunks.rows_from(block)]))

    # --- posting ------------------------------------------------------------------------------------------------------

    async def hook(self, contract: Contract, path: str = "/hook") -> str:
        """Set the address; the secret."""
        _, secret = await self.hooks.put(PARTY, contract.id, self.receiver.url(path), "spiffe://acme")
        return secret

    def deliver(self) -> Delivery:
        """Begin posting, as the sharing role does."""
        owner = f"test:{self.random.bits(32):08x}"
        leases = Leases(self.database, "sharing", "sharing", owner, ttl_s=90.0)  # outlast a stall
        place = Identity("rocade.local", "eu", "service", "sharing")
        made = Delivery(
            self.feeding,
            self.bell,
            self.lines,
            leases,
            self.secrets,
            place,
            self.audit,
            self.clock,
            self.random,
            self.poster,
        )
        stop = asyncio.Event()
        self._stops.append(stop)
        self._running.append(asyncio.create_task(made.run(stop)))
        return made

    async def waiting(self) -> int:
        count: int = await self.database.pool.fetchval("SELECT count(*) FROM sharing_queue")
        return count


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    made = Receiver(make_identity(tmp_path))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def stand(database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    monkeypatch.setattr(table, "STALE_S", 120)  # a machine that stalls is not a database that is away
    made = Stand(database, receiver)
    await made.open()
    yield made
    await made.close()
