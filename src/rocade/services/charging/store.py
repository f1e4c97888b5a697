"""SQL of goals, cars, plans, alerts, depots and what changed. Functions with a `connection` run inside the caller's transaction.

What tells when somebody leaves home and for where (goals with their calendars, plans, alerts) and what he drives is sealed with
a key of the vehicle's reference; rows whose key was destroyed are read over.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.charging import errors
from rocade.services.charging.model import Alert, CarFacts, ChargeSite, Dimming, Goal, Place, StoredPlan
from rocade.trust.authority.sealing import Group
from rocade.trust.authority.sealing.columns import Column, Columns
from rocade.trust.authority.sealing.older import body

CHANNEL = "charging_changed"
_CHANGE_LOCK = 0x6368617267696E67
"""Advisory lock of changes ("charging"): their numbers commit in order, so a reader beyond one misses none."""
KEPT_CHANGES = 100_000
GOAL, CAR, PLAN, ALERT = (
    Column(name, Group.SERVICE)
    for name in ("charging_goal.body", "charging_car.body", "charging_plan.body", "charging_alert.facts")
)
OLDER = (
    body(GOAL, ("ref",), row="version::bigint"),
    body(CAR, ("ref",)),
    body(PLAN, ("ref", "version"), row="version::bigint"),
    body(ALERT, ("id",), row="0"),
)
"""Rows from before they were sealed."""
_goal = msgspec.msgpack.Decoder(Goal).decode
_car = msgspec.msgpack.Decoder(CarFacts).decode
_plan = msgspec.msgpack.Decoder(StoredPlan).decode
_site = msgspec.msgpack.Decoder(ChargeSite).decode
_facts = msgspec.msgpack.Decoder(dict[str, str | int | float]).decode
encode = msgspec.msgpack.encode
_PLACE, _DIMMING = ", ".join(Place.__struct_fields__), ", ".join(Dimming.__struct_fields__)


@contextlib.asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[Any]:
    """One transaction. Raises: Unavailable `database.down`."""
    try:
        async with database.pool.acquire() as connection, connection.transaction():
            yield connection
    except (*DOWN, TimeoutError) as error:
        raise errors.down(error) from error


# What changed -----------------------------------------------------------------------------------------------------------


async def note_changes(connection: Any, whats: Iterable[str], at_us: int) -> None:
    """Last thing in a transaction: number the changes (`goal:<ref>`, `car:<ref>`, `series:<id>`, `site:<id>`) and tell all."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _CHANGE_LOCK)
    await connection.execute(
        "INSERT INTO charging_change (what, at_us) SELECT what, $2 FROM unnest($1::text[]) what", list(whats), at_us
    )
    await connection.execute(f"NOTIFY {CHANNEL}")


async def newest_change(connection: Any) -> int:
    return int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM charging_change"))


async def changes(connection: Any, after: int, limit: int = 10_000) -> list[tuple[int, str]]:
    """(number, what) of changes beyond a number, in order."""
    rows = await connection.fetch(
        "SELECT number, what FROM charging_change WHERE number > $1 ORDER BY number LIMIT $2", after, limit
    )
    return [(row["number"], row["what"]) for row in rows]


async def trim(connection: Any, plans_before_us: int, alerts_before_us: int) -> None:
    """Forget old changes, superseded plans and ended alerts."""
    await connection.execute(
        "DELETE FROM charging_change WHERE number < (SELECT max(number) FROM charging_change) - $1", KEPT_CHANGES
    )
    await connection.execute(
        "DELETE FROM charging_plan p WHERE made_us < $1"
        " AND version < (SELECT max(version) FROM charging_plan n WHERE n.ref = p.ref)",
        plans_before_us,
    )
    await connection.execute("DELETE FROM charging_alert WHERE ended_us > 0 AND ended_us < $1", alerts_before_us)


# Goals and cars ---------------------------------------------------------------------------------------------------------


