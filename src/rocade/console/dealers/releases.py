"""Price lists and their releases; how far the last one has come among the points of sale it is for, live."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath, FromQuery

from rocade.console.dealers.network import NEVER, NetworkDependency
from rocade.console.pages import fragment, render
from rocade.core.errors import Unavailable
from rocade.doors.http import AnyRequest, does
from rocade.services.prices import Lists
from rocade.trust.authority.gate import acts

RELEASES = 50
LATE = 50


@get("/prices", opt=does(acts.READ_PRICE_LISTS), include_in_schema=False)
async def show_lists(request: AnyRequest, network: NetworkDependency) -> Response[str]:
    lists = _lists(network.lists)
    rows = [(one, await lists.progress(one.id) if one.seq else None) for one in await lists.lists()]
    return render(request, "dealers/lists.html", "prices", {}, rows=rows)


@get("/prices/{name:str}", opt=does(acts.READ_PRICE_LISTS), include_in_schema=False)
async def show_list(request: AnyRequest, network: NetworkDependency, name: FromPath[str]) -> Response[str]:
    lists = _lists(network.lists)
    about = await lists.find(name)
    return render(
        request,
        "dealers/list.html",
        "prices",
        {},
        about=about,
        releases=await lists.releases(name, limit=RELEASES),
        progress=await lists.progress(name),
    )


@get("/prices/{name:str}/progress", opt=does(acts.READ_PRICE_LISTS), include_in_schema=False)
async def show_progress(
    request: AnyRequest, network: NetworkDependency, name: FromPath[str], seq: FromQuery[int | None] = None
) -> Response[str]:
    """The moving part of a list's page."""
    lists = _lists(network.lists)
    return fragment(
        request, "dealers/progress.html", about=await lists.find(name), progress=await lists.progress(name, seq)
    )


@get("/prices/{name:str}/late", opt=does(acts.READ_PRICE_LISTS), include_in_schema=False)
async def show_late(request: AnyRequest, network: NetworkDependency, name: FromPath[str]) -> Response[str]:
    """Points of sale that do not have the last release yet: those whose line is down first."""
    about, states = await _lists(network.lists).find(name), await network.states()
    wanted = [
        one for one in network.table if any(held.brand == about.brand for held in one.brands_at(network.clock.now_us()))
    ]
    late = [(one, state) for one in wanted if (state := states.get(one.id, NEVER)).said.lists.get(name, 0) < about.seq]
    late.sort(key=lambda pair: (pair[1].state != "away", pair[1].state == "never", pair[0].id))
    return fragment(request, "dealers/late.html", late=late[:LATE], more=max(len(late) - LATE, 0), name=name)


def _lists(lists: Lists | None) -> Lists:
    if lists is None:
        raise Unavailable("prices.off", "this region was made without price lists; `rocade prices key` begins them")
    return lists


HANDLERS = [show_lists, show_list, show_progress, show_late]
