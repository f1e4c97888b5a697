"""Many callers' single look-ups become one query: what is asked for while a query runs goes into the next one.

A reader that is alone waits for nobody. Under load a query carries dozens of keys, which costs both sides a tenth of as many
queries. A caller that gives up does not disturb the others; a query that fails, fails for those who were in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping


class Gathering[K, V]:
    """`load` answers for many keys at once and leaves out what is not there; `at_once` queries may run side by side."""

    def __init__(self, load: Callable[[list[K]], Awaitable[Mapping[K, V]]], at_once: int = 2) -> None:
        self._load = load
        self._free = at_once
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """The value as of a query that begins after this call; None if there is none.

        Raises: what `load` raises.
        """
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._work(), name="gathering")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, {}
                try:
                    found = await self._load(list(asked))
                except Exception as error:
                    for answer in _open(asked):
                        answer.set_exception(error)
                    continue
                for key, answers in asked.items():
                    value = found.get(key)
                    for answer in answers:
                        if not answer.done():
                            answer.set_result(value)
        finally:
            self._free += 1


def _open[K, V](asked: Mapping[K, list[asyncio.Future[V | None]]]) -> list[asyncio.Future[V | None]]:
    return [answer for answers in asked.values() for answer in answers if not answer.done()]
