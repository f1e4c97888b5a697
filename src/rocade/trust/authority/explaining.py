"""What trust can explain: a refusal by its request's id, an entry of the audit log by its place, a certificate, a claim code.

Flow of each: read the row -> facts in order, from what happened to what it rests on -> whom they concern. A vehicle's
identity holds its VIN: it is told by its kind alone. Where a row has an entry in the audit log, its place is looked up
(`AuditBook.find`), so that what the row says can be checked against what was signed.
"""

from __future__ import annotations

import re

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import AuditEntry, Clock
from rocade.core.why import About, Chain, Fact, code_facts, has_sentence
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.gate.acts import READ_AUDIT, READ_CERTIFICATES, READ_ENROLMENTS, READ_LOOKS

_HEX = re.compile(r"[0-9a-f]{16}")
_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_ASKABLE = re.compile(r"(?:certificate|vehicle|quarantine|claim|look|policy):\S+|(?:grant|guest|conflict)-[0-9a-f]{16}")
_REF = re.compile(r"\d{1,19}", re.ASCII)
LONGEST_POSITION = 18
LOOK = "consent.look"
_KNOWN = frozenset({"request", "act", "missing", "purpose", "more"})
_MISSING = frozenset(
    {"engine", "proof", "region", "purpose", "passkey", "duty", "known", "operators", "account", "ownership", "token",
     "consent", "role", "delegation"}
)  # fmt: skip
_ISSUING = ("trust.enrol", "trust.renew", "trust.reenrol", "trust.birth", "trust.provision")


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


class Certificates:
    """`certificate:<serial>`: for whom, from when to when, in place of which, revoked or not and why."""

    def __init__(self, database: Database, book: AuditBook, clock: Clock) -> None:
        self._database = database
        self._book = book
        self._clock = clock

    async def explain(self, rest: str) -> Chain | None:
        if not _SERIAL.fullmatch(rest):
            return None
        serial = int(rest, 16)
        async with self._database.pool.acquire() as connection:
            row = await store.read_certificate(connection, serial)
            revoked = await store.read_revocation(connection, serial)
            later = await store.read_successors(connection, serial)
        id = f"certificate:{serial:x}"
        facts = [] if row is None else await self._issued(row, id)
        if revoked:
            facts += [Fact("certificate.revoked", {"revoked_us": revoked[1], "reason": revoked[0]},
                           await self._place(("trust.revoke",), id, revoked[1])),
                      *code_facts("trust.certificate.revoked")]  # fmt: skip
        elif row is not None and self._clock.now_us() >= row.not_after_us:
            facts += code_facts("trust.certificate.expired")
        facts += [Fact("certificate.followed", {"serial": f"{one:x}"}, f"certificate:{one:x}") for one in later]
        parties = {row.identity} if row is not None else set()
        return Chain(id, tuple(facts), About((READ_CERTIFICATES.name,), parties=frozenset(parties))) if facts else None

    async def _issued(self, row: store.CertificateRow, id: str) -> list[Fact]:
        subject = id if party(row.identity) == "vehicle" else row.identity
        place, whom = await self._place(_ISSUING, subject, row.issued_us), party(row.identity)
        told = [
            Fact("certificate.issued", {"serial": f"{row.serial:x}", "party": whom, "issued_us": row.issued_us}, place),
            Fact(f"certificate.{row.purpose}", {"from_us": row.not_before_us, "until_us": row.not_after_us}),
        ]
        if row.replaces is not None:
            told.append(Fact("certificate.replaces", {"serial": f"{row.replaces:x}"}, f"certificate:{row.replaces:x}"))
        return told

    async def _place(self, actions: tuple[str, ...], subject: str, at_us: int) -> str:
        found = await self._book.find(actions, subject, at_us)
        return "" if found is None else f"audit:{found}"


