"""SQL of the dealers' room. Functions with a `connection` run inside the caller's transaction."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.dealers import errors
from rocade.services.dealers.model import (
    BrandAt,
    Compared,
    Dealer,
    Delegation,
    Example,
    Group,
    Move,
    NationalException,
    Order,
    Provider,
    Role,
    Shadow,
    Site,
)

CHANNEL = "dealers_changed"
ORDERS = "dealers_ordered"
EVERYTHING = "*"
_CHANGE_LOCK = 0x6465616C657273
"""Advisory lock of changes ("dealers"): their numbers commit in order, so a reader beyond one misses none."""
_OWN = ("id", "dealer", "name", "country", "primary", "address", "city", "latitude", "longitude", "timezone",
        "opening_hours", "phone", "opened_us", "closed_us")  # fmt: skip
"""Columns of `dealer_site`."""
_examples = msgspec.json.Decoder(list[Example]).decode


def _columns(struct: type[Any]) -> str:
    return ", ".join(f'"{name}"' for name in struct.__struct_fields__)


_DEALER, _DELEGATION, _ROLE = _columns(Dealer), _columns(Delegation), _columns(Role)
_EXCEPTION, _PROVIDER, _GROUP = _columns(NationalException), _columns(Provider), _columns(Group)
_SITE = ", ".join(f's."{name}"' for name in _OWN) + ', d."group"'


@contextlib.asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """One transaction.

    Raises: Unavailable `database.down`.
    """
    try:
        async with database.pool.acquire() as connection, connection.transaction():
            yield connection
    except DOWN as error:
        raise Unavailable("database.down", f"PostgreSQL does not answer: {type(error).__name__}") from error


# --- what changed ----------------------------------------------------------------------------------------------------


async def note_changes(connection: asyncpg.Connection, whats: Iterable[str], at_us: int) -> None:
    """Last thing in a transaction: number the changes and tell every process."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _CHANGE_LOCK)
    await connection.execute(
        "INSERT INTO dealer_change (what, at_us) SELECT what, $2 FROM unnest($1::text[]) what", list(whats), at_us
    )
    await connection.execute(
        "DELETE FROM dealer_change WHERE number < (SELECT max(number) FROM dealer_change) - 100000"
    )
    await connection.execute(f"NOTIFY {CHANNEL}")


async def change_bounds(connection: asyncpg.Connection) -> tuple[int, int]:
    """Lowest and highest number of the list; (0, 0) when nothing ever changed."""
    row = await connection.fetchrow(
        "SELECT coalesce(min(number), 0) AS low, coalesce(max(number), 0) AS high FROM dealer_change"
    )
    return row["low"], row["high"]


async def changes(connection: asyncpg.Connection, after: int, upto: int) -> set[str]:
    """What changed beyond number `after`, up to and with `upto`."""
    rows = await connection.fetch(
        "SELECT DISTINCT what FROM dealer_change WHERE number > $1 AND number <= $2", after, upto
    )
    return {row["what"] for row in rows}


# --- groups, dealers, sites ------------------------------------------------------------------------------------------


async def put_groups(connection: asyncpg.Connection, groups: Sequence[Group]) -> None:
    await connection.executemany(
        "INSERT INTO dealer_group (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        [msgspec.structs.astuple(one) for one in groups],
    )


async def put_dealers(connection: asyncpg.Connection, dealers: Sequence[Dealer]) -> None:
    await connection.executemany(
        f"INSERT INTO dealer ({_DEALER}) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
        ' "group" = excluded."group", country = excluded.country',
        [msgspec.structs.astuple(one) for one in dealers],
    )


