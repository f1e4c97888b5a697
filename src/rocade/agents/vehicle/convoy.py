"""Many simulated vehicles in one process, each with its own identity, connection and journal; the senders keep count.

Flow: `Convoy.run` moves the fleet once a second -> every `batch_s` seconds, spread evenly, each vehicle's samples go into
its journal -> its agent sends them. Each obeys commands (`simulation.Machine`); what one changed is told at once, not with the
next batch. `cut` takes a vehicle off the air; what it makes meanwhile waits and follows.
`ledger` says per vehicle what was made and what was acknowledged: whoever compares it with what the platform holds
knows what was lost, without asking the platform.

As a program (`python -m rocade.agents.vehicle.convoy`): one line of JSON on standard input is the `Order`, further lines
are `Command`s (`{"cut": ID, "for_s": 20}`, `{"plug": ID}`, `{"unplug": ID}`, `{"ledger": true}`, `{"stop": true}`); one line of `Totals` a second on
standard output, a `Ledger` where asked and at the end.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections import deque
from pathlib import Path

import msgspec

from rocade.agents.link import Backoff
from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.command_book import Book
from rocade.agents.vehicle.command_check import Checker, SignerCache
from rocade.agents.vehicle.commands import Executor
from rocade.agents.vehicle.journal import Journal, Limits
from rocade.agents.vehicle.simulation import Fleet, Town, build
from rocade.agents.vehicle.simulation.machine import Machine
from rocade.agents.vehicle.simulation.models import MODELS
from rocade.core.catalogue import Catalogue, standard
from rocade.core.errors import Misconfigured
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.trust.identity import tls
from rocade.trust.identity.directory import LiveIssuers
from rocade.wire.batch import Batch

SMALL = Limits(waiting_bytes=16 << 20, kept_bytes=256 << 10)
"""A simulated vehicle keeps its journal in memory."""
_CONNECTS_PER_S = 150


class Seat(msgspec.Struct, frozen=True):
    """One simulated vehicle: who it is, what it is, where its identity directory lies."""

    vehicle_id: str
    model: str
    """Key of a simulation model."""
    identity: str
    is_plugged: bool = False
    """Stands at a charger from the start and stays there."""
    charge_percent: float = 0.0
    """Of its battery at the start; 0 = as drawn."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a convoy process is asked to do."""

    host: str
    port: int
    seats: tuple[Seat, ...]
    batch_s: int = 5
    seed: int = 1
    town_seed: int = 7
    journals: str = ""
    """Folder for journals on disk; '' = in memory."""
    past_per_s: float | None = None
    """What a vehicle that comes back sends of its past before it is asked; None = everything, oldest first."""
    sleep_after_s: float | None = None
    """Idle vehicles fall asleep after this; None = never."""


