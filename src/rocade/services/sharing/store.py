"""SQL of sharing. Functions with a `connection` run inside the caller's transaction where it has one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from rocade.fabric.database.connection import DOWN
from rocade.services.consent import FOREVER_US
from rocade.services.sharing.model import Contract, Line, Terms, Waiting, Webhook

CHANGED = "sharing_changed"
"""Notified when a contract was made, taken up or ended."""
QUEUED = "sharing_queued"
"""Notified when something waits; says for which vehicles, or `*`."""
_NUMBERING = 0x73686172696E67
"""Advisory lock ("sharing"): numbers commit in order, so that a reader beyond one misses none."""
_SAID_BYTES = 7_000
FAILURES = (*DOWN, asyncpg.PostgresError, TimeoutError)
"""How a statement fails."""


def _columns(struct: type[Any]) -> str:
    return ", ".join(struct.__struct_fields__).replace("grant", '"grant"')


_CONTRACT, _TERMS, _WEBHOOK, _LINE, _WAITING = map(_columns, (Contract, Terms, Webhook, Line, Waiting))
_LIVE = f"ended_us = {FOREVER_US}"


def _contract(row: Any) -> Contract:
    values = dict(row)
    return Contract(**{**values, "signals": tuple(values["signals"]), "ways": tuple(values["ways"])})


def _terms(row: Any) -> Terms:
    values = dict(row)
    return Terms(**{**values, "withheld": tuple(values["withheld"])})


# --- terms --------------------------------------------------------------------------------------------------------


async def add_terms(connection: Any, terms: Terms) -> int:
    version: int = await connection.fetchval(
        "INSERT INTO sharing_terms (party, compensation, withheld, reason, made_us) VALUES ($1, $2, $3, $4, $5)"
        " RETURNING version",
        terms.party, terms.compensation, list(terms.withheld), terms.reason, terms.made_us,
    )  # fmt: skip
    return version


async def terms_for(connection: Any, party: str) -> Terms:
    """The newest terms for a party, else the newest for anybody, else none."""
    row = await connection.fetchrow(
        f"SELECT {_TERMS} FROM sharing_terms WHERE party IN ($1, '') ORDER BY party = '', version DESC LIMIT 1", party
    )
    return _terms(row) if row else Terms()


async def all_terms(connection: Any) -> list[Terms]:
    """Every version, the newest first."""
    return [_terms(row) for row in await connection.fetch(f"SELECT {_TERMS} FROM sharing_terms ORDER BY version DESC")]


async def terms(connection: Any, version: int) -> Terms:
    row = await connection.fetchrow(f"SELECT {_TERMS} FROM sharing_terms WHERE version = $1", version)
    return _terms(row) if row else Terms()


# --- contracts ----------------------------------------------------------------------------------------------------


async def note_change(connection: Any) -> None:
    """Last thing in a transaction: every process reads the contracts again."""
    await connection.execute("UPDATE sharing_change SET number = number + 1")
    await connection.execute(f"NOTIFY {CHANGED}")


async def change_number(connection: Any) -> int:
    number: int = await connection.fetchval("SELECT number FROM sharing_change")
    return number


async def add_contract(connection: Any, one: Contract) -> None:
    values = [getattr(one, name) for name in Contract.__struct_fields__]
    values = [list(value) if isinstance(value, tuple) else value for value in values]
    places = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    await connection.execute(f"INSERT INTO sharing_contract ({_CONTRACT}) VALUES ({places})", *values)


async def accept(connection: Any, id: str, at_us: int) -> bool:
    done = await connection.execute(
        f"UPDATE sharing_contract SET accepted_us = $2 WHERE id = $1 AND accepted_us = 0 AND {_LIVE}", id, at_us
    )
    return bool(done == "UPDATE 1")


async def end(connection: Any, id: str, version: int, at_us: int, why: str) -> bool:
    """False if this version had ended already."""
    done = await connection.execute(
        f"UPDATE sharing_contract SET ended_us = $3, why_ended = $4 WHERE id = $1 AND version = $2 AND {_LIVE}",
        id, version, at_us, why,
    )  # fmt: skip
    return bool(done == "UPDATE 1")


async def contract(connection: Any, id: str) -> Contract | None:
    """The newest version."""
    row = await connection.fetchrow(
        f"SELECT {_CONTRACT} FROM sharing_contract WHERE id = $1 ORDER BY version DESC LIMIT 1", id
    )
    return _contract(row) if row else None


async def versions(connection: Any, id: str) -> list[Contract]:
    rows = await connection.fetch(f"SELECT {_CONTRACT} FROM sharing_contract WHERE id = $1 ORDER BY version", id)
    return [_contract(row) for row in rows]


async def contracts(
    connection: Any,
    *,
    ref: int | None = None,
    party: str | None = None,
    is_live_only: bool = False,
    limit: int = 10_000,
) -> list[Contract]:
    """Newest versions, the newest contract first."""
    rows = await connection.fetch(
        f"SELECT * FROM (SELECT DISTINCT ON (id) {_CONTRACT} FROM sharing_contract"
        " WHERE ($1::bigint IS NULL OR ref = $1) AND ($2::text IS NULL OR party = $2) ORDER BY id, version DESC) newest"
        f" WHERE NOT $3 OR {_LIVE} ORDER BY made_us DESC, id LIMIT $4",
        ref, party, is_live_only, limit,
    )  # fmt: skip
    return [_contract(row) for row in rows]


async def live(connection: Any) -> list[Contract]:
    """Everything that has not ended, with a walk over live rows only."""
    return [_contract(row) for row in await connection.fetch(f"SELECT {_CONTRACT} FROM sharing_contract WHERE {_LIVE}")]


async def rename(connection: Any, ref: int, renewed: int) -> None:
    """After an erasure, in its transaction: the same contracts under the vehicle's new reference, so that nothing it sends under
    that one is missed.
    """
    done = await connection.execute("UPDATE sharing_contract SET ref = $2 WHERE ref = $1", ref, renewed)
    if done != "UPDATE 0":
        await note_change(connection)


async def count_live(connection: Any) -> list[tuple[str, str, int, int]]:
    """(party, purpose, contracts taken up, contracts offered): what an operator may know."""
    rows = await connection.fetch(
        "SELECT party, purpose, count(*) FILTER (WHERE accepted_us > 0) AS running,"
        f" count(*) FILTER (WHERE accepted_us = 0) AS offered FROM sharing_contract WHERE {_LIVE}"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


# --- what waits ---------------------------------------------------------------------------------------------------


async def numbers(connection: Any, count: int) -> list[int]:
    """The next numbers, which commit in order."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _NUMBERING)
    rows = await connection.fetch("SELECT nextval('sharing_number') AS number FROM generate_series(1, $1)", count)
    return [row["number"] for row in rows]


