"""SQL of what is added up over time: series of prices and CO2 with their values, and charging sessions.

A series' values never overlap: what an import brings replaces what it covers, so that a published price takes the place of
its forecast, and a forecast never that of a published one.

Of a session everything is sealed with a key of the vehicle's reference: where, how much, what it cost, how full the battery was. Reference
and instants stay readable, because sessions are found and settled by them; the depot is found by a blind index.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Refused
from rocade.services.charging.model import Session, Tariff
from rocade.trust.authority.sealing import Group
from rocade.trust.authority.sealing.columns import Column, Columns
from rocade.trust.authority.sealing.older import Older

SESSION = Column("charging_session.body", Group.SERVICE)
_SITE = "charging_session.site"
_READ = "SELECT ref, id, body FROM charging_session"
_decoded = msgspec.msgpack.Decoder(Session).decode
_SERIES = ", ".join(Tariff.__struct_fields__)


class Values(msgspec.Struct, frozen=True):
    """Values of a series in order of time, each for [start, end). Shape: all of one length."""

    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    is_forecast: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.start_us)


# Series -----------------------------------------------------------------------------------------------------------------


async def add_series(connection: Any, tariff: Tariff) -> Tariff:
    """Make it if there is none of this id; as it stands."""
    await connection.execute(
        "INSERT INTO charging_series (id, name, kind, currency, zone, area, changed_us)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        tariff.id, tariff.name, tariff.kind, tariff.currency, tariff.zone, tariff.area, tariff.changed_us,
    )  # fmt: skip
    (found,) = await series(connection, [tariff.id])
    return found


async def series(connection: Any, ids: Sequence[str] | None = None) -> list[Tariff]:
    """These series, or all."""
    if ids is None:
        rows = await connection.fetch(f"SELECT {_SERIES} FROM charging_series ORDER BY id")
    else:
        rows = await connection.fetch(
            f"SELECT {_SERIES} FROM charging_series WHERE id = ANY($1::text[]) ORDER BY id", list(ids)
        )
    return [Tariff(*row) for row in rows]


async def drop_series(connection: Any, id: str) -> bool:
    return bool(await connection.execute("DELETE FROM charging_series WHERE id = $1", id) == "DELETE 1")


async def put_values(connection: Any, id: str, values: Values, at_us: int) -> Tariff:
    """Lay these over what is there, cut what they cover; a forecast only where nothing is published."""
    await connection.execute("SELECT 1 FROM charging_series WHERE id = $1 FOR UPDATE", id)
    columns = [
        part.tolist()
        for part in (values.start_us, values.end_us, values.value, values.low, values.high, values.is_forecast)
    ]
    new = (
        "WITH new AS (SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[],"
        " $7::bool[]) AS n (start_us, end_us, value, low, high, is_forecast))"
    )
    await connection.execute(
        f"{new} DELETE FROM charging_value v USING new n WHERE v.series = $1 AND v.start_us < n.end_us"
        " AND v.end_us > n.start_us AND (v.is_forecast OR NOT n.is_forecast)",
        id, *columns,
    )  # fmt: skip
    await connection.execute(
        f"{new} INSERT INTO charging_value (series, start_us, end_us, value, low, high, is_forecast)"
        " SELECT $1, n.* FROM new n WHERE NOT EXISTS (SELECT FROM charging_value v WHERE v.series = $1"
        " AND v.start_us < n.end_us AND v.end_us > n.start_us)",
        id, *columns,
    )  # fmt: skip
    row = await connection.fetchrow(
        "UPDATE charging_series s SET version = version + 1, changed_us = $2, from_us = v.low, until_us = v.high,"
        " known_us = coalesce(v.known, v.low) FROM (SELECT min(start_us) AS low, max(end_us) AS high,"
        " max(end_us) FILTER (WHERE NOT is_forecast) AS known FROM charging_value WHERE series = $1) v"
        f" WHERE s.id = $1 RETURNING {', '.join('s.' + name for name in Tariff.__struct_fields__)}",
        id, at_us,
    )  # fmt: skip
    return Tariff(*row)


async def values(connection: Any, id: str, from_us: int, until_us: int) -> Values:
    """What lies in [from, until)."""
    rows = await connection.fetch(
        "SELECT start_us, end_us, value, low, high, is_forecast FROM charging_value"
        " WHERE series = $1 AND start_us < $3 AND end_us > $2 ORDER BY start_us",
        id, from_us, until_us,
    )  # fmt: skip
    kinds = (np.int64, np.int64, np.float64, np.float64, np.float64, np.bool_)
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return Values(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


# Sessions ---------------------------------------------------------------------------------------------------------------


async def open_sessions(connection: Any, columns: Columns, refs: Sequence[int] | None = None) -> dict[int, Session]:
    """Those that last, of these vehicles or of all."""
    rows = await connection.fetch(
        f"{_READ} WHERE ended_us = 0 AND ref <> 0 AND ($1::bigint[] IS NULL OR ref = ANY($1::bigint[]))",
        None if refs is None else list(refs),
    )
    return {one.ref: one for one in await _opened(columns, rows)}


async def put_session(
    connection: Any, columns: Columns, session: Session, at_us: int, *, is_settled: bool = False
) -> None:
    """Insert or replace. Of a vehicle whose data were erased meanwhile nothing is kept."""
    try:
        [body] = await columns.seal(SESSION, [_row(session, msgspec.msgpack.encode(session))])
    except Refused:
        return
    await connection.execute(
        "INSERT INTO charging_session (id, ref, began_us, ended_us, site_blind, body, priced_us, is_settled)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET ref = $2, began_us = $3, ended_us = $4,"
        " site_blind = $5, body = $6, priced_us = $7, is_settled = $8",
        session.id, session.ref, session.began_us, session.ended_us, await _blind(columns, session.site), body, at_us,
        is_settled,
    )  # fmt: skip


async def sessions(connection: Any, columns: Columns, ref: int, before_us: int, limit: int) -> list[Session]:
    """The newest first, those that began before an instant."""
    rows = await connection.fetch(
        f"{_READ} WHERE ref = $1 AND began_us < $2 ORDER BY began_us DESC LIMIT $3", ref, before_us, limit
    )
    return await _opened(columns, rows)


async def site_sessions(connection: Any, columns: Columns, site: str, from_us: int, until_us: int) -> list[Session]:
    """Sessions of a site that touch [from, until), in order."""
    rows = await connection.fetch(
        f"{_READ} WHERE site_blind = $1 AND began_us < $3 AND (ended_us = 0 OR ended_us > $2) ORDER BY began_us, id",
        await _blind(columns, site), from_us, until_us,
    )  # fmt: skip
    return await _opened(columns, rows)


async def session(connection: Any, columns: Columns, id: str) -> Session | None:
    return next(iter(await _opened(columns, await connection.fetch(f"{_READ} WHERE id = $1", id))), None)


async def unsettled(connection: Any, columns: Columns, ended_before_us: int, limit: int = 200) -> list[Session]:
    """Ended sessions that are reckoned once more: what came late is counted then."""
    rows = await connection.fetch(
        f"{_READ} WHERE NOT is_settled AND ended_us > 0 AND ended_us < $1 ORDER BY ended_us LIMIT $2",
        ended_before_us, limit,
    )  # fmt: skip
    return await _opened(columns, rows)


def _row(session: Session, body: bytes) -> tuple[int, int, bytes]:
    return session.ref, _number(session.id), body


def _number(id: str) -> int:
    """What tells sessions of one vehicle apart, in what is sealed."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest())


