"""SQL of price lists. Functions with a `connection` run inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec
import numpy as np

from rocade.core.prices import WITHDRAWN
from rocade.services.prices.model import Draft, Price, PriceList, Progress, Released, Report, Site
from rocade.wire.prices import Blob, Delta, Descriptions, Entries, Release

CHANNEL = "price_heads"
_NUMBER_LOCK = 0x707269636573
"""Advisory lock of releases ("prices"): their numbers commit in order, so a reader beyond one misses none."""
_LIST = ", ".join(PriceList.__struct_fields__)
_RELEASED = ", ".join(Released.__struct_fields__)
_BATCH = 50_000


# --- lists ------------------------------------------------------------------------------------------------------------


async def add_list(connection: Any, made: PriceList, actor: str) -> bool:
    """False if there is one of this id."""
    done = await connection.execute(
        "INSERT INTO price_list (id, brand, country, currency, kind, made_us, made_by) VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT DO NOTHING",
        made.id, made.brand, made.country, made.currency, made.kind, made.made_us, actor,
    )  # fmt: skip
    return bool(done == "INSERT 0 1")


async def lists(connection: Any) -> list[PriceList]:
    return [PriceList(*row) for row in await connection.fetch(f"SELECT {_LIST} FROM price_list ORDER BY id")]


async def find_list(connection: Any, id: str) -> PriceList | None:
    row = await connection.fetchrow(f"SELECT {_LIST} FROM price_list WHERE id = $1", id)
    return PriceList(*row) if row else None


async def lock_list(connection: Any, number: int) -> int:
    """Hold the list until the transaction ends; the number of its last release."""
    return int(await connection.fetchval("SELECT seq FROM price_list WHERE number = $1 FOR UPDATE", number))


async def pattern(connection: Any, number: int) -> bytes | None:
    """What marks of this list are made to look like."""
    found: bytes | None = await connection.fetchval("SELECT marks FROM price_list WHERE number = $1", number)
    return found


async def set_pattern(connection: Any, number: int, content: bytes) -> None:
    await connection.execute("UPDATE price_list SET marks = $2 WHERE number = $1 AND marks IS NULL", number, content)


# --- releases ---------------------------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True):
    """A release as it is written."""

    list: int
    seq: int
    effective_us: int
    note: str
    released_us: int
    released_by: str
    draft: str
    changes: int
    state_root: bytes
    head: bytes
    head_sha256: str


async def add_release(connection: Any, row: Row, delta: Delta, old_parts: int, parts: int, epoch: int) -> None:
    """Everything of one release but its files: descriptions, entries, the release itself, the list's new number."""
    described, new, changed = delta.descriptions, [], []
    columns = (described.index.tolist(), described.ref, described.family, described.label, described.superseded_by)
    for index, ref, family, label, by in zip(*columns, strict=True):
        if index >= old_parts:
            new.append((row.list, index, ref, row.seq, family, label, by))
        else:
            changed.append((row.list, index, row.seq, family, label, by))
    names: tuple[str, ...] = ("list", "index", "ref", "seq", "family", "label", "superseded_by")
    await connection.copy_records_to_table("price_part", records=new, columns=names)
    names = ("list", "index", "seq", "family", "label", "superseded_by")
    await connection.copy_records_to_table("price_description", records=changed, columns=names)
    await connection.copy_records_to_table("price_entry", records=_entry_rows(row.list, delta.entries))
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _NUMBER_LOCK)
    await connection.execute(
        "INSERT INTO price_release SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,"
        " (SELECT coalesce(max(number), 0) + 1 FROM price_release)",
        *msgspec.structs.astuple(row),
    )
    await connection.execute(
        "UPDATE price_list SET seq = $2, parts = $3, epoch = $4 WHERE number = $1", row.list, row.seq, parts, epoch
    )


async def tell(connection: Any) -> None:
    """Last thing in a transaction: wake who follows."""
    await connection.execute(f"NOTIFY {CHANNEL}")


def _entry_rows(number: int, entries: Entries) -> Iterable[tuple[Any, ...]]:
    columns = (entries.index, entries.valid_from_us, entries.seq, entries.price_minor)
    for index, valid_from_us, seq, price in zip(*(column.tolist() for column in columns), strict=True):
        yield number, index, valid_from_us, seq, None if price == WITHDRAWN else price


