"""Points of sale at the real enrolment door: many at once with their codes, ninety days, renewal in time and when it is asked for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.clocks import TurnedClock
from tests.doors.mqtt.stand import Yard
from tests.notebook import Notebook

from rocade.agents.renewal import Renewal
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.est import Door
from rocade.fabric.database import Database
from rocade.trust.authority import Authority, DenySet
from rocade.trust.identity import est_client, tls
from rocade.trust.identity.directory import load_key, load_leaf
from rocade.trust.identity.issuers import to_us

DAY_US = 86_400_000_000


@dataclass
class Hub:
    yard: Yard
    authority: Authority
    server: est_client.Server

    @property
    def root(self) -> bytes:
        return self.yard.region.trust_pem


@pytest.fixture
async def hub(tmp_path: Path, database: Database) -> AsyncIterator[Hub]:
    yard, clock, audit = Yard(tmp_path / "yard"), SystemClock(), Notebook()
    authority = Authority(yard.region, database, audit, clock, SystemRandom())
    denied = await DenySet.open(database, clock)
    identity = tls.ServerIdentity(yard.directory / "door", client="optional")
    door = Door(identity, authority, denied, audit, clock)
    yield Hub(yard, authority, est_client.Server("localhost", await door.start("127.0.0.1", 0)))
    await door.close()
    await denied.close()


async def test_many_join_at_once_each_with_a_key_of_its_own(hub: Hub, tmp_path: Path) -> None:
    sites = [hub.yard.region.identity("dealer", f"FR-{at:03}-1") for at in range(24)]
    codes = await hub.authority.claim_many(sites, "test")
    assert len(set(codes.values())) == 24

    async def join(site: str, code: str) -> str:
        verified = await asyncio.to_thread(est_client.enrol, hub.server, tmp_path / site, code, hub.root)
        return verified.identity.id

    joined = await asyncio.gather(*(join(one.id, code) for one, code in codes.items()))
    assert sorted(joined) == [one.id for one in sites]
    leaves = [load_leaf(tmp_path / one.id) for one in sites]
    assert len({leaf.public_key().public_numbers() for leaf in leaves}) == 24
    for leaf, one in zip(leaves, sites, strict=True):
        assert load_key(tmp_path / one.id).public_key() == leaf.public_key()
        days = (to_us(leaf.not_valid_after_utc) - SystemClock().now_us()) / DAY_US
        assert 89.9 < days < 90.1
    used = next(iter(codes.items()))
    with pytest.raises(Refused, match=r"trust\.claim\.used"):
        await asyncio.to_thread(est_client.enrol, hub.server, tmp_path / "thief", used[1], hub.root)


async def test_a_point_of_sale_renews_at_two_thirds_and_when_it_is_asked(hub: Hub, tmp_path: Path) -> None:
    """At least thirty days are left whenever the line is cut."""
    code = await hub.authority.claim(hub.yard.region.identity("dealer", "FR-1-1"), "test")
    await asyncio.to_thread(est_client.enrol, hub.server, tmp_path / "site", code, hub.root)
    renewal = Renewal(tmp_path / "site", hub.server, lambda: None, SystemClock(), SystemRandom())
    assert 59.9 * 86_400 < renewal.due_in_s() < 65 * 86_400
    assert not renewal.ask()  # of today: an identity may have only so many

    first, renewed = load_leaf(tmp_path / "site"), asyncio.Event()
    asked = Renewal(tmp_path / "site", hub.server, renewed.set, TurnedClock(2 * DAY_US), SystemRandom())
    running = asyncio.create_task(asked.run())
    await asyncio.sleep(0)
    assert not renewed.is_set()
    assert asked.ask()
    await asyncio.wait_for(renewed.wait(), 30)
    running.cancel()
    assert load_leaf(tmp_path / "site").public_key() != first.public_key()
    assert asked.renewals == 1


async def test_a_root_that_is_not_the_one_of_the_letter_is_not_believed(hub: Hub) -> None:
    with pytest.raises((Refused, ssl.SSLError), match=r"est\.root\.unknown"):
        await asyncio.to_thread(est_client.fetch_root, hub.server, "00" * 32)
