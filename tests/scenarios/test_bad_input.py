"""Everything bad that a sender, a disk or a database can do to a running region: each gets a clear error and loses nothing.

One region as `rocade serve` runs it for the whole module (two workers), real connections over mutual TLS, MQTT 3.1.1 and 5.
After each case the car sends on, and history and twin equal what the car knows to be acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio
import zstandard
from tests.faults.region import POINTS, SPEED, Car, RunningRegion, driving, eventually, frozen, running

from rocade.app.supervisor import set_ballast
from rocade.core.signals import Quality
from rocade.services.telemetry import store
from rocade.services.telemetry.gaps import MAX_AHEAD
from rocade.wire import mqtt as wire
from rocade.wire.batch import Batch, Clock, Column, layout, pack

pytestmark = pytest.mark.asyncio(loop_scope="module")
VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "batch-vectors.json").read_text("utf-8"))
HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
LEASE_S = 2.0
BAD_PAYLOAD, NOT_AUTHORIZED, TOO_LARGE = 0x99, 0x87, 0x95
_numbers = iter(range(1, 10_000))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region() -> AsyncIterator[RunningRegion]:
    async with running(workers=2, lease_s=LEASE_S) as region:
        yield region


@pytest_asyncio.fixture(loop_scope="module")
async def five(region: RunningRegion) -> Car:
    """A connected car that speaks MQTT 5, its first batch acknowledged."""
    return await started(region, 5)


@pytest_asyncio.fixture(loop_scope="module")
async def four(region: RunningRegion) -> Car:
    return await started(region, 4)


async def started(region: RunningRegion, protocol: int) -> Car:
    car = await region.car(f"VF1BADNPX{next(_numbers):08}", protocol)
    assert await car.send() == 0
    return car


async def goes_on(region: RunningRegion, *cars: Car) -> None:
    """The car still gets through, and nothing of it is lost or doubled."""
    for car in cars:
        await car.connect()
        assert await car.send() == 0
    await region.settles(*(car.vehicle_id for car in cars))


async def is_held(region: RunningRegion, car: Car, *reasons: str) -> None:
    await eventually(lambda: _equals(region, car, reasons))


async def _equals(region: RunningRegion, car: Car, reasons: tuple[str, ...]) -> bool:
    return sorted(await region.held(car.vehicle_id)) == sorted(reasons)


async def refused_five_held_four(
    region: RunningRegion, five: Car, four: Car, code: str, five_body: bytes, four_body: bytes
) -> None:
    """MQTT 5 is told; of MQTT 3.1.1 the record is in quarantine with its reason, and acknowledged."""
    assert (await five.send(five_body), five.said) == (BAD_PAYLOAD, code)
    assert await four.send(four_body) == 0
    await is_held(region, four, code)
    await goes_on(region, five, four)
    assert await region.held(five.vehicle_id) == []


# --- who sends --------------------------------------------------------------------------------------------------------


async def test_a_topic_of_another_vehicle_is_refused_and_audited(region: RunningRegion, five: Car, four: Car) -> None:
    for car, other in ((five, four), (four, five)):
        assert car.link is not None
        own, car.link.up = car.link.up, f"rocade/v1/{other.vehicle_id}/up/batch"
        reason = await car.send(car.batch(99))
        assert reason == (NOT_AUTHORIZED if car.protocol == 5 else -1), "3.1.1 is disconnected"
        if car.link is not None:
            car.link.up = own
        await eventually(lambda car=car: region.is_audited(car.vehicle_id, "mqtt.topic"))
    await goes_on(region, five, four)


async def test_a_batch_that_names_another_vehicle_is_refused(region: RunningRegion, five: Car, four: Car) -> None:
    def naming(car: Car, other: Car) -> bytes:
        envelope = layout.Envelope.FromString(car.batch(50))
        envelope.vehicle_id = other.vehicle_id
        return bytes(envelope.SerializeToString(deterministic=True))

    await refused_five_held_four(region, five, four, "batch.vehicle", naming(five, four), naming(four, five))


async def test_a_certificate_that_expires_while_connected_ends_the_connection(
    region: RunningRegion, five: Car, four: Car
) -> None:
    for car in (five, four):
        good = car.context
        for life_s in (5, 20, 80):  # a busy machine may need more to let it in
            car.context = region.context(car.vehicle_id, life_s * 1_000_000)
            car.hang_up()
            with contextlib.suppress(OSError):
                await car.connect()
                if await car.send() == 0:
                    break
        assert car.link is not None
        last = await car.link.receive()
        if car.protocol == 5:
            assert isinstance(last, wire.Disconnect)
            assert (last.reason, last.properties.reason_string) == (NOT_AUTHORIZED, "trust.certificate.expired")
        else:
            assert last is None
        car.hang_up()
        with pytest.raises(OSError):
            await car.connect()
        car.context = good
        await eventually(lambda car=car: region.is_audited(car.vehicle_id, "trust.certificate.expired"))
    await goes_on(region, five, four)


# --- numbers and clocks -----------------------------------------------------------------------------------------------


async def test_a_number_sent_again_is_acknowledged_and_stored_once(region: RunningRegion, five: Car, four: Car) -> None:
    for car in (five, four):
        for _ in range(3):
            assert await car.send(car.batch(1)) == 0
        other = pack(
            Batch(
                car.epoch, 1, car.started_us, [Clock(np.array([car.started_us]))], [Column(SPEED, 0, np.array([77.0]))]
            )
        )
        assert await car.send(other) == 0, "the number decides, not the content"
    await goes_on(region, five, four)


async def test_a_number_far_ahead_is_held_and_harms_no_other(region: RunningRegion, five: Car, four: Car) -> None:
    for car in (five, four):
        assert await car.send(car.batch(1 + MAX_AHEAD + 1)) == 0
        await is_held(region, car, "sequence.far_ahead")
    await goes_on(region, five, four)


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_clock_a_day_off_is_stored_at_its_own_time_and_flagged_when_it_is_ahead(
    region: RunningRegion, five: Car, days: int
) -> None:
    number = five.number = five.number + 1
    assert await five.send(five.batch(number, shift_us=days * DAY_US)) == 0
    five.acknowledged.add(number)
    await eventually(lambda: _has(region, five))
    at_us = five.started_us + days * DAY_US
    found = await store.series(region.history, region.refs[five.vehicle_id], SPEED, at_us - HOUR_US, at_us + HOUR_US)
    assert len(found.value) == POINTS
    assert {int(quality) & Quality.CLOCK for quality in found.quality} == ({Quality.CLOCK} if days > 0 else {0})


async def _has(region: RunningRegion, car: Car) -> bool:
    return await region.stored(car.vehicle_id) == car.acknowledged_points


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_a_batch_of_100_megabytes_is_refused_before_it_is_read(
    region: RunningRegion, five: Car, four: Car
) -> None:
    before_bytes = memory_bytes(region)
    for car in (five, four):
        assert car.link is not None
        topic = car.link.up.encode()
        car.link.writer.write(b"\x32" + _length(100_000_000) + struct.pack(">H", len(topic)) + topic + bytes(100_000))
        last = await car.link.receive()
        if car.protocol == 5:
            assert isinstance(last, wire.Disconnect)
            assert last.reason == TOO_LARGE
        else:
            assert last is None
        car.hang_up()
        await eventually(lambda car=car: region.is_audited(car.vehicle_id, "mqtt.too_large"))
    assert memory_bytes(region) - before_bytes < 20_000_000
    await goes_on(region, five, four)


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def memory_bytes(region: RunningRegion) -> int:
    return int(psutil.Process(region.process("gateway")).memory_info().rss)


@pytest.mark.parametrize(
    ("declared", "code"), [(1 << 30, "batch.size"), (4_000, "batch.compression"), (8 << 20, "batch.compression")]
)
async def test_a_zstd_bomb_is_refused_without_being_unpacked(
    region: RunningRegion, five: Car, four: Car, declared: int, code: str
) -> None:
    bomb = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(bytes(1 << 30))
    before_bytes = memory_bytes(region)

    def body(car: Car) -> bytes:
        envelope = layout.Envelope.FromString(car.batch(60))
        envelope.encoding, envelope.body, envelope.body_size, envelope.checksum = (
            layout.ZSTD,
            bomb,
            declared,
            zlib.crc32(bomb),
        )
        return bytes(envelope.SerializeToString(deterministic=True))

    assert (await five.send(body(five)), five.said) in ((BAD_PAYLOAD, code), (BAD_PAYLOAD, "batch.size"))
    assert await four.send(body(four)) == 0
    await eventually(lambda: _is_any_held(region, four))
    assert memory_bytes(region) - before_bytes < 40_000_000
    await goes_on(region, five, four)


async def _is_any_held(region: RunningRegion, car: Car) -> bool:
    return len(await region.held(car.vehicle_id)) == 1


async def test_a_truncated_batch_is_refused(region: RunningRegion, five: Car, four: Car) -> None:
    await refused_five_held_four(region, five, four, "batch.malformed", five.batch(9)[:-7], four.batch(9)[:-7])


async def test_every_broken_batch_of_the_specification_is_refused_with_its_code(
    region: RunningRegion, five: Car, four: Car
) -> None:
    wanted = []
    for vector in VECTORS["refused"]:
        body = bytes.fromhex(vector["hex"])
        if vector["code"] == "batch.words":  # an index is a value: the worker finds it, and holds the record
            assert await five.send(body) == 0
        else:
            assert (await five.send(body), five.said) == (BAD_PAYLOAD, vector["code"])
        assert await four.send(body) == 0
        wanted.append(vector["code"])
    await is_held(region, four, *wanted)
    await is_held(region, five, "batch.words")
    await goes_on(region, five, four)


JSON_HEAD = (
    '{"version":1,"epoch":"00000000000000a1","sequence":%d,"sent_at_us":%d,"clocks":[{"times_us":[%d]}],"columns":'
)


@pytest.mark.parametrize(
    "columns",
    [
        '[{"signal":"Vehicle.Speed","clock":0,"values":[true,"a"]}]',
        '[{"signal":"Vehicle.Speed","clock":0,"values":[NaN]}]',
        '[{"signal":"Vehicle.Speed","clock":0,"values":[Infinity]}]',
        '[{"signal":"Vehicle.Speed","clock":7,"values":[1]}]',
        '[{"signal":["Vehicle.Speed"],"clock":0,"values":[1]}]',
        '"Vehicle.Speed"',
    ],
)
async def test_json_of_wrong_types_is_refused(region: RunningRegion, five: Car, four: Car, columns: str) -> None:
    for car in (five, four):
        assert car.link is not None
        own, car.link.up = car.link.up, car.link.up.replace("/batch", "/json")
        reason = await car.send((JSON_HEAD % (5, car.started_us, car.started_us) + columns + "}").encode())
        assert car.link is not None
        car.link.up = own
        if car.protocol == 5:
            assert reason == BAD_PAYLOAD
            assert car.said.startswith("batch.")
        else:
            assert reason == 0
            await eventually(lambda car=car: _is_any_held(region, car))
    await goes_on(region, five, four)


async def test_unknown_signals_are_stored_and_reported(region: RunningRegion, five: Car) -> None:
    five.number += 1
    times = five.started_us + np.arange(POINTS) * 1_000_000
    body = pack(
        Batch(five.epoch, five.number, int(times[-1]), [Clock(times)], [Column(987_654, 0, np.arange(POINTS) * 1.5)])
    )
    assert await five.send(body) == 0
    five.acknowledged.add(five.number)
    await eventually(lambda: _has(region, five))
    await eventually(lambda: _is_reported(region, 987_654, five))
    assert await region.held(five.vehicle_id) == []


async def _is_reported(region: RunningRegion, signal_id: int, car: Car) -> bool:
    return (signal_id, region.refs[car.vehicle_id]) in {(one.signal, one.ref) for one in await region.ledger.unknown()}


async def test_nan_and_infinity_are_stored_flagged_and_kept_out_of_means(region: RunningRegion, five: Car) -> None:
    five.number += 1
    times = five.started_us + five.number * POINTS * 1_000_000 + np.arange(POINTS) * 1_000_000
    values = np.array([50.0, float("nan"), float("inf"), -float("inf"), 51.0])
    assert (
        await five.send(
            pack(Batch(five.epoch, five.number, int(times[-1]), [Clock(times)], [Column(SPEED, 0, values)]))
        )
        == 0
    )
    five.acknowledged.add(five.number)
    await eventually(lambda: _has(region, five))
    found = await store.series(region.history, region.refs[five.vehicle_id], SPEED, int(times[0]), int(times[-1]) + 1)
    assert [bool(int(quality) & Quality.NOT_FINITE) for quality in found.quality] == [False, True, True, True, False]
    np.testing.assert_array_equal(found.value, values)
    await goes_on(region, five)


# --- what breaks ------------------------------------------------------------------------------------------------------


async def test_a_full_disk_makes_cars_wait_and_refuses_nobody(region: RunningRegion, five: Car, four: Car) -> None:
    set_ballast(region.configuration, is_full=True)
    try:
        waiting = [asyncio.create_task(car.send()) for car in (five, four)]
        async with asyncio.timeout(60):  # until the guard has looked, they are acknowledged
            while (await asyncio.wait(waiting, timeout=1.5, return_when=asyncio.FIRST_COMPLETED))[0]:
                for at, car in enumerate((five, four)):
                    if waiting[at].done():
                        assert waiting[at].result() == 0, "refused"
                        waiting[at] = asyncio.create_task(car.send())
    finally:
        set_ballast(region.configuration, is_full=False)
    assert await asyncio.gather(*waiting) == [0, 0]
    await goes_on(region, five, four)


async def database_gone(region: RunningRegion, cars: list[Car], seconds: float) -> None:
    """Every process of PostgreSQL stands still: connections stay open and answer nothing."""
    server = psutil.Process(region.supervisor.database_pid)
    pids = [server.pid, *(child.pid for child in server.children(recursive=True))]
    processes = [process.pid for process in region.supervisor.processes]
    with frozen(*pids):
        await asyncio.sleep(0.2)
        waiting = [asyncio.create_task(car.send(within_s=seconds + 60)) for car in cars]
        await asyncio.sleep(seconds)
        assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [0] * len(cars)
    await goes_on(region, *cars)
    assert [process.pid for process in region.supervisor.processes] == processes, "no process ended over it"


async def test_a_database_gone_for_a_while_loses_nothing(region: RunningRegion, five: Car, four: Car) -> None:
    await database_gone(region, [five, four], 4.0)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_database_gone_for_60_s_loses_nothing(region: RunningRegion, five: Car, four: Car) -> None:
    await database_gone(region, [five, four], 60.0)


async def test_the_store_process_killed_loses_nothing(region: RunningRegion, five: Car, four: Car) -> None:
    async with driving([five, four]):
        await asyncio.sleep(0.5)
        os.kill(region.process("store"), signal.SIGKILL)
        await asyncio.sleep(1.5)
    await region.settles(five.vehicle_id, four.vehicle_id)


async def test_two_workers_that_claim_the_same_partitions_store_everything_once(
    region: RunningRegion, five: Car, four: Car
) -> None:
    """One worker sleeps past its leases; the other takes over; the sleeper wakes and still believes."""
    cars = [five, four, *[await started(region, 5) for _ in range(4)]]
    async with driving(cars):
        await asyncio.sleep(0.5)
        for number in (0, 1):
            with frozen(region.process("worker", number)):
                await asyncio.sleep(LEASE_S * 4 / 3 + 0.7)
            await asyncio.sleep(0.7)
    await region.settles(*(car.vehicle_id for car in cars))
