"""HTTP API of commands: give one, list those of a vehicle, see one, follow them as they happen.

Each act needs the gate's act of its class (`ACTS_BY_CONTROL`), unlocking and locating a fresh touch besides. Of a vehicle's
commands everybody sees those of the classes he has; who gave one is told to him, to the owner, and of a fleet's vehicle to its desk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import Body, FromPath, FromQuery, SkipValidation
from litestar.response import Stream

from rocade.core.data_classes import CONTROL_CLASSES, bit
from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, does, permit_of, require
from rocade.doors.http.streams import ALIVE, event, events
from rocade.services.vehicles.commands import errors
from rocade.services.vehicles.commands.model import Order, Standing
from rocade.services.vehicles.commands.service import Commands
from rocade.trust.authority.gate import Act, Permit, acts
from rocade.wire import commands as wire

CommandsDependency = NamedDependency[SkipValidation[Commands]]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted. `by_us`: the deadline, 0 = a quarter of an hour from now; `key`: makes a repetition harmless."""

    act: str
    parameters: dict[str, Any] = {}
    by_us: int = 0
    not_before_us: int = 0
    key: str = ""


class MomentView(msgspec.Struct, frozen=True):
    state: str
    at_us: int


class CommandView(msgspec.Struct, frozen=True):
    """A command as it stands. Instants are microseconds since 1970 UTC; `by` '' = somebody else; `doubt`: the vehicle says it is
    done and telemetry has not shown it; `detail`: what its code means, where it is the hub's own; `newer`: the command that took its place.
    """

    id: str
    ref: str
    act: str
    parameters: dict[str, Any]
    state: str
    code: str
    detail: str
    by: str
    not_before_us: int
    by_us: int
    life: list[MomentView]
    doubt: bool
    is_open: bool
    newer: str
    result: dict[str, Any]
    sends: int


class CommandsView(msgspec.Struct, frozen=True):
    items: list[CommandView]
    next: str | None


def act_of(name: str) -> Act:
    """The gate's act for an act of commands. Raises: Refused `command.act.unknown`."""
    known = wire.ACTS.get(name)
    if known is None:
        raise Refused("command.act.unknown", f"no act is called {name[:64]!r}; known are {', '.join(wire.ACTS)}")
    match known.control:
        case "control.charging":
            return acts.COMMAND_CHARGING
        case "control.comfort":
            return acts.COMMAND_COMFORT
        case "control.access":
            return acts.UNLOCK if known.needs_touch else acts.LOCK
    return acts.LOCATE


def may_see(permit: Permit, one: Standing) -> bool:
    """Whether a reader of this vehicle's commands sees this one."""
    right = permit.right
    if right.relation == "owner" or not right.is_owned or one.by == permit.principal.id:
        return True
    return bool(right.classes & bit(wire.ACTS[one.act].control))


def view(permit: Permit, one: Standing) -> CommandView:
    is_told = permit.right.relation == "owner" or not permit.right.is_owned or one.by == permit.principal.id
    return CommandView(
        one.id, str(one.ref), one.act, one.parameters, one.state, one.code,
        errors.ENDS.get(one.code, ""), one.by if is_told else "", one.not_before_us,
        one.expires_us, [MomentView(moment.state, moment.at_us) for moment in one.life], one.doubt, one.is_open, one.newer,
        one.result, one.sends,
    )  # fmt: skip


@post("/v1/vehicles/{ref:int}/commands", opt=does(acts.COMMAND))
async def order(
    request: AnyRequest, ref: FromPath[int], data: Annotated[Wanted, Body()], commands: CommandsDependency
) -> CommandView:
    """Give a command; the answer comes when it is recorded and signed, not when it is done."""
    permit = await require(request, act_of(data.act), ref)
    wanted = Order(
        ref, data.act, data.parameters, permit.principal.id, data.by_us, data.not_before_us, data.key, permit.purpose
    )
    return view(permit, await commands.order(wanted))


