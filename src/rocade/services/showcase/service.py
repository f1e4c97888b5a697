"""Use cases of the card: a manager says what is shown; visitors see hours, services and prices as they stand.

What visitors see is kept for `FRESH_US`: a popular web site costs one query a minute. Only prices of retail lists of brands the
site has are ever shown: net prices and other brands' lists are not the dealer's to publish.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import msgspec

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.services.dealers import SiteTable, opening
from rocade.services.prices import Lists, PriceList
from rocade.services.showcase import store
from rocade.services.showcase.model import BrandShown, Card, Item, Offered, Shown

FRESH_US = 60_000_000
EXCEPTIONS = 5


class Showcase:
    """The cards of one region. Without `lists` no prices are shown."""

    def __init__(self, database: Database, audit: Audit, clock: Clock, table: SiteTable, lists: Lists | None) -> None:
        self._database, self._audit, self._clock = database, audit, clock
        self._table, self._lists = table, lists
        self._kept: dict[str, tuple[int, Shown]] = {}

    async def card(self, site: str) -> Card:
        """What its manager chose; off as long as he chose nothing. Raises: Refused `dealers.site.unknown`."""
        self._table.check_site(site, self._clock.now_us())
        async with self._database.pool.acquire() as connection:
            return await store.read(connection, site) or Card()

    async def put(self, site: str, card: Card, actor: str) -> None:
        """Raises: Refused `showcase.origin`, `showcase.items`, `showcase.list`, `dealers.site.unknown`."""
        card.check()
        now_us = self._clock.now_us()
        self._table.check_site(site, now_us)
        for item in card.items:
            await self._check_list(site, item, now_us)
        entry = AuditEntry(now_us, actor, "showcase.put", f"site:{site}", facts={"is_on": int(card.is_on)})
        async with self._database.pool.acquire() as connection, connection.transaction():
            await self._audit.record(entry)
            await store.put(connection, site, card, now_us)
        self._kept.pop(site, None)

    async def shown(self, site: str) -> Shown:
        """What visitors see now. Raises: Refused `showcase.off`."""
        now_us = self._clock.now_us()
        kept = self._kept.get(site)
        if kept and 0 <= now_us - kept[0] < FRESH_US:
            return kept[1]
        about = self._table.site(site)
        async with self._database.pool.acquire() as connection:
            card = await store.read(connection, site) if about else None
        if about is None or card is None or not card.is_on or not about.is_open(now_us):
            raise Refused("showcase.off", "this point of sale shows no card")
        hours = opening.parse(about.opening_hours)
        today = datetime.fromtimestamp(now_us / 1e6, UTC).astimezone(opening.zone(about.timezone)).date()
        made = Shown(
            about.id, about.name, about.address, about.city, about.country, about.phone, about.timezone,
            hours.is_open(now_us, about.timezone) if about.opening_hours else None,
            hours.week,
            tuple(sorted((day, spans) for day, spans in hours.dates.items() if day >= today))[:EXCEPTIONS],
            tuple(BrandShown(one.brand, one.sells, one.services) for one in about.brands_at(now_us)),
            tuple([offered for item in card.items if (offered := await self._offered(site, item, now_us))]),
            card.origins,
            now_us,
        )  # fmt: skip
        self._kept[site] = now_us, made
        return made

    async def _offered(self, site: str, item: Item, now_us: int) -> Offered | None:
        """The price now; None where it was withdrawn, or is no longer the site's to show."""
        if self._lists is None:
            return None
        with contextlib.suppress(Refused):
            about = await self._check_list(site, item, now_us)
            price = await self._lists.price(item.list, item.ref, now_us)
            if price.price_minor is not None:
                return Offered(item.ref, price.label, price.price_minor, about.currency)
        return None

    async def _check_list(self, site: str, item: Item, now_us: int) -> PriceList:
        about = await self._lists.find(item.list) if self._lists else None
        if about is None or about.kind != "retail" or not self._table.has_brand(site, about.brand, now_us):
            raise Refused("showcase.list", "show prices of retail lists of brands this point of sale has, no others")
        return about


def encoded(shown: Shown) -> bytes:
    """As JSON for a web site that draws the card itself; which web sites may frame it is nobody else's business."""
    return msgspec.json.encode(msgspec.structs.replace(shown, origins=()))
