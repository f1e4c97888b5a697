"""SQL of consent. Functions with a `connection` run inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from rocade.services.consent.model import Claim, Conflict, Grant, Guest, Look, Ownership

CHANNEL = "consent_changed"
_CHANGE_LOCK = 0x636F6E73656E74
"""Advisory lock of changes ("consent"): their numbers commit in order, so a reader beyond one misses none."""


def _columns(struct: type[Any]) -> str:
    return ", ".join(struct.__struct_fields__)


_OWNER, _GRANT, _GUEST = _columns(Ownership), _columns(Grant), _columns(Guest)
_CLAIM, _CONFLICT = _columns(Claim), _columns(Conflict)
_LOOK = _columns(Look).replace("grant", '"grant"')


async def lock_vehicle(connection: asyncpg.Connection, ref: int) -> None:
    """Serialise all acts on one vehicle until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 9))", f"consent {ref}")


async def note_change(connection: asyncpg.Connection, refs: Iterable[int], at_us: int) -> None:
    """Last thing in a transaction: number the change and tell every process."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _CHANGE_LOCK)
    await connection.execute(
        "INSERT INTO consent_change (ref, at_us) SELECT ref, $2 FROM unnest($1::bigint[]) ref", list(refs), at_us
    )
    await connection.execute(f"NOTIFY {CHANNEL}")


async def changes(connection: asyncpg.Connection, after: int, limit: int) -> list[tuple[int, int]]:
    """(number, ref) of changes beyond number `after`."""
    rows = await connection.fetch(
        "SELECT number, ref FROM consent_change WHERE number > $1 ORDER BY number LIMIT $2", after, limit
    )
    return [(row["number"], row["ref"]) for row in rows]


async def change_bounds(connection: asyncpg.Connection) -> tuple[int, int]:
    """Lowest and highest number of the list; (0, 0) when nothing ever changed."""
    row = await connection.fetchrow(
        "SELECT coalesce(min(number), 0) AS low, coalesce(max(number), 0) AS high FROM consent_change"
    )
    return row["low"], row["high"]


async def trim_changes(connection: asyncpg.Connection, before_us: int) -> None:
    """Drop old numbers but the newest, so that a reader knows whether it missed any."""
    await connection.execute(
        "DELETE FROM consent_change WHERE at_us < $1 AND number < (SELECT max(number) FROM consent_change)", before_us
    )


async def add_owner(connection: asyncpg.Connection, ref: int, person: str, since_us: int) -> bool:
    """False if this reference has, or had, an owner."""
    done = await connection.execute(
        "INSERT INTO consent_owner (ref, person, since_us) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        ref, person, since_us,
    )  # fmt: skip
    return bool(done == "INSERT 0 1")


async def end_owner(connection: asyncpg.Connection, ref: int, at_us: int) -> None:
    await connection.execute("UPDATE consent_owner SET until_us = greatest($2, since_us) WHERE ref = $1", ref, at_us)


async def owner(connection: Any, ref: int) -> Ownership | None:
    row = await connection.fetchrow(f"SELECT {_OWNER} FROM consent_owner WHERE ref = $1", ref)
    return Ownership(*row) if row else None


async def owned_by(connection: Any, person: str) -> list[Ownership]:
    """A person's present and former vehicles, the newest first."""
    rows = await connection.fetch(
        f"SELECT {_OWNER} FROM consent_owner WHERE person = $1 ORDER BY since_us DESC, ref", person
    )
    return [Ownership(*row) for row in rows]


async def owners(connection: asyncpg.Connection, refs: Sequence[int] | None = None) -> list[Ownership]:
    """Owners of all references, or of these."""
    if refs is None:
        rows = await connection.fetch(f"SELECT {_OWNER} FROM consent_owner")
    else:
        rows = await connection.fetch(f"SELECT {_OWNER} FROM consent_owner WHERE ref = ANY($1::bigint[])", list(refs))
    return [Ownership(*row) for row in rows]


async def add_grant(connection: asyncpg.Connection, grant: Grant) -> None:
    values = [getattr(grant, name) for name in Grant.__struct_fields__]
    places = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    await connection.execute(f"INSERT INTO consent_grant ({_GRANT}) VALUES ({places})", *values)