async def put_goal(connection: Any, columns: Columns, goal: Goal) -> Goal:
    """Store it under the next version; of several at once each waits for the one before."""
    await lock_plans(connection, [goal.ref])
    held = await connection.fetchval("SELECT version FROM charging_goal WHERE ref = $1", goal.ref)
    stored = msgspec.structs.replace(goal, version=(held or 0) + 1)
    [body] = await columns.seal(GOAL, [(stored.ref, stored.version, encode(stored))])
    await connection.execute(
        "INSERT INTO charging_goal (ref, version, body, is_stopped, set_us) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (ref) DO UPDATE SET version = excluded.version, body = excluded.body,"
        " is_stopped = excluded.is_stopped, set_us = excluded.set_us",
        stored.ref, stored.version, body, stored.is_stopped, stored.set_us,
    )  # fmt: skip
    return stored


async def goals(connection: Any, columns: Columns, refs: Sequence[int] | None = None) -> dict[int, Goal]:
    """Goals of these vehicles, or of all."""
    if refs is None:
        rows = await connection.fetch("SELECT ref, body, version FROM charging_goal")
    else:
        rows = await connection.fetch(
            "SELECT ref, body, version FROM charging_goal WHERE ref = ANY($1::bigint[])", list(refs)
        )
    bodies = await columns.open(GOAL, [(row["ref"], row["version"], row["body"]) for row in rows])
    return {
        row["ref"]: msgspec.structs.replace(_goal(body), version=row["version"])
        for row, body in zip(rows, bodies, strict=True)
        if body is not None
    }


async def goal_refs(connection: Any) -> list[int]:
    """All vehicles that have a goal."""
    return [row["ref"] for row in await connection.fetch("SELECT ref FROM charging_goal")]


async def drop_goal(connection: Any, ref: int) -> bool:
    return bool(await connection.execute("DELETE FROM charging_goal WHERE ref = $1", ref) == "DELETE 1")


async def put_car(connection: Any, columns: Columns, ref: int, car: CarFacts, at_us: int) -> None:
    [body] = await columns.seal(CAR, [(ref, 0, encode(car))])
    await connection.execute(
        "INSERT INTO charging_car (ref, body, changed_us) VALUES ($1, $2, $3)"
        " ON CONFLICT (ref) DO UPDATE SET body = excluded.body, changed_us = excluded.changed_us",
        ref, body, at_us,
    )  # fmt: skip


async def cars(connection: Any, columns: Columns, refs: Sequence[int]) -> dict[int, CarFacts]:
    rows = await connection.fetch("SELECT ref, body FROM charging_car WHERE ref = ANY($1::bigint[])", list(refs))
    bodies = await columns.open(CAR, [(row["ref"], 0, row["body"]) for row in rows])
    return {row["ref"]: _car(body) for row, body in zip(rows, bodies, strict=True) if body is not None}


async def forget(connection: Any, ref: int) -> None:
    """Everything about a reference, when its data are erased."""
    for table in ("goal", "car", "plan", "alert", "session", "place"):
        await connection.execute(f"DELETE FROM charging_{table} WHERE ref = $1", ref)


# Plans ------------------------------------------------------------------------------------------------------------------


async def add_plans(connection: Any, columns: Columns, plans: Sequence[StoredPlan]) -> list[StoredPlan]:
    """Store each under its vehicle's next version. Cost: two statements for all."""
    refs = [plan.ref for plan in plans]
    rows = await connection.fetch(
        "SELECT ref, max(version) AS version FROM charging_plan WHERE ref = ANY($1::bigint[]) GROUP BY ref", refs
    )
    last = {row["ref"]: row["version"] for row in rows}
    stored = [msgspec.structs.replace(plan, version=last.get(plan.ref, 0) + 1) for plan in plans]
    bodies = await columns.seal(PLAN, [(one.ref, one.version, encode(one)) for one in stored])
    await connection.executemany(
        "INSERT INTO charging_plan (ref, version, made_us, cause, body) VALUES ($1, $2, $3, $4, $5)",
        [(one.ref, one.version, one.made_us, one.cause, body) for one, body in zip(stored, bodies, strict=True)],
    )
    return stored


