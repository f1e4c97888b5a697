"""Every refusal is counted and audited; a flood becomes one entry per action and reason every ten seconds.

An entry about a refused handshake names the peer's address and claims no identity. Source: docs/decisions/0019-mqtt-rules.md.
"""

from __future__ import annotations

from collections import Counter

from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.mqtt.meter import Meter

_SINGLE_PER_S = 20
_FLUSH_EVERY_S = 10.0


class Refusals:
    def __init__(self, audit: Audit, clock: Clock, meter: Meter) -> None:
        self._audit = audit
        self._clock = clock
        self._meter = meter
        self._second = 0
        self._singles = 0
        self._flood: Counter[tuple[str, str]] = Counter()
        self._flood_since_s = 0.0

    def note(self, action: str, code: str, actor: str, subject: str, **facts: str | int) -> None:
        """Count one refusal and audit it: by itself, or in a flood as part of a sum."""
        self._meter.refusals[code] += 1
        at_us = self._clock.now_us()
        if at_us // 1_000_000 != self._second:
            self._second, self._singles = at_us // 1_000_000, 0
        self._singles += 1
        if self._singles <= _SINGLE_PER_S:
            self._audit.note(AuditEntry(at_us, actor, action, subject, "refused", code, dict(facts)))
            return
        if not self._flood:
            self._flood_since_s = self._clock.monotonic_s()
        self._flood[action, code] += 1

    def flush(self, *, now: bool = False) -> None:
        """Audit the sums of a flood that is ten seconds old (or `now`)."""
        age_s = self._clock.monotonic_s() - self._flood_since_s
        if not self._flood or (age_s < _FLUSH_EVERY_S and not now):
            return
        at_us = self._clock.now_us()
        for (action, code), count in self._flood.items():
            facts: dict[str, str | int | float] = {"count": count, "seconds": round(age_s, 1)}
            self._audit.note(AuditEntry(at_us, "peer:many", action, "door:mqtt", "refused", code, facts))
        self._flood.clear()
