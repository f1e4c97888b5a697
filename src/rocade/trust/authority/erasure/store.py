"""SQL of erasures: one row each, from the order to the certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

CHANNEL = "erasure"
"""Notified when an erasure is ordered or the rows of one are gone: processes hide anew, whoever erases wakes up."""
ORDERED, FORGOTTEN, CLEARED, DONE = "ordered", "forgotten", "cleared", "done"
"""What is true of it: written down; no reader finds it; no file holds it; certified."""
_COLUMNS = "id, subject, ref, renewed, actor, ordered_us, is_physical, step, progress, facts, done_us"


class Erasure(msgspec.Struct, frozen=True):
    """One erasure. `ref`: a vehicle's reference or a person's number; `renewed`: the vehicle's next reference, 0 = none."""

    id: str
    subject: str
    ref: int
    renewed: int
    actor: str
    ordered_us: int
    is_physical: bool
    """Somebody waits for the files; else they follow within the hour."""
    step: str = ORDERED
    progress: str = ""
    facts: Mapping[str, int | str] = {}
    done_us: int = 0


def _erasure(row: Any) -> Erasure:
    return Erasure(**{**dict(row), "facts": msgspec.json.decode(row["facts"])})


async def add(connection: Any, erasure: Erasure) -> Erasure:
    """The erasure as it stands: this one, or the one that is open for the same subject (which then hurries as this would)."""
    row = await connection.fetchrow(
        "INSERT INTO erasure (id, subject, ref, renewed, actor, ordered_us, is_physical, step) VALUES"
        " ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (subject) WHERE done_us = 0"
        f" DO UPDATE SET is_physical = erasure.is_physical OR excluded.is_physical RETURNING {_COLUMNS}",
        erasure.id, erasure.subject, erasure.ref, erasure.renewed, erasure.actor, erasure.ordered_us,
        erasure.is_physical, erasure.step,
    )  # fmt: skip
    await notify(connection)
    return _erasure(row)


async def drop(connection: Any, id: str, subject: str) -> None:
    """Forget what is known of an erasure, and of one open for the same subject: it is done once more from its beginning."""
    await connection.execute("DELETE FROM erasure WHERE id = $1 OR (subject = $2 AND done_us = 0)", id, subject)


async def notify(connection: Any) -> None:
    await connection.execute("SELECT pg_notify($1, '')", CHANNEL)


async def step(connection: Any, id: str, name: str, progress: str = "") -> None:
    await connection.execute("UPDATE erasure SET step = $2, progress = $3 WHERE id = $1", id, name, progress)


async def locked_step(connection: Any, id: str) -> str | None:
    """Held until the caller's transaction ends."""
    found: str | None = await connection.fetchval("SELECT step FROM erasure WHERE id = $1 FOR UPDATE", id)
    return found


async def count(connection: Any, id: str, facts: Mapping[str, int | str]) -> None:
    """Add to what was counted; what stands there already under a name is kept: a repetition finds nothing any more."""
    known = msgspec.json.decode(await connection.fetchval("SELECT facts FROM erasure WHERE id = $1", id))
    text = msgspec.json.encode({**facts, **known}).decode()
    await connection.execute("UPDATE erasure SET facts = $2 WHERE id = $1", id, text)


async def finish(connection: Any, id: str, at_us: int) -> None:
    await connection.execute(
        f"UPDATE erasure SET step = '{DONE}', progress = '', done_us = $2 WHERE id = $1", id, at_us
    )


async def one(connection: Any, id: str) -> Erasure | None:
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM erasure WHERE id = $1", id)
    return _erasure(row) if row else None


async def newest_of(connection: Any, subject: str) -> Erasure | None:
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM erasure WHERE subject = $1 ORDER BY ordered_us DESC LIMIT 1", subject
    )
    return _erasure(row) if row else None


async def unfinished(connection: Any) -> list[Erasure]:
    """Oldest first."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM erasure WHERE done_us = 0 ORDER BY ordered_us, id")
    return [_erasure(row) for row in rows]


async def hidden(connection: Any) -> list[int]:
    """Vehicles whose rows must be in no answer although files may still hold them."""
    rows = await connection.fetch(
        "SELECT DISTINCT ref FROM erasure WHERE step = ANY($1) AND subject LIKE 'vehicle:%' ORDER BY ref",
        [ORDERED, FORGOTTEN],
    )
    return [ref for (ref,) in rows]


async def dirty_tables(connection: Any) -> Sequence[str]:
    """Tables with dead rows, those of the log apart, which go as a whole."""
    rows = await connection.fetch(
        "SELECT format('%I.%I', schemaname, relname) AS name FROM pg_stat_user_tables"
        " WHERE n_dead_tup > 0 AND schemaname <> 'log_data' ORDER BY 1"
    )
    return [name for (name,) in rows]


async def vacuum(connection: Any, table: str) -> None:
    """Outside any transaction. `table` comes from `dirty_tables`, quoted."""
    await connection.execute(f"VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) {table}")
