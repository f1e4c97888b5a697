"""The audit log as people read it: the newest entries, one by its place or by what it concerns, and the proof of all of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from cryptography import x509

from rocade.core.ports import AuditEntry
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.audit import Line, key_of
from rocade.trust.authority.verification import Report, verify

LOOK = 500
LOOKED_THROUGH = 20_000
"""Entries one look goes through; a rare act in a long log takes several."""
NEAR_US = 2_000_000
NEAR_ENTRIES = 4_000


class Asked(msgspec.Struct, frozen=True):
    """Which entries: by whom, about what, of which act (a code or how it begins), with which outcome; '' = any."""

    actor: str = ""
    subject: str = ""
    action: str = ""
    outcome: str = ""

    @property
    def needles(self) -> list[bytes]:
        """What the stored bytes of a fitting entry hold; the database reads over the others."""
        is_refused = self.outcome == "refused"  # what was done is the default, which is not written
        return [text.encode() for text in (self.action, '"refused"' if is_refused else "") if text]

    def fits(self, entry: AuditEntry) -> bool:
        return (
            (not self.actor or entry.actor == self.actor)
            and (not self.subject or entry.subject == self.subject)
            and (not self.outcome or entry.outcome == self.outcome)
            and (not self.action or entry.action == self.action or entry.action.startswith(f"{self.action}."))
        )


class Browsed(msgspec.Struct, frozen=True):
    """`before`: where to go on, None at the beginning of the log; `until_us`: looking stopped there for now, None = page full or end."""

    entries: list[tuple[int, AuditEntry]]
    before: int | None
    until_us: int | None


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

    async def browse(self, asked: Asked, before: int | None = None, limit: int = 50) -> Browsed:
        """Entries that fit, newest first, from before a place on.

        Cost: by actor or subject what fits; else the database goes through at most `LOOKED_THROUGH` entries.
        """
        decode = msgspec.json.Decoder(Line).decode
        keys = [key_of(text) if text else None for text in (asked.subject, asked.actor)]
        found: list[tuple[int, AuditEntry]] = []
        async with self._database.pool.acquire() as connection:
            tree = await store.read_tree(connection)
            place = min(tree.size if tree else 0, (1 << 63) - 1 if before is None else before)
            floor = max(0, place - LOOKED_THROUGH) if keys == [None, None] else 0
            rows = [(0, b"")] * LOOK
            while len(rows) == LOOK:
                rows = await store.read_back(connection, place, floor, LOOK, keys, asked.needles)
                for position, body in rows:
                    place = position
                    if asked.fits(entry := decode(body).entry):
                        found.append((position, entry))
                        if len(found) == limit:
                            return Browsed(found, place or None, None)
            last = await store.read_body(connection, floor) if floor else None
        return Browsed(found, floor or None, decode(last).entry.at_us if last else None)

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

    async def find(self, actions: Collection[str], subject: str, at_us: int) -> int | None:
        """Place of the entry about one of these acts, done at about this instant. Cost: one row for each halving of the log.

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
                if entry.action in actions and entry.subject == subject:
                    return position
        return None

    async def verify(self) -> Report:
        """Check every entry.

        Raises: Corrupt naming the first that does not hold.
        """
        return await verify(self._database, self._directory, self._root)
