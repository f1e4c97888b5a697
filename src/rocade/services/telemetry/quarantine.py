"""Quarantine: records that could not be processed, each with its reason; nothing that was acknowledged is thrown away.

Bodies are sealed as the records were. `list_held`, `show`, `replay` (back into the log, after the cause is mended) and `drop` are what operators have.
"""

from __future__ import annotations

from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.fabric.log import Log, Record
from rocade.services.telemetry.ledger import Ledger
from rocade.services.telemetry.model import (
    BAD_BATCH,
    BAD_JSON,
    BATCH,
    DROPPED,
    HELD,
    JSON,
    REPLAYED,
    STREAM,
    Quarantined,
)
from rocade.services.telemetry.sealing import RoadSeals
from rocade.trust.authority.sealing import keyring_of

_PROPER = {BAD_BATCH: BATCH, BAD_JSON: JSON}


async def list_held(ledger: Ledger, ref: int | None = None, after: int = 0, limit: int = 100) -> list[Quarantined]:
    """Records in quarantine, oldest first; `after` is the last id of the page before."""
    return await ledger.list_held(ref, after, limit)


async def find(ledger: Ledger, id: int) -> Quarantined:
    """One record as lists show it. Raises: Refused `quarantine.unknown`."""
    return (await _held(ledger, id))[0]


async def show(ledger: Ledger, id: int) -> tuple[Quarantined, bytes]:
    """One record with its body.

    Raises: Refused `quarantine.unknown`; Corrupt `seal.broken`; Unavailable `custody.down`, `custody.refused`.
    """
    held, kind, body = await _held(ledger, id)
    return held, await _seals(ledger).open_held(held.ref, kind, held.arrived_us, body)


async def replay(ledger: Ledger, log: Log, id: int) -> None:
    """Put a record back into the log, as it arrived then; what still fails comes back under a new number.

    Raises: Refused `quarantine.unknown`, `quarantine.gone`; Corrupt `seal.broken`; Unavailable `log.down`, `custody.down`.
    """
    held, body = await show(ledger, id)
    if held.state != HELD:
        raise _gone(held)
    kind = _PROPER.get(held.kind, held.kind)
    record = Record(partition_of(VehicleRef(held.ref)), held.ref, kind, held.arrived_us, body)
    # appended before it is marked: a crash in between repeats it, and the numbers drop the repeat
    await log.append(STREAM, await _seals(ledger).sealed([record]))
    await ledger.mark_held(id, REPLAYED)


async def drop(ledger: Ledger, id: int) -> None:
    """Give a record up; its body is removed, the line stays.

    Raises: Refused `quarantine.unknown`, `quarantine.gone`.
    """
    held = await find(ledger, id)
    if not await ledger.mark_held(id, DROPPED):
        raise _gone(held)


async def _held(ledger: Ledger, id: int) -> tuple[Quarantined, int, bytes]:
    found = await ledger.held(id)
    if found is None:
        raise Refused("quarantine.unknown", f"nothing in quarantine has the number {id}")
    return found


def _seals(ledger: Ledger) -> RoadSeals:
    return RoadSeals(keyring_of(ledger.database))


def _gone(held: Quarantined) -> Refused:
    return Refused("quarantine.gone", f"record {held.id} was {held.state} already")
