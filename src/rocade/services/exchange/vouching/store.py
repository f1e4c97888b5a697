"""SQL of vouched messages: what their senders really signed."""

from __future__ import annotations

from typing import Any

from rocade.trust.authority.sealing import REGION, Group
from rocade.trust.authority.sealing.columns import Column, Columns
from rocade.trust.authority.sealing.older import body

VOUCHED = Column("exchange_vouched.evidence", Group.SERVICE)
OLDER = (
    body(
        VOUCHED, ("party", "id", "sha"), owner="0::bigint",
        row="('x' || lpad(encode(substr(sha, 1, 7), 'hex'), 16, '0'))::bit(64)::bigint",
    ),
)  # fmt: skip


async def keep(
    connection: Any, columns: Columns, party: str, id: str, sha: bytes, form: str, evidence: bytes, now_us: int
) -> None:
    """The first evidence of a content stays, sealed."""
    [sealed] = await columns.seal(VOUCHED, [(REGION, _row(sha), evidence)])
    await connection.execute(
        "INSERT INTO exchange_vouched (party, id, sha, form, evidence, kept_us) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT DO NOTHING",
        party, id, sha, form, sealed, now_us,
    )  # fmt: skip


async def read(connection: Any, columns: Columns, party: str, id: str, sha: bytes) -> tuple[str, bytes] | None:
    """(form, evidence)."""
    row = await connection.fetchrow(
        "SELECT form, evidence FROM exchange_vouched WHERE party = $1 AND id = $2 AND sha = $3", party, id, sha
    )
    if row is None:
        return None
    [evidence] = await columns.open(VOUCHED, [(REGION, _row(sha), row["evidence"])])
    return row["form"], evidence or b""


def _row(sha: bytes) -> int:
    return int.from_bytes(sha[:7])


async def read_receipts(
    connection: Any, party: str, after: int, id: str, limit: int
) -> list[tuple[int, bytes, bytes | None]]:
    """(message number, received, decided) of a party's own messages behind a number, or of one of them."""
    rows = await connection.fetch(
        "SELECT number, received, decided FROM exchange_message WHERE party = $1 AND number > $2 AND ($3 = '' OR id = $3)"
        " ORDER BY number LIMIT $4",
        party, after, id, limit,
    )  # fmt: skip
    return [tuple(row) for row in rows]


async def sweep(connection: Any, before_us: int) -> int:
    """Forget the evidence of messages whose own time of keeping is over, and of what was never recorded."""
    done: str = await connection.execute(
        "DELETE FROM exchange_vouched v WHERE kept_us < $1 AND NOT EXISTS (SELECT 1 FROM exchange_message m"
        " WHERE m.party = v.party AND m.id = v.id AND m.sha = v.sha AND m.envelope IS NOT NULL)",
        before_us,
    )  # fmt: skip
    return int(done.rpartition(" ")[2])


async def remember(connection: Any, digest: bytes, until_us: int, now_us: int) -> bool:
    """Whether this is new to every process; remembered until an instant."""
    await connection.execute(
        "DELETE FROM exchange_seen WHERE digest IN (SELECT digest FROM exchange_seen WHERE until_us < $1 LIMIT 100)",
        now_us,
    )
    return bool(
        await connection.fetchval(
            "INSERT INTO exchange_seen (digest, until_us) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
            digest, until_us,
        )
    )  # fmt: skip
