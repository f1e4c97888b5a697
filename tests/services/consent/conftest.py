"""A settable clock, seeded chance and an audit log that only remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.chance import Seeded
from tests.notebook import Notebook

from rocade.fabric.database import Database
from rocade.services.consent import Consents, ConsentTable

NOW_US = 1_780_000_000_000_000
DAY_US = 86_400_000_000


class SetClock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.us = NOW_US
        self.s = 0.0

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.s


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def audit() -> Notebook:
    return Notebook()


@pytest.fixture
def renewals() -> list[tuple[int, int, int]]:
    """(old reference, new reference, instant) of every change of owner."""
    return []


@pytest.fixture
def consents(database: Database, audit: Notebook, clock: SetClock, renewals: list[tuple[int, int, int]]) -> Consents:
    random = Seeded()

    async def renew(connection: Any, ref: int, at_us: int) -> int:
        renewed = random.bits(63)
        renewals.append((ref, renewed, at_us))
        return renewed

    return Consents(database, audit, clock, random, renew=renew)


@pytest.fixture
async def table(database: Database, clock: SetClock) -> AsyncIterator[ConsentTable]:
    opened = await ConsentTable.open(database, clock)
    yield opened
    await opened.close()
