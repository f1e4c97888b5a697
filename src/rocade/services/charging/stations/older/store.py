"""Seals transactions and meter values that were written in clear, transactions first: whose a meter value is stands there.

Digests of meter values were made without a key, and names of transactions held what the meter showed: both are made anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.services.charging.stations.model import Sample
from rocade.services.charging.stations.sealing import READING, VALUES, Hand, row_of
from rocade.services.charging.stations.turning import Values
from rocade.trust.authority.sealing import REGION
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.sealing.older import Older

ROWS = 5_000
_NAMED_HERE = re.compile(r"\d+/.*/\d+", re.ASCII)


async def _seal_transactions(connection: asyncpg.Connection, columns: Columns) -> int:
    hand = await Hand.of(columns)
    number = count = 0
    while rows := await connection.fetch(
        "SELECT number, station, reference, vehicle, began_wh, ended_wh, reason, last_wh, last_w, last_soc"
        " FROM station_transaction WHERE number > $1 AND body IS NULL ORDER BY number LIMIT $2", number, ROWS,
    ):  # fmt: skip
        await hand.take_owners({row["vehicle"] for row in rows if row["vehicle"]})
        await connection.executemany(
            "UPDATE station_transaction SET reference = $2, vehicle_blind = $3, vehicle_sealed = $4, body = $5, vehicle = NULL,"
            " began_wh = NULL, ended_wh = NULL, reason = '', last_wh = NULL, last_w = NULL, last_soc = NULL WHERE number = $1",
            [_transaction(hand, row) for row in rows],
        )
        number, count = rows[-1]["number"], count + len(rows)
    return count


def _transaction(hand: Hand, row: Any) -> tuple[Any, ...]:
    reference = row["reference"]
    if _NAMED_HERE.fullmatch(reference):
        reference = hand.blind_reference(reference)
    vehicle = row["vehicle"] if row["vehicle"] and hand.has(row["vehicle"]) else None
    place = row_of(row["station"], reference)
    body = hand.seal(VALUES, vehicle or REGION, place, msgspec.msgpack.encode(Values(*row[4:])))
    return row["number"], reference, hand.blind_vehicle(vehicle), hand.seal_vehicle(vehicle, place), body


async def _seal_meters(connection: asyncpg.Connection, columns: Columns) -> int:
    hand = await Hand.of(columns)
    count = 0
    while rows := await connection.fetch(
        "SELECT m.ctid::text AS place, m.station, m.evse, m.at_us, m.energy_wh, m.power_w, m.current_a, m.voltage_v, m.soc,"
        " m.offered_a, m.context, m.other::text, t.reference, t.vehicle_sealed FROM station_meter m LEFT JOIN"
        " station_transaction t ON t.number = m.transaction AND t.station = m.station WHERE m.body IS NULL LIMIT $1", ROWS,
    ):  # fmt: skip
        owners = [_vehicle(hand, row) for row in rows]
        await hand.take_owners(set(owners))
        await connection.executemany(
            "UPDATE station_meter SET digest = $2, is_owned = $3, body = $4, energy_wh = NULL, power_w = NULL, current_a = NULL,"
            " voltage_v = NULL, soc = NULL, offered_a = NULL, context = NULL, other = NULL WHERE ctid = $1::text::tid",
            [
                _reading(hand, row, owner if hand.has(owner) else REGION)
                for row, owner in zip(rows, owners, strict=True)
            ],
        )
        count += len(rows)
    return count


def _vehicle(hand: Hand, row: Any) -> int:
    if row["vehicle_sealed"] is None:
        return REGION
    return hand.open_vehicle(row["vehicle_sealed"], row_of(row["station"], row["reference"])) or REGION


def _reading(hand: Hand, row: Any, owner: int) -> tuple[Any, ...]:
    station, evse, at_us = row["station"], row["evse"], row["at_us"]
    body = msgspec.msgpack.encode(
        Sample(
            at_us=at_us, energy_wh=row["energy_wh"], power_w=row["power_w"], current_a=_floats(row["current_a"]),
            voltage_v=_floats(row["voltage_v"]), soc_percent=row["soc"], offered_a=row["offered_a"],
            context=row["context"] or "", other=msgspec.json.decode(row["other"]) if row["other"] else {},
        )
    )  # fmt: skip
    digest = hand.digest(body)
    return row["place"], digest, owner != REGION, hand.seal(READING, owner, row_of(station, evse, at_us, digest), body)


def _floats(values: Sequence[float] | None) -> tuple[float, ...]:
    return tuple(values or ())


OLDER = (
    Older(VALUES.name, ("station_transaction",), _seal_transactions),
    Older(READING.name, ("station_meter",), _seal_meters),
)
