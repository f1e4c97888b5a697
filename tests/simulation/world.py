"""One world: vehicles, network, gateways, workers, and everything that goes wrong, from one seed.

    live(seed, vehicles) -> World     raises Broken with what is wrong and how to see it again

Flow: a time of trouble (vehicles measure, connections die, processes are killed, engines fail before and after the act)
-> calm (every process lives, the network is good) -> everybody has said everything -> `judge`: what was acknowledged is in
the history exactly once, nothing is there that nobody measured, each twin holds the newest value, no number is missing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from car import Car
from engines import Disk, MemoryKeys, MemoryPool
from hub import Claims, Gateway, Registry, WorkerProcess
from network import Network
from virtual_loop import BEGIN_US, Dice, Process, VirtualClock, VirtualLoop

from rocade.core import catalogue
from rocade.core.identifiers import VehicleRef
from rocade.services.telemetry.chunks import samples_of
from rocade.services.vehicles import Vehicle, twin

NAMES = ("Vehicle.Speed", "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", "Vehicle.TraveledDistance")
TROUBLE_S = (20.0, 60.0, 120.0)
PATIENCE_S = 2 * 86_400.0
"""Of virtual time, for calm to come: gaps are asked for again after six hours at the latest."""


class Broken(AssertionError):
    """A promise was not kept in this world."""


class World:
    def __init__(self, seed: int, vehicles: int) -> None:
        self.seed, self.size = seed, vehicles
        self.loop = VirtualLoop()
        self.dice = Dice(seed)
        self.clock = VirtualClock(self.loop)
        self.disk = Disk(self.loop, Dice(seed + 1), self.clock)
        self.network = Network(self.loop, Dice(seed + 2))
        self.claims = Claims(self.loop)
        self.catalogue = catalogue.standard()
        signals = [int(found.signal.id) for name in NAMES if (found := self.catalogue.find(name, ""))]
        refs = [VehicleRef(self.dice.bits(63) or 1) for _ in range(vehicles)]
        self.registry = Registry(
            Vehicle(ref, f"CAR-{number}", "car", "", "", "electric", "eu", "", 0, 0) for number, ref in enumerate(refs)
        )
        self._plan = [(number, ref, signals) for number, ref in enumerate(refs)]
        self.process = Process(self.loop, Dice(seed + 3))
        self.cars: list[Car] = []
        self.workers: list[WorkerProcess] = []
        self.kills = self.crashes = 0
        self._dead: list[Any] = []
        """What was killed is kept: a hung call of it must not be tidied up before the end."""

    async def live(self) -> None:
        """Trouble, then calm."""
        for _ in range(self.dice.choice((1, 2, 2))):
            self._add_gateway()
        for _ in range(self.dice.choice((1, 2, 2))):
            self._add_worker()
        self.cars = [
            Car(self.loop, Dice(self.seed * 1000 + number), number, ref, some) for number, ref, some in self._plan
        ]
        trouble_s = self.dice.choice(TROUBLE_S)
        rounds = self.dice.choice((4, 8))
        parts = [self._drive(car, rounds, trouble_s / rounds) for car in self.cars]
        await asyncio.gather(*parts, self._break_things(trouble_s))
        self._calm()
        until_s = self.loop.time() + PATIENCE_S
        while not self._is_settled():
            if self.loop.time() > until_s:
                raise Broken(f"no calm after {PATIENCE_S / 86_400:.0f} days: {self._what_waits()}")
            await asyncio.sleep(5.0 if self.loop.time() < until_s - PATIENCE_S * 0.99 else 600.0)

    async def _drive(self, car: Car, rounds: int, step_s: float) -> None:
        dice, chance = self.dice, self.dice.choice((0.0, 0.05, 0.2))
        for _ in range(rounds):
            await asyncio.sleep(dice.random() * 2 * step_s)
            car.drive()
            if not dice.happens(chance):
                continue
            match dice.randrange(7):
                case 0:
                    self.network.weather.unreachable[car.number] = self.loop.time() + dice.random() * 60
                case 1 | 2:
                    self.crashes += 1
                    car.crash(loses_marks=dice.happens(0.5))
                case 3:
                    car.lose_journal()
                case 4:
                    car.fill_disk()
                    self.loop.call_later(dice.random() * 20, car.free_disk)
                case 5:
                    car.step_clock(dice.randrange(-3_600_000_000, 3_600_000_000))
                case 6:
                    car.cut()

    async def _break_things(self, trouble_s: float) -> None:
        """Kill processes, let them crawl past their leases, start others."""
        dice = self.dice
        while self.loop.time() < trouble_s:
            await asyncio.sleep(dice.random() * 20)
            if not (self.workers and self.network.gateways):
                continue
            match dice.randrange(6):
                case 0:
                    self._kill_one(self.network.gateways, self._add_gateway)
                case 1:
                    self._kill_one(self.workers, self._add_worker)
                case 2:
                    self._process_of(self.workers).is_slow = True
                case 3:
                    self._process_of(self.network.gateways).is_slow = True
                case 4:
                    for car in dice.sample(self.cars, len(self.cars) // 2):
                        self.network.weather.unreachable[car.number] = self.loop.time() + dice.random() * 40
                case _:
                    pass

    def _process_of(self, some: list[Any]) -> Process:
        found: Process = self.dice.choice(some).process
        return found

    def _kill_one(self, some: list[Any], add: Any) -> None:
        self.kills += 1
        victim = self.dice.choice(some)
        victim.kill()
        some.remove(victim)
        self._dead.append(victim)
        self.loop.call_later(self.dice.random() * 10, add)

    def _add_gateway(self) -> None:
        number = len(self.claims.gateways) + 1
        dice = Dice(self.dice.bits(40))
        self.network.gateways.append(Gateway(self.disk, dice, self.catalogue, self.registry, self.claims, number))

    def _add_worker(self) -> None:
        self.workers.append(
            WorkerProcess(self.disk, Dice(self.dice.bits(40)), self.catalogue, self.registry, self.dice.bits(40))
        )

    def _calm(self) -> None:
        self.disk.trouble = 0.0
        self.network.weather.calm()
        for one in (*self.network.gateways, *self.workers):
            one.process.is_slow = False
        for car in self.cars:
            car.free_disk()
            car.drive()  # a vehicle with a new journal says so, and the numbers of the old one are asked for no more
        if not self.workers:
            self._add_worker()
        if not self.network.gateways:
            self._add_gateway()

    def _is_settled(self) -> bool:
        disk = self.disk
        if any(len(records) > disk.positions.get(place, 0) for place, records in disk.log.items()) or disk.blocks:
            return False
        return all(car.is_done for car in self.cars) and not self._missing()

    def _missing(self) -> int:
        return sum(row[4] for row, _, _ in self.disk.numbers.values() if row[7] is None)

    def _what_waits(self) -> str:
        waiting = [car.number for car in self.cars if not car.is_done]
        problems = [problem for car in self.cars for problem in car.problems]
        return f"vehicles {waiting[:5]} wait, {len(self.disk.blocks)} blocks pending, {self._missing()} missing {problems[:3]}"

    def judge(self) -> None:
        """Raises: Broken."""
        stored = self._stored()
        allowed, owed = Counter[tuple[int, int, int, float]](), Counter[tuple[int, int, int, float]]()
        for car in self.cars:
            for key, samples in car.diary.items():
                found = [(car.ref, *sample) for sample in samples]
                allowed.update(found)
                if key in car.acknowledged:
                    owed.update(found)
        self._refuse("was acknowledged and is not in the history", owed - stored)
        self._refuse("is in the history more often than it was measured", stored - allowed)
        self._refuse_text("history was given other rows under a token it knew", self.disk.repeated)
        self._refuse_text("was held in quarantine", [f"{one.reason} of {one.ref}" for one in self.disk.held])
        self._refuse_text("broke in the event loop", self.loop.failures)
        self._refuse_text("gave up", [problem for car in self.cars for problem in car.problems])
        self._judge_twins(stored)

    def _stored(self) -> Counter[tuple[int, int, int, float]]:
        if not self.disk.history:
            return Counter()
        rows = pa.concat_tables(self.disk.history.values())
        samples = samples_of(rows)
        refs = rows.column("vehicle").to_numpy()[samples.row].tolist()
        signals = rows.column("signal").to_numpy()[samples.row].tolist()
        values = np.round(samples.value.astype(np.float64), 3).tolist()
        return Counter(zip(refs, signals, samples.time_us.tolist(), values, strict=True))

    def _judge_twins(self, stored: Counter[tuple[int, int, int, float]]) -> None:
        newest: dict[tuple[int, int], tuple[int, float]] = {}
        for ref, signal, time_us, value in stored:
            newest[ref, signal] = max(newest.get((ref, signal), (0, 0.0)), (time_us, value))
        pool, keys = MemoryPool(self.disk, self.process), MemoryKeys(self.disk, self.process)
        rows = self.loop.run_until_complete(twin.packed(pool, keys, list(self.disk.twins)))
        held = {
            (ref, signal): (value.time_us, round(float(value.value), 3))
            for ref, (row, _) in rows.items()
            for signal, value in twin.values_of(row).items()
        }
        wrong = [key for key in newest.keys() | held.keys() if newest.get(key) != held.get(key)]
        self._refuse_text(
            "is not the newest value in a twin",
            [f"{key}: {held.get(key)}, not {newest.get(key)}" for key in sorted(wrong)],
        )

    def _refuse(self, what: str, found: Counter[tuple[int, int, int, float]]) -> None:
        by_ref = {car.ref: car.number for car in self.cars}
        self._refuse_text(
            what,
            [
                f"vehicle {by_ref[ref]} signal {signal} at +{(at_us - BEGIN_US) / 1e6:.6f} s = {value} ({many} times)"
                for (ref, signal, at_us, value), many in sorted(found.items())
            ],
        )

    def _refuse_text(self, what: str, found: list[str]) -> None:
        if found:
            raise Broken(f"{len(found)} {what}, first: {found[0]}")

    def end(self) -> None:
        """Tidy up; what clings to life is told again."""
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.close()


def live(seed: int, vehicles: int) -> World:
    """One world from beginning to judgement. Raises: Broken, with the seed that shows it again."""
    world = World(seed, vehicles)
    asyncio.set_event_loop(None)
    try:
        world.loop.run_until_complete(world.live())
        world.judge()
    except Exception as error:
        again = f"python benchmarks/proof_simulation.py --seed {seed} --vehicles {vehicles}"
        raise Broken(f"seed {seed} with {vehicles} vehicles: {error}\nsee it again: {again}") from error
    finally:
        world.end()
    return world
