"""How a vehicle stands and what its plan brings, as the driver's page shows them: sentences, amounts, the remedy of one tap."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from rocade.console.charging import drawing, wishes
from rocade.console.charging.words import because, carbon, energy, hours, money, power
from rocade.console.my.frame import figure
from rocade.services.charging import Alert, Goal, Session, Standing, StoredPlan

GAP_SHOWN = 5e-5
"""A smaller distance from the optimum is rounding."""


class AlertView(msgspec.Struct, frozen=True):
    """`parts`: words, and instants between them; `why`: id for the why page."""

    parts: tuple[str | int, ...]
    why: str


class NowView(msgspec.Struct, frozen=True):
    """`next`: what `next_us` is: starts | ends | plug, '' = nothing."""

    state: str
    title: str
    percent: float | None
    target_percent: float | None
    by_us: int
    next: str
    next_us: int
    seen_us: int
    alerts: tuple[AlertView, ...]
    is_plugged: bool
    drawing: str
    is_stopped: bool
    can_stop: bool


class PlanView(msgspec.Struct, frozen=True):
    version: int
    windows: list[tuple[int, int]]
    cost: str
    carbon: str
    energy: str
    saved: str
    against: str
    optimum: str
    shortfall: str
    reason: str
    remedy: str
    remedy_fields: list[tuple[str, str]]
    forecast_us: int


class SessionView(msgspec.Struct, frozen=True):
    began_us: int
    ended_us: int
    where: str
    energy: str
    cost: str
    carbon: str
    saved: str


def now_view(texts: Mapping[str, str], language: str, standing: Standing, now_us: int, *, is_whole: bool) -> NowView:
    """`is_whole`: with when the driver leaves."""
    now, goal, plan = standing.now, standing.goal, standing.plan
    following, next_us = _next(standing, now_us) if is_whole else ("", 0)
    return NowView(
        state=standing.state,
        title=texts[f"charging_word.{standing.state}"].format(power=power(language, now.power_kw)),
        percent=round(now.soc_percent, 1) if now.soc_percent is not None else None,
        target_percent=goal.target_percent if goal else None,
        by_us=(standing.departure_us or (plan.departure_us if plan else 0)) if is_whole else 0,
        next=following,
        next_us=next_us,
        seen_us=now.seen_us,
        alerts=tuple(_alert(texts, language, one) for one in standing.alerts),
        is_plugged=now.is_plugged,
        drawing=texts["charging.drawing"].format(power=power(language, now.power_kw)) if _draws(standing) else "",
        is_stopped=bool(goal and goal.is_stopped),
        can_stop=goal is not None or now.is_charging,
    )


def _draws(standing: Standing) -> bool:
    """Whether the power is worth a word: the title says it where it is the news."""
    return standing.now.is_charging and standing.now.power_kw > 0 and standing.state != "charging"


def _next(standing: Standing, now_us: int) -> tuple[str, int]:
    """What comes next, and when."""
    plan = standing.plan
    if plan is None or (standing.goal and standing.goal.is_stopped):
        return "", 0
    if standing.state == "unplugged" and plan.energy_kwh > 0 and plan.latest_us > now_us:
        return "plug", plan.latest_us
    ahead = [(first, last) for first, last in windows_of(plan) if last > now_us]
    if not ahead or standing.state not in {"waiting", "charging", "late"}:
        return "", 0
    if ahead[0][0] > now_us:
        return "starts", ahead[0][0]
    return "ends", ahead[-1][1]


def _alert(texts: Mapping[str, str], language: str, one: Alert) -> AlertView:
    """What endangers the goal, with its facts; instants are left to the page."""
    text = texts.get(f"charging_alert.{one.code.rpartition('.')[2]}", one.code)
    facts: dict[str, str | int] = {"why": because(language, str(one.facts.get("code", "")))}
    for name, value in one.facts.items():
        if name.endswith("_us"):
            facts[name.removesuffix("_us")] = int(value)
        else:
            facts[name] = figure(language, value, 1) if isinstance(value, int | float) else value
    parts = [facts.get(piece, "") if place % 2 else piece for place, piece in enumerate(re.split(r"\{(\w+)\}", text))]
    return AlertView(tuple(parts), f"alert:{one.id}")


def windows_of(plan: StoredPlan) -> list[tuple[int, int]]:
    """When the car is told to charge."""
    return [(first, last) for first, last, _ in plan.pieces] or drawing.windows(plan)


def plan_view(texts: Mapping[str, str], language: str, plan: StoredPlan, goal: Goal) -> PlanView:
    unknown = [at for at, is_forecast in zip(plan.start_us, plan.is_forecast, strict=False) if is_forecast]
    fields = wishes.remedy_fields(goal, plan) if plan.shortfall_kwh > 0 else []
    return PlanView(
        version=plan.version,
        windows=windows_of(plan),
        cost=money(language, plan.cost_minor, plan.currency) or "–",
        carbon=carbon(language, plan.co2_g) if plan.carbon_g else "–",
        energy=energy(language, plan.energy_kwh),
        saved=_saved(texts, language, plan),
        against=_against(texts, language, plan),
        optimum=_optimum(texts, language, plan),
        shortfall=_shortfall(texts, language, plan),
        reason=texts.get(f"charging_reason.{plan.reason.rpartition('.')[2]}", "") if plan.shortfall_kwh > 0 else "",
        remedy=_remedy(texts, language, plan, wishes.smallest_change(goal, plan)) if fields else "",
        remedy_fields=fields,
        forecast_us=unknown[0] if unknown and plan.energy_kwh > 0 else 0,
    )


def _saved(texts: Mapping[str, str], language: str, plan: StoredPlan) -> str:
    """Only what is really saved: the greenest plan may cost more."""
    minor, grams = plan.at_once_minor - plan.cost_minor, plan.at_once_g - plan.co2_g
    parts = []
    if minor > 0 and plan.currency:
        parts.append(money(language, minor, plan.currency))
    if grams >= 10:
        parts.append(carbon(language, grams))
    return (
        texts["charging_plan.saved_both"].format(money=parts[0], carbon=parts[1]) if len(parts) == 2 else "".join(parts)
    )


def _against(texts: Mapping[str, str], language: str, plan: StoredPlan) -> str:
    if not plan.currency or plan.energy_kwh <= 0:
        return ""
    cost, grams = money(language, plan.at_once_minor, plan.currency), carbon(language, plan.at_once_g)
    return texts["charging_plan.against" if plan.carbon_g else "charging_plan.against_cost"].format(
        cost=cost, carbon=grams
    )


def _optimum(texts: Mapping[str, str], language: str, plan: StoredPlan) -> str:
    if plan.energy_kwh <= 0 or not plan.currency:
        return ""
    if plan.gap <= GAP_SHOWN:
        return texts["charging_plan.optimum"]
    return texts["charging_plan.optimum_gap"].format(percent=figure(language, plan.gap * 100, 2))


def _shortfall(texts: Mapping[str, str], language: str, plan: StoredPlan) -> str:
    if plan.shortfall_kwh <= 0:
        return ""
    percent = figure(language, plan.soc_percent[-1]) if plan.soc_percent else "0"
    return texts["charging_plan.shortfall"].format(
        percent=percent, target=figure(language, plan.target_percent), energy=energy(language, plan.shortfall_kwh)
    )


def _remedy(texts: Mapping[str, str], language: str, plan: StoredPlan, smallest: str) -> str:
    assert plan.remedy is not None, "asked only where there is one"
    one = plan.remedy
    return texts[f"charging_plan.remedy_{smallest}"].format(
        time=hours(language, one.later_min / 60),
        percent=figure(language, int(one.target_percent)),
        power=power(language, one.power_kw),
    )


def session_views(texts: Mapping[str, str], language: str, found: Sequence[Session]) -> list[SessionView]:
    return [
        SessionView(
            one.began_us,
            one.ended_us,
            one.station or one.site or "",
            energy(language, one.energy_kwh),
            money(language, one.cost_minor, one.currency)
            or (texts["charging_session.no_tariff"] if one.energy_kwh > 0.05 else ""),
            carbon(language, one.co2_g) if one.carbon else "",
            _session_saved(texts, language, one),
        )
        for one in found
    ]


def _session_saved(texts: Mapping[str, str], language: str, one: Session) -> str:
    if not one.currency:
        return ""
    saved, grams = one.saved_minor, one.saved_g
    said = ""
    if saved > 0 and grams >= 10:
        said = texts["charging_session.saved"].format(
            money=money(language, saved, one.currency), carbon=carbon(language, grams)
        )
    elif saved > 0:
        said = texts["charging_session.saved_money"].format(money=money(language, saved, one.currency))
    elif saved < 0:
        said = texts["charging_session.dearer"].format(money=money(language, -saved, one.currency))
    return " ".join(filter(None, [said, texts["charging_session.forecast"] if one.is_forecast else ""]))
