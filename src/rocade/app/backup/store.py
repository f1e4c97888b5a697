"""SQL of backups: numbers of vehicles that got a new reference by an erasure, and whose keys a keys part knows to be destroyed.

A backup from before the erasure holds such a number sealed with a key that is gone for good. So each keys part carries those
numbers as they were sealed anew, and a restore puts them where the erasure, done again, looks for them.
"""

from __future__ import annotations

import asyncpg

from rocade.trust.authority.sealing import Group

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


async def destroyed_since(url: str, at_us: int) -> set[int]:
    """Vehicles' references and people's numbers whose keys were destroyed after an instant; numbers of backups, whose keys go with
    them, are told by the one key they had.
    """
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT g.owner FROM seal_gone g WHERE g.gone_us > $1 AND NOT EXISTS ("
            "SELECT FROM seal_key k WHERE k.owner = g.owner AND k.grp = $2 AND k.made_us < g.gone_us)",
            at_us, int(Group.BACKUP),
        )  # fmt: skip
        return {row["owner"] for row in rows}
    finally:
        await connection.close()


async def put_number(pool: asyncpg.Pool, ref: int, sealed: bytes) -> None:
    """The vehicle that a restored region still has under its old reference."""
    await pool.execute("UPDATE vehicle SET id_sealed = $2 WHERE ref = $1", ref, sealed)