async def _opened(columns: Columns, rows: Sequence[Any]) -> list[Session]:
    """Those whose key is there still."""
    found = await columns.open(SESSION, [(row["ref"], _number(row["id"]), row["body"]) for row in rows])
    return [_decoded(body) for body in found if body is not None]


async def _blind(columns: Columns, site: str) -> bytes | None:
    return (await columns.index()).exact(_SITE, site) if site else None


async def _seal_older(connection: Any, columns: Columns) -> int:
    names = ", ".join(Session.__struct_fields__)
    found = [
        Session(*row) for row in await connection.fetch(f"SELECT {names} FROM charging_session WHERE body IS NULL")
    ]
    bodies = await columns.seal(SESSION, [_row(one, msgspec.msgpack.encode(one)) for one in found])
    await connection.executemany(
        "UPDATE charging_session SET body = $2, site_blind = $3, site = '', station = '', energy_kwh = 0, cost_minor = 0,"
        " currency = '', co2_g = 0, at_once_minor = 0, at_once_g = 0, source = '', soc_begin = NULL, soc_end = NULL,"
        " peak_kw = 0, goal_version = 0, tariff = '', carbon = '', is_forecast = false WHERE id = $1",
        [(one.id, body, await _blind(columns, one.site)) for one, body in zip(found, bodies, strict=True)],
    )
    return len(found)


OLDER = (Older(SESSION.name, ("charging_session",), _seal_older),)
"""Rows from before they were sealed."""
