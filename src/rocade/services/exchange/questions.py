"""`up/ask`: what a party wants to know again. Answered on its line, not by its acknowledgement.

`{"want": "replay", "after": cursor}` its log from there on, and then everything new; `{"want": "receipts", "ids": [...]}` the receipts of its messages;
`{"want": "revocations"}`, `{"want": "signers"}`, and what other services answer: `heads`, `epochs` (`on(want, answer)`).
Answers are made beside the road of messages, a bounded number at once, so that questions never hold receipts up.
Refuses: anything else (`exchange.ask`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from rocade.core.errors import Refused, RocadeError
from rocade.services.exchange import errors
from rocade.services.exchange.line import Line
from rocade.services.exchange.model import Upward, Verdict, party_of
from rocade.wire.exchange import UNREADABLE

AT_ONCE = 8
MOST_WAITING = 20_000
_log = logging.getLogger(__name__)


class Question(msgspec.Struct, frozen=True):
    """Shape: `want` and what belongs to it."""

    want: str
    after: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    ids: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=64)] = ()
    lists: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=64)] = ()


type Answering = Callable[[str, Question], Awaitable[Sequence[tuple[str, bytes]]]]
"""(party, question) -> (tail, body) to send down."""


class Questions:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._answers: dict[str, Answering] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def on(self, want: str, answer: Answering) -> None:
        self._answers[want] = answer

    async def take(self, batch: Sequence[Upward]) -> list[Verdict]:
        """The handler of `up/ask`."""
        verdicts: list[Verdict] = []
        for upward in batch:
            try:
                question = msgspec.json.decode(upward.body, type=Question)
            except UNREADABLE:
                question = Question("")
            answer = self._answers.get(question.want)
            if answer is None or len(self._tasks) >= MOST_WAITING:
                verdicts.append(errors.bad_question() if answer is None else errors.flood())
                continue
            task = asyncio.create_task(self._answer(party_of(upward.identity), question, answer), name="answer")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            verdicts.append(None)
        return verdicts

    async def _answer(self, party: str, question: Question, answer: Answering) -> None:
        async with self._free:
            try:
                for tail, body in await answer(party, question):
                    self._line.send(party, tail, body)
            except Refused as refusal:
                self.notice(party, refusal)
            except RocadeError as error:
                _log.warning("a question for %s could not be answered: %s", question.want, error.code)
                self.notice(party, error)
            except Exception:
                _log.exception("a question for %s could not be answered", question.want)

    def notice(self, party: str, error: RocadeError) -> None:
        """Tell a party something in words: `down/notice`."""
        self._line.send(party, "notice", msgspec.json.encode({"code": error.code, "text": error.message}))
