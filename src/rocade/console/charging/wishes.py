"""The goal of a vehicle as its driver's form says it, and back: "80 % by 07:00, cheap and green".

A form names a time of day; the next such time in his own zone is meant, or that time on the days chosen, every week; or he
leaves as his calendar says. What the form does not name (power limit, CO2 series) stays as it was.
Refuses: `console.goal`, and what `services.charging` refuses (`charging.goal.*`, `charging.departure.*`, `charging.zone`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

import msgspec
from litestar.datastructures import FormMultiDict

from rocade.console.my.frame import figure
from rocade.core.errors import Refused
from rocade.services.charging import Departure, Goal, StoredPlan, WeeklyTime
from rocade.services.charging.planning import zone_of

SHARES = 4
WEEK = 7
"""Steps of the slider between cheap and green."""
SECOND_US, MINUTE_US = 1_000_000, 60_000_000
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(:\d\d)?")


class Wish(msgspec.Struct, frozen=True):
    """A goal as the form shows it. `by`: local HH:MM; `share`: 0 cheap to `SHARES` green; `days`: weekdays, none = once."""

    said: str
    repeats: str
    target_percent: int
    by: str
    share: int
    days: tuple[int, ...]
    minimum_percent: int
    care: bool
    zone: str
    is_calendar: bool
    tariff: str
    carbon: str


USUAL = Wish("", "", 80, "07:00", 2, (), 20, True, "", False, "", "")


def shown(texts: Mapping[str, str], language: str, goal: Goal | None, tariff: str, carbon: str) -> Wish:
    """What the form begins with: the goal there is, else a usual one."""
    if goal is None:
        wish = msgspec.structs.replace(USUAL, zone="UTC", tariff=tariff, carbon=carbon)
    else:
        departure = goal.departure
        wish = Wish(
            "",
            "",
            round(goal.target_percent),
            _time_of(departure),
            round(goal.share_co2 * SHARES),
            tuple(sorted({one.weekday for one in departure.weekly})),
            round(goal.minimum_percent),
            goal.care,
            departure.zone,
            departure.kind == "calendar",
            goal.tariff or tariff,
            goal.carbon or carbon,
        )
    return msgspec.structs.replace(wish, said=sentence(texts, language, wish), repeats=repeats(texts, wish.days))


def sentence(texts: Mapping[str, str], language: str, wish: Wish) -> str:
    text = texts["charging_goal.said_calendar" if wish.is_calendar else "charging_goal.said"]
    how = texts[f"charging_goal.how_{wish.share}"]
    return text.format(percent=figure(language, wish.target_percent), time=wish.by, how=how)


def repeats(texts: Mapping[str, str], days: tuple[int, ...]) -> str:
    """On which days of the week, '' = once."""
    if len(days) == WEEK:
        return texts["charging_goal.daily"]
    return texts["kit.comma"].join(texts[f"charging_day.long_{day}"] for day in days)


def wanted(form: FormMultiDict, ref: int, before: Goal | None, by: str, now_us: int) -> Goal:
    """The goal a form asks for."""
    zone = str(form.get("in_zone") or "UTC")
    zone_of(zone)
    goal = before or Goal(ref, USUAL.target_percent, Departure("once", zone))
    return msgspec.structs.replace(
        goal,
        target_percent=_percent(form, "target"),
        minimum_percent=min(_percent(form, "minimum"), _percent(form, "target")),
        share_co2=min(_number(form, "share"), SHARES) / SHARES,
        care="care" in form,
        tariff=str(form.get("tariff") or goal.tariff),
        carbon=str(form.get("carbon") or goal.carbon),
        power_limit_kw=_number(form, "power") if form.get("power") else goal.power_limit_kw,
        departure=_departure(form, before, zone, now_us),
        by=by,
        is_stopped=False,
    )


def smallest_change(goal: Goal, plan: StoredPlan) -> str:
    """later | target | power, '' = none helps. A calendar is not changed from here: then less has to be enough."""
    if plan.remedy is None:
        return ""
    if plan.remedy.smallest == "later" and goal.departure.kind == "calendar":
        return "target" if plan.remedy.target_percent > 0 else ""
    return plan.remedy.smallest


def remedy_fields(goal: Goal, plan: StoredPlan) -> list[tuple[str, str]]:
    """The goal's form with its smallest change that helps, to be sent by one tap; nothing if no change would."""
    remedy, smallest = plan.remedy, smallest_change(goal, plan)
    if remedy is None or not smallest:
        return []
    changes = {
        "later": {
            "later_us": str(plan.departure_us + remedy.later_min * MINUTE_US),
            "instead_us": str(plan.departure_us),
        },
        "target": {"target": f"{int(remedy.target_percent)}"},
        "power": {"power": f"{remedy.power_kw:.2f}"},
    }[smallest]
    fields = {
        "target": f"{goal.target_percent:.0f}",
        "minimum": f"{goal.minimum_percent:.0f}",
        "share": f"{goal.share_co2 * SHARES:.0f}",
        "in_zone": goal.departure.zone,
        "by": _time_of(goal.departure),
        "tariff": goal.tariff,
        "carbon": goal.carbon,
        **({"care": "1"} if goal.care else {}),
        **({"keep_departure": "1"} if smallest != "later" else {}),
    }
    return list((fields | changes).items())


