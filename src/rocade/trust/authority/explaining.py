"""What trust can explain: a refusal by its request's id, an entry of the audit log by its place, a certificate.

Flow of each: read the row -> facts in order, from what happened to what it rests on -> whom they concern. A vehicle's
identity holds its VIN: it is told by kind only, and by reference where `vehicle_of` knows one.
"""

from __future__ import annotations

import re

from rocade.core.ports import AuditEntry
from rocade.core.why import About, Chain, Fact, code_facts
from rocade.trust.authority.book import AuditBook

_HEX = re.compile(r"[0-9a-f]{16}")
_ASKABLE = re.compile(r"(?:certificate|vehicle|quarantine|grant|invitation|claim|person|look|policy):\S+")
LONGEST_POSITION = 18
_KNOWN = frozenset({"request", "act", "missing", "purpose", "policies", "more"})


class Refusals:
    """`request:<16 hexadecimal digits>`: what a request was refused for, while the audit log remembers it."""

    def __init__(self, book: AuditBook) -> None:
        self._book = book

    async def explain(self, rest: str) -> Chain | None:
        found = await self._book.of_request(rest) if _HEX.fullmatch(rest) else []
        if not found:
            return None
        facts: list[Fact] = []
        for position, entry in found:
            facts += [*refusal_facts(entry), Fact("audit.place", {"position": position}, f"audit:{position}")]
        return Chain(f"request:{rest}", tuple(facts), about(found[0][1]))


class Entries:
    """`audit:<position>`: one entry of the audit log, and what proves it."""

    def __init__(self, book: AuditBook) -> None:
        self._book = book

    async def explain(self, rest: str) -> Chain | None:
        if not (rest.isascii() and rest.isdigit() and len(rest) <= LONGEST_POSITION):
            return None
        position = int(rest)
        entry = await self._book.entry(position)
        if entry is None:
            return None
        facts = refusal_facts(entry) if entry.outcome == "refused" else act_facts(entry)
        size = await self._book.signed_by(position)
        proof = Fact("audit.signed", {"position": position, "size": size}) if size else Fact("audit.unsigned")
        return Chain(f"audit:{position}", (*facts, proof), about(entry))


def refusal_facts(entry: AuditEntry) -> list[Fact]:
    """A refusal: when and what, what was missing, and its code in general."""
    facts = entry.facts
    told = [Fact("refusal.at", {"at_us": entry.at_us, "code": entry.reason}, entry.reason)]
    if more := facts.get("more"):
        told.append(Fact("refusal.more", {"more": more}))
    if act := facts.get("act"):
        told.append(Fact("refusal.act", {"act": act, "subject": entry.subject}, askable(entry.subject)))
    if purpose := facts.get("purpose"):
        told.append(Fact("refusal.purpose", {"purpose": purpose}))
    if missing := facts.get("missing"):
        told.append(Fact("refusal.missing", {"missing": missing}))
    return [*told, *code_facts(entry.reason)]


def act_facts(entry: AuditEntry) -> list[Fact]:
    """Something that was done: when, by whom, to what, with which facts."""
    told = [
        Fact("act.at", {"at_us": entry.at_us, "action": entry.action}, entry.reason),
        Fact("act.by", {"actor": entry.actor}, askable(entry.actor)),
    ]
    if entry.subject:
        told.append(Fact("act.on", {"subject": entry.subject}, askable(entry.subject)))
    told += [
        Fact("act.fact", {"name": name, "value": value}, askable(str(value)))
        for name, value in entry.facts.items()
        if name not in _KNOWN
    ]
    return told


def askable(text: str) -> str:
    """The reference itself where `why` takes it, else ''."""
    return text if _ASKABLE.fullmatch(text) else ""


def about(entry: AuditEntry) -> About:
    """An entry concerns who acted, the account or the vehicle it was done to, and the region."""
    kind, _, name = entry.subject.partition(":")
    parties = {entry.actor, entry.subject} if kind == "person" else {entry.actor}
    ref = int(name) if kind == "vehicle" and name.isascii() and name.isdigit() and entry.outcome != "refused" else 0
    return About(ref=ref, at_us=entry.at_us, parties=frozenset(parties), duty="security")
