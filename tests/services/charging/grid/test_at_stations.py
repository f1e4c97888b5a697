"""What stations were told about a signal: a line once their answer came after it, none for what is still only wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.clocks import SetClock
from tests.services.charging.conftest import HOUR_US, TODAY_US

from rocade.services.charging.acting import AtStation
from rocade.services.charging.grid.at_stations import ToldAtStations
from rocade.services.charging.stations.model import Connector, Limit, Slot, Standing

PLACE = Connector("CP-1", 2, 1)


class Hanging:
    async def connectors_of(self, refs: Sequence[int]) -> dict[int, AtStation]:
        return {ref: AtStation("CP-1/2/1") for ref in refs if ref == 7}


class Limits:
    """The newest limit of one connector, as a station left it."""

    def __init__(self, state: Any, code: str = "", at_us: int = TODAY_US) -> None:
        limit = Limit((Slot(TODAY_US - HOUR_US, 4.2),), TODAY_US + HOUR_US)
        self.one = Standing(place=PLACE, version=3, limit=limit, state=state, code=code, at_us=at_us)

    async def standing(self, place: Connector) -> Standing | None:
        return self.one if place == PLACE else None


@pytest.mark.parametrize(("state", "code", "line"), [
    ("accepted", "", ("told", "stations.accepted")), ("proven", "", ("proven", "stations.proven")),
    ("ignored", "stations.limit.ignored", ("told", "stations.limit.ignored")), ("rejected", "x", ("told", "x")),
    ("wanted", "", None), ("ended", "", None),
])  # fmt: skip
async def test_a_stations_answer_is_a_line_of_the_proof(state: str, code: str, line: tuple[str, str] | None) -> None:
    told = ToldAtStations(Limits(state, code), Hanging(), SetClock(TODAY_US))  # type: ignore[arg-type]  # what is asked of both is here
    found = await told([7, 8], TODAY_US - 1)
    assert set(found) == ({7} if line else set())
    if line:
        (proof,) = found[7]
        assert (proof.what, proof.code, proof.ref, proof.kw) == (*line, 7, 4.2)


async def test_what_a_station_said_before_the_signal_proves_nothing() -> None:
    told = ToldAtStations(Limits("proven", at_us=TODAY_US - 10), Hanging(), SetClock(TODAY_US))  # type: ignore[arg-type]  # as above
    assert await told([7], TODAY_US) == {}