@get("/v1/vehicles/{ref:int}/commands", opt=does(acts.READ_COMMANDS))
async def list_commands(
    request: AnyRequest, ref: FromPath[int], commands: CommandsDependency, cursor: FromQuery[str | None] = None,
    limit: FromQuery[int] = 50,
) -> CommandsView:  # fmt: skip
    """A vehicle's commands, the newest first; `next` is the cursor of what is older."""
    permit, page = permit_of(request), await commands.of(ref, cursor, limit)
    return CommandsView([view(permit, one) for one in page.commands if may_see(permit, one)], page.cursor)


@get("/v1/vehicles/{ref:int}/commands/events", opt=does(acts.READ_COMMANDS))
async def follow_commands(request: AnyRequest, ref: FromPath[int], commands: CommandsDependency) -> Stream:
    """Server-sent events `command`: the newest as they stand, then each again when it has changed."""
    permit = permit_of(request)

    async def frames() -> AsyncIterator[bytes]:
        async for one in commands.follow(ref):
            if one is None:
                yield ALIVE
            elif may_see(permit, one):
                yield event("command", msgspec.json.encode(view(permit, one)))

    return events(request, frames())


async def _seen(request: AnyRequest, commands: Commands, id: str) -> tuple[Permit, Standing]:
    """Whose command it is not is told what he is told of one that does not exist. Raises: Refused `command.unknown`."""
    one = await commands.standing(id)
    try:
        permit = await require(request, acts.READ_COMMANDS, one.ref)
    except Refused as refusal:
        raise errors.unknown() from refusal
    if not may_see(permit, one):
        raise errors.unknown()
    return permit, one


@get("/v1/commands/{id:str}", opt=does(acts.FIND_COMMAND))
async def show_command(request: AnyRequest, id: FromPath[str], commands: CommandsDependency) -> CommandView:
    """How one command stands."""
    return view(*await _seen(request, commands, id))


@get("/v1/commands/{id:str}/events", opt=does(acts.FIND_COMMAND))
async def follow_command(request: AnyRequest, id: FromPath[str], commands: CommandsDependency) -> Stream:
    """Server-sent events `command`: as it stands and each time it has changed, until nothing happens by itself any more."""
    permit, _ = await _seen(request, commands, id)

    async def frames() -> AsyncIterator[bytes]:
        async for one in commands.follow_one(id):
            if one is None:
                yield ALIVE
            elif not await _still_sees(request, commands, id):
                return
            else:
                yield event("command", msgspec.json.encode(view(permit, one)))

    return events(request, frames())


async def _still_sees(request: AnyRequest, commands: Commands, id: str) -> bool:
    try:
        await _seen(request, commands, id)
    except Refused:
        return False
    return True


@get("/v1/vehicles/{ref:int}/commands/acts", opt=does(acts.READ_COMMANDS))
async def list_acts(request: AnyRequest, ref: FromPath[int], commands: CommandsDependency) -> list[ActView]:
    """What this vehicle can be told to do (yes, no, unknown), and what of it the caller may."""
    permit, can = permit_of(request), await commands.able(ref)
    classes = permit.right.classes
    is_all = permit.right.relation == "owner" or not permit.right.is_owned
    return [
        ActView(act.name, can[act.name], act.control, act.needs_touch, is_all or bool(classes & bit(act.control)))
        for act in wire.ACTS.values()
    ]


class ActView(msgspec.Struct, frozen=True):
    """`can`: whether the model does it; `control`: the class of right it takes; `may`: whether the caller has that."""

    act: str
    can: str
    control: str
    needs_touch: bool
    may: bool


HANDLERS: list[Any] = [
    order, list_commands, follow_commands, show_command, follow_command, list_acts,
]  # fmt: skip
assert {act.control for act in wire.ACTS.values()} <= {*CONTROL_CLASSES}
