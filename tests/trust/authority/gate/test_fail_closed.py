"""Attacks on the gate, and faults in it: whatever is odd, misspelt, missing or broken is a refusal."""

from __future__ import annotations

import logging

import cedarpy
import msgspec
import pytest

from rocade.core import data_classes
from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.core.identifiers import Identity
from rocade.trust.authority.gate import (
    DUTIES,
    Act,
    Engine,
    Gate,
    Principal,
    Right,
    SiteRight,
    acts,
    nobody,
    of_certificate,
)
from rocade.trust.authority.gate.asked import ask
from rocade.trust.authority.gate.engine import policy_texts

OWNER = Principal("person", "person:1", "person:1", "passkey", "eu")
STAFF = Principal("person", "person:2", "operator", "passkey", "eu", DUTIES)
CLI = of_certificate(Identity("rocade.test", "eu", "operator", "cli"))
PARTNER = of_certificate(Identity("rocade.test", "eu", "partner", "p"))
TOKEN = msgspec.structs.replace(PARTNER, means="token", purposes=frozenset({"insurance"}))
ALL = Right("none", data_classes.ALL, "consent:1", is_owned=True)
OWNED = Right("owner", data_classes.ALL, "", is_owned=True)


class Fixed:
    """Rights that always answer the same, or fail as told."""

    def __init__(self, right: Right, fault: Exception | None = None) -> None:
        self.answer, self.fault = right, fault

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        if self.fault:
            raise self.fault
        return self.answer

    def refs(self, principal: Principal, purpose: str, at_us: int) -> list[int]:
        return [1, 2]


def changed(principal: Principal, **values: object) -> Principal:
    return msgspec.structs.replace(principal, **values)


