"""The HTML pages: map, vehicles, one vehicle, ingestion, API reference. Read-only; open on loopback and to operators.

A page is a template, the texts of the reader's language and a small JSON block its script starts from; what moves comes
from `live`.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import urlsplit

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response, get
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation
from litestar.response import Redirect

from rocade.console import languages, reference
from rocade.console.chaos import ACTS, Chaos
from rocade.core.catalogue import Catalogue
from rocade.core.identifiers import VehicleRef
from rocade.doors.http import AnyRequest, does
from rocade.services.vehicles import Registry
from rocade.trust.authority.gate import acts


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader("rocade.console"), autoescape=True, undefined=StrictUndefined)


def _json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def _render(request: AnyRequest, template: str, page: str, data: dict[str, Any], **values: Any) -> Response[str]:
    language = languages.choose(request.cookies.get(languages.COOKIE), request.headers.get("accept-language", ""))
    texts = languages.texts(language)
    html = (
        _templates()
        .get_template(template)
        .render(
            page=page,
            path=request.url.path,
            language=language,
            languages=[(code, languages.texts(code)["name"]) for code in languages.CODES],
            t=texts,
            texts_json=_Safe(_json(texts)),
            page_json=_Safe(_json(data)),
            **values,
        )
    )
    return Response(
        html, media_type="text/html", headers={"cache-control": "no-store", "vary": "cookie, accept-language"}
    )


class _Safe(str):
    """JSON from `_json`: nothing in it can leave its script element."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


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
    return _render(request, "map.html", "map", data, chaos=ACTS if chaos else (), pmtiles=data["pmtiles"])


@get("/vehicles", opt=does(acts.READ_REGISTRY), include_in_schema=False)
async def show_vehicles(
    request: AnyRequest,
    registry: NamedDependency[SkipValidation[Registry]],
    catalogue: NamedDependency[SkipValidation[Catalogue]],
    cursor: FromQuery[str | None] = None,
) -> Response[str]:
    listed = await registry.list(cursor, 100)
    return _render(
        request,
        "vehicles.html",
        "vehicles",
        {},
        vehicles=listed.vehicles,
        next=listed.cursor,
        brands=brand_titles(catalogue),
    )


@get("/vehicles/{ref:int}", opt=does(acts.READ_VEHICLE), include_in_schema=False)
async def show_vehicle(
    request: AnyRequest,
    ref: FromPath[int],
    registry: NamedDependency[SkipValidation[Registry]],
    catalogue: NamedDependency[SkipValidation[Catalogue]],
    town: NamedDependency[SkipValidation[bytes | None]],
    pmtiles: NamedDependency[SkipValidation[object]],
) -> Response[str]:
    vehicle = await registry.by_ref(VehicleRef(ref))
    data = {"ref": str(ref), "town": town is not None, "pmtiles": pmtiles is not None}
    brand = catalogue.brands.get(vehicle.brand)
    title = brand.title if brand else vehicle.brand
    return _render(request, "vehicle.html", "vehicle", data, vehicle=vehicle, brand=title, pmtiles=data["pmtiles"])


@get("/ingest", opt=does(acts.READ_STATUS), include_in_schema=False)
async def show_ingest(request: AnyRequest) -> Response[str]:
    return _render(request, "ingest.html", "ingest", {})


@get("/docs", opt=does(acts.READ_REFERENCE), include_in_schema=False)
async def show_reference(request: AnyRequest) -> Response[str]:
    return _render(request, "docs.html", "api", {}, groups=reference.routes_of(request.app))


@get("/language", opt=does(acts.CHOOSE_LANGUAGE), include_in_schema=False)
async def set_language(to: FromQuery[str], back: FromQuery[str] = "/") -> Redirect:
    """Remember the language and go back to a page of ours."""
    parts = urlsplit(back)
    path = parts.path if back.startswith("/") and not back.startswith(("//", "/\\")) else "/"
    code = to if to in languages.CODES else "en"
    cookie = Cookie(key=languages.COOKIE, value=code, path="/", max_age=31_536_000, samesite="lax", httponly=True)
    return Redirect(path, cookies=[cookie], status_code=303)


HANDLERS = [show_map, show_vehicles, show_vehicle, show_ingest, show_reference, set_language]
