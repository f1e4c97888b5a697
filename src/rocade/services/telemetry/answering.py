"""An answer of the history that no reader holds open.

While an answer is open its engine keeps one of few places for it, and every file it reads on the disk, those that an erasure has
rewritten too. So an answer whose reader takes longer than `PATIENCE_S` for what he was given is let go, and so is one older
than `ANSWER_S`; whoever asked asks again from where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

import pyarrow as pa

PATIENCE_S = 5.0
ANSWER_S = 10.0


class Answer:
    """The batches of one answer, until they end or it was let go. `aclose` when done."""

    def __init__(self, batches: AsyncIterator[pa.RecordBatch]) -> None:
        self._batches = cast("AsyncGenerator[pa.RecordBatch]", batches)
        self._loop = asyncio.get_running_loop()
        self._begun_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self.was_let_go = False

    @property
    def is_old(self) -> bool:
        return self._loop.time() - self._begun_s > ANSWER_S

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        self._stop_waiting()
        if self.was_let_go:
            raise StopAsyncIteration
        batch = await anext(self._batches)
        self._timer = self._loop.call_later(PATIENCE_S, self._let_go)
        return batch

    async def aclose(self) -> None:
        self._stop_waiting()
        if self._closing is not None:
            await self._closing
        else:
            await self._batches.aclose()

    def _let_go(self) -> None:
        self.was_let_go = True
        self._closing = self._loop.create_task(self._batches.aclose())

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