ATTACKS = {
    "no region": (changed(STAFF, region=""), acts.READ_AUDIT, ALL, "operation"),
    "another region": (changed(STAFF, region="cn"), acts.READ_AUDIT, ALL, "operation"),
    "an operator's certificate of another region": (changed(CLI, region="cn"), acts.REVOKE, ALL, "operation"),
    "an owner proven in another region": (changed(OWNER, region="cn"), acts.READ_TWIN, OWNED, "own"),
    "an account of another region": (changed(OWNER, region="cn"), acts.READ_ACCOUNT, OWNED, "own"),
    "a misspelt act": (STAFF, Act("audit.raed", by="security"), ALL, "operation"),
    "an act of no table that says it is public": (nobody("peer:1"), Act("anything", "nothing", by="public"), ALL, ""),
    "an act that lies about what it is of": (nobody("peer:1"), Act("audit.read", "nothing", by="public"), ALL, ""),
    "a vehicle act as an act of the region": (STAFF, Act("vehicle.twin.read", "region"), ALL, "operation"),
    "an act of a resource that does not exist": (STAFF, Act("audit.read", "moon"), ALL, "operation"),
    "a group of acts as an act": (STAFF, Act("security"), ALL, "operation"),
    "an unknown kind of principal": (changed(STAFF, kind="vehicle"), acts.READ_AUDIT, ALL, "operation"),
    "a kind in capitals": (changed(STAFF, kind="Person"), acts.READ_AUDIT, ALL, "operation"),
    "nobody with duties": (changed(nobody("peer:1"), region="eu", duties=DUTIES), acts.READ_AUDIT, ALL, ""),
    "nobody who is the owner": (changed(nobody("peer:1"), region="eu"), acts.READ_TWIN, OWNED, "own"),
    "a partner with duties": (changed(TOKEN, duties=DUTIES), acts.READ_AUDIT, ALL, "insurance"),
    "a partner as owner": (TOKEN, acts.GRANT, OWNED, "insurance"),
    "a partner with an account": (TOKEN, acts.READ_ACCOUNT, ALL, "insurance"),
    "a service certificate that reads a vehicle": (
        of_certificate(Identity("rocade.test", "eu", "service", "s")), acts.READ_TWIN, ALL, "operation",
    ),
    "a service certificate that lists vehicles": (
        of_certificate(Identity("rocade.test", "eu", "service", "s")), acts.LIST_VEHICLES, ALL, "operation",
    ),
    "a duty that does not exist": (changed(STAFF, duties=frozenset({"root"})), acts.READ_STATUS, ALL, "operation"),
    "a duty as one word with another": (
        changed(STAFF, duties=frozenset({"support,security"})), acts.READ_AUDIT, ALL, "operation",
    ),
    "a partner's certificate without a token": (PARTNER, acts.READ_TWIN, ALL, "insurance"),
    "a token for another purpose": (TOKEN, acts.READ_TWIN, ALL, "research"),
    "a token for no purpose": (changed(TOKEN, purposes=frozenset()), acts.READ_TWIN, ALL, "insurance"),
    "an empty purpose": (TOKEN, acts.READ_TWIN, ALL, ""),
    "an operator's token beyond its purposes": (
        changed(CLI, means="token", purposes=frozenset({"support"})), acts.READ_TWIN, ALL, "operation",
    ),
    "a class that was not granted": (
        TOKEN, acts.READ_TRACK, Right("none", data_classes.mask(["energy"]), "c", is_owned=True), "insurance",
    ),
    "one of two classes": (
        TOKEN, acts.READ_TRIPS, Right("none", data_classes.mask(["location"]), "c", is_owned=True), "insurance",
    ),
    "no class at all": (TOKEN, acts.READ_TWIN, Right("none", 0, "", is_owned=True), "insurance"),
    "a relation nobody knows": (OWNER, acts.READ_TWIN, Right("friend", data_classes.ALL, "", is_owned=True), "own"),
    "a driver who grants": (OWNER, acts.GRANT, Right("driver", data_classes.ALL, "", is_owned=True), "own"),
    "a driver who invites": (OWNER, acts.INVITE, Right("driver", data_classes.ALL, "", is_owned=True), "own"),
    "a former owner who grants": (OWNER, acts.GRANT, Right("former", data_classes.ALL, "", is_owned=True), "own"),
    "a former owner who transfers": (OWNER, acts.TRANSFER, Right("former", data_classes.ALL, "", is_owned=True), "own"),
    "a recipient of everything who reads who looked": (STAFF, acts.READ_LOOKS, ALL, "support"),
    "an operator at an owned vehicle": (STAFF, acts.READ_TWIN, Right(is_owned=True), "operation"),
    "an owner who hands out a code as support does": (OWNER, acts.GIVE_VEHICLE, OWNED, "own"),
    "support that settles whose a vehicle is": (
        changed(STAFF, duties=frozenset({"support"})), acts.SETTLE_CONFLICT, ALL, "operation",
    ),
    "an operator at the fleet's vehicle for another purpose": (STAFF, acts.READ_TWIN, Right("none", 127), "insurance"),
    "an operator at the fleet's vehicle while the table is stale": (STAFF, acts.READ_TWIN, Right("none", 0), "support"),
    "a link session that revokes": (changed(STAFF, means="link"), acts.REVOKE, ALL, "operation"),
    "a session of a foreign identity provider that erases": (changed(OWNER, means="openid"), acts.ERASE, OWNED, "own"),
    "a token of an operator that revokes": (
        changed(CLI, means="token", purposes=frozenset({"operation"})), acts.REVOKE, ALL, "operation",
    ),
    "a partner's certificate that says it was touched": (PARTNER, acts.ERASE, OWNED, "own"),
}  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_touched_or_not(attack: str, engine: Engine) -> None:
    principal, act, right, purpose = ATTACKS[attack]
    for touched in (False, True):
        with pytest.raises(Refused) as refusal:
            Gate("eu", Fixed(right), engine).permit(principal, act, ref=1, purpose=purpose, at_us=0, touched=touched)
        assert refusal.value.code == "gate.denied"


