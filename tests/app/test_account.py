"""The running count of "acknowledged and lost" is a comparison: nothing is lost, then a loss is planted, and it says so."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console
from tests.faults.region import RunningRegion, driving, eventually, running

from rocade.agents.vehicle.convoy import Ledger, LedgerLine
from rocade.app import account as account_module
from rocade.app import demo
from rocade.app.account import Account
from rocade.core.ports import SystemClock
from rocade.fabric.history import History
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.telemetry import store


def ledger_of(region: RunningRegion) -> Ledger:
    return Ledger(
        tuple(
            LedgerLine(car.vehicle_id, f"{car.epoch:016x}", car.number, len(car.acknowledged), car.acknowledged_points, (), ())
            for car in region.cars.values()
        )
    )  # fmt: skip


async def test_a_planted_loss_is_counted_and_lag_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "SETTLED_S", 1.0)
    async with running(lease_s=2.0) as region:
        cars = [await region.car(f"VF1ACCTNX{number:08}") for number in (1, 2)]
        log, account = PostgresLog(region.database), Account(region.refs, 0, SystemClock())
        async with driving(cars):
            for turn in range(5):
                if turn == 2:
                    os.kill(region.process("worker"), signal.SIGKILL)
                await asyncio.sleep(0.6)
                account.take(ledger_of(region))
                assert await account.compare(region.history, log) == 0, "a dead worker is lag, not loss"
        await region.settles(*region.cars)
        account.take(ledger_of(region))
        await asyncio.sleep(1.1)
        assert await account.compare(region.history, log) == 0
        await store.erase_vehicles(region.history, [region.refs[cars[1].vehicle_id]])

        async def is_told() -> bool:
            return await account.compare(region.history, log) == cars[1].acknowledged_points > 0

        await eventually(is_told)
        await log.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_demo_shows_a_planted_loss_while_it_drives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The history "forgets" one vehicle; the pull-the-plug corner says so before the drive ends."""
    monkeypatch.setattr(account_module, "SETTLED_S", 2.0)
    monkeypatch.setattr(demo, "ACCOUNT_S", 0.5)
    asked: list[int] = []

    async def forgetful(history: History, vehicles: list[int], since_us: int) -> dict[int, int]:
        stored = await points_by_vehicle(history, vehicles, since_us)
        asked.append(len(vehicles))
        if len(asked) > 8:
            stored.pop(vehicles[0], None)
        return stored

    points_by_vehicle = account_module.points_by_vehicle
    monkeypatch.setattr(account_module, "points_by_vehicle", forgetful)
    driven = demo._Demo(tmp_path / "demo", 5, 30.0, Console(quiet=True), with_chaos=False)
    running_demo = asyncio.create_task(driven.run())
    told: list[object] = []
    while not running_demo.done():
        await asyncio.sleep(0.5)
        told.append((await driven._totals({}))["lost"])
        if told[-1]:
            driven.seconds = 1.0
    assert await running_demo == 0, "the final account asks the history itself"
    assert told[0] == 0
    assert any(told)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_demo_shows_a_gap_open_and_being_sent_again_when_a_car_is_cut(tmp_path: Path) -> None:
    """The corner's own numbers: missing goes up, the senders count what they were asked for, missing goes back to none."""
    driven = demo._Demo(tmp_path / "demo", 5, 60.0, Console(quiet=True), with_chaos=True)
    running_demo = asyncio.create_task(driven.run())
    told: list[dict[str, object]] = []
    while not running_demo.done():
        await asyncio.sleep(0.5)
        if driven.gaps is not None:
            told.append(await driven._totals({}))
        if told and told[-1]["resent"] and not told[-1]["missing"]:
            driven.seconds = 1.0
    assert await running_demo == 0
    opened = next(place for place, one in enumerate(told) if one["missing"])
    assert told[opened]["resent"] == 0
    assert any(one["resent"] and not one["missing"] for one in told[opened:])
    assert {one["lost"] for one in told} == {0}
