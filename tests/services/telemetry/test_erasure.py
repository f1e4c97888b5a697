"""Erasing a vehicle that is connected and sending, while a block of it is under way: nothing of the old reference stays."""

from __future__ import annotations

import asyncio
from typing import Any

from rocade.services.telemetry import Asker


class Door:
    def send(self, vehicle_id: str, tail: str, body: bytes) -> None:
        """Nothing is asked for here."""


async def test_a_sending_vehicle_is_erased_and_goes_on_under_its_new_reference(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    await road.publish(context, road.speed_batch(1, [1.0, 2.0]))
    storing, go_on = asyncio.Event(), asyncio.Event()

    async def hold(*_: Any) -> None:
        storing.set()
        await go_on.wait()

    worker, stop = road.worker(), asyncio.Event()
    worker._hooks = (hold,)
    working = asyncio.create_task(worker.run(stop))
    await asyncio.wait_for(storing.wait(), 30)  # its rows are in history, its transaction is open
    forgetting = asyncio.create_task(road.erase(vehicle.ref, "person:1"))
    async with asyncio.timeout(30):
        while not await road.ledger.gone([vehicle.ref], road.clock.now_us()):
            await asyncio.sleep(0.02)
    assert not forgetting.done()
    await road.publish(context, road.speed_batch(2, [3.0]))  # still under the old reference
    go_on.set()
    await asyncio.wait_for(forgetting, 30)
    asker = Asker(intake=road.intake, ledger=road.ledger, records=road.log, sender=Door(), clock=road.clock)  # type: ignore[arg-type]
    await asker.ask_due()
    assert await road.publish(context, road.speed_batch(3, [4.0])) == [None]
    renewed = await road.registry.resolve(vehicle.id)
    async with asyncio.timeout(30):
        while await road.twins.latest(renewed.ref) is None:
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(working, 30)
    assert worker.counters.failures == 0
    assert [value for _, value, _ in (await road.samples(renewed.ref))[road.SPEED]] == [4.0]
    assert await road.samples(vehicle.ref) == {}
    assert await road.twins.latest(vehicle.ref) is None
    assert await road.ledger.load_numbers([vehicle.ref]) == {}
    numbers = (await road.ledger.load_numbers([renewed.ref]))[renewed.ref]
    assert [(state.highest, state.gaps) for state in numbers] == [(3, [(2, 2)])], "1 is erased, 2 came too late for it"
