"""The table `vehicle`: one row a vehicle, found by reference or by id. The id is sealed and found by blind indexes.

Who asks by id knows it: nothing is opened then. Readers by reference or of lists open the ids of all rows at once, with
one query for the keys that are not in the cache. Words find an id by its ending, from four characters on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from rocade.core.errors import Corrupt, Unavailable
from rocade.core.identifiers import VehicleRef
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.vehicles.model import Vehicle, Wanted
from rocade.trust.authority.sealing import Group
from rocade.trust.authority.sealing.columns import SHORTEST_ENDING, Column, Columns, Index
from rocade.trust.authority.sealing.older import Older

ID = Column("vehicle.id", Group.IDENTITY)
KEYS = (Group.ROAD, Group.TWIN, Group.IDENTITY, Group.COMMAND)
"""What each vehicle needs."""
ROWS = 2_000
CLEAR = ("kind", "brand", "model", "powertrain", "region", "hardware", "added_us", "changed_us")
"""Columns of `vehicle` that are stored as they are."""
MOVING_KMH = 1.0
ROW = ", ".join(f"v.{name}" for name in ("ref", "id_sealed", *CLEAR))
"""What a `Vehicle` is made from, in its order."""
JOINED = "vehicle v LEFT JOIN twin t ON t.ref = v.ref"
TEXT = "lower(concat_ws(' ', v.brand, v.model, v.ref::text))"
"""What words are looked for in."""
STATES = {
    "": "true",
    "moving": "coalesce(t.arrived_us, 0) >= {fresh} AND t.moves",
    "standing": "coalesce(t.arrived_us, 0) >= {fresh} AND NOT coalesce(t.moves, false)",
    "doubtful": "coalesce(t.doubts, 0) <> 0",
    "silent": "coalesce(t.arrived_us, 0) > 0 AND coalesce(t.arrived_us, 0) < {fresh}",
    "never": "coalesce(t.arrived_us, 0) = 0",
}


class VehicleStore:
    def __init__(self, database: Database) -> None:
        self._pool = database.lookups
        self._sealing = Columns(database)

    async def insert(self, vehicle: Vehicle) -> bool:
        """Return False if the id is taken."""
        clear = {name: getattr(vehicle, name) for name in ("ref", *CLEAR)}
        values = clear | sealed_id(await self._sealing.index(), vehicle.id)
        await _make_keys(self._sealing, [vehicle.ref])
        [values["id_sealed"]] = await self._sealing.seal_text(ID, [(vehicle.ref, 0, vehicle.id)])
        places = ", ".join(f"${number}" for number in range(1, 1 + len(values)))
        return bool(
            await self._fetch(
                f"INSERT INTO vehicle ({', '.join(values)}) VALUES ({places}) ON CONFLICT (id_blind) DO NOTHING RETURNING ref",
                *values.values(),
            )
        )

    async def by_ids(self, ids: Sequence[str]) -> list[Vehicle]:
        """Cost: one query; no id is opened."""
        index = await self._sealing.index()
        known = {index.exact(ID.name, id): id for id in ids}
        rows = await self._fetch(f"SELECT {ROW}, v.id_blind FROM vehicle v WHERE v.id_blind = ANY ($1)", [*known])
        return [Vehicle(row[0], known[row["id_blind"]], *row[2:-1]) for row in rows]

    async def by_refs(self, refs: Sequence[VehicleRef]) -> list[Vehicle]:
        return await self._select(_Conditions("v.ref = ANY ({})", list(refs)))

    async def after(self, ref: int, limit: int, wanted: Wanted) -> list[Vehicle]:
        conditions = await self._conditions(wanted)
        conditions.add("v.ref > {}", ref)
        return await self._select(conditions, limit)

    async def count(self, wanted: Wanted) -> int:
        conditions = await self._conditions(wanted)
        [row] = await self._fetch(f"SELECT count(*) FROM {JOINED} WHERE {conditions}", *conditions.values)
        return int(row[0])

    async def models(self) -> list[tuple[str, str, str, int]]:
        """Brand, kind and powertrain that occur, with how many vehicles are of them."""
        of = "brand, kind, powertrain"
        rows = await self._fetch(f"SELECT {of}, count(*) FROM vehicle GROUP BY {of} ORDER BY {of}")
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def update(self, id: str, values: Mapping[str, str | int]) -> Vehicle | None:
        """Return the row as stored, None if there is none. `values` by names of `CLEAR`."""
        blind = (await self._sealing.index()).exact(ID.name, id)
        changed = ", ".join(f"{_clear(name)} = ${number}" for number, name in enumerate(values, 2))
        rows = await self._fetch(
            f"UPDATE vehicle v SET {changed} WHERE id_blind = $1 RETURNING {ROW}", blind, *values.values()
        )
        return Vehicle(rows[0][0], id, *rows[0][2:]) if rows else None

    async def renew(self, connection: Any, ref: int, renewed: int, at_us: int) -> bool:
        """Change a reference inside the caller's transaction (asyncpg), its id sealed anew; False if nobody has the old one."""
        found = await connection.fetchrow("SELECT id_sealed FROM vehicle WHERE ref = $1 FOR UPDATE", ref)
        if found is None:
            return False
        [id] = await self._sealing.open(ID, [(ref, 0, found["id_sealed"])])
        if id is None:  # in a restored region: brought as it was sealed anew when the old reference was erased
            [id] = await self._sealing.open(ID, [(renewed, 0, found["id_sealed"])])
        if id is None:
            raise Corrupt("vehicles.lost", "the key that this vehicle's number was sealed with is gone")
        await _make_keys(self._sealing, [renewed])
        [sealed] = await self._sealing.seal(ID, [(renewed, 0, id)])
        await connection.execute(
            "UPDATE vehicle SET ref = $2, changed_us = $3, id_sealed = $4 WHERE ref = $1", ref, renewed, at_us, sealed
        )
        return True

    async def _select(self, conditions: _Conditions, limit: int | None = None) -> list[Vehicle]:
        query = f"SELECT {ROW} FROM {JOINED} WHERE {conditions} ORDER BY v.ref LIMIT {conditions.place(limit)}"
        rows = await self._fetch(query, *conditions.values)
        ids = await self._sealing.open_text(ID, [(row[0], 0, row[1]) for row in rows])
        return [Vehicle(row[0], id, *row[2:]) for row, id in zip(rows, ids, strict=True)]

    async def _conditions(self, wanted: Wanted) -> _Conditions:
        is_id_searched = wanted.is_id_searched and wanted.words
        return _conditions(wanted, await self._sealing.index() if is_id_searched else None)

    async def _fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """One statement; a database that is away becomes Unavailable `database.down`."""
        try:
            return list(await self._pool.fetch(query, *values))
        except DOWN as error:
            what = f"PostgreSQL does not answer: {type(error).__name__}; nothing was changed"
            raise Unavailable("database.down", what) from error


