"""What each process says of itself, once a second: one row per process in PostgreSQL, read by the API and `rocade status`.

Shape: `StatusBoard.publish` stores a JSON object of counters and gauges under (role, process); rows not refreshed for
`STALE_S` are reported as gone and removed an hour later. Counters are since the start of that process.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rocade.core.ports import Clock
from rocade.fabric.database import Database

STALE_S = 5


class ProcessStatus(msgspec.Struct, frozen=True):
    role: str
    process: str
    at_us: int
    is_alive: bool
    values: dict[str, Any]


class StatusBoard:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def publish(self, role: str, process: str, values: dict[str, Any]) -> None:
        """Replace this process's row."""
        await self._database.pool.execute(
            "INSERT INTO process_status (role, process, at_us, values) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (role, process) DO UPDATE SET at_us = $3, values = $4",
            role,
            process,
            self._clock.now_us(),
            msgspec.json.encode(values).decode(),
        )

    async def remove(self, role: str, process: str) -> None:
        await self._database.pool.execute("DELETE FROM process_status WHERE role = $1 AND process = $2", role, process)

    async def read(self) -> list[ProcessStatus]:
        """All processes seen in the last hour, newest report first."""
        now_us = self._clock.now_us()
        rows = await self._database.pool.fetch(
            "SELECT role, process, at_us, values FROM process_status WHERE at_us > $1 ORDER BY at_us DESC",
            now_us - 3_600_000_000,
        )
        return [
            ProcessStatus(
                row["role"],
                row["process"],
                row["at_us"],
                now_us - row["at_us"] < STALE_S * 1_000_000,
                msgspec.json.decode(row["values"]),
            )
            for row in rows
        ]
