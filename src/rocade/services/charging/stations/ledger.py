"""What stations say, written a tick at a time and read again: transactions, meter values, connectors, boots, events.

Each statement of a tick takes all rows of its kind. Everything may be said twice: a transaction is known by (station, reference) or by
its number, a meter value by its digest; the second time changes nothing. What is measured, and at whose car, is sealed
(`sealing`): a tick reads its transactions under a lock, opens, changes and seals them, and writes them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.core.identifiers import VehicleRef
from rocade.services.charging.stations.model import Sample, Transaction
from rocade.services.charging.stations.sealing import READING, VALUES, Hand, row_of
from rocade.services.charging.stations.turning import Held, Known, Turned, Values, Went, begun, ended, last, turned
from rocade.trust.authority.sealing import REGION

EVENT_CHANNEL = "station_event"
type Executor = asyncpg.Connection | asyncpg.Pool


class Meter(msgspec.Struct, gc=False):
    station: str
    evse: int
    transaction: int
    vehicle: int | None
    sample: Sample


_encode = msgspec.msgpack.encode
_values = msgspec.msgpack.Decoder(Values).decode
_sample = msgspec.msgpack.Decoder(Sample).decode
_CLEAR = "number, station, reference, evse, connector, tag, began_us, ended_us, last_us, sequence, events"
_READ = f"SELECT {_CLEAR}, vehicle_sealed, body FROM station_transaction"
_INSERT = """
    INSERT INTO station_transaction (station, reference, evse, connector, tag, vehicle_blind, vehicle_sealed, began_us, ended_us, last_us,
        sequence, events, body, changed_us)
    SELECT station, reference, evse, connector, tag, blind, sealed, began_us, ended_us, last_us, sequence, events, body, $14 FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::int[], $5::int[], $6::bytea[], $7::bytea[], $8::bytea[], $9::bigint[], $10::bigint[],
        $11::bigint[], $12::int[], $13::int[], $15::bytea[])
        u(number, station, reference, evse, connector, tag, blind, sealed, began_us, ended_us, last_us, sequence, events, body)
    ON CONFLICT (station, reference) DO NOTHING RETURNING station, reference, number"""
_UPDATE = """
    UPDATE station_transaction t SET evse = u.evse, connector = u.connector, tag = u.tag, vehicle_blind = u.blind,
        vehicle_sealed = u.sealed, began_us = u.began_us, ended_us = u.ended_us, last_us = u.last_us, sequence = u.sequence,
        events = u.events, body = u.body, changed_us = $14
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[], $5::int[], $6::bytea[], $7::bytea[], $8::bytea[], $9::bigint[],
        $10::bigint[], $11::bigint[], $12::int[], $13::int[], $15::bytea[])
        u(number, station, reference, evse, connector, tag, blind, sealed, began_us, ended_us, last_us, sequence, events, body)
    WHERE t.number = u.number"""
_GO = """
    UPDATE station_transaction t SET ended_us = u.ended_us, last_us = u.last_us, body = u.body, changed_us = $5
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) u(number, ended_us, last_us, body) WHERE t.number = u.number"""
_METER = """
    INSERT INTO station_meter (station, evse, at_us, digest, transaction, is_owned, body)
    SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bool[], $7::bytea[])
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


async def turn(
    connection: asyncpg.Connection, hand: Hand, rows: Sequence[Turned], now_us: int
) -> dict[tuple[str, str], Known]:
    """Begin or change transactions by (station, reference); each pair once in `rows`."""
    await hand.take_owners({row.vehicle for row in rows if row.vehicle})
    held = await _named(connection, hand, rows)
    missing = [row for row in rows if (row.station, row.reference) not in held]
    made = await _insert(connection, hand, [begun(row, hand.has) for row in missing], now_us)
    if lost := [row for row in missing if (row.station, row.reference) not in made]:
        held |= await _named(connection, hand, lost)  # another process was first
    changed = [(one, row) for row in rows if (one := held.get((row.station, row.reference)))]
    new_owners = [one for one, row in changed if turned(one, row, hand.has)]
    await _update(connection, hand, [one for one, _ in changed], now_us)
    await _own(connection, hand, new_owners)
    return {
        key: Known(one.number, one.vehicle, one.evse, one.connector, key in made) for key, one in (made | held).items()
    }


