"""SQL of the record: messages with their receipts, streams, commits and the log of each party.

Every commit takes the one row of `exchange_tree` first and draws all its numbers from it: commits of all processes stand in one
order, so a reader behind a number has missed nothing before it, and a duplicate is always seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from rocade.trust.authority.sealing import REGION, Group
from rocade.trust.authority.sealing.columns import Column, Columns
from rocade.trust.authority.sealing.older import body

CHANNEL = "exchange_entry"
type MessageRow = tuple[int, str, str, bytes, bytes, *tuple[object, ...]]
"""Values of `_COLUMNS`: number, party, id, digest, envelope, and the others."""
ENVELOPE = Column("exchange_message.envelope", Group.SERVICE)
EVIDENCE = Column("exchange_message.evidence", Group.SERVICE)
OLDER = (
    body(ENVELOPE, ("number",), owner="0::bigint", row="number"),
    body(EVIDENCE, ("number",), owner="0::bigint", row="number"),
)
"""Rows from before they were sealed."""


class Counters(msgspec.Struct):
    """The last numbers given."""

    message: int
    commit: int
    entry: int


class Known(msgspec.Struct, gc=False):
    """A recorded message as far as duplicates, decisions and releases need it."""

    number: int
    party: str
    id: str
    sha: bytes
    stream: str
    sequence: int
    target: str
    state: int
    code: str
    reason: str
    received: bytes
    received_commit: int
    received_index: int
    decided: bytes | None = None
    decided_commit: int | None = None
    decided_index: int | None = None


class Stream(msgspec.Struct, gc=False):
    next: int = 1
    waiting: int = 0
    waiting_since_us: int = 0
    is_changed: bool = False
    is_filled: bool = False
    """Its gap may have closed: what waits is to be looked at."""


class Decided(msgspec.Struct, gc=False):
    """A message's new state. `decided` b"" = released to its recipient, nothing decided yet."""

    number: int
    state: int
    code: str = ""
    reason: str = ""
    decided: bytes = b""
    index: int = 0
    evidence: bytes = b""


class Commit(msgspec.Struct, frozen=True):
    """What was signed."""

    number: int
    leaves: bytes
    signed: bytes


_KNOWN = (
    "m.number, m.party, m.id, m.sha, m.stream, m.sequence, m.target, m.state, m.code, m.reason, m.received,"
    " m.received_commit, m.received_index, m.decided, m.decided_commit, m.decided_index"
)
_COLUMNS = (
    "number", "party", "id", "sha", "envelope", "brand", "country", "service", "site", "stream", "sequence", "class",
    "content_type", "size", "created_us", "recorded_us", "key_id", "target", "state", "code", "reason", "received",
    "received_commit", "received_index", "decided", "decided_commit", "decided_index", "decided_us",
)  # fmt: skip


async def lock(connection: asyncpg.Connection) -> Counters:
    """Wait for our turn; the numbers as they stand."""
    row = await connection.fetchrow("SELECT message, commit, entry FROM exchange_tree WHERE id = 1 FOR UPDATE")
    return Counters(*row)


async def find(connection: asyncpg.Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Known]]:
    """What is recorded under these (party, id), the first one first; conflicts follow it.

    Key by key: a join planned while the table was small would read all of it, each time, until it is analysed again.
    """
    rows = await connection.fetch(
        f"SELECT m.* FROM unnest($1::text[], $2::text[]) AS k(party, id) CROSS JOIN LATERAL ("
        f"SELECT {_KNOWN} FROM exchange_message m WHERE m.party = k.party AND m.id = k.id OFFSET 0) m ORDER BY m.number",
        [party for party, _ in keys], [id for _, id in keys],
    )  # fmt: skip
    found: dict[tuple[str, str], list[Known]] = {}
    for row in rows:
        known = found.setdefault((row["party"], row["id"]), [])
        if not known or known[-1].number != row["number"]:
            known.append(Known(*row))
    return found


async def read_streams(
    connection: asyncpg.Connection, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Stream]:
    rows = await connection.fetch(
        "SELECT party, stream, next, waiting, waiting_since_us FROM exchange_stream"
        " JOIN unnest($1::text[], $2::text[]) AS k(party, stream) USING (party, stream)",
        [party for party, _ in keys], [stream for _, stream in keys],
    )  # fmt: skip
    found = {key: Stream() for key in keys}
    found.update({(party, stream): Stream(*more) for party, stream, *more in rows})
    return found


async def read_waiting(connection: asyncpg.Connection, party: str, stream: str, first: int) -> list[Known]:
    """What waits in a stream from a number on, in order."""
    rows = await connection.fetch(
        f"SELECT {_KNOWN} FROM exchange_message m WHERE m.party = $1 AND m.stream = $2 AND m.state = 0"
        " AND m.sequence >= $3 ORDER BY m.sequence, m.number",
        party, stream, first,
    )  # fmt: skip
    return [Known(*row) for row in rows]


