"""What endangers a goal, found before it is too late, with its cause: the plan against what telemetry, station and commands say.

`troubles` looks at one vehicle at one moment; `replanning` opens an alert for what it finds and ends it when it is gone. Each code has
its sentences in `core/why/languages`. A parked car that sleeps is silent by right: silence counts only while it is to charge or
when it soon must.
"""

from __future__ import annotations

from rocade.services.charging.acting import Picture
from rocade.services.charging.making import power_of
from rocade.services.charging.model import StoredPlan
from rocade.services.charging.standing import REACHED_PERCENT
from rocade.services.charging.steering import POWER, SCHEDULE, Lanes

SHORT, UNPLUGGED, SILENT = "charging.alert.short", "charging.alert.unplugged", "charging.alert.silent"
REFUSED, IDLE, EAGER = "charging.alert.refused", "charging.alert.idle", "charging.alert.eager"
SLOW, NO_WAY = "charging.alert.slow", "charging.alert.no_way"
CODES = (SHORT, UNPLUGGED, SILENT, REFUSED, IDLE, EAGER, SLOW, NO_WAY)
LEAD_US = 30 * 60_000_000
"""So long before the latest safe start somebody is told: time to walk to the car."""
FOLLOWS_US = 3 * 60_000_000
"""How long a car may take to do what it was told."""
UNHEARD_US = 10 * 60_000_000
SLOW_SHARE = 0.7
SHORT_KWH = 0.1

type Troubles = dict[str, dict[str, str | int | float]]


def troubles(
    plan: StoredPlan | None, picture: Picture, lanes: Lanes, now_us: int, *, differs_us: int, slow_us: int,
    was_plugged: bool, can_nothing: bool,
) -> Troubles:  # fmt: skip
    """What endangers the goal now, by code with facts. `differs_us`, `slow_us`: for how long already; `was_plugged`: since this plan."""
    goal, now = picture.goal, picture.now
    if plan is None or goal is None or goal.is_stopped or plan.departure_us <= now_us:
        return {}
    if now.soc_percent is not None and now.soc_percent >= goal.target_percent - REACHED_PERCENT:
        return {}
    found: Troubles = {}
    if plan.shortfall_kwh > SHORT_KWH:
        found[SHORT] = _short(plan)
    if plan.energy_kwh <= 0:
        return found
    is_late = now_us >= plan.latest_us - LEAD_US
    if not now.is_plugged:
        if is_late or was_plugged:
            found[UNPLUGGED] = {"latest_us": plan.latest_us, "departure_us": plan.departure_us}
        return found
    should = plan.power_at(now_us) > 0
    if now_us - now.seen_us > UNHEARD_US and (should or is_late) and not _heard_by_station(picture, now_us):
        found[SILENT] = {"seen_us": now.seen_us, "latest_us": plan.latest_us}
    if can_nothing:
        found[NO_WAY] = {"departure_us": plan.departure_us}
    for lane in (POWER, SCHEDULE):
        last = lanes.get(lane)
        if last is not None and last.state == "rejected" and last.changed_us >= plan.made_us and differs_us:
            found[REFUSED] = {"act": last.act, "code": last.code, "command": last.id}
    if differs_us >= FOLLOWS_US:
        found[IDLE if should else EAGER] = {"power_kw": now.power_kw, "planned_kw": round(plan.power_at(now_us), 2)}
    if slow_us >= FOLLOWS_US and is_slow(plan, picture, now_us):
        found[SLOW] = {"power_kw": now.power_kw, "planned_kw": round(plan.power_at(now_us), 2)}
    return found


def is_slow(plan: StoredPlan | None, picture: Picture, now_us: int) -> bool:
    """Whether the car draws much less than planned though its battery does not ask for less."""
    now, car = picture.now, picture.car
    if plan is None or not now.is_charging or not now.is_plugged:
        return False
    wanted = min(plan.power_at(now_us), power_of(picture.goal, car))
    is_tapering = now.soc_percent is not None and now.soc_percent >= car.taper_from_percent - 2
    return wanted > 0 and not is_tapering and now.power_kw < SLOW_SHARE * wanted


def _short(plan: StoredPlan) -> dict[str, str | int | float]:
    facts: dict[str, str | int | float] = {
        "reason": plan.reason,
        "shortfall_kwh": plan.shortfall_kwh,
        "reached_percent": round(plan.soc_percent[-1], 1),
        "target_percent": plan.target_percent,
    }
    if plan.remedy is not None:
        facts |= {
            "later_min": plan.remedy.later_min,
            "instead_percent": plan.remedy.target_percent,
            "needed_kw": plan.remedy.power_kw,
        }
    return facts


def _heard_by_station(picture: Picture, now_us: int) -> bool:
    return picture.station is not None and now_us - picture.station.at_us <= UNHEARD_US
