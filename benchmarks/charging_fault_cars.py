"""Cars for `charging_faults`: the real Executor over real SQLite, a machine that cannot be fooled, power that fails at any point.

The machine stands for the hardware: it survives the agent, and counts everything that is done to it, by command, with the true time.
Power fails inside the agent where it hurts: before and after each commit, inside transactions, before and after the machine acts.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rocade.agents.vehicle.command_book import Book, Lane
from rocade.agents.vehicle.command_check import Checker, SignerCache
from rocade.agents.vehicle.commands import DOUBT_US, Executor
from rocade.core.errors import Refused, Unavailable
from rocade.wire.commands import ACTS, Command, Condition, Report, proof, read_report


class PowerCut(BaseException):
    """The car's computer is off from here on."""


@dataclass
class Faults:
    """Probabilities, each per occasion; `quiet()` is a world without any."""

    cut: float = 0.004
    """At each of the places where the car's power may fail."""
    lost: float = 0.2
    doubled: float = 0.15
    slow: float = 0.1
    """Messages that take minutes, so that later ones overtake them."""
    asleep: float = 0.15
    """Of a car being asleep when something reaches it."""
    offline: float = 0.0006
    """Of a car losing its connection, each step."""
    hub: float = 0.04
    """Of the hub being killed in the middle of its work, each step."""
    database: float = 0.003
    """Of all database connections being cut, each step."""
    busy: float = 0.02
    """Of the machine saying: not now."""

    @classmethod
    def quiet(cls) -> Faults:
        return cls(**dict.fromkeys(cls.__dataclass_fields__, 0.0))


@dataclass
class Truth:
    """What really happened, whatever anybody says; by command id."""

    orders: dict[str, Command] = field(default_factory=dict)
    """Every command that a car was given, as it was signed."""
    calls: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    expired: list[str] = field(default_factory=list)
    """Begun at or after the deadline, by the true time."""
    disordered: list[str] = field(default_factory=list)
    """Done after a newer one of its lane."""
    cuts: int = 0
    messages: int = 0


class Machine:
    """The hardware. `remembers`: keeps the version of what it did last in each lane, as the better ones do."""

    def __init__(self, world: Surroundings, *, remembers: bool) -> None:
        self._world, self.remembers = world, remembers
        self.states: dict[str, Command] = {}
        """The last command of each lane."""
        self.is_new = False
        """Something changed that telemetry has not told yet."""
        self.asleep = False
        self._wakes_us = 0

    def fall_asleep(self) -> None:
        self.asleep, self._wakes_us = True, 0

    def is_awake(self) -> bool:
        now_us = self._world.now_us()
        if self.asleep and not self._wakes_us:
            long = self._world.random.random() < 0.1
            self._wakes_us = now_us + int(self._world.random.uniform(3e6, 8e6) * (40 if long else 1))
        if self.asleep and now_us < self._wakes_us:
            return False
        self.asleep = False
        return True

    def done(self, lane: str) -> int | None:
        if not self.remembers:
            return None
        return self.states[lane].version if lane in self.states else 0

    def apply(self, command: Command) -> None:
        world, truth = self._world, self._world.truth
        if world.random.random() < world.faults.busy:
            raise Unavailable("command.vehicle.busy", "not now")
        if command.act == "charge.start" and int(command.id, 16) % 20 == 0:
            raise Refused("command.vehicle.unplugged", "no cable")
        world.perhaps_cut()
        before = self.states.get(command.lane)
        if before is not None and before.version > command.version:
            truth.disordered.append(command.id)
        if world.now_us() >= command.expires_us:
            truth.expired.append(command.id)
        is_same = before is not None and (before.act, before.parameters) == (command.act, command.parameters)
        truth.calls[command.id] += 1
        truth.effects[command.id] += not (is_same and ACTS[command.act].is_goal)
        self.states[command.lane] = command
        self.is_new = True
        world.perhaps_cut()

    def shows(self) -> list[Condition]:
        """What telemetry says of the state that the last commands left."""
        return [one for command in self.states.values() for one in proof(command.act, command.parameters)]


class FailingBook(Book):
    """The real book, on a car whose power may fail around and inside its transactions."""

    def __init__(self, connection: sqlite3.Connection, world: Surroundings) -> None:
        self._world = world
        super().__init__(connection)

    def put(self, lane: Lane, reports: Sequence[Report]) -> None:
        self._world.perhaps_cut()
        super().put(lane, reports)
        self._world.perhaps_cut()

    def owe(self, report: Report) -> None:
        super().owe(report)
        self._world.perhaps_cut()

    def _owe(self, reports: Sequence[Report]) -> None:
        super()._owe(reports)
        self._world.perhaps_cut()


class Car:
    """A vehicle with its disk, its machine, its own clock and its connection; the agent comes and goes."""

    def __init__(
        self, world: Surroundings, ref: int, vehicle_id: str, signers: SignerCache, *, remembers: bool
    ) -> None:
        self.world, self.ref, self.vehicle_id = world, ref, vehicle_id
        self.machine = Machine(world, remembers=remembers)
        self.skew_us = int(world.random.uniform(-0.95, 0.95) * DOUBT_US)
        self.is_online, self.is_on = True, False
        self.sent_us: dict[int, int] = {}
        """When each report that is owed was sent last over this connection."""
        self._signers = signers
        self._disk = sqlite3.connect(":memory:", isolation_level=None)

    def now_us(self) -> int:
        return self.world.now_us() + self.skew_us

    def monotonic_s(self) -> float:
        return self.now_us() / 1e6

    def start(self) -> None:
        """Power comes back: what was not committed is gone, nothing else is."""
        if self._disk.in_transaction:
            self._disk.execute("ROLLBACK")
        self.is_on = True
        self.sent_us.clear()
        checker = Checker(self.vehicle_id, self._signers)
        self.executor = Executor(FailingBook(self._disk, self.world), checker, self.machine, self)
        self.do(self.executor.tick)

    def do(self, act: Callable[[], None]) -> bool:
        """Let the agent do something; False when its power failed meanwhile."""
        try:
            act()
        except PowerCut:
            self.world.truth.cuts += 1
            self.is_on = False
            self.sent_us.clear()
            self.world.call(self, "start", self.world.random.uniform(1, 90))
            return False
        if self.executor.due_us is not None:
            self.world.call(self, "tick", max(self.executor.due_us - self.now_us(), 0) / 1e6 + 0.01)
        return True

    def owed(self, again_us: int) -> list[tuple[int, bytes]]:
        """Reports that are to be sent now: never sent over this connection, or so long ago without an answer."""
        if not (self.is_on and self.is_online):
            return []
        now_us = self.world.now_us()
        found = [
            (number, body)
            for number, body in self.executor.book.owed(0, 50)
            if self.sent_us.get(number, -again_us) <= now_us - again_us
        ]
        self.sent_us.update((number, now_us) for number, _ in found)
        return found

    def owes(self) -> list[Report]:
        return [read_report(body) for _, body in self.executor.book.owed(0, 1000)]


class Surroundings:
    """What cars need of the world they are in; `charging_fault_world.World` is it."""

    random: random.Random
    faults: Faults
    truth: Truth

    def now_us(self) -> int:
        raise NotImplementedError

    def call(self, car: Car, what: str, after_s: float) -> None:
        raise NotImplementedError

    def perhaps_cut(self) -> None:
        if self.random.random() < self.faults.cut:
            raise PowerCut
