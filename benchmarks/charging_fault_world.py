"""The world of `charging_faults`: the hub's real objects on a real PostgreSQL, a line that does with messages what it likes, time in steps.

Each step: what is due on the line happens to cars -> the hub does what its processes do in two seconds (orders, delivery, reports,
telemetry with proof, deadlines), and may be killed before or after any of its statements -> cars say what they owe.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import msgspec
import numpy as np

from charging_fault_cars import Car, Faults, Surroundings, Truth
from rocade.agents.vehicle.command_check import SignerCache
from rocade.core.catalogue import standard
from rocade.core.errors import Refused, RocadeError
from rocade.core.ports import SystemRandom
from rocade.doors.mqtt import Publish
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.vehicles import Registry
from rocade.services.vehicles.commands import (
    Capabilities,
    Commands,
    Deliverer,
    Order,
    Reports,
    Verifier,
    store,
)
from rocade.services.vehicles.commands.keeping import pass_time
from rocade.services.vehicles.twin import BOOLEAN, FLOAT, SLOT, TEXT, Row, pack, upsert_many
from rocade.trust.authority.region import create_region, issue_directory
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.authority.signing import ServiceSigner
from rocade.trust.identity.envelope import payload_of
from rocade.wire.commands import SERVICE, read_command, read_down
from sealed import keyed, unkeyed
from silent import Silent

STEP_S = 2.0
AGAIN_US = 20_000_000
"""A report without an answer goes again after this."""
TIME_EVERY = 5
"""Steps between two looks at deadlines."""
KILLED = (*DOWN, RocadeError, TimeoutError, asyncpg.InterfaceError)


class HubKilled(BaseException):
    """The hub's processes are gone from here on."""


class FakeClock:
    """Steps; what the hub believes the time to be."""

    def __init__(self) -> None:
        self.at_us = 1_795_000_000_000_000

    def now_us(self) -> int:
        return self.at_us

    def monotonic_s(self) -> float:
        return self.at_us / 1e6


class SeededRandom:
    def __init__(self, source: random.Random) -> None:
        self._source = source

    def bits(self, count: int) -> int:
        return self._source.getrandbits(count)

    def uniform(self) -> float:
        return self._source.random()


class Block(msgspec.Struct):
    """What a worker commits, as far as the verifier reads it."""

    twins: list[Row]


