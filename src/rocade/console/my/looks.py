"""Who looked: every look at this vehicle's data, with purpose, kinds of data, permission, and why it was allowed."""

from __future__ import annotations

import msgspec
from litestar import Response, get
from litestar.params import FromPath, FromQuery

from rocade.console.my.frame import Mine, MineDependency, car_of, name_of, piece, show, texts_of
from rocade.core import data_classes
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.consent import Look
from rocade.trust.authority.gate import acts

PAGE = 30
SHOWN = ("others", "you", "all")
WORDS = (("command", "command"), ("stream", "stream"), ("watch", "stream"), ("trip", "trips"), ("track", "trips"), ("history", "history"),
         ("download", "export"), ("registry", "vehicle"), ("open", "vehicle"), ("twin", "live"), ("vehicles", "live"))  # fmt: skip
"""What a look was at, by a word in the name of its act."""


class Seen(msgspec.Struct, frozen=True):
    who: str
    at_us: int
    times: int
    what: str
    purpose: str
    classes: tuple[str, ...]
    signals: int
    grant: str
    why: str


@get("/my/{ref:int}/looks", opt=does(acts.READ_LOOKS), include_in_schema=False)
async def show_looks(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    car = await car_of(request, mine, ref)
    found, cursor = await _looks(request, mine, ref, "others", None)
    data = {"ref": str(ref)}
    return show(request, "my/looks.html", data, mine, car=car, ref=ref, looks=found, show="others", next=cursor)


@get("/my/{ref:int}/looks/list", opt=does(acts.READ_LOOKS), include_in_schema=False)
async def list_looks(
    request: AnyRequest,
    ref: FromPath[int],
    mine: MineDependency,
    show: FromQuery[str] = "others",
    before: FromQuery[str | None] = None,
) -> Response[str]:
    """`show`: others | you | all; `before`: the cursor of a list."""
    if show not in SHOWN:
        raise Refused("console.looks", f"looks are shown of {', '.join(SHOWN)}")
    found, cursor = await _looks(request, mine, ref, show, before)
    return piece(request, "my/looks_list.html", ref=ref, looks=found, show=show, next=cursor)


async def _looks(
    request: AnyRequest, mine: Mine, ref: int, show: str, before: str | None
) -> tuple[list[Seen], str | None]:
    me = permit_of(request).principal.id
    page = await mine.looks.of(ref, cursor=before, limit=PAGE, without=me if show == "others" else "")
    looks = [one for one in page.looks if show != "you" or one.actor == me]
    return [await _seen(request, mine, one, me) for one in looks], page.cursor


async def _seen(request: AnyRequest, mine: Mine, look: Look, me: str) -> Seen:
    who = texts_of(request)["my_looks.you"] if look.actor == me else await name_of(request, mine, look.actor)
    what = next((word for part, word in WORDS if part in look.what), "other")
    classes = data_classes.names(look.classes)
    if look.signals:
        named = {mine.catalogue.class_of(number) for number in look.signals}
        classes = tuple(name for name in classes if name in named)
    return Seen(
        who, look.last_us, look.times, what, look.purpose, classes, len(look.signals), look.grant, f"look:{look.id}"
    )


HANDLERS = [show_looks, list_looks]
