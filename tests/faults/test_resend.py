"""A gap, end to end: records missing on the platform's side are asked for over MQTT and the reference agent answers.

Two ways a region comes to miss numbers: a car that was cut off says first where it is, so its newest batch overtakes
those made meanwhile; and a region whose disk was lost goes on from an older copy, so that it no longer has what it had
acknowledged. Both times gap list, request, answer and history are the real ones; the senders' own account decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tests.faults.region import POINTS, SPEED, RunningRegion, eventually, running

from rocade.agents.link import Backoff
from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.journal import Journal
from rocade.app.supervisor import Supervisor
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.status import StatusBoard
from rocade.services.vehicles import Registry
from rocade.trust.identity import tls
from rocade.wire.batch import Batch, Clock, Column

VIN = "VF1RESENX00000001"


class Sender:
    """The reference agent of one registered vehicle, its journal on disk."""

    def __init__(self, region: RunningRegion, past_per_s: float) -> None:
        identity = region.directory / "sender"
        region.authority.credential(region.authority.identity("vehicle", VIN)).write(identity)
        clock, random = SystemClock(), SystemRandom()
        self.region = region
        self.journal = Journal(region.directory / "journal.sqlite3", clock, random)
        self.agent = Agent(
            VIN, "localhost", region.configuration.mqtt.port, self.journal, lambda: tls.client_context(identity),
            clock, random, backoff=Backoff(first_s=0.1, most_s=0.5), past_per_s=past_per_s,
        )  # fmt: skip
        self.started_us = clock.now_us() // 1_000_000 * 1_000_000 - 3_600_000_000

    def make(self, count: int) -> None:
        """Put `count` batches of POINTS values each into the journal."""
        for _ in range(count):
            number = self.journal.next_sequence
            times = self.started_us + number * POINTS * 1_000_000 + np.arange(POINTS) * 1_000_000
            column = Column(SPEED, 0, (number + np.arange(POINTS) / 10.0) % 200, decimals=1)
            self.journal.append([(Batch(0, 0, 0, [Clock(times)], [column]), POINTS)])
        self.agent.wake()

    async def missing(self) -> list[tuple[int, int]]:
        """What the region's own gap list says is missing."""
        states = await self.region.ledger.numbers(self.region.refs[VIN])
        return states[0].gaps if states else []

    async def is_settled(self, made: int) -> bool:
        """Everything made is acknowledged and stored, nothing is missing, nothing is there twice."""
        if self.journal.count_waiting() or await self.missing():
            return False
        assert await self.region.stored(VIN) <= made * POINTS, "something was stored twice"
        return await self.region.stored(VIN) == made * POINTS == self.journal.acknowledged_points


@contextlib.asynccontextmanager
async def sending(region: RunningRegion, past_per_s: float) -> AsyncIterator[Sender]:
    registry = Registry(region.database, SystemRandom(), SystemClock())
    region.refs[VIN] = (await registry.add(VIN, "car", "renault", "Twizy", "electric", "eu")).ref
    sender = Sender(region, past_per_s)
    task = asyncio.create_task(sender.agent.run())

    async def is_connected() -> bool:
        return sender.agent.is_connected

    await eventually(is_connected)
    try:
        yield sender
    finally:
        await sender.agent.stop()
        await asyncio.wait_for(task, 30)
        sender.journal.close()


async def test_what_a_car_made_while_it_was_cut_off_is_missed_asked_for_and_sent_once() -> None:
    async with running() as region, sending(region, past_per_s=0.0) as sender:
        sender.make(3)
        await eventually(lambda: sender.is_settled(3))
        began_s = time.monotonic()
        sender.agent.cut(0.5)
        sender.make(6)

        async def is_missed() -> bool:
            return (await sender.missing(), sender.journal.count_waiting()) == ([(4, 8)], 5)

        await eventually(is_missed)
        assert sender.agent.counters.asked_again == 0
        await eventually(lambda: sender.is_settled(9))
        assert time.monotonic() - began_s > 9, "a fresh gap is given time to close by itself"
        assert sender.agent.counters.asked_again == 5

        async def is_told() -> bool:
            reported = {one.role: one.values for one in await StatusBoard(region.database, SystemClock()).read()}
            return reported["gateway"]["resend_asked"] == 1 and reported["worker"]["duplicates"] == 0

        await eventually(is_told)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_region_that_goes_on_from_an_older_copy_gets_back_what_it_had_acknowledged() -> None:
    with tempfile.TemporaryDirectory(prefix="rocade-f-") as directory:
        region = await RunningRegion(Path(directory), lease_s=2.0).start()
        try:
            async with sending(region, past_per_s=100.0) as sender:
                sender.make(4)
                await eventually(lambda: sender.is_settled(4))
                await restart(region, lambda home: shutil.copytree(home, region.directory / "copy", symlinks=True))
                sender.make(5)
                await eventually(lambda: sender.is_settled(9), 40)
                await restart(region, lambda home: put_back(region.directory / "copy", home))
                assert await region.stored(VIN) == 4 * POINTS < sender.journal.acknowledged_points
                sender.make(1)

                async def is_missed() -> bool:
                    return await sender.missing() == [(5, 9)]

                await eventually(is_missed, 40)
                await eventually(lambda: sender.is_settled(10), 40)
                assert sender.agent.counters.asked_again == 5
        finally:
            await region.stop()


async def restart(region: RunningRegion, meanwhile: object) -> None:
    """Stop every process, do something with the region's folder, start again."""
    await region.stop()
    assert callable(meanwhile)
    await asyncio.to_thread(meanwhile, region.configuration.root)
    region.supervisor = Supervisor(region.configuration)
    await region.start()


def put_back(copy: Path, home: Path) -> None:
    shutil.rmtree(home)
    copy.rename(home)
