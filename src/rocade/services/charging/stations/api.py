"""HTTP API of charging stations, for operators: register, look at, limit, give orders; tags; what stations said and drew.

What changes who may come in needs a touch, which is bound to path and query; a tag travels in the body, so that no log of addresses
holds it. A password or claim code is answered once. Which vehicle hung where is not told here: that is the vehicle's to tell.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter, SkipValidation

from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef, whole_number
from rocade.core.ports import Clock
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.charging.stations import errors, ordering
from rocade.services.charging.stations.dialect import Dialect
from rocade.services.charging.stations.model import (
    Connector,
    ConnectorState,
    Limit,
    Sample,
    Slot,
    Standing,
    Station,
    Transaction,
)
from rocade.services.charging.stations.service import PAGE, Stations
from rocade.trust.authority import Authority
from rocade.trust.authority.gate import acts

Known = NamedDependency[SkipValidation[Stations]]
AuthorityDependency = NamedDependency[SkipValidation[Authority]]
ClockDependency = NamedDependency[SkipValidation[Clock]]
Instant = Annotated[int, QueryParameter(ge=0, le=(1 << 53) - 1)]
Evse = Annotated[int, QueryParameter(ge=0, le=1000)]
Power = Annotated[float, QueryParameter(ge=0, le=1000)]
Seconds = Annotated[float, QueryParameter(ge=0, le=60)]
DAY_US = 86_400_000_000
MOST_VALUES = 2_000


class RegisteredView(msgspec.Struct, frozen=True):
    """`password` (security profiles 1 and 2) or `claim_code` (3) is seen only here."""

    id: str
    password: str
    claim_code: str


class StationsView(msgspec.Struct, frozen=True):
    items: list[Station]
    next: str | None


class TransactionView(msgspec.Struct, frozen=True):
    number: str
    evse: int
    connector: int
    began_us: int
    ended_us: int | None
    energy_kwh: float | None
    power_w: float | None
    soc_percent: float | None
    reason: str
    is_vehicle_known: bool
    missing: int


class WayView(msgspec.Struct, frozen=True):
    """What the station has shown about one way to limit it: untried, accepted, proven, rejected or ignored."""

    purpose: str
    unit: str
    proof: str
    at_us: int
    code: str


class StationView(msgspec.Struct, frozen=True):
    station: Station
    connectors: list[ConnectorState]
    open: list[TransactionView]
    limits: list[Standing]
    ways: list[WayView]
    units: list[str]


class TransactionsView(msgspec.Struct, frozen=True):
    items: list[TransactionView]
    next: str | None


class ValuesView(msgspec.Struct, frozen=True):
    """Meter values, the oldest first; `next` = go on from there."""

    items: list[Sample]
    next: int | None


class EventView(msgspec.Struct, frozen=True):
    id: str
    station: str
    at_us: int
    kind: str
    evse: int
    transaction: str
    code: str


class EventsView(msgspec.Struct, frozen=True):
    items: list[EventView]
    next: str | None


class OrderView(msgspec.Struct, frozen=True):
    """`state`: queued, sent, done, failed, expired."""

    id: str
    state: str
    answer: dict[str, Any]
    code: str


class TagWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`vehicle` '' = whoever bears the tag."""

    tag: str
    vehicle: str = ""
    label: str = ""
    ends_us: int | None = None
    is_blocked: bool = False


class TagView(msgspec.Struct, frozen=True):
    """`reference` stands for the tag, which is not kept."""

    reference: str
    vehicle: str
    label: str
    ends_us: int | None
    is_blocked: bool


class TagsView(msgspec.Struct, frozen=True):
    items: list[TagView]
    next: str | None


def _by(request: AnyRequest) -> str:
    return permit_of(request).principal.id


def _number(text: str) -> int:
    """A cursor or number from outside."""
    found = whole_number(text)
    if found is None:
        raise Refused("stations.number", "this is no number that was given out here")
    return found


def _shown(one: Transaction) -> TransactionView:
    return TransactionView(
        str(one.number), one.evse, one.connector, one.began_us, one.ended_us, one.energy_kwh, one.last_w, one.last_soc,
        one.reason, one.vehicle is not None, one.missing,
    )  # fmt: skip


# --- looking ----------------------------------------------------------------------------------------------------------