class World(Surroundings):
    """One world from its seed."""

    def __init__(self, url: str, folder: Path, seed: int, vehicles: int) -> None:
        self.random, self.faults, self.truth = random.Random(seed), Faults(), Truth()
        self.clock = FakeClock()
        self.seed, self._url, self._folder, self._count = seed, url, folder, vehicles
        self.numbers = itertools.count()
        self._events: list[tuple[int, int, str, Car, Any]] = []
        self._region = create_region(folder / "region", "eu", "fault.rocade", self.clock, SystemRandom())
        self.cars: dict[int, Car] = {}
        self._by_id: dict[str, Car] = {}
        self.connected: dict[int, Car] = {}
        self._dirty: dict[Car, None] = {}
        """Cars to which something happened, in that order."""
        self.planned: list[tuple[int, int, Car]] = []
        self.to_order: list[Order] = []
        self.answered: dict[tuple[str, str], str] = {}
        self.kills = self.keys_broken = 0
        self._kill_in = 0
        """Places before and after statements until the hub is killed; 0 = it is not."""

    # --- what cars and hub need of the world ---

    def now_us(self) -> int:
        return self.clock.at_us

    def call(self, car: Car, what: str, after_s: float) -> None:
        self._later(what, car, None, after_s)

    def send(self, party: str, _tail: str, body: bytes) -> asyncio.Future[bool]:
        """The door: takes everything, and then the line does with it what it likes."""
        car = self._by_id[party]
        command = read_command(payload_of(read_down(body)[0]))
        self.truth.orders[command.id] = command
        self._over_the_line("down", car, body)
        return asyncio.get_running_loop().create_future()

    def _over_the_line(self, what: str, car: Car, load: Any) -> None:
        faults, chance = self.faults, self.random.random
        self.truth.messages += 1
        if chance() >= faults.lost:
            self._later(
                what, car, load, self.random.uniform(60, 900) if chance() < faults.slow else self.random.uniform(0, 4)
            )
        if chance() < faults.doubled:
            self._later(what, car, load, self.random.uniform(0, 1200))

    def _later(self, what: str, car: Car, load: Any, after_s: float) -> None:
        at_us = self.clock.at_us + int(after_s * 1e6)
        heapq.heappush(self._events, (at_us, next(self.numbers), what, car, load))

    # --- the hub ---

    async def open(self) -> None:
        self.issue_signer()
        await self._start_hub()
        signers = SignerCache(lambda: self._region.issuers)
        for number in range(self._count):
            vehicle = await self.registry.add(f"FAULT-{number:06}", "moped", "other", "any", "electric", "eu")
            remembers = number % 2 == 0
            car = Car(self, int(vehicle.ref), vehicle.id, signers, remembers=remembers)
            self.cars[car.ref] = self._by_id[car.vehicle_id] = car
            car.start()
            self._come_online(car)

    def issue_signer(self) -> None:
        """A new key that signs commands; what the old one signed stays good."""
        issue_directory(self._region, self._folder / SERVICE, self._region.identity("service", SERVICE))

    async def _start_hub(self) -> None:
        self.database = keyed(await Database.connect(self._url, max_connections=4), self._folder)
        database, audit = self.database, Silent()

        async def publish(key_id: bytes, chain: bytes, not_after_us: int) -> None:
            await store.add_signer(database.pool, key_id, chain, not_after_us)

        signer = await ServiceSigner.open(self._folder / SERVICE, SERVICE, publish, self.clock)
        self.registry = Registry(database, SeededRandom(self.random), self.clock)
        capabilities = Capabilities(standard())
        self.commands = Commands(
            database, self.registry, signer, capabilities, audit, self.clock, SeededRandom(self.random)
        )
        self.deliverer = Deliverer(database, self.connected, self, capabilities, self.clock)
        self.reports = Reports(database, standard(), audit, self.clock)
        self.verifier = Verifier(database, standard(), self.clock)
        self._fresh: set[int] = set(self.connected)

    async def _kill_hub(self) -> None:
        """Everything the processes knew is gone, every line is cut; the database stays."""
        self.kills += 1
        with contextlib.suppress(*KILLED):
            await self.commands.close()
        await unkeyed(self.database)
        self.database.pool.terminate()
        with contextlib.suppress(*KILLED):
            await self.database.close()
        for car in list(self.connected.values()):
            self._go_offline(car, self.random.uniform(0, 30))
        await self._start_hub()

    def _go_offline(self, car: Car, for_s: float) -> None:
        car.is_online = False
        self.connected.pop(car.ref, None)
        self._later("online", car, None, for_s)

    def _come_online(self, car: Car) -> None:
        car.is_online = True
        car.sent_us.clear()
        self.connected[car.ref] = car
        self._fresh.add(car.ref)
        self._dirty[car] = None

    # --- one step ---

    async def step(self, step_s: float = STEP_S) -> None:
        self.clock.at_us += int(step_s * 1e6)
        said: list[tuple[Car, int, bytes]] = []
        while self._events and self._events[0][0] <= self.clock.at_us:
            _, _, what, car, load = heapq.heappop(self._events)
            self._happen(what, car, load, said)
        faults, chance = self.faults, self.random.random
        for car in self.random.sample(list(self.connected.values()), self._some(faults.offline)):
            self._go_offline(car, self.random.expovariate(1 / 120))
        if chance() < faults.database:
            await self._cut_database()
        self._kill_in = self.random.randrange(1, 60) if chance() < faults.hub else 0
        try:
            await self._hub_step(said)
        except HubKilled:
            await self._kill_hub()
        self._kill_in = 0
        self._speak()

    def at_statement(self) -> None:
        """Called before and after each statement of the hub."""
        if self._kill_in:
            self._kill_in -= 1
            if not self._kill_in:
                raise HubKilled

    def _some(self, share: float) -> int:
        wanted = share * len(self.connected)
        return int(wanted) + (self.random.random() < wanted % 1)

    def _happen(self, what: str, car: Car, load: Any, said: list[tuple[Car, int, bytes]]) -> None:
        if what == "online":
            if not car.is_online:
                self._come_online(car)
        elif what == "start":
            car.start()
        elif what == "up":
            if car.is_online:
                said.append((car, *load))
        elif not car.is_on:
            return
        elif what == "tick":
            car.do(car.executor.tick)
        elif what == "settle":
            car.executor.book.settle(load)
        elif what == "down" and car.is_online:
            if self.random.random() < self.faults.asleep:
                car.machine.fall_asleep()
            car.do(lambda: car.executor.receive(load))
        self._dirty[car] = None

    async def _hub_step(self, said: list[tuple[Car, int, bytes]]) -> None:
        """What the processes of the hub do in two seconds. A failure of the database is met again in the next step."""
        try:
            if self.to_order:
                await self._order()
            fresh, self._fresh = self._fresh, set()
            try:
                await self.deliverer.deliver(set(self.connected), fresh)
            except BaseException:
                self._fresh |= fresh
                raise
            if said:
                publishes = [Publish(car, "command", body, self.clock.at_us, 5) for car, _, body in said]
                await self.reports.accept(publishes)
                for car, number, _ in said:
                    self._over_the_line("settle", car, number)
            await self._measure()
            if next(self.numbers) % TIME_EVERY == 0:
                await pass_time(self.database, self.clock.at_us)
        except KILLED:
            pass

    async def _order(self) -> None:
        """Orders by several people; one whose answer was lost is given again with its key."""
        orders, self.to_order = self.to_order, []
        try:
            answers = await self.commands.order_many(orders)
        except BaseException:
            self.to_order = orders + self.to_order
            raise
        again: list[Order] = []
        for order, answer in zip(orders, answers, strict=True):
            if isinstance(answer, Refused):
                continue
            known = self.answered.setdefault((order.by, order.key), answer.id)
            self.keys_broken += known != answer.id
            if self.random.random() < 0.05:
                again.append(order)
        self.to_order += again

    async def _measure(self) -> None:
        """Telemetry of cars whose machines changed: the twin and the proof in one transaction, as a worker does."""
        changed = [car for car in self.connected.values() if car.is_on and car.machine.is_new][:500]
        if not changed:
            return
        rows = [Row(car.ref, self.clock.at_us, 0, None, None, None, _twin(car)) for car in changed]
        self.verifier.watching.update(car.ref for car in changed)
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(connection, rows, keyring_of(self.database))
            await self.verifier.hook(connection, Block(rows))
        for car in changed:
            car.machine.is_new = False

    async def _cut_database(self) -> None:
        async with self.database.pool.acquire() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def _speak(self) -> None:
        """Cars send what they owe; those without an answer again later."""
        for car in self._dirty:
            for number, body in car.owed(AGAIN_US):
                self._over_the_line("up", car, (number, body))
                self._later("speak", car, None, AGAIN_US / 1e6 + 0.1)
        self._dirty.clear()


