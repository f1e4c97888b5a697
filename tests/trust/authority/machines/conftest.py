"""Two API processes' worth of `Tokens` over one real database, and a clock that can be moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.clocks import TurnedClock
from tests.notebook import Notebook

from rocade.core.identifiers import Identity
from rocade.core.ports import SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.machines import Clients, Place, Tokens

PLACE = Place("test.rocade", "eu", "https://road.example:8443")
ACME = Identity("test.rocade", "eu", "partner", "acme")
PURPOSES = ("insurance", "research", "traffic", "maintenance")
OPERATOR = Identity("test.rocade", "eu", "operator", "first")


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def audit() -> Notebook:
    return Notebook()


type Opener = Callable[..., Awaitable[Tokens]]


@pytest.fixture
async def open_tokens(database: Database, tmp_path: Path, clock: TurnedClock, audit: Notebook) -> AsyncIterator[Opener]:
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
def clients(database: Database, audit: Notebook, clock: TurnedClock) -> Clients:
    return Clients(database, audit, clock, PURPOSES)
