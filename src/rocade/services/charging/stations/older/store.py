"""Seals what was written in clear; transactions before meter values: whose a meter value is stands there.

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
from rocade.services.charging.stations.store import ANSWER, LABEL, ORDER, tag_row
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
        "SELECT number, station, reference, vehicle, tag, began_wh, ended_wh, reason, last_wh, last_w, last_soc"
        " FROM station_transaction WHERE number > $1 AND body IS NULL ORDER BY number LIMIT $2", number, ROWS,
    ):  # fmt: skip
        await hand.take_owners({row["vehicle"] for row in rows if row["vehicle"]})
        await connection.executemany(
            "UPDATE station_transaction SET reference = $2, vehicle_blind = $3, vehicle_sealed = $4, body = $5, tag = $6,"
            " vehicle = NULL, began_wh = NULL, ended_wh = NULL, reason = '', last_wh = NULL, last_w = NULL, last_soc = NULL WHERE number = $1",
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
    body = hand.seal(VALUES, vehicle or REGION, place, msgspec.msgpack.encode(Values(*row[5:])))
    tag = hand.blind_tag(row["tag"]) if row["tag"] else None
    return row["number"], reference, hand.blind_vehicle(vehicle), hand.seal_vehicle(vehicle, place), body, tag


async def _blind_tags(connection: asyncpg.Connection, columns: Columns) -> int:
    """Digests under a key that lies in a file, under one of custody as well."""
    hand = await Hand.of(columns)
    rows = await connection.fetch("SELECT digest FROM station_tag")
    await connection.executemany(
        "UPDATE station_tag SET digest = $2 WHERE digest = $1", [(row[0], hand.blind_tag(row[0])) for row in rows]
    )
    return len(rows)


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


async def _seal_older_labels(connection: Any, columns: Columns) -> int:
    rows = await connection.fetch("SELECT digest, reference, label FROM station_tag WHERE label_sealed IS NULL")
    sealed = await columns.seal_text(LABEL, [(REGION, tag_row(row["reference"]), row["label"]) for row in rows])
    await connection.executemany(
        "UPDATE station_tag SET label = NULL, label_sealed = $2 WHERE digest = $1",
        [(row["digest"], label) for row, label in zip(rows, sealed, strict=True)],
    )
    return len(rows)


async def _seal_older_orders(connection: Any, columns: Columns) -> int:
    rows = await connection.fetch(
        "SELECT id, station, act, made_us, body::text, answer::text FROM station_order WHERE body_sealed IS NULL"
    )
    bodies = await columns.seal(ORDER, [(REGION, row_of(row[1], row[2], row[3]), row[4].encode()) for row in rows])
    answers = await columns.seal(ANSWER, [(REGION, row["id"], (row["answer"] or "{}").encode()) for row in rows])
    await connection.executemany(
        "UPDATE station_order SET body = NULL, answer = NULL, body_sealed = $2, answer_sealed = $3 WHERE id = $1",
        [(row["id"], body, answer) for row, body, answer in zip(rows, bodies, answers, strict=True)],
    )
    return len(rows)


OLDER = (
    Older(LABEL.name, ("station_tag",), _seal_older_labels),
    Older(ORDER.name, ("station_order",), _seal_older_orders),
    Older(VALUES.name, ("station_transaction",), _seal_transactions),
    Older("station_tag.digest", ("station_tag",), _blind_tags),
    Older(READING.name, ("station_meter",), _seal_meters),
)
