"""SQL of what stands around the record: routes, signers, encryption keys, presence, evidence, and the reading of all."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from rocade.services.exchange.ledger import ENVELOPE, EVIDENCE
from rocade.services.exchange.model import STATES, Routes, Rule, Standing, Turned
from rocade.trust.authority.sealing import REGION, Group
from rocade.trust.authority.sealing.columns import Column, Columns
from rocade.trust.authority.sealing.older import body
from rocade.wire.exchange import CLASSES

REFUSED_BODY = Column("exchange_refused.body", Group.SERVICE)
OLDER = (body(REFUSED_BODY, ("number",), owner="0::bigint", row="at_us"),)

ROUTES_CHANNEL = "exchange_route"
_ROUTES_LOCK = 0x726F757465
"""Advisory lock of new routing tables ("route")."""


class Presence(msgspec.Struct, frozen=True):
    """A party's line: connected while `until_us` is 0. `state` is what its agent last said of itself, JSON."""

    party: str
    process: str
    since_us: int
    until_us: int
    certificate_end_us: int
    state: bytes | None
    state_us: int


# --- signers, encryption keys -----------------------------------------------------------------------------------------


async def add_signer(connection: asyncpg.Connection, key_id: bytes, chain: bytes, not_after_us: int) -> None:
    await connection.execute(
        "INSERT INTO exchange_signer VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", key_id, chain, not_after_us
    )


async def read_signers(connection: asyncpg.Connection, ended_after_us: int) -> list[bytes]:
    """Chains (PEM), the newest first."""
    rows = await connection.fetch(
        "SELECT chain FROM exchange_signer WHERE not_after_us > $1 ORDER BY not_after_us DESC", ended_after_us
    )
    return [row["chain"] for row in rows]


async def read_signer(connection: asyncpg.Connection, key_id: bytes) -> bytes | None:
    chain: bytes | None = await connection.fetchval("SELECT chain FROM exchange_signer WHERE key_id = $1", key_id)
    return chain


async def put_encryption_keys(connection: asyncpg.Connection, party: str, at_us: int, keys: bytes) -> bool:
    """Keep them unless newer ones are there; whether they are kept."""
    return bool(
        await connection.fetchval(
            "INSERT INTO exchange_encryption VALUES ($1, $2, $3) ON CONFLICT (party) DO UPDATE"
            " SET at_us = excluded.at_us, keys = excluded.keys WHERE exchange_encryption.at_us <= excluded.at_us"
            " RETURNING true",
            party, at_us, keys,
        )
    )  # fmt: skip


async def read_encryption_keys(connection: asyncpg.Connection, parties: Sequence[str]) -> dict[str, bytes]:
    rows = await connection.fetch("SELECT party, keys FROM exchange_encryption WHERE party = ANY($1)", parties)
    return {row["party"]: row["keys"] for row in rows}


# --- routes -------------------------------------------------------------------------------------------------------------


async def read_routes(connection: asyncpg.Connection, version: int | None = None) -> Routes | None:
    """A version of the table, the newest without one."""
    row = await connection.fetchrow(
        "SELECT version, made_us, made_by, note, rules FROM exchange_route"
        " WHERE $1::bigint IS NULL OR version = $1 ORDER BY version DESC LIMIT 1",
        version,
    )  # fmt: skip
    return _routes(row) if row else None


async def list_routes(connection: asyncpg.Connection, limit: int) -> list[Routes]:
    """The newest versions."""
    rows = await connection.fetch(
        "SELECT version, made_us, made_by, note, rules FROM exchange_route ORDER BY version DESC LIMIT $1", limit
    )
    return [_routes(row) for row in rows]


def _routes(row: asyncpg.Record) -> Routes:
    rules = msgspec.json.decode(row["rules"], type=tuple[Rule, ...])
    return Routes(row["version"], row["made_us"], row["made_by"], row["note"], rules)


