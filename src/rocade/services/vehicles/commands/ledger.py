"""SQL of what happens to commands: sending, what vehicles say, proofs, deadlines, the end of a vehicle's time.

Whoever locks several commands locks them in order of id, as `store` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rocade.services.vehicles import twin
from rocade.services.vehicles.commands import sealing
from rocade.services.vehicles.commands.model import ACCEPTED, APPLIED, EXPIRED, REJECTED, SENT, VERIFIED
from rocade.services.vehicles.commands.store import CHANGED_CHANNEL, notify
from rocade.trust.authority.sealing import Keys

SILENT = "command.silent"
_HELD = "WITH held AS (SELECT id FROM command WHERE id = ANY($1::bytea[]) ORDER BY id FOR UPDATE)"
UNSENT = "command.unsent"
OWN_ENDS = (SILENT, UNSENT, "command.wake.budget")
"""Ends that the hub gave without the vehicle's word: what was on its way, noted as sent or not, may still have been done, and then
its word counts."""


# --- sending ----------------------------------------------------------------------------------------------------------


class Due(msgspec.Struct, frozen=True, gc=False):
    """A command to be sent now."""

    id: bytes
    ref: int
    version: int
    brand: str
    sealed: bytes
    key_id: bytes
    sends: int


async def claim(
    connection: Any, keys: Keys, refs: Sequence[int], fresh: Sequence[int], now_us: int, hold_us: int, limit: int
) -> list[Due]:
    """Take what is to be sent to these vehicles now; nobody else gets it for `hold_us`. To `fresh` ones, who have just come,
    everything goes again that they have not said to have.
    """
    rows = await connection.fetch(
        "WITH due AS (SELECT id FROM command WHERE ref = ANY($1::bigint[]) AND state < 6 AND state < $4 AND doubt < 2"
        " AND expires_us > $3 AND (due_us <= $3 OR ref = ANY($2::bigint[]))"
        " ORDER BY id LIMIT $6 FOR UPDATE SKIP LOCKED)"
        " UPDATE command c SET due_us = $3 + $5"
        " FROM due WHERE c.id = due.id RETURNING c.id, c.ref, c.version, c.brand, c.sealed, c.key_id, c.sends",
        refs, fresh, now_us, ACCEPTED, hold_us, limit,
    )  # fmt: skip
    due = [Due(*(row[name] for name in Due.__struct_fields__)) for row in await sealing.opened(keys, rows)]
    return sorted((one for one in due if one.sealed), key=lambda one: (one.ref, one.version))


async def mark_sent(connection: Any, ids: Sequence[bytes], due_us: Sequence[int], at_us: int) -> None:
    """These left at this instant; they go again at `due_us` if no word comes."""
    await connection.execute(
        "WITH left_ AS (SELECT c.id, u.due_us FROM unnest($1::bytea[], $2::bigint[]) AS u (id, due_us)"
        " JOIN command c ON c.id = u.id ORDER BY c.id FOR UPDATE OF c)"
        " UPDATE command c SET state = greatest(state, $4), sends = least(sends + 1, 32000), due_us = left_.due_us,"
        " sent_us = CASE WHEN sent_us = 0 THEN $3 ELSE sent_us END, changed_us = greatest(changed_us, $3)"
        " FROM left_ WHERE c.id = left_.id",
        ids, due_us, at_us, SENT,
    )  # fmt: skip


async def release(connection: Any, ids: Sequence[bytes], due_us: int) -> None:
    """These could not be sent; they may go at `due_us`."""
    await connection.execute(f"{_HELD} UPDATE command c SET due_us = $2 FROM held WHERE c.id = held.id AND state < $3",
                             ids, due_us, ACCEPTED)  # fmt: skip


async def refuse(connection: Any, ids: Sequence[bytes], code: str, at_us: int) -> None:
    """End these before they are sent."""
    await connection.execute(
        f"{_HELD} UPDATE command c SET state = $2, code = $3, ended_us = $4, changed_us = $4 FROM held"
        " WHERE c.id = held.id AND state < $5",
        ids, REJECTED, code, at_us, ACCEPTED,
    )  # fmt: skip


async def take_tokens(connection: Any, brand: str, wanted: int, rate_per_s: float, burst: float, now_us: int) -> int:
    """How many of the wanted commands a brand's back end takes now."""
    taken: float = await connection.fetchval(
        "WITH was AS (SELECT tokens, filled_us FROM command_rate WHERE brand = $1 FOR UPDATE),"
        " filled AS (SELECT least($4::float8, coalesce((SELECT tokens + greatest($5 - filled_us, 0) / 1e6 * $3::float8"
        " FROM was), $4::float8)) AS level),"
        " took AS (SELECT level, least(floor(level), $2::float8) AS many FROM filled),"
        " put AS (INSERT INTO command_rate SELECT $1, level - many, $5 FROM took ON CONFLICT (brand) DO UPDATE"
        " SET tokens = excluded.tokens, filled_us = greatest(command_rate.filled_us, excluded.filled_us))"
        " SELECT many FROM took",
        brand, wanted, rate_per_s, burst, now_us,
    )  # fmt: skip
    return int(taken)


