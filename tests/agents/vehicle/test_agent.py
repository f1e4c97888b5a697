"""The agent loses nothing and forces nothing: whatever the platform answers, every batch ends where it belongs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.journal import Journal
from rocade.wire.batch import Batch, Clock, Column, check_many, decode_many
from rocade.wire.mqtt import Connack, Disconnect, Publish

MakeJournal = Callable[..., Journal]
MakeAgent = Callable[..., Agent]


def batches(count: int, rows: int = 3) -> list[tuple[Batch, int]]:
    made = []
    for place in range(count):
        at_us = 1_700_000_000_000_000 + np.arange(rows) * 1_000_000 + place * 60_000_000
        made.append((Batch(0, 0, 0, [Clock(at_us)], [Column(1, 0, np.arange(rows) + place)]), rows))
    return made


@contextlib.asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[None]:
    task = asyncio.create_task(agent.run())
    try:
        yield
    finally:
        await agent.stop()
        await asyncio.wait_for(task, 30)


async def drained(agent: Agent) -> None:
    await asyncio.wait_for(agent.drained(), 30)


async def until(condition: Callable[[], bool]) -> None:
    """Look every 10 ms, for at most 30 s."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_all_that_is_in_the_journal_arrives_once(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    journal = make_journal()
    journal.append(batches(30))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
        journal.append(batches(10))
        agent.wake()
        await drained(agent)
    checked = check_many(platform.bodies)
    assert sorted(checked.sequence.tolist()) == list(range(1, 41))
    assert set(checked.epoch.tolist()) == {journal.epoch}
    assert (journal.acknowledged_batches, journal.acknowledged_points) == (40, 120)
    assert set(platform.seen.values()) == {1}
    assert decode_many([platform.bodies[0]]).columns.rows.tolist() == [3]