ROLES = {"manager", "sales", "after-sales", "parts", "accounts"}
DELEGATED = {"install", "renew", "restart", "health"}
EVERYTHING = SiteRight(is_staff=True, roles=frozenset(ROLES), delegated=frozenset({*DELEGATED, "read", "prices.read"}))
MACHINE = of_certificate(Identity("rocade.test", "eu", "dealer", "FR-1-1"))
SITE_ATTACKS = {
    "a provider who reads prices": (PARTNER, acts.READ_SITE_PRICES, EVERYTHING),
    "a provider who reads messages": (PARTNER, acts.READ_SITE_MESSAGES, EVERYTHING),
    "a provider who sends a message": (PARTNER, acts.SEND_SITE_MESSAGE, EVERYTHING),
    "a provider who moves money": (PARTNER, acts.SEND_SITE_MONEY, EVERYTHING),
    "a provider who takes the one-time code": (PARTNER, acts.JOIN_SITE, EVERYTHING),
    "a provider who delegates further": (PARTNER, acts.DELEGATE, EVERYTHING),
    "a provider who gives roles": (PARTNER, acts.CHANGE_SITE_PEOPLE, EVERYTHING),
    "a provider's token": (changed(TOKEN), acts.READ_SITE_MESSAGES, EVERYTHING),
    "a provider who was given something else": (PARTNER, acts.RESTART_AGENT, SiteRight(delegated=frozenset({"renew"}))),
    "an operator with every duty who reads messages": (CLI, acts.READ_SITE_MESSAGES, EVERYTHING),
    "a signed-in operator who reads prices": (STAFF, acts.READ_SITE_PRICES, SiteRight()),
    "another site's machine": (MACHINE, acts.READ_SITE_PRICES, SiteRight()),
    "a site's machine that gives roles": (MACHINE, acts.CHANGE_SITE_PEOPLE, SiteRight(is_self=True)),
    "a site's machine of another region": (changed(MACHINE, region="cn"), acts.SEE_SITE, SiteRight(is_self=True)),
    "a seller who moves money": (OWNER, acts.SEND_SITE_MONEY, SiteRight(roles=frozenset({"sales", "parts"}))),
    "a role nobody knows": (OWNER, acts.READ_SITE_PRICES, SiteRight(roles=frozenset({"owner"}))),
    "a manager of another region": (changed(OWNER, region="cn"), acts.READ_SITE_PRICES, EVERYTHING),
    "nobody with roles": (changed(nobody("peer:1"), region="eu"), acts.SEE_SITE, EVERYTHING),
    "a manager by link who delegates": (changed(OWNER, means="link"), acts.DELEGATE, EVERYTHING),
    "a service": (of_certificate(Identity("rocade.test", "eu", "service", "s")), acts.SEE_SITE, EVERYTHING),
}  # fmt: skip


class Tied(Fixed):
    """What ties anybody to any site."""

    def __init__(self, tie: SiteRight) -> None:
        super().__init__(ALL)
        self.tie = tie

    def site_right(self, principal: Principal, site: str, brand: str, at_us: int) -> SiteRight:
        return self.tie


@pytest.mark.parametrize("attack", SITE_ATTACKS)
def test_an_attack_at_a_point_of_sale_is_refused_touched_or_not(attack: str, engine: Engine) -> None:
    principal, act, tie = SITE_ATTACKS[attack]
    told = Tied(tie)
    for touched in (False, True):
        with pytest.raises(Refused, match=r"^gate\.denied"):
            Gate("eu", told, engine, told).permit(
                principal, act, site="FR-1-1", purpose="insurance", at_us=0, touched=touched
            )


