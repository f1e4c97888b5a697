"""Two API processes' worth of `Tokens` over one real database, and a clock that can be moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from rocade.core.identifiers import Identity
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.machines import Clients, Place, Tokens

PLACE = Place("test.rocade", "eu", "https://road.example:8443")
ACME = Identity("test.rocade", "eu", "partner", "acme")
PURPOSES = ("insurance", "research", "traffic", "maintenance")
OPERATOR = Identity("test.rocade", "eu", "operator", "first")


class Moved(SystemClock):
    """The system's clock, `ahead_us` ahead; after `hold` it goes on only by that."""

    def __init__(self) -> None:
        self.ahead_us = 0
        self._held_us: int | None = None

    def hold(self) -> None:
        self._held_us = super().now_us()

    def now_us(self) -> int:
        return (super().now_us() if self._held_us is None else self._held_us) + self.ahead_us


class Notes:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def note(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    async def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


@pytest.fixture
def clock() -> Moved:
    return Moved()


@pytest.fixture
def audit() -> Notes:
    return Notes()


type Opener = Callable[..., Awaitable[Tokens]]


@pytest.fixture
async def open_tokens(database: Database, tmp_path: Path, clock: Moved, audit: Notes) -> AsyncIterator[Opener]:
    """Open a further process's tokens over the same region."""
    opened: list[Tokens] = []

    async def opener(place: Place = PLACE, directory: str = "tokens") -> Tokens:
        tokens = await Tokens.open(database, tmp_path / directory, place, audit, clock, SystemRandom())
        opened.append(tokens)
        return tokens

    yield opener
    for tokens in opened:
        await tokens.close()


@pytest.fixture
async def tokens(open_tokens: Opener, clients: Clients) -> Tokens:
    """One process's tokens; the partner acme is registered for insurance and research."""
    await clients.put(ACME, ["insurance", "research"], "operator:test")
    return await open_tokens()


@pytest.fixture
def clients(database: Database, audit: Notes, clock: Moved) -> Clients:
    return Clients(database, audit, clock, PURPOSES)