async def go(
    connection: asyncpg.Connection, hand: Hand, rows: Sequence[Went], now_us: int
) -> dict[tuple[str, int], Known]:
    """Change transactions by number, each once in `rows`; those that are not there are missing in the answer."""
    found = await connection.fetch(
        f"{_READ} WHERE number = ANY($1::bigint[]) ORDER BY number FOR UPDATE", [row.number for row in rows]
    )
    held = {(one.station, one.number): one for one in await _opened(hand, found)}
    changed = [(one, row) for row in rows if (one := held.get((row.station, row.number)))]
    for one, row in changed:
        ended(one, row.ended_us, row.ended_wh, row.reason)
        last(one, row)
    if changed:
        await connection.execute(
            _GO,
            [one.number for one, _ in changed], [one.ended_us for one, _ in changed], [one.last_us for one, _ in changed],
            [_body(hand, one) for one, _ in changed], now_us,
        )  # fmt: skip
    return {(one.station, one.number): Known(one.number, one.vehicle, one.evse, one.connector) for one, _ in changed}


async def bind(connection: asyncpg.Connection, hand: Hand, number: int, vehicle: int | None, now_us: int) -> bool:
    """Say which vehicle hangs at an open transaction; what was measured there so far becomes its own."""
    await hand.take_owners([vehicle] if vehicle else [])
    rows = await connection.fetch(f"{_READ} WHERE number = $1 AND ended_us IS NULL FOR UPDATE", number)
    for one in await _opened(hand, rows):
        before, one.vehicle = one.owner, vehicle if vehicle and hand.has(vehicle) else None
        await _update(connection, hand, [one], now_us)
        await _own(connection, hand, [one], before)
    return bool(rows)


async def forget_vehicle(connection: asyncpg.Connection, hand: Hand, vehicle: int) -> None:
    """After erasure: neither tags nor transactions name it, and nothing that was measured at it is left."""
    await connection.execute("UPDATE station_tag SET vehicle = NULL WHERE vehicle = $1", vehicle)
    rows = await connection.fetch(
        "UPDATE station_transaction SET vehicle_blind = NULL, vehicle_sealed = NULL, tag = NULL, body = NULL"
        " WHERE vehicle_blind = $1 RETURNING station, number",
        hand.blind_vehicle(vehicle),
    )
    await connection.execute(
        "DELETE FROM station_meter m USING unnest($1::text[], $2::bigint[]) u(station, number)"
        " WHERE m.transaction = u.number AND m.station = u.station",
        [row["station"] for row in rows], [row["number"] for row in rows],
    )  # fmt: skip


async def _named(connection: asyncpg.Connection, hand: Hand, rows: Sequence[Turned]) -> dict[tuple[str, str], Held]:
    """Transactions by (station, reference), locked."""
    found = await connection.fetch(
        f"{_READ} WHERE (station, reference) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY number FOR UPDATE",
        [row.station for row in rows], [row.reference for row in rows],
    )  # fmt: skip
    return {(one.station, one.reference): one for one in await _opened(hand, found)}


async def _opened(hand: Hand, rows: Iterable[Any]) -> list[Held]:
    """Stored rows, opened. Of an erased vehicle nothing is told, and the row is nobody's."""
    found: list[tuple[Held, bytes | None]] = []
    for row in rows:
        number = row_of(row["station"], row["reference"])
        found.append((Held(*[number, *row[:11], hand.open_vehicle(row["vehicle_sealed"], number)]), row["body"]))
    await hand.take_owners({one.vehicle for one, _ in found if one.vehicle})
    for one, body in found:
        if (plain := hand.open(VALUES, one.owner, one.row, body)) is not None:
            one.values = _values(plain)
        elif one.vehicle and not hand.has(one.vehicle):
            one.vehicle = None
    return [one for one, _ in found]


async def _insert(
    connection: asyncpg.Connection, hand: Hand, held: Sequence[Held], now_us: int
) -> dict[tuple[str, str], Held]:
    """Those that were not there."""
    if not held:
        return {}
    numbers = {(row[0], row[1]): row[2] for row in await connection.fetch(_INSERT, *_columns(hand, held, now_us))}
    for one in held:
        one.number = numbers.get((one.station, one.reference), 0)
    return {(one.station, one.reference): one for one in held if one.number}


async def _update(connection: asyncpg.Connection, hand: Hand, held: Sequence[Held], now_us: int) -> None:
    if held:
        await connection.execute(_UPDATE, *_columns(hand, held, now_us))


