"""HTTP API of depots and series: limits, who charges where, the board, flexibility; prices and CO2 from files or values.

Operators with any duty look at depots, those with the support duty change them. Which series there are may be read by anybody proven:
a driver chooses his tariff. Files come as the bare body of a POST.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter, SkipValidation

from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.charging.importing import SeriesValue
from rocade.services.charging.model import (
    BoardCar,
    ChargeSite,
    Dimming,
    Flexibility,
    LimitNode,
    Place,
    SeriesKind,
    Tariff,
)
from rocade.services.charging.service import Charging
from rocade.services.charging.tariffs import Note
from rocade.trust.authority.gate import acts

ChargingDependency = NamedDependency[SkipValidation[Charging]]
FILE_LIMIT_BYTES = 9 << 20
Instant = Annotated[int, QueryParameter(ge=0, le=1 << 60)]


class SiteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A depot as a whole; `nodes` form a tree with one root."""

    name: str
    zone: str
    nodes: tuple[LimitNode, ...]
    tariff: str = ""
    carbon: str = ""
    building: str = ""
    solar: str = ""
    building_kw: float = 0.0
    solar_kw: float = 0.0
    latitude: float | None = None
    longitude: float | None = None
    period_s: int = 60


class SitesView(msgspec.Struct, frozen=True):
    items: list[ChargeSite]


class LoadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the rest of the place draws and makes now."""

    building_kw: float
    solar_kw: float = 0.0


class PlaceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: str = ""
    priority: int = 0
    connector: str = ""


class PlaceView(msgspec.Struct, frozen=True):
    ref: str
    node: str
    priority: int
    connector: str


class PlacesView(msgspec.Struct, frozen=True):
    items: list[PlaceView]


class CarView(msgspec.Struct, frozen=True):
    """A car on the board; `laxity_h`: how long it can wait and still be in time."""

    ref: str
    name: str
    soc_percent: float | None
    target_percent: float
    departure_us: int
    power_kw: float
    planned_kw: float
    laxity_h: float | None
    priority: int
    state: str
    node: str


class BoardView(msgspec.Struct, frozen=True):
    """A depot now. Per slot of `start_us`: `limit_kw` is what charging may draw, `planned_kw` what is planned."""

    site: ChargeSite
    at_us: int
    start_us: tuple[int, ...]
    limit_kw: tuple[float, ...]
    planned_kw: tuple[float, ...]
    load_kw: float
    building_kw: float
    solar_kw: float
    is_dimmed: bool
    dimmings: tuple[Dimming, ...]
    cars: list[CarView]
    made_us: int
    gap: float
    unserved_kwh: float
    excess_kw: float


class TariffBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`kind`: price | co2 | building | solar; `zone` is its clock, `area` the bidding zone files must be of ('' = any)."""

    name: str
    kind: SeriesKind
    zone: str
    currency: str = ""
    area: str = ""


class TariffsView(msgspec.Struct, frozen=True):
    items: list[Tariff]


class ValuesBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    values: tuple[SeriesValue, ...]


class ValuesView(msgspec.Struct, frozen=True):
    """Columns of one length."""

    tariff: Tariff
    start_us: list[int]
    end_us: list[int]
    value: list[float]
    low: list[float]
    high: list[float]
    is_forecast: list[bool]


class ImportView(msgspec.Struct, frozen=True):
    """`notes`: what is worth knowing and not wrong."""

    tariff: Tariff
    values: int
    notes: list[str]


def _actor(request: AnyRequest) -> str:
    return permit_of(request).principal.id


# Depots -----------------------------------------------------------------------------------------------------------------


@get("/v1/charging/sites", opt=does(acts.READ_DEPOTS))
async def list_sites(charging: ChargingDependency) -> SitesView:
    """Every depot of the region."""
    return SitesView(await charging.sites())


@get("/v1/charging/sites/{depot:str}", opt=does(acts.READ_DEPOTS))
async def show_site(depot: FromPath[str], charging: ChargingDependency) -> ChargeSite:
    """One depot with its tree of limits."""
    return await charging.site(depot)


@put("/v1/charging/sites/{depot:str}", opt=does(acts.CHANGE_DEPOTS))
async def put_site(
    request: AnyRequest, depot: FromPath[str], data: JSONBody[SiteBody], charging: ChargingDependency
) -> ChargeSite:
    """Make or change a depot."""
    site = ChargeSite(depot, **{name: getattr(data, name) for name in data.__struct_fields__})
    return await charging.put_site(site, _actor(request))


@delete("/v1/charging/sites/{depot:str}", opt=does(acts.CHANGE_DEPOTS), status_code=204)
async def drop_site(request: AnyRequest, depot: FromPath[str], charging: ChargingDependency) -> None:
    """Take a depot away; its cars charge by their own goals."""
    await charging.drop_site(depot, _actor(request))


@put("/v1/charging/sites/{depot:str}/load", opt=does(acts.CHANGE_DEPOTS), status_code=204)
async def set_load(depot: FromPath[str], data: JSONBody[LoadBody], charging: ChargingDependency) -> None:
    """Tell what the rest of the place draws and makes now."""
    await charging.set_load(depot, data.building_kw, data.solar_kw)


@get("/v1/charging/sites/{depot:str}/board", opt=does(acts.READ_DEPOTS))
async def show_board(depot: FromPath[str], charging: ChargingDependency) -> BoardView:
    """The depot now: limits, load, every car with its laxity."""
    board = await charging.board(depot)
    fields = {name: getattr(board, name) for name in BoardView.__struct_fields__ if name != "cars"}
    return BoardView(**fields, cars=[_car(one) for one in board.cars])