def test_an_act_at_a_point_of_sale_that_names_none_is_refused(engine: Engine) -> None:
    told = Tied(SiteRight(is_self=True))
    with pytest.raises(Refused, match=r"^gate\.denied"):
        Gate("eu", told, engine, told).permit(MACHINE, acts.SEE_SITE, purpose="", at_us=0)
    with pytest.raises(Refused, match=r"^gate\.denied"):
        Gate("eu", told, engine).permit(MACHINE, acts.SEE_SITE, site="FR-1-1", purpose="", at_us=0)
    assert Gate("eu", told, engine, told).permit(MACHINE, acts.SEE_SITE, site="FR-1-1", purpose="", at_us=0)


def test_an_act_for_providers_that_names_nothing_is_open_to_none(engine: Engine) -> None:
    """Cedar says that a set contains all of an empty one."""
    told = Tied(SiteRight(delegated=frozenset(DELEGATED)))
    nameless = msgspec.structs.replace(acts.RESTART_AGENT, classes=())
    with pytest.raises(Refused, match=r"^gate\.denied"):
        Gate("eu", told, engine, told).permit(PARTNER, nameless, site="FR-1-1", purpose="", at_us=0)


SEVERAL = {
    "a token for the purpose": (TOKEN, "insurance", True),
    "a certificate without a token": (PARTNER, "insurance", False),
    "a token for another purpose": (TOKEN, "research", False),
    "a person": (changed(STAFF, duties=frozenset()), "insurance", True),
    "a person of another region": (changed(OWNER, region="cn"), "insurance", False),
    "a service": (of_certificate(Identity("rocade.test", "eu", "service", "s")), "insurance", False),
    "nobody": (nobody("peer:1"), "insurance", False),
}


@pytest.mark.parametrize("who", SEVERAL)
def test_what_is_asked_of_several_vehicles_passes_the_same_gate(who: str, engine: Engine) -> None:
    principal, purpose, may = SEVERAL[who]
    gate = Gate("eu", Fixed(ALL), engine)
    assert bool(gate.right(principal, 1, purpose, 0).classes) is may
    assert bool(gate.refs(principal, purpose, 0)) is may


def test_a_gate_without_a_region_lets_nobody_in_but_to_what_is_public(engine: Engine) -> None:
    gate = Gate("", Fixed(OWNED), engine)
    for region in ("", "eu"):
        with pytest.raises(Refused):
            gate.permit(changed(OWNER, region=region), acts.READ_TWIN, ref=1, purpose="own", at_us=0)
    assert gate.permit(nobody("peer:1"), acts.CHECK_HEALTH, purpose="", at_us=0)


def test_a_vehicle_act_without_a_vehicle_is_refused(engine: Engine) -> None:
    with pytest.raises(Refused, match=r"^gate\.denied"):
        Gate("eu", Fixed(OWNED), engine).permit(STAFF, acts.READ_GAPS, purpose="operation", at_us=0)


def test_a_touch_opens_only_what_it_is_asked_for(engine: Engine) -> None:
    gate = Gate("eu", Fixed(OWNED), engine)
    with pytest.raises(Refused, match=r"^gate\.touch") as refusal:
        gate.permit(OWNER, acts.ERASE, ref=1, purpose="own", at_us=0)
    assert refusal.value.facts == {"act": "vehicle.erase"}
    assert gate.permit(OWNER, acts.ERASE, ref=1, purpose="own", at_us=0, touched=True).policies == ("owner",)
    with pytest.raises(Refused, match=r"^gate\.touch"):
        gate.permit(OWNER, acts.ERASE, ref=1, purpose="own", at_us=0)


def test_what_was_remembered_does_not_outlive_a_withdrawal(engine: Engine) -> None:
    rights = Fixed(ALL)
    gate = Gate("eu", rights, engine)
    assert gate.permit(TOKEN, acts.READ_TWIN, ref=1, purpose="insurance", at_us=0)
    rights.answer = Right(is_owned=True)
    with pytest.raises(Refused):
        gate.permit(TOKEN, acts.READ_TWIN, ref=1, purpose="insurance", at_us=0)