async def put_sites(connection: asyncpg.Connection, sites: Sequence[Site]) -> None:
    """Insert or replace, brands and all."""
    names = ", ".join(f'"{name}"' for name in _OWN)
    values = ", ".join(f"${at}" for at in range(1, len(_OWN) + 1))
    updates = ", ".join(f'"{name}" = excluded."{name}"' for name in _OWN[1:])
    await connection.executemany(
        f"INSERT INTO dealer_site ({names}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {updates}",
        [[getattr(site, name) for name in _OWN] for site in sites],
    )
    await connection.execute("DELETE FROM dealer_brand WHERE site = ANY($1)", [site.id for site in sites])
    await connection.copy_records_to_table(
        "dealer_brand",
        records=[(site.id, *msgspec.structs.astuple(one)) for site in sites for one in site.brands],
        columns=["site", "brand", "sells", "services", "from_us", "until_us"],
    )


async def read_sites(connection: Any, ids: Sequence[str] | None = None) -> list[Site]:
    """These sites, or all."""
    where = "" if ids is None else "WHERE s.id = ANY($1)"
    rows = await connection.fetch(
        f"SELECT {_SITE} FROM dealer_site s JOIN dealer d ON d.id = s.dealer {where} ORDER BY s.id",
        *([] if ids is None else [list(ids)]),
    )
    return await _with_brands(connection, rows, ids)


async def _with_brands(connection: Any, rows: Sequence[Any], ids: Sequence[str] | None) -> list[Site]:
    """Two queries, put together here: right after an import a planner that knows no figures yet scans the table for each site."""
    brands: dict[str, list[BrandAt]] = {}
    where = "" if ids is None else "WHERE site = ANY($1)"
    columns = ", ".join(BrandAt.__struct_fields__)
    found = await connection.fetch(
        f"SELECT site, {columns} FROM dealer_brand {where} ORDER BY site, brand, from_us",
        *([] if ids is None else [list(ids)]),
    )
    for site, *values in found:
        brands.setdefault(site, []).append(BrandAt(*values))
    return [Site(**row, brands=tuple(brands.get(row["id"], ()))) for row in rows]


async def find_sites(connection: Any, after: str, limit: int, at_us: int, **wanted: str) -> list[Site]:
    """Sites beyond `after` in the order of their ids, of this group, dealer, country, primary or brand, or with these letters."""
    conditions = {
        "group": 'd."group" = {0}',
        "dealer": "s.dealer = {0}",
        "country": "s.country = {0}",
        "primary": 's."primary" = {0}',
        "brand": "EXISTS (SELECT 1 FROM dealer_brand b WHERE b.site = s.id AND b.brand = {0} AND b.from_us <= {1}"
        " AND b.until_us > {1})",
        "find": "(position(lower({0}) in lower(s.id || ' ' || s.name || ' ' || s.city)) > 0)",
    }
    values: list[object] = [after, limit, at_us]
    parts = ["s.id > $1", "$3::bigint IS NOT NULL"]
    for name, value in wanted.items():
        if value:
            values.append(value)
            parts.append(conditions[name].format(f"${len(values)}", "$3"))
    rows = await connection.fetch(
        f"SELECT {_SITE} FROM dealer_site s JOIN dealer d ON d.id = s.dealer WHERE {' AND '.join(parts)}"
        " ORDER BY s.id LIMIT $2", *values,
    )  # fmt: skip
    return await _with_brands(connection, rows, [row["id"] for row in rows])


async def read_dealers(connection: Any) -> list[Dealer]:
    return [Dealer(*row) for row in await connection.fetch(f"SELECT {_DEALER} FROM dealer ORDER BY id")]


async def read_groups(connection: Any) -> list[Group]:
    return [Group(*row) for row in await connection.fetch(f"SELECT {_GROUP} FROM dealer_group ORDER BY id")]


async def count_sites(connection: Any) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM dealer_site"))


# --- providers and delegations -----------------------------------------------------------------------------------------


async def put_provider(connection: asyncpg.Connection, one: Provider) -> None:
    await connection.execute(
        f"INSERT INTO dealer_provider ({_PROVIDER}) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        *msgspec.structs.astuple(one),
    )


