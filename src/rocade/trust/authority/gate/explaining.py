"""What the gate can explain: a policy by its id, an act by its name, and which policies speak of which acts.

Both are public: they are the rules, not anybody's data. The sentences stand in `core.why`; which groups a policy speaks of
is read out of the policies themselves, so that no second list can disagree with them.
"""

from __future__ import annotations

import re
from functools import cache

from rocade.core.why import About, Chain, Fact
from rocade.trust.authority.gate import acts
from rocade.trust.authority.gate.engine import policy_text

_POLICY = re.compile(r'@id\("([a-z-]+)"\)(.*?);', re.DOTALL)
_NAMED = re.compile(r'Action::"([^"]+)"')
_PUBLIC = About(is_public=True)


@cache
def policies() -> dict[str, frozenset[str]]:
    """Every policy by id, with the acts and groups of acts it names; forbidding ones among them."""
    return {id: frozenset(_NAMED.findall(text)) for id, text in _POLICY.findall(policy_text())}


class Policies:
    """`policy:<id>`."""

    async def explain(self, rest: str) -> Chain | None:
        if rest not in policies():
            return None
        return Chain(f"policy:{rest}", (Fact(f"policy.{rest}"),), _PUBLIC)


class Acts:
    """`act:<name>`: what it takes, and the policies that decide about it."""

    async def explain(self, rest: str) -> Chain | None:
        act = acts.ACTS.get(rest)
        if act is None:
            return None
        told = [Fact(f"act.of.{act.of}", {"act": act.name})]
        if act.classes:
            key = "act.any_class" if "*" in act.classes else "act.classes"
            told.append(Fact(key, {"classes": ", ".join(act.classes)}))
        if act.needs_touch:
            told.append(Fact("act.touch"))
        names = {act.name, *acts.groups_of(act)}
        told += [Fact(f"policy.{id}", {}, f"policy:{id}") for id, named in policies().items() if named & names]
        return Chain(f"act:{rest}", tuple(told), _PUBLIC)
