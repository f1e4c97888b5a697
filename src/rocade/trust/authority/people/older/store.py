"""Seals the names, and blinds the external accounts, of rows from before that was done."""

from __future__ import annotations

import asyncpg

from rocade.trust.authority.people.store import ACCOUNT, NAME, PASSKEY_NAME, account_mark, sealed_name
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.sealing.older import Older


async def _seal_older_people(connection: asyncpg.Connection, columns: Columns) -> int:
    rows = await connection.fetch("SELECT id, name FROM person WHERE name IS NOT NULL")
    named = [(row["id"], row["name"]) for row in rows if row["name"]]
    await columns.seal_text(NAME, [(id, 0, name) for id, name in named])  # makes all keys at once
    await connection.executemany(
        "UPDATE person SET name_sealed = $2, name_marks = $3 WHERE id = $1",
        [(id, *await sealed_name(columns, id, name)) for id, name in named],
    )
    await connection.execute("UPDATE person SET name = NULL WHERE name IS NOT NULL")
    return len(rows)


async def _seal_older_passkeys(connection: asyncpg.Connection, columns: Columns) -> int:
    rows = await connection.fetch("SELECT person, number, name FROM passkey WHERE name IS NOT NULL")
    sealed = await columns.seal_text(PASSKEY_NAME, [tuple(row) for row in rows])
    await connection.executemany(
        "UPDATE passkey SET name = NULL, name_sealed = $2 WHERE number = $1",
        [(row["number"], body) for row, body in zip(rows, sealed, strict=True)],
    )
    return len(rows)


async def _blind_older_accounts(connection: asyncpg.Connection, columns: Columns) -> int:
    rows = await connection.fetch("SELECT issuer, subject FROM person_account")
    await connection.executemany(
        "UPDATE person_account SET subject = $3 WHERE issuer = $1 AND subject = $2",
        [(issuer, subject, await account_mark(columns, issuer, subject)) for issuer, subject in rows],
    )
    return len(rows)


OLDER = (
    Older(NAME.name, ("person",), _seal_older_people),
    Older(PASSKEY_NAME.name, ("passkey",), _seal_older_passkeys),
    Older(ACCOUNT, ("person_account",), _blind_older_accounts),
)
