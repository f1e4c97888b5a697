"""The owner's contracts: with whom his vehicle's data are shared, under which terms, what went out; made and ended by one touch.

A contract names a third party registered in this region, a purpose, kinds of data, ways and an end. Each act answers with the
board as it stands afterwards; one that comes too late says so and changes nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from rocade.console.my.frame import DAY_US, car_of, class_choices, name_of, piece, show, texts_of
from rocade.console.sharing.desk import ShareDependency, ShareDesk
from rocade.core import data_classes
from rocade.core.errors import Refused
from rocade.core.identifiers import Identity, whole_number
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.consent import FOREVER_US, PURPOSES
from rocade.services.sharing import WAYS, Contract
from rocade.services.sharing.records import Scope
from rocade.trust.authority.gate import acts, of_certificate

LOG_LINES = 12
ENDED_SHOWN = 20
TOO_LATE = frozenset({"sharing.contract.ended", "sharing.contract.unknown", "consent.grant.unknown"})


class Shown(msgspec.Struct, frozen=True):
    """A contract in words. `log`: its newest lines; `withheld`: names of signals kept back, for `reason`."""

    id: str
    version: int
    state: str
    why: str
    who: str
    purpose: str
    classes: tuple[str, ...]
    signals: int
    ways: tuple[str, ...]
    until_us: int
    ended_us: int
    compensation: str
    withheld: tuple[str, ...]
    reason: str
    samples: int
    log: list[tuple[int, str, str, int]]
    """(instant, kind, way, samples)"""


@get("/my/{ref:int}/feeds", opt=does(acts.READ_CONTRACTS), include_in_schema=False)
async def show_feeds(request: AnyRequest, ref: FromPath[int], share_desk: ShareDependency) -> Response[str]:
    mine, texts = share_desk.mine, texts_of(request)
    car = await car_of(request, mine, ref)
    parties = [(one, await name_of(request, mine, one)) for one in await _parties(share_desk)]
    ways = [way for way in WAYS if way != "webhook" or share_desk.has_webhooks]
    return show(
        request, "my/feeds.html", {"ref": str(ref)}, mine, car=car, parties=parties,
        purposes=[(name, texts[f"my_purpose.{name}"]) for name in PURPOSES[1:]], classes=class_choices(request),
        ways=[(way, texts[f"my_feeds.way_{way}"], texts[f"my_feeds.way_{way}_text"]) for way in ways],
        **await _board(request, share_desk, ref),
    )  # fmt: skip


@get("/my/{ref:int}/feeds/board", opt=does(acts.READ_CONTRACTS), include_in_schema=False)
async def show_board(request: AnyRequest, ref: FromPath[int], share_desk: ShareDependency) -> Response[str]:
    return piece(request, "my/feeds_board.html", **await _board(request, share_desk, ref))


async def _parties(desk: ShareDesk) -> list[str]:
    """Who may be named here: the partners and dealers registered in this region."""
    found = [Identity.parse(client.identity) for client in await desk.mine.clients.all()]
    return sorted(of_certificate(one).recipient for one in found if one.kind in {"partner", "dealer"})


async def _board(request: AnyRequest, desk: ShareDesk, ref: int) -> dict[str, Any]:
    contracts = await desk.sharing.of_vehicle(ref)
    live = [one for one in contracts if one.state != "ended"]
    ended = [one for one in contracts if one.state == "ended"][:ENDED_SHOWN]
    return {
        "ref": ref,
        "is_owner": permit_of(request).right.relation == "owner",
        "contracts": [await _shown(request, desk, one) for one in live],
        "ended": [await _shown(request, desk, one) for one in ended],
    }


async def _shown(request: AnyRequest, desk: ShareDesk, one: Contract) -> Shown:
    terms, lines = await desk.sharing.terms(one.terms), await desk.sharing.log(one.id)
    return Shown(
        one.id, one.version, one.state, one.why_ended, await name_of(request, desk.mine, one.party), one.purpose,
        data_classes.names(one.classes), len(one.signals), one.ways, one.until_us, one.ended_us, terms.compensation,
        tuple(Scope(one, terms, desk.sharing.catalogue).withheld(one.classes)), terms.reason,
        sum(line.samples for line in lines if line.kind == "sent"),
        [(line.at_us, line.kind, line.way, line.samples) for line in lines[:LOG_LINES]],
    )  # fmt: skip


@post("/my/{ref:int}/feeds", opt=does(acts.SHARE), include_in_schema=False, status_code=200)
async def share(request: AnyRequest, ref: FromPath[int], share_desk: ShareDependency) -> Response[str]:
    form = await request.form()
    days = whole_number(form.get("days", "365"))
    if days is None or days > 36_500:
        raise Refused("console.days", "a contract lasts a number of days, 0 for no end")
    until_us = share_desk.mine.clock.now_us() + days * DAY_US if days else FOREVER_US
    made = await share_desk.sharing.share(
        ref, permit_of(request).principal.id, form.get("party", ""), form.get("purpose", ""),
        data_classes.mask(form.getall("classes", [])), ways=tuple(form.getall("ways", [])), until_us=until_us,
    )  # fmt: skip
    return await _said(request, share_desk, ref, "my_feeds.offered_said", made.party)


@post("/my/{ref:int}/feeds/{id:str}/end", opt=does(acts.END_SHARING), include_in_schema=False, status_code=200)
async def end(request: AnyRequest, ref: FromPath[int], id: FromPath[str], share_desk: ShareDependency) -> Response[str]:
    try:
        ended = await share_desk.sharing.withdraw(ref, permit_of(request).principal.id, id)
    except Refused as refusal:
        if refusal.code not in TOO_LATE:
            raise
        late = {"said": texts_of(request)["my_sharing.already"], "said_kind": "doubt"}
        return piece(request, "my/feeds_board.html", **await _board(request, share_desk, ref) | late)
    return await _said(request, share_desk, ref, "my_feeds.ended_said", ended.party)


async def _said(request: AnyRequest, desk: ShareDesk, ref: int, key: str, party: str) -> Response[str]:
    said = texts_of(request)[key].format(who=await name_of(request, desk.mine, party))
    return piece(request, "my/feeds_board.html", **await _board(request, desk, ref) | {"said": said})


HANDLERS = [show_feeds, show_board, share, end]