def _twin(car: Car) -> bytes:
    """A packed twin of what the machine's state shows, measured now."""
    conditions = [one for one in car.machine.shows() if one.signal]
    values = {int(standard().by_name(one.signal).id): one.value for one in conditions}
    slots, words = np.zeros(len(values), SLOT), list[str]()
    at_us = car.now_us()
    for place, (signal, value) in enumerate(sorted(values.items())):
        form, raw = BOOLEAN, int(value is True)
        if isinstance(value, tuple | str):
            form, raw = TEXT, len(words)
            words.append(value if isinstance(value, str) else value[0])
        elif not isinstance(value, bool):
            form, raw = FLOAT, int(np.float64(value).view(np.int64))
        slots[place] = (at_us, raw, at_us, signal, form, 0, 0, 0)
    return pack(slots, words)


@contextlib.contextmanager
def watched(at_statement: Callable[[], None]) -> Iterator[None]:
    """Call this before and after each statement of any connection; commits are statements too."""

    def watched(plain: Any) -> Any:
        async def method(connection: Any, *arguments: Any, **more: Any) -> Any:
            at_statement()
            result = await plain(connection, *arguments, **more)
            at_statement()
            return result

        return method

    names = ("execute", "executemany", "fetch", "fetchval", "fetchrow")
    with contextlib.ExitStack() as patches:
        for name in names:
            patches.enter_context(
                mock.patch.object(asyncpg.Connection, name, watched(getattr(asyncpg.Connection, name)))
            )
        yield
