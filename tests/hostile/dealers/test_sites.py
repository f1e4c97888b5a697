"""Attacks on who is who at dealers: each refused with its own code, audited, nothing changed.

A provider who signs or reads, a brand on another's road, a secondary who speaks for its primary, roles that climb, codes twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.chance import Seeded
from tests.notebook import Notebook
from tests.services.consent.conftest import NOW_US, SetClock
from tests.services.dealers.conftest import DEALERS, GROUPS, site
from tests.services.dealers.standing import SECURITY, Stand, machine, staff

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.fabric.database import Database
from rocade.services.dealers import BrandAt, Dealers, SiteTable
from rocade.trust.identity.keys import csr, new_key

HELIOS = machine("partner", "helios")
SITE = "/v1/dealers/sites/FR-1-1"


@pytest.fixture
async def stand(database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    """Two dealers; Helios may do everything that can be given, at every site of the first."""
    clock, audit = SetClock(), Notebook()
    dealers = Dealers(database, audit, clock, Seeded())
    lune = (BrandAt("lune", True, True, NOW_US - 9),)
    await dealers.put(
        [site("FR-1-1"), site("FR-1-2", primary="FR-1-1"), site("FR-2-1", "FR-2", brands=lune)], DEALERS, GROUPS
    )
    await dealers.add_provider("helios", "Helios")
    await dealers.delegate("helios", "dealer:FR-1", ["install", "renew", "restart", "health"])
    table = await SiteTable.open(database, clock)
    made = Stand(database, dealers, table, audit, clock, tmp_path / "trust")
    yield made
    await made.client.aclose()
    await table.close()


PROVIDER: list[tuple[str, str, dict[str, object], str]] = [
    ("POST", f"{SITE}/renewal", {}, ""),
    ("POST", f"{SITE}/restart", {}, ""),
    ("POST", f"{SITE}/installation", {}, ""),
    ("GET", f"{SITE}/orders", {}, ""),
    ("GET", SITE, {}, ""),
    ("POST", f"{SITE}/code", {}, "gate.denied"),
    ("GET", f"{SITE}/people", {}, "gate.denied"),
    ("POST", f"{SITE}/people", {"person": "person:1", "role": "manager"}, "gate.denied"),
    ("POST", f"{SITE}/invitations", {"name": "Me", "role": "manager"}, "gate.denied"),
    ("POST", f"{SITE}/delegations", {"provider": "helios", "act": "health"}, "gate.denied"),
    ("GET", f"{SITE}/shadows", {}, "gate.denied"),
    ("POST", "/v1/dealers/delegations", {"provider": "helios", "at": "dealer:FR-2", "act": "health"}, "gate.denied"),
    ("POST", "/v1/dealers/codes", {}, "gate.denied"),
    ("POST", "/v1/dealers/sites/FR-2-1/restart", {}, "gate.denied"),
    ("GET", "/v1/dealers/sites/FR-2-1", {}, "gate.denied"),
]  # fmt: skip


async def test_a_provider_runs_the_agents_he_was_given_and_nothing_more(stand: Stand) -> None:
    for method, path, query, code in PROVIDER:
        json = {"sites": ["FR-1-1"]} if path.endswith("codes") else None
        answer = await stand.ask(HELIOS, method, path, json=json, **query)
        assert (answer if code else isinstance(answer, str)) == (code or False), (method, path, answer)
        if code:
            assert stand.audit.refusals[-1] == code
    assert await stand.dealers.roles_at("FR-1-1") == []


def party(kind: str, id: str) -> Identity:
    return Identity("rocade.test", "eu", kind, id)


SIGNERS: list[tuple[str, str, Callable[[SiteTable], object]]] = [
    ("a provider in the dealer's name", "dealers.provider.signs",
     lambda table: table.check_signer(party("partner", "helios"), party("dealer", "FR-1-1").uri, NOW_US)),
    ("a provider in his own name", "dealers.provider.signs",
     lambda table: table.check_signer(party("partner", "helios"), party("partner", "helios").uri, NOW_US)),
    ("a site in another's name", "dealers.signer.foreign",
     lambda table: table.check_signer(party("dealer", "FR-2-1"), party("dealer", "FR-1-1").uri, NOW_US)),
    ("a site that was never imported", "dealers.site.unknown",
     lambda table: table.check_signer(party("dealer", "FR-9-9"), party("dealer", "FR-9-9").uri, NOW_US)),
    ("brand A's certificate on brand B's road", "dealers.brand.foreign",
     lambda table: table.check_brand("FR-2-1", "renault", NOW_US)),
    ("a secondary site as its primary", "dealers.site.secondary",
     lambda table: table.check_acts_for("FR-1-2", "FR-1-1", NOW_US)),
    ("a primary for another dealer's site", "dealers.site.secondary",
     lambda table: table.check_acts_for("FR-1-1", "FR-2-1", NOW_US)),
]  # fmt: skip


async def test_who_speaks_for_another_is_refused(stand: Stand) -> None:
    for attack, code, check in SIGNERS:
        with pytest.raises(Refused) as refusal:
            check(stand.table)
        assert refusal.value.code == code, attack


async def test_a_withdrawn_delegation_and_an_ended_role_open_nothing_from_then_on(stand: Stand) -> None:
    assert not isinstance(await stand.ask(HELIOS, "POST", f"{SITE}/restart"), str)
    await stand.dealers.end_delegation((await stand.dealers.delegations())[0].id)
    assert await stand.ask(HELIOS, "POST", f"{SITE}/restart") == "gate.denied"
    with pytest.raises(Refused, match=r"dealers\.provider\.signs"):  # he stays a provider
        stand.table.check_signer(party("partner", "helios"), party("dealer", "FR-1-1").uri, NOW_US)


async def test_roles_do_not_climb_from_site_to_site_or_brand_to_brand(stand: Stand) -> None:
    ada = await stand.people.add("Ada", organisation="dealer:FR-1")
    await stand.dealers.give_role(ada.id, "dealer:FR-1", "FR-1-2", "manager")
    who, by_link = staff(ada.id, "FR-1"), staff(ada.id, "FR-1", "link")
    assert await stand.ask(who, "POST", f"{SITE}/code") == "gate.denied"
    assert await stand.ask(who, "POST", f"{SITE}/invitations", name="Me", role="manager") == "gate.denied"
    second = "/v1/dealers/sites/FR-1-2"
    assert await stand.ask(by_link, "POST", f"{second}/code") == "gate.denied"
    other = await stand.ask(SECURITY, "POST", f"{SITE}/delegations", provider="helios", act="health")
    assert await stand.ask(who, "DELETE", f"{second}/delegations/{other['id']}") == "dealers.delegation.unknown"


async def test_a_code_is_good_once_and_only_for_its_site(stand: Stand) -> None:
    code = (await stand.ask(SECURITY, "POST", f"{SITE}/code"))["claim_code"]
    issued = await stand.authority.enrol(code, csr(new_key()), "192.0.2.1")
    assert issued.not_after_us - NOW_US == 90 * 86_400_000_000
    with pytest.raises(Refused, match=r"trust\.claim\.used"):
        await stand.authority.enrol(code, csr(new_key()), "192.0.2.1")
    many = await stand.ask(SECURITY, "POST", "/v1/dealers/codes", json={"sites": ["FR-1-1", "FR-1-2"]})
    again = await stand.ask(SECURITY, "POST", "/v1/dealers/codes", json={"sites": ["FR-1-1"]})
    with pytest.raises(Refused, match=r"trust\.claim\.unknown"):  # a newer one ends the one that was not used
        await stand.authority.enrol(many[0]["claim_code"], csr(new_key()), "192.0.2.1")
    for one in (again[0], many[1]):
        await stand.authority.enrol(one["claim_code"], csr(new_key()), "192.0.2.1")


async def test_an_import_that_fails_in_the_middle_leaves_nothing_half_done(stand: Stand) -> None:
    before = (await stand.dealers.sites()).sites
    orphan = site("FR-3-1", "FR-3")
    with pytest.raises(Refused, match=r"dealers\.dealer\.unknown"):
        await stand.dealers.put([site("FR-1-1", name="Changed"), orphan], DEALERS, GROUPS)
    assert (await stand.dealers.sites()).sites == before


async def test_letters_looked_for_are_letters(stand: Stand) -> None:
    for name in ["' OR 1=1 --", "%", "_", "\\", "\u202e", "x" * 500]:
        assert (await stand.ask(SECURITY, "GET", "/v1/dealers/sites", find=name))["items"] == [], name