async def lock_routes(connection: asyncpg.Connection) -> int:
    """Wait for our turn; the newest version, 0 for none."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _ROUTES_LOCK)
    return int(await connection.fetchval("SELECT COALESCE(max(version), 0) FROM exchange_route"))


async def add_routes(connection: asyncpg.Connection, routes: Routes) -> None:
    await connection.execute(
        "INSERT INTO exchange_route VALUES ($1, $2, $3, $4, $5)",
        routes.version, routes.made_us, routes.made_by, routes.note, msgspec.json.encode(routes.rules),
    )  # fmt: skip
    await connection.execute(f"NOTIFY {ROUTES_CHANNEL}")


async def read_traffic(connection: asyncpg.Connection, since_us: int) -> list[tuple[str, str, str, str, str, int]]:
    """What was sent since an instant: (brand, country, service, site, party, how many)."""
    rows = await connection.fetch(
        "SELECT brand, country, service, site, party, count(*) AS count FROM exchange_message"
        " WHERE recorded_us >= $1 AND state <> 4 GROUP BY 1, 2, 3, 4, 5",
        since_us,
    )  # fmt: skip
    return [tuple(row) for row in rows]


# --- presence -----------------------------------------------------------------------------------------------------------


async def write_presence(connection: asyncpg.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """(party, process, since_us, until_us, certificate_end_us, state or None, state_us)."""
    await connection.executemany(
        "INSERT INTO exchange_presence VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (party) DO UPDATE SET"
        " process = excluded.process, since_us = excluded.since_us, until_us = excluded.until_us,"
        " certificate_end_us = GREATEST(exchange_presence.certificate_end_us, excluded.certificate_end_us),"
        " state = COALESCE(excluded.state, exchange_presence.state),"
        " state_us = GREATEST(exchange_presence.state_us, excluded.state_us)"
        " WHERE exchange_presence.since_us <= excluded.since_us",
        rows,
    )  # fmt: skip


async def end_presence(connection: asyncpg.Connection, process: str, now_us: int) -> None:
    """This process begins or ends: nobody is connected to it."""
    await connection.execute(
        "UPDATE exchange_presence SET until_us = $2 WHERE process = $1 AND until_us = 0", process, now_us
    )


async def read_presence(connection: asyncpg.Connection, parties: Sequence[str] | None) -> list[Presence]:
    rows = await connection.fetch(
        "SELECT party, process, since_us, until_us, certificate_end_us, state, state_us FROM exchange_presence"
        " WHERE $1::text[] IS NULL OR party = ANY($1) ORDER BY party",
        parties,
    )  # fmt: skip
    return [Presence(*row) for row in rows]


# --- evidence of what was turned away -------------------------------------------------------------------------------------


async def add_refused(
    connection: asyncpg.Connection, columns: Columns,
    rows: Sequence[tuple[int, str, str, str, str, str, bytes, bytes, int]],
) -> None:  # fmt: skip
    """(at_us, party, tail, code, reason, id, sha, body, times); the body is sealed."""
    bodies = await columns.seal(REFUSED_BODY, [(REGION, row[0], row[7]) for row in rows])
    records = [(*row[:7], body, row[8]) for row, body in zip(rows, bodies, strict=True)]
    names = ("at_us", "party", "tail", "code", "reason", "id", "sha", "body", "times")
    await connection.copy_records_to_table("exchange_refused", records=records, columns=names)


async def search_refused(
    connection: asyncpg.Connection, party: str, code: str, before: int, limit: int
) -> list[Turned]:
    rows = await connection.fetch(
        "SELECT number, at_us, party, tail, code, reason, id, encode(sha, 'hex'), times FROM exchange_refused"
        " WHERE number < $1 AND ($2 = '' OR party = $2) AND ($3 = '' OR code = $3 OR starts_with(code, $3 || '.'))"
        " ORDER BY number DESC LIMIT $4",
        before, party, code, limit,
    )  # fmt: skip
    return [Turned(*row) for row in rows]


# --- reading the record ---------------------------------------------------------------------------------------------------

_STANDING = (
    "number, party, id, encode(sha, 'hex') AS sha, brand, country, service, site, stream, sequence, class, content_type,"
    " size, created_us, recorded_us, target, state, code, reason, decided_us"
)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a search is for; "" = any. `code` finds a refusal's code or its family; `refused` = refused and conflicts alone."""

    party: str = ""
    id: str = ""
    brand: str = ""
    country: str = ""
    service: str = ""
    site: str = ""
    target: str = ""
    stream: str = ""
    code: str = ""
    state: str = ""
    content_class: str = ""
    refused: bool = False
    since_us: int = 0
    until_us: int = (1 << 63) - 1


