"""Readers of this hub: services that take the messages routed to them (`local/<name>`), each exactly one process at a time.

Flow: whoever gets the reader's lock reads its log behind its durable cursor -> `work(entries)` -> the cursor moves. A crash in between hands
the same entries out again: decisions are taken once, so a message has one effect. `LocalService` is the reader that hands whole messages to a
handler and records what it decides; a handler that says None for a message decides later (`Exchange.decide`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import msgspec

from rocade.core.errors import RocadeError
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.exchange import ledger
from rocade.services.exchange.ledger import Entry
from rocade.services.exchange.model import MESSAGE_ENTRY, Judgement, Verdict
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.identity.envelope import payload_of
from rocade.wire.exchange import Message, read_message
from rocade.wire.exchange.messages import FORWARDED, Outcome

PAGE = 200
POLL_S = 2.0
RETRY_S = 1.0
_log = logging.getLogger(__name__)


class Inbound(msgspec.Struct, frozen=True):
    """A message for a service of this hub. `message` is the sender's own where another hub handed it on."""

    number: int
    party: str
    message: Message
    sha: bytes
    recorded_us: int


class Answered(msgspec.Struct, frozen=True):
    outcome: Outcome
    code: str = ""
    reason: str = ""


type Serving = Callable[[Sequence[Inbound]], Awaitable[Sequence[Answered | None]]]
type Judging = Callable[[Sequence[Judgement]], Awaitable[Sequence[Verdict]]]
type Working = Callable[[Sequence[Entry], int], Awaitable[int]]
"""(entries, sequence) -> sequence: work through entries; the number counts what was handed on."""


async def read_for_ever(
    database: Database, reader: str, work: Working, *, idle: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Hand a reader's log to `work`, in order, for ever; other processes wait for the lock. `idle` is called when it is through."""
    wake = asyncio.Event()
    while True:
        try:
            connection = await asyncpg.connect(database.url, timeout=10)
            try:
                await connection.add_listener(ledger.CHANNEL, lambda *_: wake.set())
                if await ledger.take_reader(connection, reader):
                    await _read(connection, Columns(database), reader, work, wake, idle)
            finally:
                connection.terminate()
        except (RocadeError, TimeoutError, *DOWN, asyncpg.PostgresError) as error:
            _log.warning("%s stops for a moment: %s", reader, error)
        except Exception:
            _log.exception("%s failed; it goes on from where it was", reader)
        await asyncio.sleep(RETRY_S)


async def _read(
    connection: asyncpg.Connection, columns: Columns, reader: str, work: Working, wake: asyncio.Event,
    idle: Callable[[], Awaitable[None]] | None,
) -> None:  # fmt: skip
    cursor, sequence = await ledger.read_cursor(connection, reader)
    while True:
        wake.clear()
        entries = await ledger.read_log(connection, columns, [(reader, cursor)], PAGE)
        if entries:
            sequence = await work(entries, sequence)
            cursor = entries[-1].number
            await ledger.write_cursor(connection, reader, cursor, sequence)
        if len(entries) < PAGE:
            if idle is not None:
                await idle()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), POLL_S)


class LocalService:
    """`work` for a reader `local/<name>`."""

    def __init__(self, name: str, serving: Serving, judge: Judging) -> None:
        self.reader = f"local/{name}"
        self._serving = serving
        self._judge = judge

    async def run(self, database: Database) -> None:
        await read_for_ever(database, self.reader, self._work)

    async def _work(self, entries: Sequence[Entry], sequence: int) -> int:
        inbound = [
            Inbound(one.message, one.sender, message_of(one.envelope), one.sha, one.recorded_us)
            for one in entries
            if one.kind == MESSAGE_ENTRY and one.envelope is not None
        ]
        if inbound:
            ids = {one.message: one.id for one in entries}
            answered = await self._serving(inbound)
            judgements = [
                Judgement(one.party, ids[one.number], one.sha, self.reader, said.outcome, said.code, said.reason)
                for one, said in zip(inbound, answered, strict=True)
                if said is not None
            ]
            if judgements:
                await self._judge(judgements)
        return sequence + len(inbound)


def message_of(envelope: bytes) -> Message:
    """The business message in an envelope that was checked when it was recorded; the inner one if it was handed on.

    Raises: Refused `trust.envelope.malformed`, `exchange.message.malformed`.
    """
    message = read_message(payload_of(envelope))
    return message_of(message.body) if message.content_type == FORWARDED else message
