"""kill -9 of each process of a running region under load: what the cars know to be acknowledged is stored, once, and no more.

The long form, 200 kills at chosen places (between append and fsync, during a merge, ...): benchmarks/kill.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from random import Random

import pytest
import pytest_asyncio
from tests.faults.region import RunningRegion, driving, eventually, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
CARS = {"VF1FAULTX00000001": 5, "VF1FAULTX00000002": 4, "VF1FAULTX00000003": 5}
SEED = 20261122


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region() -> AsyncIterator[RunningRegion]:
    async with running(roles=("store", "worker", "gateway", "api")) as region:
        for vehicle_id, protocol in CARS.items():
            await region.car(vehicle_id, protocol)
        yield region


def pid_of(region: RunningRegion, role: str) -> int | None:
    if role == "postgres":
        return region.supervisor.database_pid
    return next(process.pid for process in region.supervisor.processes if process.role == role)


async def kill(region: RunningRegion, role: str) -> None:
    """kill -9, and wait until the supervisor has put another process in its place."""
    await eventually(lambda: is_another(region, role, None))
    pid = pid_of(region, role)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: is_another(region, role, pid))


async def is_another(region: RunningRegion, role: str, pid: int | None) -> bool:
    return pid_of(region, role) not in (None, pid)


async def kills(region: RunningRegion, roles: list[str], seed: int) -> None:
    print(f"seed {seed}, kills {roles}")
    random = Random(seed)
    async with driving(list(region.cars.values())):
        for role in roles:
            await asyncio.sleep(random.uniform(0.2, 0.8))
            await kill(region, role)
    for car in region.cars.values():
        assert len(car.acknowledged) == car.number, "a car has given up a batch"
    await region.settles(*region.cars)


@pytest.mark.parametrize("role", ["worker", "gateway", "store", "postgres"])
async def test_a_process_killed_twice_loses_and_repeats_nothing(region: RunningRegion, role: str) -> None:
    await kills(region, [role] * 2, SEED)


async def test_the_death_of_the_database_ends_no_other_process(region: RunningRegion) -> None:
    pids = [process.pid for process in region.supervisor.processes]
    restarts = region.supervisor.database_restarts
    await kills(region, ["postgres"], SEED + 1)
    assert region.supervisor.database_restarts == restarts + 1
    assert [process.pid for process in region.supervisor.processes] == pids


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_fifty_kills_of_any_process_lose_and_repeat_nothing(region: RunningRegion) -> None:
    roles = Random(SEED).choices(["worker", "gateway", "store", "postgres", "api"], k=50)
    await kills(region, roles, SEED)
