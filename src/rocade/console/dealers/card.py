"""The card of a point of sale as a small page of its own, to be shown in a frame on the dealer's web site. No scripts.

<iframe src="https://HUB/card/FR-00123-1?language=fr" title="Opening hours" width="360" height="420"></iframe>
"""

from __future__ import annotations

from typing import cast

from litestar import Response, get
from litestar.params import FromPath, FromQuery

from rocade.console import languages
from rocade.console.dealers.network import NetworkDependency
from rocade.console.pages import filled
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, does
from rocade.doors.http.shell import FRAMED_BY
from rocade.services.showcase.api import FOR_A_MINUTE
from rocade.trust.authority.gate import acts


@get("/card/{site:str}", opt=does(acts.READ_CARD), include_in_schema=False)
async def show_card(
    request: AnyRequest, network: NetworkDependency, site: FromPath[str], language: FromQuery[str] = ""
) -> Response[str]:
    """`language`: that of the web site around it; else the visitor's own."""
    if network.showcase is None:
        raise Refused("showcase.off", "this point of sale shows no card")
    shown = await network.showcase.shown(site)
    cast("dict[str, object]", request.scope)[FRAMED_BY] = " ".join(shown.origins)
    code = (
        language if language in languages.CODES else languages.choose(None, request.headers.get("accept-language", ""))
    )
    html = filled("dealers/card.html", t=languages.texts(code), language=code, shown=shown)
    return Response(html, media_type="text/html", headers={**FOR_A_MINUTE, "vary": "accept-language"})


HANDLERS = [show_card]
