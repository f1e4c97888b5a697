"""HTTP API of consent: one's own vehicles, consents, drivers, looks and sale; for operators counts without persons, conflicts.

What needs a touch of the passkey carries nothing that matters in its body. Codes are answered once, never stored by a cache.
References are decimal strings, as everywhere in the API; `until_us` null = until it is ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from rocade.core import data_classes
from rocade.core.ports import Clock
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.consent.looks import Looks
from rocade.services.consent.model import FOREVER_US, Grant, Guest, Look, Ownership, Transfer
from rocade.services.consent.service import Consents
from rocade.trust.authority.gate import acts

ConsentsDependency = NamedDependency[SkipValidation[Consents]]
LooksDependency = NamedDependency[SkipValidation[Looks]]
ClockDependency = NamedDependency[SkipValidation[Clock]]
NO_STORE = {"cache-control": "no-store"}


class MyVehicleView(msgspec.Struct, frozen=True):
    """`relation`: owner | former | driver; `classes`: data classes one may see."""

    ref: str
    relation: str
    classes: tuple[str, ...]
    since_us: int
    until_us: int | None


class MyVehiclesView(msgspec.Struct, frozen=True):
    items: list[MyVehicleView]


class GrantView(msgspec.Struct, frozen=True):
    """`ended_us` and `why_ended` (withdrawn, narrowed, replaced, owner_changed) where it ended before its time."""

    id: str
    recipient: str
    purpose: str
    classes: tuple[str, ...]
    from_us: int
    until_us: int | None
    made_us: int
    ended_us: int | None
    why_ended: str
    replaces: str


class GrantsView(msgspec.Struct, frozen=True):
    items: list[GrantView]


class GuestView(msgspec.Struct, frozen=True):
    """`person` is '' until the invitation is accepted, which it can be before `invitation_end_us`."""

    id: str
    person: str
    classes: tuple[str, ...]
    from_us: int
    until_us: int
    invitation_end_us: int
    accepted_us: int | None
    ended_us: int | None


class GuestsView(msgspec.Struct, frozen=True):
    items: list[GuestView]


class InvitationView(msgspec.Struct, frozen=True):
    """`code` is shown this once."""

    guest: GuestView
    code: str


class LookView(msgspec.Struct, frozen=True):
    """`times` looks of one kind between `first_us` and `last_us`; `signals` empty = all of `classes`."""

    id: str
    actor: str
    recipient: str
    purpose: str
    what: str
    classes: tuple[str, ...]
    signals: list[int]
    grant: str
    first_us: int
    last_us: int
    times: int


class LooksView(msgspec.Struct, frozen=True):
    items: list[LookView]
    next: str | None


class CodeView(msgspec.Struct, frozen=True):
    """A one-time code, shown this once."""

    code: str


class TransferView(msgspec.Struct, frozen=True):
    """The vehicle is `ref` from `at_us` on; what was before stays under `former_ref`."""

    ref: str
    former_ref: str
    at_us: int


class CountView(msgspec.Struct, frozen=True):
    purpose: str
    data_class: str
    recipient: str
    vehicles: int


class ConsentsView(msgspec.Struct, frozen=True):
    """`owned`: vehicles that have an owner now."""

    owned: int
    items: list[CountView]


class ConflictView(msgspec.Struct, frozen=True):
    """Two persons claim one vehicle; nothing changes hands until one of them is settled for."""

    id: str
    ref: str
    holder: str
    claimant: str
    opened_us: int


class ConflictsView(msgspec.Struct, frozen=True):
    items: list[ConflictView]


class NewGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    recipient: str
    purpose: str
    classes: list[str]
    from_us: int | None = None
    until_us: int | None = None


class Narrowed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`until_us` left out = as it was."""

    classes: list[str]
    until_us: int | None = None


class NewGuest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    classes: list[str]
    until_us: int
    from_us: int | None = None


class ShownCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: str


def _person(request: AnyRequest) -> str:
    return permit_of(request).principal.id


def _end(at_us: int) -> int | None:
    return None if at_us == FOREVER_US else at_us


def _owned(one: Ownership, now_us: int) -> MyVehicleView:
    relation = "owner" if now_us < one.until_us else "former"
    return MyVehicleView(str(one.ref), relation, data_classes.DATA_CLASSES, one.since_us, _end(one.until_us))


def _driven(one: Guest) -> MyVehicleView:
    return MyVehicleView(str(one.ref), "driver", data_classes.names(one.classes), one.from_us, _end(one.end_us))


def _grant(one: Grant) -> GrantView:
    return GrantView(
        one.id, one.recipient, one.purpose, data_classes.names(one.classes), one.from_us, _end(one.until_us), one.made_us,
        _end(one.ended_us), one.why_ended, one.replaces,
    )  # fmt: skip