async def read_providers(connection: Any) -> list[Provider]:
    return [Provider(*row) for row in await connection.fetch(f"SELECT {_PROVIDER} FROM dealer_provider ORDER BY id")]


async def add_delegation(connection: asyncpg.Connection, one: Delegation) -> None:
    await connection.execute(
        f"INSERT INTO dealer_delegation ({_DELEGATION}) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        *msgspec.structs.astuple(one),
    )


async def end_delegation(connection: asyncpg.Connection, id: str, at_us: int) -> bool:
    """False if there is none in force."""
    done = await connection.execute(
        "UPDATE dealer_delegation SET until_us = greatest($2, from_us) WHERE id = $1 AND until_us > $2", id, at_us
    )
    return bool(done == "UPDATE 1")


async def read_delegations(connection: Any, at_us: int) -> list[Delegation]:
    """Those that have not ended."""
    rows = await connection.fetch(
        f"SELECT {_DELEGATION} FROM dealer_delegation WHERE until_us > $1 ORDER BY from_us, id", at_us
    )
    return [Delegation(**{**row, "acts": tuple(row["acts"])}) for row in rows]


# --- roles of people -----------------------------------------------------------------------------------------------------


async def add_role(connection: asyncpg.Connection, one: Role) -> None:
    await connection.execute(
        f"INSERT INTO dealer_role ({_ROLE}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", *msgspec.structs.astuple(one)
    )


async def end_role(connection: asyncpg.Connection, id: str, site: str, at_us: int) -> str | None:
    """The person it was held by; None if there is none in force at this site."""
    person: str | None = await connection.fetchval(
        "UPDATE dealer_role SET until_us = greatest($3, from_us) WHERE id = $1 AND site = $2 AND until_us > $3"
        " RETURNING person", id, site, at_us,
    )  # fmt: skip
    return person


async def read_roles(
    connection: Any, at_us: int, *, people: Sequence[str] | None = None, site: str | None = None
) -> list[Role]:
    """Those that have not ended, of these people or of one site."""
    rows = await connection.fetch(
        f"SELECT {_ROLE} FROM dealer_role WHERE until_us > $1 AND ($2::text[] IS NULL OR person = ANY($2))"
        " AND ($3::text IS NULL OR site = $3) ORDER BY from_us, id", at_us, people and list(people), site,
    )  # fmt: skip
    return [Role(*row) for row in rows]


# --- national exceptions ---------------------------------------------------------------------------------------------------


async def put_exception(connection: asyncpg.Connection, one: NationalException) -> None:
    await connection.execute(
        f"INSERT INTO dealer_exception ({_EXCEPTION}) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (country, service, brand)"
        ' DO UPDATE SET "to" = excluded."to", may_cross = excluded.may_cross, note = excluded.note',
        *msgspec.structs.astuple(one),
    )


async def drop_exception(connection: asyncpg.Connection, country: str, service: str, brand: str) -> bool:
    done = await connection.execute(
        "DELETE FROM dealer_exception WHERE country = $1 AND service = $2 AND brand = $3", country, service, brand
    )
    return bool(done == "DELETE 1")


async def read_exceptions(connection: Any) -> list[NationalException]:
    rows = await connection.fetch(f"SELECT {_EXCEPTION} FROM dealer_exception ORDER BY country, service, brand")
    return [NationalException(*row) for row in rows]


# --- moving over -------------------------------------------------------------------------------------------------------------

_STATE = "COALESCE((SELECT m.state FROM dealer_move m WHERE m.site = s.id ORDER BY m.number DESC LIMIT 1), 'old')"


async def lock_state(connection: asyncpg.Connection, site: str) -> str:
    """How far a site is, its row locked until the transaction ends. Raises: Refused `dealers.site.unknown`."""
    if not await connection.fetchval("SELECT 1 FROM dealer_site WHERE id = $1 FOR UPDATE", site):
        raise errors.site_unknown()
    return str(await connection.fetchval(f"SELECT {_STATE} FROM dealer_site s WHERE id = $1", site))