async def lock_plans(connection: Any, refs: Iterable[int]) -> None:
    """One writer of a vehicle's plans at a time, until the transaction ends; always in the same order."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('charging plan ' || ref, 5)) FROM unnest($1::bigint[]) ref",
        sorted(refs),
    )


async def plans(connection: Any, columns: Columns, refs: Sequence[int]) -> dict[int, StoredPlan]:
    """The newest plan of each."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (ref) ref, version, body FROM charging_plan WHERE ref = ANY($1::bigint[]) ORDER BY ref, version DESC",
        list(refs),
    )
    bodies = await columns.open(PLAN, [(row["ref"], row["version"], row["body"]) for row in rows])
    return {row["ref"]: _plan(body) for row, body in zip(rows, bodies, strict=True) if body is not None}


async def plan(connection: Any, columns: Columns, ref: int, version: int) -> StoredPlan | None:
    sealed = await connection.fetchval("SELECT body FROM charging_plan WHERE ref = $1 AND version = $2", ref, version)
    [body] = await columns.open(PLAN, [(ref, version, sealed)]) if sealed else [None]
    return _plan(body) if body else None


# Alerts -----------------------------------------------------------------------------------------------------------------


async def raise_alert(
    connection: Any, columns: Columns, ref: int, code: str, at_us: int, facts: Mapping[str, object]
) -> bool:
    """Open an alert; False where one of this code is open already (its facts are then renewed)."""
    [sealed] = await columns.seal(ALERT, [(ref, 0, encode(facts))])
    row = await connection.fetchrow(
        "INSERT INTO charging_alert (ref, code, began_us, facts) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (ref, code) WHERE ended_us = 0 DO UPDATE SET facts = excluded.facts RETURNING began_us = $3 AS made",
        ref, code, at_us, sealed,
    )  # fmt: skip
    return bool(row["made"])


async def end_alerts(connection: Any, ref: int, codes: Iterable[str], at_us: int) -> None:
    await connection.execute(
        "UPDATE charging_alert SET ended_us = $3 WHERE ref = $1 AND code = ANY($2::text[]) AND ended_us = 0",
        ref, list(codes), at_us,
    )  # fmt: skip


async def _alerts(columns: Columns, rows: Sequence[Any]) -> list[Alert]:
    bodies = await columns.open(ALERT, [(row["ref"], 0, row["facts"]) for row in rows])
    return [
        Alert(row["id"], row["ref"], row["code"], row["began_us"], row["ended_us"], _facts(body))
        for row, body in zip(rows, bodies, strict=True)
        if body is not None
    ]


async def open_alerts(connection: Any, columns: Columns, refs: Sequence[int]) -> list[Alert]:
    rows = await connection.fetch(
        "SELECT * FROM charging_alert WHERE ref = ANY($1::bigint[]) AND ended_us = 0 ORDER BY id", list(refs)
    )
    return await _alerts(columns, rows)


async def alert(connection: Any, columns: Columns, id: int) -> Alert | None:
    row = await connection.fetchrow("SELECT * FROM charging_alert WHERE id = $1", id)
    return next(iter(await _alerts(columns, [row] if row else [])), None)


async def alerts(connection: Any, columns: Columns, ref: int, limit: int = 100) -> list[Alert]:
    """The newest first, ended ones too."""
    rows = await connection.fetch("SELECT * FROM charging_alert WHERE ref = $1 ORDER BY id DESC LIMIT $2", ref, limit)
    return await _alerts(columns, rows)


# Sites ------------------------------------------------------------------------------------------------------------------


async def put_site(connection: Any, site: ChargeSite) -> None:
    await connection.execute(
        "INSERT INTO charging_site (id, body, building_kw, solar_kw, changed_us) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (id) DO UPDATE SET body = excluded.body, building_kw = excluded.building_kw,"
        " solar_kw = excluded.solar_kw, changed_us = excluded.changed_us",
        site.id, encode(site), site.building_kw, site.solar_kw, site.changed_us,
    )  # fmt: skip


async def sites(connection: Any, ids: Sequence[str] | None = None) -> dict[str, ChargeSite]:
    """These sites, or all."""
    query = "SELECT body, building_kw, solar_kw FROM charging_site"
    if ids is None:
        rows = await connection.fetch(f"{query} ORDER BY id")
    else:
        rows = await connection.fetch(f"{query} WHERE id = ANY($1::text[]) ORDER BY id", list(ids))
    found = [
        msgspec.structs.replace(_site(row["body"]), building_kw=row["building_kw"], solar_kw=row["solar_kw"])
        for row in rows
    ]
    return {site.id: site for site in found}


