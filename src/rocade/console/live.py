"""What the pages ask for while they are open: the fleet's movement, a vehicle's values, the plug corner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation
from litestar.response import Stream

from rocade.console import curves, ingest
from rocade.console.chaos import ACTS, Chaos
from rocade.console.feed import Feed
from rocade.core.catalogue import Catalogue
from rocade.core.data_classes import bit
from rocade.core.errors import Refused
from rocade.core.identifiers import whole_number
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.http import AnyRequest, caller_of, does, note_look, permit_of, refs_of, right_of
from rocade.doors.http.streams import ALIVE, NOTED_EVERY_S, event, events, pause
from rocade.fabric.status import StatusBoard
from rocade.services.telemetry import api as telemetry_api
from rocade.services.telemetry import history_api
from rocade.services.telemetry.chunks import DAY_US
from rocade.services.vehicles import api as vehicles_api
from rocade.services.vehicles.twin import Twin, TwinStore
from rocade.services.vehicles.watching import TwinWatch
from rocade.trust.authority.gate import acts

LONGEST_TRACK_US = 7 * DAY_US
EMPTY = Twin(0, 0, 0, 0, None, None, None, {}, {})
"""Of a vehicle that has not sent anything yet."""


@get("/live/fleet", opt=does(acts.WATCH_FLEET), include_in_schema=False)
async def fleet(request: AnyRequest, feed: NamedDependency[SkipValidation[Feed]]) -> Stream:
    return events(request, _noted(request, feed.watch(request.app.state.closing)))


async def _noted(request: AnyRequest, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same frames; each minute the owners of vehicles on the map get to know who looks at it."""
    due_s = monotonic()
    async for frame in frames:
        if monotonic() >= due_s:
            due_s += NOTED_EVERY_S
            for ref in refs_of(request):
                right = right_of(request, ref)
                if right.classes & vehicles_api.LOCATION:
                    seen = right.classes & (vehicles_api.LOCATION | vehicles_api.DRIVING)
                    note_look(request, ref, msgspec.structs.replace(right, classes=seen), ())
        yield frame


@get("/live/vehicles/{ref:int}/twin", opt=does(acts.READ_TWIN), include_in_schema=False)
async def show_twin(
    request: AnyRequest,
    ref: FromPath[int],
    twins: vehicles_api.TwinDependency,
    catalogue: vehicles_api.CatalogueDependency,
) -> vehicles_api.TwinView:
    return vehicles_api.twin_view(await twins.latest(ref) or EMPTY, catalogue, permit_of(request).right.classes)


@get("/live/vehicles/{ref:int}", opt=does(acts.READ_TWIN), include_in_schema=False)
async def watch_twin(
    request: AnyRequest,
    ref: FromPath[int],
    twins: vehicles_api.TwinDependency,
    catalogue: vehicles_api.CatalogueDependency,
    watch: NamedDependency[SkipValidation[TwinWatch]],
) -> Stream:
    """The twin whenever it changed."""
    return events(request, _twins(request, ref, twins, catalogue, watch))


async def _twins(
    request: AnyRequest, ref: int, twins: TwinStore, catalogue: Catalogue, watch: TwinWatch
) -> AsyncIterator[bytes]:
    """What may be seen is looked up for every frame; at least once a second one goes out, or a sign of life."""
    closing: asyncio.Event = request.app.state.closing
    shown = -1, 0
    with watch.of(ref) as changed:
        while not closing.is_set():
            twin, classes = await twins.latest(ref) or EMPTY, right_of(request, ref).classes
            if (twin.updated_us, classes) != shown and classes:
                shown = twin.updated_us, classes
                yield event("twin", msgspec.json.encode(vehicles_api.twin_view(twin, catalogue, classes)))
            else:
                yield ALIVE
            await changed.wait(1.0)


@get("/live/vehicles/{ref:int}/gaps", opt=does(acts.READ_GAPS), include_in_schema=False)
async def show_gaps(ref: FromPath[int], ledger: telemetry_api.LedgerDependency) -> telemetry_api.GapsView:
    return telemetry_api.gaps_view(await ledger.numbers(ref))


@get("/live/vehicles/{ref:int}/curves", opt=does(acts.READ_HISTORY), include_in_schema=False)
async def show_curves(
    request: AnyRequest,
    ref: FromPath[int],
    history: history_api.HistoryDependency,
    catalogue: vehicles_api.CatalogueDependency,
    audit: NamedDependency[SkipValidation[Audit]],
    clock: NamedDependency[SkipValidation[Clock]],
    signal: FromQuery[list[int]],
    from_us: FromQuery[int],
    until_us: FromQuery[int],
    points: FromQuery[int] = 600,
) -> curves.Curves:
    if until_us <= from_us:
        raise Refused("telemetry.range.empty", "from must be before to")
    history_api.note_read(request, audit, clock, [ref], {"from_us": from_us, "until_us": until_us})
    classes = permit_of(request).right.classes
    seen = [one for one in signal[:12] if classes & bit(catalogue.class_of(one))]
    return await curves.curves(history, catalogue, ref, seen, from_us, until_us, max(10, min(points, 4000)))


