"""Slow down guessing of claim codes: a few failures per address, then nothing for a while. In memory, bounded.

The code's 125 bits are the protection; this keeps the noise, and the audit log, small.
"""

from __future__ import annotations

from rocade.core.errors import Refused
from rocade.core.ports import Clock

FAILURES = 10
WINDOW_S = 600.0
ADDRESSES = 10_000


class Attempts:
    """Failures by address, oldest address forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, tuple[int, float]] = {}

    def check(self, address: str) -> None:
        """Raises: Refused `trust.claim.attempts`."""
        count, since_s = self._failures.get(address, (0, 0.0))
        if count >= FAILURES:
            if self._clock.monotonic_s() - since_s < WINDOW_S:
                raise Refused("trust.claim.attempts", "too many wrong claim codes from this address; wait ten minutes")
            del self._failures[address]

    def fail(self, address: str) -> None:
        now_s = self._clock.monotonic_s()
        count, since_s = self._failures.pop(address, (0, now_s))
        if now_s - since_s >= WINDOW_S:
            count, since_s = 0, now_s
        self._failures[address] = count + 1, since_s
        if len(self._failures) > ADDRESSES:
            del self._failures[next(iter(self._failures))]
