"""SQL of the authority: certificates, claim codes, revocations, and the audit log's tables."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterable, Sequence

import asyncpg
import msgspec


class Tree(msgspec.Struct, frozen=True):
    """The audit tree's one row."""

    size: int
    edge: bytes
    head_size: int
    head_us: int


async def lock_tree(connection: asyncpg.Connection) -> Tree:
    """Take the row lock that orders all writers, and read the row."""
    return Tree(
        *await connection.fetchrow("SELECT size, edge, head_size, head_us FROM audit_tree WHERE id = 1 FOR UPDATE")
    )


async def read_tree(connection: asyncpg.Connection) -> Tree | None:
    row = await connection.fetchrow("SELECT size, edge, head_size, head_us FROM audit_tree WHERE id = 1")
    return Tree(*row) if row else None


type EntryRow = tuple[int, bytes, int, int]
"""Position, body, and the keys of subject and actor."""
_COPY_BEGIN, _COPY_END = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
_BEFORE_BODY, _AFTER_BODY = struct.Struct(">hiqi").pack, struct.Struct(">iqiq").pack
"""A row in the binary form of COPY: number of columns, then each with its length."""


async def add_entries(connection: asyncpg.Connection, pieces: Iterable[Sequence[EntryRow]]) -> None:
    """Write entries; the next piece is taken while the database works at the one before."""

    async def stream() -> AsyncIterator[bytes]:
        yield _COPY_BEGIN
        for piece in pieces:
            yield b"".join(
                _BEFORE_BODY(4, 8, position, len(body)) + body + _AFTER_BODY(8, subject, 8, actor)
                for position, body, subject, actor in piece
            )
        yield _COPY_END

    columns = ["position", "body", "subject_key", "actor_key"]
    await connection.copy_to_table("audit_entry", source=stream(), columns=columns, format="binary")


async def write_tree(connection: asyncpg.Connection, tree: Tree) -> None:
    await connection.execute(
        "UPDATE audit_tree SET size = $1, edge = $2, head_size = $3, head_us = $4 WHERE id = 1",
        tree.size, tree.edge, tree.head_size, tree.head_us,
    )  # fmt: skip


async def add_head(connection: asyncpg.Connection, size: int, signed: bytes) -> None:
    await connection.execute("INSERT INTO audit_head VALUES ($1, $2)", size, signed)


async def read_body(connection: asyncpg.Connection, position: int) -> bytes | None:
    body: bytes | None = await connection.fetchval("SELECT body FROM audit_entry WHERE position = $1", position)
    return body


async def read_heads(connection: asyncpg.Connection) -> list[bytes]:
    return [row["signed"] for row in await connection.fetch("SELECT signed FROM audit_head ORDER BY size")]


async def add_nodes(connection: asyncpg.Connection, level: int, first: int, hashes: Sequence[bytes]) -> None:
    """Keep nodes of the tree, from this number on. What stands there already is of the same entries."""
    await connection.execute(
        "INSERT INTO audit_node SELECT $1, $2 + at - 1, hash FROM unnest($3::bytea[]) WITH ORDINALITY AS t(hash, at)"
        " ON CONFLICT DO NOTHING",
        level, first, hashes,
    )  # fmt: skip


async def read_hashes(
    connection: asyncpg.Connection, ranges: Sequence[tuple[int, int, int]]
) -> dict[tuple[int, int], bytes]:
    """Hashes of these ranges (level, from, until), one after the other, by level and beginning: of entries (0) and of nodes."""
    levels, lows, highs = zip(*ranges, strict=True)
    rows = await connection.fetch(
        "SELECT level, low, CASE level WHEN 0 THEN"
        " (SELECT string_agg(sha256('\\x00'::bytea || body), ''::bytea ORDER BY position) FROM audit_entry"
        "  WHERE position >= low AND position < high)"
        " ELSE (SELECT string_agg(hash, ''::bytea ORDER BY number) FROM audit_node n"
        "  WHERE n.level = r.level AND number >= low AND number < high) END AS hashes"
        " FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS r(level, low, high)",
        levels, lows, highs,
    )  # fmt: skip
    return {(row["level"], row["low"]): row["hashes"] or b"" for row in rows}


