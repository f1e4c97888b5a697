"""SQL of the archive's notes: a row for each object that must be there.

A row is written when its object is on disk and looked through, before the log may drop what it holds; it is deleted before the
object is. So an object without a row is at most a left-over, and a row without an object is a loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SURE, DOUBTED, TOLD = 0, 1, 2
"""`doubt` of a row: nothing known against it; somebody found it absent or damaged; and that stands in the audit log."""


async def note(pool: Any, name: str, partition: int, first_us: int, doubt: int = SURE) -> None:
    await pool.execute(
        "INSERT INTO telemetry_archive VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO UPDATE SET doubt ="
        " CASE WHEN excluded.doubt = 0 THEN 0 ELSE greatest(telemetry_archive.doubt, excluded.doubt) END",
        name, partition, first_us, doubt,
    )  # fmt: skip


async def drop(pool: Any, names: Iterable[str]) -> None:
    await pool.execute("DELETE FROM telemetry_archive WHERE name = ANY($1::text[])", list(names))


async def drop_all(pool: Any) -> None:
    await pool.execute("DELETE FROM telemetry_archive")


async def noted(pool: Any) -> dict[str, int]:
    """All of them, each with its doubt."""
    return dict(await pool.fetch("SELECT name, doubt FROM telemetry_archive"))


async def noted_in(pool: Any, partition: int, since_us: int, until_us: int) -> dict[str, int]:
    """Those of a partition whose first record arrived in [since, until), each with that instant."""
    return dict(
        await pool.fetch(
            "SELECT name, first_us FROM telemetry_archive WHERE partition = $1 AND first_us >= $2 AND first_us < $3",
            partition, since_us, until_us,
        )
    )  # fmt: skip


async def is_noted(pool: Any, name: str) -> bool:
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM telemetry_archive WHERE name = $1)", name))


async def raise_doubt(pool: Any, names: Iterable[str], doubt: int) -> None:
    await pool.execute(
        "UPDATE telemetry_archive SET doubt = $2 WHERE name = ANY($1::text[]) AND doubt < $2", list(names), doubt
    )


async def erased(pool: Any, refs: Iterable[int]) -> frozenset[int]:
    """Those of these references that were erased."""
    found = await pool.fetch("SELECT ref FROM telemetry_erased WHERE ref = ANY($1::bigint[])", list(refs))
    return frozenset(row["ref"] for row in found)
