"""What the pure rooms need from outside: a clock, randomness, a place for audit entries. Tests hand in fakes.

All instants inside Rocade are integers: microseconds since 1970-01-01 UTC, named `..._us`.
"""

from __future__ import annotations

import secrets
import time
from typing import Protocol

import msgspec


class Clock(Protocol):
    def now_us(self) -> int:
        """Wall clock, microseconds since 1970 UTC."""
        ...

    def monotonic_s(self) -> float:
        """A clock that never goes back, seconds, for intervals only."""
        ...


class Random(Protocol):
    def bits(self, count: int) -> int:
        """A uniformly random integer of `count` bits."""
        ...

    def uniform(self) -> float:
        """A uniformly random number in [0, 1)."""
        ...


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the audit log. Holds references and reasons, never personal data in clear.

    Shape: `actor` and `subject` are identity URIs, `vehicle:<VehicleRef>`, or `peer:<address>` where nobody is proven;
    `action` and `reason` are stable dotted codes; `outcome` is "done" or "refused".
    """

    at_us: int
    actor: str
    action: str
    subject: str
    outcome: str = "done"
    reason: str = ""
    facts: dict[str, str | int | float] = {}


class Audit(Protocol):
    def note(self, entry: AuditEntry) -> None:
        """Queue an entry; it is durable within one group commit. Never blocks, never raises, never drops in silence."""
        ...

    async def record(self, entry: AuditEntry) -> None:
        """Return when the entry is durable. Use it where the act must not happen unrecorded."""
        ...


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


class SystemRandom:
    def bits(self, count: int) -> int:
        return secrets.randbits(count)

    def uniform(self) -> float:
        return secrets.randbits(53) / (1 << 53)
