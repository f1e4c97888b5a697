"""Why: who may be told the chain of facts behind an id, and by which explainer.

Flow: a code is explained to everybody, in general -> the kind of an id (its first word; 16 hexadecimal digits are a
request) names its explainer, handed in at wiring -> the explainer's `About` says whom the facts concern ->
the caller's own business, or the gate, asked for the act of reading the same thing by itself. What is not there and what
is not the asker's get the same answer, `why.unknown`. Source: docs/decisions/0036-why.md.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping

import msgspec

from rocade.core import data_classes, why
from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.core.why import About, Chain, Explainer
from rocade.trust.authority.gate import Gate, Permit, Principal, acts

_REQUEST = re.compile(r"[0-9a-f]{16}")
_KIND = re.compile(r"([a-z]+)[:-](.+)")
LONGEST_ID = 256

type Noter = Callable[[Permit, int, str, tuple[int, ...], int], None]
"""Notes a look: permit, vehicle, what was looked at, which signals, when (`services.consent.Looks.note`)."""


class Answer(msgspec.Struct, frozen=True):
    """A chain told in one language. `id` is what was asked, written in full."""

    id: str
    language: str
    sentences: list[why.Sentence]


class Why:
    """All explainers of this process, by the kind of id they take. Without a gate only codes and one's own are told."""

    def __init__(
        self,
        explainers: Mapping[str, Explainer],
        clock: Clock,
        gate: Gate | None = None,
        note: Noter | None = None,
    ) -> None:
        self._explainers = explainers
        self._clock = clock
        self._gate = gate
        self._note = note

    async def explain(self, id: str, language: str, principal: Principal, purpose: str = "") -> Answer:
        """The sentences behind an id or a code; `purpose` is what the caller says he asks for, "" = what goes without saying.

        Raises: Refused `why.unknown`, `why.language`.
        """
        if language not in why.LANGUAGES:
            raise Refused("why.language", f"languages are {', '.join(why.LANGUAGES)}")
        chain = await self._chain(id.strip())
        if chain is None or not self._is_told(chain, principal, purpose):
            raise why.unknown()
        return Answer(chain.id, language, why.sentences(chain, language))

    async def _chain(self, id: str) -> Chain | None:
        if why.is_code(id):
            return Chain(id, why.code_facts(id), About(is_public=True))
        if _REQUEST.fullmatch(id):
            id = f"request:{id}"
        found = _KIND.fullmatch(id) if len(id) <= LONGEST_ID else None
        explainer = self._explainers.get(found[1]) if found else None
        return await explainer.explain(found[2]) if found and explainer else None

    def _is_told(self, chain: Chain, principal: Principal, purpose: str) -> bool:
        about = chain.about
        is_his = principal.id in about.parties or principal.recipient in about.recipients
        if about.is_public or is_his:
            return True
        permit = self._permit(principal, about, (purpose,) if purpose else purposes_of(principal))
        if permit is not None and about.signals and self._note is not None:
            self._note(permit, about.ref, permit.act.name, about.signals, self._clock.now_us())
        return permit is not None

    def _permit(self, principal: Principal, about: About, purposes: tuple[str, ...]) -> Permit | None:
        """The gate's permit for reading the same thing by itself, for the first purpose that opens it."""
        now_us = self._clock.now_us()
        if self._gate is None:
            return None
        for name in about.acts:
            act = acts.ACTS[name]
            if about.classes and act.of == "vehicle":
                act = msgspec.structs.replace(act, classes=data_classes.names(about.classes))
            for purpose in purposes:
                with contextlib.suppress(Refused):
                    return self._gate.permit(principal, act, ref=about.ref or None, purpose=purpose, at_us=now_us)
        return None


def purposes_of(principal: Principal) -> tuple[str, ...]:
    """What a caller may look for: his own, the region's, or those of his token."""
    own = ("own",) if principal.is_person else ()
    return (*own, *(("operation", "support") if principal.duties else ()), *sorted(principal.purposes)) or ("",)
