"""What vehicles under a contract send begins to wait for their third parties: in the worker, in the transaction of each block.

Flow: rows of the block of shared vehicles -> one record a vehicle, packed -> sealed with that vehicle's key for exports -> numbered
in the order of commits -> a row each, and a notification. In the same transaction as the log's positions: each value waits
exactly once, whatever is killed. A vehicle whose keys were destroyed (erased) leaves nothing here.
Cost: nothing for vehicles nobody shares; 0.2 ms for each that is (docs/decisions/0059-sharing.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from rocade.core.errors import Corrupt
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.sharing import records, store
from rocade.services.sharing.book import Book
from rocade.services.sharing.model import Waiting
from rocade.trust.authority.sealing import Group, Keyring, aad, open_sealed, seal

STREAM, SCHEMA = "sharing", 1
_log = logging.getLogger(__name__)


class Outbox:
    """The worker's part; `hook` goes into its transactions."""

    def __init__(self, book: Book, keyring: Keyring, clock: Clock) -> None:
        self._book = book
        self._keyring = keyring
        self._clock = clock
        self.records = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database, keyring: Keyring, clock: Clock) -> AsyncIterator[Self]:
        """With a book of its own."""
        book = await Book.open(database)
        try:
            yield cls(book, keyring, clock)
        finally:
            await book.close()

    async def hook(self, connection: Any, outcome: Any) -> None:
        """Raises: Unavailable `custody.down`, `custody.refused`: the worker repeats the block then."""
        shared = self._book.by_ref
        if not shared or not outcome.rows:
            return
        found = await asyncio.to_thread(records.packed, outcome.rows, list(shared))
        if not found:
            return
        keys = await self._keyring.ensure((ref, Group.EXPORT) for ref in found)
        mine = [ref for ref in sorted(found) if (ref, Group.EXPORT) in keys]
        at_us = self._clock.now_us()
        waiting = []
        numbers = await store.numbers(connection, len(mine)) if mine else []
        for ref, number in zip(mine, numbers, strict=True):
            one = found[ref]
            sealed = seal(keys[ref, Group.EXPORT], one.body, aad(ref, STREAM, SCHEMA, number))
            waiting.append(Waiting(number, ref, at_us, one.arrived_us, one.samples, sealed))
        if waiting:
            await store.put(connection, waiting)
        self.records += len(waiting)


async def opened(keyring: Keyring, waiting: Iterable[Waiting]) -> list[tuple[Waiting, bytes]]:
    """What waits, with its content. Erased vehicles' records are left out; one that does not open is an alarm in the log, and left
    out too, so that it does not hold up what is behind it (the history has its values).

    Raises: Unavailable `custody.down`, `custody.refused`.
    """
    held = list(waiting)
    keys = await keyring.fetch({(one.ref, Group.EXPORT) for one in held})
    found = []
    for one in held:
        if key := keys.get((one.ref, int(Group.EXPORT))):
            try:
                found.append((one, open_sealed(key, one.body, aad(one.ref, STREAM, SCHEMA, one.number))))
            except Corrupt as broken:
                _log.error("record %d of the feeds: %s", one.number, broken.code)
    return found