async def _make_keys(columns: Columns, refs: Iterable[int]) -> None:
    """All at once, when a vehicle gets its reference: the first batch and the first command then find theirs."""
    await columns.keys.ensure((ref, group) for ref in refs for group in KEYS)


def sealed_id(index: Index, id: str) -> dict[str, Any]:
    """What an id is found by."""
    return {"id_blind": index.exact(ID.name, id), "id_endings": index.endings(ID.name, id)}


class _Conditions:
    """What rows must be, all of it, as SQL; `values` stand where it has places."""

    def __init__(self, condition: str = "true", *values: object) -> None:
        self.values: list[object] = []
        self._found: list[str] = []
        self.add(condition, *values)

    def place(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def add(self, condition: str, *values: object) -> None:
        self._found.append(f"({condition.format(*map(self.place, values))})")

    def __str__(self) -> str:
        return " AND ".join(self._found)


def _conditions(wanted: Wanted, index: Index | None) -> _Conditions:
    """Words are looked for in brand, model and reference, and at the end of the number."""
    found = _Conditions()
    for name, value in wanted.filters.items():
        found.add(f"v.{_clear(name)} = {{}}", value)
    for word in wanted.words:
        holds = f"strpos({TEXT}, lower({{}}::text)) > 0"
        if index is not None and len(word) >= SHORTEST_ENDING:
            found.add(f"{holds} OR position({{}}::bytea IN v.id_endings) > 0", word, index.ending(ID.name, word))
        else:
            found.add(holds, word)
    state = STATES[wanted.state]
    found.add(state.format(fresh="{}::bigint"), *([wanted.fresh_from_us] if "{fresh}" in state else []))
    if wanted.among is not None:
        found.add("v.ref = ANY ({})", list(wanted.among))
    return found


def _clear(name: str) -> str:
    """The name as SQL. Raises: KeyError for one that is no column of `CLEAR`."""
    return dict(zip(CLEAR, CLEAR, strict=True))[name]


async def seal_clear_ids(connection: Any, columns: Columns) -> int:
    """Of rows from before numbers were sealed, or copied in clear; how many there were."""
    rows = await connection.fetch("SELECT ref, id FROM vehicle WHERE id IS NOT NULL")
    index = await columns.index()
    for at in range(0, len(rows), ROWS):
        part = [(row["ref"], 0, row["id"]) for row in rows[at : at + ROWS]]
        await _make_keys(columns, [ref for ref, _, _ in part])
        sealed = await columns.seal_text(ID, part)
        await connection.executemany(
            "UPDATE vehicle SET id = NULL, id_sealed = $2, id_blind = $3, id_endings = $4 WHERE ref = $1",
            [
                (ref, body, index.exact(ID.name, id), index.endings(ID.name, id))
                for (ref, _, id), body in zip(part, sealed, strict=True)
            ],
        )
    return len(rows)


OLDER = (Older(ID.name, ("vehicle",), seal_clear_ids),)
