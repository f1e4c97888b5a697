"""The running count of "acknowledged and lost" is a comparison: nothing is lost, then a loss is planted, and it says so."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from tests.faults.region import RunningRegion, driving, eventually, running

from rocade.agents.vehicle.convoy import Ledger, LedgerLine
from rocade.app import account as account_module
from rocade.app.account import Account
from rocade.core.ports import SystemClock
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
        await store.erase_vehicle(region.history, region.refs[cars[1].vehicle_id])

        async def is_told() -> bool:
            return await account.compare(region.history, log) == cars[1].acknowledged_points > 0

        await eventually(is_told, 5)
        await log.close()
