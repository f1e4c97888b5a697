"""The support desk's page for people who lost their passkeys: find somebody by name, end what was lost, hand over a link.

It shows names that contain what was typed and nothing else of a person. Operators are recovered on the page People.
"""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery

from rocade.console.operator.desk import DeskDependency, qr
from rocade.console.pages import fragment, render
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.trust.authority.gate import acts


@get("/recovery", opt=does(acts.FIND_PERSON), include_in_schema=False)
async def show(request: AnyRequest, desk: DeskDependency, name: FromQuery[str] = "") -> Response[str]:
    assert desk.people is not None
    is_asked = bool(name.strip())
    found = await desk.people.find(name) if is_asked else []
    return render(
        request,
        "operator/recovery.html",
        "recovery",
        {},
        name=name,
        is_asked=is_asked,
        people=[one for one in found if one.id != caller_of(request).id],
        act=acts.RECOVER_PERSON.name,
    )


@post("/recovery/{person:str}", opt=does(acts.RECOVER_PERSON), include_in_schema=False, status_code=200)
async def recover(request: AnyRequest, desk: DeskDependency, person: FromPath[str]) -> Response[str]:
    """End passkeys and sessions; the one-time link, shown once."""
    assert desk.people is not None
    secret = await desk.people.recover(caller_of(request), person)
    address = f"{desk.people.site.origin}/signin/link/{secret}"
    name = (await desk.people.by_id(person)).name
    return fragment(request, "operator/link.html", name=name, address=address, picture=qr(address), must_ask=False)


HANDLERS = [show, recover]
