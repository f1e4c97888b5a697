"""What was refused before it was anybody's message: kept with its reason, so that every refusal can be searched.

Within `EVERY_S` the first refusal of a party for a reason is kept whole (up to `MOST_BYTES`), the following ones are counted beside it: a flood
costs a row a second, not a disk. Nothing in such a row is believed; `id` is what the content calls itself, if that can be read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
from hashlib import sha256

import asyncpg
import msgspec

from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.exchange import store
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.identity.envelope import Envelope

EVERY_S = 1.0
MOST_BYTES = 64 << 10
MOST_KINDS = 2_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")


class _Kept(msgspec.Struct):
    at_us: int
    tail: str
    reason: str
    id: str
    body: bytes
    times: int = 1


class Evidence:
    """`keep` never blocks; `run` writes once a second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[tuple[str, str], _Kept] = {}

    def keep(self, party: str, tail: str, body: bytes, refusal: Refused, at_us: int) -> None:
        kept = self._kept.get((party, refusal.code))
        if kept is not None:
            kept.times += 1
        elif len(self._kept) < MOST_KINDS:
            self._kept[party, refusal.code] = _Kept(
                at_us, tail, refusal.message[:500], _claimed_id(body), body[:MOST_BYTES]
            )

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            with contextlib.suppress(*DOWN, asyncpg.PostgresError):
                await self.write()

    async def write(self) -> None:
        """Write what is kept; what cannot be written now is tried again."""
        kept, self._kept = self._kept, {}
        rows = [
            (one.at_us, party, one.tail, code, one.reason, one.id, sha256(one.body).digest(), one.body, one.times)
            for (party, code), one in kept.items()
        ]
        if not rows:
            return
        try:
            async with self._database.pool.acquire() as connection:
                await store.add_refused(connection, Columns(self._database), rows)
        except BaseException:
            self._kept = {**kept, **self._kept}
            raise


def _claimed_id(body: bytes) -> str:
    """What a refused message calls itself; "" where that cannot be read."""
    try:
        payload = base64.b64decode(msgspec.json.decode(body, type=Envelope).payload, validate=True)
        claimed = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        return ""
    found = claimed.get("id") if isinstance(claimed, dict) else None
    return found if isinstance(found, str) and _ID.match(found) else ""
