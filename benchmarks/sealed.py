"""What benchmarks that fill tables by themselves need since columns are sealed: a keyring, and vehicles in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.services.vehicles import Vehicle
from rocade.services.vehicles.store import seal_clear_ids
from rocade.trust.authority.naming import Names
from rocade.trust.authority.sealing import FileCustody, Keyring
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.store import CertificateRow


def keyed(database: Database, directory: Path) -> Database:
    """A database that was connected by hand, with a keyring whose region key is a file in this folder."""
    database.keyring = Keyring(database, FileCustody(directory / "custody"), SystemClock())
    return database


async def unkeyed(database: Database) -> None:
    """Close what `keyed` hung on it."""
    assert isinstance(database.keyring, Keyring)
    await database.keyring.close()


async def add_vehicles(database: Database, rows: Sequence[tuple[object, ...]]) -> None:
    """Rows in the order of `Vehicle`'s fields; their numbers are sealed."""
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.copy_records_to_table("vehicle", records=rows, columns=list(Vehicle.__struct_fields__))
        await seal_clear_ids(connection, Columns(database))


async def named(database: Database, rows: Sequence[CertificateRow]) -> list[CertificateRow]:
    """Certificates as the authority keeps them: a vehicle's number sealed."""
    names = await Names(Columns(database)).keep(row.identity for row in rows)
    return [
        msgspec.structs.replace(row, identity=name.identity, identity_sealed=name.sealed, identity_endings=name.endings)
        for row, name in zip(rows, names, strict=True)
    ]
