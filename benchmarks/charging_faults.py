"""Commands under fault injection: the hub's real code on a real PostgreSQL, the cars' real Executor, everything between them bad.

    python benchmarks/charging_faults.py [--full] [--runs 100000] [--seed N]

Time is faked, so that hours pass in minutes; one seed decides everything, and the same seed does it again. Messages are lost,
doubled, overtaken by minutes; cars sleep, lose their connection, have clocks that are wrong, lose power around every commit and every act; the
hub is killed before or after any statement of its transactions, its connections are cut, its signing key is replaced, its clients
repeat orders with the same key and order against each other. Then the world is quiet for an hour and what really happened is
compared with what everybody says: no effect twice, nothing begun after its deadline, nothing done out of order, nothing open,
no end that is not true. Writes nothing; `charging.py` does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from charging_fault_cars import Car, Faults
from charging_fault_world import STEP_S, World, watched
from rocade.fabric.database import Database, EmbeddedPostgres, embedded, migrate
from rocade.services.vehicles.commands import (
    Order,
    Standing,
    store,
)
from rocade.trust.authority.sealing import keyring_of
from sealed import unkeyed

ROUND_STEPS = 120
"""Each vehicle is given one command a round."""
QUIET_STEP_S, QUIET_STEPS = 30.0, 120
PACKAGES = (
    "rocade.fabric.database",
    "rocade.trust.authority",
    "rocade.trust.authority.sealing",
    "rocade.services.vehicles",
)
type Figure = dict[str, object]


class Outcome(msgspec.Struct):
    """What a run came to."""

    seed: int
    runs: int
    effects: int
    double_effects: int
    expired_starts: int
    disordered: int
    open_at_end: int
    untrue: list[str]
    """Commands of which the hub says what did not happen: `state code calls`."""
    ends: dict[str, int]
    power_cuts: int
    hub_kills: int
    messages: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        bad = self.double_effects, self.expired_starts, self.disordered, self.open_at_end, len(self.untrue)
        return not any(bad)


class Run(World):
    """A world with people who order, from beginning to end."""

    def __init__(
        self, url: str, folder: Path, seed: int, runs: int, vehicles: int, round_steps: int = ROUND_STEPS
    ) -> None:
        super().__init__(url, folder, seed, vehicles)
        self._runs, self._round_steps = runs, round_steps

    # --- the whole run ---

    def plan_round(self) -> None:
        """Each vehicle is given a command in this round, some two that contradict each other."""
        for car in self.cars.values():
            for _ in range(1 + (self.random.random() < 0.1)):
                at_us = self.clock.at_us + int(self.random.uniform(0, self._round_steps * STEP_S * 0.9) * 1e6)
                self.planned.append((at_us, next(self.numbers), car))
        self.planned.sort(reverse=True)

    def _take_orders(self) -> None:
        while self.planned and self.planned[-1][0] <= self.clock.at_us + STEP_S * 1e6:
            at_us, serial, car = self.planned.pop()
            self.to_order.append(self._draw(car, f"{serial}", at_us))

    async def run(self) -> Outcome:
        began_s = time.monotonic()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _facts: None)  # of connections that were killed
        with watched(self.at_statement):
            return await self._run(began_s)

    async def _run(self, began_s: float) -> Outcome:
        await self.open()
        while len(self.answered) < self._runs:
            self.plan_round()
            self.issue_signer()
            for _ in range(self._round_steps):
                self._take_orders()
                await self.step()
        self.faults = Faults.quiet()
        for _ in range(QUIET_STEPS):
            self._take_orders()
            await self.step(QUIET_STEP_S)
        outcome = await self._judge(time.monotonic() - began_s)
        await self.commands.close()
        await unkeyed(self.database)
        await self.database.close()
        return outcome

    def _draw(self, car: Car, key: str, now_us: int) -> Order:
        chance, uniform = self.random.random, self.random.uniform
        act, parameters = _ACTS[self.random.randrange(len(_ACTS))]
        life_s = uniform(10, 60) if chance() < 0.25 else uniform(60, 2400)
        expires_us = now_us + int((life_s + STEP_S) * 1e6)
        not_before_us = int(uniform(now_us, expires_us)) if chance() < 0.2 else 0
        by = f"person:{self.random.randrange(4):02}"
        made = parameters(self.random, expires_us)
        return Order(car.ref, act, made, by, expires_us, not_before_us, key)

    async def _judge(self, seconds: float) -> Outcome:
        truth = self.truth
        standings = await _all_standings(self.database)
        open_cars = sum(len(car.owes()) + len(car.executor.book.open_lanes()) for car in self.cars.values())
        still_open = [one for one in standings if one.is_open]
        untrue = [
            f"{one.state} {one.code} {truth.calls[one.id]} calls"
            for one in standings
            if not _is_true(one, truth.calls[one.id])
        ]
        return Outcome(
            self.seed, len(standings), sum(truth.effects.values()),
            sum(count > 1 for count in truth.effects.values()) + self._called_twice(), len(truth.expired),
            len(truth.disordered), len(still_open) + open_cars + self.keys_broken, untrue,
            dict(Counter(one.state for one in standings)), truth.cuts, self.kills, truth.messages, round(seconds, 1),
        )  # fmt: skip

    def _called_twice(self) -> int:
        """Machines that remember are asked at most once."""
        sure = {car.vehicle_id for car in self.cars.values() if car.machine.remembers}
        orders, calls = self.truth.orders, self.truth.calls
        return sum(
            count > 1 and orders[id].vehicle in sure and self.truth.effects[id] <= 1 for id, count in calls.items()
        )


def _is_true(one: Standing, calls: int) -> bool:
    """Whether what the hub says in the end can be. Superseded and silent ones may have been done; interrupted ones are unknown."""
    if one.state in ("verified", "applied"):
        return calls > 0
    if one.state in ("rejected", "expired"):
        return not calls or one.code in ("command.interrupted", "command.silent")
    return one.state == "superseded"


async def _all_standings(database: Database) -> list[Standing]:
    rows = await database.pool.fetch("SELECT id FROM command ORDER BY id")
    found: list[Standing] = []
    for at in range(0, len(rows), 5000):
        found += (
            await store.read(database.pool, keyring_of(database), [row["id"] for row in rows[at : at + 5000]])
        ).values()
    return found


def _none(_random: random.Random, _at_us: int) -> dict[str, Any]:
    return {}


_ACTS: list[tuple[str, Any]] = [
    ("charge.start", _none), ("charge.start", _none), ("charge.stop", _none), ("charge.stop", _none),
    ("charge.limit", lambda r, _: {"percent": r.randrange(20, 101)}),
    ("charge.schedule", lambda r, at: {"slots": [[at + 60_000_000, at + 3_660_000_000, round(r.uniform(2, 22), 1)]]}),
    ("charge.timer", lambda r, at: {"departure_us": at + r.randrange(10**10), "target_percent": 80}),
    ("climate.precondition", lambda _, at: {"temperature_c": 21.5, "until_us": at + 600_000_000}),
    ("climate.stop", _none), ("doors.lock", _none), ("doors.unlock", _none),
    ("attention.horn", lambda r, _: {"seconds": r.randrange(1, 5)}),
    ("attention.lights", lambda r, _: {"seconds": r.randrange(1, 5)}),
    ("location.report", _none), ("power.wake", _none),
]  # fmt: skip


def run(runs: int, seed: int, vehicles: int, url: str = "") -> Outcome:
    """A run on its own PostgreSQL, or on a migrated database."""
    with tempfile.TemporaryDirectory(prefix="rocade-faults-") as folder:
        server = None if url else EmbeddedPostgres(Path(folder) / "postgres")
        try:
            if server is not None:
                with mock.patch.dict(embedded.SETTINGS, fsync="off", full_page_writes="off"):  # it is never killed here
                    url = server.start()
                migrate(url, PACKAGES)
            return asyncio.run(Run(url, Path(folder), seed, runs, vehicles).run())
        finally:
            if server is not None:
                server.stop()


def measure(*, full: bool, seed: int | None = None, runs: int | None = None) -> list[Figure]:
    runs = runs or (100_000 if full else 3_000)
    seed = seed if seed is not None else int.from_bytes(os.urandom(4))
    print(f"seed {seed}, {runs} command runs", flush=True)
    found = run(runs, seed, min(5_000, max(50, runs // 20)))
    print(msgspec.json.encode(found).decode(), flush=True)
    facts = {"seed": seed, "runs": found.runs, "power_cuts": found.power_cuts, "hub_kills": found.hub_kills,
             "messages": found.messages, "effects": found.effects, "ends": found.ends, "seconds": found.seconds}  # fmt: skip
    rows = [("double effects", found.double_effects), ("expired starts", found.expired_starts),
            ("done after a newer one", found.disordered), ("open after an hour of quiet", found.open_at_end),
            ("ends that are not true", len(found.untrue))]  # fmt: skip
    is_whole = found.runs >= 100_000
    return [
        {"figure": f"fault-injected command runs: {name}", "value": value, "unit": f"of {found.runs}", "goal": 0,
         "met": value == 0 if is_whole or value else None, "peer": "", "peer_value": None, "ratio": None, **facts}
        for name, value in rows
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    for line in measure(full=options.full, seed=options.seed, runs=options.runs):
        print(f"{line['figure']:60} {line['value']:>6} {line['unit']}")
