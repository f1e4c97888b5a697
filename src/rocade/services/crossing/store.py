"""SQL of exports, neighbours and arrivals."""

from __future__ import annotations

from typing import Any

import msgspec

from rocade.services.crossing.model import DRAFTED, Arrival, Draft, Neighbour

_DRAFT = "number, topic, region, from_us, until_us, state, sha256, lines, left_out, note, made_us, made_by, decided_us, decided_by"
_ARRIVAL = "origin, number, topic, from_us, until_us, lines, accepted_us, accepted_by"


def _draft(row: Any) -> Draft:
    values = [row[name.strip()] for name in _DRAFT.split(",")]
    values[6], values[8] = row["sha256"].hex(), msgspec.json.decode(row["left_out"], type=dict[str, int])
    return Draft(*values)


async def next_number(connection: Any) -> int:
    return int(await connection.fetchval("SELECT nextval('crossing_number')"))


async def add_draft(connection: Any, draft: Draft, packet: bytes) -> None:
    await connection.execute(
        f"INSERT INTO crossing_export ({_DRAFT}, packet)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        draft.number, draft.topic, draft.to, draft.from_us, draft.until_us, draft.state, bytes.fromhex(draft.sha256),
        draft.rows, msgspec.json.encode(draft.left_out), draft.note, draft.made_us, draft.made_by, draft.decided_us,
        draft.decided_by, packet,
    )  # fmt: skip


async def read_draft(connection: Any, number: int, *, lock: bool = False) -> tuple[Draft, bytes, bytes] | None:
    """A draft, the bytes it is about, and the sealed packet (b"" before its release)."""
    row = await connection.fetchrow(
        f"SELECT {_DRAFT}, packet, sealed FROM crossing_export WHERE number = $1{' FOR UPDATE' if lock else ''}", number
    )
    return None if row is None else (_draft(row), row["packet"], row["sealed"])


async def list_drafts(connection: Any, before: int, limit: int) -> list[Draft]:
    rows = await connection.fetch(
        f"SELECT {_DRAFT} FROM crossing_export WHERE number < $1 ORDER BY number DESC LIMIT $2", before, limit
    )
    return [_draft(row) for row in rows]


async def settle(connection: Any, number: int, state: str, at_us: int, actor: str, sealed: bytes) -> None:
    await connection.execute(
        f"UPDATE crossing_export SET state = $2, decided_us = $3, decided_by = $4, sealed = $5"
        f" WHERE number = $1 AND state = '{DRAFTED}'",
        number, state, at_us, actor, sealed,
    )  # fmt: skip


async def put_neighbour(connection: Any, one: Neighbour) -> None:
    await connection.execute(
        "INSERT INTO crossing_neighbour VALUES ($1, $2, $3, $4) ON CONFLICT (region)"
        " DO UPDATE SET root = excluded.root, added_us = excluded.added_us, added_by = excluded.added_by",
        one.region, one.root, one.added_us, one.added_by,
    )  # fmt: skip


async def drop_neighbour(connection: Any, region: str) -> bool:
    return bool(await connection.fetchval("DELETE FROM crossing_neighbour WHERE region = $1 RETURNING 1", region))


async def neighbours(connection: Any) -> list[Neighbour]:
    rows = await connection.fetch("SELECT region, root, added_us, added_by FROM crossing_neighbour ORDER BY region")
    return [Neighbour(*row) for row in rows]


async def add_arrival(connection: Any, one: Arrival, packet: bytes) -> bool:
    """False if something was accepted under this number before."""
    return bool(
        await connection.fetchval(
            f"INSERT INTO crossing_arrival ({_ARRIVAL}, packet) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            " ON CONFLICT DO NOTHING RETURNING 1",
            *msgspec.structs.astuple(one), packet,
        )
    )  # fmt: skip


async def read_arrival(connection: Any, origin: str, number: int) -> tuple[Arrival, bytes] | None:
    row = await connection.fetchrow(
        f"SELECT {_ARRIVAL}, packet FROM crossing_arrival WHERE origin = $1 AND number = $2", origin, number
    )
    return None if row is None else (Arrival(*tuple(row)[:-1]), row["packet"])


async def list_arrivals(connection: Any, limit: int) -> list[Arrival]:
    rows = await connection.fetch(f"SELECT {_ARRIVAL} FROM crossing_arrival ORDER BY accepted_us DESC LIMIT $1", limit)
    return [Arrival(*row) for row in rows]
