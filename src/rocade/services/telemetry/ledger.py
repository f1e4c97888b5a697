"""What telemetry keeps in PostgreSQL: block intents, numbers and gaps, quarantine, unknown signals, erased references.

The worker's promise rests on two transactions: `begin` writes down a block's exact bounds under the fence of its leases;
`finish` deletes that intent and writes everything the block came to. Whoever finds the intent gone has lost the block to
another worker and writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.log import Limits
from rocade.services.telemetry.apportioning import Renewal, Renewals
from rocade.services.telemetry.gaps import MAX_ASKS, Numbers, Row, unpacked
from rocade.services.telemetry.model import DROPPED, HELD, NUMBERED, REPLAYED, SEALED, Held, Quarantined, Unknown
from rocade.services.telemetry.sealing import NUMBER_BYTES, RoadSeals
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.sealing.older import Older
from rocade.trust.authority.sealing.seals import OVERHEAD_BYTES

_INTENT = """
    INSERT INTO telemetry_block (name, token, partitions, writers, after, upto, oldest_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id"""
_NUMBERS = """
    INSERT INTO telemetry_sequence AS t
        (ref, epoch, highest, gaps, missing, opened_us, arrived_us, closed, ask_at_us)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[],
                         $7::bigint[], $8::text[], $9::bigint[])
    ON CONFLICT (ref, epoch) DO UPDATE SET highest = excluded.highest, gaps = excluded.gaps, missing = excluded.missing,
        arrived_us = excluded.arrived_us, closed = excluded.closed,
        asked = CASE WHEN excluded.ask_at_us > 0 THEN 0 ELSE t.asked END,
        ask_at_us = CASE WHEN excluded.ask_at_us > 0 THEN excluded.ask_at_us ELSE t.ask_at_us END"""
_HOLD = """
    INSERT INTO telemetry_quarantine (ref, arrived_us, kind, reason, detail, body)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::bytea[])"""
_UNKNOWN = """
    INSERT INTO telemetry_unknown_signal AS t (signal, name, ref, first_us, last_us, batches) VALUES ($1, $2, $3, $4, $4, $5)
    ON CONFLICT (signal) DO UPDATE SET last_us = greatest(t.last_us, excluded.last_us), batches = t.batches + excluded.batches,
        name = CASE WHEN t.name = '' THEN excluded.name ELSE t.name END"""
_UNNAME = """
    UPDATE telemetry_unknown_signal SET ref = 0
    WHERE signal IN (SELECT signal FROM telemetry_unknown_signal WHERE ref = $1 ORDER BY signal FOR UPDATE)"""
"""In the order in which blocks report them."""
_DUE = f"""
    SELECT ref, epoch, gaps, arrived_us, asked FROM telemetry_sequence
    WHERE ref = ANY($1::bigint[]) AND missing > 0 AND closed IS NULL AND ask_at_us <= $2 AND asked < {MAX_ASKS}"""
_POLL_S = 0.05
CONDENSING, ERASING, SWEEPING = 0x726F6361_70617374, 0x726F6361_676F6E65, 0x726F6361_61726368
"""Advisory locks: what one process of all does at a time."""
_CUT = 0x726F6361_00637574
"""Blocks begin under a share of this lock; a copy of database and history takes all of it."""
_HELD_COLUMNS = (
    f"id, ref, arrived_us, kind % {SEALED} AS kind, reason, detail,"
    f" octet_length(body) - CASE WHEN body = '' OR kind < {SEALED} THEN 0 WHEN kind < {NUMBERED} THEN {OVERHEAD_BYTES}"
    f" ELSE {OVERHEAD_BYTES + NUMBER_BYTES} END AS size_bytes, state"
)


class Intent(msgspec.Struct, frozen=True):
    """A block somebody began: its bounds, and the token its history inserts carry."""

    id: int
    token: str
    limits: dict[tuple[int, int], tuple[int, int]]


class Due(msgspec.Struct, frozen=True):
    """Numbers to ask a vehicle for; `arrived_us` of the last batch that had been processed when they were missing."""

    ref: int
    epoch: int
    gaps: list[tuple[int, int]]
    arrived_us: int
    asked: int


def token_of(name: str, limits: Limits, salt: int) -> str:
    """Names a block by its log range. The salt keeps a log that began anew beside an old history from repeating names."""
    plain = repr((name, sorted(limits.items()), salt)).encode()
    return f"{name}-{blake2b(plain, digest_size=16).hexdigest()}"


class Ledger:
    """Reads and writes of telemetry in PostgreSQL; methods with a `connection` run inside the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self.database = database

    async def begin(
        self, connection: Any, name: str, limits: Limits, salt: int, oldest_us: int = 0, *, is_late: bool = False
    ) -> Intent:
        """Write down the bounds of a block before anything of it is stored.

        `oldest_us`: arrival of its oldest record; `is_late`: that is long ago, so that a past day may change.
        Raises: Unavailable `telemetry.past.moving`.
        """
        await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _CUT)
        if is_late:
            await self.change_past(connection)
        token = token_of(name, limits, salt)
        places = sorted(limits)
        number = await connection.fetchval(
            _INTENT, name, token, [partition for partition, _ in places], [writer for _, writer in places],
            [limits[place][0] for place in places], [limits[place][1] for place in places], oldest_us,
        )  # fmt: skip
        return Intent(number, token, dict(limits))

    async def pending(self, name: str, partitions: Sequence[int]) -> list[Intent]:
        """Blocks that touch these partitions and were not finished, oldest first."""
        rows = await self._pool.fetch(
            "SELECT * FROM telemetry_block WHERE name = $1 AND partitions && $2::smallint[] ORDER BY id",
            name,
            partitions,
        )
        return [
            Intent(
                row["id"],
                row["token"],
                dict(
                    zip(
                        zip(row["partitions"], row["writers"], strict=True),
                        zip(row["after"], row["upto"], strict=True),
                        strict=True,
                    )
                ),
            )
            for row in rows
        ]

    async def finish(self, connection: Any, intent: Intent) -> None:
        """Take the intent away, first thing in the transaction that commits the block.

        Raises: Unavailable `telemetry.block.taken`: another worker has finished it.
        """
        if await connection.fetchval("DELETE FROM telemetry_block WHERE id = $1 RETURNING id", intent.id) is None:
            raise Unavailable(
                "telemetry.block.taken", "another worker has finished this block; begin again from the database"
            )

    async def change_past(self, connection: Any) -> None:
        """Say, before it happens, that rows of past days will come or go; a condensing under way then gives up.

        Raises: Unavailable `telemetry.past.moving`: its result is just being put in place.
        """
        if await connection.fetchval("UPDATE telemetry_past SET changes = changes + 1 RETURNING moving") is not None:
            raise Unavailable("telemetry.past.moving", "a past day is just being put in place; again in a second")

    async def past(self, until_us: int) -> int | None:
        """How often the past has changed so far; None while a block holds records that arrived before `until_us`."""
        async with self._pool.acquire() as connection, connection.transaction():
            return await _still_past(connection, until_us)

    async def move_past(self, partition: str, until_us: int, changes: int) -> bool:
        """Claim the moment in which a condensed partition takes the old one's place; False when the past has changed.

        From here to `moved_past` nothing may change the past, whatever dies: the move can be repeated.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if await _still_past(connection, until_us) != changes:
                return False
            await connection.execute("UPDATE telemetry_past SET moving = $1", partition)
            return True

    async def moved_past(self, partition: str, rows: int) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE telemetry_past SET moving = NULL")
            await connection.execute(
                "INSERT INTO telemetry_condensed VALUES ($1, $2) ON CONFLICT (partition) DO UPDATE SET rows = excluded.rows",
                partition,
                rows,
            )

    async def moving(self) -> str | None:
        """The partition whose move was begun and not finished."""
        found: str | None = await self._pool.fetchval("SELECT moving FROM telemetry_past")
        return found

    async def condensed(self) -> dict[str, int]:
        """Rows of each partition after it was condensed."""
        return {row["partition"]: row["rows"] for row in await self._pool.fetch("SELECT * FROM telemetry_condensed")}

    @asynccontextmanager
    async def alone(self, lock: int = CONDENSING) -> AsyncIterator[bool]:
        """Whether this is the only one who condenses (or erases) now, of all processes."""
        async with self._pool.acquire() as connection:
            is_alone = bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock))
            try:
                yield is_alone
            finally:
                if is_alone:
                    await connection.execute("SELECT pg_advisory_unlock($1)", lock)

    async def load_numbers(self, refs: Iterable[int]) -> dict[int, list[Numbers]]:
        """Numbers of these vehicles, by reference."""
        rows = await self._pool.fetch(
            "SELECT ref, epoch, opened_us, arrived_us, highest, gaps, closed FROM telemetry_sequence WHERE ref = ANY($1::bigint[])",
            list(refs),
        )
        found: dict[int, list[Numbers]] = {}
        for ref, epoch, opened_us, arrived_us, highest, gaps, closed in rows:
            found.setdefault(ref, []).append(
                Numbers(ref, epoch, opened_us, arrived_us, highest, unpacked(gaps), closed)
            )
        return found

    async def store_numbers(self, connection: Any, rows: Sequence[Row]) -> None:
        if rows:
            await connection.execute(_NUMBERS, *map(list, zip(*rows, strict=True)))

    async def hold(self, connection: Any, held: Sequence[Held]) -> None:
        """Put records into quarantine; their bodies sealed (`RoadSeals.sealed_held`), if they come from the road."""
        if held:
            await connection.execute(_HOLD, *([getattr(one, name) for one in held] for name in Held.__struct_fields__))

    async def report_unknown(self, connection: Any, unknown: Sequence[Unknown]) -> None:
        for one in sorted(unknown, key=lambda one: one.signal):
            await connection.execute(_UNKNOWN, one.signal, one.name, one.ref, one.arrived_us, one.batches)

    async def unknown(self) -> list[Unknown]:
        """Signals that came without being in the catalogue."""
        rows = await self._pool.fetch(
            "SELECT signal, name, ref, last_us, batches FROM telemetry_unknown_signal ORDER BY signal"
        )
        return [Unknown(*row) for row in rows]

    async def erased(self) -> frozenset[int]:
        """References whose records must not be stored any more."""
        return frozenset(row["ref"] for row in await self._pool.fetch("SELECT ref FROM telemetry_erased"))

    async def erase(self, connection: Any, ref: int, at_us: int) -> None:
        """Forget a vehicle here, and keep records still on their way from being stored."""
        await self.change_past(connection)
        await connection.execute("INSERT INTO telemetry_erased VALUES ($1, $2) ON CONFLICT DO NOTHING", ref, at_us)
        for table in ("telemetry_sequence", "telemetry_quarantine"):
            await connection.execute(f"DELETE FROM {table} WHERE ref = $1", ref)
        await connection.execute(_UNNAME, ref)

    async def renewals(self, refs: Iterable[int]) -> Renewals:
        """Changes of owner that concern records of these references."""
        rows = await self._pool.fetch(
            "SELECT ref, renewed, at_us FROM telemetry_renewal"
            " WHERE ref = ANY($1::bigint[]) OR renewed = ANY($1::bigint[])",
            list(refs),
        )
        return Renewals([Renewal(*row) for row in rows])

    async def gone(self, refs: Iterable[int], now_us: int) -> frozenset[int]:
        """Those of these references under which nothing new belongs any more: erased, or its owner has changed."""
        rows = await self._pool.fetch(
            "SELECT ref FROM telemetry_erased WHERE ref = ANY($1::bigint[])"
            " UNION SELECT ref FROM telemetry_renewal WHERE ref = ANY($1::bigint[]) AND at_us <= $2",
            list(refs),
            now_us,
        )
        return frozenset(row["ref"] for row in rows)

    async def renew(self, connection: Any, ref: int, renewed: int, at_us: int) -> None:
        """Let the vehicle known as `ref` go on as `renewed` from `at_us` on, counting where it stands.

        The rows of its numbers are locked first: a worker's block commits before (then its numbers are copied) or after
        (then it finds the renewal in `check_renewals` and begins again).
        """
        await connection.execute("INSERT INTO telemetry_renewal VALUES ($1, $2, $3)", ref, renewed, at_us)
        await connection.execute("SELECT 1 FROM telemetry_sequence WHERE ref = $1 FOR UPDATE", ref)
        await self.hand_over(connection, ref, renewed)

    async def check_renewals(self, connection: Any, refs: Iterable[int], known: Renewals) -> None:
        """Last thing in a block's transaction: no vehicle of it has changed hands unknown to whoever took it apart.

        Raises: Unavailable `telemetry.block.renewed`.
        """
        asked = [ref for ref in refs if ref not in known.ending]
        if await connection.fetchval("SELECT 1 FROM telemetry_renewal WHERE ref = ANY($1::bigint[]) LIMIT 1", asked):
            raise Unavailable("telemetry.block.renewed", "a vehicle of this block has changed hands; take it in again")

    async def rename(self, connection: Any, ref: int, renewed: int) -> None:
        """After an erasure: what a former owner's time left on the way goes past the new reference as it did past the old."""
        await connection.execute("UPDATE telemetry_renewal SET renewed = $2 WHERE renewed = $1", ref, renewed)

    async def hand_over(self, connection: Any, ref: int, renewed: int) -> None:
        """Let `renewed` count on where `ref` stands: same open epoch, same highest number, nothing missing."""
        await connection.execute(
            "INSERT INTO telemetry_sequence (ref, epoch, highest, gaps, missing, opened_us, arrived_us)"
            " SELECT $2, epoch, highest, '', 0, opened_us, arrived_us FROM telemetry_sequence"
            " WHERE ref = $1 AND closed IS NULL"
            " ON CONFLICT (ref, epoch) DO UPDATE SET highest = greatest(telemetry_sequence.highest, excluded.highest)",
            ref,
            renewed,
        )

    async def settled(self, timeout_s: float = 30.0) -> None:
        """Wait until every block begun before now is finished. Call it between `erase` and the removal of twin and history
        rows: a block that read the list of erased references before can write no more afterwards.

        Raises: Unavailable `telemetry.blocks.pending`.
        """
        newest = await self._pool.fetchval("SELECT coalesce(max(id), 0) FROM telemetry_block")
        for _ in range(int(timeout_s / _POLL_S) + 1):
            if not await self._pool.fetchval("SELECT count(*) FROM telemetry_block WHERE id <= $1", newest):
                return
            await asyncio.sleep(_POLL_S)
        raise Unavailable("telemetry.blocks.pending", "a worker has not finished its block; repeat the erasure")

    @asynccontextmanager
    async def still(self, timeout_s: float = 20.0) -> AsyncIterator[None]:
        """Hold new blocks back and wait until none is half done: within, database and history hold the same records.

        For as long as a copy takes to begin; intake goes on.
        Raises: Unavailable `telemetry.blocks.pending`.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _CUT)
            for _ in range(int(timeout_s / _POLL_S) + 1):
                if not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM telemetry_block) OR EXISTS (SELECT FROM telemetry_past WHERE moving IS NOT NULL)"
                ):
                    break
                await asyncio.sleep(_POLL_S)
            else:
                raise Unavailable(
                    "telemetry.blocks.pending", "a worker has not finished its block; start one, then again"
                )
            if await connection.fetchval("SELECT moving FROM telemetry_past FOR UPDATE") is not None:
                raise Unavailable("telemetry.past.moving", "a past day is just being put in place; again in a second")
            yield

    async def due(self, refs: Sequence[int], now_us: int) -> list[Due]:
        """Missing numbers of these vehicles that should be asked for now."""
        try:
            rows = await self._pool.fetch(_DUE, refs, now_us)
        except (*DOWN, asyncpg.PostgresError) as error:
            raise _down("gaps cannot be read", error) from error
        return [Due(ref, epoch, unpacked(gaps), arrived_us, asked) for ref, epoch, gaps, arrived_us, asked in rows]

    async def asked(self, asks: Sequence[tuple[int, int, int]]) -> None:
        """Note requests that were sent: (ref, epoch, when to ask again).

        Raises: Unavailable `database.down`; the same is asked once more then, which harms nobody.
        """
        if not asks:
            return
        try:
            await self._pool.execute(
                "UPDATE telemetry_sequence t SET asked = asked + 1, ask_at_us = u.at"
                " FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) u(ref, epoch, at)"
                " WHERE t.ref = u.ref AND t.epoch = u.epoch",
                *map(list, zip(*asks, strict=True)),
            )
        except (*DOWN, asyncpg.PostgresError) as error:
            raise _down("requests cannot be noted", error) from error

    async def missing(self, refs: Sequence[int]) -> int:
        """How many numbers of these vehicles are missing now, in the epochs that are open."""
        return int(
            await self._pool.fetchval(
                "SELECT coalesce(sum(missing), 0)::bigint FROM telemetry_sequence"
                " WHERE closed IS NULL AND missing > 0 AND ref = ANY($1::bigint[])",
                list(refs),
            )
        )

    async def numbers(self, ref: int) -> list[Numbers]:
        """Epochs of a vehicle, newest first, for pages and tests."""
        states = (await self.load_numbers([ref])).get(ref, [])
        return sorted(states, key=lambda state: -state.opened_us)

    async def asks(self, ref: int, epoch: int) -> tuple[int, int]:
        """How often the numbers missing of one epoch were asked for since one came, and when they are asked for next."""
        row = await self._pool.fetchrow(
            "SELECT asked, ask_at_us FROM telemetry_sequence WHERE ref = $1 AND epoch = $2", ref, epoch
        )
        return (row["asked"], row["ask_at_us"]) if row else (0, 0)

    async def list_held(self, ref: int | None = None, after: int = 0, limit: int = 100) -> list[Quarantined]:
        """Records in quarantine, oldest first, without their bodies."""
        rows = await self._pool.fetch(
            f"SELECT {_HELD_COLUMNS} FROM telemetry_quarantine WHERE id > $1 AND ($2::bigint IS NULL OR ref = $2) AND state = '{HELD}'"
            " ORDER BY id LIMIT $3", after, ref, limit,
        )  # fmt: skip
        return [Quarantined(*row) for row in rows]

    async def held(self, id: int) -> tuple[Quarantined, int, bytes] | None:
        """One record of the quarantine with kind and body as they are stored: `RoadSeals.open_held` opens it."""
        query = f"SELECT {_HELD_COLUMNS}, kind, body FROM telemetry_quarantine WHERE id = $1"
        row = await self._pool.fetchrow(query, id)
        return None if row is None else (Quarantined(*row[:-2]), row[-2], row[-1])

    async def mark_held(self, id: int, state: str) -> bool:
        """Change HELD to REPLAYED or DROPPED; False if it was not HELD. A dropped record's body is removed."""
        assert state in {REPLAYED, DROPPED}
        changed = await self._pool.fetchval(
            "UPDATE telemetry_quarantine SET state = $2, body = CASE WHEN $2 = 'dropped' THEN ''::bytea ELSE body END"
            " WHERE id = $1 AND state = 'held' RETURNING id", id, state,
        )  # fmt: skip
        return changed is not None

    async def counts(self) -> Mapping[str, int]:
        """Records in quarantine by reason."""
        rows = await self._pool.fetch(
            "SELECT reason, count(*) AS n FROM telemetry_quarantine WHERE state = 'held' GROUP BY 1"
        )
        return {row["reason"]: row["n"] for row in rows}


