"""The list a process worked on last, whole and in memory, so that a dry run and the release after it read it once.

From memory -> from the file that the last release wrote beside the database -> from the database itself. What comes from a
file or the database is believed only if its state root is the one of the last release; else it is read again, and a
database that does not agree with its own heads is `prices.state.corrupt`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from rocade.core.errors import Corrupt
from rocade.fabric.database import Database
from rocade.services.prices import store
from rocade.services.prices.model import PriceList
from rocade.services.prices.state import State
from rocade.wire.prices import Tree, changed_leaves

_log = logging.getLogger(__name__)


class States:
    def __init__(self, database: Database, directory: Path) -> None:
        self._pool = database.pool
        self._directory = directory
        self._held: State | None = None

    async def at(self, about: PriceList) -> State:
        """The list at the number it has. Raises: Corrupt `prices.state.corrupt`."""
        if self._held is not None and (self._held.list_id, self._held.seq) == (about.id, about.seq):
            return self._held
        self._held = None
        if not about.seq:
            return State(about.id)
        root = await store.state_root(self._pool, about.number, about.seq)
        state = await asyncio.to_thread(State.load, self._path(about.id), about.id)
        if state is None or state.seq != about.seq or state.tree.root != root:
            state = await self._read(about)
        if state.tree.root != root:
            raise Corrupt(
                "prices.state.corrupt", f"the rows of list {about.id} are not those its last head was signed over"
            )
        self._held = state
        return state

    async def keep(self, state: State) -> None:
        """Hold what was just released; the file is a convenience and may be lost."""
        self._held = state
        try:
            await asyncio.to_thread(state.save, self._path(state.list_id))
        except OSError as error:  # the release is committed; the next one reads the database
            _log.warning("the columns of list %s were not kept: %s", state.list_id, error.strerror)

    async def _read(self, about: PriceList) -> State:
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            delta = await store.read_delta(connection, about)

        def build() -> State:
            state = State(about.id, about.seq, delta.releases, delta.descriptions, delta.entries)
            whole, tree = state.since(0), Tree()
            tree.update(*changed_leaves(whole, tree.leaves))
            state.tree = tree
            return state

        return await asyncio.to_thread(build)

    def _path(self, list_id: str) -> Path:
        return self._directory / "states" / f"{list_id}.npz"
