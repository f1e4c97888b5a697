"""HTTP API of erasure: order it for a vehicle or a person, see how far it is, fetch the certificate.

An order answers when nobody finds the data any more, with the erasure's number; files follow (`physical`: at once, else within
the hour), and the certificate when they are clean. Recorded in the audit log and in the ledger before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from litestar import Response, delete, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation

from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.telemetry.erasing import Eraser
from rocade.services.telemetry.footprint import points_by_vehicle
from rocade.services.telemetry.history_api import HistoryDependency, RegistryDependency, known
from rocade.trust.authority.erasure import Erasure
from rocade.trust.authority.gate import acts

EraserDependency = NamedDependency[SkipValidation[Eraser]]


class ErasureView(msgspec.Struct, frozen=True, omit_defaults=True):
    """`points`: values stored, doubtful ones too; `is_done` False = this was only the plan; `erasure`: ask for it by this."""

    ref: str
    points: int
    is_done: bool
    erasure: str = ""


class ErasureState(msgspec.Struct, frozen=True):
    """`step`: ordered, forgotten (nobody finds it), cleared (no file holds it), done (certified). `facts`: what was counted."""

    erasure: str
    subject: str
    ordered_us: int
    step: str
    progress: str
    facts: Mapping[str, int | str]
    done_us: int


@delete("/v1/vehicles/{ref:int}/data", opt=does(acts.ERASE), status_code=200)
async def erase(
    request: AnyRequest,
    ref: FromPath[int],
    history: HistoryDependency,
    registry: RegistryDependency,
    eraser: EraserDependency,
    dry_run: FromQuery[bool] = False,
    physical: FromQuery[bool] = False,
) -> ErasureView:
    """Remove a vehicle's data from twin, numbers, quarantine, history, log and archive for good; it gets a new reference.

    A former owner removes those of his time. Recorded before it is done. `physical`: files are cleaned now.
    """
    await known(request, registry, ref)
    points = (await points_by_vehicle(history, [ref])).get(ref, 0)
    if dry_run:
        return ErasureView(str(ref), points, is_done=False)
    ordered = await eraser.erase(ref, caller_of(request).id, is_physical=physical)
    return ErasureView(str(ref), points, is_done=True, erasure=ordered.id)


@delete("/v1/people/{person:str}/data", opt=does(acts.ERASE_PERSON), status_code=200)
async def erase_person(request: AnyRequest, person: FromPath[str], eraser: EraserDependency) -> ErasureState:
    """Forget a person: name, passkeys, sessions, duties and consents go, and the data of vehicles he owns or owned."""
    return _state(await eraser.erase_person(person, caller_of(request).id))


@delete("/v1/account/data", opt=does(acts.ERASE_ACCOUNT), status_code=200)
async def erase_account(request: AnyRequest, eraser: EraserDependency) -> ErasureState:
    """Be forgotten: as for others, by oneself. The session ends with it; keep the number, the certificate asks for it."""
    me = caller_of(request).id
    return _state(await eraser.erase_person(me, me))


@get("/v1/erasures/{number:str}", opt=does(acts.FOLLOW_ERASURE))
async def follow(number: FromPath[str], eraser: EraserDependency) -> ErasureState:
    """How far an erasure is, for who has its number."""
    return _state(await eraser.erasures.find(number))


@get("/v1/erasures/{number:str}/certificate", opt=does(acts.FOLLOW_ERASURE))
async def certify(number: FromPath[str], eraser: EraserDependency) -> Response[bytes]:
    """The signed certificate, for `rocade verify` and the region's root certificate; for who has the erasure's number."""
    return Response(await eraser.erasures.certificate(number), media_type="application/json")


HANDLERS = [erase, erase_person, erase_account, follow, certify]


def _state(one: Erasure) -> ErasureState:
    return ErasureState(one.id, one.subject, one.ordered_us, one.step, one.progress, one.facts, one.done_us)
