"""Enrolment: a claim code for a vehicle, dealer, partner or program, as text and as a picture; and what became of codes."""

from __future__ import annotations

import msgspec
from litestar import Response, get, post
from litestar.params import FromQuery, URLEncodedBody

from rocade.console.operator.desk import Desk, DeskDependency, qr
from rocade.console.operator.fleet import brand_titles
from rocade.console.pages import fragment, render
from rocade.console.viewer import may
from rocade.core.errors import Refused
from rocade.core.identifiers import KINDS as PARTIES
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.vehicles import KINDS, POWERTRAINS
from rocade.trust.authority.authority import CLAIM_LIFE_US
from rocade.trust.authority.gate import acts


@get("/enrolment", opt=does(acts.READ_ENROLMENTS), include_in_schema=False)
async def show_enrolment(request: AnyRequest, desk: DeskDependency, who: FromQuery[str] = "vehicle") -> Response[str]:
    return render(
        request,
        "operator/enrolment.html",
        "enrolment",
        {},
        who="party" if who == "party" and may(request, acts.ENROL_PARTY) else "vehicle",
        brands=sorted(brand_titles(request, desk.catalogue).items(), key=lambda one: one[1].lower()),
        kinds=KINDS,
        powertrains=POWERTRAINS,
        parties=[kind for kind in PARTIES if kind != "vehicle"],
        region=desk.authority.region.region,
        codes=await desk.papers.codes(),
        now_us=desk.clock.now_us(),
        act=acts.ENROL_PARTY.name,
    )


class NewVehicle(msgspec.Struct, frozen=True):
    id: str
    kind: str = "car"
    brand: str = "other"
    model: str = ""
    powertrain: str = "electric"
    market: str = ""
    hardware: str = ""


@post("/enrolment/vehicle", opt=does(acts.ENROL_VEHICLE), include_in_schema=False, status_code=200)
async def enrol_vehicle(request: AnyRequest, desk: DeskDependency, data: URLEncodedBody[NewVehicle]) -> Response[str]:
    """Register the vehicle if it is new, and make its code."""
    id = data.id.strip()
    if id not in await desk.registry.resolve_many([id]):
        market = data.market or desk.authority.region.region
        try:
            await desk.registry.add(id, data.kind, data.brand, data.model, data.powertrain, market, data.hardware)
        except Refused as refusal:
            if refusal.code != "vehicles.exists":
                raise
    return await _code(request, desk, "vehicle", id)


@post("/enrolment/party", opt=does(acts.ENROL_PARTY), include_in_schema=False, status_code=200)
async def enrol_party(
    request: AnyRequest, desk: DeskDependency, kind: FromQuery[str], id: FromQuery[str]
) -> Response[str]:
    """What a touch is bound to stands in the query."""
    if kind == "vehicle":
        raise Refused("trust.papers.asked", "a vehicle is enrolled by the form for vehicles")
    return await _code(request, desk, kind, id.strip())


async def _code(request: AnyRequest, desk: Desk, kind: str, id: str) -> Response[str]:
    code = await desk.authority.claim(desk.authority.region.identity(kind, id), caller_of(request).id)
    until_us = desk.clock.now_us() + CLAIM_LIFE_US
    return fragment(request, "operator/code.html", kind=kind, id=id, code=code, picture=qr(code), until_us=until_us)


HANDLERS = [show_enrolment, enrol_vehicle, enrol_party]
