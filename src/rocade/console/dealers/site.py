"""One point of sale: what it is, how its line and its lists are, what it sends, what its lines carry."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from rocade.console.dealers.network import NEVER, NetworkDependency
from rocade.console.pages import render
from rocade.console.viewer import may
from rocade.doors.http import AnyRequest, does
from rocade.services.dealers import errors, opening
from rocade.services.exchange import Wanted
from rocade.trust.authority.gate import acts

MESSAGES = 20
OPENINGS = 20


@get("/dealers/{site:str}", opt=does(acts.READ_DEALERS), include_in_schema=False)
async def show_site(request: AnyRequest, network: NetworkDependency, site: FromPath[str]) -> Response[str]:
    """Messages are shown without their bodies; who may not search them is not shown any."""
    about = network.table.site(site)
    if about is None:
        raise errors.site_unknown()
    now_us = network.clock.now_us()
    state = (await network.states()).get(site, NEVER)
    lists = []
    if network.lists:
        held = {one.brand for one in about.brands_at(now_us)}
        lists = [(one, state.said.lists.get(one.id)) for one in await network.lists.lists() if one.brand in held]
    messages = []
    if network.messages and may(request, acts.SEARCH_EXCHANGE):
        messages = await network.messages.search(Wanted(party=f"dealer/{site}"), limit=MESSAGES)
    openings = []
    if may(request, acts.READ_INTERCONNECTION):
        openings = await network.interconnection.openings(site, limit=OPENINGS)
    return render(
        request,
        "dealers/site.html",
        "dealers",
        {},
        about=about,
        brands=about.brands_at(now_us),
        secondary=[one for one in network.table.of_dealer(about.dealer) if one != site],
        is_open_now=opening.parse(about.opening_hours).is_open(now_us, about.timezone) if about.opening_hours else None,
        state=state,
        days_left=state.days_left(now_us),
        lists=lists,
        messages=messages,
        openings=openings,
    )


HANDLERS = [show_site]
