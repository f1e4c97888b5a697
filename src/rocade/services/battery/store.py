"""SQL of battery health, and which days of a vehicle's history hold readings of charge.

How worn a battery is and how it was charged tells of a car and of who drives it: every body is sealed with a key of the vehicle's
reference. References and instants stay readable, because rows are found by them. Rows whose key was destroyed are read over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rocade.fabric.history import History
from rocade.services.battery.model import Health, Point, Segment
from rocade.services.telemetry import store as telemetry
from rocade.trust.authority.sealing import Group
from rocade.trust.authority.sealing.columns import Column, Columns
from rocade.trust.authority.sealing.older import body

DAY_US = 86_400_000_000
TABLES = ("battery_segment", "battery_health", "battery_point")
SEGMENT, HEALTH, POINT = (Column(f"{table}.body", Group.SERVICE) for table in TABLES)
OLDER = (
    body(SEGMENT, ("ref", "start_us"), row="start_us"),
    body(HEALTH, ("ref",)),
    body(POINT, ("ref", "as_of_us"), row="as_of_us"),
)
"""Rows from before they were sealed."""
_health = msgspec.msgpack.Decoder(Health).decode
_segment = msgspec.msgpack.Decoder(Segment).decode
_point = msgspec.msgpack.Decoder(Point).decode
encode = msgspec.msgpack.encode


async def charged_days(history: History, ref: int, signals: Sequence[int], from_us: int, until_us: int) -> list[int]:
    """Beginnings of the UTC days in which any of these signals has samples."""
    first, last = from_us // DAY_US * DAY_US, -(-until_us // DAY_US) * DAY_US
    found = await telemetry.hourly(history, signals, first, last, every_us=DAY_US, vehicles=[ref])
    return sorted(set(found.column("from_us").to_pylist()))


async def take(connection: Any, ref: int) -> bool:
    """Whether this transaction is the only one that reads this vehicle's history on."""
    return bool(
        await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 53))", f"battery {ref}")
    )


async def health(connection: Any, columns: Columns, ref: int) -> Health | None:
    sealed = await connection.fetchval("SELECT body FROM battery_health WHERE ref = $1", ref)
    if sealed is None:
        return None
    [plain] = await columns.open(HEALTH, [(ref, 0, sealed)])
    return _health(plain) if plain is not None else None


async def put_health(connection: Any, columns: Columns, health: Health) -> None:
    """Raises: Refused `seal.erased`."""
    [sealed] = await columns.seal(HEALTH, [(health.ref, 0, encode(health))])
    await connection.execute(
        "INSERT INTO battery_health VALUES ($1, $2, $3, $4) ON CONFLICT (ref) DO UPDATE"
        " SET read_until_us = $2, made_us = $3, body = $4",
        health.ref, health.read_until_us, health.made_us, sealed,
    )  # fmt: skip


async def stale(connection: Any, refs: Sequence[int], before_us: int) -> list[int]:
    """Those of these vehicles whose answer is older than an instant, or missing."""
    rows = await connection.fetch(
        "SELECT r FROM unnest($1::bigint[]) AS r WHERE NOT EXISTS"
        " (SELECT FROM battery_health WHERE ref = r AND made_us >= $2)",
        list(refs), before_us,
    )  # fmt: skip
    return [int(row["r"]) for row in rows]


async def segments(connection: Any, columns: Columns, ref: int, after_us: int = 0) -> list[Segment]:
    """Those that end after an instant, in order."""
    rows = await connection.fetch(
        "SELECT start_us, body FROM battery_segment WHERE ref = $1 AND end_us > $2 ORDER BY start_us", ref, after_us
    )
    found = await columns.open(SEGMENT, [(ref, row["start_us"], row["body"]) for row in rows])
    return [_segment(plain) for plain in found if plain is not None]


async def replace_segments(connection: Any, columns: Columns, ref: int, from_us: int, found: Sequence[Segment]) -> None:
    """What was found from an instant on takes the place of what was known from then on. Raises: Refused `seal.erased`."""
    sealed = await columns.seal(SEGMENT, [(ref, one.start_us, encode(one)) for one in found])
    await connection.execute("DELETE FROM battery_segment WHERE ref = $1 AND end_us > $2", ref, from_us)
    await connection.executemany(
        "INSERT INTO battery_segment VALUES ($1, $2, $3, $4) ON CONFLICT (ref, start_us) DO UPDATE SET end_us = $3, body = $4",
        [(ref, one.start_us, one.end_us, text) for one, text in zip(found, sealed, strict=True)],
    )


async def points(connection: Any, columns: Columns, ref: int) -> list[Point]:
    rows = await connection.fetch("SELECT as_of_us, body FROM battery_point WHERE ref = $1 ORDER BY as_of_us", ref)
    found = await columns.open(POINT, [(ref, row["as_of_us"], row["body"]) for row in rows])
    return [_point(plain) for plain in found if plain is not None]


async def put_points(connection: Any, columns: Columns, ref: int, found: Sequence[Point]) -> None:
    """Raises: Refused `seal.erased`."""
    sealed = await columns.seal(POINT, [(ref, one.as_of_us, encode(one)) for one in found])
    await connection.executemany(
        "INSERT INTO battery_point VALUES ($1, $2, $3) ON CONFLICT (ref, as_of_us) DO UPDATE SET body = $3",
        [(ref, one.as_of_us, text) for one, text in zip(found, sealed, strict=True)],
    )


async def forget(connection: Any, ref: int) -> None:
    """Everything about a reference, when its data are erased."""
    for table in TABLES:
        await connection.execute(f"DELETE FROM {table} WHERE ref = $1", ref)
