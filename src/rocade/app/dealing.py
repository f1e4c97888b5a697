"""The dealer road's part of the API process: one line for each service, its routes, what they ask for, what it explains."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rocade.app import wiring
from rocade.app.exchanging import open_recorder, open_signer
from rocade.app.pricing import price_lists
from rocade.app.relaying import KnownSites
from rocade.console import applications as applications_pages
from rocade.console import dealers as dealer_pages
from rocade.console import pages
from rocade.console.application import Module
from rocade.console.dealers import Network
from rocade.core.why import Explainer
from rocade.doors.http import openid_provider
from rocade.services.dealers import Dealers, Moving, Orders, SiteTable, moving_api
from rocade.services.dealers import api as dealers_api
from rocade.services.exchange import Exchange, Router, RouteTable
from rocade.services.exchange import api as exchange_api
from rocade.services.exchange.explaining import Messages
from rocade.services.interconnection import Interconnection
from rocade.services.interconnection import api as interconnection_api
from rocade.services.interconnection.explaining import Openings
from rocade.services.prices import api as prices_api
from rocade.services.prices.explaining import Releases
from rocade.services.showcase import Showcase
from rocade.services.showcase import api as showcase_api
from rocade.trust.authority.applications import Applications
from rocade.trust.authority.applications.service import Sign
from rocade.trust.identity.directory import LiveIssuers


@dataclass
class Dealing:
    """What the API process has of dealers; `close` ends what follows the database."""

    table: SiteTable
    modules: Sequence[Module]
    explainers: Mapping[str, Explainer]
    routes: RouteTable
    exchange: Exchange
    signer: asyncio.Task[None]

    @classmethod
    async def open(cls, parts: wiring.Common, sign_id: Sign, issuer: str) -> Self:
        """`sign_id` signs ID tokens, `issuer` is where people sign in: this region as OpenID provider."""
        table = await SiteTable.open(parts.database, parts.clock)
        interconnection = Interconnection(parts.database, parts.audit, parts.clock, KnownSites(table, parts.clock))
        lists = price_lists(parts, table)
        engines = parts.database, parts.audit, parts.clock, parts.random
        applications = Applications(*engines, issuer, sign_id, table)
        showcase = Showcase(parts.database, parts.audit, parts.clock, table, lists)
        signer, routes = await open_signer(parts), await RouteTable.open(parts.database, table, parts.clock)
        exchange = Exchange(parts.database, open_recorder(parts, signer), signer, routes, parts.clock)
        router = Router(parts.database, table, parts.audit, parts.clock)
        issuers = LiveIssuers(parts.configuration.trust)
        pages_of_dealers = Network(
            table=table, database=parts.database, clock=parts.clock, interconnection=interconnection, lists=lists,
            showcase=showcase, messages=exchange,
        )  # fmt: skip
        openid: list[Any] = [
            *openid_provider.HANDLERS,
            pages.router([*openid_provider.REDIRECTS, *applications_pages.HANDLERS]),
        ]
        return cls(
            table,
            [
                Module(openid, {"applications": applications}),
                Module([*dealers_api.HANDLERS, *moving_api.HANDLERS], network(parts, table)),
                Module(interconnection_api.HANDLERS, {"interconnection": interconnection}),
                Module(exchange_api.HANDLERS, {"exchange": exchange, "router": router, "issuers": issuers}),
                Module(showcase_api.HANDLERS, {"showcase": showcase}),
                Module([pages.router(dealer_pages.handlers(pages_of_dealers))], {"network": pages_of_dealers}),
                *([Module(prices_api.HANDLERS, {"lists": lists})] if lists else ()),
            ],
            {
                "opening": Openings(interconnection),
                "message": Messages(exchange),
                **({"release": Releases(lists)} if lists else {}),
            },
            routes,
            exchange,
            asyncio.create_task(signer.keep(), name="signer"),
        )

    async def close(self) -> None:
        self.signer.cancel()
        await asyncio.gather(self.signer, return_exceptions=True)
        await self.exchange.close()
        await self.routes.close()
        await self.table.close()


def network(parts: wiring.Common, table: SiteTable) -> dict[str, object]:
    """What the routes of the dealers' room ask for."""
    return {
        "dealers": Dealers(parts.database, parts.audit, parts.clock, parts.random),
        "orders": Orders(parts.database, parts.audit, parts.clock),
        "moving": Moving(parts.database, parts.audit, parts.clock),
        "site_table": table,
    }
