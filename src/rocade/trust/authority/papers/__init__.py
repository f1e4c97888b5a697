"""Papers: what operators are shown of certificates and claim codes; who is late to renew, what waits to be used.

A party counts by its newest certificate of each purpose that is not revoked: what it renewed in time is not shown. It is
late when more than three quarters of that certificate's life are over (programs renew after two thirds), ended when all
of it is. Nothing is changed here; the acts are `Authority`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rocade.core.errors import Refused
from rocade.core.identifiers import KINDS
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.trust.authority.naming import Names
from rocade.trust.authority.papers import store
from rocade.trust.authority.papers.store import Asked, Code, Count, Paper
from rocade.trust.authority.sealing.columns import Columns

STATES = ("late", "ended", "live", "revoked")
DAY_US = 86_400_000_000
ENDED_KEPT_US = 90 * DAY_US
"""Parties whose last certificate ended longer ago are not shown any more."""
PAGE_LIMIT = 500
COUNTED_FOR_US = 5_000_000
"""Counting reads every party's newest certificate; all who look within this time are shown the same."""

__all__ = ["STATES", "Code", "Count", "Paper", "Papers", "PapersPage"]


class PapersPage(msgspec.Struct, frozen=True):
    """`cursor` asks for the next page, None at the end."""

    papers: Sequence[Paper]
    cursor: str | None


class Papers:
    """Reads the authority's tables."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._names = Names(Columns(database))
        self._counts: list[Count] = []
        self._counted_us = 0

    async def certificates(
        self, state: str = "late", kind: str = "", find: str = "", cursor: str = "", limit: int = 50
    ) -> PapersPage:
        """Certificates in this state, those that end first first.

        `find`: a part of the party's id; of a vehicle's its last four characters or more.

        Raises: Refused `trust.papers.asked`.
        """
        if state not in STATES or (kind and kind not in KINDS):
            raise Refused("trust.papers.asked", f"state is one of {', '.join(STATES)}; kind one of {', '.join(KINDS)}")
        limit, now_us = max(1, min(limit, PAGE_LIMIT)), self._clock.now_us()
        ending = await self._names.ending(find)
        asked = Asked(state, kind, find, ending, now_us, now_us - ENDED_KEPT_US, *_position(cursor), limit + 1)
        async with self._database.pool.acquire() as connection:
            found = await self._told(await store.papers(connection, asked))
        last = found[limit - 1] if len(found) > limit else None
        return PapersPage(found[:limit], f"{last.not_after_us}-{last.serial:x}" if last else None)

    async def counts(self) -> list[Count]:
        """How many parties of each kind have a certificate, and how many are late or ended; as of a few seconds ago."""
        now_us = self._clock.now_us()
        if now_us - self._counted_us > COUNTED_FOR_US:
            async with self._database.pool.acquire() as connection:
                self._counts = await store.counts(connection, now_us, now_us - ENDED_KEPT_US)
            self._counted_us = now_us
        return self._counts

    async def party(self, serial: int) -> Paper:
        """The certificate with this serial number, for whose it is.

        Raises: Refused `trust.papers.unknown`.
        """
        async with self._database.pool.acquire() as connection:
            found = await store.of_serial(connection, serial, self._clock.now_us())
        if found is None:
            raise Refused("trust.papers.unknown", "no certificate with this serial number was issued here")
        return (await self._told([found]))[0]

    async def of(self, identity: str) -> list[Paper]:
        """All certificates of one party, newest first; ended and revoked ones too."""
        name = await self._names.find(identity)
        async with self._database.pool.acquire() as connection:
            found = await store.of_identity(connection, name, self._clock.now_us())
        return await self._told(found)

    async def codes(self, limit: int = 50) -> list[Code]:
        """Claim codes that were made, newest first: waiting, used, or ended unused."""
        async with self._database.pool.acquire() as connection:
            found = await store.codes(connection, limit)
        return await self._told(found)

    async def _told[T: (Paper, Code)](self, found: Sequence[tuple[T, bytes | None]]) -> list[T]:
        """With the parties' real names."""
        uris = await self._names.tell([(one.identity, sealed) for one, sealed in found])
        return [msgspec.structs.replace(one, identity=uri) for (one, _), uri in zip(found, uris, strict=True)]


def _position(cursor: str) -> tuple[int, int]:
    """Raises: Refused `trust.papers.asked`."""
    if not cursor:
        return 0, 0
    end, _, serial = cursor.partition("-")
    try:
        place = int(end), int(serial, 16)
    except ValueError:
        place = -1, -1
    if not (0 <= place[0] < 1 << 63 and 0 <= place[1] < 1 << 160):
        raise Refused("trust.papers.asked", "a cursor is what `next` said, unchanged")
    return place
