"""The question put to Cedar: kind of principal, act, and the attributes decisions depend on; and its schema.

The schema is made from `acts.ACTS` and the fields of `Facts`, so that neither can be named wrongly in a policy: Cedar
checks the policies against it at start, and every request against it before deciding.
"""

from __future__ import annotations

import msgspec

from rocade.core import data_classes
from rocade.trust.authority.gate import acts
from rocade.trust.authority.gate.model import Act, Principal, Right

KINDS = {
    "person": "Person",
    "operator": "Operator",
    "partner": "Partner",
    "dealer": "Dealer",
    "service": "Service",
    "nobody": "Nobody",
}
RESOURCES = {"nothing": "World", "region": "Region", "vehicle": "Vehicle", "account": "Account"}
_TYPES = {str: "String", bool: "Bool", frozenset[str]: "Set<String>"}


class Facts(msgspec.Struct, frozen=True):
    """Every attribute a policy may look at; Cedar calls it the context.

    `region`: where the principal was proven, `here`: the gate's own; `relation`, `granted`, `is_owned`: his right to the
    vehicle; `wanted`: classes the act needs, * = at least one; `is_own`: the account asked for is his.
    """

    region: str
    here: str
    means: str
    duties: frozenset[str]
    purposes: frozenset[str]
    purpose: str
    relation: str
    granted: frozenset[str]
    is_owned: bool
    wanted: frozenset[str]
    touched: bool
    is_own: bool


class Asked(msgspec.Struct, frozen=True):
    """A whole question. Two that are equal get the same answer, so answers may be remembered by it."""

    kind: str
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
) -> Asked:
    facts = Facts(
        region=principal.region,
        here=here,
        means=principal.means,
        duties=principal.duties,
        purposes=principal.purposes,
        purpose=purpose,
        relation=right.relation,
        granted=frozenset(data_classes.names(right.classes)),
        is_owned=right.is_owned,
        wanted=frozenset(act.classes),
        touched=touched,
        is_own=is_own,
    )
    return Asked(principal.kind, act.name, act.of, facts)


def schema() -> str:
    """The Cedar schema of all acts, in Cedar's own notation."""
    fields = ", ".join(f"{field.name}: {_TYPES[field.type]}" for field in msgspec.structs.fields(Facts))
    kinds = ", ".join(KINDS.values())
    lines = [f"type Facts = {{ {fields} }};", f"entity {kinds};", f"entity {', '.join(RESOURCES.values())};"]
    lines += [f'action "{name}"{_parents(parents)};' for name, parents in acts.GROUPS.items()]
    lines += [
        f'action "{act.name}"{_parents(acts.groups_of(act))} '
        f"appliesTo {{ principal: [{kinds}], resource: [{RESOURCES[act.of]}], context: Facts }};"
        for act in acts.ACTS.values()
    ]
    return "\n".join(lines) + "\n"


def _parents(groups: tuple[str, ...]) -> str:
    return " in [" + ", ".join(f'"{name}"' for name in groups) + "]" if groups else ""
