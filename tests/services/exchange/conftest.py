"""A hub with one rule: everything goes to the service `desk` of this hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.clocks import PassingClock
from tests.services.exchange.hub import ROUTE, Hub, running

from rocade.fabric.database import Database


@pytest.fixture(name="clock")
def a_clock() -> PassingClock:
    return PassingClock()


@pytest.fixture(name="hub")
async def a_hub(tmp_path: Path, database: Database, clock: PassingClock) -> AsyncIterator[Hub]:
    async with running(tmp_path / "eu", database, clock=clock) as hub:
        await hub.rules(ROUTE)
        yield hub
