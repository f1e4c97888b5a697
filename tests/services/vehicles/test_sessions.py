"""A vehicle that connects to a second gateway is taken from the first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rocade.core.ports import SystemRandom
from rocade.fabric.database import Database
from rocade.services.vehicles.sessions import GatewaySessions

type Gateways = list[tuple[GatewaySessions, list[tuple[str, int]]]]


@pytest.fixture
async def gateways(database: Database) -> AsyncIterator[Gateways]:
    """Two gateways and what each of them was told."""
    found = []
    for _ in range(2):
        sessions, told = GatewaySessions(database, SystemRandom()), list[tuple[str, int]]()
        task = asyncio.create_task(sessions.listen(lambda vehicle, claim, told=told: told.append((vehicle, claim))))
        found.append((sessions, told, task))
    listening = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'"
    )
    async with asyncio.timeout(30):
        while await database.pool.fetchval(listening) < len(found):
            await asyncio.sleep(0.02)
    yield [(sessions, told) for sessions, told, _ in found]
    for _, _, task in found:
        task.cancel()


async def until(told: list[tuple[str, int]]) -> None:
    async with asyncio.timeout(30):
        while not told:
            await asyncio.sleep(0.02)


async def test_the_gateway_that_had_it_is_told_and_the_new_one_is_not(gateways: Gateways) -> None:
    (first, told_first), (second, told_second) = gateways
    earlier = await first.claim("VF1 with a space")
    later = await second.claim("VF1 with a space")
    await until(told_first)
    assert later > earlier
    assert told_first == [("VF1 with a space", later)]
    assert all(claim <= earlier for _, claim in told_second), "of what it has itself it hears no newer claim"


async def test_a_late_release_does_not_undo_a_newer_claim(gateways: Gateways, database: Database) -> None:
    (first, _), (second, _) = gateways
    earlier = await first.claim("VF1A")
    later = await second.claim("VF1A")
    await first.release("VF1A", earlier)
    [row] = await database.pool.fetch("SELECT id, claim FROM vehicle_session")
    assert row["claim"] == later
    assert "VF1A" not in row["id"], "the table holds no vehicle number"
    await second.release("VF1A", later)
    assert await database.pool.fetchval("SELECT count(*) FROM vehicle_session") == 0
