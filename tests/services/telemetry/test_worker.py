"""From the intake to twin and history with real engines."""

from __future__ import annotations

from typing import Any


async def test_what_is_acknowledged_is_in_history_and_twin_once(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    verdicts = await road.publish(context, road.speed_batch(1, [1.5, 2.5, 3.5]), road.speed_batch(2, [4.5]))
    assert verdicts == [None, None]
    worker = await road.drain()
    assert (worker.counters.batches, worker.counters.points, worker.counters.failures) == (2, 4, 0)
    samples = await road.samples(vehicle.ref)
    assert samples == {
        road.SPEED: [(road.T0_US + 60_000_000 + k * 1_000_000, 1.5 + k, 0) for k in range(3)]
        + [(road.T0_US + 120_000_000, 4.5, 0)]
    }
    twin = await road.twins.latest(vehicle.ref)
    assert twin is not None
    assert (twin.reported[road.SPEED].value, twin.reported[road.SPEED].time_us) == (4.5, road.T0_US + 120_000_000)
    assert twin.speed_kmh == 4.5
