"""The whole download asks for derived data what the pages that show them ask for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rocade.app import taking


async def nobody(_ref: int) -> None:
    return None


MINE: Any = SimpleNamespace(consents=SimpleNamespace(owner=nobody), clock=SimpleNamespace(now_us=lambda: 1_000), history=None, catalogue=None)  # fmt: skip


@pytest.mark.parametrize("classes", [("energy",), ("driving", "energy"), ("location",), ()])
async def test_trips_are_for_who_sees_places_and_driving(classes: tuple[str, ...]) -> None:
    assert await taking._trips(MINE)(1, classes) is None


async def test_what_a_trip_used_is_for_who_sees_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def trips(*_asked: object) -> list[Any]:
        return [{"start_us": 1, "distance_km": 2.0, "charge_used": 3.0, "energy_from": "level"}]

    monkeypatch.setattr(taking, "trips_between", trips)
    all_seen = await taking._trips(MINE)(1, ("driving", "energy", "location"))
    some_seen = await taking._trips(MINE)(1, ("driving", "location"))
    assert all_seen
    assert some_seen
    assert {**all_seen[0]} == {"start_us": 1, "distance_km": 2.0, "charge_used": 3.0, "energy_from": "level"}
    assert {**some_seen[0]} == {"start_us": 1, "distance_km": 2.0}


@pytest.mark.parametrize("classes", [("energy",), ("condition",), ("location", "driving")])
async def test_battery_health_is_for_who_sees_energy_and_condition(classes: tuple[str, ...]) -> None:
    assert await taking._battery(MINE)(1, classes) is None
