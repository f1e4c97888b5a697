"""HTTP API of the registry and the twin: list and show vehicles, latest values with an ETag.

References are decimal strings: 63 bits do not fit a JSON number everywhere. Vehicle ids (VINs) appear only in the
registry's own answers and are asked for as a query value, never as a path, so that no log line holds one.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.core.catalogue import Catalogue
from rocade.core.identifiers import VehicleRef
from rocade.core.signals import Quality
from rocade.doors.http import READERS
from rocade.services.vehicles.model import Vehicle
from rocade.services.vehicles.service import Registry

type AnyRequest = Request[Any, Any, Any]
RegistryDependency = NamedDependency[SkipValidation[Registry]]


class TwinValue(msgspec.Struct, frozen=True):
    """The latest value of one signal."""

    signal_id: int
    value: float | str
    quality: int
    at_us: int


class TwinRow(msgspec.Struct, frozen=True):
    version: int
    at_us: int
    values: list[TwinValue]


class Twins(Protocol):
    async def latest(self, ref: VehicleRef) -> TwinRow | None: ...


class VehicleView(msgspec.Struct, frozen=True):
    """A vehicle as the API shows it. `added_us`, `changed_us`: microseconds since 1970 UTC."""

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


class VehiclesView(msgspec.Struct, frozen=True):
    items: list[VehicleView]
    next: str | None


class ValueView(msgspec.Struct, frozen=True):
    """`unit` is VSS's unit name, `symbol` how people write it; `quality` names each doubt, empty = good."""

    signal: int
    name: str
    value: float | str
    unit: str
    symbol: str
    quality: list[str]
    at_us: int


class TwinView(msgspec.Struct, frozen=True):
    ref: str
    version: int
    at_us: int
    values: list[ValueView]


SYMBOLS = {
    "km/h": "km/h", "percent": "%", "celsius": "°C", "degrees": "°", "V": "V", "A": "A", "W": "W", "kW": "kW", "kWh": "kWh",
    "m": "m", "km": "km", "l": "l", "rpm": "rpm", "Nm": "Nm", "s": "s", "min": "min", "h": "h", "kPa": "kPa", "Pa": "Pa",
    "bar": "bar", "kg": "kg", "g/s": "g/s", "m/s^2": "m/s²", "degrees/s": "°/s", "l/100km": "l/100 km", "Ah": "Ah",
    "l/h": "l/h", "ml": "ml", "mm": "mm", "cm/s": "cm/s", "m/s": "m/s", "Wh": "Wh", "kWh/100km": "kWh/100 km", "ratio": "",
}  # fmt: skip
QUALITY_NAMES = {flag.value: (flag.name or "").lower() for flag in Quality}


def quality_names(quality: int) -> list[str]:
    """Each doubt by name."""
    return [name for bit, name in QUALITY_NAMES.items() if quality & bit]


def view(vehicle: Vehicle) -> VehicleView:
    return VehicleView(str(vehicle.ref), *(getattr(vehicle, name) for name in VehicleView.__struct_fields__[1:]))


@get("/v1/vehicles", opt={"audience": READERS})
async def list_vehicles(
    registry: RegistryDependency,
    id: str | None = None,
    brand: str | None = None,
    model: str | None = None,
    kind: str | None = None,
    powertrain: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> VehiclesView:
    """Vehicles, a page at a time; `next` is the cursor of the following page. `id` asks for exactly one."""
    if id is not None:
        return VehiclesView([view(await registry.resolve(id))], None)
    asked = {"brand": brand, "model": model, "kind": kind, "powertrain": powertrain}
    page = await registry.list(cursor, limit, **{name: value for name, value in asked.items() if value is not None})
    return VehiclesView([view(vehicle) for vehicle in page.vehicles], page.cursor)


@get("/v1/vehicles/{ref:int}", opt={"audience": READERS})
async def show_vehicle(ref: int, registry: RegistryDependency) -> VehicleView:
    """One vehicle."""
    return view(await registry.by_ref(VehicleRef(ref)))


@get("/v1/vehicles/{ref:int}/twin", opt={"audience": READERS})
async def show_twin(
    request: AnyRequest,
    ref: int,
    twins: NamedDependency[SkipValidation[Twins]],
    catalogue: NamedDependency[SkipValidation[Catalogue]],
    registry: RegistryDependency,
) -> Response[TwinView | None]:
    """Latest value, time and quality of every signal; the ETag is the twin's version."""
    row = await twins.latest(VehicleRef(ref))
    if row is None:
        await registry.by_ref(VehicleRef(ref))
        row = TwinRow(0, 0, [])
    tag = f'"{row.version}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, status_code=304, headers=headers)
    return Response(twin_view(ref, row, catalogue), headers=headers)


def twin_view(ref: int, row: TwinRow, catalogue: Catalogue) -> TwinView:
    """The twin with names, units and quality in words."""
    values = []
    for one in row.values:
        signal = catalogue.by_id(one.signal_id)
        unit = signal.unit
        names = quality_names(one.quality)
        values.append(ValueView(one.signal_id, signal.name, one.value, unit, SYMBOLS.get(unit, unit), names, one.at_us))
    return TwinView(str(ref), row.version, row.at_us, sorted(values, key=lambda value: value.name))


HANDLERS = [list_vehicles, show_vehicle, show_twin]
