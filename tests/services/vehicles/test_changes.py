"""One question a second for all who listen."""

from __future__ import annotations

import asyncio
import time

import pytest

from rocade.services.vehicles import changes as changes_module
from rocade.services.vehicles.changes import Changes
from rocade.services.vehicles.twin import Position


class Twins:
    """Twins that can be moved and broken; counts how often it was asked."""

    def __init__(self) -> None:
        self.rows = {ref: Position(ref, 1_000 + ref, 0, 0, 48.0, 2.0, 50.0) for ref in range(1, 6)}
        self.asked: list[int] = []
        self.is_broken = False

    async def changed_since(self, since_us: int) -> list[Position]:
        self.asked.append(since_us)
        if self.is_broken:
            raise ConnectionError("away")
        return sorted((row for row in self.rows.values() if row.updated_us >= since_us), key=lambda row: row.updated_us)

    async def asked_again(self) -> None:
        """Wait until a question asked after this call was answered."""
        before = len(self.asked)
        async with asyncio.timeout(30):
            while len(self.asked) < before + 2:
                await asyncio.sleep(0.005)

    def move(self, ref: int, updated_us: int) -> None:
        self.rows[ref] = Position(ref, updated_us, 0, 0, 49.0, 2.0, 50.0)


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Twins:
    monkeypatch.setattr(changes_module, "INTERVAL_S", 0.02)
    return Twins()


async def test_many_listeners_cost_one_question_a_round(twins: Twins) -> None:
    changes = Changes(twins)  # type: ignore[arg-type]  # the part of the store it uses
    begun_s = time.monotonic()

    async def listen() -> list[int]:
        async with changes.listening():
            await asyncio.sleep(0.1)
            return [one.ref for one in changes.since(0)]

    heard = await asyncio.gather(*(listen() for _ in range(200)))
    assert heard == [[1, 2, 3, 4, 5]] * 200
    assert len(twins.asked) <= 1 + (time.monotonic() - begun_s) / changes_module.INTERVAL_S
    before = len(twins.asked)
    await asyncio.sleep(0.1)
    assert len(twins.asked) <= before + 1, "nobody listens, nobody asks"


async def test_what_moved_comes_last_and_only_once(twins: Twins) -> None:
    changes = Changes(twins)  # type: ignore[arg-type]  # as above
    async with changes.listening():
        twins.move(2, 9_000)
        await twins.asked_again()
        assert [one.ref for one in changes.since(0)] == [1, 3, 4, 5, 2]
        assert [one.ref for one in changes.since(1_004)] == [4, 5, 2]
        assert [(one.ref, one.latitude) for one in changes.of([2, 77])] == [(2, 49.0)]


async def test_a_database_that_is_away_delays_the_listeners_only(twins: Twins) -> None:
    changes = Changes(twins)  # type: ignore[arg-type]  # as above
    async with changes.listening():
        twins.is_broken = True
        twins.move(3, 8_000)
        await twins.asked_again()
        assert len(changes.since(0)) == 5
        twins.is_broken = False
        await twins.asked_again()
        assert changes.since(0)[-1].ref == 3
    twins.is_broken = True
    with pytest.raises(ConnectionError):
        async with Changes(twins).listening():  # type: ignore[arg-type]  # as above
            pass
