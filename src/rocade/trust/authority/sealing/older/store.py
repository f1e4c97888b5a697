"""Runs what seals older rows, once each, and writes the tables anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.fabric.database import Database
from rocade.trust.authority.sealing.columns import Column, Columns

ROWS = 2_000


class Older(msgspec.Struct, frozen=True):
    """How the older rows of some columns are sealed. `name` is marked when that is done; `tables` hold what was clear."""

    name: str
    tables: tuple[str, ...]
    seal: Callable[[asyncpg.Connection, Columns], Awaitable[int]]
    """In one transaction; returns how many rows there were."""


async def seal_older(database: Database, steps: Sequence[Older], now_us: int = 0) -> int:
    """Do what is not marked as done; how many rows were sealed. Nothing else may write these tables meanwhile."""
    count = 0
    async with database.pool.acquire() as connection:
        done = {row["name"] for row in await connection.fetch("SELECT name FROM sealed_column")}
        for step in steps:
            if step.name in done:
                continue
            async with connection.transaction():
                sealed = await step.seal(connection, Columns(database))
                mark = "INSERT INTO sealed_column VALUES ($1, $2) ON CONFLICT DO NOTHING"
                await connection.execute(mark, step.name, now_us)
            for table in step.tables if sealed else ():
                await connection.execute(f"VACUUM (FULL, ANALYZE) {table}")
            count += sealed
    return count


def body(column: Column, key: Sequence[str], *, owner: str = "ref", row: str = "0") -> Older:
    """Bodies that are sealed where they stand: `table.column` by its key; `owner` and `row` are SQL of what the seal binds."""
    table, _, name = column.name.partition(".")
    return Older(column.name, (table,), lambda connection, columns: _seal_bodies(connection, columns, column, table, name, key, owner, row))  # fmt: skip


async def _seal_bodies(
    connection: asyncpg.Connection, columns: Columns, column: Column, table: str, name: str, key: Sequence[str], owner: str,
    row: str,
) -> int:  # fmt: skip
    keys = ", ".join(key)
    places = " AND ".join(f"{one} = ${at + 2}" for at, one in enumerate(key))
    found: list[Any] = await connection.fetch(
        f"SELECT {owner} AS owner_, {row} AS row_, {name} AS body_, {keys} FROM {table} WHERE {name} IS NOT NULL"
    )
    for at in range(0, len(found), ROWS):
        rows = found[at : at + ROWS]
        sealed = await columns.seal(column, [(one["owner_"], one["row_"], one["body_"]) for one in rows])
        await connection.executemany(
            f"UPDATE {table} SET {name} = $1 WHERE {places}",
            [(body, *(one[part] for part in key)) for body, one in zip(sealed, rows, strict=True)],
        )
    return len(found)
