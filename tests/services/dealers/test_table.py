"""The table in memory: who is what, pushed; each check refuses with its own code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.services.dealers.conftest import DAY_US, NOW_US, SetClock, site

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.services.dealers import BrandAt, Dealers, NationalException, SiteTable
from rocade.trust.authority.gate import Principal, SiteRight


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_table_knows_who_is_what(table: SiteTable) -> None:
    assert len(table) == 3
    assert table.of_dealer("FR-1") == table.of_group("martin") == ["FR-1-1", "FR-1-2"]
    assert table.primary_of("FR-1-2") == "FR-1-1"
    assert table.of_brand("lune", NOW_US) == ["FR-2-1"]
    assert table.of_brand("renault", NOW_US, "DE") == []
    assert [one.brand for one in table.brands_of("FR-2-1", NOW_US)] == ["lune", "renault"]
    assert [one.brand for one in table.brands_of("FR-2-1", NOW_US + DAY_US)] == ["renault"]


async def test_a_change_reaches_every_table_by_itself(network: Dealers, table: SiteTable) -> None:
    heard: list[str] = []
    table.watch(lambda sites: heard.extend(sorted(sites)))
    await network.set_brand("FR-1-2", BrandAt("lune", True, True, NOW_US))
    await until(lambda: table.has_brand("FR-1-2", "lune", NOW_US))
    await network.end_brand("FR-1-2", "lune", NOW_US + 5)
    await until(lambda: not table.has_brand("FR-1-2", "lune", NOW_US + 5))
    assert table.has_brand("FR-1-2", "lune", NOW_US + 4)
    assert set(heard) == {"FR-1-2"}
    await network.put([site("FR-1-9")])
    await until(lambda: "FR-1-9" in table)


CHECKS: list[tuple[str, Callable[[SiteTable], object]]] = [
    ("dealers.site.unknown", lambda table: table.check_site("FR-9-9", NOW_US)),
    ("dealers.site.closed", lambda table: table.check_site("FR-1-1", NOW_US - 1000 * DAY_US)),
    ("dealers.brand.foreign", lambda table: table.check_brand("FR-1-1", "lune", NOW_US)),
    ("dealers.brand.foreign", lambda table: table.check_brand("FR-2-1", "lune", NOW_US + DAY_US)),
    ("dealers.site.secondary", lambda table: table.check_acts_for("FR-1-2", "FR-1-1", NOW_US)),
    ("dealers.site.secondary", lambda table: table.check_acts_for("FR-2-1", "FR-1-1", NOW_US)),
    ("dealers.signer.foreign", lambda table: table.check_signer(dealer("FR-1-2"), dealer("FR-1-1").uri, NOW_US)),
    ("dealers.site.unknown", lambda table: table.check_signer(dealer("FR-9"), dealer("FR-9").uri, NOW_US)),
]


def dealer(id: str, kind: str = "dealer") -> Identity:
    return Identity("rocade.test", "eu", kind, id)


def test_a_check_refuses_with_its_own_code(table: SiteTable) -> None:
    for code, check in CHECKS:
        with pytest.raises(Refused) as caught:
            check(table)
        assert caught.value.code == code


def test_checks_let_through_what_is_right(table: SiteTable) -> None:
    assert table.check_brand("FR-2-1", "lune", NOW_US).id == "FR-2-1"
    table.check_acts_for("FR-1-1", "FR-1-2", NOW_US)
    table.check_acts_for("FR-1-2", "FR-1-2", NOW_US)
    table.check_signer(dealer("FR-1-1"), dealer("FR-1-1").uri, NOW_US)
    table.check_signer(dealer("crm", "partner"), dealer("crm", "partner").uri, NOW_US)


async def test_a_provider_runs_agents_and_never_signs(network: Dealers, table: SiteTable) -> None:
    await network.add_provider("helios", "Helios IT")
    given = await network.delegate("helios", "dealer:FR-1", ["renew", "health"], NOW_US + DAY_US)
    await until(lambda: table.may("helios", "FR-1-2", "renew", NOW_US))
    assert not table.may("helios", "FR-1-2", "restart", NOW_US)
    assert not table.may("helios", "FR-2-1", "health", NOW_US)
    assert not table.may("helios", "FR-1-1", "renew", NOW_US + DAY_US)
    assert table.sites_of_provider("helios", NOW_US) == ["FR-1-1", "FR-1-2"]
    helios = dealer("helios", "partner")
    for sender in (helios.uri, dealer("FR-1-1").uri):
        with pytest.raises(Refused, match=r"dealers\.provider\.signs"):
            table.check_signer(helios, sender, NOW_US)
    await network.end_delegation(given.id)
    await until(lambda: not table.may("helios", "FR-1-2", "renew", NOW_US))


async def test_roles_are_per_site_and_brand_and_end(network: Dealers, table: SiteTable, clock: SetClock) -> None:
    made = await network.give_role("person:a1", "dealer:FR-1", "FR-1-1", "parts", brand="renault")
    await network.give_role("person:a1", "dealer:FR-1", "FR-1-2", "manager", until_us=NOW_US + DAY_US)
    await until(lambda: len(table.roles_of("person:a1", NOW_US)) == 2)
    assert table.roles("person:a1", "FR-1-1", NOW_US, "renault") == {"parts"}
    assert table.roles("person:a1", "FR-1-1", NOW_US, "lune") == frozenset()
    assert table.roles("person:a1", "FR-1-1", NOW_US) == frozenset()
    assert table.roles("person:a1", "FR-1-2", NOW_US, "lune") == {"manager"}
    assert table.roles("person:a1", "FR-1-2", NOW_US + DAY_US) == frozenset()
    ana = Principal("person", "person:a1", "dealer:FR-1", "passkey", "eu")
    assert table.site_right(ana, "FR-1-1", "", NOW_US) == SiteRight(is_staff=True)
    assert table.site_right(ana, "FR-1-1", "renault", NOW_US) == SiteRight(is_staff=True, roles=frozenset({"parts"}))
    assert table.site_right(ana, "FR-2-1", "renault", NOW_US) == SiteRight()
    await network.end_role(made.id, "FR-1-1")
    await until(lambda: table.roles("person:a1", "FR-1-1", NOW_US, "renault") == frozenset())


async def test_a_table_that_nobody_confirms_gives_no_rights_and_keeps_the_sites(
    network: Dealers, table: SiteTable, clock: SetClock
) -> None:
    await network.give_role("person:a1", "dealer:FR-1", "FR-1-1", "parts")
    await table.refresh()
    clock.s += 11
    assert table.is_stale
    assert table.roles("person:a1", "FR-1-1", NOW_US) == frozenset()
    assert table.check_brand("FR-1-1", "renault", NOW_US).id == "FR-1-1"


async def test_a_brands_exception_beats_the_countrys(network: Dealers, table: SiteTable) -> None:
    await network.set_exception(NationalException("FR", "crm", "", "partner:crm-fr", False, ""))
    await network.set_exception(NationalException("FR", "crm", "lune", "partner:crm-lune", True, ""))
    await table.refresh()
    found = [
        table.exception(country, "crm", brand) for country, brand in (("FR", "lune"), ("FR", "renault"), ("DE", "lune"))
    ]
    assert [one and one.to for one in found] == ["partner:crm-lune", "partner:crm-fr", None]