async def set_load(connection: Any, id: str, building_kw: float, solar_kw: float) -> bool:
    done = await connection.execute(
        "UPDATE charging_site SET building_kw = $2, solar_kw = $3 WHERE id = $1", id, building_kw, solar_kw
    )
    return bool(done == "UPDATE 1")


async def set_site_plan(connection: Any, id: str, body: bytes) -> None:
    await connection.execute("UPDATE charging_site SET plan = $2 WHERE id = $1", id, body)


async def site_plan(connection: Any, id: str) -> bytes | None:
    found: bytes | None = await connection.fetchval("SELECT plan FROM charging_site WHERE id = $1", id)
    return found


async def drop_site(connection: Any, id: str) -> bool:
    return bool(await connection.execute("DELETE FROM charging_site WHERE id = $1", id) == "DELETE 1")


async def put_place(connection: Any, place: Place) -> None:
    """A vehicle charges at one site at most: the newest word counts."""
    await connection.execute(
        f"INSERT INTO charging_place ({_PLACE}) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (ref) DO UPDATE SET"
        " site = excluded.site, node = excluded.node, priority = excluded.priority, connector = excluded.connector",
        *msgspec.structs.astuple(place),
    )


async def drop_place(connection: Any, site: str, ref: int) -> bool:
    done = await connection.execute("DELETE FROM charging_place WHERE site = $1 AND ref = $2", site, ref)
    return bool(done == "DELETE 1")


async def places(connection: Any, *, site: str | None = None, refs: Sequence[int] | None = None) -> list[Place]:
    """Places of a site, of these vehicles, or of all."""
    rows = await connection.fetch(
        f"SELECT {_PLACE} FROM charging_place WHERE ($1::text IS NULL OR site = $1)"
        " AND ($2::bigint[] IS NULL OR ref = ANY($2::bigint[])) ORDER BY site, ref",
        site, None if refs is None else list(refs),
    )  # fmt: skip
    return [Place(*row) for row in rows]


async def put_dimming(connection: Any, dimming: Dimming) -> None:
    """The same signal told again replaces what was told before."""
    await connection.execute(
        f"INSERT INTO charging_dimming ({_DIMMING}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        " ON CONFLICT (site, signal) DO UPDATE SET limit_kw = excluded.limit_kw, from_us = excluded.from_us,"
        " until_us = excluded.until_us, told_us = excluded.told_us, ended_us = excluded.ended_us, honoured_us = 0",
        *msgspec.structs.astuple(dimming),
    )


async def end_dimming(connection: Any, site: str, signal: str, at_us: int) -> bool:
    done = await connection.execute(
        "UPDATE charging_dimming SET ended_us = $3 WHERE site = $1 AND signal = $2 AND ended_us = 0 AND until_us > $3",
        site, signal, at_us,
    )  # fmt: skip
    return bool(done == "UPDATE 1")


async def honour_dimmings(connection: Any, site: str, at_us: int) -> None:
    """What holds now is kept by the plan that is on the road since `at_us`."""
    await connection.execute(
        "UPDATE charging_dimming SET honoured_us = $2 WHERE site = $1 AND honoured_us = 0 AND ended_us = 0"
        " AND told_us <= $2 AND until_us > $2",
        site, at_us,
    )  # fmt: skip


async def dimmings(connection: Any, site: str, after_us: int, limit: int = 1_000) -> list[Dimming]:
    """Those that end after an instant, the earliest first."""
    rows = await connection.fetch(
        f"SELECT {_DIMMING} FROM charging_dimming WHERE site = $1 AND until_us > $2 ORDER BY from_us, signal LIMIT $3",
        site, after_us, limit,
    )  # fmt: skip
    return [Dimming(*row) for row in rows]


async def fetch(database: Database, read: Any, *arguments: Any, **named: Any) -> Any:
    """One reader of this file on a connection of the pool. Raises: Unavailable `database.down`."""
    try:
        async with database.pool.acquire() as connection:
            return await read(connection, *arguments, **named)
    except (*DOWN, TimeoutError, asyncpg.TooManyConnectionsError) as error:
        raise errors.down(error) from error
