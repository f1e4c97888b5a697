"""Why: whom may be told the chain of facts behind an id, and by which explainer.

Flow: a code is explained to everybody, in general -> the kind of an id (what stands before the first colon; 16 hexadecimal
digits are a request) names its explainer, handed in at wiring -> the explainer's `About` says whom the facts concern ->
the caller's own business, or the gate: the vehicle's owner of that time (a driver or recipient only for classes he may
read), an operator whose duty it is. What is not there and what is not the asker's get the same answer, `why.unknown`.
Source: docs/decisions/0036-why.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import msgspec

from rocade.core import why
from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.core.why import About, Chain, Explainer
from rocade.trust.authority.gate.model import Principal, Rights

_REQUEST = re.compile(r"[0-9a-f]{16}")
LONGEST_ID = 256


class Judge(Protocol):
    """The gate, as far as it is asked here."""

    def may_read(self, principal: Principal, about: About, at_us: int) -> bool: ...


class Answer(msgspec.Struct, frozen=True):
    """A chain told in one language. `id` is what was asked, written in full."""

    id: str
    language: str
    sentences: list[why.Sentence]
    about: About


class Why:
    """All explainers of this process, by the kind of id they take."""

    def __init__(self, explainers: Mapping[str, Explainer], judge: Judge, clock: Clock) -> None:
        self._explainers = explainers
        self._judge = judge
        self._clock = clock

    async def explain(self, id: str, language: str, principal: Principal) -> Answer:
        """The sentences behind an id or a code.

        Raises: Refused `why.unknown`, `why.language`.
        """
        if language not in why.LANGUAGES:
            raise Refused("why.language", f"languages are {', '.join(why.LANGUAGES)}")
        chain = await self._chain(id.strip())
        if chain is None or not self._is_for(principal, chain.about):
            raise why.unknown()
        return Answer(chain.id, language, why.sentences(chain, language), chain.about)

    async def _chain(self, id: str) -> Chain | None:
        if why.is_code(id):
            return Chain(id, why.code_facts(id), About(is_public=True))
        if _REQUEST.fullmatch(id):
            id = f"request:{id}"
        kind, colon, rest = id.partition(":")
        explainer = self._explainers.get(kind)
        if explainer is None or not colon or len(id) > LONGEST_ID:
            return None
        return await explainer.explain(rest)

    def _is_for(self, principal: Principal, about: About) -> bool:
        if about.is_public or principal.id in about.parties:
            return True
        return self._judge.may_read(principal, about, self._clock.now_us())


class OperatorsAndOwners:
    """Who may read facts: an operator whose duty it is; of a vehicle also whoever may read it, by the consent table."""

    def __init__(self, rights: Rights | None = None) -> None:
        self._rights = rights

    def may_read(self, principal: Principal, about: About, at_us: int) -> bool:
        if principal.kind == "operator":
            return not principal.duties or not about.duty or about.duty in principal.duties
        return False
