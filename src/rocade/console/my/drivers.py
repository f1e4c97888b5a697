"""Drivers: who drives by invitation, a new invitation (code, picture, link), ending one, and accepting one.

The code of an invitation is in the answer that made it and nowhere else; the link carries it. Whoever opens the link signs
in first, then sees what he is offered before he accepts (`services.consent.drivers` has the rules).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from rocade.console.my.frame import (
    DAY_US,
    Mine,
    MineDependency,
    car_of,
    class_choices,
    day_text,
    in_force,
    last_moment_us,
    name_of,
    piece,
    qr,
    show,
    texts_of,
    version_of,
)  # fmt: skip
from rocade.core import data_classes
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.consent import Guest
from rocade.trust.authority.gate import acts

USUAL_DAYS, LONGEST_DAYS = 30, 365
TOO_LATE = "consent.guest.unknown"


class Driver(msgspec.Struct, frozen=True):
    """`who`: '' until somebody accepted; `state`: waiting | active | ended."""

    id: str
    who: str
    classes: tuple[str, ...]
    made_us: int
    until_us: int
    state: str


class Shown(msgspec.Struct, frozen=True):
    """A code, shown once."""

    code: str
    link: str
    qr: str
    until_us: int = 0


@get("/my/{ref:int}/drivers", opt=does(acts.READ_GRANTS), include_in_schema=False)
async def show_drivers(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    car, now_us = await car_of(request, mine, ref), mine.clock.now_us()
    return show(
        request, "my/drivers.html", {"ref": str(ref)}, mine, car=car, classes=class_choices(request), controls=class_choices(request, data_classes.CONTROL_CLASSES),
        latest=day_text(now_us + LONGEST_DAYS * DAY_US), usual=day_text(now_us + USUAL_DAYS * DAY_US),
        today=day_text(now_us), **await _board(request, mine, ref),
    )  # fmt: skip


@get("/my/{ref:int}/drivers/board", opt=does(acts.READ_GRANTS), include_in_schema=False)
async def show_board(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    return piece(request, "my/drivers_board.html", **await _board(request, mine, ref))


async def _board(request: AnyRequest, mine: Mine, ref: int) -> dict[str, Any]:
    guests, live = await mine.consents.guests(ref), await mine.consents.guests(ref, True)
    open_ids = {one.id for one in live}
    past = sorted((one for one in guests if one.id not in open_ids and one.person), key=lambda one: -one.end_us)
    return {
        "ref": ref,
        "is_owner": permit_of(request).right.relation == "owner",
        "guests": await _drivers(request, mine, live),
        "past": await _drivers(request, mine, past[:50], is_past=True),
        "version": version_of(await mine.consents.grants(ref, True), live),
    }


async def _drivers(request: AnyRequest, mine: Mine, guests: Sequence[Guest], *, is_past: bool = False) -> list[Driver]:
    return [
        Driver(
            one.id,
            await name_of(request, mine, one.person) if one.person else "",
            data_classes.names(one.classes),
            one.made_us,
            one.end_us if is_past else one.until_us,
            "ended" if is_past else "active" if one.person else "waiting",
        )
        for one in guests
    ]


@post("/my/{ref:int}/drivers", opt=does(acts.INVITE), include_in_schema=False, status_code=200)
async def invite(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    """The answer shows the code and its link, once."""
    form = await request.form()
    until_us = min(last_moment_us(form, "until"), mine.clock.now_us() + LONGEST_DAYS * DAY_US)
    classes = data_classes.mask(form.getall("classes", []))
    guest, code = await mine.consents.invite(ref, permit_of(request).principal.id, classes, until_us)
    link = f"{mine.people.site.origin}/my/invitations/{code}"
    shown = Shown(code, link, qr(link), guest.invitation_end_us)
    return piece(request, "my/drivers_board.html", **await _board(request, mine, ref) | {"code": shown})


@post("/my/{ref:int}/drivers/{guest_id:str}/end", opt=does(acts.END_GUEST), include_in_schema=False, status_code=200)
async def end(request: AnyRequest, ref: FromPath[int], guest_id: FromPath[str], mine: MineDependency) -> Response[str]:
    texts = texts_of(request)
    said = {"said": texts["my_drivers.end_said"], "said_kind": "good"}
    try:
        await mine.consents.end(ref, permit_of(request).principal.id, guest_id)
    except Refused as refusal:
        if refusal.code != TOO_LATE:
            raise
        said = {"said": texts["my_drivers.already"], "said_kind": "doubt"}
    return piece(request, "my/drivers_board.html", **await _board(request, mine, ref) | said)


@get("/my/invitations/{code:str}", opt=does(acts.ACCEPT_INVITATION), include_in_schema=False)
async def show_invitation(request: AnyRequest, code: FromPath[str], mine: MineDependency) -> Response[str]:
    """What is offered, before it is accepted: the vehicle's brand and model, what one would see, until when."""
    guest = await mine.consents.invitation(code, permit_of(request).principal.id)
    vehicle = await mine.registry.by_ref(VehicleRef(guest.ref))
    brand = mine.catalogue.brands.get(vehicle.brand)
    name = f"{brand.title if brand else vehicle.brand} {vehicle.model}".strip()
    sees = data_classes.names(guest.classes)
    return show(request, "my/invitation.html", {}, mine, vehicle=name, sees=sees, until_us=guest.until_us)


@post("/my/invitations/{code:str}", opt=does(acts.ACCEPT_INVITATION), include_in_schema=False)
async def accept(request: AnyRequest, code: FromPath[str], mine: MineDependency) -> Redirect:
    guest = await mine.consents.accept(code, permit_of(request).principal.id)
    await in_force(request, guest.ref)
    return Redirect(f"/my/{guest.ref}", status_code=303)


HANDLERS = [show_drivers, show_board, invite, end, show_invitation, accept]
