"""A small network: one group with a primary site and a secondary one, one dealer of his own, two brands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.chance import Seeded
from tests.notebook import Notebook
from tests.services.consent.conftest import DAY_US, NOW_US, SetClock

from rocade.fabric.database import Database
from rocade.services.dealers import FOREVER_US, BrandAt, Dealer, Dealers, Group, Site, SiteTable

__all__ = ["DAY_US", "NOW_US", "SetClock", "site"]


def site(id: str, dealer: str = "FR-1", primary: str = "", **more: object) -> Site:
    """A site of `dealer` in France that has been open for long and has the brand renault."""
    values: dict[str, object] = {
        "group": "martin" if dealer == "FR-1" else "", "name": f"Garage {id}", "country": "FR", "address": "1 rue X",
        "city": "Lyon", "latitude": 45.76, "longitude": 4.83, "timezone": "Europe/Paris", "phone": "",
        "opening_hours": "Mo-Fr 08:00-12:00,14:00-18:30", "opened_us": NOW_US - 900 * DAY_US, "closed_us": FOREVER_US,
        "brands": (BrandAt("renault", True, True, NOW_US - 900 * DAY_US),),
    }  # fmt: skip
    return Site(id=id, dealer=dealer, primary=primary, **{**values, **more})  # type: ignore[arg-type]  # a table of values


DEALERS = [Dealer("FR-1", "Garage Martin", "martin", "FR"), Dealer("FR-2", "Garage Durand", "", "FR")]
GROUPS = [Group("martin", "Groupe Martin")]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def audit() -> Notebook:
    return Notebook()


@pytest.fixture
def dealers(database: Database, audit: Notebook, clock: SetClock) -> Dealers:
    return Dealers(database, audit, clock, Seeded())


@pytest.fixture
async def network(dealers: Dealers) -> Dealers:
    """FR-1-1 (primary), FR-1-2 (secondary to it), FR-2-1 (another dealer's, brand lune too)."""
    lune = BrandAt("lune", False, True, NOW_US - DAY_US, NOW_US + DAY_US)
    other = site("FR-2-1", "FR-2")
    await dealers.put(
        [site("FR-1-1"), site("FR-1-2", primary="FR-1-1"), site("FR-2-1", "FR-2", brands=(lune, *other.brands))],
        DEALERS,
        GROUPS,
    )
    return dealers


@pytest.fixture
async def table(network: Dealers, database: Database, clock: SetClock) -> AsyncIterator[SiteTable]:
    opened = await SiteTable.open(database, clock)
    yield opened
    await opened.close()
