"""A vehicle: the real journal and the real agent, a computer that loses power, a disk that fills up, a clock that is wrong.

`diary` is what the vehicle says it measured, `acknowledged` what the hub told it that it has: the judge compares both with
what the hub really holds.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from typing import Any
from unittest import mock

import numpy as np
from virtual_loop import Dice, VirtualClock, VirtualLoop

from rocade.agents.link import Backoff
from rocade.agents.vehicle import journal as journals
from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.journal import Journal, Limits
from rocade.core.errors import Unavailable
from rocade.wire.batch import Batch, Clock, Column

SIGNALS = (1, 2, 3)
"""Set by the world to signals of the catalogue."""

type Sample = tuple[int, int, float]
"""(signal, time_us, value)."""


class _Agent(Agent):
    """Keeps what was acknowledged to it, before anything can be lost."""

    car: Car

    def acknowledged(self, sequence: int) -> None:
        points, _ = self._sent.get(sequence, (0, 0.0))
        if sequence > 0 and points:  # an empty batch only says that its number was dropped
            self.car.acknowledged.add((self.journal.epoch, sequence))
        super().acknowledged(sequence)


class Car:
    def __init__(self, loop: VirtualLoop, dice: Dice, number: int, ref: int, signals: Iterable[int]) -> None:
        self.number, self.ref, self.id = number, ref, f"CAR-{number}"
        self.diary: dict[tuple[int, int], list[Sample]] = {}
        self.acknowledged: set[tuple[int, int]] = set()
        self.lost_epochs: set[int] = set()
        self._loop, self._dice = loop, dice
        self._signals = tuple(signals)
        self._clock = VirtualClock(loop, dice.choice((0, 0, 0, -40_000_000, 7_000_000)))
        self._limits = dice.choice((Limits(), Limits(), Limits(waiting_bytes=2_000, kept_bytes=500, kept_age_s=30)))
        self._past_per_s = dice.choice((float("inf"), float("inf"), 2.0))
        self._made = 0
        self._durable = b""
        self.problems: list[str] = []
        self.journal = Journal(None, self._clock, dice, self._limits)
        self._start()

    def drive(self) -> None:
        """Measure something, write it into the journal, wake the agent. A full disk leaves it for later."""
        self._made += 1
        now_us = self._clock.now_us() // 1000 * 1000 + self._made % 1000  # no instant twice, whatever the clock does
        rows = self._dice.choice((1, 1, 3, 10))
        clock = Clock(now_us + np.arange(rows, dtype=np.int64) * 100_000)
        chosen = self._signals[: self._dice.randrange(1, len(self._signals) + 1)]
        values = [np.array([self._dice.randrange(0, 900) / 10 for _ in range(rows)]) for _ in chosen]
        columns = [Column(signal, 0, some, decimals=1) for signal, some in zip(chosen, values, strict=True)]
        batch = Batch(0, 0, 0, [clock], columns)
        try:
            (sequence,) = self.journal.append([(batch, rows * len(chosen))])
        except Unavailable:
            return
        self._durable = self.journal.connection.serialize()
        self.diary[self.journal.epoch, sequence] = [
            (signal, int(time_us), float(value))
            for signal, some in zip(chosen, values, strict=True)
            for time_us, value in zip(clock.times_us.tolist(), some.tolist(), strict=True)
        ]
        self.agent.wake()

    def crash(self, *, loses_marks: bool) -> None:
        """Kill the program and start it again; with the power went what was written without a flush."""
        image = self._durable if loses_marks and self._durable else self.journal.connection.serialize()
        self._end()
        disk = sqlite3.connect(":memory:", isolation_level=None)
        disk.deserialize(image)
        with mock.patch.object(journals.sqlite3, "connect", return_value=disk):
            self.journal = Journal(None, self._clock, self._dice, self._limits)
        self._start()

    def lose_journal(self) -> None:
        """A new disk: what was not acknowledged is gone with the old one, and a new epoch begins."""
        self.lost_epochs.add(self.journal.epoch)
        self._end()
        self._durable = b""
        self.journal = Journal(None, self._clock, self._dice, self._limits)
        self._start()

    def fill_disk(self) -> None:
        self.journal.connection.execute("PRAGMA max_page_count = 1")

    def free_disk(self) -> None:
        self.journal.connection.execute("PRAGMA max_page_count = 1000000")

    def step_clock(self, by_us: int) -> None:
        self._clock.offset_us += by_us

    def cut(self) -> None:
        self.agent.cut(self._dice.random() * 3)

    @property
    def is_done(self) -> bool:
        return not self.journal.count_waiting()

    def _start(self) -> None:
        self.agent = _Agent(
            self.id, "hub", self.number, self.journal, lambda: None, self._clock, self._dice,
            window=self._dice.choice((1, 4, 10)), backoff=Backoff(most_s=20.0), past_per_s=self._past_per_s,
        )  # fmt: skip
        self.agent.car = self
        self._task: asyncio.Task[Any] = self._loop.create_task(self.agent.run())
        self._task.add_done_callback(self._look_at)

    def _look_at(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception():
            self.problems.append(f"the agent ended by itself: {task.exception()!r}")

    def _end(self) -> None:
        link = self.agent._link
        if link is not None:
            link.abort()
        self._task.cancel()
        self.agent._link = None