async def search(connection: asyncpg.Connection, wanted: Wanted, before: int, limit: int) -> list[Standing]:
    """Messages, the newest first, from before a number."""
    conditions = ["number < $1", "recorded_us >= $2", "recorded_us < $3"]
    values: list[object] = [before, wanted.since_us, wanted.until_us]
    for name in ("party", "id", "brand", "country", "service", "site", "target", "stream"):
        if value := getattr(wanted, name):
            values.append(value)
            conditions.append(f"{name} = ${len(values)}")
    for name, names, value in (("state", STATES, wanted.state), ("class", CLASSES, wanted.content_class)):
        if value:
            values.append(names.index(value))
            conditions.append(f"{name} = ${len(values)}")
    if wanted.code:
        values.append(wanted.code)
        conditions.append(f"(code = ${len(values)} OR starts_with(code, ${len(values)} || '.'))")
    if wanted.refused or wanted.code:
        conditions.append("state >= 3")
    values.append(limit)
    rows = await connection.fetch(
        f"SELECT {_STANDING} FROM exchange_message WHERE {' AND '.join(conditions)}"
        f" ORDER BY number DESC LIMIT ${len(values)}",
        *values,
    )  # fmt: skip
    return [_standing(row) for row in rows]


def _standing(row: asyncpg.Record) -> Standing:
    values = dict(row)
    sha, state, kind = values.pop("sha"), values.pop("state"), values.pop("class")
    return Standing(**values, sha256=sha, state=STATES[state], content_class=CLASSES[kind])


async def read_standing(connection: asyncpg.Connection, number: int) -> Standing | None:
    row = await connection.fetchrow(f"SELECT {_STANDING} FROM exchange_message WHERE number = $1", number)
    return _standing(row) if row else None


async def read_envelope(
    connection: asyncpg.Connection, columns: Columns, number: int
) -> tuple[bytes | None, bytes | None] | None:
    """A message's envelope (None when its time of keeping is over) and its recipient's signed decision."""
    row = await connection.fetchrow("SELECT envelope, evidence FROM exchange_message WHERE number = $1", number)
    if row is None:
        return None
    envelope, evidence = row["envelope"], row["evidence"]
    return (
        (await columns.open(ENVELOPE, [(REGION, number, envelope)]))[0] if envelope else None,
        (await columns.open(EVIDENCE, [(REGION, number, evidence)]))[0] if evidence else None,
    )


async def forget_bodies(connection: asyncpg.Connection, kind: int, before_us: int, limit: int = 5_000) -> int:
    """Drop what messages of a class say; digest, receipts and decision stay. How many there were."""
    done = await connection.execute(
        "UPDATE exchange_message SET envelope = NULL WHERE number IN (SELECT number FROM exchange_message"
        " WHERE class = $1 AND recorded_us < $2 AND envelope IS NOT NULL AND state NOT IN (0, 1) ORDER BY number LIMIT $3)",
        kind, before_us, limit,
    )  # fmt: skip
    return int(done.split()[-1])


async def forget_entries(connection: asyncpg.Connection, before_us: int) -> None:
    """Drop lines of logs, and evidence of the refused, from before an instant."""
    await connection.execute("DELETE FROM exchange_entry WHERE at_us < $1", before_us)
    await connection.execute("DELETE FROM exchange_refused WHERE at_us < $1", before_us)
    await connection.execute("DELETE FROM exchange_presence WHERE until_us > 0 AND until_us < $1", before_us)
