"""Words of commands: what is ordered, how it stands, which states there are and which may follow which.

A state only moves forward, whatever comes late, twice or in another order. Ends that the hub gave without the vehicle's word
(`ledger.OWN_ENDS`) are the only ones that this word may still correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

STATES = (
    "created", "queued", "sent", "accepted", "waking", "applied", "verified", "rejected", "expired", "superseded",
)  # fmt: skip
"""created: recorded, its time has not come; queued: to be sent; sent: on its way; accepted: safe in the vehicle; waking: the
vehicle wakes up for it; applied: done, says the vehicle; verified: done, telemetry proves it; then the three ends without effect."""
CREATED, QUEUED, SENT, ACCEPTED, WAKING, APPLIED, VERIFIED, REJECTED, EXPIRED, SUPERSEDED = range(10)
UNPROVEN, CLOSED = 1, 2
"""Doubts about an applied command: no telemetry proved it in time; nobody looks any more."""

DEFAULT_LIFE_US = 15 * 60_000_000
MOST_KEY = 128
PROOF_US = 60_000_000
"""How long after the vehicle's word telemetry may take to prove it; then there is doubt."""
LOOKED_FOR_US = 3_600_000_000
"""How long a late proof still counts."""
SILENT_US = 60_000_000
"""How long after its deadline a command that the vehicle has may be answered."""
KEPT_US = 400 * 86_400_000_000
"""Ended commands are forgotten after so long."""


class Order(msgspec.Struct, frozen=True):
    """What is wanted of one vehicle. `by` is who wants it, as the audit log names him; `key` makes a repetition harmless.

    `expires_us` 0 = a quarter of an hour from now; `purpose` as of the gate.
    """

    ref: int
    act: str
    parameters: Mapping[str, Any] = {}
    by: str = ""
    expires_us: int = 0
    not_before_us: int = 0
    key: str = ""
    purpose: str = ""


class Moment(msgspec.Struct, frozen=True):
    """A state and since when (the hub's clock)."""

    state: str
    at_us: int


class Standing(msgspec.Struct, frozen=True):
    """How a command stands. `life` is what it went through, in order; `code` says why, of an end without effect or a doubt."""

    id: str
    ref: int
    act: str
    parameters: dict[str, Any]
    lane: str
    version: int
    by: str
    purpose: str
    state: str
    code: str
    not_before_us: int
    expires_us: int
    changed_us: int
    life: tuple[Moment, ...]
    result: dict[str, Any] = {}
    newer: str = ""
    """The command that took its place."""
    doubt: bool = False
    """The vehicle says it is done and no telemetry proved it in time."""
    sends: int = 0

    @property
    def is_open(self) -> bool:
        """Whether something may still happen by itself."""
        return STATES.index(self.state) < VERIFIED and not self.doubt

    @property
    def created_us(self) -> int:
        return self.life[0].at_us


class Page(msgspec.Struct, frozen=True):
    """The newest first; `cursor` asks for what is older, None at the end."""

    commands: list[Standing]
    cursor: str | None


def resend_after_us(sends: int) -> int:
    """How long to wait for an answer before a command goes down again: 5 s, then twice as long each time, at most 5 minutes."""
    return int(min(5_000_000 << min(sends, 10), 300_000_000))