async def read_all_nodes(connection: asyncpg.Connection) -> dict[tuple[int, int], bytes]:
    """All kept nodes by level and number."""
    rows = await connection.fetch("SELECT level, number, hash FROM audit_node")
    return {(row["level"], row["number"]): row["hash"] for row in rows}


async def read_head(connection: asyncpg.Connection, size: int | None) -> tuple[bytes, list[bytes]] | None:
    """The signed head over exactly so many entries, or the newest, with what witnesses signed of it."""
    row = await connection.fetchrow(
        "SELECT signed, ARRAY(SELECT c.signed FROM audit_cosignature c WHERE c.size = h.size ORDER BY witness) AS seen"
        f" FROM audit_head h {'ORDER BY size DESC LIMIT 1' if size is None else 'WHERE size = $1'}",
        *(() if size is None else (size,)),
    )
    return (row["signed"], row["seen"]) if row else None


async def add_cosignature(connection: asyncpg.Connection, size: int, witness: bytes, signed: bytes) -> bool:
    """Keep what a witness signed of a head; False if it was known."""
    done = await connection.execute(
        "INSERT INTO audit_cosignature VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", size, witness, signed
    )
    return bool(done.endswith("1"))


async def read_cosigned_size(connection: asyncpg.Connection) -> int | None:
    """Size of the newest head that a witness signed."""
    size: int | None = await connection.fetchval("SELECT max(size) FROM audit_cosignature")
    return size


async def read_tail(connection: asyncpg.Connection, limit: int) -> list[tuple[int, bytes]]:
    """The newest entries, newest first."""
    rows = await connection.fetch("SELECT position, body FROM audit_entry ORDER BY position DESC LIMIT $1", limit)
    return [(row["position"], row["body"]) for row in rows]


async def read_back(
    connection: asyncpg.Connection, before: int, floor: int, limit: int, keys: Sequence[int | None],
    needles: Sequence[bytes],
) -> list[tuple[int, bytes]]:  # fmt: skip
    """Entries before one place and from another on, newest first: with these keys of subject and actor, holding these bytes."""
    conditions = ["position < $1", "position >= $2"]
    values: list[int | bytes] = [before, floor, limit]
    for name, value in (*zip(("subject_key = ", "actor_key = "), keys, strict=True), *(("", one) for one in needles)):
        if value is not None:
            values.append(value)
            place = f"${len(values)}"
            conditions.append(f"{name}{place}" if name else f"position({place}::bytea in body) > 0")
    query = f"SELECT position, body FROM audit_entry WHERE {' AND '.join(conditions)} ORDER BY position DESC LIMIT $3"
    rows = await connection.fetch(query, *values)
    return [(row["position"], row["body"]) for row in rows]


async def read_slice(connection: asyncpg.Connection, first: int, limit: int) -> list[tuple[int, bytes]]:
    """Entries from this place on, in order."""
    rows = await connection.fetch(
        "SELECT position, body FROM audit_entry WHERE position >= $1 ORDER BY position LIMIT $2", first, limit
    )
    return [(row["position"], row["body"]) for row in rows]


async def read_entries(connection: asyncpg.Connection) -> AsyncIterator[tuple[int, bytes]]:
    """All entries in order, through a cursor: bounded memory; needs a transaction."""
    async for row in connection.cursor("SELECT position, body FROM audit_entry ORDER BY position", prefetch=2_000):
        yield row["position"], row["body"]


async def add_requests(
    connection: asyncpg.Connection, rows: Sequence[tuple[bytes, int, int]], forget_before_us: int | None
) -> None:
    """Note (request, position, at_us), and forget what is older than that."""
    await connection.copy_records_to_table("audit_request", records=rows, columns=["request", "position", "at_us"])
    if forget_before_us is not None:
        await connection.execute("DELETE FROM audit_request WHERE at_us < $1", forget_before_us)


async def read_request(connection: asyncpg.Connection, request: bytes) -> list[int]:
    """Positions of the refusals of one request, in order."""
    rows = await connection.fetch("SELECT position FROM audit_request WHERE request = $1 ORDER BY position", request)
    return [row["position"] for row in rows]


