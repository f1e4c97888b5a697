"""What an owner agrees when he has his vehicle's data sent to somebody: contract, terms, log; and the rules that need no more.

The EU Data Act's words: the *user* is the vehicle's owner, the *data holder* this region, the *third party* the contract's
`party`. A contract stands on one consent whose recipient is the contract itself (`recipient_of`): nobody else's principal is
called so, so it opens the feed and no other door, and whatever ends the consent ends the contract.
Nothing is changed in place but acceptance and end: a narrowed contract is its next version.
"""

from __future__ import annotations

import re

import msgspec

from rocade.core.data_classes import ALL
from rocade.services.consent import FOREVER_US
from rocade.services.sharing import errors

WAYS = ("sse", "webhook", "parquet")
SIGNAL_LIMIT = 1_000
CONTRACT_LIMIT = 50
"""Live contracts of one vehicle."""
_PARTY = re.compile(r"(?:partner|dealer):[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class Terms(msgspec.Struct, frozen=True):
    """What the data holder asks of a third party, fixed in each contract made while they hold. `party` '' = anybody.

    `compensation`: in words, as Art. 9 of the Data Act lets it be asked; `withheld`: ids of signals that are trade secrets,
    with the `reason` everybody concerned is told. Version 0 stands for a region that set none: nothing asked, nothing withheld.
    """

    version: int = 0
    party: str = ""
    compensation: str = ""
    withheld: tuple[int, ...] = ()
    reason: str = ""
    made_us: int = 0


class Contract(msgspec.Struct, frozen=True):
    """`party` gets `classes` (mask) of `ref`, of these only `signals` unless empty, for `purpose`, by `ways`."""

    id: str
    version: int
    ref: int
    party: str
    purpose: str
    classes: int
    signals: tuple[int, ...]
    ways: tuple[str, ...]
    terms: int
    grant: str
    from_us: int
    until_us: int
    made_us: int
    accepted_us: int = 0
    """0 = the third party has not taken it up yet; nothing flows before."""
    ended_us: int = FOREVER_US
    why_ended: str = ""
    """withdrawn | expired | narrowed | owner_changed | declined (by the third party, before or after it took it up) | stopped (by
    the region, which no longer trusts it)"""

    @property
    def state(self) -> str:
        if self.ended_us != FOREVER_US:
            return "ended"
        return "running" if self.accepted_us else "offered"

    @property
    def recipient(self) -> str:
        return recipient_of(self.id)


class Webhook(msgspec.Struct, frozen=True):
    """Where a third party wants a contract's records. `attempt` counts failures in a row; `paused_us` 0 = it is told."""

    contract: str
    url: str
    generation: int
    rotated_us: int
    cursor: int
    attempt: int
    due_us: int
    paused_us: int
    status: int
    """What the receiver answered last; 0 = nothing yet, or it could not be reached."""
    told_us: int
    made_us: int
    expired: int = 0
    """Records that were kept as long as promised and could not be told; it is told so with the next post."""


class Line(msgspec.Struct, frozen=True):
    """One line of a contract's log. `kind`: offered, accepted, narrowed, sent (sums of an hour), failing, resumed, expired
    (records that were kept as long as promised and not fetched), ended.
    """

    contract: str
    at_us: int
    kind: str
    way: str = ""
    version: int = 0
    records: int = 0
    samples: int = 0
    bytes: int = 0
    code: str = ""


class Waiting(msgspec.Struct, frozen=True):
    """What one vehicle sent in one block of the worker, sealed, waiting for its third parties."""

    number: int
    ref: int
    at_us: int
    arrived_us: int
    samples: int
    body: bytes


def recipient_of(id: str) -> str:
    """How a consent names the feed of a contract."""
    return f"feed:{id}"


def check_terms(party: str, classes: int, ways: tuple[str, ...], signals: tuple[int, ...]) -> None:
    """Raises: Refused `sharing.party`, `sharing.way`, `sharing.class`, `sharing.signals`."""
    if not _PARTY.match(party):
        raise errors.party()
    if not ways or not set(ways) <= set(WAYS):
        raise errors.way(", ".join(WAYS))
    if not classes or classes & ~ALL:
        raise errors.data_class()
    if len(signals) > SIGNAL_LIMIT:
        raise errors.signals(f"name at most {SIGNAL_LIMIT}, or none for all of the classes")