async def read_states(connection: Any) -> dict[str, str]:
    """How far each site is that has ever moved."""
    rows = await connection.fetch("SELECT DISTINCT ON (site) site, state FROM dealer_move ORDER BY site, number DESC")
    return {row["site"]: row["state"] for row in rows}


async def add_move(connection: asyncpg.Connection, site: str, state: str, at_us: int, by: str, note: str) -> int:
    query = "INSERT INTO dealer_move (site, state, at_us, by, note) VALUES ($1, $2, $3, $4, $5) RETURNING number"
    return int(await connection.fetchval(query, site, state, at_us, by, note))


async def read_moves(connection: Any, site: str) -> list[Move]:
    rows = await connection.fetch(
        "SELECT number, site, state, at_us, by, note FROM dealer_move WHERE site = $1 ORDER BY number", site
    )
    return [Move(*row) for row in rows]


async def count_states(connection: Any) -> list[tuple[str, str, int]]:
    """(group, state, sites)."""
    rows = await connection.fetch(
        f'SELECT d."group", {_STATE} AS state, count(*) AS sites FROM dealer_site s JOIN dealer d ON d.id = s.dealer'
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def add_shadow(
    connection: asyncpg.Connection, site: str, list: str, seq: int, at_us: int, compared: Compared
) -> int:
    query = (
        "INSERT INTO dealer_shadow (site, list, seq, at_us, compared, same, differing, only_old, only_new, examples)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING number"
    )
    *counts, examples = msgspec.structs.astuple(compared)
    return int(await connection.fetchval(query, site, list, seq, at_us, *counts, msgspec.json.encode(examples)))


async def read_shadows(connection: Any, site: str, limit: int) -> list[Shadow]:
    """The newest first."""
    rows = await connection.fetch(
        "SELECT number, site, list, seq, at_us, compared, same, differing, only_old, only_new, examples FROM dealer_shadow"
        " WHERE site = $1 ORDER BY number DESC LIMIT $2", site, limit,
    )  # fmt: skip
    counts = ("compared", "same", "differing", "only_old", "only_new")
    return [
        Shadow(
            row["number"], row["site"], row["list"], row["seq"], row["at_us"],
            Compared(**{name: row[name] for name in counts}, examples=_examples(row["examples"])),
        )
        for row in rows
    ]  # fmt: skip


# --- orders to agents ----------------------------------------------------------------------------------------------------------

_ORDER = _columns(Order)


async def add_order(connection: asyncpg.Connection, site: str, what: str, by: str, at_us: int) -> int:
    query = "INSERT INTO dealer_order (site, what, by, at_us) VALUES ($1, $2, $3, $4) RETURNING number"
    number = int(await connection.fetchval(query, site, what, by, at_us))
    await connection.execute(f"NOTIFY {ORDERS}")
    return number


async def read_orders(connection: Any, site: str, limit: int) -> list[Order]:
    """The newest first."""
    rows = await connection.fetch(
        f"SELECT {_ORDER} FROM dealer_order WHERE site = $1 ORDER BY number DESC LIMIT $2", site, limit
    )
    return [Order(*row) for row in rows]


async def waiting_orders(connection: Any, since_us: int) -> list[Order]:
    """Those not sent yet that are not too old, in order."""
    rows = await connection.fetch(
        f"SELECT {_ORDER} FROM dealer_order WHERE sent_us = 0 AND at_us >= $1 ORDER BY number LIMIT 1000", since_us
    )
    return [Order(*row) for row in rows]


async def mark_sent(connection: asyncpg.Connection, number: int, at_us: int) -> None:
    await connection.execute("UPDATE dealer_order SET sent_us = $2 WHERE number = $1", number, at_us)
