"""The audit log as people read it: the newest entries, one by its place or by what it concerns, and the proof of all of it."""

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

NEAR_US = 2_000_000
NEAR_ENTRIES = 4_000


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

    async def entry(self, position: int) -> AuditEntry | None:
        """What stands at this place."""
        async with self._database.pool.acquire() as connection:
            body = await store.read_body(connection, position)
        return None if body is None else msgspec.json.decode(body, type=Line).entry

    async def of_request(self, request: str) -> list[tuple[int, AuditEntry]]:
        """Refusals of one request (16 hexadecimal digits), while they are remembered."""
        async with self._database.pool.acquire() as connection:
            positions = await store.read_request(connection, bytes.fromhex(request))
        return [(position, entry) for position in positions if (entry := await self.entry(position))]

    async def signed_by(self, position: int) -> int:
        """Size of the first signed head over this entry, 0 while none is signed yet."""
        async with self._database.pool.acquire() as connection:
            return await store.read_head_over(connection, position) or 0

    async def find(self, action: str, subject: str, at_us: int) -> int | None:
        """Place of the entry about this act, done at about this instant. Cost: one row for each halving of the log.

        Entries stand in order of writing, which follows their instants within moments: looked for by bisection, then
        around the place.
        """
        async with self._database.pool.acquire() as connection:
            tree = await store.read_tree(connection)
            low, high = 0, tree.size if tree else 0
            while low < high:
                middle = (low + high) // 2
                body = await store.read_body(connection, middle)
                if body is None or msgspec.json.decode(body, type=Line).entry.at_us < at_us - NEAR_US:
                    low = middle + 1
                else:
                    high = middle
            for position, body in await store.read_slice(connection, low, NEAR_ENTRIES):
                entry = msgspec.json.decode(body, type=Line).entry
                if entry.action == action and entry.subject == subject:
                    return position
        return None

    async def verify(self) -> Report:
        """Check every entry.

        Raises: Corrupt naming the first that does not hold.
        """
        return await verify(self._database, self._directory, self._root)
