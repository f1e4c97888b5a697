"""One live connection a vehicle, across gateways: a row says who has it, a notification tells who had it.

Flow: a gateway claims a vehicle that has just connected -> the row takes the next claim number -> every other gateway hears
(id, claim) on `vehicle_session` and ends an older connection of that vehicle. Claims only grow; the table is UNLOGGED
because a crash of the database ends no session: the newest connection claims again when it matters. Neither row nor notification
holds an id: both say its blind index, which a gateway knows of the vehicles it has claimed.
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
from rocade.trust.authority.sealing.columns import Columns

CHANNEL = "vehicle_session"
RETRY_S = 1.0


class GatewaySessions:
    """`on_taken(vehicle_id, claim)` is called when another gateway has claimed a vehicle."""

    def __init__(self, database: Database, random: Random) -> None:
        self._database = database
        self._gateway = f"{random.bits(63):016x}"
        self._sealing = Columns(database)
        self._claimed: dict[str, tuple[int, str]] = {}
        """Newest claim and id by blind index."""

    async def claim(self, vehicle_id: str, /) -> int:
        blind = await self._blind(vehicle_id)
        self._claimed.setdefault(blind, (0, vehicle_id))  # who takes it meanwhile is heard
        try:
            claim: int = await self._database.pool.fetchval(
                "WITH claimed AS ("
                " INSERT INTO vehicle_session (id, claim, gateway) VALUES ($1, nextval('vehicle_claim'), $2)"
                " ON CONFLICT (id) DO UPDATE SET claim = excluded.claim, gateway = excluded.gateway"
                " RETURNING claim)"
                " SELECT claim FROM claimed, pg_notify($3, $2 || ' ' || claim || ' ' || $1)",
                blind,
                self._gateway,
                CHANNEL,
            )
        except (*DOWN, asyncpg.PostgresError) as error:
            raise Unavailable("database.down", f"a session cannot be claimed: {type(error).__name__}") from error
        self._claimed[blind] = max(self._claimed.get(blind, (0, "")), (claim, vehicle_id))
        return claim

    async def release(self, vehicle_id: str, claim: int, /) -> None:
        with contextlib.suppress(*DOWN, asyncpg.PostgresError, Unavailable):
            blind = await self._blind(vehicle_id)
            if self._claimed.get(blind, (claim,))[0] <= claim:
                self._claimed.pop(blind, None)
            await self._database.pool.execute("DELETE FROM vehicle_session WHERE id = $1 AND claim = $2", blind, claim)

    async def _blind(self, vehicle_id: str) -> str:
        return (await self._sealing.index()).exact("vehicle_session.id", vehicle_id).hex()

    async def listen(self, on_taken: Callable[[str, int], object]) -> None:
        """Hear the claims of other gateways for ever; connects again when the database was away."""

        def heard(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            gateway, claim, blind = str(payload).split(" ", 2)
            if gateway != self._gateway and blind in self._claimed:
                on_taken(self._claimed[blind][1], int(claim))

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
