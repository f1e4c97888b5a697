"""SQL of who may dim a depot, of signals as they came, and of the proof of what was done.

How much each car was given is sealed with the key of its reference, what the whole depot drew with the region's.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any

import msgspec

from rocade.services.charging.grid.model import Proof, Received
from rocade.services.charging.model import Dimming
from rocade.trust.authority.sealing import Group
from rocade.trust.authority.sealing.columns import Column, Columns
from rocade.trust.authority.sealing.older import Older

KW = Column("charging_grid_proof.kw", Group.SERVICE)
_FLOAT = Struct(">d")
_RECEIVED = "signal, event, party, via, first_us, last_us, times"
_DIMMING = ", ".join(f"d.{name}" for name in Dimming.__struct_fields__)


async def bind(connection: Any, site: str, party: str, at_us: int) -> None:
    await connection.execute(
        "INSERT INTO charging_grid_party VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", site, party, at_us
    )


async def unbind(connection: Any, site: str, party: str) -> bool:
    done = await connection.execute("DELETE FROM charging_grid_party WHERE site = $1 AND party = $2", site, party)
    return bool(done == "DELETE 1")


async def parties(connection: Any, site: str) -> list[str]:
    rows = await connection.fetch("SELECT party FROM charging_grid_party WHERE site = $1 ORDER BY party", site)
    return [row["party"] for row in rows]


_PROOF = "SELECT at_us, what, ref, kw_sealed, code FROM charging_grid_proof"


async def lock(connection: Any, site: str) -> None:
    """One signal of a depot is taken in at a time, until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 54))", f"grid {site}")


async def put_received(connection: Any, site: str, one: Received) -> None:
    await connection.execute(
        f"INSERT INTO charging_grid_signal AS s (site, {_RECEIVED}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        " ON CONFLICT (site, signal) DO UPDATE SET last_us = $7, times = s.times + 1, party = $4, via = $5",
        site, one.signal, one.event, one.party, one.via, one.first_us, one.last_us, one.times,
    )  # fmt: skip


async def received(connection: Any, site: str, signals: Sequence[str]) -> dict[str, Received]:
    rows = await connection.fetch(
        f"SELECT {_RECEIVED} FROM charging_grid_signal WHERE site = $1 AND signal = ANY($2::text[])",
        site,
        list(signals),
    )
    return {row["signal"]: Received(*row) for row in rows}


async def of_event(connection: Any, site: str, event: str) -> list[Received]:
    rows = await connection.fetch(
        f"SELECT {_RECEIVED} FROM charging_grid_signal WHERE site = $1 AND event = $2", site, event
    )
    return [Received(*row) for row in rows]


async def dimming(connection: Any, site: str, signal: str) -> Dimming | None:
    row = await connection.fetchrow(
        f"SELECT {_DIMMING} FROM charging_dimming d WHERE d.site = $1 AND d.signal = $2", site, signal
    )
    return Dimming(*row) if row else None


async def dimmings(connection: Any, site: str, limit: int) -> list[Dimming]:
    """The newest first, ended ones too."""
    rows = await connection.fetch(
        f"SELECT {_DIMMING} FROM charging_dimming d WHERE d.site = $1 ORDER BY d.until_us DESC, d.signal LIMIT $2",
        site,
        limit,
    )
    return [Dimming(*row) for row in rows]


async def unfinished(connection: Any, now_us: int) -> list[Dimming]:
    """Of all depots: those whose time has come and whose end is not written down yet."""
    rows = await connection.fetch(
        f"SELECT {_DIMMING} FROM charging_dimming d WHERE d.from_us <= $1 AND NOT EXISTS (SELECT FROM charging_grid_proof p"
        " WHERE p.site = d.site AND p.signal = d.signal AND p.once = 'ended ' || d.told_us) ORDER BY d.site, d.signal LIMIT 10000",
        now_us,
    )
    return [Dimming(*row) for row in rows]


async def add_proof(
    connection: Any, columns: Columns, site: str, signal: str, lines: Sequence[tuple[Proof, str | None]]
) -> None:
    """Lines with a key are written once, however often they are found; None = always."""
    told = [one for one, _ in lines if one.kw is not None]
    sealed = iter(await columns.seal(KW, [_row(site, signal, one, _FLOAT.pack(one.kw)) for one in told]))
    await connection.executemany(
        "INSERT INTO charging_grid_proof (site, signal, at_us, what, ref, kw_sealed, code, once)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (site, signal, once) DO NOTHING",
        [
            (site, signal, one.at_us, one.what, one.ref, None if one.kw is None else next(sealed), one.code, once)
            for one, once in lines
        ],
    )


async def proof(connection: Any, columns: Columns, site: str, signal: str, limit: int = 5_000) -> list[Proof]:
    rows = await connection.fetch(
        f"{_PROOF} WHERE site = $1 AND signal = $2 ORDER BY at_us, id LIMIT $3", site, signal, limit
    )
    return await _opened(columns, site, signal, rows)


async def last_measured(connection: Any, columns: Columns, site: str, signal: str) -> Proof | None:
    rows = await connection.fetch(
        f"{_PROOF} WHERE site = $1 AND signal = $2 AND what = 'measured' ORDER BY id DESC LIMIT 1", site, signal
    )
    return next(iter(await _opened(columns, site, signal, rows)), None)


async def forget(connection: Any, ref: int) -> None:
    """Which car was told, and what, is forgotten with its data; that a car was told is kept."""
    await connection.execute(
        "UPDATE charging_grid_proof SET ref = 0, once = NULL, kw_sealed = NULL WHERE ref = $1", ref
    )


def _row(site: str, signal: str, one: Proof, body: bytes) -> tuple[int, int, bytes]:
    place = f"{site}/{signal}/{one.at_us}/{one.what}".encode()
    return one.ref, int.from_bytes(blake2b(place, digest_size=8).digest()), body


async def _opened(columns: Columns, site: str, signal: str, rows: Sequence[Any]) -> list[Proof]:
    lines = [Proof(row["at_us"], row["what"], row["ref"], None, row["code"]) for row in rows]
    told = [at for at, row in enumerate(rows) if row["kw_sealed"] is not None]
    opened = await columns.open(KW, [_row(site, signal, lines[at], rows[at]["kw_sealed"]) for at in told])
    for at, body in zip(told, opened, strict=True):
        if body is not None:
            lines[at] = msgspec.structs.replace(lines[at], kw=_FLOAT.unpack(body)[0])
    return lines


async def _seal_older(connection: Any, columns: Columns) -> int:
    rows = await connection.fetch(
        "SELECT id, site, signal, at_us, what, ref, kw, code FROM charging_grid_proof WHERE kw IS NOT NULL"
    )
    lines = [_row(row["site"], row["signal"], Proof(*row[3:]), _FLOAT.pack(row["kw"])) for row in rows]
    sealed = await columns.seal(KW, lines)
    await connection.executemany(
        "UPDATE charging_grid_proof SET kw = NULL, kw_sealed = $2 WHERE id = $1",
        [(row["id"], body) for row, body in zip(rows, sealed, strict=True)],
    )
    return len(rows)


OLDER = (Older(KW.name, ("charging_grid_proof",), _seal_older),)
"""Rows from before they were sealed."""
