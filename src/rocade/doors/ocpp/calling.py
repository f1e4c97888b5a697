"""Our calls to one station: queued, sent one at a time as OCPP demands, each answered, refused or given up after its time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.doors.ocpp import frames, schemas
from rocade.doors.ocpp.contract import Settings, Version

type Answered = asyncio.Future[dict[str, Any]]


class Calls:
    """`send` puts text on the line; `over` is called when the line is."""

    def __init__(self, send: Callable[[bytes], None], settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._send, self._settings, self._loop = send, settings, loop
        self._waiting: deque[tuple[bytes, str, str, Answered]] = deque()
        self._running: tuple[str, str, Answered] | None = None
        self._until: asyncio.TimerHandle | None = None
        self._number = 0
        self._is_over = False

    async def call(self, version: Version, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask the station; its answer, valid by the schema.

        Raises: Unavailable `ocpp.station.gone`, `ocpp.station.silent`, `ocpp.station.busy`; Refused `ocpp.station.error`
        (facts: kind), `ocpp.station.invalid`; ValueError for a payload that is ours to mend.
        """
        problem = schemas.check_call(version, action, payload)
        if problem is not None:
            raise ValueError(f"{action}: {problem.text}")
        if self._is_over:
            raise _gone()
        if len(self._waiting) >= self._settings.max_calls:
            raise Unavailable("ocpp.station.busy", "too many calls wait for this station")
        self._number += 1
        id = f"r{self._number:x}"
        answer: Answered = self._loop.create_future()
        self._waiting.append((frames.write_call(id, action, payload), id, action, answer))
        self._next()
        return await answer

    def answered(self, version: Version, message: frames.Result | frames.Error) -> bool:
        """Take what the station said; False if nobody asked."""
        if self._running is None or self._running[0] != message.id:
            return False
        if isinstance(message, frames.Error):
            self._settle(Refused("ocpp.station.error", f"the station answered {message.kind}", kind=message.kind))
            return True
        problem = schemas.check_answer(version, self._running[1], message.payload)
        if problem is not None:
            self._settle(Refused("ocpp.station.invalid", f"the station's answer is not valid: {problem.text}"))
            return True
        self._settle(message.payload)
        return True

    def over(self) -> None:
        self._is_over = True
        waiting, self._waiting = list(self._waiting), deque()
        self._settle(_gone())
        for *_, answer in waiting:
            if not answer.done():
                answer.set_exception(_gone())

    def _next(self) -> None:
        while self._running is None and self._waiting:
            text, id, action, answer = self._waiting.popleft()
            if answer.done():  # its asker has given up
                continue
            self._running = id, action, answer
            self._until = self._loop.call_later(self._settings.call_s, self._silent)
            self._send(text)

    def _silent(self) -> None:
        self._settle(Unavailable("ocpp.station.silent", "the station did not answer in time"))

    def _settle(self, outcome: dict[str, Any] | RocadeError) -> None:
        if self._running is None:
            return
        (_, _, answer), self._running = self._running, None
        if self._until:
            self._until.cancel()
        if not answer.done():
            if isinstance(outcome, RocadeError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
        self._next()


def _gone() -> Unavailable:
    return Unavailable("ocpp.station.gone", "the station is not connected any more")