async def _seal_older(connection: Any, columns: Columns) -> int:
    """Bodies in quarantine from before there was sealing; those of erased owners go."""
    rows = await connection.fetch(
        "SELECT id, ref, arrived_us, kind, body FROM telemetry_quarantine WHERE kind < $1 AND body <> ''", SEALED
    )
    seals = RoadSeals(columns.keys)
    for row in rows:
        held = Held(row["ref"], row["arrived_us"], row["kind"], "", "", row["body"])
        for one in await seals.sealed_held([held]) or [msgspec.structs.replace(held, body=b"")]:
            await connection.execute(
                "UPDATE telemetry_quarantine SET kind = $2, body = $3 WHERE id = $1", row["id"], one.kind, one.body
            )
    return len(rows)


OLDER = (Older("telemetry_quarantine.body", ("telemetry_quarantine",), _seal_older),)


async def _still_past(connection: Any, until_us: int) -> int | None:
    """Under the lock of the one row: its count, or None while something is moving or a block is pending."""
    row = await connection.fetchrow("SELECT changes, moving FROM telemetry_past FOR UPDATE")
    pending = await connection.fetchval("SELECT count(*) FROM telemetry_block WHERE oldest_us < $1", until_us)
    return None if row["moving"] is not None or pending else int(row["changes"])


def _down(what: str, error: Exception) -> Unavailable:
    return Unavailable("database.down", f"{what}: {type(error).__name__}")