@pytest.mark.parametrize("fault", [Unavailable("consent.away", "away"), ValueError("a bug")])
def test_rights_that_cannot_be_told_open_nothing(fault: Exception, engine: Engine) -> None:
    with pytest.raises(type(fault)):
        Gate("eu", Fixed(ALL, fault), engine).permit(TOKEN, acts.READ_TWIN, ref=1, purpose="insurance", at_us=0)


# --- faults in the policies and in the engine -------------------------------------------------------------------------

FAILS_WHILE_DECIDING = '\n@id("planted")\npermit (principal, action, resource) when { 9223372036854775807 + 1 > 0 };\n'


@pytest.mark.parametrize("file", ["walls", "vehicle"])
def test_a_policy_that_fails_while_deciding_is_a_refusal_even_where_another_allows(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = policy_texts()
    engine = Engine({**texts, file: texts[file] + FAILS_WHILE_DECIDING})
    answer = engine.decide(ask(OWNER, acts.READ_TWIN, OWNED, "eu", "own"))
    assert answer.policies == ("owner",), "Cedar itself says Allow: the trap this wrapper is for"
    assert not answer.is_allowed
    with caplog.at_level(logging.ERROR), pytest.raises(Refused) as refusal:
        Gate("eu", Fixed(OWNED), engine).permit(OWNER, acts.READ_TWIN, ref=1, purpose="own", at_us=0)
    assert refusal.value.facts["missing"] == "engine"
    assert "vehicle.twin.read" in caplog.text
    assert OWNER.id not in caplog.text


MISSPELT = [
    ("vehicle", "context.relation == ", "context.realtion == "),
    ("vehicle", "principal.duties", "principal.dutys"),
    ("vehicle", 'Action::"look"', 'Action::"loook"'),
    ("vehicle", "resource is Vehicle", "resource is Vehicel"),
    ("vehicle", "!context.is_owned", 'context.is_owned == "no"'),
    ("region", 'action == Action::"metrics.read"', 'action == Action::"metrics.raed"'),
    ("account", "context.is_own", "context.relation"),
    ("walls", "principal.means", "principal.meens"),
    ("region", "permit (", "permitt ("),
]


@pytest.mark.parametrize(("file", "right", "wrong"), MISSPELT)
def test_the_schema_finds_what_is_misspelt_before_anything_is_decided(file: str, right: str, wrong: str) -> None:
    texts = policy_texts()
    assert right in texts[file]
    with pytest.raises((Misconfigured, ValueError)) as found:
        Engine({**texts, file: texts[file].replace(right, wrong)})
    assert getattr(found.value, "code", "") == "gate.policies"


def test_an_engine_that_breaks_refuses(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> cedarpy.AuthzResult:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(cedarpy, "is_authorized", broken)
    answer = engine.decide(ask(OWNER, acts.READ_TWIN, OWNED, "eu", "own"))
    assert (answer.is_allowed, answer.errors) == (False, ("RuntimeError: out of memory",))


@pytest.mark.parametrize("said", ["NoDecision", "Deny"])
def test_only_allow_is_allow(said: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cedarpy.AuthzResult({"decision": said, "diagnostics": {"reason": [], "errors": []}})
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_: result)
    assert not engine.decide(ask(OWNER, acts.READ_TWIN, OWNED, "eu", "own")).is_allowed


def test_every_look_needs_classes_and_every_act_a_known_group() -> None:
    for act in acts.ACTS.values():
        assert act.by in acts.GROUPS, act.name
        assert act.of in {"nothing", "region", "vehicle", "account", "site"}
        if act.of == "site":
            known = ROLES if act.by == "site_business" else DELEGATED
            assert set(act.classes) <= known, act.name
            assert act.classes or act.by in {"site_look", "site_lead"}, f"{act.name} names nobody it is for"
            continue
        named = act.by in {"look", "desk", "command"}
        assert bool(act.classes) == named, f"{act.name}: looks and commands name classes, nothing else does"
        assert set(act.classes) <= {"*", "control", *data_classes.DATA_CLASSES, *data_classes.CONTROL_CLASSES}
