"""SQL of stations, their tags, transactions as read, limits with how they stand, orders, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.services.charging.stations import errors
from rocade.services.charging.stations.model import (
    Connector,
    ConnectorState,
    Event,
    Limit,
    LimitState,
    Standing,
    Station,
    Tag,
)
from rocade.services.charging.stations.sealing import row_of
from rocade.trust.authority.sealing import REGION, Group
from rocade.trust.authority.sealing.columns import Column, Columns

LABEL, ORDER, ANSWER = (
    Column(name, Group.SERVICE) for name in ("station_tag.label", "station_order.body", "station_order.answer")
)
WORK_CHANNEL = "station_work"
"""A limit or an order waits for a station."""
LINE_CHANNEL = "station_line"
"""A station has connected to another process: 'process line id'."""
_STATION = (
    "id, name, site, profile, is_open, is_closed, phases, voltage, version, vendor, model, serial, firmware, booted_us,"
    " seen_us, process <> '' AS is_here, made_us"
)
type Executor = asyncpg.Connection | asyncpg.Pool
type Make = tuple[str, str, str]


class TagRow(msgspec.Struct, frozen=True, gc=False):
    vehicle: int | None
    ends_us: int | None
    is_blocked: bool


class Order(msgspec.Struct, frozen=True):
    """One act wanted of a station by somebody who does not hold its line."""

    id: int
    station: str
    act: str
    body: dict[str, Any]
    by: str
    expires_us: int


def _station(row: Any) -> Station:
    return Station(**dict(row))


# --- stations -------------------------------------------------------------------------------------------------------------


async def add(executor: Executor, station: Station, secret: bytes | None) -> None:
    """Raises: Refused `stations.exists`."""
    try:
        await executor.execute(
            "INSERT INTO station (id, name, site, profile, secret, is_open, phases, voltage, made_us)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            station.id, station.name, station.site, station.profile, secret, station.is_open, station.phases,
            station.voltage, station.made_us,
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        raise errors.exists() from None


async def read(executor: Executor, id: str) -> Station | None:
    row = await executor.fetchrow(f"SELECT {_STATION} FROM station WHERE id = $1", id)
    return _station(row) if row else None


async def read_many(executor: Executor, after: str, count: int, site: str = "") -> list[Station]:
    rows = await executor.fetch(
        f"SELECT {_STATION} FROM station WHERE id > $1 AND ($3 = '' OR site = $3) ORDER BY id LIMIT $2",
        after,
        count,
        site,
    )
    return [_station(row) for row in rows]


async def change(executor: Executor, id: str, changes: Mapping[str, Any]) -> bool:
    """Set name, site, profile, is_open, is_closed, phases or voltage."""
    names = [
        name for name in ("name", "site", "profile", "is_open", "is_closed", "phases", "voltage") if name in changes
    ]
    places = ", ".join(f"{name} = ${at}" for at, name in enumerate(names, 2))
    done = await executor.execute(f"UPDATE station SET {places} WHERE id = $1", id, *(changes[name] for name in names))
    return str(done).endswith(" 1")


async def read_with_secrets(executor: Executor, ids: Sequence[str]) -> dict[str, tuple[Station, list[bytes]]]:
    rows = await executor.fetch(f"SELECT {_STATION}, secret, next_secret FROM station WHERE id = ANY($1)", list(ids))
    found = {}
    for row in rows:
        columns = dict(row)
        secrets = [columns.pop("secret"), columns.pop("next_secret")]
        found[columns["id"]] = Station(**columns), [secret or b"" for secret in secrets if secret is not None]
    return found


async def put_next_secret(executor: Executor, id: str, secret: bytes, *, at_once: bool) -> None:
    """`at_once`: the old one ends now; else both open the door until the new one is used first."""
    columns = "secret = $2, next_secret = NULL" if at_once else "next_secret = $2"
    await executor.execute(f"UPDATE station SET {columns} WHERE id = $1", id, secret)


async def drop_next_secret(executor: Executor, id: str, secret: bytes) -> None:
    await executor.execute("UPDATE station SET next_secret = NULL WHERE id = $1 AND next_secret = $2", id, secret)


async def promote_secret(executor: Executor, id: str, secret: bytes) -> None:
    await executor.execute(
        "UPDATE station SET secret = next_secret, next_secret = NULL WHERE id = $1 AND next_secret = $2", id, secret
    )


async def claim_lines(executor: Executor, versions: Mapping[str, str], process: str, now_us: int) -> dict[str, int]:
    """These stations are here now; the process that had one is told."""
    rows = await executor.fetch(
        "WITH claimed AS (UPDATE station s SET line = line + 1, version = u.version, seen_us = $4, process = $3"
        " FROM unnest($1::text[], $2::text[]) u(id, version) WHERE s.id = u.id RETURNING s.id, s.line)"
        " SELECT id, line FROM claimed, pg_notify($5, $3 || ' ' || line || ' ' || id)",
        list(versions), list(versions.values()), process, now_us, LINE_CHANNEL,
    )  # fmt: skip
    return {row[0]: row[1] for row in rows}


async def release_line(executor: Executor, id: str, line: int, seen_us: int) -> None:
    await executor.execute(
        "UPDATE station SET process = '', seen_us = greatest(seen_us, $3) WHERE id = $1 AND line = $2",
        id,
        line,
        seen_us,
    )


async def release_all(executor: Executor, process: str) -> None:
    """After a crash of this process: none of its lines is up."""
    await executor.execute("UPDATE station SET process = '' WHERE process = $1", process)


async def put_seen(executor: Executor, seen: Mapping[str, int]) -> None:
    await executor.execute(
        "UPDATE station s SET seen_us = u.at_us FROM unnest($1::text[], $2::bigint[]) u(id, at_us) WHERE s.id = u.id",
        list(seen), list(seen.values()),
    )  # fmt: skip


async def read_connectors(executor: Executor, stations: Sequence[str]) -> list[ConnectorState]:
    rows = await executor.fetch(
        "SELECT station, evse, connector, state, error, at_us FROM station_connector WHERE station = ANY($1)"
        " ORDER BY station, evse, connector",
        list(stations),
    )
    return [ConnectorState(**dict(row)) for row in rows]


async def read_dialects(executor: Executor, ids: Sequence[str]) -> dict[str, bytes]:
    rows = await executor.fetch("SELECT id, dialect FROM station WHERE id = ANY($1) AND dialect IS NOT NULL", list(ids))
    return {row[0]: row[1] for row in rows}


async def read_kin(executor: Executor, id: str, most: int = 20) -> list[bytes]:
    """What other stations of the same make, model and firmware have shown."""
    rows = await executor.fetch(
        "SELECT o.dialect FROM station s JOIN station o ON (o.vendor, o.model, o.firmware) = (s.vendor, s.model, s.firmware)"
        " WHERE s.id = $1 AND o.id <> s.id AND s.vendor <> '' AND o.dialect IS NOT NULL LIMIT $2",
        id, most,
    )  # fmt: skip
    return [row[0] for row in rows]


async def read_make(executor: Executor, id: str) -> tuple[bytes | None, Make]:
    """What it has shown, and as which make, model and firmware."""
    row = await executor.fetchrow("SELECT dialect, vendor, model, firmware FROM station WHERE id = $1", id)
    return (row[0], (row[1], row[2], row[3])) if row else (None, ("", "", ""))


async def put_dialect(executor: Executor, id: str, dialect: bytes, make: Make) -> None:
    """Keep it unless the station has become another meanwhile."""
    await executor.execute(
        "UPDATE station SET dialect = $2 WHERE id = $1 AND (vendor, model, firmware) = ($3, $4, $5)", id, dialect, *make
    )


# --- tags -----------------------------------------------------------------------------------------------------------------


async def read_tags(executor: Executor, digests: Sequence[bytes]) -> dict[bytes, TagRow]:
    rows = await executor.fetch(
        "SELECT digest, vehicle, ends_us, is_blocked FROM station_tag WHERE digest = ANY($1)", list(digests)
    )
    return {row[0]: TagRow(row[1], row[2], row[3]) for row in rows}


async def put_tag(executor: Executor, columns: Columns, digest: bytes, tag: Tag, now_us: int) -> None:
    """The label, which may say whose it is, is sealed."""
    [label] = await columns.seal_text(LABEL, [(REGION, tag_row(tag.reference), tag.label)])
    await executor.execute(
        "INSERT INTO station_tag (digest, reference, vehicle, label_sealed, ends_us, is_blocked, made_us)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (digest) DO UPDATE SET vehicle = excluded.vehicle,"
        " label_sealed = excluded.label_sealed, ends_us = excluded.ends_us, is_blocked = excluded.is_blocked",
        digest, tag.reference, tag.vehicle, label, tag.ends_us, tag.is_blocked, now_us,
    )  # fmt: skip


async def list_tags(executor: Executor, columns: Columns, after: str, count: int) -> list[Tag]:
    rows = await executor.fetch(
        "SELECT reference, vehicle, label_sealed, ends_us, is_blocked FROM station_tag WHERE reference > $1"
        " ORDER BY reference LIMIT $2",
        after, count,
    )  # fmt: skip
    sealed = [(REGION, tag_row(row["reference"]), row["label_sealed"]) for row in rows]
    labels = await columns.open_text(LABEL, sealed)
    return [
        Tag(
            reference=row["reference"],
            vehicle=row["vehicle"],
            label=label,
            ends_us=row["ends_us"],
            is_blocked=row["is_blocked"],
        )
        for row, label in zip(rows, labels, strict=True)
    ]


def tag_row(reference: str) -> int:
    return int(reference, 16)


async def drop_tag(executor: Executor, reference: str) -> bool:
    return str(await executor.execute("DELETE FROM station_tag WHERE reference = $1", reference)).endswith(" 1")


# --- limits ---------------------------------------------------------------------------------------------------------------


def _standing(row: Any) -> Standing:
    return Standing(
        place=Connector(row["station"], row["evse"], row["connector"]), version=row["version"],
        limit=msgspec.json.decode(row["body"], type=Limit), state=row["state"], purpose=row["purpose"], unit=row["unit"],
        code=row["code"], at_us=row["at_us"],
    )  # fmt: skip


async def want_limit(executor: Executor, place: Connector, limit: Limit, now_us: int) -> Standing:
    """The limit now wanted at this connector; it takes the place of the one before."""
    row = await executor.fetchrow(
        "INSERT INTO station_limit AS l (station, evse, connector, version, body, until_us, state, at_us)"
        " VALUES ($1, $2, $3, 1, $4, $5, 'wanted', $6) ON CONFLICT (station, evse) DO UPDATE SET"
        " connector = excluded.connector, version = l.version + 1, body = excluded.body, until_us = excluded.until_us,"
        " state = 'wanted', code = '', at_us = excluded.at_us RETURNING *",
        place.station, place.evse, place.connector, msgspec.json.encode(limit), limit.until_us, now_us,
    )  # fmt: skip
    await executor.execute("SELECT pg_notify($1, $2)", WORK_CHANNEL, place.station)
    return _standing(row)


async def put_limit_state(
    executor: Executor,
    place: Connector,
    version: int,
    state: LimitState,
    purpose: str,
    unit: str,
    code: str,
    now_us: int,
) -> bool:
    """False if another version is wanted by now."""
    done = await executor.execute(
        "UPDATE station_limit SET state = $4, purpose = $5, unit = $6, code = $7, at_us = $8"
        " WHERE station = $1 AND evse = $2 AND version = $3",
        place.station, place.evse, version, state, purpose, unit, code, now_us,
    )  # fmt: skip
    return str(done).endswith(" 1")


async def end_limit(executor: Executor, station: str, evse: int, now_us: int) -> Standing | None:
    """Nothing is wanted there any more; what was."""
    row = await executor.fetchrow(
        "UPDATE station_limit SET state = 'ended', version = version + 1, at_us = $3"
        " WHERE station = $1 AND evse = $2 AND state <> 'ended' RETURNING *",
        station, evse, now_us,
    )  # fmt: skip
    await executor.execute("SELECT pg_notify($1, $2)", WORK_CHANNEL, station)
    return _standing(row) if row else None


async def end_past(executor: Executor, now_us: int) -> None:
    """Limits and orders whose time is over."""
    await executor.execute(
        "UPDATE station_order SET state = 'expired', at_us = $1 WHERE state = 'queued' AND expires_us <= $1", now_us
    )
    await executor.execute("UPDATE station_limit SET state = 'ended' WHERE state <> 'ended' AND until_us <= $1", now_us)


async def read_limits(executor: Executor, stations: Sequence[str]) -> list[Standing]:
    """All but ended ones."""
    rows = await executor.fetch(
        "SELECT * FROM station_limit WHERE station = ANY($1) AND state <> 'ended' ORDER BY station, evse",
        list(stations),
    )
    return [_standing(row) for row in rows]


async def read_limit(executor: Executor, station: str, evse: int) -> Standing | None:
    row = await executor.fetchrow("SELECT * FROM station_limit WHERE station = $1 AND evse = $2", station, evse)
    return _standing(row) if row else None


# --- orders and events ----------------------------------------------------------------------------------------------------


async def add_order(
    executor: Executor,
    columns: Columns,
    station: str,
    act: str,
    body: Mapping[str, Any],
    by: str,
    now_us: int,
    expires_us: int,
) -> int:
    """What is wanted may name a vehicle, and what is answered too: both are sealed."""
    [sealed] = await columns.seal(ORDER, [(REGION, row_of(station, act, now_us), msgspec.json.encode(body))])
    id: int = await executor.fetchval(
        "INSERT INTO station_order (station, act, body_sealed, by, made_us, expires_us) VALUES ($1, $2, $3, $4, $5, $6)"
        " RETURNING id",
        station, act, sealed, by, now_us, expires_us,
    )  # fmt: skip
    await executor.execute("SELECT pg_notify($1, $2)", WORK_CHANNEL, station)
    return id


async def claim_orders(executor: Executor, columns: Columns, stations: Sequence[str], now_us: int) -> list[Order]:
    """What waits for these stations, each given out once."""
    rows = await executor.fetch(
        "UPDATE station_order SET state = CASE WHEN expires_us > $2 THEN 'sent' ELSE 'expired' END, at_us = $2 WHERE id IN"
        " (SELECT id FROM station_order WHERE station = ANY($1) AND state = 'queued' ORDER BY id LIMIT 500"
        " FOR UPDATE SKIP LOCKED) RETURNING id, station, act, body_sealed, by, expires_us, made_us",
        list(stations), now_us,
    )  # fmt: skip
    sealed = [(REGION, row_of(row["station"], row["act"], row["made_us"]), row["body_sealed"]) for row in rows]
    bodies = [msgspec.json.decode(body or b"{}") for body in await columns.open(ORDER, sealed)]
    orders = [Order(row[0], row[1], row[2], body, row[4], row[5]) for row, body in zip(rows, bodies, strict=True)]
    return sorted((one for one in orders if one.expires_us > now_us), key=lambda one: one.id)


async def settle_order(
    executor: Executor, columns: Columns, id: int, state: str, answer: Mapping[str, Any], code: str, now_us: int
) -> None:
    [sealed] = await columns.seal(ANSWER, [(REGION, id, msgspec.json.encode(answer))])
    await executor.execute(
        "UPDATE station_order SET state = $2, answer_sealed = $3, code = $4, at_us = $5 WHERE id = $1",
        id, state, sealed, code, now_us,
    )  # fmt: skip
    await executor.execute("SELECT pg_notify($1, $2)", f"{WORK_CHANNEL}_done", str(id))


async def read_order(executor: Executor, columns: Columns, id: int) -> tuple[str, dict[str, Any], str] | None:
    """(state, answer, code)."""
    row = await executor.fetchrow("SELECT state, answer_sealed, code FROM station_order WHERE id = $1", id)
    if row is None:
        return None
    [answer] = await columns.open(ANSWER, [(REGION, id, row[1])]) if row[1] else [None]
    return row[0], msgspec.json.decode(answer) if answer else {}, row[2]


async def has_work(executor: Executor, stations: Sequence[str]) -> tuple[bool, list[Standing]]:
    """Whether orders wait for these stations, and the limits wanted there that were not sent yet."""
    rows = await executor.fetch(
        "SELECT * FROM station_limit WHERE station = ANY($1) AND state = 'wanted'", list(stations)
    )
    waits = await executor.fetchval(
        "SELECT EXISTS (SELECT FROM station_order WHERE station = ANY($1) AND state = 'queued')", list(stations)
    )
    return bool(waits), [_standing(row) for row in rows]


async def add_event(executor: Executor, event: Event) -> None:
    await executor.execute(
        "INSERT INTO station_event (station, at_us, kind, evse, transaction, code) VALUES ($1, $2, $3, $4, $5, $6)",
        event.station, event.at_us, event.kind, event.evse, event.transaction, event.code,
    )  # fmt: skip


async def read_events(executor: Executor, station: str, before: int, count: int) -> list[tuple[int, Event]]:
    rows = await executor.fetch(
        "SELECT id, kind, station, at_us, evse, transaction, code FROM station_event"
        " WHERE ($1 = '' OR station = $1) AND id < $2 ORDER BY id DESC LIMIT $3",
        station, before, count,
    )  # fmt: skip
    return [
        (row["id"], Event(kind=row["kind"], station=row["station"], at_us=row["at_us"], evse=row["evse"],
                          transaction=row["transaction"], code=row["code"]))
        for row in rows
    ]  # fmt: skip