class Command(msgspec.Struct, frozen=True):
    cut: str = ""
    for_s: float = 15.0
    plug: str = ""
    unplug: str = ""
    ledger: bool = False
    stop: bool = False


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over all vehicles since the start, as the senders count."""

    vehicles: int
    connected: int
    made_points: int
    sent_batches: int
    acknowledged_batches: int
    acknowledged_points: int
    waiting_batches: int
    resent_batches: int
    set_aside: int
    dropped_points: int
    ack_p50_ms: float
    ack_p99_ms: float
    problem: str = ""


class LedgerLine(msgspec.Struct, frozen=True):
    """What one sender knows: numbers 1 to `made` were given out in `epoch`, all but `waiting` are acknowledged."""

    vehicle_id: str
    epoch: str
    made: int
    acknowledged_batches: int
    acknowledged_points: int
    waiting: tuple[int, ...]
    set_aside: tuple[int, ...]


class Ledger(msgspec.Struct, frozen=True):
    ledger: tuple[LedgerLine, ...]


class Convoy:
    """The vehicles of one process."""

    def __init__(
        self, order: Order, town: Town, catalogue: Catalogue, clock: Clock, random: Random, *, plain: bool = False
    ) -> None:
        by_key = {model.key: model for model in MODELS}
        unknown = sorted({seat.model for seat in order.seats} - set(by_key))
        if unknown:
            raise Misconfigured(
                "convoy.model", f"no simulation model {', '.join(unknown)}; known are {', '.join(by_key)}"
            )
        self._order, self._clock, self._random = order, clock, random
        models = [by_key[seat.model] for seat in order.seats]
        sleep_after_s = math.inf if order.sleep_after_s is None else order.sleep_after_s
        self.fleet = Fleet(models, town, catalogue, order.seed, 120, sleep_after_s)
        self._brands = catalogue.brands
        self._signers = None if plain or not order.seats else _signers(order.seats[0])
        self._made = [0] * len(order.seats)
        self._made_points = 0
        self._latencies_s: deque[float] = deque(maxlen=5000)
        self.agents = [self._agent(place, seat, plain=plain) for place, seat in enumerate(order.seats)]
        self._places = {seat.vehicle_id: place for place, seat in enumerate(order.seats)}

        for place, seat in enumerate(order.seats):
            self._park(place, seat)

    def _park(self, place: int, seat: Seat) -> None:
        if seat.is_plugged:
            self.fleet.controls.plug(place)
            self.fleet.controls.is_plugged[place] = True
        if seat.charge_percent > 0:
            self.fleet.energy.charge[place] = seat.charge_percent

    def _agent(self, place: int, seat: Seat, *, plain: bool) -> Agent:
        folder = Path(self._order.journals) if self._order.journals else None
        path = folder / f"{seat.vehicle_id}.sqlite3" if folder else None
        journal = Journal(path, self._clock, self._random, SMALL)
        agent = Agent(
            seat.vehicle_id,
            self._order.host,
            self._order.port,
            journal,
            (lambda: None) if plain else (lambda: tls.client_context(Path(seat.identity))),
            self._clock,
            self._random,
            keep_alive_s=30,
            backoff=Backoff(first_s=0.5, most_s=10),
            past_per_s=math.inf if self._order.past_per_s is None else self._order.past_per_s,
            executor=self._executor(place, seat, journal),
        )
        agent.latencies_s = self._latencies_s
        return agent

    def _executor(self, place: int, seat: Seat, journal: Journal) -> Executor | None:
        if self._signers is None:
            return None
        brand = self._brands.get(self.fleet.models[place].brand)
        machine = Machine(self.fleet, place, brand, self._clock, lambda: self._tell_soon(place))
        checker = Checker(seat.vehicle_id, self._signers)
        return Executor(Book(journal.connection), checker, machine, self._clock)

    def _tell_soon(self, place: int) -> None:
        """Telemetry of what was just changed, measured after the report of it was written."""
        asyncio.get_running_loop().call_soon(self._tell_now, place)

    def _tell_now(self, place: int) -> None:
        self._append(place, self.fleet.sample(place, self._clock.now_us()))

    async def run(self, stop: asyncio.Event) -> None:
        """Drive until `stop`, then close every connection in good order."""
        async with asyncio.TaskGroup() as tasks:
            for place, agent in enumerate(self.agents):
                tasks.create_task(self._start(agent, place / _CONNECTS_PER_S))
            await self._drive(stop)
            for agent in self.agents:
                await agent.stop()

    async def _start(self, agent: Agent, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await agent.run()

    async def _drive(self, stop: asyncio.Event) -> None:
        next_s = self._clock.monotonic_s()
        while not stop.is_set():
            self.fleet.step(self._clock.now_us() // 1000 * 1000)
            for place in range(self.fleet.steps % self._order.batch_s, len(self.agents), self._order.batch_s):
                self._hand_over(place)
                if place % 50 == 0:
                    await asyncio.sleep(0)
            next_s = max(next_s + 1.0, self._clock.monotonic_s() - 1.0)
            try:
                await asyncio.wait_for(stop.wait(), max(next_s - self._clock.monotonic_s(), 0.001))
            except TimeoutError:
                continue

    def _hand_over(self, place: int) -> None:
        """Put what a vehicle has measured since its last batch into its journal."""
        made = self.fleet.batch(place, self._made[place])
        if made is None:
            return
        self._made[place] = self.fleet.steps
        self._append(place, made)

    def _append(self, place: int, made: tuple[Batch, int]) -> None:
        self._made_points += made[1]
        self.agents[place].journal.append([made])
        self.agents[place].wake()

    def cut(self, vehicle_id: str, for_s: float) -> bool:
        """Take a vehicle off the air for a while; False when it is not one of ours."""
        place = self._places.get(vehicle_id)
        if place is not None:
            self.agents[place].cut(for_s)
        return place is not None

    def plug(self, vehicle_id: str, *, is_in: bool) -> bool:
        """The driver plugs a vehicle in, as soon as it stands, or drives off with it; False when it is not one of ours."""
        place = self._places.get(vehicle_id)
        if place is not None:
            (self.fleet.controls.plug if is_in else self.fleet.controls.unplug)(place)
        return place is not None

    def totals(self) -> Totals:
        counters = [agent.counters for agent in self.agents]
        acknowledged = sum(counter.acknowledged for counter in counters)
        latencies = sorted(self._latencies_s)
        return Totals(
            vehicles=len(self.agents),
            connected=sum(agent.is_connected for agent in self.agents),
            made_points=self._made_points,
            sent_batches=sum(counter.sent for counter in counters),
            acknowledged_batches=acknowledged,
            acknowledged_points=sum(counter.acknowledged_points for counter in counters),
            waiting_batches=sum(agent.journal.waiting_bytes > 0 for agent in self.agents),
            resent_batches=sum(counter.asked_again for counter in counters),
            set_aside=sum(counter.set_aside for counter in counters),
            dropped_points=sum(agent.journal.dropped_points for agent in self.agents),
            ack_p50_ms=1000 * latencies[len(latencies) // 2] if latencies else 0.0,
            ack_p99_ms=1000 * latencies[len(latencies) * 99 // 100] if latencies else 0.0,
            problem=next((counter.last_problem for counter in counters if counter.last_problem), ""),
        )

    def ledger(self) -> Ledger:
        return Ledger(
            tuple(self._line(seat, agent) for seat, agent in zip(self._order.seats, self.agents, strict=True))
        )

    def _line(self, seat: Seat, agent: Agent) -> LedgerLine:
        agent.settle()
        journal = agent.journal
        return LedgerLine(
            seat.vehicle_id,
            f"{journal.epoch:016x}",
            journal.next_sequence - 1,
            journal.acknowledged_batches,
            journal.acknowledged_points,
            tuple(entry.sequence for entry in journal.waiting(0, 10_000)),
            tuple(sorted(journal.aside())),
        )


def _signers(seat: Seat) -> SignerCache:
    """All vehicles of a process trust the same issuers: those beside the first one's identity."""
    live = LiveIssuers(Path(seat.identity))
    return SignerCache(lambda: live.table)