async def read_head_over(connection: asyncpg.Connection, position: int) -> int | None:
    """Size of the first signed head that covers this entry."""
    size: int | None = await connection.fetchval(
        "SELECT size FROM audit_head WHERE size > $1 ORDER BY size LIMIT 1", position
    )
    return size


REVOKED_CHANNEL = "trust_revoked"
_REVOCATION_LOCK = 0x7265766F6B65
"""Advisory lock of revocations ("revoke"): their numbers commit in order, so a reader beyond one misses none."""


class CertificateRow(msgspec.Struct, frozen=True):
    """One issued certificate."""

    serial: int
    identity: str
    purpose: str
    issuer_key_id: bytes
    key_id: bytes
    not_before_us: int
    not_after_us: int
    issued_us: int
    replaces: int | None = None
    public_key: bytes = b""
    """Compressed point; empty for certificates from before it was kept."""
    identity_sealed: bytes | None = None
    identity_endings: bytes | None = None
    """Of vehicles; `identity` then holds a blind index (`naming`)."""


def _octets(serial: int) -> bytes:
    return serial.to_bytes(20)


async def add_certificates(connection: asyncpg.Connection, rows: Sequence[CertificateRow]) -> None:
    records = [
        (_octets(row.serial), row.identity, row.purpose, row.issuer_key_id, row.key_id, row.not_before_us,
         row.not_after_us, row.issued_us, _octets(row.replaces) if row.replaces is not None else None,
         row.public_key or None, row.identity_sealed, row.identity_endings)
        for row in rows
    ]  # fmt: skip
    columns = ("serial", "identity", "purpose", "issuer_key_id", "key_id", "not_before_us", "not_after_us", "issued_us",
               "replaces", "public_key", "identity_sealed", "identity_endings")  # fmt: skip
    await connection.copy_records_to_table("certificate", records=records, columns=columns)


class SigningKey(msgspec.Struct, frozen=True):
    """A key that an identity was certified for: a compressed P-256 point, when it counts, when it was revoked (0 = not)."""

    identity: str
    key_id: bytes
    public_key: bytes
    not_before_us: int
    not_after_us: int
    revoked_us: int


async def read_signing_keys(
    connection: asyncpg.Connection, identities: Sequence[str], ended_after_us: int
) -> list[SigningKey]:
    """Operational keys of these identities whose certificates end after an instant; revoked ones too, with the moment."""
    rows = await connection.fetch(
        "SELECT c.identity, c.key_id, c.public_key, c.not_before_us, c.not_after_us, COALESCE(r.revoked_us, 0) AS revoked_us"
        " FROM certificate c LEFT JOIN revocation r USING (serial)"
        " WHERE c.identity = ANY($1) AND c.not_after_us > $2 AND c.purpose = 'operational' AND c.public_key IS NOT NULL",
        identities, ended_after_us,
    )  # fmt: skip
    return [SigningKey(*row) for row in rows]


async def read_revoked_parties(
    connection: asyncpg.Connection, kinds: Sequence[str], now_us: int
) -> tuple[int, list[tuple[str, int]]]:
    """The newest revocation's number, and (serial in hexadecimal, instant) of these kinds' revoked, unended certificates."""
    rows = await connection.fetch(
        "SELECT r.number, encode(r.serial, 'hex') AS serial, r.revoked_us FROM revocation r"
        " LEFT JOIN certificate c USING (serial) WHERE r.not_after_us > $2"
        " AND (c.identity IS NULL OR split_part(c.identity, '/', 5) = ANY($1)) ORDER BY r.number",
        list(kinds), now_us,
    )  # fmt: skip
    number: int = await connection.fetchval("SELECT COALESCE(max(number), 0) FROM revocation")
    return number, [(row["serial"].lstrip("0"), row["revoked_us"]) for row in rows]


