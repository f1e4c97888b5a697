"""SQL of people: persons, duties, passkeys, sessions, accounts elsewhere. What is good once stands in `once`.

Names of people and of their passkeys are sealed with a key of the person; people are found by the first letters of the words
of their names. An account at an external provider is kept as a blind index alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.trust.authority.people.model import (
    DAY_US,
    Duty,
    Passkey,
    Person,
    Session,
    person_id,
    person_number,
)
from rocade.trust.authority.sealing import Group
from rocade.trust.authority.sealing.columns import Column, Columns, begins

NAME = Column("person.name", Group.PERSON)
PASSKEY_NAME = Column("passkey.name", Group.PERSON)
ACCOUNT = "person_account.subject"
LOOKED_THROUGH = 500
"""Names opened at once when one is searched."""
REMEMBERED_US = 30 * DAY_US
"""Ended sessions are forgotten after this long, when their person gets a new one."""

_DUTIES = (
    "COALESCE((SELECT json_agg(json_build_array(d.number, d.duty, d.scope, d.granted_by, d.until_us) ORDER BY d.granted_us, d.duty,"
    " d.number) FROM person_duty d WHERE d.person = p.id AND d.ended_us IS NULL AND (d.until_us IS NULL OR d.until_us > $1)),"
    " '[]') AS duties"
)
_PERSON = f"p.id, p.name_sealed, p.organisation, p.language, p.added_us, p.ended_us, {_DUTIES}"
_PASSKEY = "number, credential_id, person, public_key, sign_count, name_sealed, is_synced, added_us, used_us, ended_us"
_decode_duties = msgspec.json.Decoder(tuple[Duty, ...]).decode


@contextlib.asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """One transaction.

    Raises: Unavailable `database.down`.
    """
    try:
        async with database.pool.acquire() as connection, connection.transaction():
            yield connection
    except DOWN as error:
        raise Unavailable("database.down", f"PostgreSQL does not answer: {type(error).__name__}") from error


# --- persons and duties ---------------------------------------------------------------------------------------------


async def _people(columns: Columns, rows: Sequence[Any]) -> list[Person]:
    """Cost: one query for the keys that are not in memory."""
    sealed = [(row["id"], 0, row["name_sealed"]) for row in rows if row["name_sealed"] is not None]
    names = dict(zip((id for id, _, _ in sealed), await columns.open_text(NAME, sealed), strict=True))
    return [
        Person(
            person_id(row["id"]), names.get(row["id"], ""), row["organisation"], row["language"], row["added_us"],
            row["ended_us"], _decode_duties(row["duties"]),
        )
        for row in rows
    ]  # fmt: skip


async def sealed_name(columns: Columns, id: int, name: str) -> tuple[bytes, bytes]:
    """A name sealed, and the marks it is found by."""
    [sealed] = await columns.seal_text(NAME, [(id, 0, name)])
    return sealed, (await columns.index()).beginnings(NAME.name, name)


async def add_person(connection: asyncpg.Connection, columns: Columns, person: Person) -> None:
    number = person_number(person.id)
    await connection.execute(
        "INSERT INTO person (id, organisation, language, added_us, name_sealed, name_marks) VALUES ($1, $2, $3, $4, $5, $6)",
        number, person.organisation, person.language, person.added_us,
        *await sealed_name(columns, number, person.name),
    )  # fmt: skip


async def read_person(
    connection: asyncpg.Connection, columns: Columns, id: int, now_us: int, *, lock: bool = False
) -> Person | None:
    row = await connection.fetchrow(
        f"SELECT {_PERSON} FROM person p WHERE p.id = $2 {'FOR UPDATE' if lock else ''}", now_us, id
    )
    return (await _people(columns, [row]))[0] if row else None


async def read_people(
    connection: asyncpg.Connection, columns: Columns, after: int, limit: int, now_us: int
) -> list[Person]:
    rows = await connection.fetch(
        f"SELECT {_PERSON} FROM person p WHERE p.id > $2 ORDER BY p.id LIMIT $3", now_us, after, limit
    )
    return await _people(columns, rows)


async def find_people(
    connection: asyncpg.Connection, columns: Columns, name: str, limit: int, now_us: int
) -> list[Person]:
    """Those whose name has words that begin like these, in the order of their names; as many as `limit`.

    Cost: opens the names that share the marks of the words' first letters, a few in a hundred of all.
    """
    marks = (await columns.index()).beginning(NAME.name, name)
    found: list[Person] = []
    after, rows = -1, [None] * LOOKED_THROUGH
    while marks and len(rows) == LOOKED_THROUGH and len(found) < limit:
        rows = await connection.fetch(
            f"SELECT {_PERSON} FROM person p WHERE p.ended_us IS NULL AND p.id > $2"
            " AND (SELECT bool_and(position(mark in p.name_marks) > 0) FROM unnest($3::bytea[]) mark)"
            " ORDER BY p.id LIMIT $4",
            now_us, after, marks, LOOKED_THROUGH,
        )  # fmt: skip
        found += [one for one in await _people(columns, rows) if begins(one.name, name)]
        after = rows[-1]["id"] if rows else after
    return sorted(found, key=lambda one: (one.name.casefold(), one.id))[:limit]


async def rename_person(connection: asyncpg.Connection, columns: Columns, id: int, name: str, language: str) -> None:
    await connection.execute(
        "UPDATE person SET language = $2, name_sealed = $3, name_marks = $4 WHERE id = $1",
        id, language, *await sealed_name(columns, id, name),
    )  # fmt: skip


async def end_person(connection: asyncpg.Connection, id: int, now_us: int) -> None:
    """The name goes; the reference stays, the audit log speaks of it."""
    await connection.execute(
        "UPDATE person SET ended_us = $2, name_sealed = NULL, name_marks = NULL WHERE id = $1", id, now_us
    )
    await connection.execute("UPDATE person_duty SET ended_us = $2 WHERE person = $1 AND ended_us IS NULL", id, now_us)
    await connection.execute("DELETE FROM person_account WHERE person = $1", id)
    await connection.execute("DELETE FROM application_consent WHERE person = $1", person_id(id))


async def add_duty(connection: asyncpg.Connection, person: int, duty: Duty, now_us: int) -> None:
    await connection.execute(
        "INSERT INTO person_duty (number, person, duty, scope, granted_by, granted_us, until_us)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        duty.number, person, duty.duty, duty.scope, duty.granted_by, now_us, duty.until_us,
    )  # fmt: skip


async def end_duty(connection: asyncpg.Connection, person: int, number: int, now_us: int) -> str | None:
    """The duty that was ended, None if there was none."""
    duty: str | None = await connection.fetchval(
        "UPDATE person_duty SET ended_us = $3 WHERE person = $1 AND number = $2 AND ended_us IS NULL RETURNING duty",
        person, number, now_us,
    )  # fmt: skip
    return duty


# --- passkeys -------------------------------------------------------------------------------------------------------


async def _passkeys(columns: Columns, rows: Sequence[Any]) -> list[Passkey]:
    sealed = [(row["person"], row["number"], row["name_sealed"]) for row in rows]
    names = await columns.open_text(PASSKEY_NAME, sealed)
    return [
        Passkey(
            row["number"], row["credential_id"], person_id(row["person"]), row["public_key"], row["sign_count"], name,
            row["is_synced"], row["added_us"], row["used_us"], row["ended_us"],
        )
        for row, name in zip(rows, names, strict=True)
    ]  # fmt: skip


async def add_passkey(connection: asyncpg.Connection, columns: Columns, passkey: Passkey) -> bool:
    """False if the credential is known already."""
    person = person_number(passkey.person)
    [name] = await columns.seal_text(PASSKEY_NAME, [(person, passkey.number, passkey.name)])
    done = await connection.execute(
        f"INSERT INTO passkey ({_PASSKEY}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL) ON CONFLICT DO NOTHING",
        passkey.number, passkey.credential_id, person, passkey.public_key, passkey.sign_count, name, passkey.is_synced,
        passkey.added_us, passkey.used_us,
    )  # fmt: skip
    return bool(done.endswith(" 1"))


async def lock_passkey(connection: asyncpg.Connection, columns: Columns, credential_id: bytes) -> Passkey | None:
    row = await connection.fetchrow(
        f"SELECT {_PASSKEY} FROM passkey WHERE credential_id = $1 FOR UPDATE", credential_id
    )
    return (await _passkeys(columns, [row]))[0] if row else None


async def read_passkeys(connection: asyncpg.Connection, columns: Columns, person: int) -> list[Passkey]:
    """Those that have not ended, oldest first."""
    rows = await connection.fetch(
        f"SELECT {_PASSKEY} FROM passkey WHERE person = $1 AND ended_us IS NULL ORDER BY added_us, number", person
    )
    return await _passkeys(columns, rows)


async def use_passkey(connection: asyncpg.Connection, number: int, sign_count: int, now_us: int) -> None:
    await connection.execute(
        "UPDATE passkey SET sign_count = $2, used_us = $3 WHERE number = $1", number, sign_count, now_us
    )


async def rename_passkey(connection: asyncpg.Connection, columns: Columns, person: int, number: int, name: str) -> bool:
    [sealed] = await columns.seal_text(PASSKEY_NAME, [(person, number, name)])
    done = await connection.execute(
        "UPDATE passkey SET name_sealed = $3 WHERE person = $1 AND number = $2 AND ended_us IS NULL",
        person, number, sealed,
    )  # fmt: skip
    return bool(done.endswith(" 1"))


async def end_passkeys(connection: asyncpg.Connection, person: int, now_us: int, number: int | None = None) -> int:
    """End one passkey, or all; how many were ended."""
    done = await connection.execute(
        "UPDATE passkey SET ended_us = $2 WHERE person = $1 AND ended_us IS NULL AND ($3::bigint IS NULL OR number = $3)",
        person, now_us, number,
    )  # fmt: skip
    return int(done.split()[-1])


# --- sessions -------------------------------------------------------------------------------------------------------


async def add_session(
    connection: asyncpg.Connection, number: int, secret_hash: bytes, person: int, means: str, passkey: int | None,
    now_us: int, idle_us: int, until_us: int,
) -> None:  # fmt: skip
    await connection.execute(
        "DELETE FROM person_session WHERE person = $1 AND LEAST(ended_us, until_us, used_us + idle_us) < $2",
        person, now_us - REMEMBERED_US,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO person_session (number, secret_hash, person, means, passkey, opened_us, used_us, idle_us, until_us)"
        " VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8)",
        number, secret_hash, person, means, passkey, now_us, idle_us, until_us,
    )  # fmt: skip


async def read_sessions(
    connection: asyncpg.Connection, columns: Columns, hashes: Sequence[bytes], now_us: int, region: str
) -> dict[bytes, Session]:
    """Those of the hashes that stand for a session in force."""
    rows = await connection.fetch(
        "SELECT s.secret_hash, s.number, s.means, s.opened_us, LEAST(s.until_us, s.used_us + s.idle_us) AS until_us,"
        " (SELECT count(*) FROM passkey k WHERE k.person = p.id AND k.ended_us IS NULL) AS passkeys,"
        f" {_PERSON} FROM person_session s JOIN person p ON p.id = s.person WHERE s.secret_hash = ANY($2::bytea[])"
        " AND s.ended_us IS NULL AND s.until_us > $1 AND s.used_us + s.idle_us > $1 AND p.ended_us IS NULL",
        now_us, list(hashes),
    )  # fmt: skip
    return {
        row["secret_hash"]: Session(
            row["number"], person, row["means"], row["opened_us"], row["until_us"], row["passkeys"], region
        )
        for row, person in zip(rows, await _people(columns, rows), strict=True)
    }


async def use_sessions(connection: asyncpg.Connection, numbers: Sequence[int], now_us: int, before_us: int) -> None:
    """Note that sessions are in use, where the last note is older than `before_us`."""
    await connection.execute(
        "UPDATE person_session SET used_us = $2 WHERE number = ANY($1::bigint[]) AND used_us < $3",
        list(numbers), now_us, before_us,
    )  # fmt: skip


async def list_sessions(
    connection: asyncpg.Connection, columns: Columns, person: int, now_us: int
) -> list[dict[str, Any]]:
    rows = await connection.fetch(
        "SELECT s.number, s.means, s.opened_us, s.used_us, k.number AS key, k.name_sealed"
        " FROM person_session s LEFT JOIN passkey k ON k.number = s.passkey"
        " WHERE s.person = $1 AND s.ended_us IS NULL AND s.until_us > $2 AND s.used_us + s.idle_us > $2 ORDER BY s.opened_us",
        person, now_us,
    )  # fmt: skip
    sealed = {row["key"]: (person, row["key"], row["name_sealed"]) for row in rows if row["key"] is not None}
    names = dict(zip(sealed, await columns.open_text(PASSKEY_NAME, list(sealed.values())), strict=True))
    told = ("number", "means", "opened_us", "used_us")
    return [{**{name: row[name] for name in told}, "passkey": names.get(row["key"], "")} for row in rows]


async def end_sessions(
    connection: asyncpg.Connection, person: int, now_us: int, *, number: int | None = None, passkey: int | None = None
) -> int:
    """End a person's sessions: one, those of a passkey, or all; how many were ended."""
    done = await connection.execute(
        "UPDATE person_session SET ended_us = $2 WHERE person = $1 AND ended_us IS NULL"
        " AND ($3::bigint IS NULL OR number = $3) AND ($4::bigint IS NULL OR passkey = $4)",
        person, now_us, number, passkey,
    )  # fmt: skip
    return int(done.split()[-1])


