"""What is collected and who may see it; permissions given, made smaller and taken back, each by one touch.

A permission names a recipient, a purpose, data classes and an end (`services.consent`). What could be given is offered for
every workshop and partner registered in this region, by the purposes it is registered for and the classes that purpose
usually needs (`USUAL`). Each act answers with the board as it stands afterwards; one that comes too late, because another
window was faster, says so and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from rocade.console.my import state
from rocade.console.my.frame import (
    DAY_US,
    Mine,
    MineDependency,
    car_of,
    class_choices,
    day_text,
    last_moment_us,
    name_of,
    piece,
    show,
    texts_of,
    version_of,
)  # fmt: skip
from rocade.core import data_classes
from rocade.core.errors import Refused, RocadeError
from rocade.core.identifiers import Identity, whole_number
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.consent import FOREVER_US, PURPOSES, Grant
from rocade.services.telemetry.footprint import points_by_signal
from rocade.trust.authority.gate import acts, of_certificate

USUAL = {
    "operation": ("condition",),
    "support": ("condition", "energy"),
    "maintenance": ("condition",),
    "warranty": ("condition", "energy"),
    "charging": ("location", "energy"),
    "insurance": ("driving", "condition"),
    "research": ("driving", "energy"),
    "traffic": ("location", "driving"),
    "sharing": ("location", "energy", "condition"),
}
"""What a purpose usually needs: the classes of an offer, no more."""
USUAL_DAYS = 365
GIVEABLE = PURPOSES[1:]
TOO_LATE = "consent.grant.unknown"


class Given(msgspec.Struct, frozen=True):
    """A permission in words. `state` of one that ended: withdrawn | expired | transferred | replaced."""

    id: str
    who: str
    recipient: str
    purpose: str
    classes: tuple[str, ...]
    until_us: int
    end_us: int
    state: str = ""


class Kind(msgspec.Struct, frozen=True):
    """A kind of data: how many values are kept (None = not counted), the newest, and who sees it for what."""

    name: str
    values: int | None
    newest_us: int
    seers: Sequence[Given]


EVERYTHING = data_classes.DATA_CLASSES + data_classes.CONTROL_CLASSES
"""What may be given: sight of data, and control."""
_STATES = {"withdrawn": "withdrawn", "narrowed": "replaced", "replaced": "replaced", "owner_changed": "transferred"}


async def given(request: AnyRequest, mine: Mine, grants: Sequence[Grant]) -> list[Given]:
    return [
        Given(
            one.id, await name_of(request, mine, one.recipient), one.recipient, one.purpose,
            data_classes.names(one.classes), one.until_us, one.end_us, _STATES.get(one.why_ended, "expired"),
        )
        for one in grants
    ]  # fmt: skip


# --- what is collected ------------------------------------------------------------------------------------------------


@get("/my/{ref:int}/data", opt=does(acts.READ_TWIN), include_in_schema=False)
async def show_data(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    car = await car_of(request, mine, ref)
    board = await _data_board(request, mine, ref, is_counted=False)
    return show(request, "my/data.html", {"ref": str(ref)}, mine, car=car, **board)


@get("/my/{ref:int}/data/board", opt=does(acts.READ_TWIN), include_in_schema=False)
async def show_data_board(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    return piece(request, "my/data_board.html", **await _data_board(request, mine, ref, is_counted=True))


async def _data_board(request: AnyRequest, mine: Mine, ref: int, *, is_counted: bool) -> dict[str, Any]:
    """Kinds of data with what is kept of each; a history that does not answer leaves the counts out."""
    right = permit_of(request).right
    counts: dict[str, int] | None = None
    if is_counted:
        try:
            counts = {}
            for number, points in (await points_by_signal(mine.history, ref)).items():
                name = mine.catalogue.class_of(number)
                counts[name] = counts.get(name, 0) + points
        except (RocadeError, OSError):
            counts = None
    twin = await mine.twins.latest(ref)
    newest: dict[str, int] = {}
    for one in state.readings(twin, mine.catalogue, right.classes):
        newest[one.data_class] = max(newest.get(one.data_class, 0), one.time_us)
    is_owner = right.relation == "owner"
    grants = await mine.consents.grants(ref, True) if is_owner else []
    guests = await mine.consents.guests(ref, True) if is_owner else []
    seers = await given(request, mine, grants)
    drivers = [
        Given(one.id, await name_of(request, mine, one.person), one.person, "own", data_classes.names(one.classes),
              one.until_us, one.end_us)
        for one in guests if one.person
    ]  # fmt: skip
    kinds = [
        Kind(
            name, None if counts is None else counts.get(name, 0), newest.get(name, 0),
            [seer for seer in (*seers, *drivers) if name in seer.classes],
        )
        for name in data_classes.names(right.classes & data_classes.ALL)
    ]  # fmt: skip
    return {
        "ref": ref, "kinds": kinds, "relation": right.relation, "is_counted": is_counted,
        "version": version_of(grants, guests),
    }  # fmt: skip


# --- permissions ------------------------------------------------------------------------------------------------------


@get("/my/{ref:int}/sharing", opt=does(acts.READ_GRANTS), include_in_schema=False)
async def show_sharing(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    car, texts = await car_of(request, mine, ref), texts_of(request)
    board = await _board(request, mine, ref)
    choices = [(one, await name_of(request, mine, one)) for one in await _recipients(mine)]
    purposes = [(name, texts[f"my_purpose.{name}"]) for name in GIVEABLE]
    return show(
        request, "my/sharing.html", {"ref": str(ref), "follows": "#board"}, mine, car=car, choices=choices,
        purposes=purposes, classes=class_choices(request, EVERYTHING), **board,
    )  # fmt: skip


@get("/my/{ref:int}/sharing/board", opt=does(acts.READ_GRANTS), include_in_schema=False)
async def show_board(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    return piece(request, "my/sharing_board.html", **await _board(request, mine, ref))


async def _board(request: AnyRequest, mine: Mine, ref: int) -> dict[str, Any]:
    now_us = mine.clock.now_us()
    grants = await mine.consents.grants(ref)
    live = [one for one in grants if one.end_us > now_us]
    is_owner = permit_of(request).right.relation == "owner"
    taken = {(one.recipient, one.purpose) for one in live}
    ended = sorted((one for one in grants if one.end_us <= now_us), key=lambda one: -one.end_us)
    return {
        "ref": ref,
        "is_owner": is_owner,
        "grants": await given(request, mine, live),
        "ended": await given(request, mine, ended[:50]),
        "offers": await _offers(request, mine, taken) if is_owner else [],
        "version": version_of(live, await mine.consents.guests(ref, True)),
        "today": day_text(now_us),
    }


async def _offers(request: AnyRequest, mine: Mine, taken: set[tuple[str, str]]) -> list[Given]:
    """What could be given by one touch: every purpose of every party registered here, and help from the operator."""
    offers = []
    for recipient, purposes in (await _recipients(mine)).items():
        for purpose in (one for one in GIVEABLE if one in purposes and (recipient, one) not in taken):
            who = await name_of(request, mine, recipient)
            offers.append(Given("", who, recipient, purpose, USUAL[purpose], FOREVER_US, FOREVER_US))
    return offers


async def _recipients(mine: Mine) -> dict[str, frozenset[str]]:
    """Who may be given a permission here, with the purposes each is registered for."""
    found = {"operator": frozenset({"support"})}
    for client in await mine.clients.all():
        identity = Identity.parse(client.identity)
        if identity.kind in {"partner", "dealer"}:
            found[of_certificate(identity).recipient] = frozenset(client.purposes)
    return found


@post("/my/{ref:int}/grants", opt=does(acts.GRANT), include_in_schema=False, status_code=200)
async def grant(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    form = await request.form()
    days = _days(form.get("days", str(USUAL_DAYS)))
    until_us = mine.clock.now_us() + days * DAY_US if days else FOREVER_US
    classes = data_classes.mask(form.getall("classes", []))
    person = permit_of(request).principal.id
    made = await mine.consents.grant(
        ref, person, form.get("recipient", ""), form.get("purpose", ""), classes, until_us=until_us
    )
    return await _said(request, mine, ref, "my_sharing.grant_said", made.recipient)


@post("/my/{ref:int}/grants/{grant_id:str}/withdraw", opt=does(acts.WITHDRAW), include_in_schema=False, status_code=200)
async def withdraw(
    request: AnyRequest, ref: FromPath[int], grant_id: FromPath[str], mine: MineDependency
) -> Response[str]:
    try:
        ended = await mine.consents.withdraw(ref, permit_of(request).principal.id, grant_id)
    except Refused as refusal:
        return await _too_late(request, mine, ref, refusal)
    return await _said(request, mine, ref, "my_sharing.withdraw_said", ended.recipient)


@post("/my/{ref:int}/grants/{grant_id:str}/narrow", opt=does(acts.WITHDRAW), include_in_schema=False, status_code=200)
async def narrow(
    request: AnyRequest, ref: FromPath[int], grant_id: FromPath[str], mine: MineDependency
) -> Response[str]:
    """Fewer classes, an earlier end, or both. The end date given is the last day."""
    form = await request.form()
    until = form.get("until", "")
    classes = data_classes.mask(form.getall("classes", []))
    until_us = last_moment_us(form, "until") if until else None
    try:
        found = next((one for one in await mine.consents.grants(ref, True) if one.id == grant_id), None)
        if found and until_us and day_text(found.end_us) == until:
            until_us = None  # the date that stood there: its instant stays
        made = await mine.consents.narrow(ref, permit_of(request).principal.id, grant_id, classes, until_us)
    except Refused as refusal:
        return await _too_late(request, mine, ref, refusal)
    return await _said(request, mine, ref, "my_sharing.narrow_said", made.recipient)


async def _said(request: AnyRequest, mine: Mine, ref: int, key: str, recipient: str) -> Response[str]:
    said = texts_of(request)[key].format(who=await name_of(request, mine, recipient))
    return piece(request, "my/sharing_board.html", **await _board(request, mine, ref) | {"said": said})


async def _too_late(request: AnyRequest, mine: Mine, ref: int, refusal: Refused) -> Response[str]:
    """Another window was faster: say so, and show what is. Raises: every other refusal."""
    if refusal.code != TOO_LATE:
        raise refusal
    said = {"said": texts_of(request)["my_sharing.already"], "said_kind": "doubt"}
    return piece(request, "my/sharing_board.html", **await _board(request, mine, ref) | said)


def _days(text: str) -> int:
    """Raises: Refused `console.days`."""
    days = whole_number(text)
    if days is None or days > 36_500:
        raise Refused("console.days", "a permission lasts a number of days, 0 for no end")
    return days


HANDLERS = [show_data, show_data_board, show_sharing, show_board, grant, withdraw, narrow]
