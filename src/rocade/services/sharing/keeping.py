"""Keeping house: contracts whose consent has ended end, records are kept as long as promised, what nobody shares goes.

What a webhook was not told within that time (away for a day), of what its contract shows, is gone from the feed: the contract's log says how much, the audit
log too, the receiver is told with its next post, and the values are in the history, where the same contract reads them.
"""

from __future__ import annotations

import asyncio
import logging

from rocade.core.errors import RocadeError
from rocade.core.ports import Audit, AuditEntry
from rocade.services.sharing import errors, store
from rocade.services.sharing.feeding import Feeding
from rocade.services.sharing.model import Line

EVERY_S = 30.0
KEEP_US = 24 * 3_600_000_000
_log = logging.getLogger(__name__)


async def keep_house(feeding: Feeding, audit: Audit, keep_us: int = KEEP_US) -> None:
    """For ever; a failure is tried again half a minute later, and a change of consents wakes it at once."""
    wake = asyncio.Event()
    end = feeding.sharing.table.watch(lambda _refs: wake.set())
    try:
        while True:
            wake.clear()
            try:
                await tidy(feeding, audit, keep_us)
            except (RocadeError, OSError, *store.FAILURES) as error:
                _log.warning("feeds were not put in order: %s", type(error).__name__)
            try:
                async with asyncio.timeout(EVERY_S):
                    await wake.wait()
                await asyncio.sleep(1.0)  # many changes at once are one
            except TimeoutError:
                pass
    finally:
        end()


async def tidy(feeding: Feeding, audit: Audit, keep_us: int = KEEP_US) -> None:
    """One turn. Where consents or keys are away, it is put off: nothing goes before it is known what it was."""
    sharing = feeding.sharing
    await sharing.settle()
    now_us = sharing.clock.now_us()
    missed = dict[str, tuple[int, int]]()
    async with sharing.database.pool.acquire() as connection, connection.transaction():
        for id, cursor, upto in await store.expiring(connection, now_us - keep_us):
            records, samples = await feeding.missed(id, cursor, upto)
            await store.pass_over(connection, id, upto, records)
            if records:
                missed[id] = records, samples
        lines = [Line(id, now_us, "expired", "webhook", 0, *counts) for id, counts in missed.items()]
        await store.log(connection, lines)
        await store.expire(connection, now_us - keep_us)
        await store.drop_unshared(connection)
    for id, (records, samples) in missed.items():
        facts: dict[str, str | int | float] = {"records": records, "samples": samples}
        audit.note(AuditEntry(now_us, "sharing", "sharing.expired", id, "refused", errors.expired().code, facts))
