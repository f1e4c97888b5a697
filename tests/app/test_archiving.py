"""How long the archive keeps what vehicles sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocade.app.archiving import keep_days, lies_inside
from rocade.app.configuration import Archive, Blobs, Configuration, RetentionRule


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


@pytest.mark.parametrize(
    ("url", "is_inside"),
    [
        ("", True),
        ("file://{folder}/real/eu/blobs", True),
        ("file://{folder}/real/eu/blobs/", True),
        ("file://{folder}/link/eu/blobs", True),
        ("file://{folder}/real/eu/bl%6Fbs", True),
        ("file://{folder}/elsewhere", False),
        ("s3://bucket{folder}/real/eu/blobs", False),
    ],
)
def test_objects_of_the_region_are_known_by_where_they_are(tmp_path: Path, url: str, is_inside: bool) -> None:
    (tmp_path / "real/eu").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    blobs = Blobs(url.format(folder=tmp_path))
    assert lies_inside(Configuration("eu", "fleet.test", blobs=blobs, directory=str(tmp_path / "real/eu"))) is is_inside
