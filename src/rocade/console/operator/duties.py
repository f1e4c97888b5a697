"""One person's duties: which are in force, lend one with a scope and an end, take one back. Each with the operator's touch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery

from rocade.console.operator.desk import Desk, DeskDependency
from rocade.console.pages import fragment, is_fragment, render
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import DUTIES

USUAL_DAYS, LONGEST_DAYS = 30, 365


@get("/duties/{person:str}", opt=does(acts.READ_PEOPLE), include_in_schema=False)
async def show(request: AnyRequest, desk: DeskDependency, person: FromPath[str]) -> Response[str]:
    return await _shown(request, desk, person)


@post("/duties/{person:str}", opt=does(acts.SET_DUTIES), include_in_schema=False, status_code=200)
async def lend(
    request: AnyRequest,
    desk: DeskDependency,
    person: FromPath[str],
    duty: FromQuery[str],
    until: FromQuery[str],
    only: FromQuery[str] = "",
) -> Response[str]:
    """`until`: the last day, as a date field sends it. All in the query, which the touch is bound to."""
    assert desk.people is not None
    await desk.people.lend(caller_of(request), person, duty, " ".join(only.split()), end_us(until))
    return await _shown(request, desk, person)


@post("/duties/{person:str}/{number:str}/end", opt=does(acts.SET_DUTIES), include_in_schema=False, status_code=200)
async def take_back(
    request: AnyRequest, desk: DeskDependency, person: FromPath[str], number: FromPath[str]
) -> Response[str]:
    assert desk.people is not None
    held = {f"{one.number:x}": one.number for one in (await desk.people.by_id(person)).duties}
    await desk.people.take_back(caller_of(request), person, held.get(number, 0))
    return await _shown(request, desk, person)


async def _shown(request: AnyRequest, desk: Desk, person: str) -> Response[str]:
    """The page, or the part of it that an act has changed."""
    assert desk.people is not None
    found, today = await desk.people.by_id(person), datetime.fromtimestamp(desk.clock.now_us() / 1e6, UTC).date()
    values: dict[str, Any] = {
        "person": found,
        "duties": DUTIES,
        "act": acts.SET_DUTIES.name,
        "is_me": found.id == caller_of(request).id,
        "usual": (today + timedelta(days=USUAL_DAYS)).isoformat(),
        "first": today.isoformat(),
        "last": (today + timedelta(days=LONGEST_DAYS)).isoformat(),
    }
    if is_fragment(request):
        return fragment(request, "operator/duties_held.html", **values)
    return render(request, "operator/duties.html", "people", {}, **values)


def end_us(day: str) -> int:
    """The end of a day, UTC.

    Raises: Refused `people.invalid`.
    """
    try:
        end = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise Refused("people.invalid", "the last day of a duty is a date", field="until") from error
    return int(end.timestamp()) * 1_000_000


HANDLERS = [show, lend, take_back]
