"""The API of the dealers' room: who sees which sites, importing, joining, people, providers, moving over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.notebook import Notebook
from tests.services.dealers.conftest import SetClock
from tests.services.dealers.standing import SECURITY, SUPPORT, Stand, machine, staff
from tests.services.dealers.test_importing import many, table

from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.services.dealers import Dealers, SiteTable

SITES = "/v1/dealers/sites"


@pytest.fixture
async def stand(
    network: Dealers, database: Database, audit: Notebook, clock: SetClock, tmp_path: Path
) -> AsyncIterator[Stand]:
    sites = await SiteTable.open(database, clock)
    made = Stand(database, network, sites, audit, clock, tmp_path / "trust")
    yield made
    await made.client.aclose()
    await sites.close()


async def test_everybody_finds_the_sites_he_has_to_do_with(stand: Stand) -> None:
    ada = await stand.people.add("Ada", organisation="dealer:FR-1")
    await stand.dealers.give_role(ada.id, "dealer:FR-1", "FR-1-2", "parts", brand="renault")
    await stand.dealers.add_provider("helios", "Helios")
    await stand.dealers.delegate("helios", "group:martin", ["health"])
    seen = {}
    for name, who in (
        ("support", SUPPORT), ("ada", staff(ada.id, "FR-1")), ("stranger", staff("person:1", "FR-1")),
        ("site", machine("dealer", "FR-2-1")), ("provider", machine("partner", "helios")),
        ("partner", machine("partner", "acme")),
    ):  # fmt: skip
        seen[name] = [one["id"] for one in (await stand.ask(who, "GET", SITES))["items"]]
    everything = ["FR-1-1", "FR-1-2", "FR-2-1"]
    assert seen == {"support": everything, "ada": ["FR-1-2"], "stranger": [], "site": ["FR-2-1"],
                    "provider": ["FR-1-1", "FR-1-2"], "partner": []}  # fmt: skip
    assert [one["id"] for one in (await stand.ask(SUPPORT, "GET", SITES, brand="lune"))["items"]] == ["FR-2-1"]
    page = await stand.ask(machine("partner", "helios"), "GET", SITES, limit=1)
    assert (page["next"], [one["id"] for one in page["items"]]) == ("FR-1-1", ["FR-1-1"])
    rest = await stand.ask(machine("partner", "helios"), "GET", SITES, limit=1, cursor=page["next"])
    assert (rest["next"], [one["id"] for one in rest["items"]]) == (None, ["FR-1-2"])


async def test_a_network_is_imported_with_a_touch_and_tried_before(stand: Stand) -> None:
    assert await stand.ask(SECURITY, "POST", "/v1/dealers/import", touch=False, content=many(4)) == "gate.touch"
    assert await stand.ask(SUPPORT, "POST", "/v1/dealers/import", content=many(4)) == "gate.denied"
    report = await stand.ask(SECURITY, "POST", "/v1/dealers/import", content=many(4), dry_run=True)
    assert (report["new"], report["changed"], report["missing"], report["is_dry_run"]) == (2, 2, 1, True)
    assert (await stand.ask(SECURITY, "POST", "/v1/dealers/import", content=many(4)))["new"] == 2
    wrong = table({"site": "FR-9-1", "country": "?"})
    assert await stand.ask(SECURITY, "POST", "/v1/dealers/import", content=wrong) == "dealers.import.refused"
    assert (await stand.ask(SUPPORT, "GET", f"{SITES}/FR-1-2"))["primary"] == "FR-0-1"


async def test_a_manager_leads_his_site_and_nothing_else(stand: Stand, clock: SetClock) -> None:
    made = await stand.ask(SECURITY, "POST", f"{SITES}/FR-1-1/invitations", name="Ada", role="manager")
    ada = staff(made["person"], "FR-1")
    assert made["secret"]
    assert (await stand.people.by_id(made["person"])).organisation == "dealer:FR-1"
    invited = await stand.ask(ada, "POST", f"{SITES}/FR-1-1/invitations", name="Bea", role="parts", brand="renault")
    bea = staff(invited["person"], "FR-1")
    assert (
        await stand.ask(ada, "POST", f"{SITES}/FR-1-1/invitations", touch=False, name="X", role="parts") == "gate.touch"
    )
    clock.us += 600_000_000
    with pytest.raises(Refused, match=r"people\.link\.expired"):
        await stand.people.redeem_link(invited["secret"])
    again = await stand.ask(ada, "POST", f"{SITES}/FR-1-1/invitations/{bea.id}")
    assert await stand.people.redeem_link(again["secret"])
    assert await stand.ask(bea, "POST", f"{SITES}/FR-1-1/invitations/{bea.id}") == "gate.denied"
    stranger = await stand.people.add("Stan")
    assert await stand.ask(ada, "POST", f"{SITES}/FR-1-1/invitations/{stranger.id}") == "people.unknown"
    for site in ("FR-1-2", "FR-2-1"):
        assert await stand.ask(ada, "POST", f"{SITES}/{site}/people", person=bea.id, role="parts") == "gate.denied"
    assert await stand.ask(bea, "POST", f"{SITES}/FR-1-1/people", person=bea.id, role="manager") == "gate.denied"
    assert await stand.ask(ada, "POST", f"{SITES}/FR-1-1/people", person=ada.id, role="accounts") == "dealers.role.self"
    eve = await stand.people.add("Eve", organisation="dealer:FR-2")
    assert (
        await stand.ask(ada, "POST", f"{SITES}/FR-1-1/people", person=eve.id, role="parts") == "dealers.person.foreign"
    )
    roles = await stand.ask(ada, "GET", f"{SITES}/FR-1-1/people")
    assert sorted((one["role"], one["brand"]) for one in roles) == [("manager", ""), ("parts", "renault")]
    await stand.ask(ada, "DELETE", f"{SITES}/FR-1-1/people/{invited['role']['id']}")
    assert await stand.ask(bea, "GET", f"{SITES}/FR-1-1") == "gate.denied"
    assert await stand.ask(ada, "DELETE", f"{SITES}/FR-1-1/people/{invited['role']['id']}") == "dealers.role.unknown"


async def test_a_manager_of_one_brand_does_not_lead_the_site(stand: Stand) -> None:
    ada = await stand.people.add("Ada", organisation="dealer:FR-2")
    await stand.dealers.give_role(ada.id, "dealer:FR-2", "FR-2-1", "manager", brand="lune")
    who = staff(ada.id, "FR-2")
    assert (await stand.ask(who, "GET", f"{SITES}/FR-2-1"))["id"] == "FR-2-1"
    assert await stand.ask(who, "POST", f"{SITES}/FR-2-1/code") == "gate.denied"
    assert await stand.ask(who, "POST", f"{SITES}/FR-2-1/people", person="person:1", role="parts") == "gate.denied"


async def test_codes_are_given_to_managers_and_the_security_duty(stand: Stand) -> None:
    code = await stand.ask(SECURITY, "POST", f"{SITES}/FR-1-1/code")
    assert (code["identity"], len(code["claim_code"])) == ("spiffe://rocade.test/eu/dealer/FR-1-1", 29)
    assert await stand.ask(SUPPORT, "POST", f"{SITES}/FR-1-1/code") == "gate.denied"
    assert await stand.ask(SECURITY, "POST", f"{SITES}/FR-9-9/code") == "dealers.site.unknown"
    codes = await stand.ask(SECURITY, "POST", "/v1/dealers/codes", json={"group": "martin"})
    assert [one["site"] for one in codes] == ["FR-1-1", "FR-1-2"]
    for wanted in ({}, {"country": "DE"}):
        assert await stand.ask(SECURITY, "POST", "/v1/dealers/codes", json=wanted) == "dealers.invalid"
    assert (
        await stand.ask(SECURITY, "POST", "/v1/dealers/codes", json={"sites": ["FR-1-1", "X"]})
        == "dealers.site.unknown"
    )


async def test_brands_and_exceptions_are_changed_by_the_security_duty(stand: Stand) -> None:
    path = f"{SITES}/FR-1-1/brands/lune"
    assert [one["brand"] for one in (await stand.ask(SECURITY, "PUT", path, sells=True))["brands"]] == [
        "lune",
        "renault",
    ]
    assert await stand.ask(SUPPORT, "PUT", path, sells=True) == "gate.denied"
    await stand.ask(SECURITY, "DELETE", path)
    assert await stand.ask(SECURITY, "DELETE", path) == "dealers.brand.foreign"
    rule = {"country": "FR", "service": "crm", "to": "partner:crm-fr"}
    assert (await stand.ask(SECURITY, "PUT", "/v1/dealers/exceptions", **rule))["may_cross"] is False
    assert len(await stand.ask(SUPPORT, "GET", "/v1/dealers/exceptions")) == 1
    await stand.ask(SECURITY, "DELETE", "/v1/dealers/exceptions", country="FR", service="crm")
    gone = await stand.ask(SECURITY, "DELETE", "/v1/dealers/exceptions", country="FR", service="crm")
    assert gone == "dealers.exception.unknown"


async def test_a_site_moves_over_by_its_own_reports(stand: Stand) -> None:
    own, step = machine("dealer", "FR-1-1"), f"{SITES}/FR-1-1/moves"
    report = {"list": "parts", "seq": 4, "compared": {"compared": 1, "same": 1, "differing": 0, "only_old": 0, "only_new": 0,
                                                       "examples": []}}  # fmt: skip
    assert (await stand.ask(SUPPORT, "POST", step, to="shadow"))["state"] == "shadow"
    assert await stand.ask(SUPPORT, "POST", f"{SITES}/FR-1-1/shadows", json=report) == "gate.denied"
    assert await stand.ask(machine("dealer", "FR-1-2"), "POST", f"{SITES}/FR-1-1/shadows", json=report) == "gate.denied"
    assert await stand.ask(SUPPORT, "POST", step, to="cut-over") == "dealers.move.unready"
    assert (await stand.ask(own, "POST", f"{SITES}/FR-1-1/shadows", json=report))["seq"] == 4
    assert len(await stand.ask(own, "GET", f"{SITES}/FR-1-1/shadows")) == 1
    assert await stand.ask(SUPPORT, "GET", f"{SITES}/FR-1-1/shadows") == "gate.denied"
    assert (await stand.ask(SUPPORT, "POST", step, to="cut-over"))["state"] == "cut-over"
    assert (await stand.ask(SUPPORT, "GET", f"{SITES}/FR-1-1"))["move"] == "cut-over"
    assert [one["state"] for one in await stand.ask(own, "GET", step)] == ["shadow", "cut-over"]
    told = {one["group"]: one["states"]["cut-over"] for one in await stand.ask(SUPPORT, "GET", "/v1/dealers/moves")}
    assert told == {"": 0, "martin": 1}