@get("/v1/stations", opt=does(acts.READ_STATIONS))
async def list_stations(stations: Known, cursor: FromQuery[str] = "", site: FromQuery[str] = "") -> StationsView:
    """Registered stations by name."""
    found = await stations.page(cursor, PAGE, site)
    return StationsView(found, found[-1].id if len(found) == PAGE else None)


@get("/v1/stations/{id:str}", opt=does(acts.READ_STATIONS))
async def show_station(stations: Known, id: FromPath[str]) -> StationView:
    """A station: its connectors, what charges there, limits and how they stand, what it has shown that it accepts."""
    station = await stations.station(id)
    memory: Dialect = await stations.dialect(id)
    ways = [WayView(one.way.purpose, one.way.unit, one.proof, one.at_us, one.code) for one in memory.shown]
    return StationView(
        station, await stations.connectors([id]), [_shown(one) for one in await stations.open_at(id)],
        await stations.standings([id]), [one for one in ways if one.proof != "untried"], list(memory.units),
    )  # fmt: skip


@get("/v1/stations/{id:str}/transactions", opt=does(acts.READ_STATIONS))
async def list_transactions(stations: Known, id: FromPath[str], cursor: FromQuery[str] = "") -> TransactionsView:
    """Transactions of a station, the newest first."""
    await stations.station(id)
    found = await stations.transactions(id, _number(cursor) if cursor else 1 << 62)
    return TransactionsView([_shown(one) for one in found], str(found[-1].number) if len(found) == PAGE else None)


@get("/v1/stations/{id:str}/meter", opt=does(acts.READ_STATIONS))
async def list_values(
    stations: Known, id: FromPath[str], evse: Evse = 1, from_us: Instant = 0, until_us: Instant = (1 << 53) - 1
) -> ValuesView:
    """Meter values of an EVSE."""
    await stations.station(id)
    found = await stations.meter(Connector(id, evse), from_us, until_us, 0, MOST_VALUES)
    return ValuesView(found, found[-1].at_us + 1 if len(found) == MOST_VALUES else None)


@get("/v1/station-events", opt=does(acts.READ_STATIONS))
async def list_events(stations: Known, station: FromQuery[str] = "", cursor: FromQuery[str] = "") -> EventsView:
    """What happened at stations, the newest first; meter values and states of connectors are not among it."""
    found = await stations.events(station, _number(cursor) if cursor else 1 << 62)
    items = [
        EventView(str(id), one.station, one.at_us, one.kind, one.evse, str(one.transaction), one.code)
        for id, one in found
    ]
    return EventsView(items, items[-1].id if len(items) == PAGE else None)


# --- registration -------------------------------------------------------------------------------------------------------


@post("/v1/stations", opt=does(acts.CHANGE_STATIONS))
async def register(
    request: AnyRequest,
    stations: Known,
    authority: AuthorityDependency,
    id: FromQuery[str],
    name: FromQuery[str] = "",
    site: FromQuery[str] = "",
    profile: FromQuery[int] = 2,
    is_open: FromQuery[bool] = False,
    phases: FromQuery[int] = 3,
    voltage: FromQuery[float] = 230.0,
) -> RegisteredView:
    """Register a station: its password, or the claim code of its certificate."""
    station = Station(id=id, name=name, site=site, profile=profile, is_open=is_open, phases=phases, voltage=voltage)
    password = await stations.register(station, _by(request))
    code = ""
    if profile == 3:
        code = await authority.claim(authority.region.identity("station", id), _by(request))
    return RegisteredView(id, password, code)


@put("/v1/stations/{id:str}", opt=does(acts.CHANGE_STATIONS))
async def change(
    request: AnyRequest,
    stations: Known,
    id: FromPath[str],
    name: FromQuery[str | None] = None,
    site: FromQuery[str | None] = None,
    profile: FromQuery[int | None] = None,
    is_open: FromQuery[bool | None] = None,
    is_closed: FromQuery[bool | None] = None,
    phases: FromQuery[int | None] = None,
    voltage: FromQuery[float | None] = None,
) -> Station:
    """Change what is given; a closed station is sent away and not let in again."""
    given = {"name": name, "site": site, "profile": profile, "is_open": is_open, "is_closed": is_closed, "phases": phases,
             "voltage": voltage}  # fmt: skip
    return await stations.change(id, _by(request), **{key: value for key, value in given.items() if value is not None})


