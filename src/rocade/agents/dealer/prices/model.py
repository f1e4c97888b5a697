"""Values of the local price store."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rocade.core.prices import Change, Description
from rocade.wire.prices import Blob, Head

type Fetch = Callable[[str], bytes]
"""The bytes of a price file by its SHA-256 in hex, as they lie at the hub or in any cache."""


class Price(msgspec.Struct, frozen=True):
    """The price of a part at an instant, as known at number `known_seq` of its list.

    `price_minor` None: the part is withdrawn at that instant. The entry that says so holds from `valid_from_us` and came with number `seq`.
    """

    list_id: str
    ref: str
    at_us: int
    known_seq: int
    seq: int
    valid_from_us: int
    price_minor: int | None
    currency: str


class PartCard(msgspec.Struct, frozen=True):
    """A part as the list describes it now."""

    list_id: str
    index: int
    since_seq: int
    description: Description


class Successors(msgspec.Struct, frozen=True):
    """References that replace a part, one after the other; `ends`: "here" (the last one is current), "unknown" (it is not in the
    list) or "circle" (it leads back; no part of the circle is offered as a successor).
    """

    refs: tuple[str, ...]
    ends: str


class Changed(msgspec.Struct, frozen=True):
    """What one release did to one part, with the price that held before it."""

    ref: str
    change: Change
    before_minor: int | None


class Plan(msgspec.Struct, frozen=True):
    """Files to fetch and apply, in order, to come from number `from_seq` to the head's."""

    from_seq: int
    blobs: tuple[Blob, ...]

    @property
    def size_bytes(self) -> int:
        return sum(blob.size for blob in self.blobs)


class Applied(msgspec.Struct, frozen=True):
    """What the store holds after a head was applied. `is_new` False: it was there before. `repaired`: by a snapshot."""

    list_id: str
    seq: int
    state_root: str
    is_new: bool
    repaired: bool = False
    size_bytes: int = 0


class Held(msgspec.Struct, frozen=True):
    """A list as the store holds it."""

    list: str
    seq: int
    head: Head
    envelope: bytes
    applied_us: int