async def _serve(order: Order, reader: asyncio.StreamReader) -> None:
    convoy = Convoy(order, build(order.town_seed), standard(), SystemClock(), SystemRandom())
    stop = asyncio.Event()
    listening = asyncio.create_task(_obey(convoy, reader, stop))
    telling = asyncio.create_task(_tell(convoy, stop))
    try:
        await convoy.run(stop)
    finally:
        listening.cancel()
        telling.cancel()
    _print(convoy.totals())
    _print(convoy.ledger())


async def _obey(convoy: Convoy, reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
    """Commands until standard input ends; its end means stop."""
    async for line in reader:
        try:
            command = msgspec.json.decode(line, type=Command)
        except msgspec.DecodeError as error:
            logging.getLogger(__name__).warning("not a command: %s", error)
            continue
        if command.cut:
            convoy.cut(command.cut, command.for_s)
        if command.plug or command.unplug:
            convoy.plug(command.plug or command.unplug, is_in=bool(command.plug))
        if command.ledger:
            _print(convoy.ledger())
        if command.stop:
            break
    stop.set()


async def _tell(convoy: Convoy, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(1)
        _print(convoy.totals())


def _print(line: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    reader = asyncio.StreamReader(limit=64 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await _serve(msgspec.json.decode(await reader.readline(), type=Order), reader)


if __name__ == "__main__":
    asyncio.run(_main())
