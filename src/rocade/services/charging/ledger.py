"""SQL of what is added up over time: series of prices and CO2 with their values, and charging sessions.

A series' values never overlap: what an import brings replaces what it covers, so that a published price takes the place of
its forecast, and a forecast never that of a published one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.services.charging.model import Session, Tariff

_SESSION = ", ".join(Session.__struct_fields__)
_SERIES = ", ".join(Tariff.__struct_fields__)
_OWN = [name for name in Session.__struct_fields__ if name != "id"]


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


async def open_sessions(connection: Any, refs: Sequence[int] | None = None) -> dict[int, Session]:
    """Those that last, of these vehicles or of all."""
    rows = await connection.fetch(
        f"SELECT {_SESSION} FROM charging_session WHERE ended_us = 0 AND ref <> 0"
        " AND ($1::bigint[] IS NULL OR ref = ANY($1::bigint[]))",
        None if refs is None else list(refs),
    )
    return {row["ref"]: Session(*row) for row in rows}


async def put_session(connection: Any, session: Session, at_us: int, *, is_settled: bool = False) -> None:
    """Insert or replace."""
    names = ", ".join(_OWN)
    places = ", ".join(f"${at}" for at in range(2, len(_OWN) + 2))
    changed = ", ".join(f"{name} = excluded.{name}" for name in (*_OWN, "priced_us", "is_settled"))
    last = len(_OWN) + 2
    await connection.execute(
        f"INSERT INTO charging_session (id, {names}, priced_us, is_settled)"
        f" VALUES ($1, {places}, ${last}, ${last + 1}) ON CONFLICT (id) DO UPDATE SET {changed}",
        session.id, *(getattr(session, name) for name in _OWN), at_us, is_settled,
    )  # fmt: skip


async def sessions(connection: Any, ref: int, before_us: int, limit: int) -> list[Session]:
    """The newest first, those that began before an instant."""
    rows = await connection.fetch(
        f"SELECT {_SESSION} FROM charging_session WHERE ref = $1 AND began_us < $2 ORDER BY began_us DESC LIMIT $3",
        ref, before_us, limit,
    )  # fmt: skip
    return [Session(*row) for row in rows]


async def site_sessions(connection: Any, site: str, from_us: int, until_us: int) -> list[Session]:
    """Sessions of a site that touch [from, until), in order."""
    rows = await connection.fetch(
        f"SELECT {_SESSION} FROM charging_session WHERE site = $1 AND began_us < $3"
        " AND (ended_us = 0 OR ended_us > $2) ORDER BY began_us, id",
        site, from_us, until_us,
    )  # fmt: skip
    return [Session(*row) for row in rows]


async def session(connection: Any, id: str) -> Session | None:
    row = await connection.fetchrow(f"SELECT {_SESSION} FROM charging_session WHERE id = $1", id)
    return Session(*row) if row else None


async def unsettled(connection: Any, ended_before_us: int, limit: int = 200) -> list[Session]:
    """Ended sessions that are reckoned once more: what came late is counted then."""
    rows = await connection.fetch(
        f"SELECT {_SESSION} FROM charging_session WHERE NOT is_settled AND ended_us > 0 AND ended_us < $1"
        " ORDER BY ended_us LIMIT $2",
        ended_before_us, limit,
    )  # fmt: skip
    return [Session(*row) for row in rows]
