"""HTTP API of one vehicle's charging: how it stands, its goal, preview, the big stop, its sessions and alerts.

Reading asks for the class energy; changing for the right to control charging. Whoever reads without that right is not told when and
how the driver leaves (`departure` is null): a calendar is not energy. References are decimal strings.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from rocade.core.data_classes import bit
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.charging.model import (
    Alert,
    CarFacts,
    Departure,
    Goal,
    Remedy,
    Session,
    Standing,
    StoredPlan,
)
from rocade.services.charging.service import Charging
from rocade.trust.authority.gate import acts

ChargingDependency = NamedDependency[SkipValidation[Charging]]
CONTROL = bit("control.charging")


class GoalBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted. Only target and departure must be said; see `Goal` in docs/charging.md."""

    target_percent: float
    departure: Departure
    minimum_percent: float = 0.0
    share_co2: float = 0.0
    care: bool = False
    tariff: str = ""
    carbon: str = ""
    power_limit_kw: float = 0.0

    def goal(self, ref: int) -> Goal:
        return Goal(ref, **{name: getattr(self, name) for name in self.__struct_fields__})


class GoalView(msgspec.Struct, frozen=True):
    target_percent: float
    departure: Departure | None
    minimum_percent: float
    share_co2: float
    care: bool
    tariff: str
    carbon: str
    power_limit_kw: float
    version: int
    set_us: int
    is_stopped: bool


class NowView(msgspec.Struct, frozen=True):
    soc_percent: float | None
    soc_us: int
    is_plugged: bool
    plugged_us: int
    is_charging: bool
    power_kw: float
    seen_us: int
    is_moving: bool
    site: str
    connector: str


class PlanView(msgspec.Struct, frozen=True):
    """Per slot: `power_kw`, `price` (currency/kWh), `carbon_g` (g/kWh), `is_forecast`; `soc_percent` at slot boundaries; `pieces`:
    (from, to, kW) as the car is told.
    """

    version: int
    goal_version: int
    made_us: int
    cause: str
    departure_us: int
    start_us: tuple[int, ...]
    length_s: tuple[int, ...]
    power_kw: tuple[float, ...]
    soc_percent: tuple[float, ...]
    pieces: tuple[tuple[int, int, float], ...]
    price: tuple[float, ...]
    carbon_g: tuple[float, ...]
    is_forecast: tuple[bool, ...]
    cost_minor: int
    currency: str
    co2_g: int
    at_once_minor: int
    at_once_g: int
    energy_kwh: float
    target_percent: float
    shortfall_kwh: float
    reason: str
    remedy: Remedy | None
    gap: float
    latest_us: int
    site: str


class AlertView(msgspec.Struct, frozen=True):
    id: int
    code: str
    began_us: int
    ended_us: int
    facts: dict[str, str | int | float]


class SessionView(msgspec.Struct, frozen=True):
    """`ended_us` 0 = it lasts; `saved_*` against `charged at once`."""

    id: str
    began_us: int
    ended_us: int
    site: str
    station: str
    energy_kwh: float
    cost_minor: int
    currency: str
    co2_g: int
    at_once_minor: int
    at_once_g: int
    saved_minor: int
    saved_g: int
    source: str
    soc_begin: float | None
    soc_end: float | None
    peak_kw: float
    tariff: str
    carbon: str
    is_forecast: bool


class StandingView(msgspec.Struct, frozen=True):
    """Everything about one vehicle's charging now."""

    ref: str
    state: str
    departure_us: int
    now: NowView
    car: CarFacts
    goal: GoalView | None
    plan: PlanView | None
    session: SessionView | None
    alerts: list[AlertView]


class SessionsView(msgspec.Struct, frozen=True):
    items: list[SessionView]
    next: str | None


class AlertsView(msgspec.Struct, frozen=True):
    items: list[AlertView]


def shown[T: msgspec.Struct](view: type[T], one: Any, **more: Any) -> T:
    """A view of a value: its fields by name, and what is said otherwise."""
    fields = {name: getattr(one, name) for name in view.__struct_fields__ if name not in more}
    return view(**fields, **more)


def standing_view(one: Standing, *, is_whole: bool) -> StandingView:
    """`is_whole`: with when and how the driver leaves."""
    goal = one.goal
    departure = goal.departure if goal is not None and is_whole else None
    return StandingView(
        str(one.ref),
        one.state,
        one.departure_us if is_whole else 0,
        shown(NowView, one.now),
        one.car,
        shown(GoalView, goal, departure=departure) if goal is not None else None,
        plan_view(one.plan) if one.plan is not None and is_whole else None,
        session_view(one.session) if one.session is not None else None,
        [alert_view(alert) for alert in one.alerts],
    )


