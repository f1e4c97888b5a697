"""What has to be done now and then: roots noted that a crash left out, streams reminded of their gap, bodies past their time dropped.

A class of content has its own time of keeping. When it is over the message's envelope goes; its digest, receipts and decision stay, so that
what was receipted can still be proven by whoever kept the message himself. Logs of parties are kept `LOG_DAYS`: longer than a site may
be without its line. A message that nobody has decided keeps its body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import asyncpg
import msgspec

from rocade.core.errors import RocadeError
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.exchange import errors, ledger, store
from rocade.services.exchange.questions import Questions
from rocade.services.exchange.recording import Recorder
from rocade.wire.exchange import CLASSES

EVERY_S = 30.0
FORGET_EVERY_S = 3_600.0
LOG_DAYS = 60
GAP_WAIT_US = 60_000_000
"""A gap that stays open so long is told to its sender, again each time."""
_DAY_US = 86_400_000_000
_log = logging.getLogger(__name__)


class Keeping(msgspec.Struct, frozen=True):
    """How long messages of each class are kept, in days."""

    technical_days: float = 90.0
    customer_days: float = 365.0
    fiscal_days: float = 3_660.0


async def keep_house(
    database: Database, recorder: Recorder, questions: Questions, keeping: Keeping, clock: Clock
) -> None:
    """For ever; what fails is tried again."""
    forgot_s = clock.monotonic_s() - FORGET_EVERY_S
    while True:
        try:
            await recorder.note_missing()
            await remind(database, questions, clock.now_us())
            if clock.monotonic_s() - forgot_s >= FORGET_EVERY_S:
                forgot_s = clock.monotonic_s()
                await forget(database, keeping, clock.now_us())
        except (RocadeError, TimeoutError, *DOWN, asyncpg.PostgresError) as error:
            _log.warning("the exchange's house was not kept: %s", type(error).__name__)
        await asyncio.sleep(EVERY_S)


async def remind(database: Database, questions: Questions, now_us: int) -> Sequence[tuple[str, str, int]]:
    """Tell senders which number of which stream is missing; whom about what."""
    async with database.pool.acquire() as connection:
        stuck = await ledger.read_stuck(connection, now_us - GAP_WAIT_US)
    for party, stream, missing, waiting, _ in stuck:
        questions.notice(party, errors.missing(stream, missing, waiting))
    return [(party, stream, missing) for party, stream, missing, _, _ in stuck]


async def forget(database: Database, keeping: Keeping, now_us: int) -> int:
    """Drop bodies past their class's time, and old log lines; how many bodies."""
    dropped = 0
    async with database.pool.acquire() as connection:
        for number, name in enumerate(CLASSES):
            before_us = int(now_us - getattr(keeping, f"{name}_days") * _DAY_US)
            while count := await store.forget_bodies(connection, number, before_us):
                dropped += count
        await store.forget_entries(connection, now_us - LOG_DAYS * _DAY_US)
    return dropped
