"""News of one party, from several sources (in order within each) behind one cursor: what streams send and webhooks carry.

A source is an append-only sequence that a party may read part of: its log of messages and receipts here, releases of price
lists it is entitled to from elsewhere (handed in by the wiring). A cursor names how far each source was read (`m12.p5`), so a
reader goes on after any interruption without a gap or a repetition.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import asyncpg
import msgspec

from rocade.core.errors import Refused, Unavailable
from rocade.core.identifiers import Identity
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.exchange import ledger
from rocade.services.exchange.model import MESSAGE_ENTRY, party_of
from rocade.services.exchange.reading import message_of
from rocade.trust.authority.sealing.columns import Columns
from rocade.wire import resources
from rocade.wire.exchange import Message
from rocade.wire.exchange.receipts import read_receipt

CHANNELS = (ledger.CHANNEL, "price_heads")
PAGE = 200
POLL_S = 2.0
_CURSOR = re.compile(r"(?:[a-z]\d{1,18}(?:\.[a-z]\d{1,18}){0,7})?\Z")


class Item(Protocol):
    """One thing that happened. `data` is a resource, or a few plain values; `thin` what a webhook says of it."""

    @property
    def source(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def at_us(self) -> int: ...
    @property
    def data(self) -> Any: ...
    @property
    def thin(self) -> dict[str, Any]: ...


class News(msgspec.Struct, frozen=True):
    """An item of the party's log."""

    source: str
    number: int
    type: str
    at_us: int
    data: Any
    thin: dict[str, Any]


class Source(Protocol):
    """`mark` is the one letter that stands for it in cursors."""

    @property
    def mark(self) -> str: ...

    async def after(self, reader: Identity, number: int, limit: int) -> Sequence[Item]:
        """What this reader may see behind a number, in order."""
        ...


class Log:
    """The party's log in the exchange: messages to it, decisions about its own."""

    mark = "m"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(self, reader: Identity, number: int, limit: int) -> list[News]:
        """Raises: Unavailable `database.down`."""
        try:
            async with self._database.pool.acquire() as connection:
                entries = await ledger.read_log(
                    connection, Columns(self._database), [(party_of(reader), number)], limit
                )
        except DOWN as error:
            raise Unavailable("database.down", f"the log cannot be read: {type(error).__name__}") from error
        return [_news(entry) for entry in entries]


def _news(entry: ledger.Entry) -> News:
    thin: dict[str, Any] = {"id": entry.id, "sha256": entry.sha.hex()}
    if entry.kind == MESSAGE_ENTRY:
        data = None if entry.envelope is None else as_resource(message_of(entry.envelope))
        if data is not None:
            thin |= {"sender": data.sender, "content_class": data.content_class, "content_type": data.content_type}
        return News("m", entry.number, "message", entry.recorded_us, data, thin)
    receipt = as_receipt(entry.decided or entry.received)
    thin |= {"outcome": receipt.outcome, "code": receipt.code}
    return News("m", entry.number, "receipt", receipt.at_us, receipt, thin)


def as_resource(message: Message) -> resources.Message:
    """A message as the formats of the trade write it."""
    to = message.recipient
    return resources.Message(
        id=message.id, sender=message.sender, brand=to.brand, country=to.country, service=to.service, site=to.site,
        stream=message.stream, sequence=message.sequence, content_class=message.content_class,
        content_type=message.content_type, created_us=message.created_us, answers=message.answers, body=message.body,
    )  # fmt: skip


def as_receipt(content: bytes) -> resources.Receipt:
    """Raises: Refused `exchange.receipt.malformed`."""
    return msgspec.convert(msgspec.to_builtins(read_receipt(content)), resources.Receipt)


class Newsroom:
    """Reads all sources and wakes whoever waits. `run()` listens; without it every wait ends after a poll."""

    def __init__(self, database: Database, sources: Sequence[Source]) -> None:
        self._database = database
        self._sources = list(sources)
        self._wake = asyncio.Event()

    async def after(self, reader: Identity, cursor: str, limit: int = PAGE) -> tuple[list[Item], str]:
        """What is new behind a cursor, and the cursor behind that. "" = from the beginning.

        Raises: Refused `exchange.news.cursor`.
        """
        places = read_cursor(cursor)
        found: list[Item] = []
        for source in self._sources:
            left = limit - len(found)
            if left > 0:
                found += await source.after(reader, places.get(source.mark, 0), left)
        for one in found:
            places[one.source] = max(places.get(one.source, 0), one.number)
        return found, write_cursor(places)

    async def wait(self, wait_s: float) -> None:
        """Until something may be new, or so long."""
        try:
            await asyncio.wait_for(self._wake.wait(), min(wait_s, POLL_S))
        except TimeoutError:
            return

    async def run(self) -> None:
        """Wake readers when something is announced, for ever."""
        while True:
            try:
                connection = await asyncpg.connect(self._database.url, timeout=10)
                try:
                    for channel in CHANNELS:
                        await connection.add_listener(channel, lambda *_: self._announce())
                    gone = asyncio.Event()
                    connection.add_termination_listener(lambda _, gone=gone: gone.set())
                    await gone.wait()
                finally:
                    connection.terminate()
            except (OSError, TimeoutError, asyncpg.PostgresError, *DOWN):
                pass
            await asyncio.sleep(1)

    def _announce(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()


def read_cursor(cursor: str) -> dict[str, int]:
    """Raises: Refused `exchange.news.cursor`."""
    if not _CURSOR.match(cursor):
        raise Refused("exchange.news.cursor", "this is no cursor; send back the one that came with the last answer")
    return {part[0]: int(part[1:]) for part in cursor.split(".") if part}


def write_cursor(places: Mapping[str, int]) -> str:
    return ".".join(f"{mark}{number}" for mark, number in sorted(places.items()) if number)


def reader_of(caller: str) -> Identity:
    """The party that a caller's id names. Raises: Refused `exchange.news.party`."""
    try:
        identity = Identity.parse(caller)
    except Refused:
        identity = None
    if identity is None or identity.kind not in {"dealer", "partner"}:
        raise Refused("exchange.news.party", "only points of sale and partners have news here, by their certificate")
    return identity
