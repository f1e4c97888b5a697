"""Keeping house: contracts whose consent has ended end, records are kept as long as promised, what nobody shares goes.

What a webhook was not told within that time (away for a day) is gone from the feed: the contract's log says how much, the audit
log too, the receiver is told with its next post, and the values are in the history, where the same contract reads them.
"""

from __future__ import annotations

import asyncio
import logging

from rocade.core.errors import RocadeError
from rocade.core.ports import Audit, AuditEntry
from rocade.services.sharing import errors, store
from rocade.services.sharing.model import Line
from rocade.services.sharing.service import Sharing

EVERY_S = 30.0
KEEP_US = 24 * 3_600_000_000
_log = logging.getLogger(__name__)


async def keep_house(sharing: Sharing, audit: Audit, keep_us: int = KEEP_US) -> None:
    """For ever; a failure is tried again half a minute later, and a change of consents wakes it at once."""
    wake = asyncio.Event()
    end = sharing.table.watch(lambda _refs: wake.set())
    try:
        while True:
            wake.clear()
            try:
                await tidy(sharing, audit, keep_us)
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


async def tidy(sharing: Sharing, audit: Audit, keep_us: int = KEEP_US) -> None:
    """One turn."""
    await sharing.settle()
    now_us = sharing.clock.now_us()
    async with sharing.database.pool.acquire() as connection, connection.transaction():
        missed = await store.expire(connection, now_us - keep_us)
        lines = [Line(id, now_us, "expired", "webhook", 0, records, samples) for id, records, samples in missed]
        await store.log(connection, lines)
        await store.drop_unshared(connection)
    for id, records, samples in missed:
        facts: dict[str, str | int | float] = {"records": records, "samples": samples}
        audit.note(AuditEntry(now_us, "sharing", "sharing.expired", id, "refused", errors.expired().code, facts))
