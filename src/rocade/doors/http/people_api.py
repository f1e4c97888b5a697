"""What operators do for people: list and find, add, invite, recover, lend and take back duties, end. JSON.

Each act is one of the gate's and most need a fresh passkey touch (`Rocade-Touch`), because they make somebody more powerful
or end something for good. The rules beyond that (never oneself, which duty for whom) are those of `trust.authority.people`.
"""

from __future__ import annotations

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from rocade.doors.http.access import AnyRequest, caller_of, does
from rocade.doors.http.signin import NO_STORE, DutyView, duty_views, number_of
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import People, Person
from rocade.trust.authority.people.links import ALONE_S


class PersonView(msgspec.Struct, frozen=True):
    person: str
    name: str
    organisation: str
    language: str
    added_us: int
    ended_us: int | None
    duties: list[DutyView]


class FoundView(msgspec.Struct, frozen=True):
    person: str
    name: str
    organisation: str


class PeopleView(msgspec.Struct, frozen=True):
    """`next`: ask with `after` for the next page; '' at the end."""

    items: list[PersonView]
    next: str


class NewPerson(msgspec.Struct, frozen=True):
    name: str
    organisation: str = ""
    language: str = "en"


class LinkView(msgspec.Struct, frozen=True):
    """Seen once: hand it over as `/signin/link/<secret>`."""

    person: str
    secret: str
    address: str


def person_view(person: Person) -> PersonView:
    return PersonView(
        person.id,
        person.name,
        person.organisation,
        person.language,
        person.added_us,
        person.ended_us,
        duty_views(person),
    )


def _link(people: People, person: str, secret: str) -> Response[LinkView]:
    view = LinkView(person, secret, f"{people.site.origin}/signin/link/{secret}")
    return Response(view, status_code=200, headers=NO_STORE)


@get("/v1/people", opt=does(acts.READ_PEOPLE))
async def list_people(
    people: NamedDependency[SkipValidation[People]],
    after: FromQuery[str] = "",
    limit: FromQuery[int] = 100,
) -> PeopleView:
    """Everybody who has or had access, with the duties in force."""
    limit = max(1, min(limit, 1000))
    found = await people.list(after, limit)
    return PeopleView([person_view(one) for one in found], found[-1].id if len(found) == limit else "")


@get("/v1/people/found", opt=does(acts.FIND_PERSON))
async def find_people(
    people: NamedDependency[SkipValidation[People]],
    name: FromQuery[str],
) -> list[FoundView]:
    """Up to twenty people whose name contains these letters."""
    return [FoundView(one.id, one.name, one.organisation) for one in await people.find(name)]


@post("/v1/people", opt=does(acts.ADD_PERSON))
async def add_person(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    data: JSONBody[NewPerson],
) -> PersonView:
    """Add somebody, without any duty: duties are lent in a second step."""
    by = caller_of(request)
    return person_view(await people.enlist(by, data.name, data.organisation, data.language))


@post("/v1/people/{person:str}/link", status_code=200, opt=does(acts.LINK_PERSON))
async def invite_person(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    person: FromPath[str],
    hours: FromQuery[float] = 0,
) -> Response[LinkView]:
    """A one-time link for somebody who has no passkey yet: good for ten minutes; or for so many hours, to be confirmed by number."""
    by = caller_of(request)
    return _link(people, person, await people.invite(by, person, hours * 3600 or ALONE_S))


@post("/v1/people/{person:str}/confirmation", status_code=200, opt=does(acts.LINK_PERSON))
async def confirm_person(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    person: FromPath[str],
    number: FromQuery[str],
) -> dict[str, int]:
    """Let in who opened this person's invitation and is shown this number. The touch is bound to the whole address."""
    await people.confirm(caller_of(request), person, number)
    return {"confirmed": 1}


@post("/v1/people/{person:str}/recovery", status_code=200, opt=does(acts.RECOVER_PERSON))
async def recover_person(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    person: FromPath[str],
) -> Response[LinkView]:
    """End somebody's lost passkeys and sessions; the one-time link to hand over."""
    by = caller_of(request)
    return _link(people, person, await people.recover(by, person))


@post("/v1/people/{person:str}/duties", opt=does(acts.SET_DUTIES))
async def lend_duty(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    person: FromPath[str],
    duty: FromQuery[str],
    until_us: FromQuery[int],
    only: FromQuery[str] = "",
) -> DutyView:
    """Give a duty until a date, whole or, by `only`, for acts that begin so. The touch is bound to the whole address."""
    lent = await people.lend(caller_of(request), person, duty, only, until_us)
    return DutyView(f"{lent.number:x}", lent.duty, lent.scope, lent.granted_by, lent.until_us)


@delete("/v1/people/{person:str}/duties/{duty:str}", status_code=200, opt=does(acts.SET_DUTIES))
async def take_duty_back(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    person: FromPath[str],
    duty: FromPath[str],
) -> dict[str, int]:
    """End a duty now; it is gone everywhere within two seconds."""
    by = caller_of(request)
    await people.take_back(by, person, number_of(duty))
    return {"ended": 1}


@delete("/v1/people/{person:str}", status_code=200, opt=does(acts.END_PERSON))
async def end_person(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    person: FromPath[str],
) -> dict[str, int]:
    """End somebody's access for good and forget the name."""
    by = caller_of(request)
    await people.dismiss(by, person)
    return {"ended": 1}


HANDLERS = [
    list_people,
    find_people,
    add_person,
    invite_person,
    confirm_person,
    recover_person,
    lend_duty,
    take_duty_back,
    end_person,
]