# --- accounts at external providers ---------------------------------------------------------------------------------


async def account_mark(columns: Columns, issuer: str, subject: str) -> str:
    """What is kept of an account at an external provider."""
    return (await columns.index()).exact(ACCOUNT, f"{issuer} {subject}").hex()


async def add_account(
    connection: asyncpg.Connection, columns: Columns, issuer: str, subject: str, person: int, now_us: int
) -> bool:
    """False if the account belongs to somebody already."""
    done = await connection.execute(
        "INSERT INTO person_account (issuer, subject, person, added_us) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        issuer, await account_mark(columns, issuer, subject), person, now_us,
    )  # fmt: skip
    return bool(done.endswith(" 1"))


async def account_holder(connection: asyncpg.Connection, columns: Columns, issuer: str, subject: str) -> int | None:
    person: int | None = await connection.fetchval(
        "SELECT a.person FROM person_account a JOIN person p ON p.id = a.person"
        " WHERE a.issuer = $1 AND a.subject = $2 AND p.ended_us IS NULL",
        issuer, await account_mark(columns, issuer, subject),
    )  # fmt: skip
    return person


async def drop_accounts(connection: asyncpg.Connection, person: int) -> None:
    await connection.execute("DELETE FROM person_account WHERE person = $1", person)


async def forget_person(connection: asyncpg.Connection, id: int, now_us: int) -> dict[str, int]:
    """Everything of a person goes but the reference, which the audit log speaks of; how many rows of what."""
    counts = dict[str, int]()
    gone = (
        ("touches", "person_touch WHERE session IN (SELECT number FROM person_session WHERE person = $1)"),
        ("challenges", "person_challenge WHERE person = $1"),
        ("asks", "person_ask WHERE person = $1"),
        ("links", "person_link WHERE person = $1"),
        ("sessions", "person_session WHERE person = $1"),
        ("passkeys", "passkey WHERE person = $1"),
        ("duties", "person_duty WHERE person = $1"),
        ("accounts", "person_account WHERE person = $1"),
    )
    for name, rows in gone:
        counts[name] = int((await connection.execute(f"DELETE FROM {rows}", id)).split()[-1])
    await connection.execute("DELETE FROM application_consent WHERE person = $1", person_id(id))
    await connection.execute(
        "UPDATE person SET name = NULL, name_sealed = NULL, name_marks = NULL, organisation = '', language = '', ended_us = COALESCE(ended_us, $2) WHERE id = $1",
        id, now_us,
    )  # fmt: skip
    return counts
