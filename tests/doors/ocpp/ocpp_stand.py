"""A central system for tests: door, intake and `Stations` on a real database; clients are others' programs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.notebook import Notebook
from websockets.asyncio.client import connect

from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.ocpp import OcppDoor, Settings
from rocade.fabric.database import Database
from rocade.services.charging.stations import Event, Holding, Station, StationIntake, Stations, Tags

connect.__init__.__kwdefaults__ |= {"open_timeout": 60.0, "ping_timeout": 120.0}
"""A client's that is not told another: ten seconds are little on a busy machine, where a password alone takes a part of one."""


class Stand:
    def __init__(
        self, database: Database, directory: Path, settings: Settings | None = None, *, verify: Any = None,
        signer: Any = None, settle_us: int = 0,
    ) -> None:  # fmt: skip
        self.clock, self.random, self.audit = SystemClock(), SystemRandom(), Notebook()
        self.database = database
        tags = Tags(directory / "stations.key", self.random)
        self.intake = StationIntake(database, tags, self.audit, self.clock, "test")
        self.stations = Stations(database, tags, self.audit, self.clock, self.random)
        self.door = OcppDoor(self.intake, self.audit, self.clock, settings, verify=verify)
        self.holding = Holding(
            database,
            self.intake,
            self.door,
            self.stations,
            self.clock,
            "test",
            settle_us=settle_us,
            greeting_s=0,
            signer=signer,
        )
        self.events: list[Event] = []
        self.stations.watch(self.events.extend)
        self.passwords: dict[str, str] = {}
        self.port = 0

    async def register(self, id: str, **more: Any) -> str:
        more = {"profile": 1, "is_open": True} | more
        self.passwords[id] = await self.stations.register(Station(id=id, **more), "test")
        return self.passwords[id]

    def address(self, id: str) -> str:
        return f"ws://127.0.0.1:{self.port}/ocpp/{id}"

    def headers(self, id: str, password: str | None = None) -> dict[str, str]:
        text = f"{id}:{password or self.passwords[id]}"
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@contextlib.asynccontextmanager
async def standing(
    database: Database, directory: Path, settings: Settings | None = None, **more: Any
) -> AsyncIterator[Stand]:
    """A stand that listens in clear and works on limits and orders."""
    stand = Stand(database, directory, settings, **more)
    stand.door.start()
    stand.port = await stand.door.start_plain("127.0.0.1", 0)
    working = asyncio.create_task(stand.holding.run())
    try:
        yield stand
    finally:
        await stand.door.drain()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await stand.holding.close()


async def until(condition: Callable[[], Any], patience_s: float = 60.0) -> Any:
    """Wait until the condition holds; its value. It may be asynchronous."""
    async with asyncio.timeout(patience_s):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)
