"""Routing is data: the most particular rule wins, nothing is guessed, a change is simulated before it is made."""

from __future__ import annotations

import pytest
from overtaking import overtake
from tests.services.exchange.hub import Hub, Places

from rocade.core.errors import Refused
from rocade.services.dealers import NationalException
from rocade.services.exchange import Rule, read_rules, store
from rocade.services.exchange.routing import Compiled, check_rules, resolve
from rocade.wire.exchange import Address

RULES = [
    Rule(to="local/any"),
    Rule(to="local/warranty", service="warranty"),
    Rule(to="partner/dacia-system", service="warranty", brand="dacia"),
    Rule(to="hub/hub-ca", country="CA"),
    Rule(to="local/pilot", service="warranty", dealer="FR-9"),
    Rule(to="site", service="stock"),
    Rule(to="local/orders", service="orders", primary_only=True),
]


@pytest.fixture(name="places")
def some_places() -> Places:
    places = Places()
    for id in ("FR-1", "FR-9"):
        places.add(id, brands=("renault", "dacia"))
    places.add("FR-1-2", primary="FR-1")
    places.add("CA-1", country="CA")
    places.exceptions["FR", "invoices"] = NationalException(
        "FR", "invoices", "", "partner:tax", may_cross=False, note=""
    )
    places.exceptions["ES", "invoices"] = NationalException(
        "ES", "invoices", "", "partner:hacienda", may_cross=True, note=""
    )
    return places


@pytest.mark.parametrize(
    ("party", "address", "goes"),
    [
        ("dealer/FR-1", {"service": "warranty", "brand": "renault"}, "local/warranty"),
        ("dealer/FR-1", {"service": "warranty", "brand": "dacia"}, "partner/dacia-system"),
        ("dealer/FR-9", {"service": "warranty", "brand": "renault"}, "local/pilot"),
        ("dealer/FR-1", {"service": "anything"}, "local/any"),
        ("dealer/FR-1", {"country": "CA", "service": "loans"}, "hub/hub-ca"),
        ("dealer/FR-1", {"service": "stock", "site": "FR-9"}, "dealer/FR-9"),
        ("dealer/FR-1", {"service": "stock"}, "exchange.route.site"),
        ("dealer/FR-1", {"service": "stock", "site": "FR-404"}, "exchange.route.site"),
        ("dealer/FR-1", {"service": "orders"}, "local/orders"),
        ("dealer/FR-1-2", {"service": "orders"}, "exchange.route.primary"),
        ("dealer/FR-1-2", {"service": "warranty", "brand": "dacia"}, "dealers.brand.foreign"),
        ("dealer/FR-1", {"country": "FR", "service": "invoices"}, "partner/tax"),
        ("service/hub-ca", {"country": "FR", "service": "invoices"}, "exchange.route.confined"),
        ("service/hub-ca", {"country": "ES", "service": "invoices"}, "partner/hacienda"),
        ("service/hub-ca", {"country": "CA", "service": "loans"}, "exchange.route.hop"),
        ("service/exchange", {"service": "stock", "site": "FR-1"}, "dealer/FR-1"),
        ("dealer/FR-1", {"service": "invoices"}, "partner/tax"),
        ("dealer/FR-1", {"country": "CA", "service": "invoices"}, "partner/tax"),
        ("dealer/FR-1", {"country": "ES", "service": "invoices"}, "partner/tax"),
        ("dealer/CA-1", {"service": "loans"}, "hub/hub-ca"),
    ],
)
def test_where_a_message_goes(places: Places, party: str, address: dict[str, str], goes: str) -> None:
    try:
        found = resolve(Compiled(RULES), places, party, Address(**address), 1)  # type: ignore[arg-type]
    except Refused as refusal:
        found = refusal.code
    assert found == goes


def test_without_a_rule_nothing_goes_anywhere(places: Places) -> None:
    with pytest.raises(Refused, match=r"exchange\.route\.none"):
        resolve(Compiled([Rule(to="local/a", service="a")]), places, "dealer/FR-1", Address(service="b"), 1)  # type: ignore[arg-type]


def test_what_stays_never_goes_to_another_hub_however_particular_the_rule(places: Places) -> None:
    rules = [Rule(to="local/loans", country="FR", service="loans", stays=True),
             Rule(to="hub/hub-ca", country="FR", service="loans", brand="renault", dealer="FR-1")]  # fmt: skip
    address = Address("renault", "FR", "loans")
    with pytest.raises(Refused, match=r"exchange\.route\.confined"):
        resolve(Compiled(rules), places, "dealer/FR-1", address, 1)  # type: ignore[arg-type]
    assert resolve(Compiled(rules), places, "dealer/FR-9", address, 1) == "local/loans"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([Rule(to="local/a"), Rule(to="local/b")], "rules 1 and 2 match the same messages"),
        ([Rule(to="hub/hub-ca", stays=True)], "says its messages stay and sends them to another hub"),
        ([Rule(to="hub/canada")], "another hub is named hub/hub-<region>"),
    ],
)
def test_a_table_that_cannot_stand_is_refused(rules: list[Rule], why: str) -> None:
    with pytest.raises(Refused, match=r"exchange\.route\.invalid") as refused:
        check_rules(rules)
    assert why in refused.value.message


@pytest.mark.parametrize(
    "content", [b"[{}]", b'[{"to": "nowhere"}]', b'[{"to":"local/a","x":1}]', b"{", b'[{"to":"local/a","brand":"a b"}]']
)
def test_rules_are_read_strictly(content: bytes) -> None:
    with pytest.raises(Refused, match=r"exchange\.route\.invalid"):
        read_rules(content)


async def test_a_change_is_simulated_on_what_was_really_sent(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1", brands=("renault", "dacia"))).connect()
    for brand, count in (("renault", 3), ("dacia", 2)):
        for _ in range(count):
            await dealer.send(dealer.message(to={"brand": brand}))
    draft = [Rule(to="local/desk"), Rule(to="partner/dacia-system", brand="dacia")]
    (change,) = await hub.router.simulate(draft)
    assert (change.brand, change.count, change.was, change.would_be) == (
        "dacia",
        2,
        "local/desk",
        "partner/dacia-system",
    )
    assert await hub.router.simulate([Rule(to="local/desk")]) == []
    assert {one.would_be for one in await hub.router.simulate([Rule(to="local/desk", brand="dacia")])} == {
        "exchange.route.none"
    }
    await hub.rules(*draft)
    message = dealer.message(to={"brand": "dacia"})
    await dealer.send(message)
    assert (await hub.exchange.replay("partner/dacia-system", 0))[0].id == message.id, "reality is what was simulated"


async def test_versions_are_kept_and_two_people_do_not_overwrite_each_other(hub: Hub) -> None:
    first = await hub.router.current()
    await hub.router.publish([Rule(to="local/a")], first.version, "a", "operator:one")
    with pytest.raises(Refused, match=r"exchange\.route\.stale"):
        await hub.router.publish([Rule(to="local/b")], first.version, "b", "operator:two")
    assert [one.note for one in await hub.router.versions()] == ["a", ""]
    assert await hub.audited("exchange.routes")


async def test_a_version_just_published_stays_in_force_while_an_older_reading_ends(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hub.routes.version
    await overtake(monkeypatch, store, "read_routes", hub.routes.refresh, lambda: hub.rules(Rule(to="local/other")))
    assert hub.routes.version == before + 1
    assert hub.routes.resolve("dealer/FR-1", Address(service="orders")) == "local/other"
