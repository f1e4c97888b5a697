"""HTTP API of the history: ranges, downsampled ranges, many vehicles at once, fleet aggregates.

Answers are streams in the format asked for (CSV, JSON, Arrow, Parquet). Every read of a vehicle's history is audited with
who asked. Instants are ISO 8601 (UTC unless they say otherwise) or microseconds.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import numpy as np
from litestar import get
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation
from litestar.response import Stream

from rocade.core.catalogue import Catalogue
from rocade.core.data_classes import bit, mask
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.core.signals import Signal
from rocade.doors.http import AnyRequest, caller_of, does, hidden_from, note_look, permit_of, right_of
from rocade.fabric.history import History
from rocade.services.telemetry import export, store
from rocade.services.telemetry.chunks import DAY_US, HOUR_US, Samples
from rocade.services.telemetry.resampling import Buckets, Resampler
from rocade.services.telemetry.trips import ROLES, Trip, trips_of
from rocade.services.vehicles import Registry
from rocade.trust.authority.gate import acts

HistoryDependency = NamedDependency[SkipValidation[History]]
RegistryDependency = NamedDependency[SkipValidation[Registry]]
CatalogueDependency = NamedDependency[SkipValidation[Catalogue]]
AuditDependency = NamedDependency[SkipValidation[Audit]]
ClockDependency = NamedDependency[SkipValidation[Clock]]
Since = Annotated[str | None, QueryParameter(name="from", description="Start, inclusive. Default: the beginning.")]
Until = Annotated[str | None, QueryParameter(name="to", description="End, exclusive. Default: tomorrow.")]

MAX_VEHICLES = 1000
LONGEST_TRIPS_US = 31 * DAY_US
AGGREGATES = {name: name for name in ("mean", "min", "max", "last", "count")} | {"twa": "twmean"}
_EVERY = re.compile(r"(\d{1,9})(us|ms|s|m|h|d)\Z")
_UNIT_US = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000, "h": HOUR_US, "d": DAY_US}


class Asked(msgspec.Struct, frozen=True):
    """What is asked of the history, checked."""

    refs: Sequence[int]
    signals: Sequence[Signal]
    from_us: int
    until_us: int
    every_us: int
    aggregate: str

    @property
    def names(self) -> dict[int, str]:
        return {int(signal.id): signal.name for signal in self.signals}


def instant_us(text: str | None, default_us: int) -> int:
    """Raises: Refused `telemetry.range.instant`."""
    if text is None:
        return default_us
    if re.fullmatch(r"-?\d{9,17}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(
            "telemetry.range.instant", "write an instant as 2026-11-21T08:00:00Z or in microseconds"
        ) from None
    whole = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds


def width_us(text: str | None) -> int:
    """Raises: Refused `telemetry.range.every`."""
    if text is None:
        return 0
    found = _EVERY.match(text)
    if not found or int(found[1]) == 0:
        raise Refused("telemetry.range.every", "write the width of a window as 10s, 60s, 5m, 1h or 1d")
    return int(found[1]) * _UNIT_US[found[2]]


def ask(
    catalogue: Catalogue, clock: Clock, refs: Sequence[int], names: Sequence[str], span: tuple[str | None, str | None],
    every: str | None, aggregate: str,
) -> Asked:  # fmt: skip
    """Check what is asked.

    Raises: Refused `telemetry.range.*`, `telemetry.history.*`, `catalogue.signal.unknown`.
    """
    if not names:
        raise Refused("telemetry.history.signal", "name at least one signal")
    if aggregate not in AGGREGATES:
        raise Refused("telemetry.history.aggregate", f"agg must be one of {', '.join(AGGREGATES)}")
    if len(refs) > MAX_VEHICLES:
        raise Refused("telemetry.history.too_many", f"ask for at most {MAX_VEHICLES} vehicles at once")
    signals = [catalogue.by_name(name) for name in names]
    if len({signal.is_text for signal in signals}) > 1 or (every and signals[0].is_text):
        raise Refused("telemetry.history.text", "ask for text signals apart from numbers, and without every")
    from_us, until_us = instant_us(span[0], 0), instant_us(span[1], clock.now_us() + DAY_US)
    if from_us >= until_us:
        raise Refused("telemetry.range.empty", "from must be before to")
    return Asked(sorted(set(refs)), signals, from_us, until_us, width_us(every), aggregate)


async def parts(history: History, asked: Asked) -> AsyncIterator[store.Part]:
    """The answer's samples; windows come as samples at their beginnings, without doubt: what is doubtful is not counted."""
    found = store.samples(history, asked.refs, list(asked.names), asked.from_us, asked.until_us)
    if not asked.every_us:
        async for part in found:
            yield part
        return
    async for part in _windows(found, asked):
        if len(part[2].time_us):
            yield part


