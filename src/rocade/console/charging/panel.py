"""The operator's part of a vehicle's page: what was ordered of it, by whom and what became of it; what he may order himself.

Orders go where an operator may give them: to the fleet's own vehicles, by the support duty. An owned one is its owner's.
"""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from rocade.console.charging import acts, controls
from rocade.console.charging.desk import BY_HAND, ChargeDependency
from rocade.console.pages import fragment
from rocade.doors.http import AnyRequest, does
from rocade.doors.http.streams import events


@get("/vehicles/{ref:int}/commands", opt=does(acts.READ_COMMANDS), include_in_schema=False)
async def show_panel(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    return fragment(
        request, "charging/vehicle_commands.html", ref=ref, offered=await controls.offered(request, charge, ref),
        commands=await controls.commands_of(request, charge, ref),
    )  # fmt: skip


@get("/vehicles/{ref:int}/commands/list", opt=does(acts.READ_COMMANDS), include_in_schema=False)
async def show_list(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    return fragment(request, "charging/commands.html", commands=await controls.commands_of(request, charge, ref))


@get("/live/vehicles/{ref:int}/commands", opt=does(acts.READ_COMMANDS), include_in_schema=False)
async def watch(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Stream:
    return events(request, controls.frames(request, ref, charge))


def _button(act: str) -> Any:
    @post(
        f"/vehicles/{{ref:int}}/commands/{act}",
        opt=does(acts.of_command(act)),
        include_in_schema=False,
        status_code=200,
    )
    async def press(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
        await controls.give(request, charge, ref, act)
        return fragment(request, "charging/commands.html", commands=await controls.commands_of(request, charge, ref))

    return press


HANDLERS = [show_panel, show_list, watch, *map(_button, BY_HAND)]
