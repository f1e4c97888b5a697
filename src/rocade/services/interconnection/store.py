"""SQL of interconnection. Functions with a `connection` run inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec

from rocade.services.interconnection.model import Device, Line, NamedService, Opening, Rule

CHANNEL = "interconnection_changed"


def _columns(struct: type[Any]) -> str:
    return ", ".join(struct.__struct_fields__)


_SERVICE, _RULE, _OPENING = _columns(NamedService), _columns(Rule), _columns(Opening)
_DEVICE, _LINE = _columns(Device), _columns(Line)


def _make[T: msgspec.Struct](shape: type[T], row: Any) -> T:
    return shape(**dict(row))


async def next_number(connection: asyncpg.Connection) -> int:
    """Number this change and tell every process; serialises changes."""
    number = await connection.fetchval("UPDATE interconnection_policy SET number = number + 1 RETURNING number")
    await connection.execute(f"NOTIFY {CHANNEL}")
    return int(number)


async def policy_number(connection: Any) -> int:
    return int(await connection.fetchval("SELECT number FROM interconnection_policy"))


async def services(connection: Any) -> list[NamedService]:
    rows = await connection.fetch(f"SELECT {_SERVICE} FROM interconnection_service ORDER BY name")
    return [_make(NamedService, row) for row in rows]


async def put_service(connection: asyncpg.Connection, service: NamedService) -> None:
    await connection.execute(
        f"INSERT INTO interconnection_service ({_SERVICE}) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name)"
        " DO UPDATE SET at = $2, host = $3, port = $4, priority = $5, about = $6",
        *msgspec.structs.astuple(service),
    )


async def drop_service(connection: asyncpg.Connection, name: str) -> bool:
    return bool(await connection.execute("DELETE FROM interconnection_service WHERE name = $1", name) == "DELETE 1")


async def rules(connection: Any) -> list[Rule]:
    return [
        _make(Rule, row) for row in await connection.fetch(f"SELECT {_RULE} FROM interconnection_rule ORDER BY number")
    ]


async def add_rule(connection: asyncpg.Connection, rule: Rule) -> int | None:
    """Its number; None if there is no such service."""
    number = await connection.fetchval(
        "INSERT INTO interconnection_rule (service, caller, device, connections, per_minute, rate_bytes_s, day_bytes,"
        " from_us, until_us) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9"
        " WHERE EXISTS (SELECT FROM interconnection_service WHERE name = $1) RETURNING number",
        *msgspec.structs.astuple(rule)[1:],
    )
    return None if number is None else int(number)


async def drop_rule(connection: asyncpg.Connection, number: int) -> bool:
    return bool(await connection.execute("DELETE FROM interconnection_rule WHERE number = $1", number) == "DELETE 1")


async def add_opening(connection: asyncpg.Connection, site: str, device: str, service: str, rule: int, code: str,
                      at_us: int) -> int:  # fmt: skip
    """Write down one opening or refusal, and the device that asked; its id."""
    if device:
        await connection.execute(
            "INSERT INTO interconnection_device VALUES ($1, $2, $3, $3, 1) ON CONFLICT (site, name)"
            " DO UPDATE SET last_us = $3, openings = interconnection_device.openings + 1",
            site, device, at_us,
        )  # fmt: skip
    number = await connection.fetchval(
        "INSERT INTO interconnection_opening (at_us, site, device, service, rule, code, is_refused, closed_us)"
        " VALUES ($1::bigint, $2, $3, $4, $5, $6::text, $6 <> '', CASE WHEN $6 = '' THEN NULL ELSE $1 END) RETURNING id",
        at_us, site, device, service, rule, code,
    )  # fmt: skip
    return int(number)


async def close_openings(connection: Any, closed: Sequence[tuple[int, int, str, int, int]]) -> None:
    """(id, closed_us, code, up_bytes, down_bytes) of streams that are over."""
    await connection.executemany(
        "UPDATE interconnection_opening SET closed_us = $2, code = $3, up_bytes = $4, down_bytes = $5 WHERE id = $1",
        closed,
    )


async def close_left_open(connection: Any, at_us: int, code: str) -> int:
    """What a relay that was killed had open; how many."""
    done = await connection.execute(
        "UPDATE interconnection_opening SET closed_us = $1, code = $2 WHERE closed_us IS NULL", at_us, code
    )
    return int(done.split()[-1])


async def add_traffic(connection: Any, counted: Iterable[tuple[str, str, int, int, int]]) -> None:
    """(site, service, hour_us, up_bytes, down_bytes) to add."""
    await connection.executemany(
        "INSERT INTO interconnection_traffic AS t VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hour_us, site, service)"
        " DO UPDATE SET up_bytes = t.up_bytes + $4, down_bytes = t.down_bytes + $5",
        list(counted),
    )


async def traffic(connection: Any, from_us: int, until_us: int) -> list[tuple[str, str, int, int, int]]:
    """(site, service, hour_us, up_bytes, down_bytes) of a period."""
    rows = await connection.fetch(
        "SELECT site, service, hour_us, up_bytes, down_bytes FROM interconnection_traffic"
        " WHERE hour_us >= $1 AND hour_us < $2 ORDER BY 1, 2, 3",
        from_us,
        until_us,
    )
    return [tuple(row) for row in rows]


async def openings(
    connection: Any, site: str, service: str, refused: bool | None, before: int, limit: int
) -> list[Opening]:
    """The newest first, below id `before`."""
    rows = await connection.fetch(
        f"SELECT {_OPENING} FROM interconnection_opening WHERE ($1 = '' OR site = $1) AND ($2 = '' OR service = $2)"
        " AND ($3::boolean IS NULL OR is_refused = $3) AND id < $4 ORDER BY id DESC LIMIT $5",
        site, service, refused, before, limit,
    )  # fmt: skip
    return [_make(Opening, row) for row in rows]


async def devices(connection: Any, site: str) -> list[Device]:
    rows = await connection.fetch(
        f"SELECT {_DEVICE} FROM interconnection_device WHERE $1 = '' OR site = $1 ORDER BY site, name LIMIT 10000", site
    )
    return [_make(Device, row) for row in rows]


async def lines(connection: Any) -> list[Line]:
    rows = await connection.fetch(f"SELECT {_LINE} FROM interconnection_line ORDER BY site, name")
    return [_make(Line, row) for row in rows]


async def put_line(connection: Any, line: Line) -> None:
    await connection.execute(
        f"INSERT INTO interconnection_line ({_LINE}) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (site, name)"
        " DO UPDATE SET supplier = $3, capacity_kbit_s = $4, monthly_minor = $5, currency = $6, is_private = $7",
        *msgspec.structs.astuple(line),
    )


async def drop_line(connection: Any, site: str, name: str) -> bool:
    done = await connection.execute("DELETE FROM interconnection_line WHERE site = $1 AND name = $2", site, name)
    return bool(done == "DELETE 1")
