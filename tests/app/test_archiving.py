"""How long the archive keeps what vehicles sent."""

from __future__ import annotations

import pytest

from rocade.app.archiving import keep_days
from rocade.app.configuration import Archive, Configuration, RetentionRule


@pytest.mark.parametrize(
    ("wanted", "rules", "kept"),
    [
        (30.0, (RetentionRule(730.0),), 30.0),
        (30.0, (RetentionRule(730.0), RetentionRule(7.0, brand="renault")), 7.0),
        (0.0, (RetentionRule(730.0), RetentionRule(90.0, signal="Vehicle.Speed")), 90.0),
    ],
)
def test_no_object_outlives_the_shortest_rule_of_retention(
    wanted: float, rules: tuple[RetentionRule, ...], kept: float
) -> None:
    configuration = Configuration("eu", "fleet.test", archive=Archive(keep_days=wanted), retention=rules)
    assert keep_days(configuration) == kept
