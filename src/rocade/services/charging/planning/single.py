"""One vehicle's plan: the cheapest on-time of every slot for price, CO2 or any mix of them, exactly.

In hours of charging (`taper.Curve`) a stay has three parts: the minimum, charged first whatever it costs; the middle, free to
choose; what battery care wants late, charged last. The middle is solved exactly: at constant power the cheapest slots come first,
with a taper by dynamic programming. Both come with a lower bound. A target out of reach takes all the time there is.
Source: docs/decisions/0049-single-plans.md.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rocade.core.money import MINOR_DIGITS
from rocade.services.charging.planning import errors
from rocade.services.charging.planning.many import plan_many, plan_many_load
from rocade.services.charging.planning.plan import AtOnce, Need, Plan, Reason, Remedy
from rocade.services.charging.planning.slots import SECOND_US, Floats, OnSlots, Slots
from rocade.services.charging.planning.taper import Curve, Taper, cheapest

__all__ = [
    "AtOnce",
    "Need",
    "Plan",
    "Reason",
    "Remedy",
    "Taper",
    "frontier",
    "objective",
    "plan_many",
    "plan_many_load",
    "plan_one",
]

MOST_KW = 400.0
"""No remedy asks for more power than this."""
_TINY_H = 1e-9


def objective(price: Floats, carbon: Floats | None = None, share: float = 0.0) -> Floats:
    """What a plan minimises per kWh: price (share 0), CO2 (share 1), or a mix of the two, in the price's units.

    The spread of CO2 over the slots is scaled to that of the price, so that a share means the same anywhere; every
    mix stays linear, and the plans of all shares are those on the frontier of cost against CO2.
    """
    if carbon is None or share <= 0:
        return price
    dirt = float(np.nanstd(carbon))
    scale = (float(np.nanstd(price)) or 1.0) / dirt if dirt else 1.0
    return (1 - share) * price + share * scale * carbon


def plan_one(
    need: Need,
    slots: Slots,
    cost: Floats,
    *,
    price: Floats | OnSlots | None = None,
    carbon: Floats | OnSlots | None = None,
    currency: str = "EUR",
    refine: int = 0,
) -> Plan:
    """The cheapest plan for one vehicle; `cost` is what counts (see `objective`), `price` and `carbon` what is reported.

    Units: `price` per kWh in the currency (default: `cost`), `carbon` in g/kWh. Slots without value may not have one between
    arrival and departure. `refine`: more states for the taper, to check the result.
    Raises: Refused `charging.need.*`, `charging.prices.missing`, `charging.curve.length`.
    """
    need.check()
    need = _within(need, slots)
    available_h, is_past = _available(need, slots)
    known, emitted = _on_slots(cost if price is None else price, slots), _on_slots(carbon, slots)
    values = np.asarray(cost, np.float64)
    for given in (values, known.value, emitted.value):
        if len(given) != len(slots):
            raise errors.curve_length(len(slots), len(given))
    _check_known(slots, available_h, values, known.value, emitted.value)
    curve, reason = _curve(need)
    whole = float(curve.hours[-1])
    if reason in (Reason.NO_POWER, Reason.WEAK):
        available_h = np.zeros(len(slots))
    elif reason == Reason.REACHED and (is_past or whole > float(available_h.sum()) + _TINY_H):
        reason = Reason.PAST if is_past else Reason.SHORT
    if reason == Reason.REACHED:
        on_h, least = _three_parts(need, curve, available_h, values, refine)
    else:
        on_h, least = _earliest(available_h, whole), math.nan
    return _told(need, slots, curve, on_h, least, reason, available_h, values, known, emitted, currency)


def frontier(
    need: Need,
    slots: Slots,
    price: Floats | OnSlots,
    carbon: Floats | OnSlots,
    *,
    currency: str = "EUR",
    steps: int = 11,
) -> list[tuple[float, Plan]]:
    """The choice between money and CO2: (share, plan) from cheapest to greenest, none worse than another in both.

    Cost: one plan a step. Raises: as `plan_one`.
    """
    money, emitted = _on_slots(price, slots).value, _on_slots(carbon, slots).value
    found: list[tuple[float, Plan]] = []
    for share in np.linspace(0, 1, steps).tolist():
        plan = plan_one(need, slots, objective(money, emitted, share), price=price, carbon=carbon, currency=currency)
        if not found or plan.co2_g < found[-1][1].co2_g:
            while found and found[-1][1].cost_minor >= plan.cost_minor:
                found.pop()
            found.append((share, plan))
    return found


# --- window and curve -------------------------------------------------------------------------------------------------


def _within(need: Need, slots: Slots) -> Need:
    """A stay beyond the slots counts as far as they reach: what lies behind the horizon is the next plan's business."""
    arrival_us = max(need.arrival_us, int(slots.start_us[0]))
    departure_us = min(need.departure_us, int(slots.end_us[-1]))
    return replace(need, arrival_us=arrival_us, departure_us=departure_us)


