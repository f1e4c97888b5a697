"""Records of some keys leave the log's tables before their time: segments that hold them are written anew without them.

Flow, oldest segment first: does it hold any (the database looks for the key's bytes) -> if it is the newest, the next one is
opened, so that writers go on there -> one transaction: nobody writes to it, its rows are copied with the keys' records
left out, the copy takes its name, the old table and its file are gone. Readers wait for the renaming alone.
Positions stay: a row that lost its last record is an empty row. Repeated after a crash it finds what is left.
Not for records that a block still under way would read again; whoever calls has waited for those.
The write-ahead log is not touched; what stands there is as sealed as it was (docs/erasure.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec

from rocade.fabric.log import segments
from rocade.fabric.log.blocks import LANE, unpack

_LOCK = "log.forget"
FEW = 16
"""Up to so many keys the database looks for them faster than rows travel."""
_encode = msgspec.msgpack.Encoder().encode

_HOLDING = """
    SELECT lane, writer, position, body FROM {table}
    WHERE lane = ANY($1::smallint[]) AND
        (cardinality($2::bytea[]) = 0 OR EXISTS (SELECT FROM unnest($2::bytea[]) k(part) WHERE position(k.part IN body) > 0))"""
_CLEAN = "CREATE TEMP TABLE log_clean (lane smallint, writer integer, position bigint, records integer, body bytea) ON COMMIT DROP"
_COPY = """
    INSERT INTO {new} (lane, writer, position, session, records, partitions, oldest_us, body)
    SELECT r.lane, r.writer, r.position, r.session, coalesce(c.records, r.records), r.partitions, r.oldest_us,
        coalesce(c.body, r.body)
    FROM {table} r LEFT JOIN log_clean c ON c.lane = r.lane AND c.writer = r.writer AND c.position = r.position
    ORDER BY r.lane, r.writer, r.position"""


async def forget(pool: asyncpg.Pool, stream: str, keys: Mapping[int, int], now_us: int) -> dict[int, int]:
    """Remove the records of these keys (key -> its partition); how many there were of each."""
    removed = Counter[int]()
    async with pool.acquire() as connection:
        for number in await segments.numbers(connection, stream):
            try:
                if await _holds(connection, segments.table_of(stream, number), keys):
                    await segments.roll(connection, stream, number, now_us)
                    removed.update(await _rewrite(connection, stream, number, keys))
            except asyncpg.UndefinedTableError:
                continue  # dropped by retention meanwhile
    return {key: removed[key] for key in keys}


async def _holds(connection: Any, table: str, keys: Mapping[int, int]) -> bool:
    async with connection.transaction():
        async for row in connection.cursor(_HOLDING.format(table=table), *_looked_for(keys)):
            if any(record.key in keys for record in unpack(row["body"])):
                return True
    return False


async def _rewrite(connection: Any, stream: str, number: int, keys: Mapping[int, int]) -> Counter[int]:
    table, short = segments.table_of(stream, number), f"{stream}_{number}"
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", _LOCK)
        await connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        clean, removed = await _cleaned(connection, table, keys)
        if removed:
            await connection.execute(_CLEAN)
            await connection.copy_records_to_table("log_clean", records=clean)
            await connection.execute(segments.CREATE.format(table=f"{table}_new"))
            await connection.execute(_COPY.format(table=table, new=f"{table}_new"))
            await connection.execute(f"DROP TABLE {table}")
            await connection.execute(f"ALTER TABLE {table}_new RENAME TO {short}")
    return removed


async def _cleaned(
    connection: Any, table: str, keys: Mapping[int, int]
) -> tuple[list[tuple[int, int, int, int, bytes]], Counter[int]]:
    """Rows that held such records, as they are without them; how many records go, by key."""
    rows, removed = list[tuple[int, int, int, int, bytes]](), Counter[int]()
    async for row in connection.cursor(_HOLDING.format(table=table), *_looked_for(keys)):
        records = unpack(row["body"])
        kept = [record for record in records if record.key not in keys]
        if len(kept) < len(records):
            removed.update(record.key for record in records if record.key in keys)
            rows.append((row["lane"], row["writer"], row["position"], len(kept), _encode(kept)))
    return rows, removed


def _looked_for(keys: Mapping[int, int]) -> tuple[list[int], list[bytes]]:
    """Lanes, and the bytes by which a record of one of the keys can be told in a row; none for many keys: all rows are read."""
    lanes = sorted({partition // LANE for partition in keys.values()})
    return lanes, [_encode(key) for key in sorted(keys)] if len(keys) <= FEW else []
