"""Group commit: messages of one tick go to the handler together, their answers leave after it returned.

Flow: `add` collects -> a tick of 2 to 20 ms (half of what the last commit took) -> `Handler.accept`, one at a time, while the
next tick collects -> every session gets its answer. While the database is away the tick is held for `hold_s`, then each station is
told to send again (OCPP stations repeat what matters). A message that breaks the handler is tried alone, so that it costs the
others nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from rocade.core.errors import Unavailable
from rocade.core.latency import Histogram
from rocade.core.ports import Clock
from rocade.doors.ocpp.contract import Answer, Asked, Handler, Problem, Settings

_log = logging.getLogger(__name__)
_BACK_OFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
AGAIN = Problem("InternalError", "ocpp.unavailable", "not stored; send it again later")
BROKEN = Problem("InternalError", "ocpp.unforeseen", "this message could not be worked on; the log has it")


class Owner(Protocol):
    def answer(self, answer: Answer) -> None: ...


class GroupCommit:
    def __init__(self, handler: Handler, settings: Settings, clock: Clock) -> None:
        self._handler, self._settings, self._clock = handler, settings, clock
        self._asked: list[Asked] = []
        self._owners: list[Owner] = []
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tick_us = settings.tick_min_ms * 1000
        self.ticks = self.answered = self.retries = 0
        self.latency = Histogram()

    def add(self, owner: Owner, asked: Asked) -> None:
        if not self._asked:
            self._waiting.set()
            self._idle.clear()
        self._asked.append(asked)
        self._owners.append(owner)

    async def run(self) -> None:
        """Commit tick after tick until cancelled."""
        while True:
            await self._waiting.wait()
            wait_us = self._asked[0].arrived_us + self._tick_us - self._clock.now_us()
            if wait_us > 0:
                await asyncio.sleep(min(wait_us, self._tick_us) / 1e6)
            asked, owners = self._asked, self._owners
            self._asked, self._owners = [], []
            self._waiting.clear()
            began_us = self._clock.now_us()
            answers = await self._accept(asked)
            now_us = self._clock.now_us()
            most_us = self._settings.tick_max_ms * 1000
            self._tick_us = min(max((now_us - began_us) / 2, self._settings.tick_min_ms * 1000), most_us)
            self.ticks += 1
            self.answered += len(asked)
            for owner, one, answer in zip(owners, asked, answers, strict=True):
                self.latency.add(now_us - one.arrived_us)
                owner.answer(answer)
            if not self._asked:
                self._idle.set()

    async def settled(self) -> None:
        """Return when everything added so far has its answer."""
        await self._idle.wait()

    async def _accept(self, asked: list[Asked]) -> Sequence[Answer]:
        ends_s = self._clock.monotonic_s() + self._settings.hold_s
        for attempt in range(1 << 30):
            try:
                return await self._handler.accept(asked)
            except Unavailable as error:
                if self._clock.monotonic_s() >= ends_s:
                    _log.error("stations are told to send again: %s", error.code)
                    return [AGAIN] * len(asked)
                if not attempt:
                    _log.warning("messages of stations are held until it is back: %s", error.code)
                self.retries += 1
                await asyncio.sleep(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
            except Exception:
                if len(asked) == 1:
                    _log.exception("a message could not be worked on: %s", asked[0].action)
                    return [BROKEN]
                return [(await self._accept([one]))[0] for one in asked]
        raise AssertionError
