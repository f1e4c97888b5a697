"""Instants of releases: one instant, or none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rocade.core.errors import Refused
from rocade.services.prices import instants


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-25T00:00:00+01:00", "2026-11-24T23:00:00"),
        ("2026-11-25T00:00Z", "2026-11-25T00:00:00"),
        ("2026-11-25 06:30:15.25+05:30", "2026-11-25T01:00:15.250000"),
        ("2026-07-01T00:00[Europe/Paris]", "2026-06-30T22:00:00"),
        ("2026-12-01T00:00+01:00[Europe/Paris]", "2026-11-30T23:00:00"),
        ("2026-10-25T02:30+02:00[Europe/Paris]", "2026-10-25T00:30:00"),
        ("2026-10-25T02:30+01:00[Europe/Paris]", "2026-10-25T01:30:00"),
    ],
)
def test_an_instant_is_read_with_its_offset_or_its_zone(text: str, utc: str) -> None:
    assert datetime.fromtimestamp(instants.parse(text) / 1e6, UTC).replace(tzinfo=None).isoformat() == utc


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2026-10-25T02:30[Europe/Paris]", "twice"),
        ("2026-03-29T02:30[Europe/Paris]", "never"),
        ("2026-11-25T00:00:00", "offset"),
        ("2026-11-25", "malformed"),
        ("tomorrow", "malformed"),
        ("2026-13-25T00:00Z", "malformed"),
        ("2026-11-25T00:00[Europe/Nowhere]", "zone"),
        ("2026-11-25T00:00[../../etc/passwd]", "malformed"),
        ("2026-11-25T00:00[Europe]", "zone"),
        ("2026-12-01T00:00+02:00[Europe/Paris]", "contradiction"),
        ("2026-03-29T02:30+01:00[Europe/Paris]", "contradiction"),
    ],
)
def test_what_is_no_instant_or_two_is_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        instants.parse(text)
    assert refused.value.code == f"prices.instant.{code}"