def _columns(hand: Hand, held: Sequence[Held], now_us: int) -> list[Any]:
    return [
        [one.number for one in held], [one.station for one in held], [one.reference for one in held],
        [one.evse for one in held], [one.connector for one in held], [one.tag for one in held],
        [hand.blind_vehicle(one.vehicle) for one in held],
        [hand.seal_vehicle(one.vehicle, one.row) for one in held],
        [one.began_us for one in held], [one.ended_us for one in held], [one.last_us for one in held],
        [one.sequence for one in held], [one.events for one in held], now_us,
        [_body(hand, one) for one in held],
    ]  # fmt: skip


def _body(hand: Hand, one: Held) -> bytes:
    return hand.seal(VALUES, one.owner, one.row, _encode(one.values))


# --- meter values -------------------------------------------------------------------------------------------------------


async def add_meters(connection: asyncpg.Connection, hand: Hand, rows: Sequence[Meter]) -> None:
    """Each sealed with the key of the car it was measured at, which `turn` or `go` has at hand."""
    bodies = [_encode(row.sample) for row in rows]
    digests = [hand.digest(body) for body in bodies]
    owners = [row.vehicle or REGION for row in rows]
    sealed = [
        hand.seal(READING, owner, _reading_row(row.station, row.evse, row.sample.at_us, digest), body)
        for row, owner, digest, body in zip(rows, owners, digests, bodies, strict=True)
    ]
    await connection.execute(
        _METER,
        [row.station for row in rows], [row.evse for row in rows], [row.sample.at_us for row in rows], digests,
        [row.transaction for row in rows], [owner != REGION for owner in owners], sealed,
    )  # fmt: skip


async def _own(connection: asyncpg.Connection, hand: Hand, held: Sequence[Held], before: int = REGION) -> None:
    """What was measured at these transactions is sealed anew for whom they are now."""
    for one in held:
        rows = await connection.fetch(
            "SELECT station, evse, at_us, digest, is_owned, body FROM station_meter WHERE transaction = $1 AND station = $2",
            one.number, one.station,
        )  # fmt: skip
        changed = []
        for station, evse, at_us, digest, is_owned, body in rows:
            row = _reading_row(station, evse, at_us, digest)
            if (plain := hand.open(READING, before if is_owned else REGION, row, body)) is not None:
                changed.append(
                    (station, evse, at_us, digest, bool(one.vehicle), hand.seal(READING, one.owner, row, plain))
                )
        await connection.executemany(
            "UPDATE station_meter SET is_owned = $5, body = $6 WHERE station = $1 AND evse = $2 AND at_us = $3 AND digest = $4",
            changed,
        )


def _reading_row(station: str, evse: int, at_us: int, digest: int) -> int:
    return row_of(station, evse, at_us, digest)


# --- the rest of a tick -------------------------------------------------------------------------------------------------


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
    connection: asyncpg.Connection, hand: Hand, vehicles: Sequence[int], numbers: Sequence[int]
) -> list[tuple[int, str, int, int, int]]:
    """(vehicle, station, evse, connector, number) of open transactions of these vehicles, but for `numbers`."""
    blinds = {hand.blind_vehicle(vehicle): vehicle for vehicle in vehicles}
    rows = await connection.fetch(
        "SELECT vehicle_blind, station, evse, connector, number FROM station_transaction"
        " WHERE vehicle_blind = ANY($1::bytea[]) AND ended_us IS NULL AND number <> ALL($2::bigint[])",
        list(blinds), list(numbers),
    )  # fmt: skip
    return [(blinds[row[0]], *row[1:]) for row in rows]


# --- reading -------------------------------------------------------------------------------------------------


async def _transactions(hand: Hand, rows: Iterable[Any]) -> list[Transaction]:
    return [
        Transaction(
            number=one.number, station=one.station, evse=one.evse, connector=one.connector, reference=one.reference,
            began_us=one.began_us, began_wh=one.values.began_wh, ended_us=one.ended_us, ended_wh=one.values.ended_wh,
            reason=one.values.reason, vehicle=VehicleRef(one.vehicle) if one.vehicle else None, last_us=one.last_us,
            last_wh=one.values.last_wh, last_w=one.values.last_w, last_soc=one.values.last_soc,
            missing=one.sequence + 1 - one.events if one.sequence > 0 else 0,
        )
        for one in await _opened(hand, rows)
    ]  # fmt: skip


