"""My vehicles, and one of them: how they are now.

`/my` lists what the viewer owns, drives, and once owned; `/my/{ref}` is one vehicle with the ways to everything else; both
are rendered whole and then kept fresh by `live`. A vehicle the gate does not open is not in the list at all.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from rocade.console import pages
from rocade.console.my import state
from rocade.console.my.frame import (
    DAY_US,
    Car,
    Mine,
    MineDependency,
    car_of,
    figure,
    mask_names,
    piece,
    show,
    texts_of,
)  # fmt: skip
from rocade.console.viewer import may
from rocade.core import data_classes
from rocade.doors.http import AnyRequest, does, note_look, permit_of, right_of
from rocade.services.consent import Ownership
from rocade.trust.authority.gate import acts

PLUGS = frozenset({"electric", "plug_in_hybrid"})
"""Powertrains that are charged from a plug."""

type Shown = tuple[Car, state.Glance, tuple[str, ...]]


@get("/my", opt=does(acts.MY_VEHICLES), include_in_schema=False)
async def show_home(request: AnyRequest, mine: MineDependency) -> Response[str]:
    cars, former = await my_cars(request, mine)
    has_places = any("location" in mask for _, _, mask in cars)
    places = {car.ref: [g.longitude, g.latitude] for car, g, _ in cars if g.latitude is not None}
    data = {"places": places, "has_cars": bool(cars)}
    return show(request, "my/home.html", data, mine, cars=cars, former=former, has_places=has_places)


async def my_cars(request: AnyRequest, mine: Mine) -> tuple[list[Shown], list[Ownership]]:
    """What the viewer has now, each with its state as far as he may see it; and the times that are over."""
    person, now_us = permit_of(request).principal.id, mine.clock.now_us()
    cars = [shown for ref in await refs_of(mine, person) if (shown := await glance_of(request, mine, ref))]
    return cars, [one for one in await mine.consents.owned_by(person) if one.until_us <= now_us]


async def refs_of(mine: Mine, person: str) -> list[int]:
    """What a person owns now, then what he drives."""
    now_us = mine.clock.now_us()
    owned = [one.ref for one in await mine.consents.owned_by(person) if one.until_us > now_us]
    driven = [one.ref for one in await mine.consents.drives(person) if one.from_us <= now_us]
    return list(dict.fromkeys([*owned, *driven]))


async def glance_of(request: AnyRequest, mine: Mine, ref: int) -> Shown | None:
    """One vehicle's card and state; None if it is not open to the viewer (any more). The look is noted."""
    right = right_of(request, ref)
    if not right.classes or right.relation not in {"owner", "driver"}:
        return None
    note_look(request, ref, right, ())
    car = await car_of(request, mine, ref, right)
    g = state.glance(ref, await mine.twins.latest(ref), mine.catalogue, right.classes)
    return car, g, data_classes.names(right.classes)


@get("/my/{ref:int}", opt=does(acts.READ_TWIN), include_in_schema=False)
async def show_vehicle(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    permit = permit_of(request)
    car = await car_of(request, mine, ref)
    twin = await mine.twins.latest(ref) if car.relation != "former" else None
    g = state.glance(ref, twin, mine.catalogue, permit.right.classes)
    data = {"ref": str(ref), "place": [g.longitude, g.latitude] if g.latitude is not None else None}
    menu = await _menu(request, mine, ref, car)
    return show(request, "my/vehicle.html", data, mine, car=car, g=g, mask=mask_names(request), menu=menu)


async def _menu(request: AnyRequest, mine: Mine, ref: int, car: Car) -> list[tuple[str, str | int]]:
    """The pages of this vehicle that the viewer may open, each with a word of what is in it (an instant: of the last look)."""
    texts = texts_of(request)
    permit = permit_of(request)
    menu: list[tuple[str, str | int]] = _driving(request, ref, car)
    if {"location", "driving"} <= set(mask_names(request)):
        menu.append(("trips", texts["my_menu.trips_text"]))
    menu.append(("data", texts["my_menu.data_text"]))
    if car.relation in {"owner", "former"}:
        week_us = mine.clock.now_us() - 7 * DAY_US
        looks = (await mine.looks.of(ref, week_us, limit=1, without=permit.principal.id)).looks
        menu.append(("looks", looks[0].last_us if looks else texts["my_menu.looks_none"]))
    if car.relation == "owner":
        grants, guests = await mine.consents.grants(ref, True), await mine.consents.guests(ref, True)
        menu.insert(-1, ("sharing", _counted(texts, "my_menu.sharing", len(grants))))
        if "/my/{ref:int}/feeds" in {route.path for route in request.app.routes}:
            menu.insert(-1, ("feeds", texts["my_menu.feeds_text"]))
        menu.append(("drivers", _counted(texts, "my_menu.drivers", len(guests))))
    menu.append(("download", texts["my_menu.download_text"]))
    if car.relation == "owner":
        menu.append(("handover", texts["my_menu.handover_text"]))
    if car.relation in {"owner", "former"}:
        menu.append(("erase", texts["my_menu.erase_text"]))
    return menu


def _driving(request: AnyRequest, ref: int, car: Car) -> list[tuple[str, str | int]]:
    """Pages by which the vehicle is made to do something, where this process has them; only what has a plug is charged."""
    texts, has = texts_of(request), {route.path for route in request.app.routes}
    wanted = (
        ("charging", acts.READ_CHARGING, car.powertrain in PLUGS),
        ("controls", acts.READ_COMMANDS, car.kind != "bicycle"),
        ("battery", acts.READ_BATTERY, car.powertrain in PLUGS),
    )
    return [
        (name, texts[f"my_menu.{name}_text"])
        for name, act, is_fit in wanted
        if is_fit and f"/my/{{ref:int}}/{name}" in has and car.relation != "former" and may(request, act, ref)
    ]


def _counted(texts: Any, key: str, count: int) -> str:
    return str(texts[f"{key}_{('none', 'one')[count] if count < 2 else 'some'}"].format(n=count))


@get("/my/{ref:int}/values", opt=does(acts.READ_TWIN), include_in_schema=False)
async def show_values(request: AnyRequest, ref: FromPath[int], mine: MineDependency) -> Response[str]:
    """Every value of the twin the viewer may see, by kind of data."""
    twin = await mine.twins.latest(ref)
    found = state.readings(twin, mine.catalogue, permit_of(request).right.classes)
    groups = [(name, list(lines)) for name, lines in groupby(found, key=lambda one: one.data_class)]
    texts, language = texts_of(request), pages.language_of(request)

    def shown(one: state.Reading) -> str:
        if isinstance(one.value, bool):
            return str(texts["my.yes" if one.value else "my.no"])
        return f"{figure(language, one.value, 4)} {one.symbol}" if isinstance(one.value, int | float) else one.value

    return piece(request, "my/values.html", ref=ref, groups=groups, shown=shown)


HANDLERS = [show_home, show_vehicle, show_values]
