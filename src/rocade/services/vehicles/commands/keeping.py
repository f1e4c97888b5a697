"""What time does to commands: deadlines pass, proofs stay away, old ones are forgotten. Any process may; one at a time does."""

from __future__ import annotations

import asyncio
import logging

from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN, plan_anew
from rocade.services.vehicles.commands import ledger, store
from rocade.services.vehicles.commands.model import KEPT_US, LOOKED_FOR_US, PROOF_US, SILENT_US

EVERY_S = 1.0
_log = logging.getLogger(__name__)


async def pass_time(database: Database, now_us: int) -> int:
    """Do what is due at this instant; how many commands it ended or put in doubt."""
    async with database.pool.acquire() as connection, connection.transaction():
        if not await ledger.take_turn(connection):
            return 0
        await plan_anew(connection)
        refs = await ledger.expire(connection, now_us, now_us - SILENT_US)
        refs += await ledger.doubt(connection, now_us - PROOF_US, now_us - LOOKED_FOR_US, now_us)
        await store.notify(connection, store.CHANGED_CHANNEL, refs)
        await ledger.forget(connection, now_us - KEPT_US)
    return len(refs)


async def keep_time(database: Database, clock: Clock, every_s: float = EVERY_S) -> None:
    """Look after deadlines for ever; a database that is away is waited for."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await pass_time(database, clock.now_us())
        except (*DOWN, TimeoutError):
            continue
        except Exception:
            _log.exception("deadlines of commands could not be looked after")