def _guest(one: Guest) -> GuestView:
    return GuestView(
        one.id, one.person, data_classes.names(one.classes), one.from_us, one.until_us, one.invitation_end_us,
        one.accepted_us or None, _end(one.ended_us),
    )  # fmt: skip


def _look(one: Look) -> LookView:
    return LookView(
        f"look-{one.id}", one.actor, one.recipient, one.purpose, one.what, data_classes.names(one.classes), one.signals,
        one.grant, one.first_us, one.last_us, one.times,
    )  # fmt: skip


def _transfer(one: Transfer) -> TransferView:
    return TransferView(str(one.ref), str(one.former_ref), one.at_us)


# One's own vehicles -----------------------------------------------------------------------------------------------


@get("/v1/my/vehicles", opt=does(acts.MY_VEHICLES))
async def list_mine(request: AnyRequest, consents: ConsentsDependency, clock: ClockDependency) -> MyVehiclesView:
    """Vehicles one owns, owned, or drives by invitation."""
    person, now_us = _person(request), clock.now_us()
    owned = [_owned(one, now_us) for one in await consents.owned_by(person)]
    return MyVehiclesView(owned + [_driven(one) for one in await consents.drives(person)])


@get("/v1/my/vehicles/{ref:int}/grants", opt=does(acts.READ_GRANTS))
async def list_grants(ref: FromPath[int], consents: ConsentsDependency) -> GrantsView:
    """All consents ever given for a vehicle in one's own time, the newest last."""
    return GrantsView([_grant(one) for one in await consents.grants(ref)])


@post("/v1/my/vehicles/{ref:int}/grants", opt=does(acts.GRANT))
async def grant(
    request: AnyRequest, ref: FromPath[int], data: JSONBody[NewGrant], consents: ConsentsDependency
) -> GrantView:
    """Let a recipient see classes for a purpose; it takes the place of an earlier consent for the same."""
    until_us = FOREVER_US if data.until_us is None else data.until_us
    classes = data_classes.mask(data.classes)
    made = await consents.grant(ref, _person(request), data.recipient, data.purpose, classes, data.from_us, until_us)
    return _grant(made)


@patch("/v1/my/vehicles/{ref:int}/grants/{id:str}", opt=does(acts.WITHDRAW))
async def narrow(
    request: AnyRequest, ref: FromPath[int], id: FromPath[str], data: JSONBody[Narrowed], consents: ConsentsDependency
) -> GrantView:
    """Show less, or sooner no more: the answer is the consent in force now."""
    return _grant(await consents.narrow(ref, _person(request), id, data_classes.mask(data.classes), data.until_us))


@delete("/v1/my/vehicles/{ref:int}/grants/{id:str}", opt=does(acts.WITHDRAW), status_code=200)
async def withdraw(
    request: AnyRequest, ref: FromPath[int], id: FromPath[str], consents: ConsentsDependency
) -> GrantView:
    """End a consent now; open streams under it end within two seconds."""
    return _grant(await consents.withdraw(ref, _person(request), id))


@get("/v1/my/vehicles/{ref:int}/guests", opt=does(acts.READ_GRANTS))
async def list_guests(ref: FromPath[int], consents: ConsentsDependency) -> GuestsView:
    """Drivers and invitations of a vehicle in one's own time, the newest last."""
    return GuestsView([_guest(one) for one in await consents.guests(ref)])


@post("/v1/my/vehicles/{ref:int}/guests", opt=does(acts.INVITE))
async def invite(
    request: AnyRequest, ref: FromPath[int], data: JSONBody[NewGuest], consents: ConsentsDependency
) -> Response[InvitationView]:
    """Invite a driver; hand him the code."""
    classes = data_classes.mask(data.classes)
    made, code = await consents.invite(ref, _person(request), classes, data.until_us, data.from_us)
    return Response(InvitationView(_guest(made), code), headers=NO_STORE)


@delete("/v1/my/vehicles/{ref:int}/guests/{id:str}", opt=does(acts.END_GUEST), status_code=200)
async def end_guest(
    request: AnyRequest, ref: FromPath[int], id: FromPath[str], consents: ConsentsDependency
) -> GuestView:
    """End a driver's time, or an invitation nobody accepted yet."""
    return _guest(await consents.end(ref, _person(request), id))


@get("/v1/my/vehicles/{ref:int}/looks", opt=does(acts.READ_LOOKS))
async def list_looks(
    ref: FromPath[int],
    looks: LooksDependency,
    since_us: FromQuery[int] = 0,
    cursor: FromQuery[str | None] = None,
    limit: FromQuery[int] = 100,
) -> LooksView:
    """Who looked at one's vehicle, the newest first; `next` is the cursor of what is older."""
    page = await looks.of(ref, since_us, cursor, limit)
    return LooksView([_look(one) for one in page.looks], page.cursor)


