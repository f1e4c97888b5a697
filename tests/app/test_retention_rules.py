"""Retention rules as they are configured, by signal, brand and region, turned into the numbers the history knows."""

from __future__ import annotations

import pytest

from rocade.app.configuration import RetentionRule
from rocade.app.wiring import _rule
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.vehicles import Registry

SPEED = "Vehicle.Speed"
CASES = [
    (RetentionRule(30), None),
    (RetentionRule(30, SPEED), None),
    (RetentionRule(30, brand="peugeot"), {"MOPED-1", "MOPED-2"}),
    (RetentionRule(30, region="fr"), {"MOPED-1", "MOPED-3"}),
    (RetentionRule(30, SPEED, "peugeot", "fr"), {"MOPED-1"}),
    (RetentionRule(30, brand="renault", region="de"), set()),
]


@pytest.mark.parametrize(("configured", "vehicles"), CASES)
async def test_a_rule_names_the_vehicles_of_its_brand_and_region(
    database: Database, configured: RetentionRule, vehicles: set[str] | None
) -> None:
    registry = Registry(database, SystemRandom(), SystemClock())
    refs = {}
    for id, brand, region in (("MOPED-1", "peugeot", "fr"), ("MOPED-2", "peugeot", "de"), ("MOPED-3", "renault", "fr")):
        refs[id] = int((await registry.add(id, "moped", brand, "Kisbee", "electric", region)).ref)
    rule = await _rule(configured, registry)
    assert (rule.signals is not None) == bool(configured.signal)
    expected = None if vehicles is None else {refs[id] for id in vehicles}
    assert (None if rule.vehicles is None else set(rule.vehicles)) == expected
