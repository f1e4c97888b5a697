"""The twin: last value, time and quality per signal, as one packed row a vehicle.

Flow: a worker keeps the twins of its vehicles in one array (`packing.Twins`) and writes thousands of rows at once
(`seal_many`, `upsert_sealed`); readers open and unpack (`TwinStore`).
A value replaces another only if it is not older. The vehicle's newest good position and speed stand beside; stored it is all
sealed (`sealing`). A vehicle whose owner was erased has no twin. Source: docs/decisions/0016-twin.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from rocade.core.errors import Corrupt
from rocade.fabric.database import Database
from rocade.fabric.database.gathering import Gathering
from rocade.services.vehicles import sealing
from rocade.services.vehicles.packing import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    MAX_SIGNALS,
    NEVER_US,
    SLOT,
    TEXT,
    Twins,
    Value,
    pack,
    unpack,
    values_of,
)
from rocade.services.vehicles.sealing import Place, SealedRow
from rocade.trust.authority.sealing import Keys, Name, keyring_of
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.sealing.older import Older

__all__ = [
    "BOOLEAN",
    "FLOAT",
    "INTEGER",
    "MAX_SIGNALS",
    "NEVER_US",
    "OLDER",
    "SLOT",
    "TEXT",
    "Place",
    "Position",
    "Row",
    "SealedRow",
    "Twin",
    "TwinStore",
    "Twins",
    "Value",
    "pack",
    "packed",
    "seal_many",
    "unpack",
    "upsert_many",
    "upsert_sealed",
    "values_of",
]


class Twin(msgspec.Struct, frozen=True):
    """What is known of a vehicle now. `skew_us`: its clock minus ours at the last batch, latency included."""

    ref: int
    updated_us: int
    arrived_us: int
    skew_us: int
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    reported: dict[int, Value]
    desired: dict[int, float | bool | str]


class Row(msgspec.Struct, frozen=True):
    """What a worker writes for one vehicle."""

    ref: int
    arrived_us: int
    skew_us: int
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    reported: bytes
    doubts: int = 0
    """Quality flags of all its latest values together."""


_UPSERT = """
    INSERT INTO twin (ref, updated_us, arrived_us, skew_us, place, reported, doubts, moves)
    SELECT ref, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, arrived_us, skew_us, place, reported, doubts, moves
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::smallint[], $7::boolean[])
        AS u (ref, arrived_us, skew_us, place, reported, doubts, moves)
    ON CONFLICT (ref) DO UPDATE SET updated_us = excluded.updated_us, arrived_us = excluded.arrived_us,
        skew_us = excluded.skew_us, place = excluded.place, reported = excluded.reported, doubts = excluded.doubts,
        moves = excluded.moves, latitude = NULL, longitude = NULL, speed_kmh = NULL"""
_COLUMNS = "ref, updated_us, arrived_us, skew_us, place, latitude, longitude, speed_kmh"
_log = logging.getLogger(__name__)
MANY = 2_000
"""So many places are opened in a thread."""


async def seal_many(keys: Keys, rows: Sequence[Row]) -> list[SealedRow]:
    """Rows as they are written, in order of reference so that two writers never wait crosswise; erased owners' are left out.

    Raises: Unavailable `custody.down`, `custody.refused`, `database.down`.
    """
    ordered = sorted(rows, key=lambda row: row.ref)
    found = await keys.ensure(sealing.names(row.ref for row in ordered))
    return await asyncio.to_thread(sealing.seal_rows, ordered, found)


async def upsert_many(connection: Any, rows: Sequence[Row], keys: Keys) -> None:
    """Seal rows and write them inside the caller's transaction. Raises: as `seal_many`."""
    await upsert_sealed(connection, await seal_many(keys, rows))


async def upsert_sealed(connection: Any, rows: Sequence[SealedRow]) -> None:
    """Write sealed rows inside the caller's transaction."""
    await connection.execute(_UPSERT, *([getattr(row, name) for row in rows] for name in SealedRow.__struct_fields__))


async def packed(
    connection: Any, keys: Keys, refs: Iterable[int], *, is_patient: bool = False
) -> dict[int, tuple[bytes, Place]]:
    """Packed values of these vehicles and where they were last seen, as committed at this moment.

    Raises: Corrupt `seal.broken`, unless `is_patient`: what does not open is left out and logged; as `seal_many`.
    """
    rows = await connection.fetch(f"SELECT {_COLUMNS}, reported FROM twin WHERE ref = ANY($1::bigint[])", list(refs))
    found = await keys.fetch(sealing.names(row["ref"] for row in rows))
    opened: dict[int, tuple[bytes, Place]] = {}
    for row in rows:
        try:
            values, place = sealing.open_reported(found, row), sealing.open_place(found, row)
        except Corrupt:
            if not is_patient:
                raise
            _log.error("the twin of vehicle %d cannot be opened", row["ref"])
        else:
            if values is not None and place is not None:
                opened[row["ref"]] = values, place
    return opened


class Position(msgspec.Struct, frozen=True):
    """What a map needs of a vehicle."""

    ref: int
    updated_us: int
    arrived_us: int
    skew_us: int
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    doubts: int = 0


