"""Orders to agents: renew the certificate, restart; asked for by whoever may run the agent, sent down its line as a notice.

Flow: `give` writes the order in the same transaction as the audit log and notifies; `deliver` (in the process that holds the
lines) sends each waiting order as soon as the site is connected: `down/notice` {"code": "dealer.renew" | "dealer.restart",
"text": ..., "order": number}. An order nobody could be told for `LIFE_US` is left: a restart asked for last week is no wish
of today. The agent obeys because the line is the hub's; an order carries no key, no content and no command to run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec

from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.following import follow
from rocade.services.dealers import errors, store
from rocade.services.dealers.model import Order

WHATS = ("renew", "restart", "install")
LIFE_US = 86_400_000_000
ANSWER_S = 5.0
_TEXTS = {"renew": "Renew the certificate now.", "restart": "Restart now.", "install": "An installation was asked for."}

type Send = Callable[[str, str, bytes], Awaitable[bool]]
"""Site, tail of the topic, body -> whether the agent took it."""


class Orders:
    """Orders of one region's database."""

    def __init__(self, database: Database, audit: Audit, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    async def give(self, site: str, what: str, actor: str) -> Order:
        """Ask a site's agent for something.

        Raises: Refused `dealers.order.unknown`, `dealers.site.unknown`.
        """
        if what not in WHATS:
            raise errors.not_installed(what)
        async with store.transaction(self._database) as connection:
            await store.lock_state(connection, site)
            now_us = self._clock.now_us()
            number = await store.add_order(connection, site, what, actor, now_us)
            await self._audit.record(AuditEntry(now_us, actor, "dealers.order", f"site:{site}", facts={"what": what}))
        return Order(number, site, what, actor, now_us, 0)

    async def of(self, site: str, limit: int = 50) -> list[Order]:
        """Orders of a site, the newest first."""
        async with store.transaction(self._database) as connection:
            return await store.read_orders(connection, site, limit)

    async def deliver(self, is_connected: Callable[[str], bool], send: Send, *, poll_s: float = 2.0) -> None:
        """Send what waits, for ever; run it beside the lines. An installation is for people, no agent is there to hear it."""

        async def read(connection: asyncpg.Connection) -> None:
            waiting = await store.waiting_orders(connection, self._clock.now_us() - LIFE_US)
            due = [order for order in waiting if order.what != "install" and is_connected(order.site)]
            taken = await asyncio.gather(*(_send(send, order) for order in due))
            for order in [order for order, is_taken in zip(due, taken, strict=True) if is_taken]:
                await store.mark_sent(connection, order.number, self._clock.now_us())

        await follow(self._database, store.ORDERS, read, poll_s=poll_s)


async def _send(send: Send, order: Order) -> bool:
    """Whether the agent took it; who does not answer is asked again later."""
    body = {"code": f"dealer.{order.what}", "text": _TEXTS[order.what], "order": order.number}
    try:
        async with asyncio.timeout(ANSWER_S):
            return await send(order.site, "notice", msgspec.json.encode(body))
    except TimeoutError:
        return False