# --- what vehicles and telemetry say ----------------------------------------------------------------------------------


class Said(msgspec.Struct, frozen=True, gc=False):
    """What the reports of one moment come to for one command: the furthest state, and which were passed on the way."""

    id: bytes
    ref: int
    state: int
    code: str
    result: bytes
    accepted: bool
    waking: bool
    applied: bool
    vehicle_us: int
    """The vehicle's own clock when it was applied; 0 = it does not say so."""


class Applied(msgspec.Struct, frozen=True, gc=False):
    """A command that waits for its proof."""

    id: bytes
    ref: int
    act: str
    parameters: bytes
    vehicle_us: int


class Took(msgspec.Struct, frozen=True, gc=False):
    """A command whose state a report moved."""

    id: bytes
    ref: int
    act: str
    state: int
    code: str


async def take_reports(
    connection: Any, keys: Keys, said: Sequence[Said], now_us: int
) -> tuple[list[Took], list[Applied], set[bytes]]:
    """Move commands by what their vehicles say: (moved, to be proven, all that are known)."""
    held = await keys.ensure({(one.ref, sealing.COMMAND) for one in said if one.result})
    telling = [bool(one.result) and (one.ref, sealing.COMMAND) in held for one in said]
    told = ((one.ref, one.id, one.result) for one, tells in zip(said, telling, strict=True) if tells)
    sealed = iter(sealing.seal_parts(held, sealing.RESULT, told))
    results = [next(sealed) if tells else b"" for tells in telling]
    rows = await connection.fetch(
        "WITH said AS (SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::smallint[], $4::text[], $5::bytea[],"
        " $6::bool[], $7::bool[], $8::bool[], $9::bigint[])"
        " AS u (id, ref, state, code, result, is_accepted, is_waking, is_applied, vehicle_us)),"
        " held AS (SELECT c.id, c.state AS was, c.code AS had FROM said JOIN command c ON c.id = said.id AND c.ref = said.ref"
        " ORDER BY c.id FOR UPDATE OF c),"
        " judged AS (SELECT said.*, held.was, (said.state > held.was AND (held.was < $11 OR said.state = $14 AND held.was = $11)"
        " OR held.was IN ($12, $14) AND held.had = ANY($15::text[]) AND said.state >= $11"
        " AND (said.state, said.code) <> (held.was, held.had)) AS moves FROM said JOIN held USING (id))"
        " UPDATE command c SET"
        " accepted_us = CASE WHEN c.accepted_us = 0 AND j.is_accepted THEN $10 ELSE c.accepted_us END,"
        " waking_us = CASE WHEN c.waking_us = 0 AND j.is_waking THEN $10 ELSE c.waking_us END,"
        " applied_us = CASE WHEN c.applied_us = 0 AND j.is_applied THEN $10 ELSE c.applied_us END,"
        " vehicle_us = CASE WHEN c.vehicle_us = 0 THEN j.vehicle_us ELSE c.vehicle_us END,"
        " state = CASE WHEN j.moves THEN j.state ELSE c.state END,"
        " code = CASE WHEN j.moves THEN j.code ELSE c.code END,"
        " result = CASE WHEN j.moves AND j.result <> '' THEN j.result ELSE c.result END,"
        " ended_us = CASE WHEN j.moves AND j.state > $13 THEN $10 WHEN j.moves THEN 0 ELSE c.ended_us END,"
        " changed_us = $10"
        " FROM judged j WHERE c.id = j.id"
        " RETURNING c.id, c.ref, c.act, c.state, c.code, j.moves, c.parameters, c.vehicle_us",
        [one.id for one in said], [one.ref for one in said], [one.state for one in said], [one.code for one in said],
        results, [one.accepted for one in said], [one.waking for one in said],
        [one.applied for one in said], [one.vehicle_us for one in said],
        now_us, APPLIED, EXPIRED, VERIFIED, REJECTED, OWN_ENDS,
    )  # fmt: skip
    moved = [Took(*tuple(row)[:5]) for row in rows if row["moves"]]
    applied = [_applied(row) for row in await sealing.opened(keys, (row for row in rows if row["state"] == APPLIED))]
    return moved, applied, {row["id"] for row in rows}


async def read_twins(connection: Any, keys: Keys, refs: Sequence[int]) -> dict[int, bytes]:
    """Packed twins as committed at this moment, of those that can be read."""
    return {ref: values for ref, (values, _) in (await twin.packed(connection, keys, refs, is_patient=True)).items()}


async def hold_open(connection: Any, keys: Keys, refs: Sequence[int]) -> tuple[list[Applied], set[int]]:
    """Lock what is open of these vehicles: what waits for its proof, and which of the vehicles have anything open at all."""
    rows = await connection.fetch(
        "SELECT id, ref, act, parameters, vehicle_us, state FROM command WHERE ref = ANY($1::bigint[])"
        " AND state < 6 AND doubt < 2 ORDER BY id FOR NO KEY UPDATE",
        refs,
    )  # fmt: skip
    applied = [_applied(row) for row in await sealing.opened(keys, (row for row in rows if row["state"] == APPLIED))]
    return applied, {row["ref"] for row in rows}


