"""What the archive needs once an hour: days that ended long ago go, what nobody noted is looked through, what is gone is missed.

Flow, in one process of all: objects older than the rules of retention keep are named in the audit log, then removed -> objects
without a note, and those that somebody doubted, are read, freed of erased vehicles and noted -> what must be there is held
against what is; a loss enters the audit log once (`telemetry.archive.damaged`) and stays in `rocade archive check` until the object
is back, its day goes, or an operator writes it off.
"""

from __future__ import annotations

import asyncio
import logging

from rocade.core.errors import RocadeError
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.telemetry.archive.objects import DAY_US, Archive, Checked
from rocade.services.telemetry.ledger import SWEEPING, Ledger
from rocade.services.telemetry.retention import BEGUN, DONE

SWEEP_S = 3_600.0
ACTOR = "service:worker"
_log = logging.getLogger(__name__)


async def sweep(
    archive: Archive, database: Database, audit: Audit, clock: Clock, keep_days: float, every_s: float = SWEEP_S
) -> None:
    """For ever; what fails is tried again the next time."""
    while True:
        try:
            await sweep_once(archive, database, audit, clock, keep_days)
        except (RocadeError, *DOWN, TimeoutError) as error:
            _log.warning("the archive is not swept for now: %s", getattr(error, "code", type(error).__name__))
        await asyncio.sleep(every_s)


async def sweep_once(archive: Archive, database: Database, audit: Audit, clock: Clock, keep_days: float) -> None:
    """Nothing where another process does it. Raises: Unavailable `blobs.down`, `audit.down`, `database.down`."""
    async with Ledger(database).alone(SWEEPING) as is_alone:
        if is_alone:
            await _let_go(archive, audit, clock.now_us(), keep_days)
            await _miss(archive, audit, clock.now_us(), await archive.settle())


async def _let_go(archive: Archive, audit: Audit, now_us: int, keep_days: float) -> None:
    """Recorded before it is done, so that nothing goes unsaid, and when it is."""
    before_us = (now_us - int(keep_days * DAY_US)) // DAY_US * DAY_US
    if old := await archive.older(before_us):
        facts: dict[str, str | int | float] = {"objects": len(old), "before_us": before_us, "keep_days": keep_days}
        await audit.record(AuditEntry(now_us, ACTOR, BEGUN, "archive", facts=facts))
        await archive.remove(old)
        await audit.record(AuditEntry(now_us, ACTOR, DONE, "archive", facts=facts))


async def _miss(archive: Archive, audit: Audit, now_us: int, found: Checked) -> None:
    if not (new := await archive.untold([*found.absent, *found.damaged])):
        return
    facts: dict[str, str | int | float] = {"absent": len(found.absent), "damaged": len(found.damaged), "new": len(new)}
    entry = AuditEntry(
        now_us, ACTOR, "telemetry.archive.damaged", "archive", "refused", _code(found), facts | {"first": min(new)}
    )
    _log.error(
        "the archive: %d objects are gone, %d damaged; rocade archive check", *map(len, (found.absent, found.damaged))
    )
    await audit.record(entry)
    await archive.tell(new)


def _code(found: Checked) -> str:
    return "archive.absent" if found.absent else "archive.corrupt"