@post("/v1/stations/{id:str}/password", status_code=200, opt=does(acts.CHANGE_STATIONS))
async def renew_password(
    request: AnyRequest, stations: Known, id: FromPath[str], at_once: FromQuery[bool] = False
) -> RegisteredView:
    """A new password to enter at the station. `at_once` ends the old one now, else the first use of the new one does."""
    return RegisteredView(id, await stations.renew_password(id, _by(request), at_once=at_once), "")


# --- orders and limits --------------------------------------------------------------------------------------------------


@post("/v1/stations/{id:str}/orders", status_code=200, opt=does(acts.RUN_STATIONS))
async def order(
    request: AnyRequest,
    stations: Known,
    id: FromPath[str],
    act: FromQuery[str],
    evse: Evse = 0,
    vehicle: FromQuery[str] = "",
    transaction: FromQuery[str] = "",
    message: FromQuery[str] = "",
    hard: FromQuery[bool] = False,
    wait_s: Seconds = 10.0,
) -> OrderView:
    """Start or stop a charge, reset, unlock, trigger a message, read the composite schedule, renew password or certificate."""
    await stations.station(id)
    body: dict[str, Any] = {"evse": evse, "message": message, "hard": hard}
    if vehicle:
        body["vehicle"] = _number(vehicle)
    if transaction:
        body["transaction"] = _number(transaction)
    ordering.check(act, body)
    number = await stations.order(id, act, body, _by(request))
    return OrderView(str(number), *await stations.outcome(number, wait_s))


@put("/v1/stations/{id:str}/limit", opt=does(acts.RUN_STATIONS))
async def limit(
    request: AnyRequest,
    stations: Known,
    clock: ClockDependency,
    id: FromPath[str],
    power_kw: Power,
    evse: Evse = 1,
    until_us: Instant = 0,
) -> Standing:
    """Want a limit at an EVSE from now on, for a day if no end is given; what its station makes of it is in `show_station`."""
    await stations.station(id)
    now_us = clock.now_us()
    wanted = Limit((Slot(now_us, power_kw),), until_us or now_us + DAY_US, _by(request))
    return await stations.limit(Connector(id, evse), wanted)


@delete("/v1/stations/{id:str}/limit", status_code=204, opt=does(acts.RUN_STATIONS))
async def unlimit(stations: Known, id: FromPath[str], evse: Evse = 1) -> None:
    """Want no limit there any more."""
    await stations.station(id)
    if await stations.unlimit(Connector(id, evse)) is None:
        raise errors.limit("unknown")


# --- tags ---------------------------------------------------------------------------------------------------------------


@get("/v1/station-tags", opt=does(acts.READ_STATION_TAGS))
async def list_tags(stations: Known, cursor: FromQuery[str] = "") -> TagsView:
    found = await stations.tags(cursor)
    items = [_tag(one) for one in found]
    return TagsView(items, items[-1].reference if len(items) == PAGE else None)


@post("/v1/station-tags", opt=does(acts.CHANGE_STATION_TAGS))
async def put_tag(request: AnyRequest, stations: Known, data: JSONBody[TagWanted]) -> TagView:
    """Let a tag charge, or change what it may; the tag itself is not kept."""
    vehicle = VehicleRef(_number(data.vehicle)) if data.vehicle else None
    made = await stations.put_tag(
        data.tag, _by(request), vehicle=vehicle, label=data.label, ends_us=data.ends_us, is_blocked=data.is_blocked
    )
    return _tag(made)


@delete("/v1/station-tags/{reference:str}", status_code=204, opt=does(acts.CHANGE_STATION_TAGS))
async def drop_tag(request: AnyRequest, stations: Known, reference: FromPath[str]) -> None:
    await stations.drop_tag(reference, _by(request))


def _tag(one: Any) -> TagView:
    return TagView(one.reference, str(one.vehicle or ""), one.label, one.ends_us, one.is_blocked)


HANDLERS = [list_stations, show_station, list_transactions, list_values, list_events, register, change, renew_password, order,
            limit, unlimit, list_tags, put_tag, drop_tag]  # fmt: skip
