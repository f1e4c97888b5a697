"""What every act of price lists stands on: the engines, one transaction, the audit log before it counts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.dealers import SiteTable
from rocade.services.prices import errors, store
from rocade.services.prices.fanout import Press
from rocade.services.prices.holding import States
from rocade.services.prices.marks import Pattern
from rocade.services.prices.model import PriceList
from rocade.services.prices.shelf import Shelf
from rocade.services.prices.signing import Signing


@dataclass(frozen=True, kw_only=True)
class Engines:
    """What is handed in. `directory`: DIR/prices."""

    database: Database
    audit: Audit
    clock: Clock
    random: Random
    directory: Path
    signing: Signing
    sites: SiteTable


class Acts:
    """What the use cases stand on."""

    def __init__(self, engines: Engines) -> None:
        self.pool = engines.database.pool
        self.clock = engines.clock
        self.random = engines.random
        self.directory = engines.directory
        self.signing = engines.signing
        self.sites = engines.sites
        self.shelf = Shelf(engines.directory)
        self.states = States(engines.database, engines.directory)
        self.press = Press(self.shelf, engines.signing, engines.random)
        self.kept_salts: dict[int, dict[int, bytes]] = {}
        self.kept_patterns: dict[int, Pattern] = {}
        """By list; neither ever changes."""
        self._audit = engines.audit
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def working(self, list_id: str) -> asyncio.Lock:
        """One file of a list is worked on at a time."""
        return self._locks[list_id]

    async def find(self, list_id: str) -> PriceList:
        """Raises: Refused `prices.list.unknown`."""
        found = await store.find_list(self.pool, list_id)
        if found is None:
            raise errors.list_unknown()
        return found

    @asynccontextmanager
    async def acting(self, actor: str, action: str, subject: str) -> AsyncIterator[Any]:
        """One transaction; a refusal is audited and undoes it. Raises: Unavailable `database.down`."""
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                yield connection
        except Refused as refusal:
            self.note_refusal(actor, action, subject, refusal)
            raise
        except (*DOWN, TimeoutError) as error:
            raise Unavailable("database.down", f"price lists cannot be changed now: {type(error).__name__}") from error

    def note_refusal(self, actor: str, action: str, subject: str, refusal: Refused) -> None:
        self._audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, "refused", refusal.code))

    def note(self, action: str, actor: str, subject: str, **facts: str | int) -> None:
        """Tell the audit log of something that was done, without waiting."""
        self._audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, facts=dict(facts)))

    async def record(self, action: str, actor: str, subject: str, **facts: str | int) -> None:
        """Write into the audit log what this transaction is about to do."""
        await self._audit.record(AuditEntry(self.clock.now_us(), actor, action, subject, facts=dict(facts)))