@get("/live/vehicles/{ref:int}/trips", opt=does(acts.READ_TRIPS), include_in_schema=False)
async def show_trips(
    request: AnyRequest,
    ref: FromPath[int],
    history: history_api.HistoryDependency,
    catalogue: vehicles_api.CatalogueDependency,
    audit: NamedDependency[SkipValidation[Audit]],
    clock: NamedDependency[SkipValidation[Clock]],
    until_us: FromQuery[int | None] = None,
) -> history_api.TripsView:
    """The trips of the week before the vehicle's last sign, newest first."""
    end_us = until_us or clock.now_us()
    history_api.note_read(request, audit, clock, [ref], {"until_us": end_us})
    found = await history_api.trips_between(history, catalogue, ref, end_us - LONGEST_TRACK_US, end_us)
    return history_api.TripsView(found[::-1])


@get("/live/vehicles/{ref:int}/track", opt=does(acts.READ_TRACK), include_in_schema=False)
async def show_track(
    request: AnyRequest,
    ref: FromPath[int],
    history: history_api.HistoryDependency,
    catalogue: vehicles_api.CatalogueDependency,
    audit: NamedDependency[SkipValidation[Audit]],
    clock: NamedDependency[SkipValidation[Clock]],
    from_us: FromQuery[int],
    until_us: FromQuery[int],
) -> curves.Track:
    history_api.note_read(request, audit, clock, [ref], {"from_us": from_us, "until_us": until_us})
    return await curves.track(history, catalogue, ref, from_us, min(until_us, from_us + LONGEST_TRACK_US))


@get("/live/ingest", opt=does(acts.READ_STATUS), include_in_schema=False)
async def watch_ingest(request: AnyRequest, status: NamedDependency[SkipValidation[StatusBoard]]) -> Stream:
    """What flows, once a second."""
    return events(request, ingest.watch(status, request.app.state.closing))


@get("/live/town.geojson", opt=does(acts.READ_GROUND), include_in_schema=False)
async def show_town(town: NamedDependency[SkipValidation[bytes | None]]) -> Response[bytes]:
    if town is None:
        raise Refused("console.town.missing", "no town is drawn here")
    return Response(town, media_type="application/geo+json", headers={"cache-control": "max-age=60"})


@get("/live/streets.pmtiles", opt=does(acts.READ_GROUND), include_in_schema=False)
async def show_streets(request: AnyRequest, pmtiles: NamedDependency[SkipValidation[Path | None]]) -> Response[bytes]:
    """A byte range of the street map file: browsers read PMTiles piece by piece."""
    if pmtiles is None:
        raise Refused("console.streets.missing", "no street maps are set; see http.pmtiles in rocade.toml")
    unit, _, span = request.headers.get("range", "").partition("=")
    first, last = (whole_number(one) for one in (span.partition("-")[0], span.partition("-")[2]))
    if unit != "bytes" or first is None or last is None or not 0 <= last - first < 1 << 24:
        raise Refused("console.streets.range", "ask for one byte range of at most 16 MiB")
    body, size = await asyncio.to_thread(_read_range, pmtiles, first, last - first + 1)
    headers = {"content-range": f"bytes {first}-{first + len(body) - 1}/{size}", "accept-ranges": "bytes"}
    return Response(body, status_code=206, media_type="application/octet-stream", headers=headers)


def _read_range(file: Path, start: int, length: int) -> tuple[bytes, int]:
    with file.open("rb") as source:
        source.seek(start)
        return source.read(length), file.stat().st_size


class Plug(msgspec.Struct, frozen=True):
    act: str
    vehicle: str = ""


@post("/live/chaos", opt=does(acts.PULL_PLUG), include_in_schema=False, status_code=200)
async def pull_plug(
    request: AnyRequest,
    data: JSONBody[Plug],
    chaos: NamedDependency[SkipValidation[Chaos | None]],
    audit: NamedDependency[SkipValidation[Audit]],
    clock: NamedDependency[SkipValidation[Clock]],
) -> dict[str, str]:
    """Break something on purpose; exists only where `--chaos` was asked for."""
    if chaos is None:
        raise Refused("console.chaos.missing", "nothing may be broken here; start with --chaos")
    if data.act not in ACTS:
        raise Refused("console.chaos.act", f"act must be one of {', '.join(ACTS)}")
    await audit.record(AuditEntry(clock.now_us(), caller_of(request).id, "console.chaos", data.act))
    return {"said": await chaos.act(data.act, data.vehicle)}


@get("/live/chaos", opt=does(acts.WATCH_CHAOS), include_in_schema=False)
async def watch_chaos(request: AnyRequest, chaos: NamedDependency[SkipValidation[Chaos | None]]) -> Stream:
    if chaos is None:
        raise Refused("console.chaos.missing", "nothing may be broken here; start with --chaos")
    return events(request, _counts(chaos, request.app.state.closing))


async def _counts(chaos: Chaos, closing: asyncio.Event) -> AsyncIterator[bytes]:
    while not closing.is_set():
        yield event("counts", msgspec.json.encode(await chaos.counts()))
        await pause(closing)


HANDLERS = [
    fleet,
    show_twin,
    watch_twin,
    show_gaps,
    show_curves,
    show_trips,
    show_track,
    watch_ingest,
    show_town,
    show_streets,
    pull_plug,
    watch_chaos,
]