async def live_certificates(connection: asyncpg.Connection, identity: str, now_us: int) -> list[tuple[int, str, int]]:
    """Serial, purpose and end of an identity's certificates that are neither ended nor revoked."""
    rows = await connection.fetch(
        "SELECT serial, purpose, not_after_us FROM certificate c WHERE identity = $1 AND not_after_us > $2"
        " AND NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = c.serial) ORDER BY issued_us",
        identity, now_us,
    )  # fmt: skip
    return [(int.from_bytes(row["serial"]), row["purpose"], row["not_after_us"]) for row in rows]


async def lock_identity(connection: asyncpg.Connection, identity: str) -> None:
    """Serialise all acts on one identity until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 7))", identity)


async def add_revocations(
    connection: asyncpg.Connection, serials: Sequence[tuple[int, int]], reason: str, now_us: int
) -> list[int]:
    """Revoke (serial, end) pairs and notify; the serials that were not revoked before."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _REVOCATION_LOCK)
    rows = await connection.fetch(
        "INSERT INTO revocation (serial, reason, revoked_us, not_after_us)"
        " SELECT s, $3, $4, e FROM unnest($1::bytea[], $2::bigint[]) AS t(s, e)"
        " ON CONFLICT (serial) DO NOTHING RETURNING serial",
        [_octets(serial) for serial, _ in serials], [end for _, end in serials], reason, now_us,
    )  # fmt: skip
    await connection.execute(f"NOTIFY {REVOKED_CHANNEL}")
    return [int.from_bytes(row["serial"]) for row in rows]


async def read_revocations(connection: asyncpg.Connection, after: int, now_us: int) -> list[tuple[int, int]]:
    """(number, serial) of revocations beyond number `after`, of certificates that have not ended."""
    rows = await connection.fetch(
        "SELECT number, serial FROM revocation WHERE number > $1 AND not_after_us > $2 ORDER BY number", after, now_us
    )
    return [(row["number"], int.from_bytes(row["serial"])) for row in rows]


async def certificate_end(connection: asyncpg.Connection, serial: int) -> tuple[str, int] | None:
    """Identity and end of one certificate."""
    row = await connection.fetchrow("SELECT identity, not_after_us FROM certificate WHERE serial = $1", _octets(serial))
    return (row["identity"], row["not_after_us"]) if row else None


async def read_certificate(connection: asyncpg.Connection, serial: int) -> CertificateRow | None:
    """One issued certificate."""
    row = await connection.fetchrow(
        "SELECT identity, purpose, issuer_key_id, key_id, not_before_us, not_after_us, issued_us, replaces"
        " FROM certificate WHERE serial = $1", _octets(serial),
    )  # fmt: skip
    if row is None:
        return None
    replaces = int.from_bytes(row["replaces"]) if row["replaces"] else None
    return CertificateRow(**{**row, "serial": serial, "replaces": replaces})


async def read_revocation(connection: asyncpg.Connection, serial: int) -> tuple[str, int] | None:
    """Reason and instant of a certificate's revocation."""
    row = await connection.fetchrow("SELECT reason, revoked_us FROM revocation WHERE serial = $1", _octets(serial))
    return (row["reason"], row["revoked_us"]) if row else None


async def read_successors(connection: asyncpg.Connection, serial: int) -> list[int]:
    """Serials of the certificates that were given in place of this one, in order."""
    rows = await connection.fetch(
        "SELECT serial FROM certificate WHERE replaces = $1 ORDER BY issued_us LIMIT 8", _octets(serial)
    )
    return [int.from_bytes(row["serial"]) for row in rows]


class ClaimRow(msgspec.Struct, frozen=True):
    """A claim code as it stands; `serial` is of the certificate it gave."""

    identity: str
    made_us: int
    expires_us: int
    used_us: int | None
    serial: int | None


async def read_claim(connection: asyncpg.Connection, first: bytes) -> ClaimRow | None:
    """The claim code whose hash begins with these bytes."""
    row = await connection.fetchrow(
        "SELECT identity, made_us, expires_us, used_us, serial FROM claim_code"
        " WHERE code_hash >= $1 AND code_hash < $2", first, first + b"\xff" * 25,
    )  # fmt: skip
    if row is None:
        return None
    return ClaimRow(**{**row, "serial": int.from_bytes(row["serial"]) if row["serial"] else None})


