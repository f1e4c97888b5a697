"""SQL of applications, consents, codes and tokens. Functions with a `connection` run inside the caller's transaction."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.trust.authority.applications.model import Application, Consent, Given

KEPT_US = 600_000_000
"""Ended codes and tokens are kept this long, so that a second use is told from an invention."""
_APPLICATION = ", ".join(Application.__struct_fields__)
_GIVEN = ", ".join(Given.__struct_fields__)


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


async def put(connection: asyncpg.Connection, one: Application) -> None:
    values = ", ".join(f"${at}" for at in range(1, len(Application.__struct_fields__) + 1))
    updates = ", ".join(f"{name} = excluded.{name}" for name in Application.__struct_fields__[1:])
    await connection.execute(
        f"INSERT INTO application ({_APPLICATION}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {updates}",
        *msgspec.structs.astuple(one),
    )


async def read(connection: Any, id: str) -> Application | None:
    row = await connection.fetchrow(f"SELECT {_APPLICATION} FROM application WHERE id = $1", id)
    return _application(row) if row else None


async def read_all(connection: Any) -> list[Application]:
    return [_application(row) for row in await connection.fetch(f"SELECT {_APPLICATION} FROM application ORDER BY id")]


def _application(row: Any) -> Application:
    lists = {name: tuple(row[name]) for name in ("redirects", "logouts", "roles", "scopes")}
    return Application(**{**row, **lists})


async def drop(connection: asyncpg.Connection, id: str) -> bool:
    """False if there is none. Its consents, codes and tokens end with it."""
    await connection.execute("DELETE FROM application_consent WHERE application = $1", id)
    await connection.execute("DELETE FROM application_code WHERE application = $1", id)
    await connection.execute("DELETE FROM application_token WHERE application = $1", id)
    return bool(await connection.execute("DELETE FROM application WHERE id = $1", id) == "DELETE 1")


_CONSENT = ", ".join(Consent.__struct_fields__)


async def put_consent(connection: asyncpg.Connection, person: str, one: Consent, now_us: int) -> None:
    """The newest decision counts."""
    await connection.execute("DELETE FROM application_consent WHERE until_us < $1", now_us)
    await connection.execute(
        f"INSERT INTO application_consent (person, {_CONSENT}) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (person, application) DO UPDATE SET scope = excluded.scope, is_remembered = excluded.is_remembered,"
        " given_us = excluded.given_us, until_us = excluded.until_us",
        person, *msgspec.structs.astuple(one),
    )  # fmt: skip


async def read_consents(connection: Any, person: str, now_us: int) -> list[Consent]:
    """Those that have not run out, by application."""
    rows = await connection.fetch(
        f"SELECT {_CONSENT} FROM application_consent WHERE person = $1 AND until_us > $2 ORDER BY application",
        person, now_us,
    )  # fmt: skip
    return [Consent(*row) for row in rows]


async def end_consent(connection: asyncpg.Connection, person: str, application: str) -> bool:
    """False if there is none. What it became ends with it."""
    for what in ("code", "token"):
        await connection.execute(
            f"DELETE FROM application_{what} WHERE person = $1 AND application = $2", person, application
        )
    done = await connection.execute(
        "DELETE FROM application_consent WHERE person = $1 AND application = $2", person, application
    )
    return bool(done == "DELETE 1")


async def add_code(connection: asyncpg.Connection, code_hash: bytes, one: Given, now_us: int) -> None:
    await connection.execute("DELETE FROM application_code WHERE until_us < $1", now_us - KEPT_US)
    await connection.execute("DELETE FROM application_token WHERE until_us < $1", now_us - KEPT_US)
    await connection.execute(
        f"INSERT INTO application_code (code_hash, {_GIVEN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        code_hash, *msgspec.structs.astuple(one),
    )  # fmt: skip


async def lock_code(connection: asyncpg.Connection, code_hash: bytes) -> Given | None:
    """The code with this hash, its row locked until the transaction ends."""
    row = await connection.fetchrow(f"SELECT {_GIVEN} FROM application_code WHERE code_hash = $1 FOR UPDATE", code_hash)
    return Given(*row) if row else None


async def use_code(connection: asyncpg.Connection, code_hash: bytes, now_us: int) -> None:
    await connection.execute("UPDATE application_code SET used_us = $2 WHERE code_hash = $1", code_hash, now_us)


async def end_tokens(connection: asyncpg.Connection, code_hash: bytes) -> int:
    """End what a code became; how many there were."""
    done = await connection.execute("DELETE FROM application_token WHERE code_hash = $1", code_hash)
    return int(done.split()[-1])


async def add_token(
    connection: asyncpg.Connection, token_hash: bytes, code_hash: bytes, given: Given, until_us: int
) -> None:
    await connection.execute(
        "INSERT INTO application_token (token_hash, code_hash, application, person, session, scope, until_us)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        token_hash, code_hash, given.application, given.person, given.session, given.scope, until_us,
    )  # fmt: skip


async def read_token(connection: Any, token_hash: bytes, now_us: int) -> tuple[str, str, str] | None:
    """Application, person and scope of a token that is good: not over, and its person's session has not ended."""
    row = await connection.fetchrow(
        "SELECT t.application, t.person, t.scope FROM application_token t JOIN person_session s ON s.number = t.session"
        " WHERE t.token_hash = $1 AND t.until_us > $2 AND s.ended_us IS NULL AND s.until_us > $2",
        token_hash, now_us,
    )  # fmt: skip
    return tuple(row) if row else None


async def is_live(connection: Any, session: int, now_us: int) -> bool:
    """Whether a session has neither ended nor run out."""
    return bool(
        await connection.fetchval(
            "SELECT 1 FROM person_session WHERE number = $1 AND ended_us IS NULL AND until_us > $2", session, now_us
        )
    )
