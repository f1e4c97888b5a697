"""What consent can explain: a consent, an invitation, a conflict of ownership, a look, and whose a vehicle's time is.

`grant-<id>`, `guest-<id>`, `conflict-<id>`, `look:<number>`, `vehicle:<ref>`. Told are instants, purposes, data classes and
recipients; persons are never told of each other beyond what the owner's own pages show him. Where the audit log holds the
act, its place is looked up, so that the row can be checked against what was signed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection

from rocade.core import data_classes
from rocade.core.catalogue import Catalogue
from rocade.core.ports import Clock
from rocade.core.why import About, Chain, Fact
from rocade.services.consent.looks import Looks
from rocade.services.consent.model import FOREVER_US, REGION, Grant, Guest
from rocade.services.consent.service import Consents
from rocade.trust.authority.gate.acts import READ_ENROLMENTS, READ_GRANTS, READ_LOOKS, READ_VEHICLE

_ID = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_REF = re.compile(r"\d{1,19}", re.ASCII)
LARGEST = (1 << 63) - 1
NAMED_SIGNALS = 12

type IsKnown = Callable[[int], Awaitable[bool]]
"""Whether the registry holds a vehicle under this reference."""
type Find = Callable[[Collection[str], str, int], Awaitable[int | None]]
"""Where the audit log holds one of these acts on this subject at about this instant (`AuditBook.find`)."""


class Grants:
    """A consent: to whom, for what, which classes, from when to when; in force or how it ended; what it replaced."""

    def __init__(self, consents: Consents, find: Find, clock: Clock) -> None:
        self._consents = consents
        self._find = find
        self._clock = clock

    async def explain(self, rest: str) -> Chain | None:
        grant = await self._consents.find_grant(f"grant-{rest}") if _ID.fullmatch(rest) else None
        if grant is None:
            return None
        given = {"recipient": grant.recipient, "classes": _words(grant.classes), "purpose": grant.purpose}
        place = await _place(self._find, ("consent.grant", "consent.narrow"), grant.ref, grant.made_us)
        facts = [
            Fact("grant.given", {**given, "made_us": grant.made_us}, place),
            _period("grant", grant.from_us, grant.until_us),
        ]
        if grant.replaces:
            facts.append(Fact("grant.replaces", {"grant": grant.replaces}, grant.replaces))
        facts.append(await self._state(grant))
        about = About((READ_GRANTS.name,), grant.ref, recipients=frozenset({grant.recipient}))
        return Chain(grant.id, tuple(facts), about)

    async def _state(self, grant: Grant) -> Fact:
        if grant.ended_us != FOREVER_US:
            actions = {"withdrawn": ("consent.withdraw",), "owner_changed": ("consent.transfer",)}
            at = actions.get(grant.why_ended, ("consent.grant", "consent.narrow"))
            place = await _place(self._find, at, grant.ref, grant.ended_us)
            return Fact(f"grant.{grant.why_ended or 'withdrawn'}", {"ended_us": grant.ended_us}, place)
        return _now("grant", grant.from_us, grant.until_us, self._clock.now_us())


class Guests:
    """An invitation to drive: what it shows, for how long, whether it was accepted, how it ended."""

    def __init__(self, consents: Consents, find: Find, clock: Clock) -> None:
        self._consents = consents
        self._find = find
        self._clock = clock

    async def explain(self, rest: str) -> Chain | None:
        guest = await self._consents.find_guest(f"guest-{rest}") if _ID.fullmatch(rest) else None
        if guest is None:
            return None
        place = await _place(self._find, ("consent.invite",), guest.ref, guest.made_us)
        facts = [
            Fact("guest.invited", {"made_us": guest.made_us, "classes": _words(guest.classes)}, place),
            _period("guest", guest.from_us, guest.until_us),
            await self._answer(guest),
        ]
        if guest.ended_us != FOREVER_US:
            facts.append(Fact("guest.ended", {"ended_us": guest.ended_us}))
        elif guest.accepted_us:
            facts.append(_now("guest", guest.from_us, guest.until_us, self._clock.now_us()))
        parties = frozenset({guest.owner, guest.person} - {""})
        return Chain(guest.id, tuple(facts), About((READ_GRANTS.name,), guest.ref, parties=parties))

    async def _answer(self, guest: Guest) -> Fact:
        if guest.accepted_us:
            place = await _place(self._find, ("consent.accept",), guest.ref, guest.accepted_us)
            return Fact("guest.accepted", {"accepted_us": guest.accepted_us}, place)
        is_over = self._clock.now_us() >= guest.invitation_end_us
        return Fact("guest.unused" if is_over else "guest.waiting", {"end_us": guest.invitation_end_us})


class Conflicts:
    """Two persons who want one vehicle, and what support decided. Neither is told who the other is."""

    def __init__(self, consents: Consents, find: Find) -> None:
        self._consents = consents
        self._find = find

    async def explain(self, rest: str) -> Chain | None:
        found = await self._consents.find_conflict(f"conflict-{rest}") if _ID.fullmatch(rest) else None
        if found is None:
            return None
        place = await _place(self._find, ("consent.conflict",), found.ref, found.opened_us)
        facts = [Fact("conflict.opened", {"opened_us": found.opened_us}, place)]
        if found.settled_for:
            facts.append(Fact(f"conflict.{found.settled_for}", {"settled_us": found.settled_us}))
        else:
            facts.append(Fact("conflict.open", {}, "consent.conflict.open"))
        parties = frozenset({found.holder, found.claimant})
        return Chain(found.id, tuple(facts), About((READ_ENROLMENTS.name,), parties=parties))


class Seen:
    """A look: who, when, at what, for which purpose, and what it rested on."""

    def __init__(self, looks: Looks, catalogue: Catalogue, find: Find) -> None:
        self._looks = looks
        self._catalogue = catalogue
        self._find = find

    async def explain(self, rest: str) -> Chain | None:
        look = await self._looks.find(int(rest)) if _NUMBER.fullmatch(rest) else None
        if look is None:
            return None
        place = await _place(self._find, ("consent.look",), look.ref, look.first_us)
        facts = [
            Fact("look.who", {"actor": look.actor, "recipient": look.recipient, "at_us": look.first_us}, place),
            Fact("look.what", {"what": look.what, "purpose": look.purpose, "times": look.times}, f"act:{look.what}"),
            Fact("look.classes", {"classes": _words(look.classes)}),
        ]
        if look.signals:
            known = [signal.name for number in look.signals[:NAMED_SIGNALS] if (signal := self._catalogue.get(number))]
            facts.append(Fact("look.signals", {"count": len(look.signals), "names": ", ".join(known)}))
        if look.grant:
            facts.append(Fact("look.grant", {"grant": look.grant}, look.grant))
        else:
            facts.append(Fact("look.region" if look.recipient == REGION else "look.own"))
        about = About((READ_LOOKS.name,), look.ref, parties=frozenset({look.actor}))
        return Chain(f"look:{look.id}", tuple(facts), about)


class Vehicles:
    """Whose time a vehicle's reference is, and which consents and invitations are in force."""

    def __init__(self, consents: Consents, find: Find, is_known: IsKnown) -> None:
        self._consents = consents
        self._find = find
        self._is_known = is_known

    async def explain(self, rest: str) -> Chain | None:
        if not _REF.fullmatch(rest) or not 0 < int(rest) <= LARGEST:
            return None
        ref = int(rest)
        owner = await self._consents.owner(ref)
        if owner is None:
            if not await self._is_known(ref):
                return None
            return Chain(f"vehicle:{ref}", (Fact("vehicle.unowned", {}, "policy:fleet-vehicle"),),
                         About((READ_VEHICLE.name,), ref))  # fmt: skip
        place = await _place(self._find, ("consent.own",), ref, owner.since_us)
        facts = [Fact("vehicle.owned", {"since_us": owner.since_us}, place)]
        if owner.until_us != FOREVER_US:
            facts.append(Fact("vehicle.former", {"until_us": owner.until_us}, "policy:former-owner"))
        for grant in await self._consents.grants(ref, is_live_only=True):
            told = {"recipient": grant.recipient, "classes": _words(grant.classes), "purpose": grant.purpose}
            facts.append(Fact("vehicle.grant", {**told}, grant.id))
        facts += [
            Fact("vehicle.guest", {"classes": _words(guest.classes), "until_us": guest.until_us}, guest.id)
            for guest in await self._consents.guests(ref, is_live_only=True)
        ]
        return Chain(f"vehicle:{ref}", tuple(facts), About((READ_GRANTS.name,), ref))


def _words(classes: int) -> str:
    return ", ".join(data_classes.names(classes)) or "-"


def _period(kind: str, from_us: int, until_us: int) -> Fact:
    if until_us == FOREVER_US:
        return Fact(f"{kind}.from", {"from_us": from_us})
    return Fact(f"{kind}.period", {"from_us": from_us, "until_us": until_us})


def _now(kind: str, from_us: int, until_us: int, now_us: int) -> Fact:
    if now_us < from_us:
        return Fact(f"{kind}.later")
    return Fact(f"{kind}.live" if now_us < until_us else f"{kind}.over")


async def _place(find: Find, actions: Collection[str], ref: int, at_us: int) -> str:
    found = await find(actions, f"vehicle:{ref}", at_us)
    return "" if found is None else f"audit:{found}"