def _available(need: Need, slots: Slots) -> tuple[Floats, bool]:
    """Hours of each slot in which the car may charge. After a departure in the past it still may: best effort."""
    is_past = need.departure_us <= need.arrival_us
    return slots.available_h(need.arrival_us, int(slots.end_us[-1]) if is_past else need.departure_us), is_past


def _on_slots(values: Floats | OnSlots | None, slots: Slots) -> OnSlots:
    if isinstance(values, OnSlots):
        return values
    told = np.zeros(len(slots)) if values is None else np.asarray(values, np.float64)
    return OnSlots(told, told, told, np.zeros(len(told), np.bool_))


def _check_known(slots: Slots, available_h: Floats, *curves: Floats) -> None:
    """Every slot that may be used has a value of everything."""
    missing = ~np.isfinite(np.sum(curves, axis=0)) & (available_h > 0)
    if missing.any():
        raise errors.prices_missing(int(slots.start_us[np.argmax(missing)]), int(missing.sum()))


def _curve(need: Need) -> tuple[Curve, Reason]:
    now, target = need.percents
    if target - now <= 1e-9:
        return Curve(np.zeros(1), np.zeros(1), np.array([now])), Reason.ALREADY
    reason = Reason.NO_POWER if need.max_kw <= 0 else Reason.WEAK if need.max_kw < need.min_kw else Reason.REACHED
    if reason != Reason.REACHED:  # nothing is charged: any curve will do
        return Curve(np.array([0.0, math.inf]), np.zeros(2), np.array([now, target])), reason
    return Curve.of(now, target, need.plug_kwh_per_percent, need.max_kw, need.taper), reason


# --- the three parts of a stay ----------------------------------------------------------------------------------------


def _three_parts(need: Need, curve: Curve, available_h: Floats, cost: Floats, refine: int) -> tuple[Floats, float]:
    """On-time of each slot, and the least cost that the free part can have with the energy of the others added."""
    whole = float(curve.hours[-1])
    first_h = curve.hours_to(need.minimum_percent) if need.minimum_percent else 0.0
    care_h = whole if need.late_from_percent is None else curve.hours_to(need.late_from_percent)
    care_h = max(first_h, care_h)
    first = _earliest(available_h, first_h)
    last = _earliest((available_h - first)[::-1], whole - care_h)[::-1]
    free_h = available_h - first - last
    middle, middle_cost, least = _middle(curve, first_h, care_h, free_h, cost, refine)
    on_h = first + middle + last
    return on_h, _cost(curve, on_h, cost) - (middle_cost - least)


def _middle(
    curve: Curve, begin_h: float, end_h: float, free_h: Floats, cost: Floats, refine: int
) -> tuple[Floats, float, float]:
    """On-time of the part that is free to choose, its cost, and the least that any choice could cost."""
    on_h = np.zeros(len(cost))
    used = np.flatnonzero(free_h > _TINY_H)
    if end_h - begin_h <= _TINY_H or not len(used):
        return on_h, 0.0, 0.0
    free, prices = free_h[used], cost[used]
    if not refine and not np.any((curve.hours > begin_h + _TINY_H) & (curve.hours < end_h - _TINY_H)):
        kw = float(curve.kwh_after(end_h) - curve.kwh_after(begin_h)) / (end_h - begin_h)
        on_h[used], least = _cheapest_first(end_h - begin_h, free, prices)
        return on_h, kw * float(on_h[used] @ prices), kw * least
    on_h[used], least = cheapest(curve, begin_h, end_h, free, prices, refine)
    return on_h, least, least


def _cheapest_first(hours: float, free_h: Floats, cost: Floats) -> tuple[Floats, float]:
    """The cheapest slots, of equal ones the earlier; and the dual bound of the linear program at the last slot's price."""
    order = np.argsort(cost, kind="stable")
    on_h = np.empty(len(cost))
    on_h[order] = _earliest(free_h[order], hours)
    price = cost[order[min(int(np.searchsorted(np.cumsum(free_h[order]), hours)), len(order) - 1)]]
    return on_h, float(price * hours - np.maximum(price - cost, 0) @ free_h)


