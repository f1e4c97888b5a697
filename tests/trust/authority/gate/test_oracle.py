"""The policies against an oracle written apart from them, over random requests; and what happens when attributes go missing.

A run prints its seed; `ROCADE_SEED` runs it again, and a full run (`make test FULL=1`) draws a new one. Everything here asks
the engine itself: nothing is remembered.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, lru_cache

import cedarpy
import msgspec
import pytest

from rocade.core import data_classes
from rocade.trust.authority.gate import Act, Engine, Principal, Right, SiteRight, acts
from rocade.trust.authority.gate.asked import KINDS, RESOURCES, AccountFacts, Asked, Proof, SiteFacts, VehicleFacts, ask
from rocade.trust.authority.gate.engine import FILES, policy_texts

SEED = int(os.environ.get("ROCADE_SEED") or (time.time_ns() % 2**32 if os.environ.get("FULL") else 20_261_122))
HERE = "eu"
DUTIES = ("support", "security", "release")
STAFF = ("manager", "sales", "after-sales", "parts", "accounts", "cleaner")
DELEGATED = ("install", "renew", "restart", "health")
PURPOSES = ("own", "operation", "support", "insurance", "charging")


class Case(msgspec.Struct, frozen=True):
    who: Principal
    act: Act
    right: Right
    purpose: str
    touched: bool
    is_own: bool
    at_site: SiteRight


def oracle(
    who: Principal, act: Act, right: Right, purpose: str, touched: bool, is_own: bool, at_site: SiteRight
) -> bool:
    """Who may do what, in forty lines of Python."""
    if act.of == "nothing":
        return True
    is_cli = who.kind == "operator" and who.means == "certificate"
    if who.region != HERE or (act.needs_touch and not is_cli and not (touched and who.means == "passkey")):
        return False
    duties = set(who.duties) & set(DUTIES) if who.kind in {"person", "operator"} else set()
    if act.of == "account":
        return (is_own and who.kind == "person") or (act.by == "account" and "security" in duties)
    if act.of == "region":
        is_known = act.by == "known" and who.kind in {"person", "operator", "partner", "dealer"}
        scrapes = act.name == "metrics.read" and (who.kind, who.means) == ("service", "certificate")
        return is_known or scrapes or act.by in duties or (act.by == "operators" and bool(duties))
    if act.of == "site":
        return at(who, act, at_site, duties)
    if who.means == "token" and purpose not in who.purposes:
        return False
    is_look, tie = act.by in {"look", "desk"}, right.relation if who.kind == "person" else ""
    if tie == "owner" and act.by != "give":
        return True
    if tie == "former" and (is_look or act.by == "mine"):
        return True
    if "support" in duties and act.by in {"desk", "give"}:
        return True
    if act.name in {"vehicle.erase", "vehicle.erasure.plan"}:
        return "security" in duties and not right.is_owned
    has = data_classes.names(right.classes)
    if act.by == "command":
        return may_command(who, act, right, purpose, duties, set(has))
    if not (
        is_look
        and (set(act.classes) <= set(has) or (act.classes == ("*",) and set(has) & set(data_classes.DATA_CLASSES)))
    ):
        return False
    if not right.is_owned and duties and purpose in {"operation", "support"}:
        return True
    is_recipient = who.kind in {"person", "operator"} or (who.kind in {"partner", "dealer"} and who.means == "token")
    return tie == "driver" or (right.relation == "none" and right.is_owned and is_recipient)


def may_command(who: Principal, act: Act, right: Right, purpose: str, duties: set[str], has: set[str]) -> bool:
    """Who may make a vehicle do something, its owner apart."""
    if not right.is_owned and "support" in duties and purpose in {"operation", "support"}:
        return right.classes == data_classes.ALL or wants(act, has)
    is_driver = right.relation == "driver" and who.kind == "person"
    is_recipient = who.kind in {"person", "operator"} or (who.kind in {"partner", "dealer"} and who.means == "token")
    is_tied = is_driver or (right.relation == "none" and right.is_owned and is_recipient)
    is_open = not right.is_owned and right.classes == data_classes.ALL
    return is_tied and (is_open or wants(act, has))


def wants(act: Act, has: set[str]) -> bool:
    """Whether he has what the act wants."""
    return bool(has & set(data_classes.CONTROL_CLASSES)) if act.classes == ("control",) else set(act.classes) <= has


def at(who: Principal, act: Act, tie: SiteRight, duties: set[str]) -> bool:
    """Who may do what at a point of sale."""
    is_look, is_business, wanted = act.by == "site_look", act.by == "site_business", set(act.classes)
    if who.kind == "dealer":
        return tie.is_self and (is_look or is_business)
    if who.kind == "partner":
        has = tie.delegated and wanted <= tie.delegated
        return bool(has) and (is_look or act.by == "site_run")
    if is_business:
        return who.kind == "person" and bool(tie.roles & wanted)
    is_staff = who.kind == "person" and (tie.is_staff if is_look else "manager" in tie.roles)
    needed = {"site_look": set(DUTIES), "site_run": {"support"}, "site_lead": {"security"}}[act.by]
    return is_staff or bool(duties & needed)


def draw(random_: random.Random) -> Case:
    """A request of which each part is likely enough to matter."""
    pick = random_.choice
    kind = pick(("person", "person", "person", "operator", "partner", "partner", "dealer", "service", "nobody"))
    means = pick(("passkey", "passkey", "link", "openid") if kind == "person" else ("certificate", "token", "none"))
    duties = frozenset(random_.sample((*DUTIES, "cleaning"), pick((0, 0, 1, 1, 2, 3))))
    purposes = frozenset(random_.sample(PURPOSES, pick((0, 1, 2, 4))))
    who = Principal(kind, "one", "one", means, pick((HERE,) * 12 + ("cn", "")), duties, purposes)
    of = pick(("vehicle",) * 5 + ("region",) * 3 + ("site",) * 4 + ("account", "nothing"))
    relation = pick(("none", "none", "none", "owner", "former", "driver", "thief"))
    classes = pick((0, data_classes.ALL, random_.getrandbits(7), random_.getrandbits(7) | 6, random_.getrandbits(11)))
    right = Right(relation, classes, "", is_owned=random_.random() < 0.6)
    roles, given = (frozenset(random_.sample(words, pick((0, 1, 1, 2)))) for words in (STAFF, DELEGATED))
    at_site = SiteRight(random_.random() < 0.5, random_.random() < 0.5, roles, given)
    touched, is_own = random_.random() < 0.5, random_.random() < 0.5
    return Case(who, pick(pick(BY_OF[of])), right, pick(PURPOSES), touched, is_own, at_site)


BY_OF = {
    of: [[act for act in acts.ACTS.values() if (act.of, act.by) == (of, by)] for by in acts.GROUPS if by in used]
    for of, used in ((of, {act.by for act in acts.ACTS.values() if act.of == of}) for of in RESOURCES)
}
"""Acts by what they are of and by group: a group of one is drawn as often as a large one."""
BY_OF["region"].append([acts.READ_METRICS])


def question(case: Case) -> Asked:
    return ask(
        case.who, case.act, case.right, HERE, case.purpose, touched=case.touched and case.act.needs_touch, is_own=case.is_own,
        at_site=case.at_site,
    )  # fmt: skip


def cases(count: int, salt: str = "") -> Iterator[Case]:
    print(f"ROCADE_SEED={SEED}")
    random_ = random.Random(f"{SEED}{salt}")
    return (draw(random_) for _ in range(count))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def disagreements(engine: Engine, count: int) -> tuple[list[Case], Counter[str]]:
    wrong: list[Case] = []
    seen: Counter[str] = Counter()
    for case in cases(count):
        answer = engine.decide(question(case))
        seen.update(answer.policies if answer.is_allowed else [f"not {id}" for id in answer.policies])
        seen["allowed"] += answer.is_allowed
        if answer.is_allowed != oracle(*msgspec.structs.astuple(case)) or answer.errors:
            wrong.append(case)
    return wrong, seen


@pytest.mark.timeout(900)
@pytest.mark.parametrize("requests", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_the_policies_agree_with_the_oracle_on_random_requests(engine: Engine, requests: int) -> None:
    wrong, seen = disagreements(engine, requests)
    assert wrong == []
    assert 0.2 < seen["allowed"] / requests < 0.8
    rare = {name: count for name, count in seen.items() if count < requests // 10_000}
    assert rare == {}, "a policy that is hardly ever asked about is not tested"
    assert len([name for name in seen if name != "allowed"]) >= 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_policies_agree_with_the_oracle_on_a_million_requests(engine: Engine) -> None:
    assert disagreements(engine, 1_000_000)[0] == []


# --- attributes that go missing ---------------------------------------------------------------------------------------


class Careless:
    """The same policies as Cedar takes them by itself: no schema, failing policies passed over, Allow is allow."""

    def __init__(self, walls: str | None = None) -> None:
        texts = policy_texts()
        self._policies = {
            of: cedarpy.PolicySet.from_str((walls or texts["walls"]) + texts[file]) for of, file in FILES.items()
        }
        named = [*acts.GROUPS.items(), *((act.name, acts.groups_of(act)) for act in acts.ACTS.values())]
        entities = [
            {"uid": _uid("Action", name), "attrs": {}, "parents": [_uid("Action", one) for one in parents]}
            for name, parents in named
        ]
        self._acts = cedarpy.Entities.from_json_str(msgspec.json.encode(entities).decode())
        self._with = lru_cache(4096)(self._acts.with_added_json_str)

    def allows(self, asked: Asked) -> bool:
        principal = _uid(KINDS[asked.kind], "one")
        entity = msgspec.json.encode([{"uid": principal, "attrs": asked.proof, "parents": ()}]).decode()
        request = {
            "principal": principal,
            "action": _uid("Action", asked.act),
            "resource": _uid(RESOURCES[asked.of], "one"),
            "context": msgspec.json.encode(asked.facts).decode(),
        }
        result = cedarpy.is_authorized(request, self._policies[asked.of], self._with(entity))
        return bool(result.decision is cedarpy.Decision.Allow)


def _uid(of: str, id: str) -> dict[str, str]:
    return {"type": of, "id": id}


@cache
def _smaller(of: type[msgspec.Struct], without: str) -> type[msgspec.Struct]:
    fields = [(field.name, field.type) for field in msgspec.structs.fields(of) if field.name != without]
    return msgspec.defstruct("Less", fields, frozen=True)


def with_one_missing(asked: Asked) -> Iterator[tuple[str, Asked]]:
    """The same question without one attribute, each in turn."""
    for part in ("proof", "facts"):
        whole = getattr(asked, part)
        for name in whole.__struct_fields__:
            less = _smaller(type(whole), name)
            values = {one: getattr(whole, one) for one in less.__struct_fields__}
            yield name, msgspec.structs.replace(asked, **{part: less(**values)})


def opened_by_removal(allows: Callable[[Asked], bool], count: int) -> tuple[list[tuple[str, Asked]], Counter[str]]:
    """Questions that were denied and are allowed once an attribute is missing; and how often each was taken away."""
    opened, tried = [], Counter[str]()
    for case in cases(count, "removal"):
        asked = question(case)
        if allows(asked):
            continue
        for name, less in with_one_missing(asked):
            tried[name] += 1
            if allows(less):
                opened.append((name, less))
    return opened, tried


ATTRIBUTES = {
    field.name for shape in (Proof, VehicleFacts, AccountFacts, SiteFacts) for field in msgspec.structs.fields(shape)
}  # fmt: skip


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_an_attribute_that_is_missing_opens_nothing(engine: Engine, count: int) -> None:
    opened, tried = opened_by_removal(lambda asked: engine.decide(asked).is_allowed, count)
    assert opened == []
    assert set(tried) == ATTRIBUTES
    assert min(tried.values()) > count // 50


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_the_policies_by_themselves_hold_without_schema_and_wrapper(count: int) -> None:
    opened, tried = opened_by_removal(Careless().allows, count)
    assert opened == []
    assert set(tried) == ATTRIBUTES


def test_a_wall_without_its_guard_would_have_been_noticed() -> None:
    careless = Careless(
        policy_texts()["walls"].replace("context has here &&", "").replace("principal has region &&", "")
    )
    opened, _ = opened_by_removal(careless.allows, 1_500)
    assert {name for name, _ in opened} >= {"here", "region"}


def test_less_of_anything_that_gives_power_opens_nothing(engine: Engine) -> None:
    """A duty, a purpose, a class, a touch or the passkey less: what was refused stays refused."""
    for case in cases(2_000, "less"):
        if engine.decide(question(case)).is_allowed:
            continue
        for less in _weaker(case):
            assert not engine.decide(question(less)).is_allowed, (case, less)


def _weaker(case: Case) -> Iterator[Case]:
    who, right, replace = case.who, case.right, msgspec.structs.replace
    for duty in who.duties:
        yield replace(case, who=replace(who, duties=who.duties - {duty}))
    for purpose in who.purposes:
        yield replace(case, who=replace(who, purposes=who.purposes - {purpose}))
    for name in data_classes.names(right.classes):
        yield replace(case, right=replace(right, classes=right.classes & ~data_classes.bit(name)))
    yield replace(case, touched=False)
    yield replace(case, is_own=False)
    yield replace(case, at_site=SiteRight())
    for role in case.at_site.roles:
        yield replace(case, at_site=replace(case.at_site, roles=case.at_site.roles - {role}))
    yield replace(case, right=replace(right, is_owned=True, classes=0, relation="none"))
    if who.means == "passkey":
        yield replace(case, who=replace(who, means="link"))
