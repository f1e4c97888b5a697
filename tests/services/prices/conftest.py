"""A settable clock, an audit log that only remembers, a network of dealers, and price lists over a real database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.chance import Seeded
from tests.notebook import Notebook
from tests.services.dealers.conftest import DAY_US, NOW_US, SetClock, site

from rocade.fabric.database import Database
from rocade.services.dealers import BrandAt, Dealer, Dealers, SiteTable
from rocade.services.prices import Engines, Lists, Released, Signing, create
from rocade.trust.identity.keys import PrivateKey, new_key

SITES = ("FR-1", "FR-2", "FR-3")


class Random:
    def bits(self, count: int) -> int:
        return secrets.randbits(count)

    def uniform(self) -> float:
        return 0.5


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def audit() -> Notebook:
    return Notebook()


@pytest.fixture
def root_key() -> PrivateKey:
    return new_key()


@pytest.fixture
async def dealers(database: Database, audit: Notebook, clock: SetClock) -> Dealers:
    """Three points of sale in France that sell and service renault, one in Germany, one of another brand."""
    made = Dealers(database, audit, clock, Random())
    opel = (BrandAt("opel", True, True, NOW_US - 900 * DAY_US),)
    made_of = [site(id, f"{id}-D") for id in SITES]
    made_of += [site("DE-1", "DE-1-D", country="DE"), site("FR-9", "FR-9-D", brands=opel)]
    await made.put(made_of, [Dealer(one.dealer, one.name, "", one.country) for one in made_of], [])
    return made


@pytest.fixture
async def sites(database: Database, clock: SetClock, dealers: Dealers) -> AsyncIterator[SiteTable]:
    table = await SiteTable.open(database, clock)
    yield table
    await table.close()


@pytest.fixture
def make_lists(
    database: Database, audit: Notebook, clock: SetClock, sites: SiteTable, tmp_path: Path, root_key: PrivateKey
) -> Callable[[], Lists]:
    """Price lists of one region as each of its processes has them."""
    create(tmp_path / "trust", root_key, Seeded())  # marks are drawn from it: of a part of a list enough stay, or not
    return lambda: Lists(
        Engines(
            database=database,
            audit=audit,
            clock=clock,
            random=Random(),
            directory=tmp_path / "prices",
            signing=Signing(tmp_path / "trust"),
            sites=sites,
        )
    )


@pytest.fixture
async def lists(make_lists: Callable[[], Lists]) -> Lists:
    made = make_lists()
    await made.add(LIST, "renault", "FR", "EUR", "retail", "person:1")
    return made


@pytest.fixture
def second(make_lists: Callable[[], Lists]) -> Lists:
    """The same lists in another process."""
    return make_lists()


LIST = "renault-fr-retail"


async def publish(
    lists: Lists, path: Path, text: str | bytes, *, at_us: int | None = None, mode: str = "full"
) -> Released:
    """Hand a file in and release it, whatever its report warns of."""
    await asyncio.to_thread(path.write_bytes, text.encode() if isinstance(text, str) else text)
    when = lists.clock.now_us() if at_us is None else at_us
    draft = await lists.draft(LIST, path, when, "person:1", mode=mode)  # type: ignore[arg-type]  # tables of cases
    assert draft.report.is_valid, draft.report.problems
    return await lists.release(LIST, draft.id, "person:1", draft.report.needs)


def new_holder() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


__all__ = ["DAY_US", "NOW_US", "SetClock"]
