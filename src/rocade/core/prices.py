"""What a price is: the rule that says it, and the bytes that stand for it in a state root.

A part's life is its `Change`s, one for each release of its list that touched it: entries (from this instant on, this
price, or withdrawn) and, where it is new or described anew, its description. Nothing is ever overwritten.

The rule (`price_at`): the price at instant t as known at list number s is the entry with the greatest `valid_from_us` <= t
among the changes with `seq` <= s; of two such, the one with the greater `seq`. A correction of the past is a new entry.

The bytes: `record` of a change is `seq` (8) | currency (3) | length (4) | description | entries of valid_from (8) and
price (8) each, integers big-endian, a withdrawal as the least 64-bit number. A part's leaf is sha256(0x00 | record) at its first
change and sha256(0x02 | leaf | record) at each later one: whoever shows a leaf's changes cannot leave one out.
Source: docs/decisions/0040-prices.md.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from hashlib import sha256

import msgspec

WITHDRAWN = -(1 << 63)
"""Stands in columns and records where a part has no price any more."""
MAX_PRICE_MINOR = 10**13
SEPARATOR = "\x1f"
_CURRENCY = re.compile(r"[A-Z]{3}")


class Description(msgspec.Struct, frozen=True, array_like=True):
    """What a part is called; `superseded_by` is the reference that replaces it, empty for none."""

    ref: str
    family: str = ""
    label: str = ""
    superseded_by: str = ""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """From `valid_from_us` on the part has this price; `WITHDRAWN` = none."""

    valid_from_us: int
    price_minor: int


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What one release did to one part; entries by growing `valid_from_us`."""

    seq: int
    currency: str
    entries: tuple[Entry, ...] = ()
    description: Description | None = None


class Found(msgspec.Struct, frozen=True):
    """An entry that the rule chose, with the release that gave it."""

    seq: int
    currency: str
    valid_from_us: int
    price_minor: int


def record(change: Change) -> bytes:
    """The bytes of one change, as hashed into its part's leaf.

    Raises: ValueError if other values than these would have the same bytes (a currency of another length, a separator in a text).
    """
    if not _CURRENCY.fullmatch(change.currency):
        raise ValueError("a currency has three letters")
    text = description_bytes(change.description) if change.description else b""
    head = struct.pack(">q3sI", change.seq, change.currency.encode(), len(text))
    return head + text + b"".join(struct.pack(">qq", e.valid_from_us, e.price_minor) for e in change.entries)


def description_bytes(description: Description) -> bytes:
    texts = (description.ref, description.family, description.label, description.superseded_by)
    if any(SEPARATOR in text for text in texts):
        raise ValueError("a text holds the separator")
    return SEPARATOR.join(texts).encode()


def leaf_of(changes: Sequence[Change]) -> bytes:
    """The leaf of a part with these changes, first to last."""
    leaf = b""
    for change in changes:
        leaf = next_leaf(leaf, record(change))
    return leaf


def next_leaf(leaf: bytes, changed: bytes) -> bytes:
    """The leaf after one more record; `leaf` is empty before the first."""
    return sha256(b"\x02" + leaf + changed if leaf else b"\x00" + changed).digest()


def price_at(changes: Sequence[Change], at_us: int, known_seq: int | None = None) -> Found | None:
    """The entry that says the price at an instant, as known at a list number (None = now); None before the first."""
    chosen: Found | None = None
    for change in changes:
        if known_seq is not None and change.seq > known_seq:
            continue
        for entry in change.entries:
            later = chosen is None or (entry.valid_from_us, change.seq) > (chosen.valid_from_us, chosen.seq)
            if entry.valid_from_us <= at_us and later:
                chosen = Found(change.seq, change.currency, entry.valid_from_us, entry.price_minor)
    return chosen


def description_at(changes: Sequence[Change], known_seq: int | None = None) -> Description | None:
    """How the part was described at a list number."""
    described = [c.description for c in changes if c.description and (known_seq is None or c.seq <= known_seq)]
    return described[-1] if described else None
