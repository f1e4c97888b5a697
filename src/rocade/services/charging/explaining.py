"""What charge control can explain: `charging:<ref>`, why a car charges or does not; `alert:<number>`, what endangered a goal;
`session:<id>`, how the cost of a session came about.

Nothing is decided here: goal, plan, twin, newest commands and alerts are read and told in the order in which they count.
"""

from __future__ import annotations

import re

from rocade.core.errors import Refused, Unavailable
from rocade.core.money import amount
from rocade.core.why import About, Chain, Fact
from rocade.core.why.model import Value
from rocade.services.charging import ledger, steering, store
from rocade.services.charging.model import Alert, Session, Standing, StoredPlan
from rocade.services.charging.planning.explain import explain
from rocade.services.charging.service import Charging
from rocade.trust.authority.gate.acts import READ_CHARGING, SET_CHARGING

_REF = re.compile(r"\d{1,19}", re.ASCII)
_SESSION = re.compile(r"cs-[0-9a-f]{16}", re.ASCII)
TOLD = 30


class Standings:
    """`charging:<ref>`. For whoever may set the goal: it tells when the driver leaves."""

    def __init__(self, charging: Charging) -> None:
        self._charging = charging

    async def explain(self, rest: str) -> Chain | None:
        if not _REF.fullmatch(rest) or not 0 < int(rest) < 1 << 63:
            return None
        try:
            standing = await self._charging.standing(int(rest))
        except (Refused, Unavailable):
            return None
        facts = [*_wanted(standing), *_now(standing), *_planned(standing, self._charging.clock.now_us())]
        facts += await self._told(standing)
        facts += [_alert(alert) for alert in standing.alerts]
        return Chain(f"charging:{rest}", tuple(facts), About((SET_CHARGING.name,), standing.ref))

    async def _told(self, standing: Standing) -> list[Fact]:
        """The newest command of each lane of charging."""
        commands = self._charging.engines.commands
        if commands is None or standing.goal is None:
            return []
        lanes = steering.newest((await commands.of(standing.ref, limit=TOLD)).commands)
        return [
            Fact(
                "charge_control.told",
                {"act": one.act, "state": one.state, "at_us": one.changed_us},
                f"command:{one.id}",
            )
            for lane, one in lanes.items()
            if lane.startswith("charging.")
        ]


class Alerts:
    """`alert:<number>`."""

    def __init__(self, charging: Charging) -> None:
        self._charging = charging

    async def explain(self, rest: str) -> Chain | None:
        found: Alert | None = None
        if _REF.fullmatch(rest) and int(rest) < 1 << 63:
            found = await store.fetch(self._charging.database, store.alert, self._charging.columns, int(rest))
        if found is None:
            return None
        times: dict[str, Value] = {"began_us": found.began_us}
        facts = [Fact("charge_control.alert_began", times), _alert(found)]
        if found.ended_us:
            facts.append(Fact("charge_control.alert_ended", {"ended_us": found.ended_us}))
        return Chain(f"alert:{rest}", tuple(facts), About((READ_CHARGING.name,), found.ref))


class SessionCosts:
    """`session:<id>`."""

    def __init__(self, charging: Charging) -> None:
        self._charging = charging

    async def explain(self, rest: str) -> Chain | None:
        found: Session | None = None
        if _SESSION.fullmatch(rest):
            found = await store.fetch(self._charging.database, ledger.session, self._charging.columns, rest)
        if found is None:
            return None
        facts = [Fact("charge_control.session_began", {"began_us": found.began_us, "energy_kwh": found.energy_kwh})]
        if found.ended_us:
            facts.append(Fact("charge_control.session_ended", {"ended_us": found.ended_us}))
        facts.append(Fact(f"charge_control.source.{found.source}"))
        if found.currency:
            cost, once = amount(found.cost_minor, found.currency), amount(found.at_once_minor, found.currency)
            facts.append(Fact("charge_control.session_cost", {"cost": cost, "at_once": once, "tariff": found.tariff}))
        else:
            facts.append(Fact("charge_control.session_unpriced"))
        if found.carbon:
            facts.append(Fact("charge_control.session_co2", {"co2_g": found.co2_g, "at_once_g": found.at_once_g}))
        if found.is_forecast:
            facts.append(Fact("charge_control.session_forecast"))
        return Chain(f"session:{rest}", tuple(facts), About((READ_CHARGING.name,), found.ref))


def _wanted(standing: Standing) -> list[Fact]:
    goal = standing.goal
    if goal is None:
        return [Fact("charge_control.no_goal")]
    facts = [Fact("charge_control.goal", {"target_percent": goal.target_percent, "set_us": goal.set_us})]
    if standing.departure_us:
        facts.append(Fact("charge_control.leaves", {"departure_us": standing.departure_us}))
    if goal.is_stopped:
        facts.append(Fact("charge_control.stopped"))
    return facts


def _now(standing: Standing) -> list[Fact]:
    now = standing.now
    if now.soc_percent is None:
        facts = [Fact("charge_control.unknown_charge")]
    else:
        facts = [Fact("charge_control.charge", {"soc_percent": now.soc_percent, "soc_us": now.soc_us})]
    if now.is_moving:
        return [*facts, Fact("charge_control.moves")]
    if not now.is_plugged:
        return [*facts, Fact("charge_control.unplugged")]
    facts.append(Fact("charge_control.plugged", {"plugged_us": now.plugged_us}))
    return [*facts, Fact("charge_control.draws", {"power_kw": now.power_kw})] if now.is_charging else facts


def _planned(standing: Standing, now_us: int) -> list[Fact]:
    plan, goal = standing.plan, standing.goal
    if plan is None or goal is None or goal.is_stopped:
        return []
    facts = [Fact("charge_control.plan", {"version": plan.version, "made_us": plan.made_us})]
    facts.append(Fact(f"charge_control.cause.{plan.cause.rpartition('.')[2]}"))
    facts += _waits(plan, now_us)
    if plan.currency:
        cost, once = amount(plan.cost_minor, plan.currency), amount(plan.at_once_minor, plan.currency)
        facts.append(Fact("charge_control.cost", {"cost": cost, "at_once": once}))
    if plan.site:
        facts.append(Fact("charge_control.depot", {"site": plan.site}))
    if plan.reason:
        facts.append(Fact(f"charge_control.reason.{plan.reason.rpartition('.')[2]}"))
    facts += explain(plan)
    if standing.car.assumed:
        facts.append(Fact("charge_control.assumed", {"fields": ", ".join(standing.car.assumed)}))
    return facts


def _waits(plan: StoredPlan, now_us: int) -> list[Fact]:
    """Why not now: when it goes on, and what the hours cost."""
    if plan.power_at(now_us) > 0:
        return [Fact("charge_control.should_charge", {"power_kw": plan.power_at(now_us)})]
    later = [piece for piece in plan.pieces if piece[0] > now_us]
    if not later:
        return [Fact("charge_control.nothing_left")]
    facts = [Fact("charge_control.waits", {"start_us": later[0][0], "latest_us": plan.latest_us})]
    here, there = plan.place_at(now_us), plan.place_at(later[0][0])
    if plan.price and here >= 0 and there >= 0 and plan.price[there] < plan.price[here]:
        prices: dict[str, Value] = {
            "price_now": plan.price[here],
            "price_then": plan.price[there],
            "currency": plan.currency,
        }
        facts.append(Fact("charge_control.cheaper", prices))
    return facts


def _alert(alert: Alert) -> Fact:
    return Fact(f"charge_control.alert.{alert.code.rpartition('.')[2]}", alert.facts, f"alert:{alert.id}")