class Claims:
    """`claim:<first 16 hexadecimal digits of the code's hash>`: for whom a claim code was made, and what became of it."""

    def __init__(self, database: Database, book: AuditBook, clock: Clock) -> None:
        self._database = database
        self._book = book
        self._clock = clock

    async def explain(self, rest: str) -> Chain | None:
        if not _HEX.fullmatch(rest):
            return None
        async with self._database.pool.acquire() as connection:
            row = await store.read_claim(connection, bytes.fromhex(rest))
        if row is None:
            return None
        id = f"claim:{rest}"
        place = await self._book.find(("trust.claim",), id, row.made_us)
        facts = [
            Fact("claim.made", {"party": party(row.identity), "made_us": row.made_us, "until_us": row.expires_us},
                 "" if place is None else f"audit:{place}")
        ]  # fmt: skip
        if row.used_us is not None and row.serial is not None:
            facts.append(Fact("claim.used", {"used_us": row.used_us}, f"certificate:{row.serial:x}"))
        elif self._clock.now_us() >= row.expires_us:
            facts += code_facts("trust.claim.expired")
        else:
            facts.append(Fact("claim.open"))
        return Chain(id, tuple(facts), About((READ_ENROLMENTS.name,)))


def party(uri: str) -> str:
    """How a party is told: a vehicle by its kind alone (its identity holds the VIN), others by kind and name."""
    try:
        identity = Identity.parse(uri)
    except Refused:
        return "?"
    return identity.kind if identity.kind == "vehicle" else f"{identity.kind} {identity.id}"


def refusal_facts(entry: AuditEntry) -> list[Fact]:
    """A refusal: when and what, what was missing, and its code in general."""
    facts = entry.facts
    told = [Fact("refusal.at", {"at_us": entry.at_us, "code": entry.reason})]
    if more := facts.get("more"):
        told.append(Fact("refusal.more", {"more": more}))
    if act := facts.get("act"):
        key = "refusal.act" if ":" in entry.subject else "refusal.asked"
        told.append(Fact(key, {"act": act, "subject": entry.subject}, f"act:{act}"))
    if purpose := facts.get("purpose"):
        told.append(Fact("refusal.purpose", {"purpose": purpose}))
    if missing := str(facts.get("missing", "")):
        told.append(missing_fact(missing))
    return [*told, *code_facts(entry.reason)]


def missing_fact(missing: str) -> Fact:
    """What the gate said was missing, as a sentence: a word of `gate.engine`, or the data classes that were not granted."""
    kind, _, name = missing.partition(" ")
    if kind in _MISSING:
        return Fact(f"missing.{kind}", {"name": name})
    return Fact("missing.classes", {"classes": missing.replace(",", ", ")})


def act_facts(entry: AuditEntry) -> list[Fact]:
    """Something that was done: when, by whom, to what, with which facts."""
    did = f"did.{entry.action}"
    told = [
        Fact(did if has_sentence(did) else "act.at", {"at_us": entry.at_us, "action": entry.action}),
        Fact("act.by", {"actor": entry.actor}, askable(entry.actor)),
    ]
    if entry.subject:
        told.append(Fact("act.on", {"subject": entry.subject}, askable(entry.subject)))
    told += [
        Fact(
            "act.fact",
            {"name": name, "value": value},
            askable(f"certificate:{value}" if name == "serial" else str(value)),
        )
        for name, value in entry.facts.items()
        if name not in _KNOWN
    ]
    return told


def askable(text: str) -> str:
    """The reference itself where `why` takes it, else ''."""
    return text if _ASKABLE.fullmatch(text) else ""


def about(entry: AuditEntry) -> About:
    """An entry concerns who acted, the account or vehicle it was done to, and the keepers of the log.

    Of a vehicle its owner is told looks, and what the region did; not what other persons tried or did, nor refusals.
    """
    kind, _, name = entry.subject.partition(":")
    parties = {entry.actor, entry.subject} if kind == "person" else {entry.actor}
    is_told = entry.outcome != "refused" and (entry.action == LOOK or not entry.actor.startswith("person:"))
    is_vehicle = kind == "vehicle" and bool(_REF.fullmatch(name)) and is_told
    acts = (READ_AUDIT.name, READ_LOOKS.name) if is_vehicle else (READ_AUDIT.name,)
    return About(acts, int(name) if is_vehicle else 0, parties=frozenset(parties))