async def add_messages(
    connection: asyncpg.Connection,
    columns: Columns,
    rows: Sequence[MessageRow],
) -> None:
    """Business messages name vehicles and customers: what they say is sealed."""
    bodies = await columns.seal(ENVELOPE, [(REGION, row[0], row[4]) for row in rows])
    records = [(*row[:4], body, *row[5:]) for row, body in zip(rows, bodies, strict=True)]
    await connection.copy_records_to_table("exchange_message", records=records, columns=_COLUMNS)


async def write_streams(connection: asyncpg.Connection, streams: dict[tuple[str, str], Stream]) -> None:
    changed = [(key, one) for key, one in streams.items() if one.is_changed]
    if changed:
        await connection.execute(
            "INSERT INTO exchange_stream SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::bigint[])"
            " ON CONFLICT (party, stream) DO UPDATE SET next = excluded.next, waiting = excluded.waiting,"
            " waiting_since_us = excluded.waiting_since_us",
            [party for (party, _), _ in changed], [stream for (_, stream), _ in changed],
            [one.next for _, one in changed], [one.waiting for _, one in changed],
            [one.waiting_since_us for _, one in changed],
        )  # fmt: skip


async def write_decided(
    connection: asyncpg.Connection, columns: Columns, commit: int, at_us: int, changes: Sequence[Decided]
) -> None:
    proven = [one for one in changes if one.evidence]
    sealed = await columns.seal(EVIDENCE, [(REGION, one.number, one.evidence) for one in proven])
    evidence = {one.number: body for one, body in zip(proven, sealed, strict=True)}
    await connection.execute(
        "UPDATE exchange_message m SET state = c.state, code = c.code, reason = c.reason,"
        " decided = NULLIF(c.decided, ''), decided_commit = CASE WHEN c.decided <> '' THEN $8::bigint END,"
        " decided_index = CASE WHEN c.decided <> '' THEN c.index END,"
        " decided_us = CASE WHEN c.decided <> '' THEN $9::bigint END, evidence = NULLIF(c.evidence, '')"
        " FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[], $5::bytea[], $6::int[], $7::bytea[])"
        " AS c(number, state, code, reason, decided, index, evidence) WHERE m.number = c.number",
        [one.number for one in changes], [one.state for one in changes], [one.code for one in changes],
        [one.reason for one in changes], [one.decided for one in changes], [one.index for one in changes],
        [evidence.get(one.number, b"") for one in changes], commit, at_us,
    )  # fmt: skip


async def add_entries(connection: asyncpg.Connection, rows: Sequence[tuple[str, int, int, int, int]]) -> None:
    """(party, number, message, kind, at_us); whoever follows is woken after the commit."""
    columns = ("party", "number", "message", "kind", "at_us")
    await connection.copy_records_to_table("exchange_entry", records=rows, columns=columns)
    await connection.execute(f"NOTIFY {CHANNEL}")


async def close_commit(
    connection: asyncpg.Connection, counters: Counters, at_us: int, commit: Commit | None, noted: Sequence[int]
) -> None:
    """Write the signed root and the numbers as they stand now; mark commits that the audit log has."""
    if commit is not None:
        await connection.execute(
            "INSERT INTO exchange_commit VALUES ($1, $2, $3, $4, false)",
            commit.number, at_us, commit.leaves, commit.signed,
        )  # fmt: skip
        await connection.execute(
            "UPDATE exchange_tree SET message = $1, commit = $2, entry = $3 WHERE id = 1",
            counters.message, counters.commit, counters.entry,
        )  # fmt: skip
    if noted:
        await mark_noted(connection, noted)


async def mark_noted(connection: asyncpg.Connection, numbers: Sequence[int]) -> None:
    await connection.execute("UPDATE exchange_commit SET noted = true WHERE number = ANY($1)", numbers)


async def read_unnoted(connection: asyncpg.Connection, before_us: int, limit: int = 500) -> list[Commit]:
    """Commits that the audit log may not have, from before an instant."""
    rows = await connection.fetch(
        "SELECT number, leaves, signed FROM exchange_commit WHERE NOT noted AND at_us < $1 ORDER BY number LIMIT $2",
        before_us, limit,
    )  # fmt: skip
    return [Commit(*row) for row in rows]


async def read_sender(connection: asyncpg.Connection, number: int) -> tuple[str, str, bytes, int] | None:
    """(party, id, sha, state) of a message."""
    row = await connection.fetchrow("SELECT party, id, sha, state FROM exchange_message WHERE number = $1", number)
    return tuple(row) if row else None


