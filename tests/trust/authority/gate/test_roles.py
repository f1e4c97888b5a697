"""The tables of docs/roles.md, cell by cell: what each role may do, and that no policy is there for nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from rocade.core import data_classes
from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.trust.authority.gate import DUTIES, Engine, Gate, Principal, Right, SiteRight, acts, nobody, of_certificate
from rocade.trust.authority.gate.engine import policy_texts

DOCUMENT = Path(__file__).resolve().parents[4] / "docs/roles.md"
OWNED, FLEET, OTHERS = 1, 2, "person:00000000000000ff"
GRANTED = data_classes.mask(["energy"])


def person(duties: tuple[str, ...] = (), name: str = "person:0000000000000001", means: str = "passkey") -> Principal:
    return Principal("person", name, "operator" if duties else name, means, "eu", frozenset(duties))


def machine(kind: str, purposes: tuple[str, ...] = ()) -> Principal:
    proven = of_certificate(Identity("rocade.test", "eu", kind, "one"))
    return msgspec.structs.replace(proven, means="token", purposes=frozenset(purposes)) if purposes else proven


ROLES = {
    "nobody": nobody("peer:192.0.2.1"),
    "person": person(),
    "support": person(("support",)),
    "security": person(("security",)),
    "release": person(("release",)),
    "by link": person(("security",), means="link"),
    "command line": machine("operator"),
    "machine": machine("partner", ("insurance",)),
    "monitor": machine("service"),
    "owner": person(name="person:0000000000000002"),
    "owner by link": person(name="person:0000000000000002", means="link"),
    "former owner": person(name="person:0000000000000003"),
    "driver": person(name="person:0000000000000004"),
    "recipient": person(name="person:0000000000000005"),
    "with token": machine("partner", ("insurance",)),
    "certificate alone": machine("dealer"),
    "stranger": person(name="person:0000000000000006"),
    "site itself": machine("dealer"),
    "provider": machine("partner"),
    "other machine": machine("partner"),
    **{
        name: person(name=f"person:000000000000001{at}")
        for at, name in enumerate(("manager", "sales", "after-sales", "parts", "accounts"))
    },
}
"""Who stands behind the heading of a column; an operator's columns are of a vehicle `owned` or of the `fleet`."""

RELATIONS = {"owner": "owner", "owner by link": "owner", "former owner": "former", "driver": "driver"}


STAFF = ("manager", "sales", "after-sales", "parts", "accounts")


class Told:
    """Rights as the tables suppose: by column."""

    def __init__(self, role: str) -> None:
        self.role = role

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        if ref == FLEET:
            return Right("none", data_classes.ALL if principal.recipient == "operator" else 0)
        relation = RELATIONS.get(self.role, "none")
        is_granted = self.role in {"driver", "recipient", "with token", "certificate alone", "consented"}
        classes = data_classes.ALL if relation in {"owner", "former"} else GRANTED if is_granted else 0
        return Right(relation, classes, "consent:1" if is_granted else "", is_owned=True)

    def site_right(self, principal: Principal, site: str, brand: str, at_us: int) -> SiteRight:
        roles = frozenset({self.role} & set(STAFF))
        delegated = frozenset({"install", "renew", "restart", "health"} if self.role == "provider" else ())
        return SiteRight(self.role == "site itself", bool(roles), roles, delegated)


def gate_for(role: str, engine: Engine) -> tuple[Gate, Principal, int, str]:
    """A gate that knows the role, who asks, on which vehicle and for which purpose."""
    name, _, which = role.partition(", ")
    name, ref = ("support", OWNED) if role == "consented" else (name, FLEET if which == "fleet" else OWNED)
    principal = ROLES[name]
    purpose = "insurance" if not principal.is_person and principal.kind != "operator" else "support"
    told = Told(role)
    return (
        Gate("eu", told, engine, told),
        principal,
        ref,
        purpose if ROLES[name].duties or purpose != "support" else "own",
    )


def cell(act_name: str, role: str, engine: Engine) -> str:
    """What the gate answers: yes, touch, or nothing."""
    act = acts.ACTS[act_name]
    gate, principal, ref, purpose = gate_for(role, engine)
    try:
        gate.permit(principal, act, ref=ref, purpose=purpose, at_us=0, site="FR-1-1")
    except Refused as refusal:
        return "touch" if refusal.code == "gate.touch" else ""
    return "yes"


def tables() -> dict[tuple[str, str], str]:
    """Every cell of the tables of acts: (act, role) -> what it says."""
    found: dict[tuple[str, str], str] = {}
    roles: list[str] = []
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            continue
        cells = [part.strip() for part in line.strip("|").split("|")]
        if cells[0] == "act":
            roles = cells[1:]
        elif roles and cells[0].startswith("`"):
            found |= {(cells[0].strip("`"), role): said for role, said in zip(roles, cells[1:], strict=True)}
    return found


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def test_the_gate_answers_what_the_tables_say(engine: Engine) -> None:
    wrong = {at: (said, got) for at, said in tables().items() if (got := cell(*at, engine)) != said}
    assert wrong == {}


