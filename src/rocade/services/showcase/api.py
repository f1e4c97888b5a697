"""HTTP API of the card: its manager says what is shown; anybody reads what is."""

from __future__ import annotations

from litestar import Response, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, SkipValidation

from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.showcase.model import Card
from rocade.services.showcase.service import Showcase, encoded
from rocade.trust.authority.gate import acts

ShowcaseDependency = NamedDependency[SkipValidation[Showcase]]
FOR_A_MINUTE = {
    "cache-control": "public, max-age=60, stale-while-revalidate=3600, stale-if-error=86400",
    "access-control-allow-origin": "*",
}


@get("/v1/sites/{site:str}/card", opt=does(acts.SHOW_CARD))
async def read_card(showcase: ShowcaseDependency, site: FromPath[str]) -> Card:
    """What its manager chose to show."""
    return await showcase.card(site)


@put("/v1/sites/{site:str}/card", status_code=204, opt=does(acts.SHOW_CARD))
async def put_card(
    request: AnyRequest, showcase: ShowcaseDependency, site: FromPath[str], data: JSONBody[Card]
) -> None:
    """Choose what is shown, and on which web sites."""
    await showcase.put(site, data, permit_of(request).principal.id)


@get("/v1/cards/{site:str}", opt=does(acts.READ_CARD))
async def read_shown(showcase: ShowcaseDependency, site: FromPath[str]) -> Response[bytes]:
    """What visitors see, for web sites that draw it themselves. Any cache may keep it for a minute, a day if we are away."""
    return Response(encoded(await showcase.shown(site)), media_type="application/json", headers=FOR_A_MINUTE)


HANDLERS = [read_card, put_card, read_shown]
