"""HTTP API of moving over: progress of the network, and of one site its steps and its shadow reports.

Reports hold differences of prices, so they are business content: the site's machine and its manager or parts desk write and
read them, operators see the steps and the counts of sites alone.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import Body, FromPath, FromQuery, SkipValidation

from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.dealers.model import Compared, Move, Progress, Shadow
from rocade.services.dealers.moving import Moving
from rocade.trust.authority.gate import acts

MovingDependency = NamedDependency[SkipValidation[Moving]]


class Reported(msgspec.Struct, frozen=True):
    """What a shadow run found: which list, at which number of it, and both sides compared."""

    list: str
    seq: int
    compared: Compared


@get("/v1/dealers/moves", opt=does(acts.READ_DEALERS))
async def show_progress(moving: MovingDependency) -> list[Progress]:
    """How far each group is; '' = companies of no group."""
    return await moving.progress()


@get("/v1/dealers/sites/{site:str}/moves", opt=does(acts.SEE_SITE))
async def list_moves(site: FromPath[str], moving: MovingDependency) -> list[Move]:
    """Every step of a site, in order."""
    return await moving.history(site)


@post("/v1/dealers/sites/{site:str}/moves", opt=does(acts.MOVE_SITES))
async def move(
    request: AnyRequest,
    site: FromPath[str],
    moving: MovingDependency,
    to: FromQuery[str],
    note: FromQuery[str] = "",
    accept: FromQuery[bool] = False,
) -> Move:
    """One step: shadow, cut-over, rolled-back, or old; `accept` cuts over in spite of known differences, `note` says why."""
    return await moving.move(site, to, note, caller_of(request).id, is_accepted=accept)


@get("/v1/dealers/sites/{site:str}/shadows", opt=does(acts.RUN_SHADOW))
async def list_shadows(site: FromPath[str], moving: MovingDependency) -> list[Shadow]:
    """Reports of the old way beside the new one, the newest first."""
    return await moving.shadows(site)


@post("/v1/dealers/sites/{site:str}/shadows", opt=does(acts.RUN_SHADOW))
async def report_shadow(
    request: AnyRequest, site: FromPath[str], moving: MovingDependency, data: Annotated[Reported, Body()]
) -> Shadow:
    """Keep what a comparison found; made by `rocade dealers move compare` at the dealer's."""
    return await moving.report(site, data.list, data.seq, data.compared, caller_of(request).id)


HANDLERS: list[Any] = [show_progress, list_moves, move, list_shadows, report_shadow]
