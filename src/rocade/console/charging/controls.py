"""Commands a person gives by hand, and their life: `/my/{ref}/controls` for owners and drivers, whatever drives the vehicle.

Offered is what the model can do (or may be able to: `unknown`), and what the gate would allow this viewer. Acts that open a
door, show a place or make a noise ask for a passkey touch of that act on that vehicle.
Refuses: `command.*` of `services.vehicles.commands`, `gate.touch`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from rocade.console import pages
from rocade.console.charging import acts, life, streams
from rocade.console.charging.desk import BY_HAND, ChargeDependency, ChargeDesk
from rocade.console.my.frame import car_of, piece, show, texts_of
from rocade.console.my.home import PLUGS
from rocade.console.viewer import may
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.doors.http.streams import events
from rocade.services.vehicles import Vehicle
from rocade.services.vehicles.commands import Order

COMMANDS = 8
BODIES = frozenset({"car", "van"})
FLASH_S, HORN_S, WARM_S = 10, 2, 900
LIFE_US = 120_000_000
"""What somebody asks for at the window he wants now; two minutes later he does not."""
ICONS = {
    "attention.lights": "M9 18h6M10 21h4M12 3a6 6 0 0 0-3.5 10.9c.5.4.8 1 .8 1.6h5.4c0-.6.3-1.2.8-1.6A6 6 0 0 0 12 3z",
    "attention.horn": "M4 10v4h4l6 4V6l-6 4zM17.5 8.5a5 5 0 0 1 0 7",
    "doors.lock": "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
    "doors.unlock": "M6 11h12v9H6zM8.5 11V7.5a3.5 3.5 0 0 1 6.8-1.2",
    "location.report": "M12 21s-6.5-5.6-6.5-11a6.5 6.5 0 0 1 13 0c0 5.4-6.5 11-6.5 11zM12 12.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z",
    "climate.precondition": "M12 4v9.5a3.5 3.5 0 1 0 .01 0M16 6h3M16 10h3",
    "climate.stop": "M12 4v9.5a3.5 3.5 0 1 0 .01 0M16 5l5 5M21 5l-5 5",
    "power.wake": "M12 3v8M7 6.5a7 7 0 1 0 10 0",
}


class Offered(msgspec.Struct, frozen=True):
    """An act with its button. `touch`: the act of the gate a passkey confirms, '' = none; `subject`: on what."""

    act: str
    words: str
    icon: str
    touch: str
    subject: str
    is_unknown: bool


async def offered(request: AnyRequest, charge: ChargeDesk, ref: int, names: tuple[str, ...] = BY_HAND) -> list[Offered]:
    """What may be asked of this vehicle by this viewer, in the order of the buttons."""
    vehicle, texts = await charge.registry.by_ref(VehicleRef(ref)), texts_of(request)
    can = charge.capabilities.of(vehicle.brand, vehicle.model)
    found = []
    for name in names:
        gate_act = acts.of_command(name)
        if not _is_sensible(name, vehicle) or can.get(name) == "no" or not may(request, gate_act, ref):
            continue
        words = texts[f"charging_controls.{name.replace('.', '_')}"]
        touch = gate_act.name if gate_act.needs_touch else ""
        found.append(
            Offered(name, words, ICONS[name], touch, f"vehicle:{ref}" if touch else "", can.get(name) != "yes")
        )
    return found


def _is_sensible(act: str, vehicle: Vehicle) -> bool:
    """Doors want a body, climate and waking a battery that can spare it."""
    if act.startswith(("doors.", "climate.")) and vehicle.kind not in BODIES:
        return False
    return vehicle.powertrain in PLUGS or not act.startswith(("climate.", "power."))


def parameters(act: str, form: Any, now_us: int) -> dict[str, Any]:
    """What goes with an act given by a button. Raises: Refused `console.goal`."""
    match act:
        case "attention.lights":
            return {"seconds": FLASH_S}
        case "attention.horn":
            return {"seconds": HORN_S}
        case "climate.precondition":
            try:
                temperature_c = float(str(form.get("temperature") or "21").replace(",", "."))
            except ValueError:
                raise Refused("console.goal", "the temperature is a number") from None
            return {"temperature_c": temperature_c, "until_us": now_us + WARM_S * 1_000_000}
    return {}


async def give(request: AnyRequest, charge: ChargeDesk, ref: int, act: str) -> None:
    """Order an act of a button for the one who asks, as the guard admitted him."""
    permit, now_us = permit_of(request), charge.clock.now_us()
    asked = parameters(act, await request.form(), now_us)
    order = Order(ref, act, asked, by=permit.principal.id, expires_us=now_us + LIFE_US, purpose=permit.purpose)
    await charge.commands.order(order)


@get("/my/{ref:int}/controls", opt=does(acts.READ_COMMANDS), include_in_schema=False)
async def show_controls(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    car = await car_of(request, charge.mine, ref)
    return show(
        request, "charging/controls.html", {"ref": str(ref)}, charge.mine, car=car, ref=ref,
        offered=await offered(request, charge, ref), commands=await commands_of(request, charge, ref),
    )  # fmt: skip


async def commands_of(request: AnyRequest, charge: ChargeDesk, ref: int) -> list[life.CommandView]:
    found = await charge.commands.of(ref, limit=COMMANDS)
    return life.views(texts_of(request), pages.language_of(request), found.commands)


@get("/my/{ref:int}/commands/live", opt=does(acts.READ_COMMANDS), include_in_schema=False)
async def watch(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Stream:
    """`commands`: the list as a piece of page, whenever one of them moved on."""
    return events(request, frames(request, ref, charge))


async def frames(request: AnyRequest, ref: int, charge: ChargeDesk) -> AsyncIterator[bytes]:
    async def pieces() -> dict[str, dict[str, object]]:
        found = await commands_of(request, charge, ref)
        return {"commands": {"html": piece(request, "charging/commands.html", commands=found).content}}

    async with streams.woken(charge, ref) as wake:
        async for frame in streams.changes(request, wake, pieces):
            yield frame


def _button(act: str) -> Any:
    """The route of one act: each has its own class of control and, where it needs one, its own touch."""

    @post(f"/my/{{ref:int}}/controls/{act}", opt=does(acts.of_command(act)), include_in_schema=False, status_code=200)
    async def press(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
        await give(request, charge, ref, act)
        return piece(request, "charging/commands.html", commands=await commands_of(request, charge, ref))

    return press


HANDLERS = [show_controls, watch, *map(_button, BY_HAND)]
