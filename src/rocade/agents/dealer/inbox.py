"""Messages that came for this site: kept before the hub hears that they arrived, read by the dealer's software by cursor.

The cursor is the hub's own, so that both agents of a pair answer alike. The same message again (same sender, same id) is
kept once. What is in it is nobody's business here.
"""

from __future__ import annotations

import msgspec

from rocade.agents.dealer.store import Store
from rocade.wire.exchange import Message


class Arrived(msgspec.Struct, frozen=True):
    """One message; `cursor` is the place to read on from."""

    hub: str
    cursor: int
    sender: str
    id: str
    stream: str
    sequence: int
    content_class: str
    content_type: str
    got_us: int


_COLUMNS = "hub, cursor, sender, id, stream, sequence, content_class, content_type, got_us"


class Inbox:
    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, hub: str, cursor: int, message: Message, envelope: bytes) -> bool:
        """Put it on disk; whether it was new."""
        with self._store.write() as write:
            made = write(
                f"INSERT OR IGNORE INTO inbox ({_COLUMNS}, envelope) VALUES (?,?,?,?,?,?,?,?,?,?) RETURNING cursor",
                hub, cursor, message.sender, message.id, message.stream, message.sequence, message.content_class,
                message.content_type, self._store.clock.now_us(), envelope,
            )  # fmt: skip
        return bool(made)

    def after(self, hub: str, cursor: int, count: int = 100) -> list[Arrived]:
        """Oldest first, above this cursor."""
        rows = self._store.rows(
            f"SELECT {_COLUMNS} FROM inbox WHERE hub = ? AND cursor > ? ORDER BY cursor LIMIT ?", hub, cursor, count
        )
        return [Arrived(*row) for row in rows]

    def newest(self, count: int = 50) -> list[Arrived]:
        rows = self._store.rows(f"SELECT {_COLUMNS} FROM inbox ORDER BY got_us DESC LIMIT ?", count)
        return [Arrived(*row) for row in rows]

    def envelope(self, hub: str, cursor: int) -> bytes:
        """What the sender signed, whole; b"" if there is no such message."""
        row = self._store.row("SELECT envelope FROM inbox WHERE hub = ? AND cursor = ?", hub, cursor)
        return bytes(row[0]) if row else b""