class TwinStore:
    """Reads twins, and writes what is desired of a vehicle."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pool = database.pool
        self._rows: Gathering[int, Any] = Gathering(self._latest)

    async def latest(self, ref: int) -> Twin | None:
        """Everything known of a vehicle now; None if it never sent anything. Those who ask at once share a query."""
        row = await self._rows.get(ref)
        if row is None:
            return None
        keys = await self._keys.fetch(sealing.names([ref]))
        place, values = sealing.open_place(keys, row), sealing.open_reported(keys, row)
        if place is None or values is None:
            return None
        desired = sealing.open_desired(keys, ref, row["desired"])
        return Twin(ref, row["updated_us"], row["arrived_us"], row["skew_us"], *place, values_of(values), desired)

    @property
    def _keys(self) -> Keys:
        return keyring_of(self._database)

    async def _latest(self, refs: list[int]) -> dict[int, Any]:
        query = f"SELECT {_COLUMNS}, reported, desired FROM twin WHERE ref = ANY($1::bigint[])"
        return {row["ref"]: row for row in await self._pool.fetch(query, refs)}

    async def seen(self, refs: Iterable[int]) -> dict[int, int]:
        """When the last batch of these vehicles arrived, microseconds; those that never sent are left out. Cost: one query."""
        rows = await self._pool.fetch(
            "SELECT ref, arrived_us FROM twin WHERE ref = ANY($1::bigint[]) AND arrived_us > 0", list(refs)
        )
        return {row["ref"]: row["arrived_us"] for row in rows}

    async def written(self, refs: Iterable[int]) -> dict[int, int]:
        """When the twins of these vehicles were written last (database clock). Cost: one query by key."""
        rows = await self._pool.fetch("SELECT ref, updated_us FROM twin WHERE ref = ANY($1::bigint[])", list(refs))
        return {row["ref"]: row["updated_us"] for row in rows}

    async def positions(self, refs: Iterable[int]) -> dict[int, Position]:
        """Where these vehicles are and how; those that never sent are left out. Cost: one query."""
        query = f"SELECT {_COLUMNS}, doubts FROM twin WHERE ref = ANY($1::bigint[]) AND arrived_us > 0"
        return {one.ref: one for one in await self._opened(await self._pool.fetch(query, list(refs)))}

    async def changed_since(self, since_us: int, limit: int = 100_000) -> list[Position]:
        """Vehicles whose twin was written at or after `since_us` (database clock), oldest first.

        A transaction shows its rows a moment after it stamped them: ask again from two seconds before the newest
        `updated_us` seen, and expect repeats. Cost: reads the whole table, 1 ms per 1,000 vehicles.
        """
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS}, doubts FROM twin WHERE updated_us >= $1 ORDER BY updated_us LIMIT $2", since_us, limit
        )
        return await self._opened(rows)

    async def _opened(self, rows: Sequence[Any]) -> list[Position]:
        """Positions of stored rows, without those of erased owners."""
        keys = await self._keys.fetch(sealing.names(row["ref"] for row in rows))
        return await asyncio.to_thread(_positions, rows, keys) if len(rows) > MANY else _positions(rows, keys)

    async def packed(self, connection: Any, refs: Iterable[int]) -> Mapping[int, tuple[bytes, Place]]:
        """Packed rows of these vehicles, for a worker that begins to serve them."""
        return await packed(connection, self._keys, refs)

    async def desire(self, ref: int, values: Mapping[int, float | bool | str]) -> None:
        """Lay these values over what is desired of the vehicle already."""
        keys = await self._keys.ensure(sealing.names([ref]))
        if (key := keys.get((ref, sealing.TWIN))) is None:
            return  # its owner was erased meanwhile
        async with self._pool.acquire() as connection, connection.transaction():
            held = await connection.fetchval("SELECT desired FROM twin WHERE ref = $1 FOR UPDATE", ref)
            merged = {**sealing.open_desired(keys, ref, held), **values}
            await connection.execute(
                "INSERT INTO twin (ref, updated_us, arrived_us, skew_us, reported, desired)"
                " VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 0, 0, $2, $3)"
                " ON CONFLICT (ref) DO UPDATE SET desired = excluded.desired, updated_us = excluded.updated_us",
                ref, pack(np.zeros(0, SLOT), ()), sealing.seal_desired(key, ref, merged),
            )  # fmt: skip

    async def erase(self, connection: Any, ref: int) -> None:
        """Remove a vehicle's twin inside the caller's transaction."""
        await connection.execute("DELETE FROM twin WHERE ref = $1", ref)


def _positions(rows: Sequence[Any], keys: Mapping[Name, bytes]) -> list[Position]:
    return [
        Position(row["ref"], row["updated_us"], row["arrived_us"], row["skew_us"], *place, row["doubts"])
        for row in rows
        if (place := sealing.open_place(keys, row)) is not None
    ]


async def _seal_older(connection: Any, columns: Columns) -> int:
    """Rows from before there was sealing; those of erased owners go."""
    asked = f"SELECT {_COLUMNS}, reported, desired FROM twin WHERE place IS NULL AND (arrived_us > 0 OR desired IS NOT NULL)"
    rows = await connection.fetch(asked)
    for at in range(0, len(rows), MANY):
        part = rows[at : at + MANY]
        keys = await columns.keys.ensure(sealing.names(row["ref"] for row in part))
        sealed, gone = sealing.seal_stored(part, keys)
        await connection.executemany(
            "UPDATE twin SET place = $2, reported = $3, desired = $4, moves = $5, latitude = NULL, longitude = NULL,"
            " speed_kmh = NULL WHERE ref = $1",
            sealed,
        )
        await connection.execute("DELETE FROM twin WHERE ref = ANY($1::bigint[])", gone)
    return len(rows)


OLDER = (Older("twin.place", ("twin",), _seal_older),)
