"""A car changes hands while it sends, on a region as `rocade serve` runs it: the connection stays, each owner's time is his.

The sale is decided in this process; gateway and two workers find out as they do in life. The car measures now, keeps its own
account of every sample, and one batch it kept from before the sale comes long after it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import numpy as np
import pytest
from tests.faults.region import POINTS, SPEED, Car, RunningRegion, driving, eventually, frozen, running

from rocade.core.ports import SystemClock, SystemRandom
from rocade.services.consent import Consents, ConsentTable
from rocade.services.telemetry import Handover
from rocade.services.telemetry.chunks import TABLE, samples_of
from rocade.services.vehicles import Registry
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority import AuditLog
from rocade.trust.authority.gate import Principal
from rocade.wire.batch import Batch, Clock, Column, pack

ANA, BEN = "person:a1", "person:b2"


class Live(Car):
    """Measures now; `told` is every sample it was told is safe."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.made: dict[int, tuple[bytes, list[tuple[int, float]]]] = {}
        self.connections = 0

    async def connect(self) -> None:
        self.connections += self.link is None
        await super().connect()

    def batch(self, number: int, *, shift_us: int = 0, compress: bool = False) -> bytes:
        if number not in self.made:
            now_us = SystemClock().now_us()
            times = now_us + (np.arange(POINTS) - POINTS + 1) * 10_000 + shift_us
            values = np.round(number + np.arange(POINTS) / 10, 1)
            body = pack(
                Batch(self.epoch, number, now_us, [Clock(times)], [Column(SPEED, 0, values)]), compress=compress
            )
            self.made[number] = body, list(zip(times.tolist(), values.tolist(), strict=True))
        return self.made[number][0]

    @property
    def told(self) -> list[tuple[int, float]]:
        return sorted(sample for number in self.acknowledged for sample in self.made[number][1])


async def samples(region: RunningRegion, ref: int) -> list[tuple[int, float]]:
    table = await region.history.query(f"SELECT * FROM {TABLE.name} WHERE vehicle = {{v:UInt64}}", {"v": ref})
    found = [samples_of(table.slice(row, 1)) for row in range(table.num_rows)]
    return sorted(
        pair for one in found for pair in zip(one.time_us.tolist(), np.round(one.value, 1).tolist(), strict=True)
    )


@pytest.mark.parametrize("are_workers_asleep", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_a_car_that_is_sold_while_it_sends(are_workers_asleep: bool) -> None:
    async with running(workers=2) as region:
        car = Live("VF1AAAAA555333333", region.configuration.mqtt.port, region.context("VF1AAAAA555333333"), 5)
        clock, random, database = SystemClock(), SystemRandom(), region.database
        registry, ledger = Registry(database, random, clock), region.ledger
        old = (await registry.add(car.vehicle_id, "car", "renault", "Twizy", "electric", "eu")).ref
        region.cars[car.vehicle_id], region.refs[car.vehicle_id] = car, old
        audit = AuditLog(database, region.configuration.trust / "audit", clock)
        handover = Handover(database, registry, TwinStore(database), ledger, clock)
        consents = Consents(database, audit, clock, random, renew=handover.renew)
        table = await ConsentTable.open(database, clock)
        await consents.own(old, ANA)
        workers = [region.process("worker", number) for number in (0, 1)] if are_workers_asleep else []
        async with driving([car]):
            await asyncio.sleep(2)
            car.number += 1
            kept = car.number
            car.batch(kept)  # measured, not sent
            with contextlib.ExitStack() as asleep:
                asleep.enter_context(frozen(*workers))
                done = await consents.claim(await consents.sell(old, ANA), BEN)
                await asyncio.sleep((done.at_us - clock.now_us()) / 1e6 + 1)
            await asyncio.sleep(5)
        assert await car.send(car.made[kept][0]) == 0
        car.acknowledged.add(kept)
        assert car.connections == 1, "the connection followed the vehicle"

        async def is_all_there() -> bool:
            return sorted(await samples(region, old) + await samples(region, done.ref)) == car.told

        await eventually(is_all_there, 60)
        before, after = await samples(region, old), await samples(region, done.ref)
        assert max(time_us for time_us, _ in before) < done.at_us <= min(time_us for time_us, _ in after)
        assert set(car.made[kept][1]) <= set(before)
        assert len(before) + len(after) == len(car.told) == POINTS * len(car.acknowledged)
        (state,) = (await ledger.load_numbers([done.ref]))[done.ref]
        assert (state.highest, state.gaps) == (car.number, []), "no number is missing, so none is asked for"
        assert await region.held(car.vehicle_id) == []
        ana, ben = (Principal("person", who, who, "passkey") for who in (ANA, BEN))
        rights = [table.right(who, ref, "own", clock.now_us()) for who in (ana, ben) for ref in (old, done.ref)]
        assert [(right.relation, bool(right.classes)) for right in rights] == [
            ("former", True), ("none", False), ("none", False), ("owner", True),
        ]  # fmt: skip
        await table.close()
        await audit.close()