def test_every_act_stands_in_a_table() -> None:
    assert {act for act, _ in tables()} == set(acts.ACTS)


ACCOUNTS = [
    ("account.read", "person", False),
    ("account.read", "support", False),
    ("account.read", "security", True),
    ("account.sign_out_everywhere", "person", False),
    ("account.sign_out_everywhere", "security", True),
    ("account.passkey.add", "security", False),
    ("account.passkey.drop", "command line", False),
    ("account.vehicles", "security", False),
]


@pytest.mark.parametrize(("act", "role", "may"), ACCOUNTS)
def test_another_ones_account_is_closed_but_to_the_security_duty(
    act: str, role: str, may: bool, engine: Engine
) -> None:
    gate, principal, _, purpose = gate_for(role, engine)
    if may:
        assert gate.permit(principal, acts.ACTS[act], purpose=purpose, at_us=0, account=OTHERS)
    else:
        with pytest.raises(Refused, match=r"^gate\.denied"):
            gate.permit(principal, acts.ACTS[act], purpose=purpose, at_us=0, account=OTHERS, touched=True)


def policy_ids() -> list[str]:
    return re.findall(r'^@id\("([^"]+)"\)', "".join(policy_texts().values()), re.MULTILINE)


def without(id: str) -> Engine:
    cut = re.compile(rf'^@id\("{id}"\)\n.*?;\n', re.MULTILINE | re.DOTALL)
    return Engine({file: cut.sub("", text) for file, text in policy_texts().items()})


@pytest.mark.parametrize("id", policy_ids())
def test_no_policy_is_there_for_nothing(id: str) -> None:
    """Taken away, at least one row of the attacks, of the accounts or of the tables comes out otherwise."""
    assert next(changes(without(id)), None)


def changes(crippled: Engine) -> Iterator[object]:
    """What this engine says otherwise, the few questions first."""
    abroad = msgspec.structs.replace(ROLES["security"], region="cn")
    asked_for_another = (ROLES["with token"], acts.READ_TWIN, "research")
    for principal, act, purpose in ((abroad, acts.READ_AUDIT, "operation"), asked_for_another):
        try:
            Gate("eu", Told("with token"), crippled).permit(principal, act, ref=OWNED, purpose=purpose, at_us=0)
            yield act.name, "attack"
        except Refused:
            pass
    for name, role, may in ACCOUNTS:
        gate, principal, _, purpose = gate_for(role, crippled)
        try:
            gate.permit(principal, acts.ACTS[name], purpose=purpose, at_us=0, account=OTHERS)
            is_permitted = True
        except Refused:
            is_permitted = False
        if is_permitted is not may:
            yield name, role
    yield from (at for at, said in tables().items() if cell(*at, crippled) != said)


def test_ids_of_policies_are_told_with_the_permit(engine: Engine) -> None:
    gate, principal, ref, purpose = gate_for("owner", engine)
    permit = gate.permit(principal, acts.READ_TWIN, ref=ref, purpose=purpose, at_us=0)
    assert permit.policies == ("owner",)
    assert permit.right.relation == "owner"
    assert permit.principal is principal


MISSING = [
    ("nobody", acts.READ_TWIN, "proof"),
    ("nobody", acts.ERASE, "proof"),
    ("person", acts.READ_AUDIT, "duty security"),
    ("person", acts.READ_STATUS, "operators"),
    ("support", acts.REVOKE, "duty security"),
    ("by link", acts.REVOKE, "passkey"),
    ("owner by link", acts.ERASE, "passkey"),
    ("stranger", acts.READ_TWIN, "consent"),
    ("stranger", acts.GRANT, "ownership"),
    ("driver", acts.READ_TRIPS, "location,driving"),
    ("driver", acts.ERASE, "ownership"),
    ("certificate alone", acts.READ_TWIN, "token"),
    ("with token", acts.READ_TRACK, "location"),
    ("machine", acts.READ_ACCOUNT, "account"),
    ("monitor", acts.LIST_SIGNALS, "known"),
]


@pytest.mark.parametrize(("role", "act", "missing"), MISSING)
def test_a_refusal_says_what_was_missing(role: str, act: acts.Act, missing: str, engine: Engine) -> None:
    gate, principal, ref, purpose = gate_for(role, engine)
    with pytest.raises(Refused) as refusal:
        gate.permit(principal, act, ref=ref, purpose=purpose, at_us=0)
    assert (refusal.value.code, refusal.value.facts) == ("gate.denied", {"act": act.name, "missing": missing})


def test_all_duties_are_known_words() -> None:
    assert {"support", "security", "release"} == DUTIES
