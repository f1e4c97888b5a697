"""One's own data: taken along as CSV, JSON or Parquet, and erased for good.

The download streams every value of the chosen days and kinds of data that the viewer may see, doubtful ones too; it is noted
as a look. Erasing says first how much there is (`telemetry.history_api.forget` does it); the vehicle goes on under a
new reference, its owner with it. A former owner erases the time that was his.
Refuses: `console.date`, `telemetry.range.empty`, `telemetry.export.format`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from rocade.console.my.frame import (
    DAY_US,
    Mine,
    MineDependency,
    car_of,
    class_choices,
    day_text,
    day_us,
    mask_names,
    piece,
    show,
    texts_of,
    words,
)
from rocade.core import data_classes
from rocade.core.errors import Refused, RocadeError
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.telemetry import export, store
from rocade.services.telemetry.footprint import points_by_vehicle
from rocade.services.telemetry.history_api import check_form
from rocade.trust.authority.gate import acts

DEFAULT_DAYS = 30


@get("/my/{ref:int}/download", opt=does(acts.DOWNLOAD), include_in_schema=False)
async def show_download(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    car, mask = await car_of(request, mine, ref), mask_names(request)
    last_us = min(mine.clock.now_us(), car.until_us)
    first_us = max(last_us - DEFAULT_DAYS * DAY_US, car.since_us)
    return show(
        request, "my/download.html", {"ref": str(ref)}, mine, car=car, ref=ref, mask=mask,
        classes=class_choices(request, mask), first=day_text(first_us), last=day_text(last_us),
        has_whole="/my/{ref:int}/download/all" in {route.path for route in request.app.routes},
    )  # fmt: skip


@get("/my/{ref:int}/download/file", opt=does(acts.DOWNLOAD), include_in_schema=False)
async def download(
    request: AnyRequest,
    ref: FromPath[int],
    mine: MineDependency,
    since: FromQuery[str] = "",
    until: FromQuery[str] = "",
    format: FromQuery[str] = "csv",
    classes: FromQuery[list[str] | None] = None,
) -> Stream:
    """Days from `since` to `until`, both included (UTC); `classes` none = all that may be seen."""
    form = check_form(format)
    from_us, until_us = day_us(since), day_us(until) + DAY_US
    if from_us >= until_us:
        raise Refused("telemetry.range.empty", "from must be before to")
    mask = permit_of(request).right.classes & (data_classes.mask(classes) if classes else data_classes.ALL)
    name = f"rocade-{since}-{until}.{form}"
    headers = {"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'}
    return Stream(
        await _export(mine, ref, mask, from_us, until_us, form), media_type=export.MEDIA_TYPES[form], headers=headers
    )


async def _export(mine: Mine, ref: int, mask: int, from_us: int, until_us: int, form: str) -> AsyncIterator[bytes]:
    wanted = set(data_classes.names(mask))
    kept = await store.signals_of(mine.history, ref, from_us, until_us)
    signals = [number for number in kept if mine.catalogue.class_of(number) in wanted]
    names = {number: one.name if (one := mine.catalogue.get(number)) else f"signal.{number}" for number in signals}
    found = store.samples(mine.history, [ref], signals, from_us, until_us)
    return export.export(found, form, signal_names=names)


@get("/my/{ref:int}/erase", opt=does(acts.PLAN_ERASURE), include_in_schema=False)
async def show_erase(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    return show(request, "my/erase.html", {"ref": str(ref)}, mine, car=await car_of(request, mine, ref), ref=ref)


@get("/my/{ref:int}/erase/count", opt=does(acts.PLAN_ERASURE), include_in_schema=False)
async def count(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    """How many values would go, in a sentence."""
    texts = texts_of(request)
    try:
        said = texts["my_erase.count"].format(n=words(request)["n"](await _points(mine, ref)))
    except (RocadeError, OSError):
        said = texts["my_erase.count_unknown"]
    return Response(said, media_type="text/html", headers={"cache-control": "no-store"})


async def _points(mine: Mine, ref: int) -> int:
    return (await points_by_vehicle(mine.history, [ref])).get(ref, 0)


@post("/my/{ref:int}/erase", opt=does(acts.ERASE), include_in_schema=False, status_code=200)
async def erase(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    points = await _points(mine, ref)
    number = await mine.erase(ref, permit_of(request).principal.id)
    return piece(request, "my/erased.html", points=points, number=number)


HANDLERS = [show_download, download, show_erase, count, erase]
