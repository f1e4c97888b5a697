"""What goals, cars, depots, series and dimmings must keep to; the rules that need nothing but the values themselves."""

from __future__ import annotations

import re

import msgspec

from rocade.services.charging import errors
from rocade.services.charging.model import UNITS, CarFacts, ChargeSite, Departure, Dimming, Goal, Tariff
from rocade.services.charging.planning import zone_of
from rocade.services.charging.planning.areas import zone_name

DAY_US = 86_400_000_000
LEAST_KW, MOST_KW = 0.1, 1_000.0
LEAST_LIMIT = 1e-3
"""kW or A: what is less is meant as none."""
MOST_NODES = 10_000
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def check_goal(goal: Goal, now_us: int) -> Goal:
    """Raises: Refused `charging.goal.*`, `charging.zone`."""
    for name, value in (("target_percent", goal.target_percent), ("minimum_percent", goal.minimum_percent)):
        if not 0 <= value <= 100:
            raise errors.goal("percent", name)
    if goal.target_percent <= 0:
        raise errors.goal("target")
    if goal.minimum_percent > goal.target_percent:
        raise errors.goal("minimum")
    if not 0 <= goal.share_co2 <= 1:
        raise errors.goal("share")
    if goal.power_limit_kw and not LEAST_KW <= goal.power_limit_kw <= MOST_KW:
        raise errors.goal("power")
    check_departure(goal.departure, now_us)
    return goal


def check_departure(departure: Departure, now_us: int) -> None:
    """Raises: Refused `charging.departure.*`, `charging.zone`."""
    zone_of(departure.zone)
    if departure.kind == "once":
        if departure.at_us <= now_us:
            raise errors.departure("past")
        if departure.at_us > now_us + 366 * DAY_US:
            raise errors.departure("far")
    elif departure.kind == "weekly":
        if not departure.weekly or len(departure.weekly) > 50:
            raise errors.departure("never")
        if any(not 0 <= one.weekday <= 6 or not 0 <= one.minute < 1440 for one in departure.weekly):
            raise errors.departure("weekly")
    elif not departure.calendar.strip():
        raise errors.departure("never")


def check_car(car: CarFacts) -> CarFacts:
    """Raises: Refused `charging.car`."""
    ranges = {
        "capacity_kwh": (car.capacity_kwh, 0.1, 2_000.0), "max_kw": (car.max_kw, 0.1, MOST_KW),
        "min_kw": (car.min_kw, 0.0, car.max_kw), "efficiency": (car.efficiency, 0.5, 1.0),
        "taper_from_percent": (car.taper_from_percent, 0.0, 100.0), "taper_to_kw": (car.taper_to_kw, 0.01, MOST_KW),
    }  # fmt: skip
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:  # false for a number that is none
            raise errors.car(name, low, high)
    if car.phases not in (1, 2, 3):
        raise errors.car("phases", 1, 3)
    return car


def check_site(site: ChargeSite) -> ChargeSite:
    """A tree with one root, no circle, limits above zero. Raises: Refused `charging.site.*`, `charging.zone`."""
    check_id(site.id)
    zone_of(site.zone)
    if not site.name or len(site.name) > 80 or not site.name.isprintable():
        raise errors.site("name")
    if not 1 <= site.period_s <= 3600:
        raise errors.site("period")
    if not (0 <= site.building_kw < 1e6 and 0 <= site.solar_kw < 1e6):
        raise errors.site("load")
    parents = {node.id: node.parent for node in site.nodes}
    if len(parents) != len(site.nodes) or len(parents) > MOST_NODES:
        raise errors.site("nodes")
    roots = [node for node in site.nodes if not node.parent]
    if len(roots) != 1 or any(node.parent and node.parent not in parents for node in site.nodes):
        raise errors.site("tree")
    for node in site.nodes:
        check_id(node.id)
        if not all(limit == 0 or LEAST_LIMIT <= limit < 1e6 for limit in (node.limit_kw, node.current_a)):
            raise errors.site("limit")
        seen, at = {node.id}, node.parent
        while at:
            if at in seen:
                raise errors.site("tree")
            seen.add(at)
            at = parents[at]
    if not roots[0].limit_kw and not roots[0].current_a:
        raise errors.site("unlimited")
    return site


def check_tariff(tariff: Tariff) -> Tariff:
    """Raises: Refused `charging.tariff.*`, `charging.zone`."""
    check_id(tariff.id)
    zone_of(tariff.zone)
    if len(tariff.name) > 80 or not tariff.name.isprintable():
        raise errors.tariff("name")
    if tariff.kind not in UNITS:
        raise errors.tariff("kind")
    if (tariff.kind == "price") != bool(_CURRENCY.fullmatch(tariff.currency)):
        raise errors.tariff("currency")
    if len(tariff.area) > 64 or not tariff.area.isprintable():
        raise errors.tariff("name")
    return msgspec.structs.replace(tariff, area=zone_name(tariff.area))


def check_dimming(dimming: Dimming, now_us: int) -> Dimming:
    """Raises: Refused `charging.dimming.*`."""
    if not 0 <= dimming.limit_kw < 1e6:
        raise errors.dimming("limit")
    if not dimming.from_us < dimming.until_us:
        raise errors.dimming("period")
    if dimming.until_us <= now_us:
        raise errors.dimming("past")
    if dimming.until_us - dimming.from_us > 31 * DAY_US:
        raise errors.dimming("long")
    if not dimming.signal or len(dimming.signal) > 128 or not dimming.signal.isprintable():
        raise errors.dimming("signal")
    return dimming


def check_id(id: str) -> str:
    """Raises: Refused `charging.id`."""
    if not _ID.fullmatch(id):
        raise errors.bad_id()
    return id
