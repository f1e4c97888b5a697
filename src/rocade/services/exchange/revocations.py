"""The signed list of revoked certificates that goes down beside the price heads: nobody asks a live service about them.

It names dealers', partners' and services' certificates (not vehicles') that have not ended; its number grows with every
revocation, so an older list shown again is known for one. Signed anew when something changes and once an hour, so that its age tells
how fresh a party's knowledge is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set

import msgspec

from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.exchange.signing import Signer
from rocade.trust.authority import read_revoked_parties
from rocade.wire.exchange import REVOCATIONS_TYPE, RevocationList

KINDS = ("dealer", "partner", "service")
FRESH_US = 3_600_000_000


class Revocations:
    """`body()` is the list as it stands; `run(push)` hands a new one to everybody who is connected."""

    def __init__(self, database: Database, signer: Signer, clock: Clock, region: str) -> None:
        self._database = database
        self._signer = signer
        self._clock = clock
        self._region = region
        self._body = b""
        self._made_us = 0
        self._changed = asyncio.Event()
        self._making = asyncio.Lock()

    def revoked(self, _serials: Set[int]) -> None:
        """Something was revoked. (A watcher of the deny set.)"""
        self._made_us = 0
        self._changed.set()

    async def body(self) -> bytes:
        """The signed list."""
        async with self._making:
            now_us = self._clock.now_us()
            if now_us - self._made_us > FRESH_US:
                self._made_us = now_us
                async with self._database.pool.acquire() as connection:
                    number, revoked = await read_revoked_parties(connection, KINDS, now_us)
                found = RevocationList(self._region, number, now_us, tuple(revoked))
                self._body = self._signer.seal(REVOCATIONS_TYPE, msgspec.json.encode(found))
            return self._body

    async def run(self, push: Callable[[str, bytes], object]) -> None:
        """For ever: `push(tail, body)` after each change and each hour."""
        while True:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), FRESH_US / 1e6)
            except TimeoutError:
                self._made_us = 0
            push("revocations", await self.body())
