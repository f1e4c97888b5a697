"""The question put to Cedar: kind of principal, act, and the attributes decisions depend on; and its schema.

The schema is made from `acts.ACTS` and the fields of the facts, so that neither can be named wrongly in a policy: Cedar
checks the policies against it at start, and every request against it before deciding.
"""

from __future__ import annotations

import msgspec

from rocade.core import data_classes
from rocade.trust.authority.gate import acts
from rocade.trust.authority.gate.model import Act, Principal, Right, SiteRight

KINDS = {
    "person": "Person",
    "operator": "Operator",
    "partner": "Partner",
    "dealer": "Dealer",
    "service": "Service",
    "nobody": "Nobody",
}
RESOURCES = {"nothing": "World", "region": "Region", "vehicle": "Vehicle", "account": "Account", "site": "Site"}
_NAMES = data_classes.DATA_CLASSES + data_classes.CONTROL_CLASSES
_BITS = {"*": data_classes.ALL, "control": data_classes.CONTROL} | {name: data_classes.bit(name) for name in _NAMES}
_TYPES = {str: "String", bool: "Bool", frozenset[str]: "Set<String>"}


class Proof(msgspec.Struct, frozen=True):
    """The attributes of a principal. `region`: where he was proven."""

    region: str
    means: str
    duties: frozenset[str]
    purposes: frozenset[str]


class Facts(msgspec.Struct, frozen=True):
    """The attributes of every request; Cedar calls them its context. `here`: the gate's region."""

    here: str
    touched: bool


class VehicleFacts(Facts, frozen=True):
    """Those of an act on a vehicle: the purpose, and his right.

    `wanted`: classes the act needs, * = at least one, control = at least one of control; `granted`: those of them he has.
    Where nobody owns the vehicle, control of it goes with the sight of all of it.
    """

    purpose: str
    relation: str
    is_owned: bool
    wanted: frozenset[str]
    granted: frozenset[str]


class AccountFacts(Facts, frozen=True):
    """Those of an act on an account. `is_own`: it is the caller's."""

    is_own: bool


class SiteFacts(Facts, frozen=True):
    """Those of an act on a point of sale: what ties him to it.

    `wanted`: roles one of which the act needs, or what a provider must have been given for it.
    """

    is_self: bool
    is_staff: bool
    roles: frozenset[str]
    delegated: frozenset[str]
    wanted: frozenset[str]


FACTS: dict[str, type[Facts]] = {
    "World": Facts,
    "Region": Facts,
    "Vehicle": VehicleFacts,
    "Account": AccountFacts,
    "Site": SiteFacts,
}


class Asked(msgspec.Struct, frozen=True):
    """A whole question. Two that are equal get the same answer, so answers may be remembered by it."""

    kind: str
    proof: Proof
    act: str
    of: str
    facts: Facts


def ask(
    principal: Principal,
    act: Act,
    right: Right,
    here: str,
    purpose: str,
    *,
    touched: bool = False,
    is_own: bool = False,
    at_site: SiteRight = SiteRight(),  # noqa: B008 - frozen, and the same nothing for everybody
) -> Asked:
    facts: Facts
    if act.of == "vehicle":
        is_open = not right.is_owned and right.classes == data_classes.ALL
        classes = right.classes | (data_classes.CONTROL if is_open else 0)
        granted = frozenset(name for name in act.classes if classes & _BITS[name])
        facts = VehicleFacts(here, touched, purpose, right.relation, right.is_owned, frozenset(act.classes), granted)
    elif act.of == "account":
        facts = AccountFacts(here, touched, is_own)
    elif act.of == "site":
        facts = SiteFacts(
            here, touched, at_site.is_self, at_site.is_staff, at_site.roles, at_site.delegated, frozenset(act.classes)
        )
    else:
        facts = Facts(here, touched)
    proof = Proof(principal.region, principal.means, principal.duties, principal.purposes)
    return Asked(principal.kind, proof, act.name, act.of, facts)


def schema() -> str:
    """The Cedar schema of all acts, in Cedar's own notation."""
    kinds = ", ".join(KINDS.values())
    lines = [f"entity {kinds} {_record(Proof)};", f"entity {', '.join(FACTS)};"]
    lines += [f"type {resource}Facts = {_record(facts)};" for resource, facts in FACTS.items()]
    lines += [f'action "{name}"{_parents(parents)};' for name, parents in acts.GROUPS.items()]
    lines += [
        f'action "{act.name}"{_parents(acts.groups_of(act))} '
        f"appliesTo {{ principal: [{kinds}], resource: [{RESOURCES[act.of]}], context: {RESOURCES[act.of]}Facts }};"
        for act in acts.ACTS.values()
    ]
    return "\n".join(lines) + "\n"


def _record(of: type[msgspec.Struct]) -> str:
    return "{ " + ", ".join(f"{field.name}: {_TYPES[field.type]}" for field in msgspec.structs.fields(of)) + " }"


def _parents(groups: tuple[str, ...]) -> str:
    return " in [" + ", ".join(f'"{name}"' for name in groups) + "]" if groups else ""
