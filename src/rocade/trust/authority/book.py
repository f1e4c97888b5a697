"""The audit log as operators read it: the newest entries, and the proof of all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography import x509

from rocade.core.ports import AuditEntry
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.audit import Line
from rocade.trust.authority.verification import Report, verify


class AuditBook:
    """`directory` is where signed heads and hashes are kept apart; `root` the region's root certificate."""

    def __init__(self, database: Database, directory: Path, root: x509.Certificate) -> None:
        self._database = database
        self._directory = directory
        self._root = root

    async def tail(self, limit: int) -> Sequence[tuple[int, AuditEntry]]:
        """The newest entries with their positions, newest first."""
        async with self._database.pool.acquire() as connection:
            rows = await store.read_tail(connection, limit)
        decode = msgspec.json.Decoder(Line).decode
        return [(position, decode(body).entry) for position, body in rows]

    async def verify(self) -> Report:
        """Check every entry.

        Raises: Corrupt naming the first that does not hold.
        """
        return await verify(self._database, self._directory, self._root)
