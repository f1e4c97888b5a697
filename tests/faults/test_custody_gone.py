"""A region whose key custody goes away: for some time, and for good. Nothing is acknowledged that is not sealed, nothing is lost."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.faults.region import Car, RunningRegion, driving, eventually

from rocade.app import configuration as settings
from rocade.app.configuration import Custody
from rocade.app.supervisor import Supervisor
from rocade.core.errors import Unavailable
from rocade.core.ports import SystemClock
from rocade.trust.authority.sealing import FileCustody, Keyring
from rocade.trust.identity.keys import write_private

LEASE_S = 2.0


@pytest.fixture
async def region() -> AsyncIterator[RunningRegion]:
    with tempfile.TemporaryDirectory(prefix="rocade-f-") as folder:
        region = RunningRegion(Path(folder))
        changed = msgspec.structs.replace(region.configuration, custody=Custody(lease_s=LEASE_S))
        (changed.root / "rocade.toml").write_text(settings.render(changed))
        try:
            yield await region.start()
        finally:
            await region.stop()


def move(before: Path, after: Path) -> None:
    before.rename(after)


async def is_quiet(cars: list[Car]) -> bool:
    """Whether nobody is told that anything was taken, over a whole lease."""
    before = [len(car.acknowledged) for car in cars]
    await asyncio.sleep(LEASE_S)
    return [len(car.acknowledged) for car in cars] == before


async def said(region: RunningRegion, action: str) -> bool:
    return bool(
        await region.database.pool.fetchval(
            "SELECT count(*) FROM audit_entry WHERE position(convert_to($1, 'UTF8') in body) > 0", f'"{action}"'
        )
    )


@pytest.mark.slow
async def test_custody_that_is_gone_stops_the_intake_and_loses_nothing(region: RunningRegion) -> None:
    custody, away = region.configuration.root / "custody", region.configuration.root / "away"
    cars = [await region.car("VF1CSTDYX00000001", 5), await region.car("VF1CSTDYX00000002", 4)]
    async with driving(cars):
        await eventually(lambda: more(cars, [0, 0]))
        move(custody, away)
        await eventually(lambda: is_quiet(cars))
        assert await said(region, "custody.lost")
        stopped = [len(car.acknowledged) for car in cars]
        move(away, custody)
        await eventually(lambda: more(cars, stopped))
        await eventually(lambda: said(region, "custody.back"))
    for car in cars:
        await region.settles(car.vehicle_id)
    assert restarts(region) == [0, 0], "who waits for custody does not end"


@pytest.mark.slow
async def test_custody_that_is_cut_for_good_leaves_nothing_to_take_or_to_read(region: RunningRegion) -> None:
    custody = region.configuration.root / "custody"
    car = await region.car("VF1CSTDYX00000003", 5)
    for _ in range(5):
        assert await car.send() == 0
    await region.settles(car.vehicle_id)
    swap_key(custody)
    await eventually(lambda: said(region, "custody.refused"))
    await eventually(lambda: is_turned_away(car))
    with pytest.raises(Unavailable, match=r"custody\.refused"):
        await Keyring(region.database, FileCustody(custody), SystemClock()).fetch([(region.refs[car.vehicle_id], 1)])
    assert restarts(region) == [0, 0], "who is cut off does not end"


@pytest.mark.slow
async def test_a_region_starts_without_its_custody_and_takes_up_its_work_when_that_comes() -> None:
    with tempfile.TemporaryDirectory(prefix="rocade-f-") as folder:
        region = RunningRegion(Path(folder))
        custody, away = region.configuration.root / "custody", region.configuration.root / "away"
        try:
            await region.start()  # the first start makes the tables' keys
            vehicle = "VF1CSTDYX00000004"
            assert await (await region.car(vehicle)).send() == 0
            await region.settles(vehicle)
            await region.supervisor.stop()
            move(custody, away)
            region.supervisor = Supervisor(region.configuration)
            await region.supervisor.start(("store", "worker", "gateway"))
            move(away, custody)
            await eventually(lambda: takes(region.cars[vehicle]))
            await region.settles(vehicle)
        finally:
            await region.stop()


async def takes(car: Car) -> bool:
    return not await is_turned_away(car)


def restarts(region: RunningRegion) -> list[int]:
    """Of worker and gateway. The store closes its encrypted disk by ending, and waits at its start."""
    return [process.restarts for process in region.supervisor.processes if process.role != "store"]


def swap_key(custody: Path) -> None:
    """The holder puts another key there: for ever another answer."""
    (custody / "1.key").unlink()
    write_private(custody / "2.key", bytes(32))


async def is_turned_away(car: Car) -> bool:
    """Not let in, or nothing acknowledged."""
    try:
        await car.connect()
        return await car.send(within_s=3.0) != 0
    except ConnectionError:
        return True


async def more(cars: list[Car], before: list[int]) -> bool:
    return all(len(car.acknowledged) > count + 3 for car, count in zip(cars, before, strict=True))