async def _windows(found: AsyncIterator[store.Part], asked: Asked) -> AsyncIterator[store.Part]:
    """Windows of one vehicle and signal after the other."""
    of: tuple[int, int] | None = None
    resampler = Resampler(asked.every_us, asked.until_us)
    async for vehicle, signal, samples in found:
        if of not in {None, (vehicle, signal)}:
            yield _part(of, resampler.finish(), asked.aggregate)
            resampler = Resampler(asked.every_us, asked.until_us)
        of = (vehicle, signal)
        yield _part(of, resampler.add(samples), asked.aggregate)
    if of is not None:
        yield _part(of, resampler.finish(), asked.aggregate)


def _part(of: tuple[int, int] | None, buckets: Buckets, aggregate: str) -> store.Part:
    assert of is not None
    time_us = buckets["time_us"].astype(np.int64)
    quality, row = np.zeros(len(time_us), np.uint8), np.zeros(len(time_us), np.int64)
    return *of, Samples(time_us, buckets[AGGREGATES[aggregate]].astype(np.float64), quality, row)


def _answer(history: History, asked: Asked, form: str) -> Stream:
    """Columns that tell lines apart only where more than one vehicle or signal was asked for."""
    vehicles = {ref: str(ref) for ref in asked.refs} if len(asked.refs) > 1 else None
    signals = asked.names if len(asked.signals) > 1 else None
    body = export.export(parts(history, asked), form, vehicles, signals)
    return Stream(body, media_type=export.MEDIA_TYPES[form], headers={"cache-control": "no-store"})


def check_form(form: str) -> str:
    """Raises: Refused `telemetry.export.format`, before the answer begins."""
    if form not in export.MEDIA_TYPES:
        raise Refused("telemetry.export.format", f"formats are {', '.join(export.MEDIA_TYPES)}")
    return form


WHOSE_TIME = frozenset({"owner", "former"})
"""Relations that name a person's own time with a vehicle. In the seconds in which a change of owner takes effect its reference names no
vehicle any more while he who gave it away is still its owner; afterwards he is its former owner."""


async def known(request: AnyRequest, registry: Registry, ref: int) -> None:
    """The reference of an ended ownership names no vehicle any more, but still its former owner's time.

    Raises: Refused `vehicles.unknown`.
    """
    if permit_of(request).right.relation not in WHOSE_TIME:
        await registry.by_ref(VehicleRef(ref))


def check_classes(asked: Asked, granted: Mapping[int, int]) -> None:
    """Every signal asked for belongs to a class granted on every vehicle; half an answer would look like a whole one.

    Raises: Refused `gate.denied`, naming the class.
    """
    for signal in asked.signals:
        name = signal.data_class
        for ref, classes in granted.items():
            if not classes & bit(name):
                raise Refused(
                    "gate.denied", f"{signal.name} is {name} data of this vehicle, which you may not see for this purpose",
                    missing=name, ref=str(ref),
                )  # fmt: skip


def note_read(request: AnyRequest, audit: Audit, clock: Clock, refs: Sequence[int], facts: dict[str, Any]) -> None:
    """One audit entry per vehicle read."""
    actor, now_us = caller_of(request).id, clock.now_us()
    for ref in refs:
        audit.note(AuditEntry(now_us, actor, "telemetry.history.read", f"vehicle:{ref}", facts=facts))


@dataclass
class Exported(Operation):
    """Documents that the answer comes in the format asked for."""

    def __post_init__(self) -> None:
        answer = (self.responses or {})["200"]
        assert isinstance(answer, OpenAPIResponse)
        answer.content = {media: OpenAPIMediaType() for media in export.MEDIA_TYPES.values()}


@get("/v1/vehicles/{ref:int}/history", opt=does(acts.READ_HISTORY), operation_class=Exported)
async def read_history(
    request: AnyRequest,
    ref: FromPath[int],
    history: HistoryDependency,
    registry: RegistryDependency,
    catalogue: CatalogueDependency,
    audit: AuditDependency,
    clock: ClockDependency,
    signal: FromQuery[list[str]],
    since: Since = None,
    until: Until = None,
    every: FromQuery[str | None] = None,
    agg: FromQuery[str] = "mean",
    format: FromQuery[str] = "json",
) -> Stream:
    """What a vehicle said of one or several signals: columns time, value, quality; `every` downsamples with `agg`.

    `format`: csv, json, arrow or parquet; `agg`: mean, min, max, last, count or twa (time-weighted mean).
    """
    form = check_form(format)
    asked = ask(catalogue, clock, [ref], signal, (since, until), every, agg)
    await known(request, registry, ref)
    check_classes(asked, {ref: permit_of(request).right.classes})
    note_read(request, audit, clock, asked.refs, {"from_us": asked.from_us, "until_us": asked.until_us})
    return _answer(history, asked, form)


