"""Becoming a vehicle's owner by the code from its papers, and handing it on.

A claim that fails says why on the same page, with the code still in the field. Handing over makes a code for the next owner
and needs a touch; the change itself happens when that code is used (`services.consent.ownership`).
"""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from rocade.console.my.drivers import Shown
from rocade.console.my.frame import Mine, MineDependency, car_of, in_force, piece, qr, show, texts_of
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, does, permit_of, problems
from rocade.trust.authority.gate import acts


@get("/my/claim", opt=does(acts.CLAIM_VEHICLE), include_in_schema=False)
async def show_claim(request: AnyRequest, mine: MineDependency) -> Response[str]:
    return _claim_page(request, mine, "")


@post("/my/claim", opt=does(acts.CLAIM_VEHICLE), include_in_schema=False, status_code=200)
async def claim(request: AnyRequest, mine: MineDependency) -> Response[str] | Redirect:
    code = (await request.form()).get("code", "")
    try:
        done = await mine.consents.claim(code, permit_of(request).principal.id)
    except Refused as refusal:
        return _claim_page(request, mine, code, refusal)
    await in_force(request, done.ref)
    return Redirect(f"/my/{done.ref}", status_code=303)


def _claim_page(request: AnyRequest, mine: Mine, code: str, refusal: Refused | None = None) -> Response[str]:
    error, texts = "", texts_of(request)
    if refusal:
        error = texts.get(f"my_claim.{refusal.code.removeprefix('consent.claim.')}", refusal.message)
    request_id = str(request.scope.get("rocade.request_id", ""))
    page = show(
        request, "my/claim.html", {}, mine, error=error, error_code=refusal.code if refusal else "", why_id=request_id,
        typed=code,
    )  # fmt: skip
    page.status_code = problems.status_of(refusal) if refusal else 200
    return page


@get("/my/{ref:int}/handover", opt=does(acts.READ_GRANTS), include_in_schema=False)
async def show_handover(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    car = await car_of(request, mine, ref)
    return show(request, "my/handover.html", {"ref": str(ref)}, mine, car=car, ref=ref)


@post("/my/{ref:int}/handover", opt=does(acts.TRANSFER), include_in_schema=False, status_code=200)
async def hand_over(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    """The code for the new owner, shown once."""
    code = await mine.consents.sell(ref, permit_of(request).principal.id)
    return piece(request, "my/handover_done.html", ref=ref, shown=Shown(code, "", qr(code)))


@post("/my/{ref:int}/handover/keep", opt=does(acts.END_GUEST), include_in_schema=False, status_code=200)
async def keep(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    """Make unused codes void: the vehicle stays with its owner."""
    dropped = await mine.consents.keep(ref, permit_of(request).principal.id)
    return Response(texts_of(request)["my_handover.kept"].format(n=dropped), media_type="text/html")


HANDLERS = [show_claim, claim, show_handover, hand_over, keep]
