"""The data holder's side: how many contracts there are with whom for what, without persons and vehicles, and the terms."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromQuery

from rocade.console.pages import fragment, render
from rocade.console.sharing.desk import ShareDependency, ShareDesk
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.sharing.api import terms_view
from rocade.trust.authority.gate import acts


@get("/sharing", opt=does(acts.READ_SHARING), include_in_schema=False)
async def show_sharing(request: AnyRequest, share_desk: ShareDependency) -> Response[str]:
    return render(request, "operator/sharing.html", "sharing", {}, **await _board(share_desk))


async def _board(desk: ShareDesk, said: str = "") -> dict[str, Any]:
    terms = [terms_view(one, desk.sharing.catalogue) for one in await desk.sharing.all_terms()]
    return {
        "counts": await desk.sharing.counts(),
        "terms": terms,
        "has_webhooks": desk.has_webhooks,
        "act": acts.SET_SHARING_TERMS.name,
        "said": said,
    }


@post("/sharing/terms", opt=does(acts.SET_SHARING_TERMS), include_in_schema=False, status_code=200)
async def set_terms(
    request: AnyRequest,
    share_desk: ShareDependency,
    party: FromQuery[str] = "",
    compensation: FromQuery[str] = "",
    withheld: FromQuery[str] = "",
    reason: FromQuery[str] = "",
) -> Response[str]:
    """In the address, for the touch is bound to it."""
    catalogue = share_desk.sharing.catalogue
    ids = tuple(int(catalogue.by_name(name).id) for name in withheld.replace(",", " ").split())
    actor = caller_of(request).id
    await share_desk.sharing.set_terms(party.strip(), compensation.strip(), ids, reason.strip(), actor)
    return fragment(request, "operator/sharing_terms.html", **await _board(share_desk, "op_sharing.set_said"))


HANDLERS = [show_sharing, set_terms]
