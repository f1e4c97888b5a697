"""What is agreed: who owns a vehicle, who may see what of it and why, who drives it, and the rules that need no more.

Words of ISO 20078: the *resource owner* is the vehicle's owner, an *accessing party* is a grant's recipient, the
*offering party* this region, a *container* the data classes of a grant, its *resources* the signals of these classes.
Nothing is changed in place but ends: a narrowed consent is a new one that says which it replaces.
"""

from __future__ import annotations

import re

import msgspec

from rocade.core import data_classes
from rocade.services.consent import errors

OWN = "own"
"""The purpose of a person who looks at his own vehicle, or at one he drives."""
PURPOSES = (
    OWN, "operation", "support", "maintenance", "warranty", "charging", "insurance", "research", "traffic", "sharing",
)  # fmt: skip
REGION_PURPOSES = frozenset({"operation", "support"})
"""For which the region's operators may see a vehicle that nobody owns."""
REGION = "operator"
FOREVER_US = (1 << 63) - 1
GRANT_LIMIT = 100
GUEST_LIMIT = 20
INVITATION_LIFE_US = 7 * 86_400_000_000
CLAIM_LIFE_US = 30 * 86_400_000_000
HANDOVER_US = 2_000_000
"""A change of owner takes effect this long after it is made: every process knows of it before the first record of the new time."""
GUEST_LONGEST_US = 366 * 86_400_000_000
"""A delegation always has an end; it can be given again."""

_PERSON = re.compile(r"person:[0-9a-f]{1,64}\Z")
_RECIPIENT = re.compile(
    r"(?:operator|(?:partner|dealer):[A-Za-z0-9][A-Za-z0-9._-]{0,63}|person:[0-9a-f]{1,64}|feed:contract-[0-9a-f]{16})\Z"
)
"""A feed is the consent of one contract (`services.sharing`): nobody who asks is ever called so."""


class Ownership(msgspec.Struct, frozen=True):
    """The time in which a person owns what a reference names. A reference has one at most: the next owner gets a new one."""

    ref: int
    person: str
    since_us: int
    until_us: int = FOREVER_US


class Grant(msgspec.Struct, frozen=True):
    """A consent: `recipient` may see `classes` (mask) of `ref` for `purpose` from `from_us` until the earlier end."""

    id: str
    ref: int
    owner: str
    recipient: str
    purpose: str
    classes: int
    from_us: int
    until_us: int
    made_us: int
    ended_us: int = FOREVER_US
    why_ended: str = ""
    """withdrawn | narrowed | replaced | owner_changed | returned (of a feed, by its third party or the region); a consent that ran
    out has no `ended_us`."""
    replaces: str = ""

    @property
    def end_us(self) -> int:
        return min(self.until_us, self.ended_us)


class Guest(msgspec.Struct, frozen=True):
    """A driver the owner invited: `person` is '' until somebody accepted."""

    id: str
    ref: int
    owner: str
    person: str
    classes: int
    from_us: int
    until_us: int
    invitation_end_us: int
    made_us: int
    accepted_us: int = 0
    ended_us: int = FOREVER_US
    why_ended: str = ""
    """ended | replaced | owner_changed"""

    @property
    def end_us(self) -> int:
        return min(self.until_us, self.ended_us)

    def is_open(self, now_us: int) -> bool:
        """Whether this is a driver whose time has not ended, or an invitation that can still be accepted."""
        return self.end_us > now_us and (bool(self.person) or self.invitation_end_us > now_us)


class Claim(msgspec.Struct, frozen=True):
    """A one-time code that makes its bearer the owner; `giver` is the selling owner, '' if an operator handed it out."""

    ref: int
    giver: str
    made_us: int
    expires_us: int
    used_us: int = 0
    used_by: str = ""


class Conflict(msgspec.Struct, frozen=True):
    """Two persons want one vehicle: `holder` owns it, `claimant` showed a code. `settled_for`: '' open | holder | claimant."""

    id: str
    ref: int
    holder: str
    claimant: str
    opened_us: int
    settled_us: int = 0
    settled_for: str = ""


class Transfer(msgspec.Struct, frozen=True):
    """A change of owner as done: the vehicle is `ref` from `at_us` on; what was before stays under `former_ref`."""

    ref: int
    former_ref: int
    at_us: int


class Look(msgspec.Struct, frozen=True):
    """Somebody saw something of a vehicle, `times` times of one kind within a minute.

    Shape: `actor` is who was proven, `recipient` as whom he asked; `what` the act's name; `signals` are ids, empty = all of
    `classes` (mask); `grant` the consent or invitation it rested on, '' = he is the owner.
    """

    id: int
    ref: int
    minute_us: int
    actor: str
    recipient: str
    purpose: str
    what: str
    classes: int
    signals: list[int]
    grant: str
    first_us: int
    last_us: int
    times: int


class LooksPage(msgspec.Struct, frozen=True):
    """The newest first; `cursor` asks for what is older, None at the end."""

    looks: list[Look]
    cursor: str | None


class CountLine(msgspec.Struct, frozen=True):
    """How many vehicles give one data class to one recipient for one purpose now."""

    purpose: str
    data_class: str
    recipient: str
    vehicles: int


def check_person(person: str) -> str:
    """Raises: Refused `consent.person`."""
    if not _PERSON.match(person):
        raise errors.bad_person()
    return person


def check_terms(owner: str, recipient: str, purpose: str, classes: int) -> None:
    """Raises: Refused `consent.purpose.unknown`, `consent.recipient`, `consent.class.none`, `consent.class.unknown`."""
    if purpose not in PURPOSES or purpose == OWN:
        raise errors.purpose(", ".join(PURPOSES[1:]))
    if not _RECIPIENT.match(recipient) or recipient == owner:
        raise errors.recipient()
    check_classes(classes)


def check_classes(classes: int) -> None:
    """Raises: Refused `consent.class.none`."""
    if not 0 < classes <= data_classes.ALL | data_classes.CONTROL:
        raise errors.no_class()


def check_period(from_us: int, until_us: int, now_us: int, longest_us: int = FOREVER_US) -> None:
    """Raises: Refused `consent.period`."""
    if not 0 <= from_us < until_us <= FOREVER_US:
        raise errors.period("a period begins before it ends")
    if until_us <= now_us:
        raise errors.period("this period is over already")
    if until_us - max(from_us, now_us) > longest_us:
        raise errors.period("a driver is invited for at most a year; invite him again then")