async def add_claims(
    connection: asyncpg.Connection, rows: Sequence[tuple[bytes, str, bytes | None]], now_us: int, expires_us: int
) -> None:
    """New codes (hash, identity, the same sealed), each of which ends earlier unused ones of its identity."""
    await connection.execute(
        "DELETE FROM claim_code WHERE identity = ANY($1) AND used_us IS NULL", [identity for _, identity, _ in rows]
    )
    await connection.copy_records_to_table(
        "claim_code",
        records=[(*row, now_us, expires_us) for row in rows],
        columns=["code_hash", "identity", "identity_sealed", "made_us", "expires_us"],
    )


async def drop_claims(connection: asyncpg.Connection, identity: str) -> int:
    """Drop the unused codes of an identity; how many there were."""
    done = await connection.execute("DELETE FROM claim_code WHERE identity = $1 AND used_us IS NULL", identity)
    return int(done.split()[-1])


async def is_revoked(connection: asyncpg.Connection, serial: int) -> bool:
    return bool(await connection.fetchval("SELECT 1 FROM revocation WHERE serial = $1", _octets(serial)))


class Claim(msgspec.Struct, frozen=True):
    """A claim code; once used, `key_id` is that of the certificate it gave, None if that was revoked."""

    identity: str
    identity_sealed: bytes | None
    expires_us: int
    used_us: int | None
    key_id: bytes | None


async def lock_claim(connection: asyncpg.Connection, code_hash: bytes) -> Claim | None:
    """The code with this hash, its row locked until the transaction ends."""
    row = await connection.fetchrow(
        "SELECT identity, identity_sealed, expires_us, used_us, (SELECT key_id FROM certificate c WHERE c.serial = k.serial"
        " AND NOT EXISTS (SELECT 1 FROM revocation r WHERE r.serial = c.serial))"
        " FROM claim_code k WHERE code_hash = $1 FOR UPDATE",
        code_hash,
    )
    return Claim(*row) if row else None


async def use_claim(connection: asyncpg.Connection, code_hash: bytes, serial: int, now_us: int) -> None:
    await connection.execute(
        "UPDATE claim_code SET used_us = $2, serial = $3 WHERE code_hash = $1", code_hash, now_us, _octets(serial)
    )


async def is_claimed_since(connection: asyncpg.Connection, serial: int, since_us: int) -> bool:
    """Whether this certificate came from a claim code used at or after `since_us`."""
    return bool(
        await connection.fetchval(
            "SELECT 1 FROM claim_code WHERE serial = $1 AND used_us >= $2", _octets(serial), since_us
        )
    )


async def unsealed_certificates(connection: asyncpg.Connection) -> list[tuple[bytes, str]]:
    """(serial, identity) of vehicles' certificates from before numbers were sealed."""
    rows = await connection.fetch(
        "SELECT serial, identity FROM certificate WHERE identity_sealed IS NULL AND split_part(identity, '/', 5) = 'vehicle'"
    )
    return [tuple(row) for row in rows]


async def seal_certificates(connection: asyncpg.Connection, rows: Sequence[tuple[bytes, str, bytes, bytes]]) -> None:
    """(serial, identity, sealed, endings)."""
    await connection.executemany(
        "UPDATE certificate SET identity = $2, identity_sealed = $3, identity_endings = $4 WHERE serial = $1", rows
    )


async def unsealed_claims(connection: asyncpg.Connection) -> list[tuple[bytes, str]]:
    """(hash, identity) of vehicles' claim codes from before numbers were sealed."""
    rows = await connection.fetch(
        "SELECT code_hash, identity FROM claim_code WHERE identity_sealed IS NULL AND split_part(identity, '/', 5) = 'vehicle'"
    )
    return [tuple(row) for row in rows]


async def seal_claims(connection: asyncpg.Connection, rows: Sequence[tuple[bytes, str, bytes]]) -> None:
    """(hash, identity, sealed)."""
    await connection.executemany("UPDATE claim_code SET identity = $2, identity_sealed = $3 WHERE code_hash = $1", rows)
