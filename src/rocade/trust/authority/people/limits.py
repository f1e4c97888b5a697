"""How often somebody may try: so many times in a window, by address and by person, then nothing for a while.

The secrets' 256 bits and the passkeys' keys are the protection; this keeps noise and the audit log small, and a flood from
one place off the database. In memory, by process, bounded. Refuses: `quota.sign_in`, with the seconds to wait.
"""

from __future__ import annotations

from math import ceil

from rocade.core.errors import Refused
from rocade.core.ports import Clock

KEYS = 10_000
FAILURES = (10, 600.0)
"""(times, seconds) of wrong answers from one address, and for one person."""
BEGINNINGS = (60, 60.0)
"""(times, seconds) of challenges asked for by one address."""


class Limit:
    """At most `times` per key in `window_s`; the window begins with a key's first time, the oldest key is forgotten first."""

    def __init__(self, clock: Clock, rule: tuple[int, float]) -> None:
        self._clock = clock
        self._times, self._window_s = rule
        self._counted: dict[str, tuple[int, float]] = {}

    def check(self, *keys: str) -> None:
        """Raises: Refused `quota.sign_in`."""
        for key in keys:
            count, since_s = self._counted.get(key, (0, 0.0))
            left_s = since_s + self._window_s - self._clock.monotonic_s()
            if count >= self._times and left_s > 0:
                raise Refused("quota.sign_in", "too many attempts; wait a little", retry_after_s=ceil(left_s))

    def count(self, *keys: str) -> None:
        now_s = self._clock.monotonic_s()
        for key in keys:
            count, since_s = self._counted.pop(key, (0, now_s))
            if now_s - since_s >= self._window_s:
                count, since_s = 0, now_s
            self._counted[key] = count + 1, since_s
            if len(self._counted) > KEYS:
                del self._counted[next(iter(self._counted))]
