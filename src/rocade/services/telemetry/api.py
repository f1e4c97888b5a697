"""HTTP API of telemetry: the signal catalogue, what is missing of a vehicle, and quarantine.

Quarantine is for operators; bodies are never shown, only what can be said of them.
"""

from __future__ import annotations

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation

from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef, whole_number
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.fabric.log import Log
from rocade.services.telemetry import quarantine
from rocade.services.telemetry.gaps import Numbers
from rocade.services.telemetry.ledger import Ledger
from rocade.services.telemetry.model import Quarantined
from rocade.services.vehicles import Registry
from rocade.trust.authority.gate import acts

LedgerDependency = NamedDependency[SkipValidation[Ledger]]
LogDependency = NamedDependency[SkipValidation[Log]]
AuditDependency = NamedDependency[SkipValidation[Audit]]
ClockDependency = NamedDependency[SkipValidation[Clock]]
CatalogueDependency = NamedDependency[SkipValidation[Catalogue]]
RegistryDependency = NamedDependency[SkipValidation[Registry]]


class SignalView(msgspec.Struct, frozen=True):
    """One signal of the catalogue; `min` and `max` are its plausible range."""

    id: int
    name: str
    datatype: str
    unit: str
    kind: str
    brand: str
    min: float | None
    max: float | None


class SignalsView(msgspec.Struct, frozen=True):
    items: list[SignalView]


@get("/v1/signals", opt=does(acts.LIST_SIGNALS))
async def list_signals(
    catalogue: CatalogueDependency, find: FromQuery[str] = "", brand: FromQuery[str | None] = None
) -> SignalsView:
    """The signal catalogue; `find` = part of a name, `brand` = only that brand's own signals."""
    wanted = find.lower()
    found = [one for one in catalogue if wanted in one.name.lower() and (brand is None or one.brand == brand)]
    return SignalsView([msgspec.convert(one, SignalView, from_attributes=True) for one in found])


class UnknownView(msgspec.Struct, frozen=True):
    signal: int
    name: str
    batches: int
    last_us: int


class UnknownsView(msgspec.Struct, frozen=True):
    items: list[UnknownView]


@get("/v1/signals/unknown", opt=does(acts.READ_UNKNOWN_SIGNALS))
async def list_unknown_signals(ledger: LedgerDependency) -> UnknownsView:
    """Signals that vehicles sent and the catalogue does not know; their values are stored all the same."""
    return UnknownsView(
        [UnknownView(one.signal, one.name, one.batches, one.arrived_us) for one in await ledger.unknown()]
    )


class GapView(msgspec.Struct, frozen=True):
    """Batches `first` to `last` of one journal of the vehicle that have not come. `state`: asked (the vehicle is asked
    for them until they come) or given_up (the journal they were in is gone).
    """

    epoch: str
    first: int
    last: int
    state: str
    opened_us: int
    arrived_us: int


class GapsView(msgspec.Struct, frozen=True):
    items: list[GapView]
    missing: int
    highest: int


@get("/v1/vehicles/{ref:int}/gaps", opt=does(acts.READ_GAPS))
async def show_gaps(ref: FromPath[int], ledger: LedgerDependency, registry: RegistryDependency) -> GapsView:
    """What is missing of a vehicle: numbers that were never acknowledged, newest journal first."""
    await registry.by_ref(VehicleRef(ref))
    return gaps_view(await ledger.numbers(ref))


def gaps_view(journals: list[Numbers]) -> GapsView:
    items = [
        GapView(
            f"{one.epoch & (1 << 64) - 1:016x}",
            first,
            last,
            "asked" if one.closed is None else "given_up",
            one.opened_us,
            one.arrived_us,
        )
        for one in journals
        for first, last in one.gaps
    ]
    missing = sum(item.last - item.first + 1 for item in items if item.state == "asked")
    return GapsView(items, missing, journals[0].highest if journals else 0)


class HeldView(msgspec.Struct, frozen=True):
    """One record in quarantine. `state`: held, replayed or dropped."""

    id: int
    ref: str
    at_us: int
    reason: str
    detail: str
    size_bytes: int
    state: str


class HeldPage(msgspec.Struct, frozen=True):
    items: list[HeldView]
    next: str | None


@get("/v1/quarantine", opt=does(acts.READ_QUARANTINE))
async def list_quarantine(
    ledger: LedgerDependency,
    ref: FromQuery[int | None] = None,
    cursor: FromQuery[str | None] = None,
    limit: FromQuery[int] = 100,
) -> HeldPage:
    """Records that could not be processed, oldest first; `ref` = only those of one vehicle."""
    after = 0 if cursor is None else whole_number(cursor)
    if after is None:
        raise Refused("quarantine.cursor.invalid", "a cursor is what `next` said, unchanged")
    limit = max(1, min(limit, 1000))
    found = await quarantine.list_held(ledger, ref, after, limit + 1)
    next_cursor = str(found[limit - 1].id) if len(found) > limit else None
    return HeldPage([_held(one) for one in found[:limit]], next_cursor)


@get("/v1/quarantine/{number:int}", opt=does(acts.READ_QUARANTINE))
async def show_quarantined(number: FromPath[int], ledger: LedgerDependency) -> HeldView:
    """One record: reason, size, state."""
    held = await quarantine.find(ledger, number)
    return _held(held)


@post("/v1/quarantine/{number:int}/replay", opt=does(acts.REPLAY_QUARANTINED), status_code=200)
async def replay_quarantined(
    request: AnyRequest,
    number: FromPath[int],
    ledger: LedgerDependency,
    log: LogDependency,
    audit: AuditDependency,
    clock: ClockDependency,
) -> HeldView:
    """Send one record down the road again, after the cause is mended."""
    await _record(request, audit, clock, "quarantine.replay", number)
    await quarantine.replay(ledger, log, number)
    held = await quarantine.find(ledger, number)
    return _held(held)


@delete("/v1/quarantine/{number:int}", opt=does(acts.DROP_QUARANTINED), status_code=200)
async def drop_quarantined(
    request: AnyRequest, number: FromPath[int], ledger: LedgerDependency, audit: AuditDependency, clock: ClockDependency
) -> HeldView:
    """Give one record up for good; the line that it was there stays."""
    await _record(request, audit, clock, "quarantine.drop", number)
    await quarantine.drop(ledger, number)
    held = await quarantine.find(ledger, number)
    return _held(held)


async def _record(request: AnyRequest, audit: Audit, clock: Clock, action: str, number: int) -> None:
    await audit.record(AuditEntry(clock.now_us(), caller_of(request).id, action, f"quarantine:{number}"))


def _held(one: Quarantined) -> HeldView:
    return HeldView(one.id, str(one.ref), one.arrived_us, one.reason, one.detail, one.size_bytes, one.state)


HANDLERS = [
    list_signals,
    list_unknown_signals,
    show_gaps,
    list_quarantine,
    show_quarantined,
    replay_quarantined,
    drop_quarantined,
]
