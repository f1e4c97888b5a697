"""An audit log that keeps nothing and costs nothing: the real one has figures of its own."""

from __future__ import annotations

from rocade.core.ports import AuditEntry


class Silent:
    def note(self, entry: AuditEntry) -> None:
        pass

    async def record(self, entry: AuditEntry) -> None:
        pass