async def grant(connection: Any, id: str) -> Grant | None:
    row = await connection.fetchrow(f"SELECT {_GRANT} FROM consent_grant WHERE id = $1", id)
    return Grant(*row) if row else None


async def grants_of(connection: Any, ref: int, after_us: int = 0) -> list[Grant]:
    """Consents of a vehicle that end after `after_us`, in the order they were given."""
    rows = await connection.fetch(
        f"SELECT {_GRANT} FROM consent_grant WHERE ref = $1 AND least(until_us, ended_us) > $2 ORDER BY made_us, id",
        ref,
        after_us,
    )
    return [Grant(*row) for row in rows]


async def live_grants(connection: asyncpg.Connection, after_us: int, refs: Sequence[int] | None = None) -> list[Grant]:
    """Consents that end after `after_us`, of all vehicles or of these."""
    rows = await connection.fetch(
        f"SELECT {_GRANT} FROM consent_grant WHERE least(until_us, ended_us) > $1"
        " AND ($2::bigint[] IS NULL OR ref = ANY($2::bigint[])) ORDER BY ref, made_us, id",
        after_us,
        None if refs is None else list(refs),
    )
    return [Grant(*row) for row in rows]


async def end_grant(connection: asyncpg.Connection, id: str, at_us: int, why: str) -> None:
    await connection.execute(
        "UPDATE consent_grant SET ended_us = $2, why_ended = $3 WHERE id = $1 AND ended_us > $2", id, at_us, why
    )


async def add_guest(connection: asyncpg.Connection, guest: Guest, code_hash: bytes) -> None:
    values = [getattr(guest, name) for name in Guest.__struct_fields__]
    places = ", ".join(f"${at}" for at in range(1, len(values) + 2))
    await connection.execute(f"INSERT INTO consent_guest ({_GUEST}, code_hash) VALUES ({places})", *values, code_hash)


async def guest(connection: Any, id: str) -> Guest | None:
    row = await connection.fetchrow(f"SELECT {_GUEST} FROM consent_guest WHERE id = $1", id)
    return Guest(*row) if row else None


async def guest_by_code(connection: Any, code_hash: bytes) -> Guest | None:
    row = await connection.fetchrow(f"SELECT {_GUEST} FROM consent_guest WHERE code_hash = $1", code_hash)
    return Guest(*row) if row else None


async def guests_of(connection: Any, ref: int, after_us: int = 0) -> list[Guest]:
    """Drivers and invitations of a vehicle that end after `after_us`, in the order they were made."""
    rows = await connection.fetch(
        f"SELECT {_GUEST} FROM consent_guest WHERE ref = $1 AND least(until_us, ended_us) > $2 ORDER BY made_us, id",
        ref,
        after_us,
    )
    return [Guest(*row) for row in rows]


async def guests_as(connection: Any, person: str, now_us: int) -> list[Guest]:
    """Where a person drives now or will."""
    rows = await connection.fetch(
        f"SELECT {_GUEST} FROM consent_guest WHERE person = $1 AND least(until_us, ended_us) > $2 ORDER BY made_us, id",
        person,
        now_us,
    )
    return [Guest(*row) for row in rows]


async def live_guests(connection: asyncpg.Connection, after_us: int, refs: Sequence[int] | None = None) -> list[Guest]:
    """Accepted drivers whose time ends after `after_us`, of all vehicles or of these."""
    rows = await connection.fetch(
        f"SELECT {_GUEST} FROM consent_guest WHERE person <> '' AND least(until_us, ended_us) > $1"
        " AND ($2::bigint[] IS NULL OR ref = ANY($2::bigint[])) ORDER BY ref, made_us, id",
        after_us,
        None if refs is None else list(refs),
    )
    return [Guest(*row) for row in rows]


async def accept_guest(connection: asyncpg.Connection, id: str, person: str, at_us: int) -> None:
    await connection.execute("UPDATE consent_guest SET person = $2, accepted_us = $3 WHERE id = $1", id, person, at_us)


