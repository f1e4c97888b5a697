"""Heads of price lists go down at once: to everybody on a line here who is entitled, whenever one has changed.

Flow: a release in some process notifies `price_heads` -> the signed heads are read (few, small), those that are not the last ones pushed go to
the connected parties entitled now; where the head's files are sealed with a new epoch's key, the party's letter goes first. A lost
notification costs one poll; a party that connects later asks for its heads itself. What a head is, who is entitled and what a letter
says is the price lists' business: `Announced` is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Protocol

import asyncpg

from rocade.fabric.database import Database
from rocade.fabric.database.following import follow
from rocade.services.exchange.line import Line

CHANNEL = "price_heads"


class Announced(Protocol):
    """What price lists say to the line (`services.prices.Lists`)."""

    async def signed_heads(self) -> Mapping[str, bytes]: ...
    async def readers(self, list_id: str, /) -> Sequence[str]: ...
    async def heads_for(self, site: str, /) -> Sequence[bytes]: ...
    async def letters(self, site: str, only: str = "", /) -> Sequence[bytes]: ...
    def epoch_of(self, signed: bytes, /) -> int: ...


class HeadPush:
    """`prices` None = a hub without price lists."""

    def __init__(self, database: Database, line: Line, prices: Announced | None) -> None:
        self._database = database
        self._line = line
        self._prices = prices
        self._pushed: dict[str, tuple[bytes, int]] | None = None
        self.pushes = 0

    async def run(self) -> None:
        """For ever."""
        await follow(self._database, CHANNEL, self._hear)

    async def of(self, party: str) -> Sequence[bytes]:
        """The heads a party is entitled to."""
        kind, _, site = party.partition("/")
        return await self._prices.heads_for(site) if self._prices and kind == "dealer" else ()

    async def letters(self, party: str) -> Sequence[bytes]:
        """The epoch keys a party is entitled to, wrapped for it."""
        kind, _, site = party.partition("/")
        return await self._prices.letters(site) if self._prices and kind == "dealer" else ()

    async def _hear(self, _connection: asyncpg.Connection) -> None:
        if self._prices is None:
            return
        heads = await self._prices.signed_heads()
        now = {list_id: (sha256(head).digest(), self._prices.epoch_of(head)) for list_id, head in heads.items()}
        before, self._pushed = self._pushed, now
        if before is None:
            return  # whoever is connected by now has asked
        for list_id, (digest, epoch) in now.items():
            known = before.get(list_id)
            if known is None or known[0] != digest:
                await self._push(self._prices, list_id, heads[list_id], with_letter=known is None or known[1] != epoch)

    async def _push(self, prices: Announced, list_id: str, head: bytes, *, with_letter: bool) -> None:
        connected = set(self._line.connected())
        for site in await prices.readers(list_id):
            if f"dealer/{site}" not in connected:
                continue
            if with_letter:
                for letter in await prices.letters(site, list_id):
                    self._line.send(site, "epoch", letter)
            self._line.send(site, "head", head)
            self.pushes += 1
