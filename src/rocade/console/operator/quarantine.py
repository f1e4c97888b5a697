"""Quarantine: records that could not be taken in; try them again, or give them up."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery

from rocade.console.operator.desk import Desk, DeskDependency, names_of
from rocade.console.pages import fragment, render
from rocade.core.ports import AuditEntry
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.telemetry import quarantine
from rocade.trust.authority.gate import acts

PAGE = 50


@get("/quarantine", opt=does(acts.READ_QUARANTINE), include_in_schema=False)
async def show_quarantine(
    request: AnyRequest, desk: DeskDependency, vehicle: FromQuery[int | None] = None, after: FromQuery[int] = 0
) -> Response[str]:
    found = await quarantine.list_held(desk.ledger, vehicle, after, PAGE + 1)
    held = found[:PAGE]
    of = f"vehicle={vehicle}&" if vehicle else ""
    return render(
        request,
        "operator/quarantine.html",
        "quarantine",
        {},
        held=held,
        names=await names_of(desk, [one.ref for one in held]),
        vehicle=vehicle,
        next=f"/quarantine?{of}after={held[-1].id}" if len(found) > PAGE else "",
        first=f"/quarantine?{of}" if after else "",
    )


@get("/quarantine/{number:int}/drop", opt=does(acts.READ_QUARANTINE), include_in_schema=False)
async def ask_drop(request: AnyRequest, number: FromPath[int]) -> Response[str]:
    """The form inside the dialog."""
    return fragment(request, "operator/drop.html", number=number, act=acts.DROP_QUARANTINED.name)


@post("/quarantine/{number:int}/replay", opt=does(acts.REPLAY_QUARANTINED), include_in_schema=False, status_code=200)
async def replay(request: AnyRequest, desk: DeskDependency, number: FromPath[int]) -> Response[str]:
    await _record(request, desk, "quarantine.replay", number)
    await quarantine.replay(desk.ledger, desk.log, number)
    return fragment(request, "operator/settled.html", number=number, what="replayed")


@post("/quarantine/{number:int}/drop", opt=does(acts.DROP_QUARANTINED), include_in_schema=False, status_code=200)
async def drop(request: AnyRequest, desk: DeskDependency, number: FromPath[int]) -> Response[str]:
    await _record(request, desk, "quarantine.drop", number)
    await quarantine.drop(desk.ledger, number)
    return fragment(request, "operator/settled.html", number=number, what="dropped")


async def _record(request: AnyRequest, desk: Desk, action: str, number: int) -> None:
    await desk.audit.record(AuditEntry(desk.clock.now_us(), caller_of(request).id, action, f"quarantine:{number}"))


HANDLERS = [show_quarantine, ask_drop, replay, drop]