async def test_the_window_of_the_platform_is_kept(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    platform.answer = lambda _sequence, _times: None
    journal = make_journal()
    journal.append(batches(30))
    agent = make_agent(journal)
    async with running(agent):
        await until(lambda: len(platform.seen) >= 5)
        await asyncio.sleep(0.2)
        assert len(platform.seen) == 5


async def test_a_cut_connection_is_made_again_and_nothing_is_missing(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    platform.answer = lambda sequence, times: -1 if sequence % 7 == 0 and times == 1 else 0
    journal = make_journal()
    journal.append(batches(40))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
    assert platform.acknowledged == set(range(1, 41))
    assert len(platform.connects) >= 6
    assert journal.acknowledged_points == 120


async def test_over_quota_backs_off_and_sends_again(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    platform.answer = lambda _sequence, times: 0x97 if times < 3 else 0
    journal = make_journal()
    journal.append(batches(8))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
    assert platform.acknowledged == set(range(1, 9))
    assert set(platform.seen.values()) == {3}
    assert agent.counters.delayed == 16
    assert len(platform.connects) == 1


async def test_a_bad_batch_is_set_aside_with_its_reason(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    platform.answer = lambda sequence, _times: 0x99 if sequence == 3 else 0
    journal = make_journal()
    journal.append(batches(5))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
    assert list(journal.aside()) == [3]
    assert "0x99" in journal.aside()[3]
    assert platform.acknowledged == {1, 2, 4, 5}


async def test_a_refused_identity_keeps_its_data_and_tries_later(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    platform.answer = lambda _sequence, times: 0x87 if times < 3 else 0
    journal = make_journal()
    journal.append(batches(2))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
    assert platform.acknowledged == {1, 2}
    assert len(platform.connects) >= 3
    assert journal.aside() == {}
    assert agent.counters.denied == 0


async def test_a_platform_that_lets_nobody_in_is_asked_again(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    platform.connack = Connack(reason=0x87)
    agent = make_agent(make_journal())
    async with running(agent):
        await until(lambda: agent.counters.denied >= 3)
        assert "link.refused" in agent.counters.last_problem


async def test_a_resend_request_is_answered_and_lost_numbers_are_declared_spent(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    journal = make_journal()
    journal.append(batches(6))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
        journal._db.execute("DELETE FROM batch WHERE sequence = 2")
        topic = f"rocade/v1/{platform.connects[0].client_id}/down/resend"
        for epoch in (journal.epoch ^ 1, journal.epoch):
            ask = f'{{"epoch":"{epoch:016x}","ranges":[[2,3],[5,5],[99,200]]}}'.encode()
            platform.say(Publish(topic=topic, payload=ask, qos=1, packet_id=epoch % 60000 + 1))
        await until(lambda: platform.seen.get(5) == 2)
        await drained(agent)
    assert {number: times for number, times in platform.seen.items() if times > 1} == {2: 2, 3: 2, 5: 2}
    checked = check_many(platform.bodies)
    again = [(int(n), int(p)) for n, p in zip(checked.sequence[6:], checked.points[6:], strict=True)]
    assert sorted(again) == [(2, 0), (3, 3), (5, 3)]


@pytest.mark.parametrize(
    ("pace", "asked", "order"), [(40.0, False, [9, 8, 7, 6, 5, 4]), (0.0, True, [9, 4, 5, 6, 7, 8])]
)
async def test_a_car_that_comes_back_says_first_where_it_is_and_its_past_at_its_pace_or_when_asked(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent, pace: float, asked: bool, order: list[int]
) -> None:
    journal = make_journal()
    agent = make_agent(journal, past_per_s=pace)
    async with running(agent):
        await until(lambda: agent.is_connected)
        journal.append(batches(3))
        await drained(agent)
        agent.cut(0.2)
        journal.append(batches(6))
        await until(lambda: platform.seen.get(9) == 1)
        if asked:
            await asyncio.sleep(0.2)
            assert platform.acknowledged == {1, 2, 3, 9}, "the past waits until it is asked for"
            topic = f"rocade/v1/{platform.connects[0].client_id}/down/resend"
            ask = f'{{"epoch":"{journal.epoch:016x}","ranges":[[4,8]]}}'.encode()
            platform.say(Publish(topic=topic, payload=ask, qos=1, packet_id=1))
        await drained(agent)
    assert check_many(platform.bodies).sequence.tolist()[3:] == order
    assert agent.counters.asked_again == 5 * asked


async def test_malformed_commands_do_no_harm(platform: Any, make_journal: MakeJournal, make_agent: MakeAgent) -> None:
    journal = make_journal()
    journal.append(batches(2))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
        topic = f"rocade/v1/{platform.connects[0].client_id}/down/resend"
        for place, body in enumerate(
            [b"", b"{}", b'{"epoch":"zz","ranges":[]}', b'{"epoch":"1","ranges":[[-5,99999999999]]}', b"\xff"], 1
        ):
            platform.say(Publish(topic=topic, payload=body, qos=1, packet_id=place))
        await asyncio.sleep(0.1)
        journal.append(batches(1))
        agent.wake()
        await drained(agent)
    assert platform.acknowledged == {1, 2, 3}
    assert len(platform.connects) == 1


async def test_a_platform_that_shuts_down_is_left_and_found_again(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    journal = make_journal()
    journal.append(batches(3))
    agent = make_agent(journal)
    async with running(agent):
        await drained(agent)
        platform.say(Disconnect(reason=0x8B))
        await until(lambda: len(platform.connects) >= 2)
        journal.append(batches(3))
        agent.wake()
        await drained(agent)
    assert platform.acknowledged == set(range(1, 7))


async def test_the_time_of_sending_is_stamped_when_it_is_sent(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent
) -> None:
    journal = make_journal()
    journal.append(batches(1))
    await asyncio.sleep(0.3)
    agent = make_agent(journal)
    before_us = agent._clock.now_us()
    async with running(agent):
        await drained(agent)
    assert check_many(platform.bodies).sent_at_us[0] >= before_us


@pytest.mark.parametrize("for_s", [0.0, 0.6])
async def test_a_car_taken_off_the_air_comes_back(
    platform: Any, make_journal: MakeJournal, make_agent: MakeAgent, for_s: float
) -> None:
    journal = make_journal()
    agent = make_agent(journal)
    async with running(agent):
        await until(lambda: agent.is_connected)
        began = asyncio.get_running_loop().time()
        agent.cut(for_s)
        journal.append(batches(4))
        agent.wake()
        await drained(agent)
        assert asyncio.get_running_loop().time() - began >= for_s
    assert platform.acknowledged == {1, 2, 3, 4}
