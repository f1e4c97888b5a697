"""The one decision: particular before general, newest among equals, nothing without a rule."""

from __future__ import annotations

import random

import pytest

from rocade.core.errors import Refused
from rocade.services.interconnection.model import (
    FOREVER_US,
    SCOPES,
    Line,
    NamedService,
    Rule,
    SiteFacts,
    compile_policy,
    decide,
)

SITE = SiteFacts("FR-1", "d1", "g1", "FR", frozenset({"renault", "dacia"}))
TILL = NamedService(name="till", host="10.0.0.1", port=9000)


def asked(*rules: Rule, site: SiteFacts | None = SITE, device: str = "", at_us: int = 100) -> str:
    decision = decide(compile_policy(1, [TILL], list(rules)), site, "till", device, at_us)
    return decision.code or f"rule {decision.rule.number if decision.rule else 0}"


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        ([], "relay.denied"),
        ([Rule(number=1, service="till", caller="all")], "rule 1"),
        ([Rule(number=1, service="till", caller="brand:dacia")], "rule 1"),
        ([Rule(number=1, service="till", caller="brand:volvo")], "relay.denied"),
        ([Rule(number=1, service="till", caller="country:FR"), Rule(number=2, service="till", caller="all")], "rule 1"),
        ([Rule(number=1, service="till", caller="all"), Rule(number=2, service="till", caller="all")], "rule 2"),
        ([Rule(number=1, service="till", caller="all", from_us=101)], "relay.denied"),
        ([Rule(number=1, service="till", caller="all", until_us=100)], "relay.denied"),
        ([Rule(number=1, service="till", caller="all", device="pos")], "relay.denied"),
    ],
)
def test_a_decision(rules: list[Rule], answer: str) -> None:
    assert asked(*rules) == answer


def test_what_is_unknown_closed_or_ones_own_is_refused_by_name() -> None:
    rule = Rule(number=1, service="till", caller="all")
    assert asked(rule, site=None) == "relay.site_unknown"
    assert asked(rule, site=SiteFacts("FR-1", is_open=False)) == "relay.site_closed"
    assert decide(compile_policy(1, [], [rule]), SITE, "till", "", 1).code == "relay.service_unknown"
    own = NamedService(name="till", at="FR-1", host="10.0.0.1", port=9000)
    assert decide(compile_policy(1, [own], [rule]), SITE, "till", "", 1).code == "relay.own_service"


def oracle(rules: list[Rule], site: SiteFacts, device: str, at_us: int) -> int | None:
    """The same rule of choice, written plainly and apart."""
    best: tuple[int, int, int] | None = None
    names = {
        "site": [site.site], "dealer": [site.dealer], "group": [site.group], "country": [site.country],
        "brand": sorted(site.brands), "all": [""],
    }  # fmt: skip
    for rule in rules:
        scope = rule.caller.split(":")[0]
        fits = any(
            rule.caller == (f"{scope}:{word}" if word else scope) for word in names[scope] if word or scope == "all"
        )
        if fits and rule.device in ("", device) and rule.from_us <= at_us < rule.until_us:
            rank = (
                -["site", "dealer", "group", "brand", "country", "all"].index(scope),
                int(bool(rule.device)),
                rule.number,
            )
            best = rank if best is None or rank > best else best
    return None if best is None else best[2]


def test_ten_thousand_random_policies_agree_with_an_oracle() -> None:
    seed = 20261122
    print(f"seed {seed}")
    dice = random.Random(seed)
    words = {"site": ["FR-1", "FR-2"], "dealer": ["d1", "d2"], "group": ["g1", ""], "brand": ["renault", "volvo"],
             "country": ["FR", "DE"]}  # fmt: skip
    for _ in range(10_000):
        rules = []
        for number in range(1, dice.randint(1, 6)):
            scope = dice.choice(SCOPES)
            word = dice.choice([one for one in words.get(scope, [""]) if one or scope == "all"])
            caller = f"{scope}:{word}" if word else scope
            device = dice.choice(["", "", "pos"])
            begin = dice.choice([0, 100])
            end = dice.choice([FOREVER_US, 200])
            rules.append(Rule(number=number, service="till", caller=caller, device=device, from_us=begin, until_us=end))
        device, at_us = dice.choice(["", "pos", "phone"]), dice.choice([50, 150, 250])
        expected = oracle(rules, SITE, device, at_us)
        assert asked(*rules, device=device, at_us=at_us) == (f"rule {expected}" if expected else "relay.denied")


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (NamedService(name="Till", host="h", port=1), "service.name"),
        (NamedService(name="till", at="../x", host="h", port=1), "service.at"),
        (NamedService(name="till", host="", port=1), "service.address"),
        (NamedService(name="till", host="h", port=70_000), "service.address"),
        (NamedService(name="till", host="h", port=1, priority="urgent"), "service.class"),
        (NamedService(name="till", host="h", port=1, about="x" * 201), "service.about"),
        (Rule(service="till", caller="everybody"), "rule.caller"),
        (Rule(service="till", caller="all:x"), "rule.caller"),
        (Rule(service="till", caller="site:"), "rule.caller"),
        (Rule(service="", caller="all"), "rule.service"),
        (Rule(service="till", caller="all", device="a b"), "rule.device"),
        (Rule(service="till", caller="all", day_bytes=-1), "rule.quota"),
        (Rule(service="till", caller="all", from_us=2, until_us=2), "rule.period"),
        (Line(site="", name="a", capacity_kbit_s=1, monthly_minor=1), "line.name"),
        (Line(site="FR-1", name="a", capacity_kbit_s=0, monthly_minor=1), "line.size"),
        (Line(site="FR-1", name="a", capacity_kbit_s=1, monthly_minor=1, currency="eur"), "line.currency"),
        (Line(site="FR-1", name="a", supplier="x" * 81, capacity_kbit_s=1, monthly_minor=1), "line.supplier"),
    ],
)
def test_what_is_written_wrongly_is_refused_with_its_own_code(made: NamedService | Rule | Line, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        made.check()
    assert refusal.value.code == f"interconnection.{code}"
