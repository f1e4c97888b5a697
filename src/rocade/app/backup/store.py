"""SQL of backups: numbers of vehicles that got a new reference by an erasure.

A backup from before the erasure holds such a number sealed with a key that is gone for good. So each keys part carries those
numbers as they were sealed anew, and a restore puts them where the erasure, done again, looks for them.
"""

from __future__ import annotations

import asyncpg

type Numbers = dict[int, bytes]
"""By reference, sealed under it."""


async def read_renewed(url: str) -> Numbers:
    """Of all vehicles whose reference an erasure gave them."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT ref, id_sealed FROM vehicle v WHERE id_sealed IS NOT NULL"
            " AND EXISTS (SELECT FROM erasure e WHERE e.renewed = v.ref)"
        )
        return {ref: bytes(sealed) for ref, sealed in rows}
    finally:
        await connection.close()


async def put_number(pool: asyncpg.Pool, ref: int, sealed: bytes) -> None:
    """The vehicle that a restored region still has under its old reference."""
    await pool.execute("UPDATE vehicle SET id_sealed = $2 WHERE ref = $1", ref, sealed)
