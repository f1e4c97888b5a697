"""What business messages say (vehicle numbers, customers) is sealed in the tables, and read as it was sent."""

from __future__ import annotations

import asyncpg
from tests.services.exchange.hub import Hub

from rocade.services.exchange import Wanted

CLAIM = b'{"vin": "VF3ABCDEFGG123456", "customer": "Ottilie Quarrington"}'


async def everything(pool: asyncpg.Pool) -> bytes:
    """All values of all tables."""
    parts: list[bytes] = []

    async def take(data: bytes) -> None:
        parts.append(data)

    async with pool.acquire() as connection:
        for (table,) in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            await connection.copy_from_query(f'SELECT * FROM "{table}"', output=take, format="binary")
    return b"".join(parts)


async def test_what_messages_say_is_sealed_and_read_as_it_was_sent(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    assert await dealer.send(dealer.message(CLAIM)) == (0, "")
    (standing,) = await hub.exchange.search(Wanted(party="dealer/FR-1"))
    envelope = await hub.exchange.envelope(standing.number)
    kept = await everything(hub.database.pool)
    assert len(kept) > len(envelope)
    assert envelope not in kept
    assert b"VF3ABCDEFGG123456" not in kept
    assert b"Quarrington" not in kept
    found = await hub.database.pool.fetchval("SELECT envelope FROM exchange_message")
    assert found[0] == 1, "sealed"
