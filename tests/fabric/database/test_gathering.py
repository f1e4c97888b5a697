"""Single look-ups gathered into queries."""

from __future__ import annotations

import asyncio

import pytest

from rocade.fabric.database.gathering import Gathering


class Store:
    """A slow store that remembers what each query asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.is_broken = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def load(self, keys: list[int]) -> dict[int, str]:
        self.asked.append(keys)
        await asyncio.sleep(0.01)
        await self.may_answer.wait()
        if self.is_broken:
            raise ConnectionError("away")
        return {key: f"value {key}" for key in keys if key >= 0}


async def test_what_comes_while_a_query_runs_goes_into_the_next() -> None:
    store = Store()
    gathering = Gathering(store.load, at_once=1)
    store.may_answer.clear()
    first = asyncio.create_task(gathering.get(0))
    while not store.asked:
        await asyncio.sleep(0)
    others = [asyncio.create_task(gathering.get(key % 50)) for key in range(200)]
    await asyncio.sleep(0)  # each has asked
    store.may_answer.set()
    assert await first == "value 0"
    assert await asyncio.gather(*others) == [f"value {key % 50}" for key in range(200)]
    assert [len(keys) for keys in store.asked] == [1, 50]


async def test_each_is_answered_by_a_query_that_began_after_it_asked() -> None:
    store = Store()
    gathering = Gathering(store.load, at_once=1)
    before = asyncio.create_task(gathering.get(7))
    while not store.asked:
        await asyncio.sleep(0)
    after = asyncio.create_task(gathering.get(7))
    await asyncio.gather(before, after)
    assert store.asked == [[7], [7]]


async def test_what_is_not_there_is_none_and_a_caller_that_leaves_disturbs_nobody() -> None:
    gathering = Gathering(Store().load, at_once=1)
    leaving, staying, missing = (asyncio.create_task(gathering.get(key)) for key in (1, 1, -1))
    await asyncio.sleep(0.002)
    leaving.cancel()
    assert await staying == "value 1"
    assert await missing is None


async def test_a_query_that_fails_fails_for_those_in_it_and_the_next_one_works() -> None:
    store = Store()
    gathering = Gathering(store.load, at_once=2)
    store.is_broken = True
    for answer in await asyncio.gather(gathering.get(1), gathering.get(2), return_exceptions=True):
        assert isinstance(answer, ConnectionError)
    store.is_broken = False
    assert await gathering.get(1) == "value 1"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gathering.get(2), 0.001)
    assert await gathering.get(3) == "value 3"