async def end_guest(connection: asyncpg.Connection, id: str, at_us: int, why: str) -> None:
    await connection.execute(
        "UPDATE consent_guest SET ended_us = $2, why_ended = $3 WHERE id = $1 AND ended_us > $2", id, at_us, why
    )


async def end_all(connection: asyncpg.Connection, ref: int, at_us: int, why: str) -> tuple[int, int]:
    """End every consent and driver of a vehicle, open invitations too; how many of each."""
    counts = []
    for table in ("consent_grant", "consent_guest"):
        done = await connection.execute(
            f"UPDATE {table} SET ended_us = $2, why_ended = $3 WHERE ref = $1 AND least(until_us, ended_us) > $2",
            ref, at_us, why,
        )  # fmt: skip
        counts.append(int(done.split()[-1]))
    return counts[0], counts[1]


async def add_claim(connection: asyncpg.Connection, code_hash: bytes, claim: Claim) -> None:
    """A new code ends earlier unused ones of the same vehicle."""
    await connection.execute("DELETE FROM consent_claim WHERE ref = $1 AND used_us = 0", claim.ref)
    await connection.execute(
        "INSERT INTO consent_claim (code_hash, ref, giver, made_us, expires_us) VALUES ($1, $2, $3, $4, $5)",
        code_hash, claim.ref, claim.giver, claim.made_us, claim.expires_us,
    )  # fmt: skip


async def claim(connection: Any, code_hash: bytes) -> Claim | None:
    row = await connection.fetchrow(f"SELECT {_CLAIM} FROM consent_claim WHERE code_hash = $1", code_hash)
    return Claim(*row) if row else None


async def use_claim(connection: asyncpg.Connection, code_hash: bytes, person: str, at_us: int) -> None:
    await connection.execute(
        "UPDATE consent_claim SET used_us = $2, used_by = $3 WHERE code_hash = $1", code_hash, at_us, person
    )


async def drop_claims(connection: asyncpg.Connection, ref: int) -> int:
    """Drop the unused codes of a vehicle; how many there were."""
    done = await connection.execute("DELETE FROM consent_claim WHERE ref = $1 AND used_us = 0", ref)
    return int(done.split()[-1])


async def add_conflict(connection: asyncpg.Connection, conflict: Conflict) -> bool:
    """False if the same claimant has an open conflict over this vehicle already."""
    done = await connection.execute(
        "INSERT INTO consent_conflict (id, ref, holder, claimant, opened_us) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (ref, claimant) WHERE settled_us = 0 DO NOTHING",
        conflict.id, conflict.ref, conflict.holder, conflict.claimant, conflict.opened_us,
    )  # fmt: skip
    return bool(done == "INSERT 0 1")


async def conflict(connection: Any, id: str) -> Conflict | None:
    row = await connection.fetchrow(f"SELECT {_CONFLICT} FROM consent_conflict WHERE id = $1", id)
    return Conflict(*row) if row else None


async def open_conflicts(connection: Any, ref: int | None = None) -> list[Conflict]:
    rows = await connection.fetch(
        f"SELECT {_CONFLICT} FROM consent_conflict WHERE settled_us = 0 AND ($1::bigint IS NULL OR ref = $1)"
        " ORDER BY opened_us, id",
        ref,
    )
    return [Conflict(*row) for row in rows]


async def settle_conflict(connection: asyncpg.Connection, id: str, at_us: int, settled_for: str) -> None:
    await connection.execute(
        "UPDATE consent_conflict SET settled_us = $2, settled_for = $3 WHERE id = $1", id, at_us, settled_for
    )


async def follow_vehicle(connection: asyncpg.Connection, ref: int, renewed: int, holder: str) -> None:
    """Used codes and open conflicts follow the vehicle to its new reference and owner."""
    await connection.execute("UPDATE consent_claim SET ref = $2 WHERE ref = $1", ref, renewed)
    await connection.execute(
        "UPDATE consent_conflict SET ref = $2, holder = $3 WHERE ref = $1 AND settled_us = 0", ref, renewed, holder
    )


async def rename(connection: asyncpg.Connection, ref: int, renewed: int) -> None:
    """Everything that hangs on a reference hangs on another from now on (erasure: same owner, same consents)."""
    for table in ("owner", "grant", "guest", "claim", "conflict", "look"):
        await connection.execute(f"UPDATE consent_{table} SET ref = $2 WHERE ref = $1", ref, renewed)


