"""A driver's page of charging: how it stands, the goal, the plan drawn over price and CO2, one big stop, what was charged.

`/my/{ref}/charging` is rendered whole and kept fresh by its stream; a slider that moves asks for a preview, which plans with
the form's goal and stores nothing. A vehicle without a plug has no such page. Refuses: `charging.car.battery`, `console.goal`,
and what `services.charging` refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from rocade.console import pages
from rocade.console.charging import acts, drawing, health, life, plans, streams, wishes
from rocade.console.charging.desk import ChargeDependency, ChargeDesk
from rocade.console.my.frame import car_of, piece, show, texts_of
from rocade.console.viewer import may
from rocade.core.data_classes import CONTROL
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.doors.http.streams import events
from rocade.services.charging import Goal, Standing, StoredPlan

COMMANDS = 6
"""Shown on a page."""


@get("/my/{ref:int}/charging", opt=does(acts.READ), include_in_schema=False)
async def show_charging(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    car = await car_of(request, charge.mine, ref)
    standing = await charge.charging.standing(ref)
    texts, language = texts_of(request), pages.language_of(request)
    series = await charge.charging.tariffs()
    tariffs = [(one.id, one.name or one.id) for one in series if one.kind == "price"]
    carbon = next((one.id for one in series if one.kind == "co2"), "")
    wish = wishes.shown(texts, language, standing.goal, tariffs[0][0] if tariffs else "", carbon)
    return show(
        request, "charging/driver.html", {"ref": str(ref), "has_goal": standing.goal is not None}, charge.mine, car=car,
        goal=wish, has_goal=standing.goal is not None, tariffs=tariffs,
        battery_said=await health.said(request, charge, ref) if charge.batteries else "", has_battery=charge.batteries is not None,
        **_now(request, charge, standing), **_plan(request, standing.plan, standing.goal),
        commands=await _commands(request, charge, ref), may_commands=may(request, acts.READ_COMMANDS, ref),
    )  # fmt: skip


def _now(request: AnyRequest, charge: ChargeDesk, standing: Standing) -> dict[str, Any]:
    texts, language = texts_of(request), pages.language_of(request)
    is_whole = _is_whole(request)
    shown = plans.now_view(texts, language, standing, charge.clock.now_us(), is_whole=is_whole)
    can_command = may(request, acts.CHANGE, standing.ref)
    return {"now": shown, "ref": standing.ref, "can_command": can_command, "is_whole": is_whole}


def _is_whole(request: AnyRequest) -> bool:
    """Who may see when the driver leaves: the owner, and whoever may control charging."""
    right = permit_of(request).right
    return right.relation == "owner" or bool(right.classes & CONTROL) or not right.is_owned


def _plan(
    request: AnyRequest, plan: StoredPlan | None, goal: Goal | None, *, is_preview: bool = False
) -> dict[str, Any]:
    texts, language = texts_of(request), pages.language_of(request)
    if not _is_whole(request):
        plan = None
    shown = plans.plan_view(texts, language, plan, goal) if plan and goal else None
    chart = drawing.text(drawing.plan_chart(plan)) if plan and plan.start_us else ""
    return {"plan": shown, "chart": chart, "is_preview": is_preview}


async def _commands(request: AnyRequest, charge: ChargeDesk, ref: int) -> list[life.CommandView]:
    if not may(request, acts.READ_COMMANDS, ref):
        return []
    found = await charge.commands.of(ref, limit=COMMANDS)
    return life.views(texts_of(request), pages.language_of(request), found.commands)


@post("/my/{ref:int}/charging/preview", opt=does(acts.CHANGE), include_in_schema=False, status_code=200)
async def preview(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    """The plan the form's goal would get; nothing is stored."""
    standing = await charge.charging.standing(ref)
    goal = wishes.wanted(
        await request.form(), ref, standing.goal, permit_of(request).principal.id, charge.clock.now_us()
    )
    plan = await charge.charging.preview(ref, goal)
    return piece(request, "charging/plan.html", ref=ref, **_plan(request, plan, goal, is_preview=True))


@post("/my/{ref:int}/charging/goal", opt=does(acts.CHANGE), include_in_schema=False, status_code=200)
async def set_goal(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    standing = await charge.charging.standing(ref)
    by = permit_of(request).principal.id
    goal = wishes.wanted(await request.form(), ref, standing.goal, by, charge.clock.now_us())
    await charge.charging.set_goal(ref, goal, by)
    return await _board(request, charge, ref, "saved_said")


@post("/my/{ref:int}/charging/stop", opt=does(acts.CHANGE), include_in_schema=False, status_code=200)
async def stop(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    await charge.charging.stop(ref, permit_of(request).principal.id)
    return await _board(request, charge, ref, "stopped_said")


@post("/my/{ref:int}/charging/resume", opt=does(acts.CHANGE), include_in_schema=False, status_code=200)
async def resume(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    await charge.charging.resume(ref, permit_of(request).principal.id)
    return await _board(request, charge, ref, "resumed_said")


async def _board(request: AnyRequest, charge: ChargeDesk, ref: int, said: str) -> Response[str]:
    """The state of now, with the plan beside it (swapped out of band), after an act."""
    standing = await charge.charging.standing(ref)
    return piece(
        request, "charging/after.html", done=texts_of(request)[f"charging.{said}"], **_now(request, charge, standing),
        **_plan(request, standing.plan, standing.goal),
    )  # fmt: skip


@get("/my/{ref:int}/charging/sessions", opt=does(acts.READ), include_in_schema=False)
async def list_sessions(
    request: AnyRequest, ref: FromPath[int], charge: ChargeDependency, cursor: FromQuery[str] = ""
) -> Response[str]:
    found = await charge.charging.sessions(ref, cursor or None)
    shown = plans.session_views(texts_of(request), pages.language_of(request), found.sessions)
    return piece(request, "charging/sessions.html", ref=ref, sessions=shown, next=found.cursor)


@get("/my/{ref:int}/charging/live", opt=does(acts.READ), include_in_schema=False)
async def watch(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Stream:
    """`now`, `plan`, `commands` as pieces of page whenever they changed; `sessions` when the list did."""
    return events(request, _frames(request, ref, charge))


async def _frames(request: AnyRequest, ref: int, charge: ChargeDesk) -> AsyncIterator[bytes]:
    async def pieces() -> dict[str, dict[str, object]]:
        standing, commands = await asyncio.gather(charge.charging.standing(ref), _commands(request, charge, ref))
        session = standing.session
        return {
            "now": {"html": _html(request, "now", _now(request, charge, standing))},
            "plan": {"html": _html(request, "plan", {"ref": ref} | _plan(request, standing.plan, standing.goal))},
            "commands": {"html": _html(request, "commands", {"commands": commands})},
            "sessions": {"last": f"{session.id} {session.energy_kwh:.1f}" if session else ""},
        }

    async with streams.woken(charge, ref) as wake:
        async for frame in streams.changes(request, wake, pieces):
            yield frame


def _html(request: AnyRequest, name: str, values: dict[str, Any]) -> str:
    return str(piece(request, f"charging/{name}.html", **values).content)


HANDLERS = [show_charging, preview, set_goal, stop, resume, list_sessions, watch]
