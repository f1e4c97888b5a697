"""Exports to other regions: drafted by one, seen whole here, let go by another with a touch; and what was accepted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from rocade.console import languages
from rocade.console.operator.desk import DeskDependency
from rocade.console.pages import fragment, language_of, render
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.crossing import TOPICS
from rocade.services.crossing.api import CrossingDependency
from rocade.trust.authority.gate import acts

DAYS = 7


class _Form(msgspec.Struct):
    topic: str
    to: str
    since: str
    until: str
    signals: str = ""
    note: str = ""


@get("/crossings", opt=does(acts.READ_CROSSINGS), include_in_schema=False)
async def show_crossings(request: AnyRequest, crossing: CrossingDependency, desk: DeskDependency) -> Response[str]:
    today, texts = datetime.fromtimestamp(desk.clock.now_us() / 1e6, UTC).date(), languages.texts(language_of(request))
    return render(
        request,
        "operator/crossings.html",
        "crossings",
        {},
        drafts=await crossing.drafts(),
        arrivals=await crossing.arrivals(),
        neighbours=await crossing.neighbours(),
        choices=[(name, texts[f"crossing.topic_{name.replace('.', '_')}"]) for name in TOPICS],
        since=today - timedelta(days=DAYS),
        until=today,
    )


@post("/crossings", opt=does(acts.DRAFT_CROSSING), include_in_schema=False, status_code=200)
async def draft(request: AnyRequest, crossing: CrossingDependency) -> Response[str]:
    """Make the draft, and go to its page."""
    try:
        form = msgspec.convert(dict(await request.form()), _Form)
    except msgspec.ValidationError as error:
        raise Refused("crossing.form", f"the form is not whole: {error}") from None
    made = await crossing.draft(
        form.topic, form.to.strip(), _us(form.since), _us(form.until), form.signals.split(), form.note.strip(),
        caller_of(request).id,
    )  # fmt: skip
    answer = fragment(request, "operator/crossing_made.html", number=made.number)
    answer.headers["HX-Redirect"] = f"/crossings/{made.number}"
    return answer


@get("/crossings/{number:int}", opt=does(acts.READ_CROSSINGS), include_in_schema=False)
async def show_crossing(request: AnyRequest, crossing: CrossingDependency, number: FromPath[int]) -> Response[str]:
    found, packet = await crossing.preview(number)
    is_own = found.made_by == caller_of(request).id
    return render(
        request, "operator/crossing.html", "crossings", {}, one=found, packet=packet, is_own=is_own,
        act=acts.RELEASE_CROSSING.name,
    )  # fmt: skip


@post("/crossings/{number:int}/{sha256:str}/release", opt=does(acts.RELEASE_CROSSING), include_in_schema=False,
      status_code=200)  # fmt: skip
async def release(
    request: AnyRequest, crossing: CrossingDependency, number: FromPath[int], sha256: FromPath[str]
) -> Response[str]:
    return _settled(request, (await crossing.release(number, sha256, caller_of(request).id)).number)


@post("/crossings/{number:int}/drop", opt=does(acts.DRAFT_CROSSING), include_in_schema=False, status_code=200)
async def drop(request: AnyRequest, crossing: CrossingDependency, number: FromPath[int]) -> Response[str]:
    return _settled(request, (await crossing.drop(number, caller_of(request).id)).number)


@get("/crossings/{number:int}/packet", opt=does(acts.CARRY_CROSSING), include_in_schema=False)
async def download(request: AnyRequest, crossing: CrossingDependency, number: FromPath[int]) -> Response[bytes]:
    """The signed packet of a released export."""
    name = f"crossing-{number}.json"
    return Response(
        await crossing.packet(number, caller_of(request).id),
        media_type="application/json",
        headers={"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'},
    )


def _settled(request: AnyRequest, number: int) -> Response[str]:
    answer = fragment(request, "operator/crossing_made.html", number=number)
    answer.headers["HX-Redirect"] = f"/crossings/{number}"
    return answer


def _us(day: str) -> int:
    """Microseconds of a day's beginning (UTC). Raises: Refused `crossing.range`."""
    try:
        found = date.fromisoformat(day)
    except ValueError:
        raise Refused("crossing.range", "a day is written as 2026-11-22") from None
    return int(datetime(found.year, found.month, found.day, tzinfo=UTC).timestamp()) * 1_000_000


HANDLERS = [show_crossings, draft, show_crossing, release, drop, download]