def plan_view(plan: StoredPlan) -> PlanView:
    return shown(PlanView, plan)


def session_view(session: Session) -> SessionView:
    return shown(SessionView, session)


def alert_view(alert: Alert) -> AlertView:
    return shown(AlertView, alert)


def _is_whole(request: AnyRequest) -> bool:
    """Owner, whoever may control it, and operators of a vehicle that nobody owns see when its driver leaves."""
    right = permit_of(request).right
    return right.relation in ("owner", "former") or bool(right.classes & CONTROL) or not right.is_owned


def _actor(request: AnyRequest) -> str:
    return permit_of(request).principal.id


@get("/v1/vehicles/{ref:int}/charging", opt=does(acts.READ_CHARGING))
async def show_charging(request: AnyRequest, ref: FromPath[int], charging: ChargingDependency) -> StandingView:
    """State, goal, plan, session and open alerts."""
    return standing_view(await charging.standing(ref), is_whole=_is_whole(request))


@put("/v1/vehicles/{ref:int}/charging", opt=does(acts.SET_CHARGING))
async def set_goal(
    request: AnyRequest, ref: FromPath[int], data: JSONBody[GoalBody], charging: ChargingDependency
) -> StandingView:
    """Say what is wanted; it is planned at once."""
    return standing_view(await charging.set_goal(ref, data.goal(ref), _actor(request)), is_whole=True)


@delete("/v1/vehicles/{ref:int}/charging", opt=does(acts.SET_CHARGING), status_code=204)
async def drop_goal(request: AnyRequest, ref: FromPath[int], charging: ChargingDependency) -> None:
    """Want nothing any more: the car charges as it likes."""
    await charging.drop_goal(ref, _actor(request))


@post("/v1/vehicles/{ref:int}/charging/preview", opt=does(acts.SET_CHARGING))
async def preview(
    request: AnyRequest, ref: FromPath[int], data: JSONBody[GoalBody], charging: ChargingDependency
) -> PlanView:
    """The plan a goal would get; nothing is stored or commanded."""
    return plan_view(await charging.preview(ref, data.goal(ref), _actor(request)))


@post("/v1/vehicles/{ref:int}/charging/stop", opt=does(acts.SET_CHARGING))
async def stop(request: AnyRequest, ref: FromPath[int], charging: ChargingDependency) -> StandingView:
    """The one big stop: nothing is charged until it goes on."""
    return standing_view(await charging.stop(ref, _actor(request)), is_whole=True)


@post("/v1/vehicles/{ref:int}/charging/resume", opt=does(acts.SET_CHARGING))
async def resume(request: AnyRequest, ref: FromPath[int], charging: ChargingDependency) -> StandingView:
    """Go on as the goal says."""
    return standing_view(await charging.resume(ref, _actor(request)), is_whole=True)


@put("/v1/vehicles/{ref:int}/charging/car", opt=does(acts.SET_CHARGING))
async def set_car(
    request: AnyRequest, ref: FromPath[int], data: JSONBody[CarFacts], charging: ChargingDependency
) -> CarFacts:
    """Say what the car does not: capacity, power, phases, how it tapers."""
    return await charging.set_car(ref, data, _actor(request))


@get("/v1/vehicles/{ref:int}/charging/sessions", opt=does(acts.READ_CHARGING))
async def list_sessions(
    ref: FromPath[int], charging: ChargingDependency, cursor: FromQuery[str | None] = None, limit: FromQuery[int] = 50
) -> SessionsView:
    """Sessions with cost and CO2, the newest first."""
    page = await charging.sessions(ref, cursor, limit)
    return SessionsView([session_view(one) for one in page.sessions], page.cursor)


@get("/v1/vehicles/{ref:int}/charging/alerts", opt=does(acts.READ_CHARGING))
async def list_alerts(ref: FromPath[int], charging: ChargingDependency) -> AlertsView:
    """What endangered goals, the newest first."""
    return AlertsView([alert_view(one) for one in await charging.alerts(ref)])


HANDLERS = [
    show_charging, set_goal, drop_goal, preview, stop, resume, set_car, list_sessions, list_alerts,
]  # fmt: skip
