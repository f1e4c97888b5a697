"""The audit log that tests hand in: it remembers what it is told, for whoever wants to look."""

from __future__ import annotations

from rocade.core.ports import AuditEntry


class Notebook:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def note(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    async def record(self, entry: AuditEntry) -> None:
        self.note(entry)

    def of(self, action: str) -> list[AuditEntry]:
        return [entry for entry in self.entries if entry.action == action]

    def last(self) -> tuple[str, str, str]:
        entry = self.entries[-1]
        return entry.action, entry.outcome, entry.reason

    @property
    def actions(self) -> list[str]:
        """What was done."""
        return [entry.action for entry in self.entries if entry.outcome == "done"]

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Who was refused, and why."""
        return [(entry.actor, entry.reason) for entry in self.entries if entry.outcome == "refused"]

    @property
    def refusals(self) -> list[str]:
        """Why somebody was refused."""
        return [reason for _, reason in self.refused]

    @property
    def reasons(self) -> list[str]:
        """Of every entry, refused or not."""
        return [entry.reason for entry in self.entries]
