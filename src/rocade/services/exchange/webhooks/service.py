"""Webhooks: a party's news sent to addresses it chose, signed, in order, until they are taken.

The party's own log is the queue: an endpoint has a cursor into it, which moves when the receiver has answered 2xx. A failure
is tried again after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h; after that, or at once on 410, the endpoint is paused
and its owner told by the list. Resumed, it goes on where it was: nothing is lost that the log still holds. What is sent is
thin (which message, whose, its digest); content is fetched over the API by whoever may.
Each endpoint is told by one process at a time; a crash leads to a repetition, which the receiver knows by `webhook-id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import msgspec

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.doors.webhooks import Poster, signing, target_of
from rocade.fabric.database import Database
from rocade.services.exchange.model import party_of
from rocade.services.exchange.news import Item, Newsroom, read_cursor, write_cursor
from rocade.services.exchange.webhooks import store
from rocade.services.exchange.webhooks.store import Endpoint
from rocade.trust.identity.keys import create_secret, read_secret
from rocade.wire.resources.schema import write_instant

_log = logging.getLogger(__name__)

EVENTS = ("message", "receipt", "price-release")
ENDPOINT_LIMIT = 8
RETRY_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
RESERVED_US = 120_000_000
AT_ONCE = 16
PAGE = 50
IDLE_S = 5.0


class Webhooks:
    """`run()` tells endpoints for ever; the rest is what their owners do."""

    def __init__(
        self,
        database: Database,
        news: Newsroom,
        place: Identity,
        key_file: Path,
        audit: Audit,
        clock: Clock,
        random: Random,
        poster: Poster | None = None,
    ) -> None:
        """`place` is an identity of this region: endpoints' parties become identities beside it."""
        self._database = database
        self._news = news
        self._place = place
        self._master = _master_key(key_file, random)
        self._audit = audit
        self._clock = clock
        self._random = random
        self._poster = poster or Poster()

    # --- what owners do ----------------------------------------------------------------------------------------------

    async def add(self, owner: Identity, url: str, events: tuple[str, ...]) -> tuple[Endpoint, str]:
        """A new endpoint and its secret, which is shown this once. It is told what happens from now on.

        Raises: Refused `webhooks.address.*`, `webhooks.events`, `webhooks.many`.
        """
        await self._check_reachable(url)
        if not events or not set(events) <= set(EVENTS):
            raise Refused("webhooks.events", f"events are {', '.join(EVENTS)}")
        now_us, id = self._clock.now_us(), f"wh_{self._random.bits(96):024x}"
        cursor = await self._end_of(owner)
        made = Endpoint(id, party_of(owner), url, events, 1, 0, cursor, 0, now_us, 0, 0, now_us)
        async with self._database.pool.acquire() as connection, connection.transaction():
            if not await store.add(connection, made, ENDPOINT_LIMIT):
                raise Refused("webhooks.many", f"a party may have {ENDPOINT_LIMIT} endpoints")
        await self._record(owner, "webhooks.add", id)
        return made, signing.secret_of(self._master, id, 1)

    async def _check_reachable(self, url: str) -> None:
        try:
            await self._poster.resolve(target_of(url))
        except OSError:
            raise Refused("webhooks.address.unknown", "the name of the address cannot be found") from None

    async def _end_of(self, owner: Identity) -> str:
        """The cursor behind everything that is there."""
        cursor = ""
        while True:
            found, after = await self._news.after(owner, cursor)
            if not found:
                return after
            cursor = after

    async def of(self, owner: Identity) -> list[Endpoint]:
        return await store.of_party(self._database.pool, party_of(owner))

    async def remove(self, owner: Identity, id: str) -> None:
        """Raises: Refused `webhooks.unknown`."""
        if not await store.remove(self._database.pool, party_of(owner), id):
            raise _unknown()
        await self._record(owner, "webhooks.remove", id)

    async def rotate(self, owner: Identity, id: str) -> str:
        """A new secret; the old one signs besides for a day. Raises: Refused `webhooks.unknown`."""
        generation = await store.rotate(self._database.pool, party_of(owner), id, self._clock.now_us())
        if generation is None:
            raise _unknown()
        await self._record(owner, "webhooks.rotate", id)
        return signing.secret_of(self._master, id, generation)

    async def resume(self, owner: Identity, id: str) -> None:
        """Try a paused endpoint again, from where it was. Raises: Refused `webhooks.unknown`."""
        if not await store.resume(self._database.pool, party_of(owner), id, self._clock.now_us()):
            raise _unknown()
        await self._record(owner, "webhooks.resume", id)

    async def _record(self, owner: Identity, action: str, id: str) -> None:
        await self._audit.record(AuditEntry(self._clock.now_us(), owner.uri, action, f"webhook:{id}"))

    # --- telling -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell every endpoint what is new, for ever."""
        while True:
            try:
                if not await self.tell():
                    await self._news.wait(IDLE_S)
            except (RocadeError, OSError) as error:
                _log.warning("webhooks wait a moment: %s", error)
                await asyncio.sleep(1)
            except Exception:
                _log.exception("telling webhooks failed; it goes on")
                await asyncio.sleep(1)

    async def tell(self) -> int:
        """Tell the endpoints whose time has come; how many posts were made."""
        now_us = self._clock.now_us()
        async with self._database.pool.acquire() as connection:
            due = await store.take_due(connection, now_us, now_us + RESERVED_US, AT_ONCE)
        return sum(await asyncio.gather(*map(self._tell_one, due)))

    async def _tell_one(self, one: Endpoint) -> int:
        reader = Identity(self._place.trust_domain, self._place.region, *one.party.split("/", 1))
        found, after = await self._news.after(reader, one.cursor, PAGE)
        places, status, posts = read_cursor(one.cursor), one.status, 0
        for news in found:
            if news.type in one.events:
                try:
                    status = await self._post(one, news)
                except (Unavailable, Refused) as error:
                    await self._failed(one, write_cursor(places), 0, error.code)
                    return posts + 1
                posts += 1
                if not 200 <= status < 300:
                    await self._failed(one, write_cursor(places), status, "webhooks.answer")
                    return posts
            places[news.source] = max(places.get(news.source, 0), news.number)
        due_us = self._clock.now_us() + (0 if len(found) == PAGE else int(IDLE_S * 200_000))
        await store.told(self._database.pool, one.id, after if found else one.cursor, due_us, status)
        return posts

    async def _post(self, one: Endpoint, news: Item) -> int:
        now_us = self._clock.now_us()
        body = msgspec.json.encode({"type": news.type, "timestamp": write_instant(news.at_us), "data": news.thin})
        id = f"msg_{news.source}{news.number}_{one.party.replace('/', '_')}"
        secrets = [signing.secret_of(self._master, one.id, one.generation)]
        if one.generation > 1 and now_us < one.rotated_us + signing.OVERLAP_US:
            secrets.append(signing.secret_of(self._master, one.id, one.generation - 1))
        return await self._poster.post(one.url, signing.headers(secrets, id, now_us // 1_000_000, body), body)

    async def _failed(self, one: Endpoint, cursor: str, status: int, code: str) -> None:
        """Keep what was told, and try the rest later or not at all."""
        now_us, attempt = self._clock.now_us(), one.attempt + 1 if cursor == one.cursor else 1
        is_over = attempt > len(RETRY_S) or status == 410 or code.startswith("webhooks.address")
        wait_s = 0 if is_over else RETRY_S[attempt - 1]
        due_us = now_us + int(wait_s * (0.9 + 0.2 * self._random.uniform()) * 1e6)
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.told(connection, one.id, cursor, due_us, status)
            await store.failed(connection, one.id, attempt, due_us, now_us if is_over else 0, status)
        if is_over:
            party = Identity(self._place.trust_domain, self._place.region, *one.party.split("/", 1)).uri
            entry = AuditEntry(
                now_us, "webhooks", "webhooks.pause", f"webhook:{one.id}", "refused", code, {"party": party}
            )
            self._audit.note(entry)


def _unknown() -> Refused:
    return Refused("webhooks.unknown", "you have no such endpoint")


def _master_key(file: Path, random: Random) -> bytes:
    """The region's webhook key; made at its first use."""
    if not file.exists():
        with contextlib.suppress(FileExistsError):  # another process was first
            create_secret(file, random)
    return read_secret(file)
