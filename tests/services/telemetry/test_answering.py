"""A reader that is slow holds nothing: no place of the engine, no file that an erasure has rewritten, and nothing of who is erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from math import fsum

import numpy as np
import pytest

from rocade.fabric.history import History, client
from rocade.services.telemetry import answering, chunks, store
from rocade.services.telemetry.store import Part

HOUR_US, MINUTE_US = chunks.HOUR_US, 60_000_000
START_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US
HOURS = 200
SIGNALS = [1, 2]
_refs = count(2**61 + 5)
type Sums = dict[tuple[int, int], tuple[int, float]]


def minutes_of(vehicle: int, signal: int) -> chunks.Chunks:
    """A row a minute, of numbers that cannot be packed."""
    many = HOURS * 60
    at_us = START_US + MINUTE_US * np.arange(many)
    return chunks.Chunks(
        vehicle=np.full(many, vehicle, np.uint64), signal=np.full(many, signal, np.uint32), arrived_us=at_us + MINUTE_US,
        start_us=at_us, step_us=np.full(many, 1_000_000), rows=np.full(many, 20), kind=np.full(many, chunks.FLOAT, np.uint8),
        exponent=np.zeros(many, np.int8), ints=np.zeros(0, np.int64),
        floats=np.random.default_rng(vehicle + signal).random(20 * many),
    )  # fmt: skip


class Filled:
    """A history with two vehicles of its own."""

    def __init__(self, history: History) -> None:
        self.history, self.car, self.other = history, next(_refs), next(_refs)

    def asked(self) -> AsyncIterator[Part]:
        return store.samples(self.history, [self.car, self.other], SIGNALS, START_US, START_US + HOURS * HOUR_US)

    async def sums(self) -> Sums:
        return sums([part async for part in self.asked()])


@pytest.fixture
async def filled(history: History, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Filled]:
    monkeypatch.setattr(client, "GATHER_BYTES", 1 << 16)
    made = Filled(history)
    for vehicle in (made.car, made.other):
        for signal in SIGNALS:
            await store.insert(history, minutes_of(vehicle, signal), f"{vehicle} {signal}")
    yield made
    store.hide(history, [])


def sums(parts: list[Part]) -> Sums:
    """How many samples of whom, and their sum: the same in whatever parts they came."""
    found: dict[tuple[int, int], list[float]] = {}
    for vehicle, signal, samples in parts:
        found.setdefault((vehicle, signal), []).extend(samples.value.tolist())
    return {whose: (len(values), fsum(values)) for whose, values in found.items()}


async def test_a_reader_that_is_slow_delays_no_erasure_and_misses_nothing(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await filled.sums()
    assert [many for many, _ in whole.values()] == [HOURS * 1200] * 4
    monkeypatch.setattr(answering, "PATIENCE_S", 0.01)
    reading = filled.asked()
    parts = [await anext(reading)]
    async with asyncio.timeout(60):  # red: five minutes, for the reader holds the files
        assert (await store.erase_vehicles(filled.history, [filled.other])).parts_after == 0
    parts += [part async for part in reading]
    found = sums(parts)
    for signal in SIGNALS:
        assert found[filled.car, signal] == whole[filled.car, signal], "each sample once, as if nothing had been"
    assert (filled.other, 2) not in found


async def test_an_answer_that_is_old_is_asked_for_again_from_where_it_was(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await filled.sums()
    monkeypatch.setattr(answering, "ANSWER_S", 0.0)
    assert await filled.sums() == whole


async def test_nothing_of_who_was_erased_is_in_the_rest_of_an_open_answer(filled: Filled) -> None:
    reading = filled.asked()
    first = await anext(reading)
    store.hide(filled.history, [filled.car])
    rest = [part async for part in reading]
    assert first[0] == filled.car
    assert {vehicle for vehicle, _, _ in rest} == {filled.other}