@get("/v1/charging/sites/{depot:str}/flexibility", opt=does(acts.READ_DEPOTS))
async def show_flexibility(depot: FromPath[str], charging: ChargingDependency) -> Flexibility:
    """What the depot's cars could draw in the next day: at least and at most."""
    return await charging.flexibility(depot)


@get("/v1/charging/flexibility", opt=does(acts.READ_DEPOTS))
async def show_fleet_flexibility(charging: ChargingDependency) -> Flexibility:
    """The same of all cars that are plugged in and have a goal."""
    return await charging.flexibility()


@get("/v1/charging/sites/{depot:str}/places", opt=does(acts.READ_DEPOTS))
async def list_places(depot: FromPath[str], charging: ChargingDependency) -> PlacesView:
    """Which vehicles charge there."""
    await charging.site(depot)
    found = await charging.places(depot)
    return PlacesView([PlaceView(str(one.ref), one.node, one.priority, one.connector) for one in found])


@put("/v1/charging/sites/{depot:str}/places/{ref:int}", opt=does(acts.CHANGE_DEPOTS))
async def put_place(
    request: AnyRequest,
    depot: FromPath[str],
    ref: FromPath[int],
    data: JSONBody[PlaceBody],
    charging: ChargingDependency,
) -> PlaceView:
    """A vehicle charges there from now on, and nowhere else."""
    place = Place(depot, ref, data.node, data.priority, data.connector)
    one = await charging.put_place(place, _actor(request))
    return PlaceView(str(one.ref), one.node, one.priority, one.connector)


@delete("/v1/charging/sites/{depot:str}/places/{ref:int}", opt=does(acts.CHANGE_DEPOTS), status_code=204)
async def drop_place(
    request: AnyRequest, depot: FromPath[str], ref: FromPath[int], charging: ChargingDependency
) -> None:
    """It charges there no more."""
    await charging.drop_place(depot, ref, _actor(request))


def _car(one: BoardCar) -> CarView:
    fields = {name: getattr(one, name) for name in CarView.__struct_fields__ if name != "ref"}
    return CarView(str(one.ref), **fields)


# Series -----------------------------------------------------------------------------------------------------------------


@get("/v1/charging/tariffs", opt=does(acts.READ_TARIFFS))
async def list_tariffs(charging: ChargingDependency) -> TariffsView:
    """Every series: prices, CO2, loads; how far each reaches."""
    return TariffsView(await charging.tariffs())


@put("/v1/charging/tariffs/{series:str}", opt=does(acts.CHANGE_TARIFFS))
async def put_tariff(
    request: AnyRequest, series: FromPath[str], data: JSONBody[TariffBody], charging: ChargingDependency
) -> Tariff:
    """Make an empty series; kind, currency, clock and area stay."""
    tariff = Tariff(series, data.name, data.kind, data.currency, data.zone, data.area)
    return await charging.add_tariff(tariff, _actor(request))


@delete("/v1/charging/tariffs/{series:str}", opt=does(acts.CHANGE_TARIFFS), status_code=204)
async def drop_tariff(request: AnyRequest, series: FromPath[str], charging: ChargingDependency) -> None:
    """Forget a series; plans that rest on it go on without."""
    await charging.drop_tariff(series, _actor(request))


@get("/v1/charging/tariffs/{series:str}/values", opt=does(acts.READ_TARIFFS))
async def show_values(
    series: FromPath[str], since_us: Instant, until_us: Instant, charging: ChargingDependency
) -> ValuesView:
    """What a series says between two instants."""
    found = await charging.values(series, since_us, min(until_us, since_us + 366 * 86_400_000_000))
    columns = [getattr(found, name).tolist() for name in found.__struct_fields__]
    return ValuesView(await charging.tariff(series), *columns)


@post("/v1/charging/tariffs/{series:str}/values", opt=does(acts.CHANGE_TARIFFS))
async def put_values(
    request: AnyRequest, series: FromPath[str], data: JSONBody[ValuesBody], charging: ChargingDependency
) -> Tariff:
    """Lay values over a series; what is published takes the place of a forecast."""
    return await charging.put_values(series, data.values, _actor(request))


@post(
    "/v1/charging/tariffs/{series:str}/file",
    opt=does(acts.CHANGE_TARIFFS),
    request_max_body_size=FILE_LIMIT_BYTES,
)
async def import_file(
    request: AnyRequest,
    series: FromPath[str],
    charging: ChargingDependency,
    unit: FromQuery[str] = "",
    sequence: FromQuery[int] = 0,
) -> ImportView:
    """Take a file in (the body): prices as CSV or ENTSO-E XML, CO2 as CSV; whole or not at all."""
    imported = await charging.import_file(
        series, await request.body(), _actor(request), unit=unit[:32], sequence=max(0, min(sequence, 100))
    )
    return ImportView(imported.tariff, imported.values, [_said(note) for note in imported.notes])


def _said(note: Note) -> str:
    return f"line {note.line}: {note.text}" if note.line else note.text


HANDLERS = [
    list_sites, show_site, put_site, drop_site, set_load, show_board, show_flexibility, show_fleet_flexibility,
    list_places, put_place, drop_place, list_tariffs, put_tariff, drop_tariff, show_values, put_values, import_file,
]  # fmt: skip