async def open_of_vehicles(executor: Executor, hand: Hand, vehicles: Sequence[int]) -> list[Transaction]:
    """The newest open transaction of each."""
    rows = await executor.fetch(
        f"SELECT DISTINCT ON (vehicle_blind) {_CLEAR}, vehicle_sealed, body FROM station_transaction"
        " WHERE vehicle_blind = ANY($1::bytea[]) AND ended_us IS NULL ORDER BY vehicle_blind, began_us DESC",
        [hand.blind_vehicle(vehicle) for vehicle in vehicles],
    )
    return await _transactions(hand, rows)


async def open_at(executor: Executor, hand: Hand, station: str, evse: int | None = None) -> list[Transaction]:
    rows = await executor.fetch(
        f"{_READ} WHERE station = $1 AND ended_us IS NULL AND ($2::int IS NULL OR evse = $2) ORDER BY began_us DESC",
        station, evse,
    )  # fmt: skip
    return await _transactions(hand, rows)


async def read_transaction(executor: Executor, hand: Hand, number: int) -> Transaction | None:
    rows = await executor.fetch(f"{_READ} WHERE number = $1", number)
    return next(iter(await _transactions(hand, rows)), None)


async def changed_since(
    executor: Executor, hand: Hand, changed_us: int, number: int, count: int
) -> list[tuple[int, Transaction]]:
    """(changed_us, transaction) in the order of change, after (changed_us, number)."""
    rows = await executor.fetch(
        f"SELECT {_CLEAR}, vehicle_sealed, body, changed_us FROM station_transaction WHERE (changed_us, number) > ($1, $2)"
        " ORDER BY changed_us, number LIMIT $3",
        changed_us, number, count,
    )  # fmt: skip
    return [(row["changed_us"], one) for row, one in zip(rows, await _transactions(hand, rows), strict=True)]


async def transactions_of(executor: Executor, hand: Hand, station: str, before: int, count: int) -> list[Transaction]:
    rows = await executor.fetch(
        f"{_READ} WHERE station = $1 AND number < $2 ORDER BY number DESC LIMIT $3", station, before, count
    )
    return await _transactions(hand, rows)


_METERS = """
    SELECT m.station, m.evse, m.at_us, m.digest, m.body, t.reference, CASE WHEN m.is_owned THEN t.vehicle_sealed END AS whose, m.is_owned
    FROM station_meter m LEFT JOIN station_transaction t ON t.number = m.transaction AND t.station = m.station
    WHERE m.station = $1 AND m.evse = $2"""


async def samples(
    executor: Executor, hand: Hand, station: str, evse: int, transaction: int, from_us: int, until_us: int, count: int
) -> list[Sample]:
    """Values of an EVSE (`transaction` 0 = of all transactions) in the order of time, the oldest first."""
    rows = await executor.fetch(
        f"{_METERS} AND m.at_us >= $4 AND m.at_us < $5 AND ($3 = 0 OR m.transaction = $3) ORDER BY m.at_us LIMIT $6",
        station, evse, transaction, from_us, until_us, count,
    )  # fmt: skip
    return await _samples(hand, rows)


async def last_sample(executor: Executor, hand: Hand, station: str, evse: int) -> Sample | None:
    rows = await executor.fetch(f"{_METERS} ORDER BY m.at_us DESC LIMIT 1", station, evse)
    return next(iter(await _samples(hand, rows)), None)


async def _samples(hand: Hand, rows: Sequence[Any]) -> list[Sample]:
    """Those that still open."""
    cars = {(row[0], row[5], row[6]) for row in rows if row[6] is not None}
    whose = {sealed: hand.open_vehicle(sealed, row_of(station, reference)) for station, reference, sealed in cars}
    await hand.take_owners({vehicle for vehicle in whose.values() if vehicle})
    found = []
    for station, evse, at_us, digest, body, _, sealed, is_owned in rows:
        owner = whose.get(sealed) if is_owned else REGION
        plain = (
            hand.open(READING, owner, _reading_row(station, evse, at_us, digest), body) if owner is not None else None
        )
        if plain is not None:
            found.append(_sample(plain))
    return found


async def trim(executor: Executor, before_us: int) -> int:
    """Drop meter values, events and settled orders of long ago; how many values."""
    await executor.execute("DELETE FROM station_event WHERE at_us < $1", before_us)
    await executor.execute("DELETE FROM station_order WHERE made_us < $1", before_us)
    return int(str(await executor.execute("DELETE FROM station_meter WHERE at_us < $1", before_us)).split()[-1])
