"""The table `vehicle`: one row a vehicle, found by reference or by id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from rocade.core.errors import Unavailable
from rocade.core.identifiers import VehicleRef
from rocade.fabric.database.connection import DOWN
from rocade.services.vehicles.model import Vehicle, Wanted

metadata = sa.MetaData()
vehicle_table = sa.Table(
    "vehicle",
    metadata,
    sa.Column("ref", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False, unique=True),
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
_columns = [vehicle_table.c[name] for name in Vehicle.__struct_fields__]


class VehicleStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def insert(self, vehicle: Vehicle) -> bool:
        """Return False if the id is taken."""
        values = {name: getattr(vehicle, name) for name in Vehicle.__struct_fields__}
        statement = insert(vehicle_table).values(values).on_conflict_do_nothing(index_elements=["id"])
        async with _transaction(self._engine) as connection:
            return (await connection.execute(statement.returning(vehicle_table.c.ref))).first() is not None

    async def by_ids(self, ids: Sequence[str]) -> list[Vehicle]:
        return await self._select(vehicle_table.c.id == sa.any_(sa.bindparam("ids", list(ids), ARRAY(sa.Text))))

    async def by_refs(self, refs: Sequence[VehicleRef]) -> list[Vehicle]:
        return await self._select(
            vehicle_table.c.ref == sa.any_(sa.bindparam("refs", list(refs), ARRAY(sa.BigInteger)))
        )

    async def after(self, ref: int, limit: int, wanted: Wanted) -> list[Vehicle]:
        return await self._select(sa.and_(vehicle_table.c.ref > ref, *_conditions(wanted)), limit)

    async def count(self, wanted: Wanted) -> int:
        statement = sa.select(sa.func.count()).select_from(_joined).where(*_conditions(wanted))
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
        statement = sa.update(vehicle_table).where(vehicle_table.c.id == id).values(values).returning(*_columns)
        async with _transaction(self._engine) as connection:
            row = (await connection.execute(statement)).first()
        return None if row is None else Vehicle(*row)

    @staticmethod
    async def renew(connection: Any, ref: int, renewed: int, at_us: int) -> bool:
        """Change a reference inside the caller's transaction (asyncpg); False if nobody has the old one."""
        done = await connection.execute(
            "UPDATE vehicle SET ref = $2, changed_us = $3 WHERE ref = $1", ref, renewed, at_us
        )
        return bool(done == "UPDATE 1")

    async def _select(self, condition: sa.ColumnElement[Any], limit: int | None = None) -> list[Vehicle]:
        statement = (
            sa.select(*_columns).select_from(_joined).where(condition).order_by(vehicle_table.c.ref).limit(limit)
        )
        async with _transaction(self._engine) as connection:
            return [Vehicle(*row) for row in await connection.execute(statement)]


_joined = vehicle_table.outerjoin(twin_table, twin_table.c.ref == vehicle_table.c.ref)


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """What the rows must be; words are looked for in number, brand, model and reference."""
    of = vehicle_table.c
    found: list[sa.ColumnElement[bool]] = [of[name] == value for name, value in wanted.filters.items()]
    searched = [of.brand, of.model, sa.cast(of.ref, sa.Text), *([of.id] if wanted.is_id_searched else [])]
    text = sa.func.concat_ws(" ", *searched)
    found += [text.icontains(word, autoescape=True) for word in wanted.words]
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
