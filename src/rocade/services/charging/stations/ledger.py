"""What stations say, written a tick at a time and read again: transactions, meter values, connectors, boots, events.

Each statement of a tick takes all rows of its kind. Everything may be said twice: a transaction is known by (station, reference) or by
its number, a meter value by its digest; the second time changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.services.charging.stations.model import Sample, Transaction

EVENT_CHANNEL = "station_event"
_TRANSACTION = (
    "number, station, evse, connector, reference, began_us, began_wh, ended_us, ended_wh, reason, vehicle, last_us, last_wh,"
    " last_w, last_soc, CASE WHEN sequence > 0 THEN sequence + 1 - events ELSE 0 END AS missing"
)
type Executor = asyncpg.Connection | asyncpg.Pool


class Turned(msgspec.Struct, gc=False):
    """A transaction named by (station, reference), as one message or several of a tick changed it."""

    station: str
    reference: str
    evse: int
    connector: int
    tag: bytes | None
    vehicle: int | None
    began_us: int
    began_wh: float | None
    ended_us: int | None
    ended_wh: float | None
    reason: str
    last_us: int
    last_wh: float | None
    last_w: float | None
    last_soc: float | None
    sequence: int


class Known(msgspec.Struct, gc=False):
    """What the table says of a transaction after the tick."""

    number: int
    vehicle: int | None
    evse: int
    connector: int
    is_new: bool = False


class Went(msgspec.Struct, gc=False):
    """A transaction named by its number (1.6) goes on or ends."""

    station: str
    number: int
    ended_us: int | None
    ended_wh: float | None
    reason: str
    last_us: int
    last_wh: float | None
    last_w: float | None
    last_soc: float | None


class Meter(msgspec.Struct, gc=False):
    station: str
    evse: int
    transaction: int
    digest: int
    sample: Sample


_TURN = """
    INSERT INTO station_transaction AS t (station, reference, evse, connector, tag, vehicle, began_us, began_wh, ended_us,
        ended_wh, reason, last_us, last_wh, last_w, last_soc, sequence, events, changed_us)
    SELECT u.*, 1, $17 FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::bytea[], $6::bigint[], $7::bigint[],
        $8::float8[], $9::bigint[], $10::float8[], $11::text[], $12::bigint[], $13::float8[], $14::real[], $15::real[],
        $16::int[]) u
    ON CONFLICT (station, reference) DO UPDATE SET
        evse = CASE WHEN t.evse = 0 THEN excluded.evse ELSE t.evse END,
        connector = CASE WHEN t.evse = 0 THEN excluded.connector ELSE t.connector END,
        tag = coalesce(t.tag, excluded.tag), vehicle = coalesce(t.vehicle, excluded.vehicle),
        began_us = least(t.began_us, excluded.began_us), began_wh = coalesce(t.began_wh, excluded.began_wh),
        ended_us = coalesce(t.ended_us, excluded.ended_us), ended_wh = coalesce(t.ended_wh, excluded.ended_wh),
        reason = CASE WHEN t.reason = '' THEN excluded.reason ELSE t.reason END,
        last_us = greatest(t.last_us, excluded.last_us),
        last_wh = CASE WHEN excluded.last_us >= t.last_us THEN coalesce(excluded.last_wh, t.last_wh) ELSE t.last_wh END,
        last_w = CASE WHEN excluded.last_us >= t.last_us THEN coalesce(excluded.last_w, t.last_w) ELSE t.last_w END,
        last_soc = CASE WHEN excluded.last_us >= t.last_us THEN coalesce(excluded.last_soc, t.last_soc) ELSE t.last_soc END,
        sequence = greatest(t.sequence, excluded.sequence),
        events = t.events + (excluded.sequence > t.sequence)::int, changed_us = excluded.changed_us
    RETURNING station, reference, number, vehicle, evse, connector, (xmax = 0) AS is_new"""
_GO = """
    UPDATE station_transaction t SET
        ended_us = coalesce(t.ended_us, u.ended_us), ended_wh = coalesce(t.ended_wh, u.ended_wh),
        reason = CASE WHEN t.reason = '' THEN u.reason ELSE t.reason END,
        last_us = greatest(t.last_us, u.last_us),
        last_wh = CASE WHEN u.last_us >= t.last_us THEN coalesce(u.last_wh, t.last_wh) ELSE t.last_wh END,
        last_w = CASE WHEN u.last_us >= t.last_us THEN coalesce(u.last_w, t.last_w) ELSE t.last_w END,
        last_soc = CASE WHEN u.last_us >= t.last_us THEN coalesce(u.last_soc, t.last_soc) ELSE t.last_soc END,
        changed_us = $10
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::float8[], $5::text[], $6::bigint[], $7::float8[], $8::real[],
        $9::real[]) u(station, number, ended_us, ended_wh, reason, last_us, last_wh, last_w, last_soc)
    WHERE t.number = u.number AND t.station = u.station
    RETURNING t.station, t.number, t.vehicle, t.evse, t.connector"""
_METER = """
    INSERT INTO station_meter (station, evse, at_us, digest, transaction, energy_wh, power_w, current_a, voltage_v, soc, offered_a,
        context, other)
    SELECT station, evse, at_us, digest, transaction, energy_wh, power_w, current_a::real[], voltage_v::real[], soc, offered_a,
        context, other::jsonb
    FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::float8[], $7::real[], $8::text[],
        $9::text[], $10::real[], $11::real[], $12::text[], $13::text[])
        u(station, evse, at_us, digest, transaction, energy_wh, power_w, current_a, voltage_v, soc, offered_a, context, other)
    ON CONFLICT DO NOTHING"""
_CONNECTOR = """
    INSERT INTO station_connector AS c SELECT * FROM unnest($1::text[], $2::int[], $3::int[], $4::text[], $5::text[], $6::bigint[])
    ON CONFLICT (station, evse, connector) DO UPDATE SET state = excluded.state, error = excluded.error, at_us = excluded.at_us
    WHERE c.at_us <= excluded.at_us"""
_BOOT = """
    UPDATE station s SET vendor = u.vendor, model = u.model, serial = u.serial, firmware = u.firmware, booted_us = $6, seen_us = $6,
        dialect = CASE WHEN (s.vendor, s.model, s.firmware) = (u.vendor, u.model, u.firmware) THEN s.dialect END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) u(id, vendor, model, serial, firmware)
    WHERE s.id = u.id"""
_EVENT = """
    INSERT INTO station_event (station, at_us, kind, evse, transaction, code)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::int[], $5::bigint[], $6::text[])"""


async def turn(connection: asyncpg.Connection, rows: Sequence[Turned], now_us: int) -> dict[tuple[str, str], Known]:
    """Begin or change transactions by (station, reference); each pair once in `rows`."""
    columns = [[getattr(row, name) for row in rows] for name in Turned.__struct_fields__]
    found = await connection.fetch(_TURN, *columns, now_us)
    return {(row[0], row[1]): Known(row[2], row[3], row[4], row[5], row[6]) for row in found}


async def go(connection: asyncpg.Connection, rows: Sequence[Went], now_us: int) -> dict[tuple[str, int], Known]:
    """Change transactions by number, each once in `rows`; those that are not there are missing in the answer."""
    columns = [[getattr(row, name) for row in rows] for name in Went.__struct_fields__]
    found = await connection.fetch(_GO, *columns, now_us)
    return {(row[0], row[1]): Known(row[1], row[2], row[3], row[4]) for row in found}


async def add_meters(connection: asyncpg.Connection, rows: Sequence[Meter]) -> None:
    samples = [row.sample for row in rows]
    await connection.execute(
        _METER,
        [row.station for row in rows], [row.evse for row in rows], [one.at_us for one in samples],
        [row.digest for row in rows], [row.transaction for row in rows], [one.energy_wh for one in samples],
        [one.power_w for one in samples], [_array(one.current_a) for one in samples],
        [_array(one.voltage_v) for one in samples], [one.soc_percent for one in samples],
        [one.offered_a for one in samples], [one.context for one in samples],
        [msgspec.json.encode(one.other).decode() if one.other else None for one in samples],
    )  # fmt: skip


def _array(values: tuple[float, ...]) -> str | None:
    """Arrays of several lengths do not fit into one array: they travel as text."""
    return "{" + ",".join(map(repr, values)) + "}" if values else None


async def put_connectors(connection: asyncpg.Connection, rows: Sequence[tuple[str, int, int, str, str, int]]) -> None:
    """(station, evse, connector, state, error, at_us), each connector once."""
    await connection.execute(_CONNECTOR, *map(list, zip(*rows, strict=True)))


async def put_boots(
    connection: asyncpg.Connection, rows: Sequence[tuple[str, str, str, str, str]], now_us: int
) -> None:
    """(id, vendor, model, serial, firmware). New firmware may accept other things: what was learnt is forgotten."""
    await connection.execute(_BOOT, *map(list, zip(*rows, strict=True)), now_us)


async def add_events(connection: asyncpg.Connection, rows: Sequence[tuple[str, int, str, int, int, str]]) -> None:
    """(station, at_us, kind, evse, transaction, code); whoever listens is told at commit."""
    await connection.execute(_EVENT, *map(list, zip(*rows, strict=True)))
    await connection.execute("SELECT pg_notify($1, '')", EVENT_CHANNEL)


async def open_elsewhere(
    connection: asyncpg.Connection, vehicles: Sequence[int], numbers: Sequence[int]
) -> list[tuple[int, str, int, int, int]]:
    """(vehicle, station, evse, connector, number) of open transactions of these vehicles, but for `numbers`."""
    rows = await connection.fetch(
        "SELECT vehicle, station, evse, connector, number FROM station_transaction"
        " WHERE vehicle = ANY($1::bigint[]) AND ended_us IS NULL AND number <> ALL($2::bigint[])",
        list(vehicles), list(numbers),
    )  # fmt: skip
    return [tuple(row) for row in rows]


# --- reading -------------------------------------------------------------------------------------------------


def _transaction(row: Any) -> Transaction:
    return Transaction(**dict(row))


async def open_of_vehicle(executor: Executor, vehicle: int) -> Transaction | None:
    """The newest open transaction."""
    row = await executor.fetchrow(
        f"SELECT {_TRANSACTION} FROM station_transaction WHERE vehicle = $1 AND ended_us IS NULL"
        " ORDER BY began_us DESC LIMIT 1",
        vehicle,
    )
    return _transaction(row) if row else None


async def open_of_vehicles(executor: Executor, vehicles: Sequence[int]) -> list[Transaction]:
    """The newest open transaction of each."""
    rows = await executor.fetch(
        f"SELECT DISTINCT ON (vehicle) {_TRANSACTION} FROM station_transaction"
        " WHERE vehicle = ANY($1::bigint[]) AND ended_us IS NULL ORDER BY vehicle, began_us DESC",
        list(vehicles),
    )
    return [_transaction(row) for row in rows]


async def open_at(executor: Executor, station: str, evse: int | None = None) -> list[Transaction]:
    rows = await executor.fetch(
        f"SELECT {_TRANSACTION} FROM station_transaction WHERE station = $1 AND ended_us IS NULL"
        " AND ($2::int IS NULL OR evse = $2) ORDER BY began_us DESC",
        station, evse,
    )  # fmt: skip
    return [_transaction(row) for row in rows]


async def read_transaction(executor: Executor, number: int) -> Transaction | None:
    row = await executor.fetchrow(f"SELECT {_TRANSACTION} FROM station_transaction WHERE number = $1", number)
    return _transaction(row) if row else None


async def changed_since(executor: Executor, changed_us: int, number: int, count: int) -> list[tuple[int, Transaction]]:
    """(changed_us, transaction) in the order of change, after (changed_us, number)."""
    rows = await executor.fetch(
        f"SELECT changed_us, {_TRANSACTION} FROM station_transaction WHERE (changed_us, number) > ($1, $2)"
        " ORDER BY changed_us, number LIMIT $3",
        changed_us, number, count,
    )  # fmt: skip
    return [(row["changed_us"], Transaction(**{k: v for k, v in row.items() if k != "changed_us"})) for row in rows]


async def transactions_of(executor: Executor, station: str, before: int, count: int) -> list[Transaction]:
    rows = await executor.fetch(
        f"SELECT {_TRANSACTION} FROM station_transaction WHERE station = $1 AND number < $2 ORDER BY number DESC LIMIT $3",
        station, before, count,
    )  # fmt: skip
    return [_transaction(row) for row in rows]


async def samples(
    executor: Executor, station: str, evse: int, transaction: int, from_us: int, until_us: int, count: int
) -> list[Sample]:
    """Values of an EVSE (`transaction` 0 = of all transactions) in the order of time, the oldest first."""
    rows = await executor.fetch(
        "SELECT at_us, energy_wh, power_w, current_a, voltage_v, soc, offered_a, context, other::text FROM station_meter"
        " WHERE station = $1 AND evse = $2 AND at_us >= $4 AND at_us < $5 AND ($3 = 0 OR transaction = $3)"
        " ORDER BY at_us LIMIT $6",
        station, evse, transaction, from_us, until_us, count,
    )  # fmt: skip
    return [_sample(row) for row in rows]


async def last_sample(executor: Executor, station: str, evse: int) -> Sample | None:
    row = await executor.fetchrow(
        "SELECT at_us, energy_wh, power_w, current_a, voltage_v, soc, offered_a, context, other::text FROM station_meter"
        " WHERE station = $1 AND evse = $2 ORDER BY at_us DESC LIMIT 1",
        station, evse,
    )  # fmt: skip
    return _sample(row) if row else None


def _sample(row: Any) -> Sample:
    at_us, energy_wh, power_w, current_a, voltage_v, soc, offered_a, context, other = row
    return Sample(
        at_us=at_us, energy_wh=energy_wh, power_w=power_w, current_a=tuple(current_a or ()),
        voltage_v=tuple(voltage_v or ()), soc_percent=soc, offered_a=offered_a, context=context,
        other=msgspec.json.decode(other) if other else {},
    )  # fmt: skip


async def trim(executor: Executor, before_us: int) -> int:
    """Drop meter values, events and settled orders of long ago; how many values."""
    await executor.execute("DELETE FROM station_event WHERE at_us < $1", before_us)
    await executor.execute("DELETE FROM station_order WHERE made_us < $1", before_us)
    return int(str(await executor.execute("DELETE FROM station_meter WHERE at_us < $1", before_us)).split()[-1])
