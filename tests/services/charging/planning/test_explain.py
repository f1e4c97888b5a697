"""A plan in facts: what is missing, the smallest help first, what is guessed, what is proven; each with its sentence in each language."""

from __future__ import annotations

import pytest

from rocade.core.why import LANGUAGES
from rocade.core.why.texts import sentence
from rocade.services.charging.model import Remedy, StoredPlan
from rocade.services.charging.planning.explain import explain

HOUR_US = 3_600_000_000


def stored(**more: object) -> StoredPlan:
    usual: dict[str, object] = {
        "ref": 1, "version": 1, "goal_version": 1, "made_us": 0, "departure_us": 4 * HOUR_US, "start_us": (0, HOUR_US),
        "length_s": (3600, 3600), "power_kw": (7.0, 3.0), "soc_percent": (20.0, 34.0, 40.0), "pieces": (), "cost_minor": 100,
        "currency": "EUR", "co2_g": 0, "at_once_minor": 120, "at_once_g": 0, "energy_kwh": 10.0, "target_percent": 40.0,
    }  # fmt: skip
    return StoredPlan(**(usual | more))  # type: ignore[arg-type]  # whatever a case changes


@pytest.mark.parametrize(
    ("plan", "keys"),
    [
        (stored(), ["planning.exact"]),
        (stored(gap=0.004), ["planning.bound"]),
        (stored(is_forecast=(False, True)), ["planning.forecast", "planning.exact"]),
        (stored(power_kw=(0.0, 0.0)), []),
        (
            stored(shortfall_kwh=3.0, remedy=Remedy(30, 38.0, 9.2, "power")),
            [
                "planning.short",
                "planning.remedy.power",
                "planning.remedy.later",
                "planning.remedy.target",
                "planning.exact",
            ],
        ),
        (
            stored(shortfall_kwh=3.0, remedy=Remedy(0, 20.0, 0.0, "target"), power_kw=(0.0, 0.0)),
            ["planning.short", "planning.remedy.target"],
        ),
    ],
)
def test_a_plan_is_told_in_the_order_in_which_it_matters(plan: StoredPlan, keys: list[str]) -> None:
    facts = explain(plan)
    assert [fact.key for fact in facts] == keys
    for language in LANGUAGES:
        assert all(sentence(fact, language) for fact in facts)


def test_a_forecast_s_share_is_that_of_the_energy() -> None:
    assert explain(stored(is_forecast=(False, True)))[0].values == {"percent": 30}
