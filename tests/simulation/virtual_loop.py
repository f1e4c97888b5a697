"""An event loop whose time is a number: nothing waits, what is next happens next, and the same seed does the same again.

Flow: asyncio's own loop asks its selector how long to sleep; ours sleeps no time and moves the clock instead. Connections
are the network's (`network.py`), threads do not exist: what was to run in one runs at once.
Refuses: waiting for nothing (`Standstill`): every party waits and no timer is set.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

BEGIN_US = 1_790_000_000_000_000
"""Wall clock of every world's first moment."""


class Standstill(RuntimeError):
    """Everybody waits for somebody else."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Set `connect` to what opens a connection; `trace` is a running checksum of everything that was noted."""

    connect: Callable[[Callable[[], asyncio.Protocol], str, int], Any]

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._clock_resolution = 1e-9
        self._selector = self
        self.trace = 0
        self.failures: list[str] = []
        self.set_exception_handler(lambda _, facts: self.failures.append(_say(facts)))

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """asyncio's question how long to wait for sockets; there are none."""
        if timeout is None:
            raise Standstill("nobody has anything to do and no timer is set")
        self._now_s += timeout
        return []

    def note(self, *what: object) -> None:
        """Add to the trace that tells two runs apart."""
        self.trace = zlib.crc32(repr((round(self._now_s, 6), what)).encode(), self.trace)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]  # ours needs no thread
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.connect(protocol_factory, host, port)

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _say(facts: dict[str, Any]) -> str:
    error = facts.get("exception")
    return f"{facts.get('message')}: {type(error).__name__}: {error}" if error else str(facts.get("message"))


class VirtualClock:
    """What one party believes the time to be; `offset_us` is its error."""

    def __init__(self, loop: VirtualLoop, offset_us: int = 0) -> None:
        self._loop, self.offset_us = loop, offset_us

    def now_us(self) -> int:
        return BEGIN_US + round(self._loop.time() * 1e6) + self.offset_us

    def monotonic_s(self) -> float:
        return self._loop.time()


class Dice(Random):
    """Seeded randomness in both forms: Python's for the world, `core.ports.Random` for the code under test."""

    def bits(self, count: int) -> int:
        return self.getrandbits(count)

    def uniform(self) -> float:
        return self.random()

    def happens(self, chance: float) -> bool:
        return self.random() < chance


class Process:
    """One operating system process. `kill` ends it as kill -9 does: whatever it waits for outside never comes back to it."""

    def __init__(self, loop: VirtualLoop, dice: Dice) -> None:
        self._loop, self._dice = loop, dice
        self.is_alive = True
        self.is_slow = False
        self.tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Any) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self.tasks.append(task)
        return task

    def kill(self) -> None:
        self.is_alive = False

    async def reach(self, most_s: float = 0.01) -> None:
        """One way to something outside, or back; a dead process stays on it for ever."""
        wait_s = self._dice.random() * most_s
        if self.is_slow and self._dice.happens(0.3):
            wait_s += self._dice.random() * 20
        await asyncio.sleep(wait_s)
        if not self.is_alive:
            await self._loop.create_future()
