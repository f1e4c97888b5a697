"""Consents as numbers, without a person or a vehicle in them; and vehicles that two people claim."""

from __future__ import annotations

from collections import defaultdict

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath

from rocade.console.operator.desk import Desk, DeskDependency, names_of
from rocade.console.pages import fragment, render
from rocade.console.viewer import may
from rocade.core.data_classes import DATA_CLASSES
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.consent import Conflict, Consents
from rocade.trust.authority.gate import acts

FEW = 5
"""Fewer vehicles than this are not counted out: a small number points at somebody."""


class Share(msgspec.Struct, frozen=True):
    """What one recipient is given for one purpose: vehicles by data class, 0 = none, -1 = a few."""

    purpose: str
    recipient: str
    vehicles: dict[str, int]


@get("/consents", opt=does(acts.READ_CONSENTS), include_in_schema=False)
async def show_consents(request: AnyRequest, desk: DeskDependency) -> Response[str]:
    consents = _consents(desk)
    conflicts = await consents.conflicts() if may(request, acts.READ_CONFLICTS) else []
    owned, registered = await consents.owned_count(), await desk.registry.count()
    return render(
        request,
        "operator/consents.html",
        "consents",
        {},
        shares=await _shares(consents),
        classes=DATA_CLASSES,
        owned=owned,
        fleet=registered - owned,
        conflicts=conflicts,
        names=await names_of(desk, [one.ref for one in conflicts]),
        people=await _people(desk, conflicts),
        act=acts.SETTLE_CONFLICT.name,
    )


async def _shares(consents: Consents) -> list[Share]:
    """Recipients that are persons are one line: who they are is nobody's business here."""
    found: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for line in await consents.counts():
        recipient = line.recipient if not line.recipient.startswith("person:") else "person"
        classes = found[line.purpose, recipient]
        classes[line.data_class] = classes.get(line.data_class, 0) + line.vehicles
    return [
        Share(*of, {name: -1 if 0 < count < FEW else count for name, count in classes.items()})
        for of, classes in sorted(found.items())
    ]


async def _people(desk: Desk, conflicts: list[Conflict]) -> dict[str, str]:
    if desk.people is None:
        return {}
    ids = {id for one in conflicts for id in (one.holder, one.claimant)}
    return {id: (await desk.people.by_id(id)).name for id in sorted(ids)}


@post("/consents/conflicts/{id:str}/holder", opt=does(acts.SETTLE_CONFLICT), include_in_schema=False, status_code=200)
async def keep_holder(request: AnyRequest, desk: DeskDependency, id: FromPath[str]) -> Response[str]:
    await _consents(desk).settle(id, for_claimant=False, actor=caller_of(request).id)
    return fragment(request, "operator/conflict_settled.html")


@post("/consents/conflicts/{id:str}/claimant", opt=does(acts.SETTLE_CONFLICT), include_in_schema=False, status_code=200)
async def give_to_claimant(request: AnyRequest, desk: DeskDependency, id: FromPath[str]) -> Response[str]:
    await _consents(desk).settle(id, for_claimant=True, actor=caller_of(request).id)
    return fragment(request, "operator/conflict_settled.html")


def _consents(desk: Desk) -> Consents:
    assert desk.consents is not None, "these pages are served only where consents are"
    return desk.consents


HANDLERS = [show_consents, keep_holder, give_to_claimant]
