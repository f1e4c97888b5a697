"""What tests of people hand in: a clock that turns forward at will, and an audit that remembers."""

from __future__ import annotations

from rocade.core.ports import AuditEntry, SystemClock


class TurnedClock(SystemClock):
    """The real clock, turned forward at will."""

    ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_us / 1e6


class Notebook:
    """An audit that remembers."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def note(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    async def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    def last(self) -> tuple[str, str, str]:
        entry = self.entries[-1]
        return entry.action, entry.outcome, entry.reason
