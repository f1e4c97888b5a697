"""The hub's desk: who answers the five questions of the old doors, from price lists, the network of dealers and the exchange."""

from __future__ import annotations

from collections.abc import Sequence

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import Clock
from rocade.doors.sftp import Accepted, Given
from rocade.services import dealers
from rocade.services.dealers import FOREVER_US, SiteTable
from rocade.services.exchange.vouching import Vouching
from rocade.services.prices import Lists
from rocade.services.prices.changes import changes, entitled
from rocade.wire.resources import MESSAGE, Message, PriceLine, Receipt, Site, to_json
from rocade.wire.resources.model import LAST_INSTANT_US
from rocade.wire.resources.operations import GetPrice, GetPriceChanges, GetReceipts, GetSites, Page


class HubDesk:
    """Implements doors.soap.dispatch.Desk; `drop(identity)` takes dropped files of messages."""

    def __init__(self, lists: Lists | None, table: SiteTable, vouching: Vouching, clock: Clock) -> None:
        self._lists = lists
        self._table = table
        self._vouching = vouching
        self._clock = clock

    async def price(self, caller: Identity, asked: GetPrice) -> PriceLine:
        """Raises: Refused `prices.list.unknown`, `prices.reference.unknown`."""
        lists = self._priced()
        about = await entitled(lists, asked.list, caller.uri)
        at_us = self._clock.now_us() if asked.at_us is None else asked.at_us
        known = about.seq if asked.known_seq is None else min(asked.known_seq, about.seq)
        found = await lists.price(asked.list, asked.ref, at_us, known)
        return PriceLine(
            list=about.id, ref=found.ref, label=found.label, family=found.family, superseded_by=found.superseded_by,
            currency=about.currency, price_minor=found.price_minor, valid_from_us=found.valid_from_us, seq=found.seq,
            at_us=at_us, known_seq=max(known, 1),
        )  # fmt: skip

    async def price_changes(self, caller: Identity, asked: GetPriceChanges) -> Page:
        """Raises: Refused `prices.list.unknown`, `prices.cursor`."""
        about = await entitled(self._priced(), asked.list, caller.uri)
        return Page(*await changes(self._priced(), about, asked.since_seq, asked.cursor, asked.limit))

    def _priced(self) -> Lists:
        if self._lists is None:
            raise Refused("prices.list.unknown", "this region has no price lists")
        return self._lists

    async def send(self, caller: Identity, message: Message, evidence: bytes) -> Receipt:
        """Raises: as `Vouching.take`, `dealers.site.*`."""
        self._check_place(caller)
        return await self._vouching.take(caller, message, "soap", evidence)

    def _check_place(self, caller: Identity) -> None:
        if caller.kind == "dealer":
            self._table.check_site(caller.id, self._clock.now_us())

    async def receipts(self, caller: Identity, asked: GetReceipts) -> Page:
        """Raises: Refused `exchange.news.cursor`."""
        if asked.cursor and not (asked.cursor.isdigit() and len(asked.cursor) < 18):
            raise Refused("exchange.news.cursor", "this is no cursor; send back the one that came with the last answer")
        found, more = await self._vouching.receipts(caller, int(asked.cursor or 0), asked.message_id, asked.limit)
        return Page(list(found), str(more) if more else "")

    async def sites(self, caller: Identity, asked: GetSites) -> Page:  # noqa: ARG002 - one network for all
        """Points of sale that are open or will be, in order of their ids; for everybody proven in the region."""
        now_us = self._clock.now_us()
        wanted = sorted(
            (
                one
                for one in self._table
                if one.closed_us > now_us and one.id > asked.cursor and _fits(one, asked, now_us)
            ),
            key=lambda one: one.id,
        )
        rows = [as_resource(one, now_us) for one in wanted[: asked.limit]]
        return Page(list(rows), rows[-1].id if len(wanted) > asked.limit else "")

    async def drop(self, sender: Identity, given: Given) -> Sequence[Accepted]:
        """Take the messages of a dropped file, each with its own fate.

        Raises: Refused `drop.kind` (files bring messages, nothing else); Unavailable: the whole file again, later.
        """
        if given.resource is not MESSAGE:
            raise Refused("drop.kind", "files bring messages; prices and receipts are fetched")
        self._check_place(sender)
        taken: list[Accepted] = []
        for message in given.rows:
            try:
                receipt = await self._vouching.take(sender, message, "file", to_json([message]))
                taken.append(Accepted(receipt.message_id))
            except Refused as refusal:
                taken.append(Accepted(code=refusal.code, message=refusal.message))
        return taken


def _fits(one: dealers.Site, asked: GetSites, now_us: int) -> bool:
    has_brand = not asked.brand or any(held.brand == asked.brand for held in one.brands_at(now_us))
    return has_brand and asked.country in {"", one.country}


def as_resource(one: dealers.Site, now_us: int) -> Site:
    """A point of sale as the formats of the trade write it."""
    held = one.brands_at(now_us)
    return Site(
        id=one.id, dealer=one.dealer, group=one.group, name=one.name, country=one.country, primary=one.primary,
        address=one.address, city=one.city, latitude=one.latitude, longitude=one.longitude, timezone=one.timezone,
        opening_hours=one.opening_hours, phone=one.phone, opened_us=max(one.opened_us, 0),
        closed_us=None if one.closed_us >= min(FOREVER_US, LAST_INSTANT_US) else one.closed_us,
        sells=tuple(brand.brand for brand in held if brand.sells),
        services=tuple(brand.brand for brand in held if brand.services),
    )  # fmt: skip
