"""Who is on a line, since when, and what its agent last said of itself (`up/state`). Written once a second, all together.

A state is health and posture (version, outbox, lists, certificate, disk, clock), never business content: that is what providers may see.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import asyncpg
import msgspec

from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.exchange import store
from rocade.services.exchange.intake import Context
from rocade.services.exchange.model import Upward, Verdict, party_of
from rocade.services.exchange.store import Presence as Row
from rocade.wire.exchange import UNREADABLE

MOST_BYTES = 16 << 10
EVERY_S = 1.0


class Presence:
    """`process` names the process in the table."""

    def __init__(self, database: Database, clock: Clock, process: str) -> None:
        self._database = database
        self._clock = clock
        self._process = process
        self._changed: dict[str, tuple[object, ...]] = {}
        self._states: dict[str, tuple[bytes, int]] = {}

    def changed(self, context: Context, is_here: bool) -> None:
        """A party has connected or left. (A watcher of the intake.)"""
        until_us = 0 if is_here else self._clock.now_us()
        self._changed[context.party] = (
            context.connected_us,
            until_us,
            max((k.not_after_us for k in context.keys.values()), default=0),
        )

    async def take(self, batch: Sequence[Upward]) -> list[Verdict]:
        """The handler of `up/state`."""
        verdicts: list[Verdict] = []
        for upward in batch:
            if len(upward.body) > MOST_BYTES or not _is_object(upward.body):
                verdicts.append(Refused("exchange.state", f"a state is a JSON object of at most {MOST_BYTES} bytes"))
                continue
            party = party_of(upward.identity)
            self._states[party] = upward.body, upward.arrived_us
            if party not in self._changed:
                self.changed(upward.line, is_here=True)
            verdicts.append(None)
        return verdicts

    async def run(self) -> None:
        """For ever; forgets first what an earlier process of this name left."""
        is_clean = False
        while True:
            with contextlib.suppress(*DOWN, asyncpg.PostgresError):
                if not is_clean:
                    async with self._database.pool.acquire() as connection:
                        await store.end_presence(connection, self._process, self._clock.now_us())
                    is_clean = True
                await self.write()
            await asyncio.sleep(EVERY_S)

    async def write(self) -> None:
        changed, self._changed = self._changed, {}
        states, self._states = self._states, {}
        rows = [(party, self._process, *values, *states.get(party, (None, 0))) for party, values in changed.items()]
        if not rows:
            return
        try:
            async with self._database.pool.acquire() as connection:
                await store.write_presence(connection, rows)
        except BaseException:
            self._changed = {**changed, **self._changed}
            self._states = {**states, **self._states}
            raise

    async def end(self) -> None:
        """The process ends: nobody is connected to it."""
        with contextlib.suppress(*DOWN, asyncpg.PostgresError):
            async with self._database.pool.acquire() as connection:
                await store.end_presence(connection, self._process, self._clock.now_us())


async def read_presence(database: Database, parties: Sequence[str] | None = None) -> list[Row]:
    """Lines as they stand, of all parties or of some (`dealer/<site>`)."""
    async with database.pool.acquire() as connection:
        return await store.read_presence(connection, parties)


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except UNREADABLE:
        return False
