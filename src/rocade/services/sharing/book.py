"""The contracts that run, in every process that needs them: in workers who is shared, where records leave what goes out.

Read whole at start and after each change (a counter says whether there was one), by notification and each second besides.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Self

from rocade.fabric.database import Database
from rocade.fabric.database.following import follow
from rocade.services.sharing import store
from rocade.services.sharing.model import Contract, Terms

POLL_S = 1.0


class Book:
    """Contracts taken up and not ended, with their terms. Use `open`; `close` when done."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._number = -1
        self.by_id: dict[str, Contract] = {}
        self.by_ref: dict[int, list[Contract]] = {}
        self.by_party: dict[str, list[Contract]] = {}
        self._terms: dict[int, Terms] = {0: Terms()}
        self._watchers: list[Callable[[], object]] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, database: Database) -> Self:
        """Raises: what the database raises when it is down."""
        opened = cls(database)
        async with database.pool.acquire() as connection:
            await opened._read(connection)
        opened._task = asyncio.create_task(
            follow(database, store.CHANGED, opened._read, poll_s=POLL_S), name="sharing-book"
        )
        return opened

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def terms_of(self, one: Contract) -> Terms:
        return self._terms[one.terms]

    def watch(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` after each change; returns what ends the watching."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    async def _read(self, connection: Any) -> None:
        number = await store.change_number(connection)
        if number == self._number:
            return
        found = [one for one in await store.live(connection) if one.accepted_us]
        for version in {one.terms for one in found} - self._terms.keys():
            self._terms[version] = await store.terms(connection, version)
        by_ref, by_party = defaultdict(list), defaultdict(list)
        for one in found:
            by_ref[one.ref].append(one)
            by_party[one.party].append(one)
        self.by_id = {one.id: one for one in found}
        self.by_ref, self.by_party = dict(by_ref), dict(by_party)
        self._number = number
        for watcher in tuple(self._watchers):
            watcher()
