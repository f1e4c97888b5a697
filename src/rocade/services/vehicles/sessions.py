"""One live connection a vehicle, across gateways: a row says who has it, a notification tells who had it.

Flow: a gateway claims a vehicle that has just connected -> the row takes the next claim number -> every other gateway hears
(id, claim) on `vehicle_session` and ends an older connection of that vehicle. Claims only grow; the table is UNLOGGED
because a crash of the database ends no session: the newest connection claims again when it matters.
Implements doors.mqtt's Sessions. Raises: Unavailable `database.down`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg

from rocade.core.errors import Unavailable
from rocade.core.ports import Random
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN

CHANNEL = "vehicle_session"
RETRY_S = 1.0


class GatewaySessions:
    """`on_taken(vehicle_id, claim)` is called when another gateway has claimed a vehicle."""

    def __init__(self, database: Database, random: Random) -> None:
        self._database = database
        self._gateway = f"{random.bits(63):016x}"

    async def claim(self, vehicle_id: str, /) -> int:
        try:
            claim: int = await self._database.pool.fetchval(
                "WITH claimed AS ("
                " INSERT INTO vehicle_session (id, claim, gateway) VALUES ($1, nextval('vehicle_claim'), $2)"
                " ON CONFLICT (id) DO UPDATE SET claim = excluded.claim, gateway = excluded.gateway"
                " RETURNING claim)"
                " SELECT claim FROM claimed, pg_notify($3, $2 || ' ' || claim || ' ' || $1)",
                vehicle_id,
                self._gateway,
                CHANNEL,
            )
        except (*DOWN, asyncpg.PostgresError) as error:
            raise Unavailable("database.down", f"a session cannot be claimed: {type(error).__name__}") from error
        return claim

    async def release(self, vehicle_id: str, claim: int, /) -> None:
        with contextlib.suppress(*DOWN, asyncpg.PostgresError):
            await self._database.pool.execute(
                "DELETE FROM vehicle_session WHERE id = $1 AND claim = $2", vehicle_id, claim
            )

    async def listen(self, on_taken: Callable[[str, int], object]) -> None:
        """Hear the claims of other gateways for ever; connects again when the database was away."""

        def heard(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            gateway, claim, vehicle_id = str(payload).split(" ", 2)
            if gateway != self._gateway:
                on_taken(vehicle_id, int(claim))

        while True:
            with contextlib.suppress(*DOWN, asyncpg.PostgresError):
                connection = await asyncpg.connect(self._database.url, timeout=10)
                try:
                    await connection.add_listener(CHANNEL, heard)
                    gone = asyncio.Event()
                    connection.add_termination_listener(lambda _connection, gone=gone: gone.set())
                    await gone.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(RETRY_S)
