"""Certificates: who is late to renew or fell out, and revoking a party's all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.params import FromQuery

from rocade.console.operator.desk import Desk, DeskDependency
from rocade.console.pages import fragment, render
from rocade.core.errors import Refused
from rocade.core.identifiers import KINDS
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.trust.authority.gate import acts
from rocade.trust.authority.papers import STATES, Paper

PAGE = 50
HEX = re.compile(r"[0-9a-f]{1,40}")
REASONS = ("key", "vehicle", "left", "replaced", "other")


@get("/certificates", opt=does(acts.READ_CERTIFICATES), include_in_schema=False)
async def show_certificates(
    request: AnyRequest,
    desk: DeskDependency,
    paper_state: FromQuery[str] = "late",
    kind: FromQuery[str] = "",
    find: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
) -> Response[str]:
    page = await desk.papers.certificates(paper_state, kind, find, cursor, PAGE)
    asked = {"paper_state": paper_state, "kind": kind, "find": find}
    query = urlencode({name: value for name, value in asked.items() if value})
    return render(
        request,
        "operator/certificates.html",
        "certificates",
        {},
        papers=page.papers,
        refs=await refs_of(desk, page.papers),
        counts=await desk.papers.counts(),
        states=STATES,
        kinds=KINDS,
        asked=asked,
        next=f"/certificates?{query}&cursor={page.cursor}" if page.cursor else "",
        first=f"/certificates?{query}" if cursor else "",
    )


async def refs_of(desk: Desk, papers: Sequence[Paper]) -> dict[str, str]:
    """References of the vehicles among the parties, by id."""
    ids = {one.id for one in papers if one.kind == "vehicle"}
    return {id: str(vehicle.ref) for id, vehicle in (await desk.registry.resolve_many(ids)).items()}


@get("/certificates/revocation", opt=does(acts.READ_CERTIFICATES), include_in_schema=False)
async def ask_revocation(request: AnyRequest, desk: DeskDependency, serial: FromQuery[str]) -> Response[str]:
    """The form inside the dialog, for the party of a certificate."""
    party = await desk.papers.party(int(serial, 16) if HEX.fullmatch(serial) else 0)
    return fragment(request, "operator/revocation.html", party=party, reasons=REASONS, act=acts.REVOKE.name)


@post("/certificates/revocation", opt=does(acts.REVOKE), include_in_schema=False, status_code=200)
async def revoke(
    request: AnyRequest, desk: DeskDependency, kind: FromQuery[str], id: FromQuery[str], reason: FromQuery[str]
) -> Response[str]:
    """End everything of a party. What a touch is bound to stands in the query."""
    if reason not in REASONS:
        raise Refused("trust.papers.asked", f"reason is one of {', '.join(REASONS)}")
    identity = desk.authority.region.identity(kind, id)
    serials = await desk.authority.revoke(identity, reason, caller_of(request).id)
    return fragment(request, "operator/revoked.html", count=len(serials), id=id)


HANDLERS = [show_certificates, ask_revocation, revoke]