async def orphan(connection: Any, ref: int) -> None:
    """After an erasure: what hung on a former owner's reference goes, nobody may ask for it any more."""
    for table in ("owner", "grant", "guest", "claim", "conflict", "look"):
        await connection.execute(f"DELETE FROM consent_{table} WHERE ref = $1", ref)


async def forget_person(connection: Any, person: str) -> tuple[dict[str, int], list[int]]:
    """Everything that names a person goes: how many rows of what, and the references whose rights change by it."""
    counts, refs = dict[str, int](), set[int]()
    for name, table, columns in (
        ("grants", "grant", ("owner", "recipient")),
        ("guests", "guest", ("owner", "person")),
        ("claims", "claim", ("giver", "used_by")),
        ("conflicts", "conflict", ("holder", "claimant")),
        ("looks", "look", ("actor", "recipient")),
        ("owners", "owner", ("person",)),
    ):
        named = " OR ".join(f"{column} = $1" for column in columns)
        rows = await connection.fetch(f"DELETE FROM consent_{table} WHERE {named} RETURNING ref", person)
        counts[name] = len(rows)
        refs |= {ref for (ref,) in rows}
    return counts, sorted(refs)


async def count_grants(connection: Any, now_us: int) -> list[tuple[str, str, int, int]]:
    """(purpose, recipient, classes, vehicles) of the consents in force; persons are counted as one recipient, `person`, contracts as one, `feed`."""
    rows = await connection.fetch(
        "SELECT purpose, CASE WHEN recipient LIKE 'person:%' THEN 'person' WHEN recipient LIKE 'feed:%' THEN 'feed' ELSE recipient END AS recipient, classes,"
        " count(DISTINCT ref) AS vehicles FROM consent_grant WHERE from_us <= $1 AND least(until_us, ended_us) > $1"
        " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        now_us,
    )
    return [(row["purpose"], row["recipient"], row["classes"], row["vehicles"]) for row in rows]


async def count_owned(connection: Any, now_us: int) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM consent_owner WHERE until_us > $1", now_us))


async def add_looks(connection: asyncpg.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write looks by COPY, adding to those of the same kind and minute that another process or an earlier commit wrote.

    Shape: a row is (kind, then a `Look` without its id). Rows go in one order everywhere, or two processes could wait for each
    other.
    """
    names = ["kind", *Look.__struct_fields__[1:]]
    quoted = f"kind, {_LOOK.removeprefix('id, ')}"
    await connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS look_incoming (LIKE consent_look) ON COMMIT DELETE ROWS;"
        " ALTER TABLE look_incoming ALTER COLUMN id DROP NOT NULL"
    )
    await connection.copy_records_to_table("look_incoming", records=rows, columns=names)
    await connection.execute(
        f"INSERT INTO consent_look AS l ({quoted}) SELECT {quoted} FROM look_incoming ORDER BY ref, minute_us, kind"
        " ON CONFLICT (ref, minute_us, kind) DO UPDATE SET times = l.times + excluded.times,"
        " first_us = least(l.first_us, excluded.first_us), last_us = greatest(l.last_us, excluded.last_us)"
    )


async def looks_of(
    connection: Any, ref: int, since_us: int, before: tuple[int, int] | None, limit: int, without: str
) -> list[Look]:
    """Looks at a vehicle, the newest first, older than place `before` (minute, id), without those of one actor."""
    rows = await connection.fetch(
        f"SELECT {_LOOK} FROM consent_look WHERE ref = $1 AND minute_us >= $2 AND actor <> $6"
        " AND ($3::bigint IS NULL OR (minute_us, id) < ($3, $4)) ORDER BY minute_us DESC, id DESC LIMIT $5",
        ref, since_us - since_us % 60_000_000, *(before or (None, None)), limit, without,
    )  # fmt: skip
    return [Look(*row) for row in rows]


async def look(connection: Any, id: int) -> Look | None:
    row = await connection.fetchrow(f"SELECT {_LOOK} FROM consent_look WHERE id = $1", id)
    return Look(*row) if row else None
