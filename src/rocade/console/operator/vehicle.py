"""One vehicle: what it says now, its curves, trips and gaps; its papers, what the audit log holds. Who looked is its owner’s to see.

Of an owned vehicle only the classes its owner shares are shown. The parts below the values are fetched when they come
into view, each under its own act.
"""

from __future__ import annotations

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation

from rocade.console.operator.desk import DeskDependency, name_of, qr
from rocade.console.pages import fragment, render
from rocade.console.viewer import may
from rocade.core import data_classes
from rocade.core.identifiers import VehicleRef
from rocade.doors.http import AnyRequest, caller_of, does, permit_of
from rocade.trust.authority.book import Asked
from rocade.trust.authority.gate import acts

ENTRIES = 20
PARTS = {
    "twin": acts.READ_TWIN,
    "history": acts.READ_HISTORY,
    "trips": acts.READ_TRIPS,
    "track": acts.READ_TRACK,
    "gaps": acts.READ_GAPS,
    "commands": acts.READ_COMMANDS,
    "papers": acts.READ_CERTIFICATES,
    "audit": acts.READ_AUDIT,
    "give": acts.GIVE_VEHICLE,
    "revoke": acts.REVOKE,
}
"""Parts of the page by the act each asks for."""


@get("/vehicles/{ref:int}", opt=does(acts.OPEN_VEHICLE), include_in_schema=False)
async def show_vehicle(
    request: AnyRequest,
    ref: FromPath[int],
    desk: DeskDependency,
    town: NamedDependency[SkipValidation[bytes | None]],
    pmtiles: NamedDependency[SkipValidation[object]],
) -> Response[str]:
    vehicle, right = await desk.registry.by_ref(VehicleRef(ref)), permit_of(request).right
    parts = {name: may(request, act, ref) for name, act in PARTS.items()}
    parts["commands"] &= "/vehicles/{ref:int}/commands" in {route.path for route in request.app.routes}
    data = {"ref": str(ref), "town": town is not None, "pmtiles": pmtiles is not None, "may": parts}
    return render(
        request,
        "vehicle.html",
        "vehicle",
        data,
        vehicle=vehicle,
        name=name_of(vehicle, desk.catalogue),
        id=vehicle.id if may(request, acts.READ_VEHICLE, ref) else "",
        parts=parts,
        can_give=parts["give"] and not right.is_owned and desk.consents is not None,
        is_owned=right.is_owned,
        classes=data_classes.names(right.classes),
        pmtiles=data["pmtiles"],
    )


@get("/vehicles/{ref:int}/papers", opt=does(acts.READ_CERTIFICATES), include_in_schema=False)
async def show_papers(request: AnyRequest, ref: FromPath[int], desk: DeskDependency) -> Response[str]:
    vehicle = await desk.registry.by_ref(VehicleRef(ref))
    found = await desk.papers.of(desk.authority.region.identity("vehicle", vehicle.id).uri)
    return fragment(request, "operator/vehicle_papers.html", papers=found)


@get("/vehicles/{ref:int}/audit", opt=does(acts.READ_AUDIT), include_in_schema=False)
async def show_entries(request: AnyRequest, ref: FromPath[int], desk: DeskDependency) -> Response[str]:
    found = await desk.book.browse(Asked(subject=f"vehicle:{ref}"), limit=ENTRIES)
    return fragment(request, "operator/vehicle_audit.html", entries=found.entries, ref=ref)


@post("/vehicles/{ref:int}/owner-code", opt=does(acts.GIVE_VEHICLE), include_in_schema=False, status_code=200)
async def hand_out(request: AnyRequest, ref: FromPath[int], desk: DeskDependency) -> Response[str]:
    """The one-time code that goes out with the vehicle and makes its bearer the owner."""
    assert desk.consents is not None, "this page is served only where consents are"
    code = await desk.consents.hand_out(ref, caller_of(request).id)
    return fragment(request, "operator/owner_code.html", code=code, picture=qr(code))


HANDLERS = [show_vehicle, show_papers, show_entries, hand_out]
