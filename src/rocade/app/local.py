"""Acts on a region's own disk, by whoever holds it: recorded in the audit log before they are done.

Flow: the files must belong to the caller -> the region's database is reached where it runs, or started for the moment ->
the act is recorded -> done. Used where the API cannot help: keys and tokens lie on disk, and an operator whose
certificate has ended is refused at the door. Refuses: somebody else's region (`app.local.owner`), because files made by
another user could not be read by the processes that need them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from rocade.app.configuration import Configuration
from rocade.app.custodies import open_keyring
from rocade.app.sealing import seal_older_rows
from rocade.app.supervisor import MIGRATED
from rocade.core.errors import Misconfigured
from rocade.core.ports import AuditEntry, Clock, Random, SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.trust.authority import AuditLog, Authority, Region
from rocade.trust.authority.sealing import Keyring


@dataclass(frozen=True)
class Hand:
    """What an act needs."""

    configuration: Configuration
    database: Database
    audit: AuditLog
    clock: Clock
    random: Random
    keyring: Keyring

    @property
    def actor(self) -> str:
        return f"local:uid-{os.geteuid()}"

    @property
    def authority(self) -> Authority:
        region = Region(self.configuration.trust, self.clock, self.random)
        return Authority(region, self.database, self.audit, self.clock, self.random)

    async def record(self, action: str, subject: str, **facts: str | int | float) -> None:
        await self.audit.record(AuditEntry(self.clock.now_us(), self.actor, action, subject, facts=facts))


def act[T](configuration: Configuration, work: Callable[[Hand], Awaitable[T]]) -> T:
    """Do `work` on this machine.

    Raises: Misconfigured `app.local.owner`, and what database and audit log raise.
    """
    owner = configuration.trust.stat().st_uid if configuration.trust.exists() else os.geteuid()
    if owner != os.geteuid():
        raise Misconfigured("app.local.owner", f"{configuration.root} belongs to user {owner}: run this as that user")

    async def run() -> T:
        async with _hand(configuration) as hand:
            return await work(hand)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def _hand(configuration: Configuration) -> AsyncIterator[Hand]:
    postgres: EmbeddedPostgres | None = None
    place = configuration.root / "postgres"
    url = configuration.database_url or EmbeddedPostgres.url_of_running(place)
    if url is None:
        postgres = EmbeddedPostgres(place)
        url = await asyncio.to_thread(postgres.start)
    try:
        await asyncio.to_thread(migrate, url, MIGRATED)
        await seal_older_rows(configuration, url)
        clock, random = SystemClock(), SystemRandom()
        database = await Database.connect(url, max_connections=2)
        audit = AuditLog(database, configuration.trust / "audit", clock)
        try:
            async with open_keyring(configuration, database, clock, audit) as keyring:
                yield Hand(configuration, database, audit, clock, random, keyring)
        finally:
            await audit.close()
            await database.close()
    finally:
        if postgres is not None:
            await asyncio.to_thread(postgres.stop)
