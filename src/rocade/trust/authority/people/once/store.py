"""SQL of what is good once: one-time links, requests to be let in, challenges, touches. Only hashes of their secrets are kept."""

from __future__ import annotations

import asyncpg
import msgspec

from rocade.trust.authority.people.model import DAY_US, MINUTE_US

KEPT_US = 10 * MINUTE_US
"""Ended challenges and touches are kept this long, so that a second use is told from an invention."""
REMEMBERED_US = 30 * DAY_US
"""Ended links are forgotten after this long, when their person gets a new one."""

# --- one-time links -------------------------------------------------------------------------------------------------


class Link(msgspec.Struct, frozen=True):
    person: int
    reason: str
    made_us: int
    until_us: int
    used_us: int | None


async def add_link(
    connection: asyncpg.Connection, secret_hash: bytes, person: int, reason: str, now_us: int, until_us: int
) -> None:
    await connection.execute(
        "DELETE FROM person_link WHERE person = $1 AND until_us < $2", person, now_us - REMEMBERED_US
    )
    await connection.execute(
        "INSERT INTO person_link (secret_hash, person, reason, made_us, until_us) VALUES ($1, $2, $3, $4, $5)",
        secret_hash, person, reason, now_us, until_us,
    )  # fmt: skip


async def read_link(connection: asyncpg.Connection, secret_hash: bytes, *, lock: bool = False) -> Link | None:
    row = await connection.fetchrow(
        "SELECT person, reason, made_us, until_us, used_us FROM person_link WHERE secret_hash = $1"
        + (" FOR UPDATE" if lock else ""),
        secret_hash,
    )
    return Link(*row) if row else None


async def use_link(connection: asyncpg.Connection, secret_hash: bytes, now_us: int) -> None:
    await connection.execute("UPDATE person_link SET used_us = $2 WHERE secret_hash = $1", secret_hash, now_us)
    await connection.execute("DELETE FROM person_ask WHERE link_hash = $1", secret_hash)


async def end_links(connection: asyncpg.Connection, person: int, now_us: int) -> None:
    """Unused links of a person open nothing any more."""
    await connection.execute(
        "UPDATE person_link SET until_us = $2 WHERE person = $1 AND used_us IS NULL AND until_us > $2", person, now_us
    )
    await connection.execute("DELETE FROM person_ask WHERE person = $1", person)


class Ask(msgspec.Struct, frozen=True):
    """Somebody who opened an invitation and waits to be let in."""

    number: str
    until_us: int
    confirmed_us: int | None


async def read_ask(connection: asyncpg.Connection, link_hash: bytes, browser_hash: bytes, now_us: int) -> Ask | None:
    row = await connection.fetchrow(
        "SELECT number, until_us, confirmed_us FROM person_ask WHERE link_hash = $1 AND browser_hash = $2 AND until_us > $3",
        link_hash, browser_hash, now_us,
    )  # fmt: skip
    return Ask(*row) if row else None


async def put_ask(
    connection: asyncpg.Connection, link_hash: bytes, browser_hash: bytes, person: int, ask: Ask, now_us: int
) -> None:
    await connection.execute("DELETE FROM person_ask WHERE until_us <= $1", now_us)
    await connection.execute(
        "INSERT INTO person_ask (link_hash, browser_hash, person, number, until_us) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING",
        link_hash, browser_hash, person, ask.number, ask.until_us,
    )  # fmt: skip


async def confirm_ask(connection: asyncpg.Connection, person: int, number: str, now_us: int) -> bool:
    done = await connection.execute(
        "UPDATE person_ask SET confirmed_us = COALESCE(confirmed_us, $3) WHERE person = $1 AND number = $2 AND until_us > $3",
        person, number, now_us,
    )  # fmt: skip
    return bool(done != "UPDATE 0")


async def waiting(connection: asyncpg.Connection, person: int, now_us: int) -> list[str]:
    rows = await connection.fetch(
        "SELECT number FROM person_ask WHERE person = $1 AND until_us > $2 AND confirmed_us IS NULL", person, now_us
    )
    return [row["number"] for row in rows]


# --- challenges and touches -----------------------------------------------------------------------------------------


class Challenge(msgspec.Struct, frozen=True):
    kind: str
    browser_hash: bytes
    person: int | None
    detail: bytes
    until_us: int
    used_us: int | None


async def add_challenge(
    connection: asyncpg.Connection, challenge_hash: bytes, challenge: Challenge, now_us: int
) -> None:
    await connection.execute("DELETE FROM person_challenge WHERE until_us < $1", now_us - KEPT_US)
    await connection.execute(
        "INSERT INTO person_challenge (challenge_hash, kind, browser_hash, person, detail, until_us)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        challenge_hash, challenge.kind, challenge.browser_hash, challenge.person, challenge.detail, challenge.until_us,
    )  # fmt: skip


async def use_challenge(connection: asyncpg.Connection, challenge_hash: bytes, now_us: int) -> Challenge | None:
    """The challenge as it was before this use."""
    row = await connection.fetchrow(
        "SELECT kind, browser_hash, person, detail, until_us, used_us FROM person_challenge WHERE challenge_hash = $1 FOR UPDATE",
        challenge_hash,
    )
    if row is not None and row["used_us"] is None:
        await connection.execute(
            "UPDATE person_challenge SET used_us = $2 WHERE challenge_hash = $1", challenge_hash, now_us
        )
    return Challenge(*row) if row else None


class Touch(msgspec.Struct, frozen=True):
    session: int
    act: str
    subject: str
    until_us: int
    used_us: int | None


async def add_touch(connection: asyncpg.Connection, secret_hash: bytes, touch: Touch, now_us: int) -> None:
    await connection.execute("DELETE FROM person_touch WHERE until_us < $1", now_us - KEPT_US)
    await connection.execute(
        "INSERT INTO person_touch (secret_hash, session, act, subject, until_us) VALUES ($1, $2, $3, $4, $5)",
        secret_hash, touch.session, touch.act, touch.subject, touch.until_us,
    )  # fmt: skip


async def use_touch(connection: asyncpg.Connection, secret_hash: bytes, now_us: int) -> Touch | None:
    """The touch as it was before this use."""
    row = await connection.fetchrow(
        "SELECT session, act, subject, until_us, used_us FROM person_touch WHERE secret_hash = $1 FOR UPDATE",
        secret_hash,
    )
    if row is not None and row["used_us"] is None:
        await connection.execute("UPDATE person_touch SET used_us = $2 WHERE secret_hash = $1", secret_hash, now_us)
    return Touch(*row) if row else None