async def releases(connection: Any, number: int, before: int, limit: int) -> list[Released]:
    rows = await connection.fetch(
        f"SELECT {_RELEASED} FROM price_release WHERE list = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
        number, before, limit,
    )  # fmt: skip
    return [Released(*row) for row in rows]


async def released_us(connection: Any, number: int) -> list[int]:
    """When each number was released, 1 first."""
    rows = await connection.fetch("SELECT released_us FROM price_release WHERE list = $1 ORDER BY seq", number)
    return [row[0] for row in rows]


async def state_root(connection: Any, number: int, seq: int) -> bytes | None:
    found: bytes | None = await connection.fetchval(
        "SELECT state_root FROM price_release WHERE list = $1 AND seq = $2", number, seq
    )
    return found


async def head(connection: Any, number: int) -> bytes | None:
    """The signed head of the last release."""
    found: bytes | None = await connection.fetchval(
        "SELECT head FROM price_release WHERE list = $1 ORDER BY seq DESC LIMIT 1", number
    )
    return found


async def last_number(connection: Any) -> int:
    """Number of the last release of any list; every release has a greater one."""
    return int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM price_release"))


async def heads_after(connection: Any, number: int) -> list[tuple[int, str, bytes]]:
    """(number, list id, signed head) of releases beyond a number, each list's last one only."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (r.list) r.number, l.id, r.head FROM price_release r JOIN price_list l ON l.number = r.list"
        " WHERE r.number > $1 ORDER BY r.list, r.number DESC",
        number,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def read_delta(connection: asyncpg.Connection, about: PriceList) -> Delta:
    """Everything a list ever said, in the order of its releases."""
    number = about.number
    told = await connection.fetch(
        "SELECT seq, effective_us, note FROM price_release WHERE list = $1 AND seq <= $2 ORDER BY seq",
        number,
        about.seq,
    )
    made = tuple(Release(seq, effective_us, about.currency, note) for seq, effective_us, note in told)
    entries = np.empty((4, 0), np.int64)
    chunks = [entries]
    found = connection.cursor(
        "SELECT index, seq, valid_from_us, coalesce(price_minor, $2) FROM price_entry WHERE list = $1 AND seq <= $3"
        " ORDER BY seq, index, valid_from_us", number, WITHDRAWN, about.seq, prefetch=_BATCH,
    )  # fmt: skip
    held: list[Any] = []
    async for row in found:
        held.append(tuple(row))
        if len(held) == _BATCH:
            chunks.append(np.array(held, np.int64).T)
            held = []
    if held:
        chunks.append(np.array(held, np.int64).T)
    columns = np.concatenate(chunks, axis=1)
    described_by = connection.cursor(
        "SELECT index, seq, ref, family, label, superseded_by FROM price_part WHERE list = $1 AND seq <= $2 UNION ALL"
        " SELECT d.index, d.seq, p.ref, d.family, d.label, d.superseded_by FROM price_description d"
        " JOIN price_part p ON p.list = d.list AND p.index = d.index WHERE d.list = $1 AND d.seq <= $2"
        " ORDER BY seq, index",
        number, about.seq, prefetch=_BATCH,
    )  # fmt: skip
    texts = [tuple(row) async for row in described_by]
    ids = np.array([(row[0], row[1]) for row in texts], np.int64).reshape(-1, 2)
    described = Descriptions(ids[:, 0].copy(), ids[:, 1].copy(), *([row[at] for row in texts] for at in range(2, 6)))
    return Delta(about.id, 0, about.seq, made, described, Entries(*(column.copy() for column in columns)))


async def price(connection: Any, number: int, ref: str, at_us: int, known_seq: int) -> Price | None:
    """The entry the rule chooses, with the description known at that number."""
    row = await connection.fetchrow(
        "SELECT p.ref, coalesce(d.family, p.family), coalesce(d.label, p.label), coalesce(d.superseded_by, p.superseded_by),"
        " e.price_minor, e.valid_from_us, e.seq FROM price_part p"
        " JOIN LATERAL (SELECT * FROM price_entry WHERE list = p.list AND index = p.index AND valid_from_us <= $3"
        "  AND seq <= $4 ORDER BY valid_from_us DESC, seq DESC LIMIT 1) e ON true"
        " LEFT JOIN LATERAL (SELECT * FROM price_description WHERE list = p.list AND index = p.index AND seq <= $4"
        "  ORDER BY seq DESC LIMIT 1) d ON true WHERE p.list = $1 AND p.ref = $2",
        number, ref, at_us, known_seq,
    )  # fmt: skip
    return Price(*row) if row else None


async def changes(
    connection: Any, number: int, until_seq: int, after: tuple[int, int, int], limit: int
) -> list[tuple[int, int, int, str, int | None]]:
    """(seq, index, valid_from_us, ref, price_minor) of entries behind a place, in order, up to a number of the list."""
    rows = await connection.fetch(
        "SELECT e.seq, e.index, e.valid_from_us, p.ref, e.price_minor FROM price_entry e"
        " JOIN price_part p ON p.list = e.list AND p.index = e.index"
        " WHERE e.list = $1 AND e.seq >= $2 AND e.seq <= $3 AND (e.seq, e.index, e.valid_from_us) > ($2, $4, $5)"
        " ORDER BY e.seq, e.index, e.valid_from_us LIMIT $6",
        number, after[0], until_seq, after[1], after[2], limit,
    )  # fmt: skip
    return [tuple(row) for row in rows]


async def parts_among(connection: Any, number: int, refs: Sequence[str]) -> set[str]:
    """Which of these references are parts of the list."""
    rows = await connection.fetch("SELECT ref FROM price_part WHERE list = $1 AND ref = ANY($2)", number, refs)
    return {row[0] for row in rows}


# --- drafts and files -------------------------------------------------------------------------------------------------


async def add_draft(connection: Any, number: int, draft: Draft) -> None:
    await connection.execute(
        "INSERT INTO price_draft VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        draft.id, number, draft.report.base_seq, draft.report.effective_us, draft.note, draft.made_us, draft.made_by,
        msgspec.json.encode(draft.report),
    )  # fmt: skip


async def drafts(connection: Any, number: int) -> list[Draft]:
    rows = await connection.fetch(
        "SELECT d.id, l.id, d.note, d.made_us, d.made_by, d.report FROM price_draft d JOIN price_list l ON l.number = d.list"
        " WHERE d.list = $1 ORDER BY d.made_us DESC LIMIT 100",
        number,
    )
    return [Draft(row[0], row[1], row[2], row[3], row[4], msgspec.json.decode(row[5], type=Report)) for row in rows]


async def find_draft(connection: Any, number: int, id: str) -> Draft | None:
    return next((one for one in await drafts(connection, number) if one.id == id), None)


async def drop_draft(connection: Any, id: str) -> None:
    await connection.execute("DELETE FROM price_draft WHERE id = $1", id)


async def drop_drafts_before(connection: Any, at_us: int) -> list[str]:
    """Forget old drafts; their ids."""
    return [row[0] for row in await connection.fetch("DELETE FROM price_draft WHERE made_us < $1 RETURNING id", at_us)]


async def add_blobs(connection: Any, number: int, blobs: Sequence[Blob], now_us: int) -> None:
    await connection.executemany(
        "INSERT INTO price_blob VALUES ($1, $2, $3, $4, $5, $6, 0, $7) ON CONFLICT DO NOTHING",
        [(b.sha256, number, b.from_seq, b.to_seq, b.epoch, b.size, now_us) for b in blobs],
    )


async def blob_made_us(connection: Any, sha256: str) -> int:
    return int(await connection.fetchval("SELECT coalesce(max(made_us), 0) FROM price_blob WHERE sha256 = $1", sha256))


async def blob_names(connection: Any) -> set[str]:
    return {row[0] for row in await connection.fetch("SELECT sha256 FROM price_blob")}


# --- epochs, keys, acknowledgements -----------------------------------------------------------------------------------


async def epoch_sites(connection: Any, number: int, epoch: int) -> set[str]:
    rows = await connection.fetch("SELECT site FROM price_epoch_site WHERE list = $1 AND epoch = $2", number, epoch)
    return {row[0] for row in rows}


async def every_holder(connection: Any, number: int) -> list[str]:
    """Points of sale that were ever given a key of the list."""
    rows = await connection.fetch("SELECT DISTINCT site FROM price_epoch_site WHERE list = $1 ORDER BY site", number)
    return [row[0] for row in rows]


async def add_epoch(connection: Any, number: int, epoch: int, salt: bytes, now_us: int, reason: str) -> None:
    await connection.execute("INSERT INTO price_epoch VALUES ($1, $2, $3, $4, $5)", number, epoch, salt, now_us, reason)


async def set_epoch(connection: Any, number: int, epoch: int) -> None:
    await connection.execute("UPDATE price_list SET epoch = $2 WHERE number = $1", number, epoch)


async def add_epoch_sites(connection: Any, number: int, epoch: int, sites: Iterable[str]) -> None:
    await connection.execute(
        "INSERT INTO price_epoch_site SELECT $1, $2, site FROM unnest($3::text[]) site ON CONFLICT DO NOTHING",
        number, epoch, sorted(sites),
    )  # fmt: skip


async def salts(connection: Any, number: int) -> dict[int, bytes]:
    rows = await connection.fetch("SELECT epoch, salt FROM price_epoch WHERE list = $1", number)
    return {row[0]: row[1] for row in rows}


async def set_keys(connection: Any, site: str, keys: Sequence[tuple[bytes, int]], now_us: int) -> None:
    """What a site announced last is what it can open; others of its keys are forgotten."""
    await connection.execute("DELETE FROM price_site_key WHERE site = $1", site)
    await connection.executemany(
        "INSERT INTO price_site_key VALUES ($1, $2, $3, $4)", [(site, key, end_us, now_us) for key, end_us in keys]
    )


async def announced(connection: Any, site: str) -> list[tuple[bytes, int]]:
    rows = await connection.fetch("SELECT key, not_after_us FROM price_site_key WHERE site = $1", site)
    return [(row[0], row[1]) for row in rows]


async def keys_of(connection: Any, site: str, now_us: int) -> list[bytes]:
    rows = await connection.fetch(
        "SELECT key FROM price_site_key WHERE site = $1 AND not_after_us > $2 ORDER BY not_after_us DESC LIMIT 4",
        site, now_us,
    )  # fmt: skip
    return [row[0] for row in rows]


async def add_acks(connection: Any, rows: Sequence[tuple[int, str, int, str, str, int]]) -> None:
    """(list, site, seq, state, code, at_us); `applied` is never taken back to `fetched`."""
    await connection.execute(
        "INSERT INTO price_ack SELECT * FROM unnest($1::int[], $2::text[], $3::int[], $4::text[], $5::text[], $6::bigint[])"
        " ON CONFLICT (list, site, seq) DO UPDATE SET state = excluded.state, code = excluded.code, at_us = excluded.at_us"
        " WHERE price_ack.state <> 'applied'",
        *([row[at] for row in rows] for at in range(6)),
    )


async def progress(connection: Any, number: int, seq: int, entitled: Sequence[str]) -> Progress:
    rows = await connection.fetch(
        "SELECT state, count(*) FROM price_ack WHERE list = $1 AND seq = $2 AND site = ANY($3) GROUP BY state",
        number, seq, entitled,
    )  # fmt: skip
    by = {row[0]: row[1] for row in rows}
    return Progress(
        seq, len(entitled), by.get("fetched", 0) + by.get("applied", 0), by.get("applied", 0), by.get("refused", 0)
    )


async def sites(connection: Any, number: int, after: str, limit: int) -> list[Site]:
    """How far each site has come, in order of their ids."""
    rows = await connection.fetch(
        "SELECT site, max(seq) FILTER (WHERE state <> 'refused'), max(seq) FILTER (WHERE state = 'applied'),"
        " (array_agg(code ORDER BY seq DESC))[1], max(at_us) FROM price_ack WHERE list = $1 AND site > $2"
        " GROUP BY site ORDER BY site LIMIT $3",
        number, after, limit,
    )  # fmt: skip
    return [Site(row[0], row[1] or 0, row[2] or 0, row[3], row[4]) for row in rows]