def _applied(row: Mapping[str, Any]) -> Applied:
    return Applied(*(row[name] for name in Applied.__struct_fields__))


async def read_applied(connection: Any, keys: Keys, written_from_us: int) -> list[Applied]:
    """Lock what waits for its proof, of vehicles whose twin was written since an instant (database clock)."""
    rows = await connection.fetch(
        "SELECT c.id, c.ref, c.act, c.parameters, c.vehicle_us FROM command c JOIN twin t ON t.ref = c.ref"
        " WHERE c.state = 5 AND c.doubt < 2 AND t.updated_us >= $1 ORDER BY c.id LIMIT 5000"
        " FOR NO KEY UPDATE OF c SKIP LOCKED",
        written_from_us,
    )
    return [_applied(row) for row in await sealing.opened(keys, rows)]


async def read_time(connection: Any) -> int:
    """The database's clock."""
    return int(await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))


async def read_open(connection: Any) -> set[int]:
    """Every vehicle with something open."""
    rows = await connection.fetch("SELECT DISTINCT ref FROM command WHERE state < 6 AND doubt < 2")
    return {row["ref"] for row in rows}


async def verify(connection: Any, ids: Sequence[bytes], at_us: int) -> None:
    """Telemetry proved these."""
    await connection.execute(
        "UPDATE command SET state = $2, code = '', doubt = 0, verified_us = $3, changed_us = $3"
        " WHERE id = ANY($1::bytea[]) AND state = $4",
        ids, VERIFIED, at_us, APPLIED,
    )  # fmt: skip


# --- time ---------------------------------------------------------------------------------------------------------------


async def take_turn(connection: Any) -> bool:
    """Whether it is ours to look after what time does; until the transaction ends nobody else does."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended('command', 12))"))


async def expire(connection: Any, now_us: int, silent_before_us: int) -> list[int]:
    """End what is not known to have been sent by its deadline, and what the vehicle has and never spoke of again; the vehicles."""
    rows = await connection.fetch(
        "WITH late AS (SELECT id, state FROM command WHERE state < $3 AND (state < $4 AND expires_us <= $1"
        " OR expires_us <= $2) AND expires_us <= $1 ORDER BY id LIMIT 5000 FOR UPDATE)"
        " UPDATE command c SET state = $5, code = CASE WHEN late.state < $4 THEN $7 ELSE $6 END,"
        " ended_us = $1, changed_us = $1 FROM late WHERE c.id = late.id RETURNING c.ref",
        now_us, silent_before_us, APPLIED, SENT, EXPIRED, SILENT, UNSENT,
    )  # fmt: skip
    return [row["ref"] for row in rows]


async def doubt(connection: Any, applied_before_us: int, closed_before_us: int, now_us: int) -> list[int]:
    """Doubt what was not proven in time, and stop looking for what was not proven long after; the vehicles."""
    rows = await connection.fetch(
        "WITH old AS (SELECT id FROM command WHERE state = $4 AND doubt < 2 AND (doubt = 0 AND applied_us <= $1"
        " OR applied_us <= $2) AND applied_us <= $1 ORDER BY id LIMIT 5000 FOR UPDATE)"
        " UPDATE command c SET code = 'command.unproven', changed_us = CASE WHEN doubt = 0 THEN $3 ELSE changed_us END,"
        " doubt = CASE WHEN applied_us <= $2 THEN 2 ELSE 1 END FROM old WHERE c.id = old.id RETURNING c.ref",
        applied_before_us, closed_before_us, now_us, APPLIED,
    )  # fmt: skip
    return [row["ref"] for row in rows]


async def forget(connection: Any, before_us: int) -> None:
    """Remove what ended long ago."""
    await connection.execute(
        "DELETE FROM command WHERE id IN"
        " (SELECT id FROM command WHERE created_us < $1 AND expires_us < $1 ORDER BY created_us LIMIT 5000)",
        before_us,
    )


async def erase(connection: Any, ref: int) -> None:
    """Remove a vehicle's commands inside the caller's transaction. The lanes' versions are no data of anybody."""
    await connection.execute(
        "DELETE FROM command WHERE id IN (SELECT id FROM command WHERE ref = $1 ORDER BY id FOR UPDATE)", ref
    )


async def recall(connection: Any, ref: int, at_us: int) -> None:
    """End what is open of a vehicle that changes hands, inside the caller's transaction."""
    await connection.execute(
        "WITH old AS (SELECT id FROM command WHERE ref = $1 AND state < $3 AND doubt < 2 ORDER BY id FOR UPDATE)"
        " UPDATE command c SET state = $4, code = 'command.owner_changed', ended_us = $2, changed_us = $2"
        " FROM old WHERE c.id = old.id",
        ref, at_us, VERIFIED, EXPIRED,
    )  # fmt: skip
    await notify(connection, CHANGED_CHANNEL, [ref])