async def read_commits(connection: asyncpg.Connection, numbers: Sequence[int]) -> dict[int, Commit]:
    rows = await connection.fetch("SELECT number, leaves, signed FROM exchange_commit WHERE number = ANY($1)", numbers)
    return {row["number"]: Commit(*row) for row in rows}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line of a party's log with what it is about. `envelope` None = its time of keeping is over."""

    party: str
    number: int
    kind: int
    message: int
    sender: str
    id: str
    sha: bytes
    envelope: bytes | None
    recorded_us: int
    state: int
    decided: bytes | None
    decided_commit: int | None
    decided_index: int | None
    received: bytes
    received_commit: int
    received_index: int


_ENTRY = (
    "e.party, e.number, e.kind, e.message, m.party AS sender, m.id, m.sha,"
    " CASE WHEN e.kind = 0 THEN m.envelope END AS envelope, m.recorded_us, m.state, m.decided,"
    " m.decided_commit, m.decided_index, m.received, m.received_commit, m.received_index"
)


async def read_log(
    connection: asyncpg.Connection, columns: Columns, readers: Sequence[tuple[str, int]], limit: int
) -> list[Entry]:
    """For each (party, last number it has): up to `limit` entries behind it, in order."""
    rows = await connection.fetch(
        f"SELECT {_ENTRY} FROM unnest($1::text[], $2::bigint[]) AS r(party, after) CROSS JOIN LATERAL ("
        " SELECT * FROM exchange_entry x WHERE x.party = r.party AND x.number > r.after ORDER BY x.number LIMIT $3) e"
        " JOIN exchange_message m ON m.number = e.message ORDER BY e.party, e.number",
        [party for party, _ in readers], [after for _, after in readers], limit,
    )  # fmt: skip
    entries = [Entry(*row) for row in rows]
    sealed = [(REGION, one.message, one.envelope) for one in entries if one.envelope is not None]
    opened = iter(await columns.open(ENVELOPE, sealed))
    return [one if one.envelope is None else msgspec.structs.replace(one, envelope=next(opened)) for one in entries]


async def read_news(connection: asyncpg.Connection, after: int, parties: Sequence[str]) -> tuple[int, set[str]]:
    """The newest entry's number, and which of these parties have one behind `after`."""
    newest: int = await connection.fetchval("SELECT entry FROM exchange_tree WHERE id = 1")
    if newest <= after:
        return newest, set()
    rows = await connection.fetch(
        "SELECT DISTINCT party FROM exchange_entry WHERE number > $1 AND number <= $2 AND party = ANY($3)",
        after, newest, parties,
    )  # fmt: skip
    return newest, {row["party"] for row in rows}


async def take_reader(connection: asyncpg.Connection, reader: str) -> bool:
    """Try to be the one process that reads for this reader, as long as the connection lives."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 11))", reader))


async def read_cursor(connection: asyncpg.Connection, reader: str) -> tuple[int, int]:
    """(entry, sequence) of a reader of this hub; zeros for a new one."""
    row = await connection.fetchrow("SELECT entry, sequence FROM exchange_cursor WHERE reader = $1", reader)
    return (row["entry"], row["sequence"]) if row else (0, 0)


async def write_cursor(connection: asyncpg.Connection, reader: str, entry: int, sequence: int = 0) -> None:
    await connection.execute(
        "INSERT INTO exchange_cursor VALUES ($1, $2, $3) ON CONFLICT (reader) DO UPDATE"
        " SET entry = excluded.entry, sequence = excluded.sequence WHERE exchange_cursor.entry <= excluded.entry",
        reader, entry, sequence,
    )  # fmt: skip


async def skip_stream(connection: asyncpg.Connection, party: str, stream: str, next: int) -> Stream | None:
    """Move a stream on to a number; None if it is there already or unknown."""
    row = await connection.fetchrow(
        "SELECT next, waiting, waiting_since_us FROM exchange_stream WHERE party = $1 AND stream = $2", party, stream
    )
    if row is None or row["next"] >= next:
        return None
    return Stream(next, row["waiting"], row["waiting_since_us"], is_changed=True, is_filled=True)


async def read_stuck(connection: asyncpg.Connection, before_us: int) -> list[tuple[str, str, int, int, int]]:
    """Streams that have waited since before an instant: (party, stream, missing number, how many wait, since)."""
    rows = await connection.fetch(
        "SELECT party, stream, next, waiting, waiting_since_us FROM exchange_stream"
        " WHERE waiting > 0 AND waiting_since_us < $1 ORDER BY waiting_since_us LIMIT 500",
        before_us,
    )  # fmt: skip
    return [tuple(row) for row in rows]
