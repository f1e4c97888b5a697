"""The fleet: on the live map, in a list, and how it comes in."""

from __future__ import annotations

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from rocade.console.chaos import ACTS, Chaos
from rocade.console.pages import render
from rocade.core.catalogue import Catalogue
from rocade.doors.http import AnyRequest, does
from rocade.services.vehicles import Registry
from rocade.trust.authority.gate import acts


def brand_titles(catalogue: Catalogue) -> dict[str, str]:
    return {name: brand.title for name, brand in catalogue.brands.items()}


@get("/", opt=does(acts.WATCH_FLEET), include_in_schema=False)
async def show_map(
    request: AnyRequest,
    catalogue: NamedDependency[SkipValidation[Catalogue]],
    town: NamedDependency[SkipValidation[bytes | None]],
    pmtiles: NamedDependency[SkipValidation[object]],
    chaos: NamedDependency[SkipValidation[Chaos | None]],
) -> Response[str]:
    data = {"town": town is not None, "pmtiles": pmtiles is not None, "brands": brand_titles(catalogue)}
    return render(request, "map.html", "map", data, chaos=ACTS if chaos else (), pmtiles=data["pmtiles"])


@get("/vehicles", opt=does(acts.READ_REGISTRY), include_in_schema=False)
async def show_vehicles(
    request: AnyRequest,
    registry: NamedDependency[SkipValidation[Registry]],
    catalogue: NamedDependency[SkipValidation[Catalogue]],
    cursor: FromQuery[str | None] = None,
) -> Response[str]:
    listed = await registry.list(cursor, 100)
    return render(
        request,
        "vehicles.html",
        "vehicles",
        {},
        vehicles=listed.vehicles,
        next=listed.cursor,
        brands=brand_titles(catalogue),
    )


@get("/ingest", opt=does(acts.READ_STATUS), include_in_schema=False)
async def show_ingest(request: AnyRequest) -> Response[str]:
    return render(request, "ingest.html", "ingest", {})


HANDLERS = [show_map, show_vehicles, show_ingest]
