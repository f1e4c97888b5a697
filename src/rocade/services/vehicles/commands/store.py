"""SQL of commands. Whoever locks several commands locks them in order of id, so that no two wait crosswise.

Two channels tell other processes: `command_queued` names vehicles for which something is to be sent, `command_changed` those of
which a command changed; a payload is references in hexadecimal, or `*` for "look at everything". What commands say is sealed on the way in and opened on
the way out (`sealing`), with the keys the caller hands in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.services.vehicles import twin
from rocade.services.vehicles.commands import sealing
from rocade.services.vehicles.commands.model import (
    ACCEPTED,
    CLOSED,
    QUEUED,
    STATES,
    SUPERSEDED,
    VERIFIED,
    Moment,
    Standing,
)
from rocade.trust.authority.sealing import Keys
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.sealing.older import Older

QUEUED_CHANNEL, CHANGED_CHANNEL = "command_queued", "command_changed"

FEW = 20
"""Rows that are not worth a COPY."""
_PER_PAYLOAD = 400
_MOST_PAYLOADS = 50

_STANDING = (
    "id, ref, act, parameters, lane, version, actor, purpose, state, code, not_before_us, expires_us, changed_us, result, newer,"
    " doubt, sends, created_us, queued_us, sent_us, accepted_us, waking_us, applied_us, verified_us, ended_us"
)


_STANDING_COLUMNS = _STANDING.replace(" ", "").split(",")


class New(msgspec.Struct, frozen=True):
    """A command as it is written."""

    id: bytes
    ref: int
    lane: str
    version: int
    act: str
    parameters: bytes
    actor: str
    purpose: str
    key: str
    brand: str
    not_before_us: int
    expires_us: int
    sealed: bytes
    key_id: bytes
    created_us: int
    state: int
    queued_us: int
    changed_us: int


_TYPES = {bytes: "bytea", int: "bigint", str: "text"}
_NEW_FIELDS = [(field.name, _TYPES[field.type]) for field in msgspec.structs.fields(New)]
_INSERT = (
    f"INSERT INTO command ({', '.join(name for name, _ in _NEW_FIELDS)})"
    f" SELECT * FROM unnest({', '.join(f'${at}::{kind}[]' for at, (_, kind) in enumerate(_NEW_FIELDS, 1))})"
)


async def next_versions(
    connection: asyncpg.Connection, refs: Sequence[int], lanes: Sequence[str], issued_us: int
) -> dict[tuple[int, str], int]:
    """A newer version for each (vehicle, lane), each named once; the lanes are ours until the transaction ends.

    The rule is that of `wire.commands.next_version`.
    """
    rows = await connection.fetch(
        "INSERT INTO command_lane AS l SELECT ref, lane, $3 FROM unnest($1::bigint[], $2::text[]) AS u (ref, lane)"
        " ORDER BY ref, lane ON CONFLICT (ref, lane) DO UPDATE"
        " SET version = greatest(l.version + 1, excluded.version) RETURNING ref, lane, version",
        refs, lanes, issued_us,
    )  # fmt: skip
    return {(row["ref"], row["lane"]): row["version"] for row in rows}


async def supersede(
    connection: asyncpg.Connection, refs: Sequence[int], lanes: Sequence[str], ids: Sequence[bytes], at_us: int
) -> None:
    """End what is open in these lanes in favour of the new commands.

    Looked up first, locked and ended after by id alone: while statistics say that few are open, the planner takes the index of open
    commands for empty and reads it whole for each id.
    """
    is_open = f"state < {VERIFIED} AND doubt < {CLOSED}"
    found = await connection.fetch(
        "SELECT c.id, n.newer FROM unnest($1::bigint[], $2::text[], $3::bytea[]) AS n (ref, lane, newer) CROSS JOIN LATERAL"
        f" (SELECT id FROM command WHERE ref = n.ref AND lane = n.lane AND {is_open} OFFSET 0) c",
        refs, lanes, ids,
    )  # fmt: skip
    if not found:
        return
    newer = {row["id"]: row["newer"] for row in found}
    held = await connection.fetch(
        "SELECT id FROM unnest($1::bytea[]) AS n (one) CROSS JOIN LATERAL"
        f" (SELECT id, state, doubt FROM command WHERE id = n.one FOR UPDATE OFFSET 0) c WHERE {is_open}",
        sorted(newer),
    )
    old = [row["id"] for row in held]
    await connection.execute(
        f"UPDATE command c SET state = {SUPERSEDED}, code = 'command.superseded', newer = n.newer, ended_us = $3,"
        " changed_us = $3 FROM unnest($1::bytea[], $2::bytea[]) AS n (id, newer) WHERE c.id = n.id AND c.id = ANY($1::bytea[])",
        old, [newer[one] for one in old], at_us,
    )  # fmt: skip


async def add(connection: asyncpg.Connection, keys: Keys, commands: Sequence[New]) -> None:
    """Raises: asyncpg.UniqueViolationError where a key was used at the same moment."""
    held = await sealing.keys_for(keys, {one.ref for one in commands})
    parameters = sealing.seal_parts(held, sealing.PARAMETERS, ((one.ref, one.id, one.parameters) for one in commands))
    envelopes = sealing.seal_parts(held, sealing.ENVELOPE, ((one.ref, one.id, one.sealed) for one in commands))
    commands = [
        msgspec.structs.replace(one, parameters=said, sealed=envelope)
        for one, said, envelope in zip(commands, parameters, envelopes, strict=True)
    ]
    if len(commands) > FEW:
        columns = New.__struct_fields__
        await connection.copy_records_to_table(
            "command", records=map(msgspec.structs.astuple, commands), columns=columns
        )
    else:
        await connection.execute(_INSERT, *([getattr(one, name) for one in commands] for name, _ in _NEW_FIELDS))


async def notify(connection: asyncpg.Connection, channel: str, refs: Iterable[int]) -> None:
    """Tell on commit."""
    known = sorted(set(refs))
    payloads = [
        " ".join(f"{ref:x}" for ref in known[at : at + _PER_PAYLOAD]) for at in range(0, len(known), _PER_PAYLOAD)
    ]
    if len(payloads) > _MOST_PAYLOADS:
        payloads = ["*"]
    if payloads:
        await connection.execute("SELECT pg_notify($1, said) FROM unnest($2::text[]) AS said", channel, payloads)


async def hurry(connection: Any, channel: str) -> None:
    """Wake whoever listens."""
    await connection.execute("SELECT pg_notify($1, '')", channel)


def told(payload: str) -> list[int] | None:
    """The references of a payload; None = everything."""
    return None if payload in {"", "*"} else [int(one, 16) for one in payload.split()]


def standing_of(new: New, parameters: dict[str, Any]) -> Standing:
    """How a command stands that was just written."""
    life = [Moment("created", new.created_us)]
    if new.queued_us:
        life.append(Moment("queued", new.queued_us))
    return Standing(
        new.id.hex(), new.ref, new.act, parameters, new.lane, new.version, new.actor, new.purpose, STATES[new.state], "",
        new.not_before_us, new.expires_us, new.changed_us, tuple(life),
    )  # fmt: skip


# --- reading ----------------------------------------------------------------------------------------------------------


def _standing(row: Mapping[str, Any]) -> Standing:
    (
        id, ref, act, parameters, lane, version, actor, purpose, state, code, not_before_us, expires_us, changed_us, result,
        newer, doubt, sends, created_us, *instants,
    ) = (row[name] for name in _STANDING_COLUMNS)  # fmt: skip
    *reached, ended_us = instants
    life = [Moment("created", created_us)]
    life += [Moment(name, at_us) for name, at_us in zip(STATES[QUEUED:], reached, strict=False) if at_us]
    if ended_us and state > VERIFIED:
        life.append(Moment(STATES[state], ended_us))
    return Standing(
        id.hex(), ref, act, msgspec.json.decode(parameters), lane, version, actor, purpose, STATES[state], code,
        not_before_us, expires_us, changed_us, tuple(life), msgspec.json.decode(result) if result else {},
        newer.hex() if newer else "", bool(doubt), sends,
    )  # fmt: skip


async def read(connection: Any, keys: Keys, ids: Sequence[bytes]) -> dict[bytes, Standing]:
    rows = await connection.fetch(f"SELECT {_STANDING} FROM command WHERE id = ANY($1::bytea[])", ids)
    return {row["id"]: _standing(row) for row in await sealing.opened(keys, rows)}


async def read_keys(
    connection: Any, keys: Keys, actors: Sequence[str], names: Sequence[str]
) -> dict[tuple[str, str], tuple[Standing, bytes]]:
    """What was ordered under these keys, with the parameters as they were written."""
    rows = await connection.fetch(
        "SELECT c.* FROM unnest($1::text[], $2::text[]) AS k (actor, key) CROSS JOIN LATERAL"
        f" (SELECT {_STANDING}, key FROM command WHERE actor = k.actor AND key = k.key AND key <> '' OFFSET 0) c",
        actors, names,
    )  # fmt: skip
    found = await sealing.opened(keys, rows)
    return {(row["actor"], row["key"]): (_standing(row), row["parameters"]) for row in found}


async def read_of(
    connection: Any, keys: Keys, ref: int, before_us: int, before_id: bytes, limit: int, *, is_open: bool
) -> list[Standing]:
    """Commands of a vehicle, the newest first, from before a place."""
    more = " AND state < 6 AND doubt < 1" if is_open else ""
    rows = await connection.fetch(
        f"SELECT {_STANDING} FROM command WHERE ref = $1 AND (created_us, id) < ($2, $3){more}"
        " ORDER BY created_us DESC, id DESC LIMIT $4",
        ref, before_us, before_id, limit,
    )  # fmt: skip
    return [_standing(row) for row in await sealing.opened(keys, rows)]


class Wakes(msgspec.Struct, frozen=True):
    """How often a vehicle was woken since an instant, when its newest data arrived, and its twin."""

    woken_us: list[int]
    arrived_us: int
    reported: bytes


async def read_wakes(connection: Any, keys: Keys, refs: Sequence[int], from_us: int, most: int) -> dict[int, Wakes]:
    """Those of these vehicles that were woken at least `most` times since an instant."""
    rows = await connection.fetch(
        "SELECT w.ref, w.woken, t.arrived_us FROM (SELECT ref, array_agg(waking_us) AS woken FROM command"
        " WHERE ref = ANY($1::bigint[]) AND waking_us > $2 GROUP BY ref HAVING count(*) >= $3) w LEFT JOIN twin t USING (ref)",
        refs, from_us, most,
    )  # fmt: skip
    twins = await twin.packed(connection, keys, [row["ref"] for row in rows], is_patient=True) if rows else {}
    return {
        row["ref"]: Wakes(row["woken"], row["arrived_us"] or 0, twins[row["ref"]][0] if row["ref"] in twins else b"")
        for row in rows
    }


async def _seal_older(connection: Any, columns: Columns) -> int:
    """Commands from before there was sealing."""
    rows = await connection.fetch("SELECT id, ref, parameters, result, sealed FROM command")
    for at in range(0, len(rows), 2_000):
        part = rows[at : at + 2_000]
        held = await sealing.keys_for(columns.keys, {row["ref"] for row in part})
        made = [(row["id"], *sealing.seal_stored(held, row)) for row in part if (row["ref"], sealing.COMMAND) in held]
        await connection.executemany("UPDATE command SET parameters = $2, result = $3, sealed = $4 WHERE id = $1", made)
    return len(rows)


OLDER = (Older("command.parameters", ("command",), _seal_older),)


# --- signers ----------------------------------------------------------------------------------------------------------


async def add_signer(connection: Any, key_id: bytes, chain: bytes, not_after_us: int) -> None:
    await connection.execute(
        "INSERT INTO command_signer VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", key_id, chain, not_after_us
    )


async def read_chain(connection: Any, key_id: bytes) -> bytes | None:
    chain: bytes | None = await connection.fetchval("SELECT chain FROM command_signer WHERE key_id = $1", key_id)
    return chain


async def read_ageing(connection: Any, keys: Keys, key_id: bytes, before_us: int) -> list[tuple[bytes, int, bytes]]:
    """(id, vehicle, envelope) of what no vehicle has yet and may not get before the key that signed it ends."""
    rows = await connection.fetch(
        "SELECT c.id, c.ref, c.sealed FROM command_signer s JOIN command c ON c.key_id = s.key_id AND c.expires_us > s.not_after_us"
        " WHERE s.key_id <> $1 AND s.not_after_us < $2 AND c.state < $3 LIMIT 1000",
        key_id, before_us, ACCEPTED,
    )  # fmt: skip
    return [(row["id"], row["ref"], row["sealed"]) for row in await sealing.opened(keys, rows) if row["sealed"]]


async def seal_again(connection: Any, keys: Keys, signed: Sequence[tuple[bytes, int, bytes]], key_id: bytes) -> None:
    """(id, vehicle, envelope): what these are sent as from now on."""
    held = await sealing.keys_for(keys, {ref for _, ref, _ in signed})
    ids = [id for id, _, _ in signed]
    sealed = sealing.seal_parts(held, sealing.ENVELOPE, ((ref, id, one) for id, ref, one in signed))
    await connection.execute(
        "WITH old AS (SELECT c.id, u.sealed FROM unnest($1::bytea[], $2::bytea[]) AS u (id, sealed)"
        " JOIN command c ON c.id = u.id WHERE c.state < $4 ORDER BY c.id FOR UPDATE OF c)"
        " UPDATE command c SET sealed = old.sealed, key_id = $3 FROM old WHERE c.id = old.id",
        ids, sealed, key_id, ACCEPTED,
    )  # fmt: skip
