"""The fleet: on the live map, in a list with search and filters, and how it comes in."""

from __future__ import annotations

from urllib.parse import urlencode

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from rocade.console import languages
from rocade.console.chaos import ACTS, Chaos
from rocade.console.operator.desk import DeskDependency, lines_of
from rocade.console.pages import language_of, render
from rocade.console.viewer import may
from rocade.core.catalogue import Catalogue
from rocade.doors.http import AnyRequest, does, right_of
from rocade.services.vehicles import STATES, Wanted
from rocade.trust.authority.gate import acts

PAGE = 50


def brand_titles(request: AnyRequest, catalogue: Catalogue) -> dict[str, str]:
    """Brands by their names; `other` is none, and named in the reader's language."""
    titles = {name: brand.title for name, brand in catalogue.brands.items()}
    return titles | {"other": languages.texts(language_of(request))["brand.other"]}


@get("/", opt=does(acts.WATCH_FLEET), include_in_schema=False)
async def show_map(
    request: AnyRequest,
    catalogue: NamedDependency[SkipValidation[Catalogue]],
    town: NamedDependency[SkipValidation[bytes | None]],
    pmtiles: NamedDependency[SkipValidation[object]],
    chaos: NamedDependency[SkipValidation[Chaos | None]],
) -> Response[str]:
    data = {"town": town is not None, "pmtiles": pmtiles is not None, "brands": brand_titles(request, catalogue)}
    plugs = ACTS if chaos and may(request, acts.PULL_PLUG) else ()
    return render(request, "map.html", "map", data, chaos=plugs, pmtiles=data["pmtiles"])


@get("/vehicles", opt=does(acts.WATCH_FLEET), include_in_schema=False)
async def show_vehicles(
    request: AnyRequest,
    desk: DeskDependency,
    find: FromQuery[str] = "",
    brand: FromQuery[str] = "",
    kind: FromQuery[str] = "",
    powertrain: FromQuery[str] = "",
    vehicle_state: FromQuery[str] = "",
    cursor: FromQuery[str | None] = None,
) -> Response[str]:
    """Numbers are searched and shown only for those who may read the registry."""
    with_ids = may(request, acts.READ_REGISTRY)
    filters = {"brand": brand, "kind": kind, "powertrain": powertrain}
    filters = {name: value for name, value in filters.items() if value}
    wanted = Wanted(filters, tuple(find.split()), vehicle_state, is_id_searched=with_ids)
    page = await desk.registry.find(wanted, cursor, PAGE)
    models, titles = await desk.registry.models(), brand_titles(request, desk.catalogue)
    query = {"find": find, **filters, "vehicle_state": vehicle_state}
    asked = urlencode({name: value for name, value in query.items() if value})
    return render(
        request,
        "vehicles.html",
        "vehicles",
        {},
        lines=await lines_of(desk, page.vehicles, lambda ref: right_of(request, ref).classes, with_ids=with_ids),
        found=await desk.registry.count(wanted),
        all=sum(count for *_, count in models),
        with_ids=with_ids,
        asked=query,
        choices={
            "brand": sorted((one, titles.get(one, one)) for one in {line[0] for line in models}),
            "kind": sorted({line[1] for line in models}),
            "powertrain": sorted({line[2] for line in models}),
        },
        states=STATES,
        next=f"/vehicles?{asked}{'&' if asked else ''}cursor={page.cursor}" if page.cursor else "",
        first=f"/vehicles?{asked}" if cursor else "",
    )


@get("/ingest", opt=does(acts.READ_STATUS), include_in_schema=False)
async def show_ingest(request: AnyRequest) -> Response[str]:
    return render(request, "ingest.html", "ingest", {})


HANDLERS = [show_map, show_vehicles, show_ingest]
