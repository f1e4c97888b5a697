"""HTTP API of the registry and the twin: list and show vehicles, latest values with an ETag.

References are decimal strings: 63 bits do not fit a JSON number everywhere. Vehicle ids (VINs) appear only in the
registry's own answers; logs and metrics name routes by their template, so that no line holds one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation
from litestar.response import Stream

from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.core.signals import Quality
from rocade.doors.http import READERS, AnyRequest, caller_of
from rocade.doors.http.streams import ALIVE, event, events, pause
from rocade.services.vehicles.model import Vehicle
from rocade.services.vehicles.service import Registry
from rocade.services.vehicles.twin import Position, Twin, TwinStore

STREAMED_VEHICLES = 100
OVERLAP_US = 2_000_000
"""Twins are asked for again from this long before the newest seen: a row shows a moment after it was stamped."""

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


class SignalView(msgspec.Struct, frozen=True):
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
    return [name for bit, name in QUALITY_NAMES.items() if quality & bit]


async def views(vehicles: Sequence[Vehicle], twins: TwinStore) -> list[VehicleView]:
    seen = await twins.seen(int(vehicle.ref) for vehicle in vehicles)
    names = VehicleView.__struct_fields__[1:-1]
    return [
        VehicleView(*(str(one.ref), *(getattr(one, name) for name in names), seen.get(int(one.ref))))
        for one in vehicles
    ]


@get("/v1/vehicles", opt={"audience": READERS})
async def list_vehicles(
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
    """Vehicles, a page at a time; `next` is the cursor of the following page. `id` asks for exactly one."""
    if id is not None:
        return VehiclesView(await views([await registry.resolve(id)], twins), None)
    asked = {"brand": brand, "model": model, "kind": kind, "powertrain": powertrain}
    page = await registry.list(cursor, limit, **{name: value for name, value in asked.items() if value is not None})
    return VehiclesView(await views(page.vehicles, twins), page.cursor)


@get("/v1/vehicles/{ref:int}", opt={"audience": READERS})
async def show_vehicle(ref: FromPath[int], registry: RegistryDependency, twins: TwinDependency) -> VehicleView:
    """One vehicle."""
    return (await views([await registry.by_ref(VehicleRef(ref))], twins))[0]


@get("/v1/vehicles/by-id/{id:str}", opt={"audience": READERS})
async def show_vehicle_by_id(id: FromPath[str], registry: RegistryDependency, twins: TwinDependency) -> VehicleView:
    """The vehicle whose certificate says `id` (VIN or serial). Logs and metrics hold the route, never the id."""
    return (await views([await registry.resolve(id)], twins))[0]


@get("/v1/vehicles/{ref:int}/twin", opt={"audience": READERS})
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
    tag = f'"{twin.updated_us}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, status_code=304, headers=headers)
    return Response(twin_view(twin, catalogue), headers=headers)


def twin_view(twin: Twin, catalogue: Catalogue) -> TwinView:
    """The twin with names, units and quality in words, in order of name."""
    signals = []
    for number, value in twin.reported.items():
        known = catalogue.get(number)
        name, unit = (known.name, known.unit) if known else (f"signal.{number}", "")
        doubts = quality_names(value.quality)
        symbol = SYMBOLS.get(unit, unit)
        signals.append(SignalView(number, name, value.value, unit, symbol, doubts, value.time_us, value.changed_us))
    signals.sort(key=lambda signal: signal.name)
    newest_us = max((signal.time_us for signal in signals), default=None)
    desired = {known.name if (known := catalogue.get(number)) else str(number): v for number, v in twin.desired.items()}
    return TwinView(str(twin.ref), twin.updated_us, newest_us, twin.skew_us, signals, desired)


@get("/v1/stream", opt={"audience": READERS})
async def stream(
    request: AnyRequest,
    twins: TwinDependency,
    catalogue: CatalogueDependency,
    audit: NamedDependency[SkipValidation[Audit]],
    clock: NamedDependency[SkipValidation[Clock]],
    ref: FromQuery[list[int] | None] = None,
    signal: FromQuery[list[str] | None] = None,
) -> Stream:
    """Server-sent events, once a second: `position` of each vehicle that moved and `twin` of the chosen ones.

    Without `ref` all vehicles' positions; with it only theirs and their values (of `signal`, else all). The id of an event
    resumes: send it as Last-Event-ID and what changed since comes first (the latest state, not every step between).
    """
    refs = frozenset(ref or ())
    if len(refs) > STREAMED_VEHICLES:
        raise Refused(
            "vehicles.stream.too_many", f"choose at most {STREAMED_VEHICLES} vehicles, or none for all positions"
        )
    signals = frozenset(catalogue.by_name(name).id for name in signal or ())
    since_us = request.headers.get("last-event-id", "0")
    start_us = int(since_us) if since_us.isdigit() else 0
    for one in refs:
        audit.note(AuditEntry(clock.now_us(), caller_of(request).actor, "vehicles.stream", f"vehicle:{one}"))
    return events(request, _changes(twins, catalogue, refs, signals, start_us, request.app.state.closing))


async def _changes(
    twins: TwinStore,
    catalogue: Catalogue,
    refs: frozenset[int],
    signals: frozenset[int],
    since_us: int,
    closing: asyncio.Event,
) -> AsyncIterator[bytes]:
    """What changed since `since_us`, for as long as somebody reads."""
    sent: dict[int, int] = {}
    while not closing.is_set():
        for position in await twins.changed_since(max(0, since_us - OVERLAP_US)):
            if (refs and position.ref not in refs) or sent.get(position.ref) == position.updated_us:
                continue
            sent[position.ref] = position.updated_us
            since_us = max(since_us, position.updated_us)
            number = str(since_us)
            if position.longitude is not None:
                yield event("position", msgspec.json.encode(_position(position)), number)
            if refs and (twin := await twins.latest(position.ref)):
                if signals:
                    chosen = {key: value for key, value in twin.reported.items() if key in signals}
                    twin = msgspec.structs.replace(twin, reported=chosen)
                yield event("twin", msgspec.json.encode(twin_view(twin, catalogue)), number)
        yield ALIVE
        await pause(closing)


def _position(one: Position) -> dict[str, str | int | float | None]:
    return {
        "ref": str(one.ref),
        "longitude": one.longitude,
        "latitude": one.latitude,
        "speed_kmh": one.speed_kmh,
        "updated_us": one.updated_us,
    }


HANDLERS = [list_vehicles, show_vehicle, show_vehicle_by_id, show_twin, stream]
