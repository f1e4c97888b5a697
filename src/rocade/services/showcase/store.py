"""SQL of the cards."""

from __future__ import annotations

from typing import Any

import msgspec

from rocade.services.showcase.model import Card


async def put(connection: Any, site: str, card: Card, at_us: int) -> None:
    await connection.execute(
        "INSERT INTO showcase_card VALUES ($1, $2, $3) ON CONFLICT (site) DO UPDATE SET card = $2, changed_us = $3",
        site,
        msgspec.json.encode(card),
        at_us,
    )


async def read(connection: Any, site: str) -> Card | None:
    found = await connection.fetchval("SELECT card FROM showcase_card WHERE site = $1", site)
    return msgspec.json.decode(found, type=Card) if found is not None else None
