"""HTTP API of the registry and the twin: list and show vehicles, latest values with an ETag.

References are decimal strings: 63 bits do not fit a JSON number everywhere. Vehicle ids (VINs) appear only in the
registry's own answers; logs and metrics name routes by their template, so that no line holds one.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation
from litestar.response import Stream

from rocade.core.catalogue import Catalogue
from rocade.core.data_classes import bit
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef, whole_number
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.core.signals import Quality
from rocade.doors.http import AnyRequest, caller_of, does, note_look, permit_of, refs_of, right_of
from rocade.doors.http.streams import ALIVE, event, events, pause, woken
from rocade.services.vehicles import errors
from rocade.services.vehicles.changes import OVERLAP_US, Changes
from rocade.services.vehicles.model import Vehicle, Wanted
from rocade.services.vehicles.service import Registry
from rocade.services.vehicles.twin import Position, Twin, TwinStore
from rocade.trust.authority.gate import acts

IDENTITY, LOCATION, DRIVING = bit("identity"), bit("location"), bit("driving")
STREAMED_VEHICLES = 100

RegistryDependency = NamedDependency[SkipValidation[Registry]]
TwinDependency = NamedDependency[SkipValidation[TwinStore]]
CatalogueDependency = NamedDependency[SkipValidation[Catalogue]]


class VehicleView(msgspec.Struct, frozen=True):
    """A vehicle as the API shows it. Instants are microseconds since 1970 UTC; `seen_us`: its last batch arrived, None = never
    since it was registered or erased.
    """

    ref: str
    id: str
    kind: str
    brand: str
    model: str
    powertrain: str
    region: str
    hardware: str
    added_us: int
    changed_us: int
    seen_us: int | None


class VehiclesView(msgspec.Struct, frozen=True):
    items: list[VehicleView]
    next: str | None


class SignalView(msgspec.Struct, frozen=True, gc=False):
    """`unit` is VSS's unit name, `symbol` how people write it; `quality` names each doubt, empty = good; `changed_us`:
    since when the value is the same.
    """

    signal: int
    name: str
    value: float | bool | str
    unit: str
    symbol: str
    quality: list[str]
    time_us: int
    changed_us: int


class TwinView(msgspec.Struct, frozen=True):
    """`time_us` is the newest value's time, `updated_us` when the row was written (the ETag), `skew_us` the vehicle's
    clock minus ours.
    """

    ref: str
    updated_us: int
    time_us: int | None
    skew_us: int
    signals: list[SignalView]
    desired: dict[str, float | bool | str]


SYMBOLS = {"percent": "%", "Celsius": "°C", "degrees": "°", "degrees/s": "°/s", "m/s^2": "m/s²", "cm^3": "cm³"}
"""Where people write a unit otherwise than VSS names it."""
QUALITY_NAMES = {flag.value: (flag.name or "").lower() for flag in Quality}


def quality_names(quality: int) -> list[str]:
    """Each doubt by name."""
    if not quality:
        return []
    return [name for bit, name in QUALITY_NAMES.items() if quality & bit]


async def views(request: AnyRequest, vehicles: Sequence[Vehicle], twins: TwinStore) -> list[VehicleView]:
    """The rows, with the id (a VIN names a person) for the support duty and where the owner lets it be seen."""
    seen = await twins.seen(int(vehicle.ref) for vehicle in vehicles)
    names = VehicleView.__struct_fields__[1:-1]
    is_support = "support" in caller_of(request).duties
    shown = [
        VehicleView(*(str(one.ref), *(getattr(one, name) for name in names), seen.get(int(one.ref))))
        for one in vehicles
    ]
    return [
        view
        if is_support or right_of(request, int(view.ref)).classes & IDENTITY
        else msgspec.structs.replace(view, id="")
        for view in shown
    ]


@get("/v1/vehicles", opt=does(acts.LIST_VEHICLES))
async def list_vehicles(
    request: AnyRequest,
    registry: RegistryDependency,
    twins: TwinDependency,
    id: FromQuery[str | None] = None,
    brand: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    kind: FromQuery[str | None] = None,
    powertrain: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
    limit: FromQuery[int] = 100,
) -> VehiclesView:
    """Vehicles, a page at a time; `next` is the cursor of the following page. `id` asks for exactly one.

    Operators see the registry, everybody else the vehicles whose owner lets him see something.
    """
    if id is not None:
        return VehiclesView(await views(request, [await _find(request, id, registry)], twins), None)
    asked = {"brand": brand, "model": model, "kind": kind, "powertrain": powertrain}
    filters = {name: value for name, value in asked.items() if value is not None}
    among = None if caller_of(request).duties else tuple(refs_of(request))
    page = await registry.find(Wanted(filters, among=among), cursor, limit)
    return VehiclesView(await views(request, page.vehicles, twins), page.cursor)


async def _find(request: AnyRequest, id: str, registry: Registry) -> Vehicle:
    """Who may see nothing of it is told what he is told of a vehicle that does not exist.

    Raises: Refused `vehicles.unknown`.
    """
    vehicle = await registry.resolve(id)
    if not (caller_of(request).duties or right_of(request, vehicle.ref).classes):
        raise errors.unknown()
    return vehicle


@get("/v1/vehicles/{ref:int}", opt=does(acts.READ_VEHICLE))
async def show_vehicle(
    request: AnyRequest, ref: FromPath[int], registry: RegistryDependency, twins: TwinDependency
) -> VehicleView:
    """One vehicle."""
    return (await views(request, [await registry.by_ref(VehicleRef(ref))], twins))[0]


@get("/v1/vehicles/by-id/{id:str}", opt=does(acts.FIND_VEHICLE))
async def show_vehicle_by_id(
    request: AnyRequest, id: FromPath[str], registry: RegistryDependency, twins: TwinDependency
) -> VehicleView:
    """The vehicle whose certificate says `id` (VIN or serial). Logs and metrics hold the route, never the id."""
    return (await views(request, [await _find(request, id, registry)], twins))[0]


@get("/v1/vehicles/{ref:int}/twin", opt=does(acts.READ_TWIN))
async def show_twin(
    request: AnyRequest,
    ref: FromPath[int],
    twins: TwinDependency,
    catalogue: CatalogueDependency,
    registry: RegistryDependency,
) -> Response[TwinView | None]:
    """Latest value, time and quality of every signal; the ETag is the time the twin was written."""
    twin = await twins.latest(ref)
    if twin is None:
        await registry.by_ref(VehicleRef(ref))
        twin = Twin(ref, 0, 0, 0, None, None, None, {}, {})
    classes = permit_of(request).right.classes
    tag = f'"{twin.updated_us}-{classes:x}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, status_code=304, headers=headers)
    return Response(twin_view(twin, catalogue, classes), headers=headers)


def twin_view(twin: Twin, catalogue: Catalogue, classes: int) -> TwinView:
    """The twin with names, units and quality in words, in order of name; of these data classes (mask) only."""
    reported, signals = twin.reported, []
    for number, name, unit, symbol in _shown(catalogue, tuple(reported), classes):
        one = reported[number]
        doubts = quality_names(one.quality)
        signals.append(SignalView(number, name, one.value, unit, symbol, doubts, one.time_us, one.changed_us))
    newest_us = max((signal.time_us for signal in signals), default=None)
    desired = {
        known.name: value
        for number, value in twin.desired.items()
        if (known := catalogue.get(number)) and classes & bit(known.data_class)
    }
    return TwinView(str(twin.ref), twin.updated_us, newest_us, twin.skew_us, signals, desired)


@functools.lru_cache(4_096)
def _shown(catalogue: Catalogue, numbers: tuple[int, ...], classes: int) -> list[tuple[int, str, str, str]]:
    """Number, name, unit and its symbol of those of these classes, in order of name: vehicles of a kind share the answer.

    A signal that nobody has described is of class other.
    """
    shown = []
    for number in numbers:
        known = catalogue.get(number)
        name, unit, data_class = (
            (known.name, known.unit, known.data_class) if known else (f"signal.{number}", "", "other")
        )
        if classes & bit(data_class):
            shown.append((number, name, unit, SYMBOLS.get(unit, unit)))
    return sorted(shown, key=lambda one: one[1])


@get("/v1/stream", opt=does(acts.WATCH_VEHICLES))
async def stream(
    request: AnyRequest,
    twins: TwinDependency,
    catalogue: CatalogueDependency,
    audit: NamedDependency[SkipValidation[Audit]],
    clock: NamedDependency[SkipValidation[Clock]],
    changes: NamedDependency[SkipValidation[Changes]],
    ref: FromQuery[list[int] | None] = None,
    signal: FromQuery[list[str] | None] = None,
) -> Stream:
    """Server-sent events, once a second: `position` of each vehicle that moved and `twin` of the chosen ones.

    Without `ref` all vehicles' positions; with it only theirs and their values (of `signal`, else all). The id of an event
    resumes: send it as Last-Event-ID and what changed since comes first (the latest state, not every step between).
    Only what the caller may see at that moment is sent, each time a look its owner sees; of a vehicle whose right ended,
    `ended` is the last event.
    """
    refs = frozenset(ref or ())
    if len(refs) > STREAMED_VEHICLES:
        raise Refused(
            "vehicles.stream.too_many", f"choose at most {STREAMED_VEHICLES} vehicles, or none for all positions"
        )
    signals = frozenset(catalogue.by_name(name).id for name in signal or ())
    start_us = whole_number(request.headers.get("last-event-id", "0")) or 0
    for one in refs:
        right = right_of(request, one)
        if not right.classes:
            raise errors.unseen(one)
        note_look(request, one, right, signal or ())
        audit.note(AuditEntry(clock.now_us(), caller_of(request).id, "vehicles.stream", f"vehicle:{one}"))
    return events(request, _changes(request, twins, changes, catalogue, refs, signals, start_us))


async def _changes(
    request: AnyRequest,
    twins: TwinStore,
    changes: Changes,
    catalogue: Catalogue,
    refs: frozenset[int],
    signals: frozenset[int],
    since_us: int,
) -> AsyncIterator[bytes]:
    """What changed since `since_us`, for as long as somebody reads; what he may see is asked anew each second."""
    closing: asyncio.Event = request.app.state.closing
    sent: dict[int, int] = {}
    named = sorted(map(str, signals))
    open_refs, from_us = set(refs), since_us - OVERLAP_US
    with woken(request, open_refs) as wake:
        async with changes.listening():
            while not closing.is_set():
                wake.clear()
                for ref in [one for one in open_refs if not right_of(request, one).classes]:
                    open_refs.discard(ref)
                    yield event("ended", msgspec.json.encode({"ref": str(ref), "code": "gate.denied"}))
                if refs and not open_refs:
                    return
                for position in changes.of(open_refs) if refs else changes.since(since_us - OVERLAP_US):
                    if position.updated_us < from_us or sent.get(position.ref) == position.updated_us:
                        continue
                    sent[position.ref] = position.updated_us
                    since_us = max(since_us, position.updated_us)
                    right = right_of(request, position.ref)
                    number, classes = str(since_us), right.classes
                    is_placed = position.longitude is not None and classes & LOCATION
                    if right.is_owned and (refs or is_placed):
                        seen = right if refs else msgspec.structs.replace(right, classes=classes & (LOCATION | DRIVING))
                        note_look(request, position.ref, seen, named)
                    if is_placed:
                        yield event("position", msgspec.json.encode(_position(position, classes)), number)
                    if refs and (twin := await twins.latest(position.ref)):
                        if signals:
                            chosen = {key: value for key, value in twin.reported.items() if key in signals}
                            twin = msgspec.structs.replace(twin, reported=chosen)
                        yield event("twin", msgspec.json.encode(twin_view(twin, catalogue, classes)), number)
                yield ALIVE
                await pause(closing if not refs else wake)


def _position(one: Position, classes: int) -> dict[str, str | int | float | None]:
    return {
        "ref": str(one.ref),
        "longitude": one.longitude,
        "latitude": one.latitude,
        "speed_kmh": one.speed_kmh if classes & DRIVING else None,
        "updated_us": one.updated_us,
    }


HANDLERS = [list_vehicles, show_vehicle, show_vehicle_by_id, show_twin, stream]
