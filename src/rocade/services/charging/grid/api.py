"""HTTP API of the grid: a grid operator's signals to a depot, plain or as OpenADR 3 events, their proof, and the depot's report.

Who may signal: a partner's machine (certificate or token) that is bound to the depot, or an operator with the support duty. For everybody
else the depot is not there. The guard's act opens the door only; each handler asks for the binding.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidation

from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.charging.grid.dimming import Grid
from rocade.services.charging.grid.model import DESK, HTTP, OPENADR, Signal
from rocade.services.charging.grid.reporting import Report, as_csv, report
from rocade.trust.authority.gate import acts
from rocade.wire.openadr import Limit, read_events

GridDependency = NamedDependency[SkipValidation[Grid]]
ClockDependency = NamedDependency[SkipValidation[Clock]]
Instant = Annotated[int | None, QueryParameter(ge=0, le=1 << 60)]
MONTH_US = 31 * 86_400_000_000


class SignalBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal. `start` default now; its end by `end` or by `duration_s`. Instants as 2026-11-22T17:00:00Z."""

    signal: str
    limit_kw: float
    start: datetime | None = None
    end: datetime | None = None
    duration_s: int | None = None


class SignalsView(msgspec.Struct, frozen=True):
    items: list[Signal]


class EventsView(msgspec.Struct, frozen=True):
    """`ignored`: what the events said besides, by event, that has no meaning here."""

    items: list[Signal]
    ignored: dict[str, list[str]]


class PartiesView(msgspec.Struct, frozen=True):
    items: list[str]


async def _admitted(request: AnyRequest, grid: Grid, site: str) -> tuple[str, str, bool]:
    """Who signals, as party and as actor, and whether by an operator's hand. Raises: Refused `charging.site.unknown`."""
    caller = permit_of(request).principal
    is_operator = "support" in caller.duties
    await grid.admit(site, caller.recipient, is_operator=is_operator)
    return caller.recipient, caller.id, is_operator


@post("/v1/charging/sites/{id:str}/dimming", status_code=200, opt=does(acts.CALL_GRID))
async def post_signal(
    request: AnyRequest, grid: GridDependency, clock: ClockDependency, id: FromPath[str], data: JSONBody[SignalBody]
) -> Signal:
    """Limit what this depot's charging draws. The same again changes nothing; another content under the id changes it."""
    party, actor, is_operator = await _admitted(request, grid, id)
    via = DESK if is_operator else HTTP
    (found,) = await grid.receive(id, [_limit(data, clock.now_us())], party, actor, via=via)
    return found


@delete("/v1/charging/sites/{id:str}/dimming/{signal:str}", status_code=200, opt=does(acts.CALL_GRID))
async def call_off(request: AnyRequest, grid: GridDependency, id: FromPath[str], signal: FromPath[str]) -> Signal:
    """Call a signal off before its end."""
    _, actor, _ = await _admitted(request, grid, id)
    return await grid.call_off(id, signal, actor)


@get("/v1/charging/sites/{id:str}/dimming", opt=does(acts.CALL_GRID))
async def list_signals(request: AnyRequest, grid: GridDependency, id: FromPath[str]) -> SignalsView:
    """Signals of this depot, those that end last first."""
    await _admitted(request, grid, id)
    return SignalsView(await grid.signals(id))


@get("/v1/charging/sites/{id:str}/dimming/{signal:str}", opt=does(acts.CALL_GRID))
async def read_signal(request: AnyRequest, grid: GridDependency, id: FromPath[str], signal: FromPath[str]) -> Signal:
    """One signal with the proof of what was done. Which car is an operator's business: others get 0 for it."""
    _, _, is_operator = await _admitted(request, grid, id)
    found = await grid.signal(id, signal)
    if is_operator:
        return found
    nameless = tuple(msgspec.structs.replace(line, ref=0) for line in found.proof)
    return msgspec.structs.replace(found, proof=nameless)


@post("/v1/charging/sites/{id:str}/openadr", status_code=200, opt=does(acts.CALL_GRID))
async def post_events(
    request: AnyRequest, grid: GridDependency, clock: ClockDependency, id: FromPath[str]
) -> EventsView:
    """OpenADR 3 events, or a notification of one, with `IMPORT_CAPACITY_LIMIT` payloads."""
    party, actor, _ = await _admitted(request, grid, id)
    events = read_events(await request.body(), clock.now_us())
    items = list[Signal]()
    for event in events:
        items += await grid.receive_event(id, event, party, actor, OPENADR)
    return EventsView(items, {event.id: list(event.ignored) for event in events if event.ignored})


@get("/v1/charging/sites/{id:str}/grid", opt=does(acts.READ_CHARGE_REPORT))
async def list_parties(grid: GridDependency, id: FromPath[str]) -> PartiesView:
    """Partners that may dim this depot."""
    await grid.charging.site(id)
    return PartiesView(await grid.parties(id))


@put("/v1/charging/sites/{id:str}/grid/{party:str}", status_code=204, opt=does(acts.BIND_GRID))
async def bind(request: AnyRequest, grid: GridDependency, id: FromPath[str], party: FromPath[str]) -> None:
    """Let a partner dim this depot."""
    await grid.bind(id, party, permit_of(request).principal.id)


@delete("/v1/charging/sites/{id:str}/grid/{party:str}", status_code=204, opt=does(acts.BIND_GRID))
async def unbind(request: AnyRequest, grid: GridDependency, id: FromPath[str], party: FromPath[str]) -> None:
    """Let it no longer; what it signalled stands until its end."""
    await grid.unbind(id, party, permit_of(request).principal.id)


@get("/v1/charging/sites/{id:str}/report", opt=does(acts.READ_CHARGE_REPORT))
async def read_report(
    grid: GridDependency, clock: ClockDependency, id: FromPath[str], from_us: Instant = None, until_us: Instant = None
) -> Report:
    """What planning avoided in a period: cost, CO2, peak. Default: the last 31 days."""
    return await _report(grid, clock, id, from_us, until_us)


@get("/v1/charging/sites/{id:str}/report.csv", opt=does(acts.READ_CHARGE_REPORT), media_type="text/csv")
async def read_report_table(
    grid: GridDependency,
    clock: ClockDependency,
    id: FromPath[str],
    from_us: Instant = None,
    until_us: Instant = None,
) -> Response[str]:
    """The same as a table."""
    found = await _report(grid, clock, id, from_us, until_us)
    return Response(as_csv(found), media_type="text/csv; charset=utf-8")


async def _report(grid: Grid, clock: Clock, id: str, from_us: int | None, until_us: int | None) -> Report:
    until_us = clock.now_us() if until_us is None else until_us
    from_us = until_us - MONTH_US if from_us is None else from_us
    return await report(grid.charging, id, from_us, until_us, await grid.signals(id))


def _limit(body: SignalBody, now_us: int) -> Limit:
    """Raises: Refused `charging.dimming.period`."""
    from_us = _us(body.start) if body.start else now_us
    if (body.end is None) == (body.duration_s is None):
        raise Refused("charging.dimming.end", "say when the dimming ends: either end or duration_s")
    until_us = _us(body.end) if body.end else from_us + (body.duration_s or 0) * 1_000_000
    if not -(1 << 60) < from_us < 1 << 60 or not -(1 << 60) < until_us < 1 << 60:
        raise Refused("charging.dimming.end", "name instants that a calendar has")
    return Limit(body.signal, body.limit_kw, from_us, until_us, body.start is None and body.end is None)


def _us(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


HANDLERS = [
    post_signal, call_off, list_signals, read_signal, post_events, list_parties, bind, unbind, read_report, read_report_table,
]  # fmt: skip
