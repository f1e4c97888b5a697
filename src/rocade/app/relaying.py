"""The relay role: lines of agents, joined as the rules of interconnection say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from rocade.app import wiring
from rocade.app.configuration import Configuration
from rocade.core.ports import Clock
from rocade.doors.relay.door import RelayDoor
from rocade.services.dealers import SiteTable
from rocade.services.interconnection import Interconnection, Relaying, SiteFacts
from rocade.trust.authority import DenySet
from rocade.trust.identity.directory import LiveIssuers
from rocade.trust.identity.tls import ServerIdentity


class KnownSites:
    """What rules of interconnection ask of a site, from the network of dealers."""

    def __init__(self, table: SiteTable, clock: Clock) -> None:
        self._table, self._clock = table, clock

    def facts(self, site: str, at_us: int) -> SiteFacts | None:
        found = self._table.site(site)
        if found is None:
            return None
        brands = frozenset(brand.brand for brand in found.brands_at(at_us))
        return SiteFacts(found.id, found.dealer, found.group, found.country, brands, found.is_open(at_us))

    def all(self) -> Iterable[str]:
        return [site.id for site in self._table]


@contextlib.asynccontextmanager
async def relay(configuration: Configuration) -> AsyncIterator[wiring.Part]:
    """Relay door -> rules, quotas, counts -> the lines of other sites, or addresses reached from here."""
    async with wiring.common(configuration, 4) as parts:
        server, issuers = ServerIdentity(configuration.server), LiveIssuers(configuration.trust)
        denied = await DenySet.open(parts.database, parts.clock)
        table = await SiteTable.open(parts.database, parts.clock)
        interconnection = Interconnection(parts.database, parts.audit, parts.clock, KnownSites(table, parts.clock))
        await interconnection.load()
        relaying = Relaying(interconnection, parts.database, parts.audit, parts.clock)
        await relaying.start()
        verify = wiring.verifier(issuers, parts.clock, ("dealer",), denied)
        door = RelayDoor(server, verify, relaying, parts.audit, parts.clock)
        await denied.watch(door.revoked)

        def status() -> dict[str, Any]:
            return {"lines": len(door.lines), "streams": relaying.open_streams}

        part = wiring.Part(parts.database, parts.clock, status)
        await door.start(configuration.relay.host, configuration.relay.port)
        part.spawn(server.keep(), "roll")
        part.spawn(interconnection.follow(), "policy")
        part.spawn(relaying.keep(), "counts")
        try:
            yield part
        finally:
            await door.close()
            await part.end()
            await relaying.close()
            await table.close()
            await denied.close()
