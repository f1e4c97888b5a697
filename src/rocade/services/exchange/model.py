"""What the exchange speaks of inside: what came up a line, what a message is at, where rules send it.

A party is named `dealer/<site>`, `partner/<id>` or `service/<id>`; a destination `dealer/…`, `partner/…`, `hub/<id>` or
`local/<service of this hub>`. Rules of routing stand in `routing`, those of order in `ordering`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.wire.exchange import Message

SIGNER = "exchange"
"""Name of the service whose certificates sign receipts, roots and lists, and which sends in the hub's own name."""
HUB = "hub-"
"""How the id of another hub's identity begins."""
WAITING, RECEIVED, ACCEPTED, REFUSED, CONFLICT = range(5)
STATES = ("waiting", "received", "accepted", "refused", "conflict")
MESSAGE_ENTRY, RECEIPT_ENTRY = 0, 1
NOBODY = "nobody"
"""Target of a void message."""
TAILS = {
    "dealer": frozenset(("message", "ack", "keys", "state", "ask", "decision")),
    "partner": frozenset(("message", "keys", "ask", "decision")),
    "service": frozenset(("message", "ask", "decision")),
}
"""What each kind of party may say on its line."""

type Verdict = Refused | None


class Upward(msgspec.Struct, gc=False):
    """One thing a party said. `site` is the id of its identity; `line` the door's context of its connection."""

    site: str
    identity: Identity
    tail: str
    body: bytes
    arrived_us: int
    line: Any = None


type Handler = Callable[[Sequence[Upward]], Awaitable[Sequence[Verdict]]]
"""Takes what came up under one tail within a moment; answers when it is durable, one verdict each."""


class Offer(msgspec.Struct, gc=False):
    """A message whose signature holds, on its way into the record."""

    party: str
    message: Message
    sha: bytes
    envelope: bytes
    key_id: bytes
    target: str
    refusal: Refused | None = None
    """Why it will not be handed on, found out before it is recorded."""


class Judgement(msgspec.Struct, gc=False):
    """A recipient's word about a message: `by` is the destination that speaks, `evidence` its signed decision."""

    party: str
    id: str
    sha: bytes
    by: str
    outcome: Literal["accepted", "refused"]
    code: str = ""
    reason: str = ""
    evidence: bytes = b""


class Standing(msgspec.Struct, frozen=True):
    """Where a message stands, without its body."""

    number: int
    party: str
    id: str
    sha256: str
    brand: str
    country: str
    service: str
    site: str
    stream: str
    sequence: int
    content_class: str
    content_type: str
    size: int
    created_us: int
    recorded_us: int
    target: str
    state: str
    code: str
    reason: str
    decided_us: int | None


class Turned(msgspec.Struct, frozen=True):
    """Something that was refused before it could be anybody's message: nobody proven signed it, or over quota."""

    number: int
    at_us: int
    party: str
    tail: str
    code: str
    reason: str
    id: str
    sha256: str
    times: int


type _Match = Annotated[str, Meta(max_length=64, pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]*)\Z")]
type Destination = Annotated[
    str, Meta(max_length=80, pattern=r"^(site|(local|partner|hub)/[A-Za-z0-9][A-Za-z0-9._-]*)\Z")
]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One line of the routing table; `*` matches everything. `dealer` is the sender's site.

    `to` "site" = the point of sale the address names. `stays`: what this rule matches never goes to another hub, whatever
    other rules say. `primary_only`: a secondary site's message is refused.
    """

    to: Destination
    brand: _Match = "*"
    country: _Match = "*"
    service: _Match = "*"
    dealer: _Match = "*"
    stays: bool = False
    primary_only: bool = False
    note: Annotated[str, Meta(max_length=200)] = ""


class Routes(msgspec.Struct, frozen=True):
    """One version of the routing table."""

    version: int
    made_us: int
    made_by: str
    note: str
    rules: tuple[Rule, ...]


class Change(msgspec.Struct, frozen=True):
    """Messages that a new table would send elsewhere: an address with how many it had, where they went and would go."""

    brand: str
    country: str
    service: str
    site: str
    dealer: str
    count: int
    was: str
    would_be: str


def party_of(identity: Identity) -> str:
    return f"{identity.kind}/{identity.id}"
