"""The table `vehicle`: one row a vehicle, found by reference or by id. The id is sealed and found by blind indexes.

Who asks by id knows it: nothing is opened then. Readers by reference or of lists open the ids of all rows at once, with
one query for the keys that are not in the cache. Words find an id by its ending, from four characters on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

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
metadata = sa.MetaData()
vehicle_table = sa.Table(
    "vehicle",
    metadata,
    sa.Column("ref", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text),
    *(sa.Column(name, sa.LargeBinary) for name in ("id_sealed", "id_blind", "id_endings")),
    *(
        sa.Column(name, sa.Text, nullable=False)
        for name in ("kind", "brand", "model", "powertrain", "region", "hardware")
    ),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("added_us", "changed_us")),
)
_twin_columns = {"ref": sa.BigInteger, "arrived_us": sa.BigInteger, "moves": sa.Boolean, "doubts": sa.SmallInteger}
twin_table = sa.table("twin", *(sa.column(name, kind) for name, kind in _twin_columns.items()))
"""What a list filters by; `twin` reads and writes it."""
MOVING_KMH = 1.0
_columns = [vehicle_table.c["id_sealed" if name == "id" else name] for name in Vehicle.__struct_fields__]


class VehicleStore:
    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._sealing = Columns(database)

    async def insert(self, vehicle: Vehicle) -> bool:
        """Return False if the id is taken."""
        clear = {name: getattr(vehicle, name) for name in Vehicle.__struct_fields__ if name != "id"}
        values = clear | sealed_id(await self._sealing.index(), vehicle.id)
        await _make_keys(self._sealing, [vehicle.ref])
        [values["id_sealed"]] = await self._sealing.seal_text(ID, [(vehicle.ref, 0, vehicle.id)])
        statement = insert(vehicle_table).values(values).on_conflict_do_nothing(index_elements=["id_blind"])
        async with _transaction(self._engine) as connection:
            return (await connection.execute(statement.returning(vehicle_table.c.ref))).first() is not None

    async def by_ids(self, ids: Sequence[str]) -> list[Vehicle]:
        """Cost: one query; no id is opened."""
        index = await self._sealing.index()
        known = {index.exact(ID.name, id): id for id in ids}
        condition = vehicle_table.c.id_blind == sa.any_(sa.bindparam("ids", list(known), ARRAY(sa.LargeBinary)))
        async with _transaction(self._engine) as connection:
            rows = list(await connection.execute(sa.select(vehicle_table.c.id_blind, *_columns).where(condition)))
        return [Vehicle(row[1], known[row[0]], *row[3:]) for row in rows]

    async def by_refs(self, refs: Sequence[VehicleRef]) -> list[Vehicle]:
        return await self._select(
            vehicle_table.c.ref == sa.any_(sa.bindparam("refs", list(refs), ARRAY(sa.BigInteger)))
        )

    async def after(self, ref: int, limit: int, wanted: Wanted) -> list[Vehicle]:
        conditions = await self._conditions(wanted)
        return await self._select(sa.and_(vehicle_table.c.ref > ref, *conditions), limit)

    async def count(self, wanted: Wanted) -> int:
        conditions = await self._conditions(wanted)
        statement = sa.select(sa.func.count()).select_from(_joined).where(*conditions)
        async with _transaction(self._engine) as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def models(self) -> list[tuple[str, str, str, int]]:
        """Brand, kind and powertrain that occur, with how many vehicles are of them."""
        of = [vehicle_table.c[name] for name in ("brand", "kind", "powertrain")]
        statement = sa.select(*of, sa.func.count()).group_by(*of).order_by(*of)
        async with _transaction(self._engine) as connection:
            return [tuple(row) for row in await connection.execute(statement)]

    async def update(self, id: str, values: Mapping[str, str | int]) -> Vehicle | None:
        """Return the row as stored, None if there is none."""
        blind = (await self._sealing.index()).exact(ID.name, id)
        statement = sa.update(vehicle_table).where(vehicle_table.c.id_blind == blind).values(values)
        async with _transaction(self._engine) as connection:
            row = (await connection.execute(statement.returning(*_columns))).first()
        return None if row is None else Vehicle(row[0], id, *row[2:])

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

    async def _select(self, condition: sa.ColumnElement[Any], limit: int | None = None) -> list[Vehicle]:
        statement = (
            sa.select(*_columns).select_from(_joined).where(condition).order_by(vehicle_table.c.ref).limit(limit)
        )
        async with _transaction(self._engine) as connection:
            rows = list(await connection.execute(statement))
        ids = await self._sealing.open_text(ID, [(row[0], 0, row[1]) for row in rows])
        return [Vehicle(row[0], id, *row[2:]) for row, id in zip(rows, ids, strict=True)]

    async def _conditions(self, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
        is_id_searched = wanted.is_id_searched and wanted.words
        return _conditions(wanted, await self._sealing.index() if is_id_searched else None)


async def _make_keys(columns: Columns, refs: Iterable[int]) -> None:
    """All at once, when a vehicle gets its reference: the first batch and the first command then find theirs."""
    await columns.keys.ensure((ref, group) for ref in refs for group in KEYS)


def sealed_id(index: Index, id: str) -> dict[str, Any]:
    """What an id is found by."""
    return {"id_blind": index.exact(ID.name, id), "id_endings": index.endings(ID.name, id)}


_joined = vehicle_table.outerjoin(twin_table, twin_table.c.ref == vehicle_table.c.ref)


def _conditions(wanted: Wanted, index: Index | None) -> list[sa.ColumnElement[bool]]:
    """What the rows must be; words are looked for in brand, model and reference, and at the end of the number."""
    of = vehicle_table.c
    found: list[sa.ColumnElement[bool]] = [of[name] == value for name, value in wanted.filters.items()]
    text = sa.func.concat_ws(" ", of.brand, of.model, sa.cast(of.ref, sa.Text))
    for word in wanted.words:
        holds = text.icontains(word, autoescape=True)
        if index is not None and len(word) >= SHORTEST_ENDING:
            holds |= sa.func.pg_catalog.position(of.id_endings, index.ending(ID.name, word)) > 0
        found.append(holds)
    seen_us, moves = sa.func.coalesce(twin_table.c.arrived_us, 0), twin_table.c.moves
    is_fresh = seen_us >= wanted.fresh_from_us
    states: dict[str, sa.ColumnElement[bool]] = {
        "": sa.true(),
        "moving": sa.and_(is_fresh, moves),
        "standing": sa.and_(is_fresh, sa.not_(sa.func.coalesce(moves, False))),
        "doubtful": sa.func.coalesce(twin_table.c.doubts, 0) != 0,
        "silent": sa.and_(seen_us > 0, sa.not_(is_fresh)),
        "never": seen_us == 0,
    }
    if wanted.among is not None:
        found.append(of.ref == sa.any_(sa.bindparam("among", list(wanted.among), ARRAY(sa.BigInteger))))
    return [*found, states[wanted.state]]


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction; a database that is away becomes Unavailable `database.down`."""
    try:
        async with engine.begin() as connection:
            yield connection
    except DOWN as error:
        raise _down(error) from error
    except DBAPIError as error:
        if isinstance(getattr(error.orig, "__cause__", None), DOWN):
            raise _down(error) from error
        raise


def _down(error: Exception) -> Unavailable:
    return Unavailable("database.down", f"PostgreSQL does not answer: {type(error).__name__}; nothing was changed")


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
