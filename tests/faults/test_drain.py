"""SIGTERM drains: every role ends with exit 0, cars are told, and another worker goes on at once.

A role cuts its drain off after `roles.DRAIN_S`, and the supervisor kills after as long: neither ends with 0. By default the
roles have two minutes here, whatever else the machine does; that ten seconds are enough is the slow form's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.faults.region import Car, RunningRegion, driving, eventually, running

from rocade.app.roles import OVERDUE
from rocade.wire import mqtt as wire

pytestmark = pytest.mark.asyncio(loop_scope="module")
CARS = {"VF1DRAANX00000001": 5, "VF1DRAANX00000002": 4}
PATIENT = "from rocade.app import cli, roles; roles.DRAIN_S = 120.0; cli.main(prog_name='rocade')"
PATIENCE_S = 150.0
LIMIT_S = 10.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region() -> AsyncIterator[RunningRegion]:
    async with running(workers=2, program=(sys.executable, "-c", PATIENT)) as region:
        for vehicle_id, protocol in CARS.items():
            await region.car(vehicle_id, protocol)
        yield region


async def terminate(region: RunningRegion, role: str, number: int = 0) -> float:
    """SIGTERM to one process; the seconds it took to end, which must be with exit 0."""
    one = [process for process in region.supervisor.processes if process.role == role][number]
    process, began_s = one._process, time.monotonic()
    assert process is not None
    os.kill(process.pid, signal.SIGTERM)
    status = await asyncio.wait_for(process.wait(), PATIENCE_S)
    assert status == 0
    return time.monotonic() - began_s


async def holders(region: RunningRegion) -> dict[str, int]:
    rows = await region.database.pool.fetch("SELECT coalesce(owner, '') AS owner, count(*) AS n FROM lease GROUP BY 1")
    return {row["owner"]: row["n"] for row in rows}


async def test_a_worker_hands_its_partitions_over_at_once(region: RunningRegion) -> None:
    await eventually(lambda: is_shared(region))
    cars = [region.cars[vehicle_id] for vehicle_id in CARS]
    async with driving(cars):
        await asyncio.sleep(1)
        pid = region.process("worker")
        took_s = await terminate(region, "worker")
        assert not any(owner.endswith(f":{pid}") for owner in await holders(region)), "it kept what it held"
        orphans_s = await eventually(lambda: is_rid_of(region, pid))
        print(f"worker ended after {took_s:.2f} s, its partitions had a new owner {orphans_s:.2f} s later")
        await asyncio.sleep(0.5)
    await region.settles(*CARS)


async def is_shared(region: RunningRegion) -> bool:
    return sorted((await holders(region)).values()) == [32, 32]


async def is_rid_of(region: RunningRegion, pid: int) -> bool:
    """Every partition has an owner, and it is not this process."""
    return not any(owner == "" or owner.endswith(f":{pid}") for owner in await holders(region))


async def test_a_gateway_answers_what_it_has_read_and_tells_its_cars(region: RunningRegion) -> None:
    five, four = [region.cars[vehicle_id] for vehicle_id in CARS]
    for car in (five, four):
        await car.connect()
    sent = [await publish(car, 30) for car in (five, four)]
    took_s = await terminate(region, "gateway")
    reasons = [await last_words(car, numbers) for car, numbers in zip((five, four), sent, strict=True)]
    print(
        f"gateway ended after {took_s:.2f} s; acknowledged of 30: {[len(car.acknowledged & set(n)) for car, n in zip((five, four), sent, strict=True)]}"
    )
    assert reasons == [wire.Reason.SERVER_SHUTTING_DOWN, None], "3.1.1 has no way to be told"
    for car, numbers in zip((five, four), sent, strict=True):
        await eventually(lambda car=car: can_connect(car))
        for number in sorted(set(numbers) - car.acknowledged):
            assert await car.send(car.batch(number)) == 0
            car.note(number)
    await region.settles(*CARS)


async def publish(car: Car, count: int) -> list[int]:
    """Many batches in one go, no answer awaited."""
    assert car.link is not None
    numbers = list(range(car.number + 1, car.number + count + 1))
    car.number += count
    for number in numbers:
        car.link.publish(number, car.batch(number))
    await car.link.writer.drain()
    return numbers


async def last_words(car: Car, numbers: list[int]) -> int | None:
    """Read until the connection ends: notes acknowledgements, returns the reason of a DISCONNECT."""
    assert car.link is not None
    reason = None
    while (packet := await car.link.receive(PATIENCE_S)) is not None:
        if isinstance(packet, wire.Puback) and not packet.reason:
            car.note(packet.packet_id)
            assert packet.packet_id in numbers
        elif isinstance(packet, wire.Disconnect):
            reason = packet.reason
    car.hang_up()
    return reason


async def can_connect(car: Car) -> bool:
    await car.connect()
    return True


async def test_the_store_ends_in_time_under_load(region: RunningRegion) -> None:
    car = region.cars["VF1DRAANX00000001"]
    async with driving([car]):
        await asyncio.sleep(0.5)
        await terminate(region, "store")
    await region.settles(car.vehicle_id)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_role_ends_within_ten_seconds_under_load() -> None:
    async with running(workers=2) as region:
        car = await region.car("VF1DRAANX00000003")
        async with driving([car]):
            for role in ("worker", "gateway", "store"):
                assert await terminate(region, role) < LIMIT_S
        await region.settles(car.vehicle_id)


@pytest.mark.slow
async def test_a_worker_ends_in_time_while_the_database_is_silent() -> None:
    async with running(workers=2) as region:
        await worker_ends(region)


async def worker_ends(region: RunningRegion) -> None:
    pid = region.supervisor.database_pid
    assert pid is not None
    group = [pid, *children_of(pid)]
    for one in group:
        os.kill(one, signal.SIGSTOP)
    try:
        one = [process for process in region.supervisor.processes if process.role == "worker"][1]
        process, began_s = one._process, time.monotonic()
        assert process is not None
        os.kill(process.pid, signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) in (0, OVERDUE)
        print(f"worker ended after {time.monotonic() - began_s:.2f} s")
    finally:
        for one in group:
            os.kill(one, signal.SIGCONT)


def children_of(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


async def test_a_whole_region_ends_within_ten_seconds() -> None:
    with tempfile.TemporaryDirectory(prefix="rocade-f-") as directory:
        region = RunningRegion(Path(directory))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rocade", "serve", "--config", str(region.configuration.root / "rocade.toml"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        assert b"rocade eu" in await asyncio.wait_for(process.stdout.readline(), 200)
        began_s = time.monotonic()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        print(f"the region ended after {time.monotonic() - began_s:.2f} s")