@post("/v1/my/vehicles/{ref:int}/transfer", opt=does(acts.TRANSFER))
async def sell(request: AnyRequest, ref: FromPath[int], consents: ConsentsDependency) -> Response[CodeView]:
    """Make the one-time code for the buyer. Nothing changes before he uses it; a newer code ends this one."""
    return Response(CodeView(await consents.sell(ref, _person(request))), headers=NO_STORE)


@delete("/v1/my/vehicles/{ref:int}/transfer", opt=does(acts.WITHDRAW), status_code=204)
async def keep(request: AnyRequest, ref: FromPath[int], consents: ConsentsDependency) -> None:
    """Not selling after all: unused codes end."""
    await consents.keep(ref, _person(request))


@post("/v1/my/vehicles/{ref:int}/give-back", opt=does(acts.TRANSFER))
async def give_back(request: AnyRequest, ref: FromPath[int], consents: ConsentsDependency) -> TransferView:
    """Give the vehicle up to the region, which goes on with it under a new reference."""
    return _transfer(await consents.give_back(ref, _person(request)))


@post("/v1/my/claims", opt=does(acts.CLAIM_VEHICLE))
async def claim(request: AnyRequest, data: JSONBody[ShownCode], consents: ConsentsDependency) -> TransferView:
    """Become the owner by a one-time code."""
    return _transfer(await consents.claim(data.code, _person(request)))


@post("/v1/my/invitations", opt=does(acts.ACCEPT_INVITATION))
async def accept(request: AnyRequest, data: JSONBody[ShownCode], consents: ConsentsDependency) -> MyVehicleView:
    """Become a driver by an invitation."""
    return _driven(await consents.accept(data.code, _person(request)))


@delete("/v1/my/invitations/{ref:int}/{id:str}", opt=does(acts.ACCEPT_INVITATION), status_code=200)
async def leave(
    request: AnyRequest, ref: FromPath[int], id: FromPath[str], consents: ConsentsDependency
) -> MyVehicleView:
    """Drive a vehicle no more."""
    return _driven(await consents.end(ref, _person(request), id))


# Operators --------------------------------------------------------------------------------------------------------


@get("/v1/consents", opt=does(acts.READ_CONSENTS))
async def overview(consents: ConsentsDependency) -> ConsentsView:
    """How many vehicles give which data to whom for what; no vehicle and no person can be told from it."""
    lines: Sequence[CountView] = [
        CountView(one.purpose, one.data_class, one.recipient, one.vehicles) for one in await consents.counts()
    ]
    return ConsentsView(await consents.owned_count(), list(lines))


@post("/v1/vehicles/{ref:int}/owner-code", opt=does(acts.GIVE_VEHICLE))
async def hand_out(request: AnyRequest, ref: FromPath[int], consents: ConsentsDependency) -> Response[CodeView]:
    """The one-time code that goes out with a vehicle and makes its bearer the owner."""
    return Response(CodeView(await consents.hand_out(ref, _person(request))), headers=NO_STORE)


@get("/v1/ownership/conflicts", opt=does(acts.READ_CONFLICTS))
async def list_conflicts(consents: ConsentsDependency) -> ConflictsView:
    """Vehicles claimed by two persons, the oldest conflict first."""
    found = await consents.conflicts()
    return ConflictsView([ConflictView(c.id, str(c.ref), c.holder, c.claimant, c.opened_us) for c in found])


@post("/v1/ownership/conflicts/{id:str}/holder", opt=does(acts.SETTLE_CONFLICT), status_code=204)
async def settle_for_holder(request: AnyRequest, id: FromPath[str], consents: ConsentsDependency) -> None:
    """The present owner stays the owner."""
    await consents.settle(id, for_claimant=False, actor=_person(request))


@post("/v1/ownership/conflicts/{id:str}/claimant", opt=does(acts.SETTLE_CONFLICT))
async def settle_for_claimant(
    request: AnyRequest, id: FromPath[str], consents: ConsentsDependency
) -> TransferView | None:
    """The claimant becomes the owner, by a change of owner like any other."""
    done = await consents.settle(id, for_claimant=True, actor=_person(request))
    return _transfer(done) if done else None


HANDLERS = [
    list_mine, list_grants, grant, narrow, withdraw, list_guests, invite, end_guest, list_looks, sell, keep, give_back,
    claim, accept, leave, overview, hand_out, list_conflicts, settle_for_holder, settle_for_claimant,
]  # fmt: skip