def _earliest(available_h: Floats, hours: float) -> Floats:
    """On-time that fills slot after slot in the order given."""
    return np.clip(hours - (np.cumsum(available_h) - available_h), 0, available_h)


def _energy(curve: Curve, on_h: Floats) -> Floats:
    """What the plug gives in each slot. Units: kWh."""
    return np.diff(curve.kwh_after(np.concatenate([[0.0], np.cumsum(on_h)])))


def _cost(curve: Curve, on_h: Floats, cost: Floats) -> float:
    return float(_energy(curve, on_h) @ np.where(on_h > 0, cost, 0))


# --- telling ----------------------------------------------------------------------------------------------------------


def _told(
    need: Need,
    slots: Slots,
    curve: Curve,
    on_h: Floats,
    least: float,
    reason: Reason,
    available_h: Floats,
    cost: Floats,
    known: OnSlots,
    emitted: OnSlots,
    currency: str,
) -> Plan:
    energy = _energy(curve, on_h)
    soc = curve.percent_after(np.concatenate([[0.0], np.cumsum(on_h)]))
    at_once = _energy(curve, _earliest(available_h, float(on_h.sum())))
    missing = 0.0 if reason in (Reason.REACHED, Reason.ALREADY) else _missing_percent(need, curve)
    spent = _cost(curve, on_h, cost)
    return Plan(
        need=need,
        slots=slots,
        power_kw=energy / slots.step_h,
        on_h=on_h,
        soc_percent=soc,
        energy_kwh=float(energy.sum()),
        cost=spent,
        lower_bound=spent if math.isnan(least) else least,
        cost_minor=_minor(energy, known.value, currency),
        cost_low_minor=_minor(energy, known.low, currency),
        cost_high_minor=_minor(energy, known.high, currency),
        currency=currency,
        co2_g=round(_total(energy, emitted.value)),
        shortfall_kwh=missing * need.plug_kwh_per_percent * need.efficiency,
        shortfall_percent=missing,
        reason=reason,
        remedy=_remedy(need, curve, reason) if missing else None,
        at_once=AtOnce(
            _minor(at_once, known.value, currency), round(_total(at_once, emitted.value)), float(at_once.sum())
        ),
        is_forecast=known.is_forecast,
        forecast_kwh=float(energy[known.is_forecast].sum()),
    )


def _total(energy: Floats, value: Floats) -> float:
    return float(energy @ np.where(energy > 0, value, 0))


def _minor(energy: Floats, price: Floats, currency: str) -> int:
    digits: int = MINOR_DIGITS.get(currency, 2)
    return round(_total(energy, price) * 10.0**digits)


def _stay_h(need: Need) -> float:
    return max(0, need.departure_us - need.arrival_us) / (3600 * SECOND_US)


def _missing_percent(need: Need, curve: Curve) -> float:
    """What is missing at the departure; one in the past misses everything."""
    return need.percents[1] - float(curve.percent_after(_stay_h(need)))


def _remedy(need: Need, curve: Curve, reason: Reason) -> Remedy:
    """Each smallest change that alone would do: minutes rounded up, percent down, power up."""
    target, stay_h, whole = need.percents[1], _stay_h(need), float(curve.hours[-1])
    reached = math.floor(10 * float(curve.percent_after(stay_h))) / 10
    power = 0.0 if reason == Reason.PAST else _power_needed(need, stay_h)
    if reason in (Reason.NO_POWER, Reason.WEAK):
        return Remedy(0, reached, power, "power" if power else "target")
    late_h = max(0, need.arrival_us - need.departure_us) / (3600 * SECOND_US)
    later = math.ceil(60 * (late_h + whole - stay_h) - 1e-6)
    if reason == Reason.PAST:
        return Remedy(later, reached, 0.0, "later")
    changes = {"later": later / 60 / stay_h, "target": (target - reached) / target}
    if power:
        changes["power"] = (power - need.max_kw) / need.max_kw
    return Remedy(later, reached, power, min(changes, key=changes.__getitem__))


def _power_needed(need: Need, stay_h: float) -> float:
    """The least power, in tenths of a kW, that reaches the target in time; 0 if none does (the car takes no more)."""
    now, target = need.percents

    def is_enough(tenths: int) -> bool:
        curve = Curve.of(now, target, need.plug_kwh_per_percent, tenths / 10, need.taper)
        return float(curve.hours[-1]) <= stay_h + _TINY_H

    low, high = 0, round(10 * MOST_KW)
    if not is_enough(high):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return max(high / 10, math.ceil(10 * need.min_kw) / 10)
