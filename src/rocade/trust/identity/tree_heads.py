"""What is signed about a growing tree: its head by who keeps it, and the same head once more by who only watches.

A head says how many leaves there are, what their root is, and when that was. A cosignature says that a witness saw this head
at an instant and that it follows from all heads the witness saw before (`witness`). Both are envelopes. Nobody takes a head
that is dated after now: what is signed for tomorrow could be shown then as if it had been made in time.
"""

from __future__ import annotations

import msgspec

HEAD_TYPE = "application/vnd.rocade.tree-head+json"
COSIGNATURE_TYPE = "application/vnd.rocade.cosignature+json"
AHEAD_US = 300_000_000
"""How far another's clock may be ahead of one's own."""


class Head(msgspec.Struct, frozen=True):
    """The first `size` leaves have this root (hexadecimal)."""

    size: int
    root: str
    at_us: int


class Cosignature(msgspec.Struct, frozen=True):
    """A witness saw the head of this size and root at this instant."""

    size: int
    root: str
    at_us: int


def is_ahead(at_us: int, now_us: int | None) -> bool:
    """Whether an instant lies in the future; nothing does for who has no clock (None)."""
    return now_us is not None and at_us > now_us + AHEAD_US
