"""SQL of papers: certificates as operators ask for them, and claim codes. Whose they are comes as the tables name it (`naming`)."""

from __future__ import annotations

import asyncpg
import msgspec

_STATE = """CASE WHEN r.serial IS NOT NULL THEN 'revoked' WHEN c.not_after_us <= {now} THEN 'ended'
    WHEN {now} - c.not_before_us > (c.not_after_us - c.not_before_us) / 4 * 3 THEN 'late' ELSE 'live' END"""
_NEWEST = """NOT EXISTS (SELECT 1 FROM certificate n LEFT JOIN revocation q ON q.serial = n.serial
    WHERE n.identity = c.identity AND n.purpose = c.purpose AND n.not_after_us > c.not_after_us AND q.serial IS NULL)"""
"""Nothing of the same party and purpose that is not revoked lasts longer."""
_JOINED = "FROM certificate c LEFT JOIN revocation r ON r.serial = c.serial"


_ONE = f"""SELECT c.serial, c.identity, c.identity_sealed, c.purpose, c.not_before_us, c.not_after_us,
    {_STATE.format(now="$2::bigint")} AS state, coalesce(r.reason, '') AS reason {_JOINED}
    WHERE c.{{by}} = $1 ORDER BY c.not_after_us DESC"""


class Asked(msgspec.Struct, frozen=True):
    """Which certificates: a place to go on from is the end and serial of the last one seen."""

    state: str
    kind: str
    find: str
    find_ending: bytes
    now_us: int
    ended_from_us: int
    after_us: int
    after_serial: int
    limit: int


class Paper(msgspec.Struct, frozen=True):
    """One certificate. `identity`: the party's URI; `state`: live, late, ended, revoked; `reason`: why it was revoked."""

    serial: int
    identity: str
    purpose: str
    not_before_us: int
    not_after_us: int
    state: str
    reason: str

    @property
    def kind(self) -> str:
        return self.identity.split("/")[-2]

    @property
    def id(self) -> str:
        return self.identity.split("/")[-1]


class Count(msgspec.Struct, frozen=True):
    """Parties of one kind by the state of their newest operational certificate."""

    kind: str
    live: int
    late: int
    ended: int


class Code(msgspec.Struct, frozen=True):
    """One claim code, of which only a hash is known. `used_us`: None = not yet."""

    identity: str
    made_us: int
    expires_us: int
    used_us: int | None

    @property
    def kind(self) -> str:
        return self.identity.split("/")[-2]

    @property
    def id(self) -> str:
        return self.identity.split("/")[-1]


type Found = tuple[Paper, bytes | None]
"""With what its identity is sealed in."""


async def papers(connection: asyncpg.Connection, asked: Asked) -> list[Found]:
    is_revoked = asked.state == "revoked"
    span = {"late": "c.not_after_us > $1", "live": "c.not_after_us > $1", "revoked": "c.not_after_us > $1"}
    rows = await connection.fetch(
        f"SELECT serial, identity, identity_sealed, purpose, not_before_us, not_after_us, state, reason FROM ("
        f" SELECT c.*, {_STATE.format(now='$1::bigint')} AS state, coalesce(r.reason, '') AS reason {_JOINED}"
        f" WHERE {span.get(asked.state, 'c.not_after_us > $2 AND c.not_after_us <= $1')}"
        f" AND $2 < $1 AND {'r.serial IS NOT NULL' if is_revoked else f'r.serial IS NULL AND {_NEWEST}'}"
        f" AND ($3 = '' OR split_part(c.identity, '/', 5) = $3)"
        f" AND ($4 = '' OR CASE WHEN c.identity_sealed IS NULL THEN strpos(lower(split_part(c.identity, '/', 6)), lower($4)) > 0"
        f" ELSE position($9::bytea in c.identity_endings) > 0 END)"
        f" AND (c.not_after_us, c.serial) > ($5, $6)) found"
        f" WHERE state = $7 ORDER BY not_after_us, serial LIMIT $8",
        asked.now_us, asked.ended_from_us, asked.kind, asked.find, asked.after_us, asked.after_serial.to_bytes(20),
        asked.state, asked.limit, asked.find_ending,
    )  # fmt: skip
    return [_paper(row) for row in rows]


async def of_serial(connection: asyncpg.Connection, serial: int, now_us: int) -> Found | None:
    row = await connection.fetchrow(_ONE.format(by="serial"), serial.to_bytes(20), now_us)
    return _paper(row) if row else None


async def of_identity(connection: asyncpg.Connection, identity: str, now_us: int) -> list[Found]:
    rows = await connection.fetch(_ONE.format(by="identity"), identity, now_us)
    return [_paper(row) for row in rows]


async def counts(connection: asyncpg.Connection, now_us: int, ended_from_us: int) -> list[Count]:
    rows = await connection.fetch(
        f"SELECT kind, count(*) FILTER (WHERE state = 'live') live, count(*) FILTER (WHERE state = 'late') late,"
        f" count(*) FILTER (WHERE state = 'ended') ended FROM ("
        f" SELECT DISTINCT ON (c.identity) split_part(c.identity, '/', 5) AS kind, {_STATE.format(now='$1::bigint')} AS state"
        f" {_JOINED} WHERE c.purpose = 'operational' AND r.serial IS NULL AND c.not_after_us > $2"
        f" ORDER BY c.identity, c.not_after_us DESC) parties GROUP BY kind ORDER BY kind",
        now_us, ended_from_us,
    )  # fmt: skip
    return [Count(*row) for row in rows]


async def codes(connection: asyncpg.Connection, limit: int) -> list[tuple[Code, bytes | None]]:
    rows = await connection.fetch(
        "SELECT identity, made_us, expires_us, used_us, identity_sealed FROM claim_code ORDER BY made_us DESC LIMIT $1",
        limit,
    )
    return [(Code(*list(row)[:4]), row["identity_sealed"]) for row in rows]


def _paper(row: asyncpg.Record) -> Found:
    serial, identity, sealed, *rest = row
    return Paper(int.from_bytes(serial), identity, *rest), sealed