async def put(connection: Any, waiting: Sequence[Waiting]) -> None:
    """Let records wait, and say for whom."""
    rows = [tuple(getattr(one, name) for name in Waiting.__struct_fields__) for one in waiting]
    await connection.copy_records_to_table("sharing_queue", records=rows, columns=list(Waiting.__struct_fields__))
    said = " ".join(str(one.ref) for one in waiting)
    await connection.execute("SELECT pg_notify($1, $2)", QUEUED, said if len(said) < _SAID_BYTES else "*")


async def after(connection: Any, refs: Sequence[int], number: int, limit: int) -> list[Waiting]:
    """What waits of these vehicles behind a number, in order; the oldest of each first."""
    rows = await connection.fetch(
        f"SELECT found.* FROM unnest($1::bigint[]) wanted(ref) CROSS JOIN LATERAL (SELECT {_WAITING} FROM sharing_queue"
        " WHERE ref = wanted.ref AND number > $2 ORDER BY number LIMIT $3 OFFSET 0) found ORDER BY number LIMIT $3",
        list(refs), number, limit,
    )  # fmt: skip
    return [Waiting(*row) for row in rows]


async def newest(connection: Any) -> int:
    """The number behind everything that waits."""
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM sharing_queue")
    return number


async def expiring(connection: Any, before_us: int) -> list[tuple[str, int, int]]:
    """What feeds by webhook were not told of what was kept until then: (contract, cursor, number it ends with).

    None at a time when another process does it: held until the caller's transaction ends.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _NUMBERING + 1):
        return []
    rows = await connection.fetch(
        "SELECT w.contract, w.cursor, found.upto FROM sharing_webhook w"
        f" JOIN sharing_contract c ON c.id = w.contract AND c.{_LIVE} AND c.accepted_us > 0"
        " CROSS JOIN LATERAL (SELECT max(number) AS upto FROM sharing_queue q"
        " WHERE q.ref = c.ref AND q.number > w.cursor AND q.at_us < $1 OFFSET 0) found"
        " WHERE found.upto IS NOT NULL ORDER BY w.contract",
        before_us,
    )
    return [tuple(row) for row in rows]


async def pass_over(connection: Any, contract: str, upto: int, records: int) -> None:
    """A feed goes on behind `upto`; it is to be told that so many records are gone."""
    await connection.execute(
        "UPDATE sharing_webhook SET cursor = greatest(cursor, $2), expired = expired + $3 WHERE contract = $1",
        contract, upto, records,
    )  # fmt: skip


async def expire(connection: Any, before_us: int) -> None:
    """Drop what was kept until then."""
    await connection.execute("DELETE FROM sharing_queue WHERE at_us < $1", before_us)


async def drop_waiting(connection: Any, refs: Iterable[int]) -> int:
    done = await connection.execute("DELETE FROM sharing_queue WHERE ref = ANY($1::bigint[])", list(refs))
    return int(done.split()[-1])


async def drop_unshared(connection: Any) -> int:
    """Drop what waits of vehicles that nobody shares any more."""
    done = await connection.execute(
        f"DELETE FROM sharing_queue q WHERE NOT EXISTS (SELECT FROM sharing_contract c WHERE c.ref = q.ref AND {_LIVE})"
    )
    return int(done.split()[-1])


# --- webhooks -----------------------------------------------------------------------------------------------------


async def put_webhook(connection: Any, one: Webhook) -> None:
    """A new address of a contract; it goes on where the old one was, with a new secret."""
    values = [getattr(one, name) for name in Webhook.__struct_fields__]
    places = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    await connection.execute(
        f"INSERT INTO sharing_webhook ({_WEBHOOK}) VALUES ({places}) ON CONFLICT (contract) DO UPDATE SET"
        " url = excluded.url, generation = sharing_webhook.generation + 1, rotated_us = excluded.made_us, attempt = 0,"
        " due_us = 0, paused_us = 0, status = 0",
        *values,
    )


async def webhook(connection: Any, contract: str) -> Webhook | None:
    row = await connection.fetchrow(f"SELECT {_WEBHOOK} FROM sharing_webhook WHERE contract = $1", contract)
    return Webhook(*row) if row else None


async def webhooks(connection: Any, contracts: Sequence[str] | None = None) -> list[Webhook]:
    rows = await connection.fetch(
        f"SELECT {_WEBHOOK} FROM sharing_webhook WHERE $1::text[] IS NULL OR contract = ANY($1::text[])",
        None if contracts is None else list(contracts),
    )
    return [Webhook(*row) for row in rows]


async def rotate(connection: Any, contract: str, at_us: int) -> int | None:
    found: int | None = await connection.fetchval(
        "UPDATE sharing_webhook SET generation = generation + 1, rotated_us = $2 WHERE contract = $1 RETURNING generation",
        contract, at_us,
    )  # fmt: skip
    return found


async def resume(connection: Any, contract: str) -> bool:
    done = await connection.execute(
        "UPDATE sharing_webhook SET paused_us = 0, due_us = 0 WHERE contract = $1", contract
    )
    return bool(done == "UPDATE 1")


async def told_expired(connection: Any, contract: str, records: int) -> None:
    await connection.execute(
        "UPDATE sharing_webhook SET expired = greatest(0, expired - $2) WHERE contract = $1", contract, records
    )


async def drop_webhook(connection: Any, contract: str) -> None:
    await connection.execute("DELETE FROM sharing_webhook WHERE contract = $1", contract)


async def moved(connection: Any, rows: Sequence[tuple[str, int, int, int, int, int, int]]) -> None:
    """Keep where feeds stand: (contract, cursor, attempt, due_us, paused_us, status, told_us); a cursor never goes back."""
    await connection.executemany(
        "UPDATE sharing_webhook SET cursor = greatest(cursor, $2), attempt = $3, due_us = $4, paused_us = $5, status = $6,"
        " told_us = greatest(told_us, $7) WHERE contract = $1",
        rows,
    )


# --- the log ------------------------------------------------------------------------------------------------------


async def log(connection: Any, lines: Sequence[Line]) -> None:
    """Add lines; those of one instant, kind and way are summed."""
    rows = [tuple(getattr(one, name) for name in Line.__struct_fields__) for one in lines]
    await connection.executemany(
        f"INSERT INTO sharing_log AS l ({_LINE}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        " ON CONFLICT (contract, at_us, kind, way) DO UPDATE SET records = l.records + excluded.records,"
        " samples = l.samples + excluded.samples, bytes = l.bytes + excluded.bytes, version = excluded.version,"
        " code = excluded.code",
        rows,
    )


async def log_of(connection: Any, contract: str, limit: int) -> list[Line]:
    """The newest first."""
    rows = await connection.fetch(
        f"SELECT {_LINE} FROM sharing_log WHERE contract = $1 ORDER BY at_us DESC, kind, way LIMIT $2", contract, limit
    )
    return [Line(*row) for row in rows]
