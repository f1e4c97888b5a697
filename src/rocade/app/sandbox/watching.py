"""The sandbox's eyes: before the desk, before the news, and in the audit; and its one mischief, a lost receipt.

The first time a message comes it is recorded as always, and then the caller is told that the hub did not answer in time. What
a program does next shows whether it may be trusted with orders: the same message again has one effect and gets its receipt.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from rocade.app.sandbox.conformance import Seen
from rocade.core.errors import Refused, Unavailable
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.soap.dispatch import Desk
from rocade.fabric.database import Database
from rocade.services.exchange.news import Item, Newsroom, Source
from rocade.wire.resources import Message, PriceLine, Receipt, to_json
from rocade.wire.resources.operations import GetPrice, GetPriceChanges, GetReceipts, GetSites, Page

PAST_US = 3_600_000_000


class Book:
    """What was seen, by party."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def of(self, uri: str) -> Seen:
        return self._seen.setdefault(uri, Seen(uri))

    def all(self) -> Sequence[Seen]:
        return [self._seen[uri] for uri in sorted(self._seen)]


class Watched:
    """Implements doors.soap.dispatch.Desk over the real one."""

    def __init__(self, desk: Desk, book: Book, clock: Clock) -> None:
        self._desk = desk
        self._book = book
        self._clock = clock

    async def price(self, caller: Identity, asked: GetPrice) -> PriceLine:
        seen = self._book.of(caller.uri)
        try:
            found = await self._desk.price(caller, asked)
        except Refused as refusal:
            seen.unknown_parts += refusal.code == "prices.reference.unknown"
            raise
        seen.calls["GetPrice"] += 1
        seen.past_prices += asked.at_us is not None and asked.at_us < self._clock.now_us() - PAST_US
        return found

    async def price_changes(self, caller: Identity, asked: GetPriceChanges) -> Page:
        found, seen = await self._desk.price_changes(caller, asked), self._book.of(caller.uri)
        seen.calls["GetPriceChanges"] += 1
        seen.pages += 1
        seen.ends += not found.cursor
        return found

    async def send(self, caller: Identity, message: Message, evidence: bytes) -> Receipt:
        seen = self._book.of(caller.uri)
        receipt = await self._desk.send(caller, message, evidence)
        seen.calls["SendMessage"] += 1
        seen.sent.setdefault(message.id, []).append(sha256(to_json([message])).digest())
        if message.id not in seen.lost:
            seen.lost.add(message.id)
            raise Unavailable(
                "sandbox.receipt.lost", "the sandbox lost this receipt on purpose; send the message again"
            )
        return receipt

    async def receipts(self, caller: Identity, asked: GetReceipts) -> Page:
        found, seen = await self._desk.receipts(caller, asked), self._book.of(caller.uri)
        seen.calls["GetReceipts"] += 1
        seen.asked_after |= {one.message_id for one in found.rows if one.kind == "decided"}
        return found

    async def sites(self, caller: Identity, asked: GetSites) -> Page:
        found = await self._desk.sites(caller, asked)
        self._book.of(caller.uri).calls["GetSites"] += 1
        return found


class WatchedNews(Newsroom):
    """A newsroom that writes down who looked, webhooks too."""

    def __init__(self, database: Database, sources: Sequence[Source], book: Book) -> None:
        super().__init__(database, sources)
        self._book = book

    async def after(self, reader: Identity, cursor: str, limit: int = 200) -> tuple[list[Item], str]:
        found, after = await super().after(reader, cursor, limit)
        if found:
            seen = self._book.of(reader.uri)
            seen.news += 1
            seen.asked_after |= {str(one.thin.get("id")) for one in found if one.type == "receipt"}
        return found, after


class WatchedAudit:
    """An audit log that also counts what was refused to whom."""

    def __init__(self, audit: Audit, book: Book) -> None:
        self._audit = audit
        self._book = book

    def note(self, entry: AuditEntry) -> None:
        if entry.outcome == "refused" and entry.actor.startswith("spiffe://"):
            self._book.of(entry.actor).refused[entry.reason] += 1
        self._audit.note(entry)

    async def record(self, entry: AuditEntry) -> None:
        await self._audit.record(entry)
