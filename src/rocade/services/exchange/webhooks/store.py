"""SQL of webhooks: endpoints, how far each was told, and when it is tried next."""

from __future__ import annotations

from typing import Any

import msgspec


class Endpoint(msgspec.Struct, frozen=True):
    """Where a party wants its news. `attempt` counts failures in a row; `paused_us` 0 = it is told."""

    id: str
    party: str
    url: str
    events: tuple[str, ...]
    generation: int
    rotated_us: int
    cursor: str
    attempt: int
    due_us: int
    paused_us: int
    status: int
    """What the receiver answered last; 0 = nothing yet, or it could not be reached."""
    made_us: int


_COLUMNS = "id, party, url, events, generation, rotated_us, cursor, attempt, due_us, paused_us, status, made_us"


def _endpoint(row: Any) -> Endpoint:
    id, party, url, events, *rest = row
    return Endpoint(id, party, url, tuple(events), *rest)


async def add(connection: Any, one: Endpoint, limit: int) -> bool:
    """Whether there was room for it."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 12))", one.party)
    count: int = await connection.fetchval("SELECT count(*) FROM webhook_endpoint WHERE party = $1", one.party)
    if count >= limit:
        return False
    await connection.execute(
        f"INSERT INTO webhook_endpoint ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        one.id, one.party, one.url, list(one.events), one.generation, one.rotated_us, one.cursor, one.attempt, one.due_us,
        one.paused_us, one.status, one.made_us,
    )  # fmt: skip
    return True


async def of_party(connection: Any, party: str) -> list[Endpoint]:
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM webhook_endpoint WHERE party = $1 ORDER BY made_us, id", party
    )
    return [_endpoint(row) for row in rows]


async def remove(connection: Any, party: str, id: str) -> bool:
    return bool(
        await connection.fetchval("DELETE FROM webhook_endpoint WHERE party = $1 AND id = $2 RETURNING true", party, id)
    )


async def rotate(connection: Any, party: str, id: str, now_us: int) -> int | None:
    """The new generation; None if there is no such endpoint."""
    found: int | None = await connection.fetchval(
        "UPDATE webhook_endpoint SET generation = generation + 1, rotated_us = $3 WHERE party = $1 AND id = $2"
        " RETURNING generation",
        party, id, now_us,
    )  # fmt: skip
    return found


async def resume(connection: Any, party: str, id: str, now_us: int) -> bool:
    return bool(
        await connection.fetchval(
            "UPDATE webhook_endpoint SET paused_us = 0, attempt = 0, due_us = $3 WHERE party = $1 AND id = $2"
            " RETURNING true",
            party, id, now_us,
        )
    )  # fmt: skip


async def take_due(connection: Any, now_us: int, until_us: int, limit: int) -> list[Endpoint]:
    """Endpoints whose time has come, reserved for this process until an instant: a crash gives them back by itself."""
    rows = await connection.fetch(
        "UPDATE webhook_endpoint SET due_us = $2 WHERE id IN (SELECT id FROM webhook_endpoint WHERE paused_us = 0"
        f" AND due_us <= $1 ORDER BY due_us LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING {_COLUMNS}",
        now_us, until_us, limit,
    )  # fmt: skip
    return [_endpoint(row) for row in rows]


async def told(connection: Any, id: str, cursor: str, due_us: int, status: int) -> None:
    await connection.execute(
        "UPDATE webhook_endpoint SET cursor = $2, attempt = 0, due_us = $3, status = $4 WHERE id = $1",
        id, cursor, due_us, status,
    )  # fmt: skip


async def failed(connection: Any, id: str, attempt: int, due_us: int, paused_us: int, status: int) -> None:
    await connection.execute(
        "UPDATE webhook_endpoint SET attempt = $2, due_us = $3, paused_us = $4, status = $5 WHERE id = $1",
        id, attempt, due_us, paused_us, status,
    )  # fmt: skip
