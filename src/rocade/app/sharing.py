"""Sharing in the API process and in the role that posts; what waits is put there by the worker (`wiring.worker`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Self

import msgspec

from rocade.app import wiring
from rocade.app.configuration import Configuration
from rocade.console.application import Module
from rocade.console.my import Mine
from rocade.console.sharing import ShareDesk
from rocade.console.sharing import module as pages_of
from rocade.core import catalogue
from rocade.core.errors import Misconfigured
from rocade.core.identifiers import Identity
from rocade.doors.webhooks import Poster
from rocade.doors.webhooks.posting import is_public
from rocade.fabric.database import Leases
from rocade.fabric.history import History
from rocade.services.consent import Consents, ConsentTable, Looks
from rocade.services.sharing import (
    Bell,
    Book,
    Bulk,
    Delivery,
    Feeding,
    Hooks,
    Lines,
    Secrets,
    Sharing,
    api,
    keep_house,
)
from rocade.services.sharing.streams import Streams
from rocade.services.sharing.whole import Whole

LEASES = "sharing"


@dataclass
class Shared:
    """What both the API and the sharing role stand on."""

    parts: wiring.Common
    sharing: Sharing
    book: Book
    feeding: Feeding
    bell: Bell
    lines: Lines
    secrets: Secrets

    @classmethod
    async def open(cls, parts: wiring.Common, consents: Consents, table: ConsentTable, looks: Looks) -> Self:
        signals = catalogue.standard()
        sharing = Sharing(parts.database, consents, table, signals, parts.audit, parts.clock, parts.random)
        book = await Book.open(parts.database)
        feeding = Feeding(sharing, book, parts.keyring, looks, signals, parts.clock)
        return cls(parts, sharing, book, feeding, Bell(parts.database), Lines(sharing), Secrets(parts.keyring))

    def module(self, history: History) -> Module:
        """The API's part."""
        settings = self.parts.configuration.sharing
        is_on, poster = settings.processes > 0, poster_of(self.parts.configuration)
        hooks = Hooks(self.sharing, self.secrets, self.parts.audit, is_on=is_on, poster=poster)
        dependencies = {
            "sharing": self.sharing,
            "feeding": self.feeding,
            "streams": Streams(self.bell, self.lines, self.keep_us),
            "bulk": Bulk(self.feeding, history, catalogue.standard()),
            "hooks": hooks,
        }
        return Module(api.HANDLERS, dependencies, self.sharing.forget)

    def pages(self, mine: Mine, whole: Whole) -> Module:
        """The pages of the API process."""
        processes = self.parts.configuration.sharing.processes
        return pages_of(ShareDesk(sharing=self.sharing, mine=mine, whole=whole, has_webhooks=processes > 0))

    @property
    def keep_us(self) -> int:
        return int(self.parts.configuration.sharing.keep_hours * 3_600_000_000)

    def work(self) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """What runs beside: the bell, the log's writer, the keeper of the house."""
        return [
            (self.bell.run(), "sharing-bell"),
            (self.lines.run(), "sharing-lines"),
            (keep_house(self.feeding, self.parts.audit, self.keep_us), "sharing-house"),
        ]

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.lines.flush()
        await self.book.close()


def poster_of(configuration: Configuration) -> Poster:
    """What posts: to public addresses, and to the networks that the configuration names.

    Raises: Misconfigured `sharing.networks`, `sharing.roots`.
    """
    settings, context = configuration.sharing, ssl.create_default_context()
    try:
        networks = [ip_network(one) for one in settings.networks]
    except ValueError as error:
        raise Misconfigured("sharing.networks", f"[sharing] networks: {error}") from error
    try:
        if settings.roots:
            context.load_verify_locations(configuration.root / settings.roots)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured("sharing.roots", f"[sharing] roots cannot be read: {error}") from error
    return Poster(context, lambda address: is_public(address) or any(address in one for one in networks))


@contextlib.asynccontextmanager
async def sharing(configuration: Configuration) -> AsyncIterator[wiring.Part]:
    """The sharing role: feeds by webhook."""
    async with wiring.common(configuration, 8) as parts:
        table = await ConsentTable.open(parts.database, parts.clock)
        looks = Looks(parts.database, parts.audit, parts.clock)
        consents = Consents(parts.database, parts.audit, parts.clock, parts.random)
        shared = await Shared.open(parts, consents, table, looks)
        owner = f"{socket.gethostname()}:{os.getpid()}:{parts.random.bits(32):08x}"
        place = Identity(configuration.trust_domain, configuration.region, "service", "sharing")
        delivery = Delivery(
            shared.feeding, shared.bell, shared.lines, Leases(parts.database, LEASES, LEASES, owner), shared.secrets,
            place, parts.audit, parts.clock, parts.random, poster_of(configuration),
        )  # fmt: skip
        part = wiring.Part(parts.database, parts.clock, lambda: msgspec.structs.asdict(delivery.counters))
        stop = asyncio.Event()
        running = part.spawn(delivery.run(stop), "delivery")
        for work, name in shared.work():
            part.spawn(work, name)
        try:
            yield part
        finally:
            stop.set()
            await asyncio.wait([running], timeout=6)
            await part.end()
            await shared.close()
            await looks.close()
            await table.close()