@get("/v1/history", opt=does(acts.READ_MANY), operation_class=Exported)
async def read_many(
    request: AnyRequest,
    history: HistoryDependency,
    registry: RegistryDependency,
    catalogue: CatalogueDependency,
    audit: AuditDependency,
    clock: ClockDependency,
    ref: FromQuery[list[int]],
    signal: FromQuery[list[str]],
    since: Since = None,
    until: Until = None,
    every: FromQuery[str | None] = None,
    agg: FromQuery[str] = "mean",
    format: FromQuery[str] = "json",
) -> Stream:
    """The same for many vehicles at once, with a column `vehicle`. Refused if one of them is unknown."""
    form = check_form(format)
    asked = ask(catalogue, clock, ref, signal, (since, until), every, agg)
    rights = {one: right_of(request, one) for one in asked.refs}
    check_classes(asked, {one: right.classes for one, right in rights.items()})
    present = [VehicleRef(one) for one, right in rights.items() if right.relation not in WHOSE_TIME]
    registered = await registry.by_refs(present)
    if len(registered) < len(present):
        raise Refused("vehicles.unknown", f"{len(present) - len(registered)} of these vehicles are not registered")
    for one, right in rights.items():
        note_look(request, one, right, signal)
    note_read(request, audit, clock, asked.refs, {"from_us": asked.from_us, "until_us": asked.until_us})
    return _answer(history, asked, form)


class TripsView(msgspec.Struct, frozen=True):
    items: list[Trip]


@get("/v1/vehicles/{ref:int}/trips", opt=does(acts.READ_TRIPS))
async def read_trips(
    request: AnyRequest,
    ref: FromPath[int],
    history: HistoryDependency,
    registry: RegistryDependency,
    catalogue: CatalogueDependency,
    audit: AuditDependency,
    clock: ClockDependency,
    since: Since = None,
    until: Until = None,
) -> TripsView:
    """Trips found in speed and position, in order of time; default: the last 31 days, at most that long."""
    now_us = clock.now_us()
    until_us = instant_us(until, now_us)
    from_us = instant_us(since, until_us - LONGEST_TRIPS_US)
    if not 0 < until_us - from_us <= LONGEST_TRIPS_US:
        raise Refused("telemetry.range.trips", "ask for trips of at most 31 days at once")
    await known(request, registry, ref)
    note_read(request, audit, clock, [ref], {"from_us": from_us, "until_us": until_us})
    return TripsView(await trips_between(history, catalogue, ref, from_us, until_us))


async def trips_between(history: History, catalogue: Catalogue, ref: int, from_us: int, until_us: int) -> list[Trip]:
    signals = {role: [int(catalogue.by_name(name).id) for name in names] for role, names in ROLES.items()}
    return await trips_of(history, ref, signals, from_us, until_us)


class FleetLine(msgspec.Struct, frozen=True):
    """One signal of one group in one window. `group` is the brand or model, '' = the whole fleet."""

    signal: str
    group: str
    from_us: int
    count: int
    mean: float
    min: float
    max: float


class FleetView(msgspec.Struct, frozen=True):
    items: list[FleetLine]


@get("/v1/fleet/history", opt=does(acts.READ_FLEET))
async def read_fleet(
    request: AnyRequest,
    history: HistoryDependency,
    registry: RegistryDependency,
    catalogue: CatalogueDependency,
    audit: AuditDependency,
    clock: ClockDependency,
    signal: FromQuery[list[str]],
    since: Since = None,
    until: Until = None,
    every: FromQuery[str] = "1h",
    by: FromQuery[str] = "",
) -> FleetView:
    """Count, mean, lowest and highest of all vehicles by whole hours; `by` = brand, model, kind or powertrain.

    Vehicles whose owner has not granted these data to the operator for this purpose are left out.
    """
    asked = ask(catalogue, clock, [], signal, (since, until), every, "mean")
    first, last = asked.from_us // HOUR_US * HOUR_US, -(-asked.until_us // HOUR_US) * HOUR_US
    groups, names = await _groups(registry, by) if by else (None, [""])
    wanted = mask(signal.data_class for signal in asked.signals)
    hidden = hidden_from(request, wanted)
    found = await store.hourly(
        history, list(asked.names), first, last, every_us=asked.every_us, groups=groups, without=hidden
    )
    actor = caller_of(request).id
    audit.note(AuditEntry(clock.now_us(), actor, "telemetry.fleet.read", "fleet", facts={"by": by or "all"}))
    lines = zip(*(found.column(at).to_pylist() for at in range(7)), strict=True)
    return FleetView([FleetLine(asked.names[line[0]], names[line[1]], *line[2:]) for line in lines])


async def _groups(registry: Registry, by: str) -> tuple[dict[int, int], list[str]]:
    """Numbers for every vehicle's group, and the groups' names by number. Raises: Refused `telemetry.fleet.by`."""
    if by not in {"brand", "model", "kind", "powertrain"}:
        raise Refused("telemetry.fleet.by", "by must be brand, model, kind or powertrain")
    members: dict[int, int] = {}
    numbers: dict[str, int] = {}
    cursor: str | None = None
    while True:
        page = await registry.list(cursor, 1000)
        for vehicle in page.vehicles:
            members[vehicle.ref] = numbers.setdefault(getattr(vehicle, by), len(numbers))
        if (cursor := page.cursor) is None:
            return members, list(numbers)


HANDLERS = [read_history, read_many, read_trips, read_fleet]
