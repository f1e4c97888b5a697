"""Custody that goes away for a minute, for good, or never answers; and a process that cannot hear of destructions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.notebook import Notebook

from rocade.core.errors import Unavailable
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import FileCustody, Group, Keyring, probing
from rocade.trust.authority.sealing import keyring as module

ROAD = (2**60 + 3, int(Group.ROAD))
TWIN = (ROAD[0], int(Group.TWIN))


class StepClock(SystemClock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def notes() -> Notebook:
    return Notebook()


def said(notes: Notebook) -> list[tuple[str, str]]:
    return [(entry.action, entry.reason) for entry in notes.entries]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "held elsewhere"


@pytest.fixture
async def ring(unsealed: Database, place: Path, clock: StepClock, notes: Notebook) -> AsyncIterator[Keyring]:
    opened = await Keyring.open(unsealed, FileCustody(place), clock, lease_s=60, audit=notes)
    yield opened
    await opened.close()


async def ask(ring: Keyring) -> None:
    """What the background does every third of a lease."""
    try:
        await ring._ask()
    except Unavailable:
        assert ring._failed is not None


def take_away(place: Path) -> None:
    place.rename(place.with_name("away"))


def bring_back(place: Path) -> None:
    place.with_name("away").rename(place)


async def until(condition: object) -> None:
    async with asyncio.timeout(30):
        while not condition():  # type: ignore[operator]  # a function of no arguments
            await asyncio.sleep(0.01)


async def test_keys_outlive_a_custody_that_is_gone_for_half_a_minute(
    ring: Keyring, place: Path, clock: StepClock, notes: Notebook
) -> None:
    made = await ring.ensure([ROAD])
    take_away(place)
    clock.now_s += 30
    await ask(ring)
    assert await ring.fetch([ROAD]) == made
    assert ring.held(*ROAD) == made[ROAD]
    bring_back(place)
    clock.now_s += 20
    await ask(ring)
    clock.now_s += 50
    await until(lambda: ring.lease_left_s > 0)  # it hears the database by itself
    assert ring.held(*ROAD) == made[ROAD]
    assert said(notes) == [("custody.lost", "custody.down"), ("custody.back", "")]


async def test_after_the_lease_nothing_is_left_until_custody_answers(
    ring: Keyring, place: Path, clock: StepClock, notes: Notebook
) -> None:
    made = await ring.ensure([ROAD])
    take_away(place)
    clock.now_s += 61
    assert ring.held(*ROAD) is None
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"custody\.down"):
            await ring.fetch([ROAD])
    assert not len(ring._cache)
    assert not ring._buckets
    with pytest.raises(Unavailable, match=r"custody\.down"):
        await ring.ensure([TWIN])
    bring_back(place)
    clock.now_s += 2
    assert await ring.fetch([ROAD, TWIN]) == made
    assert said(notes) == [("custody.lost", "custody.down"), ("custody.back", "")]


async def test_a_custody_that_refuses_ends_the_lease_at_once(
    ring: Keyring, place: Path, clock: StepClock, notes: Notebook
) -> None:
    await ring.ensure([ROAD])
    (place / "1.key").rename(place / "2.key")  # the holder put another key there
    clock.now_s += 20
    await ask(ring)
    assert ring.held(*ROAD) is None
    with pytest.raises(Unavailable, match=r"custody\.refused"):
        await ring.fetch([ROAD])
    assert said(notes) == [("custody.lost", "custody.refused")]


async def test_a_region_starts_without_its_custody_and_begins_when_it_is_back(
    database: Database, ring: Keyring, place: Path, clock: StepClock
) -> None:
    made = await ring.ensure([ROAD])
    take_away(place)
    later = await Keyring.open(database, FileCustody(place), clock)
    with pytest.raises(Unavailable, match=r"custody\.down"):
        await later.fetch([ROAD])
    bring_back(place)
    clock.now_s += 2
    assert await later.fetch([ROAD]) == made
    await later.close()


async def test_a_custody_that_never_answers_is_down(
    ring: Keyring, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ring.ensure([ROAD])
    answer = threading.Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(ring.custody, "unwrap", lambda *_: answer.wait(30))
    try:
        clock.now_s += 61
        with pytest.raises(Unavailable, match=r"custody\.down: .*not answered in time"):
            await ring.fetch([ROAD])
    finally:
        answer.set()


async def test_who_cannot_hear_of_destructions_has_no_lease(ring: Keyring, clock: StepClock) -> None:
    await ring.ensure([ROAD])
    ring._tasks[0].cancel()  # the follower: as if the database were away
    clock.now_s += 599
    ring._confirmed_s = clock.now_s
    assert ring.held(*ROAD) is not None
    clock.now_s += 2
    assert ring.held(*ROAD) is None


async def test_a_database_that_stands_still_does_not_end_the_lease(
    ring: Keyring, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ring.ensure([ROAD])
    awake, asked = asyncio.Event(), []

    async def read() -> tuple[int, int, int, bytes]:
        asked.append(clock.now_s)
        await awake.wait()
        raise Unavailable("database.down", "it was ended")

    monkeypatch.setattr(probing, "READ_S", 0.01)
    monkeypatch.setattr(ring._probe, "_read", read)
    for _ in range(4):
        clock.now_s += 40
        await ask(ring)
        assert ring.held(*ROAD) is not None
    assert len(asked) == 1, "one question waits, not one more each time"
    awake.set()
    clock.now_s += 40
    await ask(ring)
    assert ring.held(*ROAD) is not None


async def test_the_cache_keeps_what_was_used_last(unsealed: Database, place: Path, clock: StepClock) -> None:
    ring = Keyring(unsealed, FileCustody(place), clock, limit=3)
    names = [(number, 1) for number in range(1, 5)]
    made = await ring.ensure(names[:3])
    await ring.fetch([names[0], names[2]])
    made |= await ring.ensure(names[3:])
    assert [ring.held(*name) is None for name in names] == [False, True, False, False]
    assert await ring.fetch(names) == made
    await ring.close()
