"""People: who signs in here; inviting, recovering and ending them. Rules and refusals: `trust.authority.people`."""

from __future__ import annotations

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody

from rocade.console import languages
from rocade.console.operator.desk import Desk, DeskDependency, qr
from rocade.console.pages import fragment, language_of, render
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import People
from rocade.trust.authority.people.links import ALONE_S

PAGE = 100
ASKED = {"recover": acts.LINK_PERSON, "confirm": acts.LINK_PERSON, "end": acts.END_PERSON}
DUTIES = ("support", "security", "release")


class Invited(msgspec.Struct, frozen=True):
    name: str
    organisation: str = ""
    language: str = "en"
    hours: float = 0


@get("/people", opt=does(acts.READ_PEOPLE), include_in_schema=False)
async def show_people(request: AnyRequest, desk: DeskDependency, after: FromQuery[str] = "") -> Response[str]:
    found, texts = await _people(desk).list(after, PAGE + 1), languages.texts(language_of(request))
    return render(
        request,
        "operator/people.html",
        "people",
        {},
        people=found[:PAGE],
        me=caller_of(request).id,
        choices=[(code, languages.texts(code)["name"]) for code in languages.CODES],
        duty_words=[(duty, texts[f"op_crew.duty_{duty}"], texts[f"op_crew.duty_{duty}_text"]) for duty in DUTIES],
        next=f"/people?after={found[PAGE - 1].id}" if len(found) > PAGE else "",
        first="/people" if after else "",
        add=acts.ADD_PERSON.name,
    )


@post("/people", opt=does(acts.ADD_PERSON), include_in_schema=False, status_code=200)
async def invite(
    request: AnyRequest,
    desk: DeskDependency,
    data: URLEncodedBody[Invited],
    duties: FromQuery[list[str] | None] = None,
) -> Response[str]:
    """Add somebody and make the one-time link for the first sign-in. Duties, which the touch is bound to, are in the query."""
    people, actor = _people(desk), caller_of(request).id
    person = await people.add(data.name, duties or (), data.organisation, data.language, actor)
    lifetime_s = data.hours * 3600 or ALONE_S
    return _link(
        request, people, person.name, await people.link(person.id, "invitation", lifetime_s, actor), lifetime_s
    )


@get("/people/{person:str}/ask", opt=does(acts.READ_PEOPLE), include_in_schema=False)
async def ask(request: AnyRequest, desk: DeskDependency, person: FromPath[str], what: FromQuery[str]) -> Response[str]:
    """The form inside the dialog: recover, confirm or end."""
    if what not in ASKED:
        raise Refused("people.invalid", f"what is one of {', '.join(ASKED)}")
    name = (await _people(desk).by_id(person)).name
    return fragment(request, "operator/person_act.html", id=person, name=name, what=what, act=ASKED[what].name)


@post("/people/{person:str}/recover", opt=does(acts.LINK_PERSON), include_in_schema=False, status_code=200)
async def recover(request: AnyRequest, desk: DeskDependency, person: FromPath[str]) -> Response[str]:
    people = _people(desk)
    secret = await people.recover(caller_of(request), person)
    return _link(request, people, (await people.by_id(person)).name, secret)


@post("/people/{person:str}/confirm", opt=does(acts.LINK_PERSON), include_in_schema=False, status_code=200)
async def confirm(
    request: AnyRequest, desk: DeskDependency, person: FromPath[str], number: FromQuery[str]
) -> Response[str]:
    """Let in who is shown this number on his invitation. The number, which the touch is bound to, is in the query."""
    await _people(desk).confirm(caller_of(request), person, number)
    return fragment(request, "operator/person_done.html", said="confirm_done")


@post("/people/{person:str}/end", opt=does(acts.END_PERSON), include_in_schema=False, status_code=200)
async def end(request: AnyRequest, desk: DeskDependency, person: FromPath[str]) -> Response[str]:
    await _people(desk).dismiss(caller_of(request), person)
    return fragment(request, "operator/person_done.html", said="ended_done")


def _link(request: AnyRequest, people: People, name: str, secret: str, lifetime_s: float = ALONE_S) -> Response[str]:
    address, must_ask = f"{people.site.origin}/signin/link/{secret}", lifetime_s > ALONE_S
    return fragment(request, "operator/link.html", name=name, address=address, picture=qr(address), must_ask=must_ask)


def _people(desk: Desk) -> People:
    assert desk.people is not None, "these pages are served only where people sign in"
    return desk.people


HANDLERS = [show_people, invite, ask, recover, confirm, end]
