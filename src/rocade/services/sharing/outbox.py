"""What vehicles under a contract send begins to wait for their third parties: in the worker, in the transaction of each block.

Flow: rows of the block of shared vehicles -> one record a vehicle, packed -> sealed with that vehicle's key for exports -> numbered
in the order of commits -> a row each, and a notification. In the same transaction as the log's positions: each value waits
exactly once, whatever is killed. A vehicle whose keys were destroyed (erased) leaves nothing here.
Cost: nothing for vehicles nobody shares; 0.2 ms for each that is (docs/decisions/0059-sharing.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.sharing import records, store
from rocade.services.sharing.book import Book
from rocade.services.sharing.model import Waiting
from rocade.trust.authority.sealing import Group, Keyring, aad, open_sealed, seal

STREAM, SCHEMA = "sharing", 1


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
        found = await asyncio.to_thread(_by_vehicle, outcome.rows, list(shared))
        if not found:
            return
        keys = await self._keyring.ensure((ref, Group.EXPORT) for ref in found)
        mine = [ref for ref in sorted(found) if (ref, Group.EXPORT) in keys]
        at_us = self._clock.now_us()
        waiting = []
        for ref, number in zip(mine, await store.numbers(connection, len(mine)), strict=True):
            body, arrived_us, samples = found[ref]
            sealed = seal(keys[ref, Group.EXPORT], body, aad(ref, STREAM, SCHEMA, number))
            waiting.append(Waiting(number, ref, at_us, arrived_us, samples, sealed))
        if waiting:
            await store.put(connection, waiting)
        self.records += len(waiting)


def _by_vehicle(tables: Iterable[pa.Table], refs: list[int]) -> dict[int, tuple[bytes, int, int]]:
    """(packed, newest arrival, samples) of each shared vehicle that the block holds."""
    wanted = pa.array(refs, pa.uint64())
    kept = [table.filter(pc.is_in(table.column("vehicle"), wanted)) for table in tables]
    rows = pa.concat_tables([table for table in kept if table.num_rows]) if any(map(len, kept)) else None
    if rows is None:
        return {}
    rows = rows.combine_chunks()
    vehicle = rows.column("vehicle").to_numpy()
    order = np.argsort(vehicle, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(vehicle[order])) + 1).tolist(), len(order)]
    found = {}
    for begin, end in pairwise(edges):
        part = rows.take(order[begin:end])
        arrived_us = int(part.column("arrived_us").to_numpy().max())
        found[int(vehicle[order[begin]])] = records.packed(part), arrived_us, records.samples_in(part)
    return found


async def opened(keyring: Keyring, waiting: Iterable[Waiting]) -> list[tuple[Waiting, bytes]]:
    """What waits, with its content; erased vehicles' records are left out.

    Raises: Unavailable `custody.down`, `custody.refused`; Corrupt `seal.broken`.
    """
    held = list(waiting)
    keys = await keyring.fetch({(one.ref, Group.EXPORT) for one in held})
    return [
        (one, open_sealed(keys[one.ref, Group.EXPORT], one.body, aad(one.ref, STREAM, SCHEMA, one.number)))
        for one in held
        if (one.ref, Group.EXPORT) in keys
    ]