def _departure(form: FormMultiDict, before: Goal | None, zone: str, now_us: int) -> Departure:
    if before is not None and "keep_departure" in form:
        return before.departure
    if form.get("later_us"):
        return _later(before, zone, int(_number(form, "instead_us")), int(_number(form, "later_us")))
    if calendar := str(form.get("calendar") or ""):
        return Departure("calendar", zone, calendar=calendar)
    if "use_calendar" in form and before is not None and before.departure.kind == "calendar":
        return msgspec.structs.replace(before.departure, zone=zone)
    found = _TIME.fullmatch(str(form.get("by") or ""))
    if not found:
        raise Refused("console.goal", "say when you leave as a time of day, like 07:00")
    at = time(int(found[1]), int(found[2]))
    if days := sorted({int(day) for day in form.getall("day", []) if day in set("0123456")}):
        return Departure("weekly", zone, weekly=tuple(WeeklyTime(day, at.hour * 60 + at.minute) for day in days))
    return Departure("once", zone, at_us=next_us(at, zone, now_us))


def _later(before: Goal | None, zone: str, instead_us: int, later_us: int) -> Departure:
    """Later this once; where it repeats every week, later on that day from now on."""
    if before is None or before.departure.kind != "weekly":
        return Departure("once", zone, at_us=later_us)
    old, new = _weekly_at(instead_us, before.departure.zone), _weekly_at(later_us, before.departure.zone)
    kept = {one for one in before.departure.weekly if one != old}
    weekly = sorted({*kept, new}, key=lambda one: (one.weekday, one.minute))
    return msgspec.structs.replace(before.departure, weekly=tuple(weekly))


def _weekly_at(at_us: int, zone: str) -> WeeklyTime:
    at = datetime.fromtimestamp(at_us // SECOND_US, UTC).astimezone(zone_of(zone))
    return WeeklyTime(at.weekday(), at.hour * 60 + at.minute)


def next_us(at: time, zone: str, now_us: int) -> int:
    """The next instant at which clocks of this zone show this time."""
    place = zone_of(zone)
    today = datetime.fromtimestamp(now_us / SECOND_US, place).date()
    for day in range(3):
        moment = datetime.combine(today + timedelta(days=day), at, place)
        if (found_us := int(moment.timestamp()) * SECOND_US) > now_us:
            return found_us
    raise AssertionError("one of three days lies ahead")


def _time_of(departure: Departure) -> str:
    if departure.weekly:
        hour, minute = divmod(departure.weekly[0].minute, 60)
        return f"{hour:02d}:{minute:02d}"
    if not departure.at_us:
        return USUAL.by
    at = datetime.fromtimestamp(departure.at_us // SECOND_US, UTC).astimezone(zone_of(departure.zone))
    return f"{at:%H:%M}"


def _percent(form: FormMultiDict, name: str) -> float:
    return _number(form, name)


def _number(form: FormMultiDict, name: str) -> float:
    text: Any = form.get(name) or "0"
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise Refused("console.goal", f"{name} is a number") from None
    if not 0 <= value < 1e17:  # not a number is not either
        raise Refused("console.goal", f"{name} is a number from 0 up")
    return value
