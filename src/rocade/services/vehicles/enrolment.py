"""HTTP API of enrolment, for operators: register a vehicle and get the one-time code its key is certified with.

`POST /v1/enrolments` -> claim code (once, only its hash is kept; the vehicle trades it at the enrolment door, RFC 7030);
`POST /v1/revocations` -> every certificate of a party ends, effective on open connections within seconds.
Both are acts of the authority, which audits them.
"""

from __future__ import annotations

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, caller_of, does, require
from rocade.services.vehicles.service import Registry
from rocade.trust.authority import Authority
from rocade.trust.authority.gate import acts


class EnrolmentView(msgspec.Struct, frozen=True):
    """`claim_code` is seen only here."""

    identity: str
    claim_code: str


class RevocationView(msgspec.Struct, frozen=True):
    """How many certificates ended."""

    identity: str
    revoked: int


@post("/v1/enrolments", opt=does(acts.ENROL_VEHICLE))
async def enrol(
    request: AnyRequest,
    registry: NamedDependency[SkipValidation[Registry]],
    authority: NamedDependency[SkipValidation[Authority]],
    kind: FromQuery[str],
    id: FromQuery[str],
    brand: FromQuery[str] = "other",
    model: FromQuery[str] = "",
    vehicle_kind: FromQuery[str] = "car",
    powertrain: FromQuery[str] = "electric",
    market: FromQuery[str] = "",
    hardware: FromQuery[str] = "",
) -> EnrolmentView:
    """Register a vehicle (if it is new) and make the claim code of its identity; other kinds only get the code."""
    identity = authority.region.identity(kind, id)
    if kind != "vehicle":
        await require(request, acts.ENROL_PARTY)
    if kind == "vehicle" and id not in await registry.resolve_many([id]):
        market = market or authority.region.region
        try:
            await registry.add(id, vehicle_kind, brand, model, powertrain, market, hardware)
        except Refused as refusal:
            if refusal.code != "vehicles.exists":
                raise
    code = await authority.claim(identity, caller_of(request).id)
    return EnrolmentView(identity.uri, code)


@post("/v1/revocations", opt=does(acts.REVOKE))
async def revoke(
    request: AnyRequest,
    authority: NamedDependency[SkipValidation[Authority]],
    kind: FromQuery[str],
    id: FromQuery[str],
    reason: FromQuery[str],
) -> RevocationView:
    """End every certificate of a party."""
    identity = authority.region.identity(kind, id)
    serials = await authority.revoke(identity, reason, caller_of(request).id)
    return RevocationView(identity.uri, len(serials))


HANDLERS = [enrol, revoke]
