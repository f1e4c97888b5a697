"""A plan in facts that can be told in any language: what is missing and what would help, what rests on forecasts, how sure it is.

Works on a plan as it is kept (`services.charging.StoredPlan`): whatever has these attributes. Sentences: core/why/languages/*/charging_plans.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rocade.core.why import Fact

EXACT = 1e-6
"""A gap below this is the arithmetic's, not the plan's."""


class Help(Protocol):
    """See `plan.Remedy`."""

    @property
    def later_min(self) -> int: ...
    @property
    def target_percent(self) -> float: ...
    @property
    def power_kw(self) -> float: ...
    @property
    def smallest(self) -> str: ...


class Kept(Protocol):
    """A plan as it is kept."""

    @property
    def departure_us(self) -> int: ...
    @property
    def target_percent(self) -> float: ...
    @property
    def soc_percent(self) -> Sequence[float]: ...
    @property
    def power_kw(self) -> Sequence[float]: ...
    @property
    def is_forecast(self) -> Sequence[bool]: ...
    @property
    def shortfall_kwh(self) -> float: ...
    @property
    def remedy(self) -> Help | None: ...
    @property
    def gap(self) -> float: ...


def explain(plan: Kept) -> list[Fact]:
    """The facts behind a plan, in the order in which they matter."""
    facts = _missing(plan)
    if share := _guessed_percent(plan):
        facts.append(Fact("planning.forecast", {"percent": share}))
    if sum(plan.power_kw) > 0:
        exact = plan.gap <= EXACT
        facts.append(Fact("planning.exact") if exact else Fact("planning.bound", {"percent": round(100 * plan.gap, 3)}))
    return facts


def _missing(plan: Kept) -> list[Fact]:
    """What is missing at the departure, and each change that would help; the smallest first."""
    if not plan.shortfall_kwh:
        return []
    values: dict[str, str | int | float] = {
        "departure_us": plan.departure_us,
        "target_percent": round(plan.target_percent, 1),
        "shortfall_kwh": round(plan.shortfall_kwh, 1),
    }
    facts = [Fact("planning.short", values)]
    remedy = plan.remedy
    if remedy is None:
        return facts
    every = {
        "later": Fact("planning.remedy.later", {"minutes": remedy.later_min}) if remedy.later_min else None,
        "target": Fact("planning.remedy.target", {"percent": round(remedy.target_percent, 1)}),
        "power": Fact("planning.remedy.power", {"power_kw": remedy.power_kw}) if remedy.power_kw else None,
    }
    ordered = sorted(every, key=lambda name: name != remedy.smallest)
    return facts + [fact for name in ordered if (fact := every[name])]


def _guessed_percent(plan: Kept) -> int:
    """How much of the energy is bought at prices that nobody has published yet."""
    whole = sum(plan.power_kw)
    guessed = sum(kw for kw, is_forecast in zip(plan.power_kw, plan.is_forecast, strict=False) if is_forecast)
    return round(100 * guessed / whole) if whole else 0
