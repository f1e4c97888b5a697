"""The dealer road's part of the API process: one line for each service, its routes, what they ask for, what it explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rocade.app import wiring
from rocade.app.relaying import KnownSites
from rocade.console.application import Module
from rocade.core.why import Explainer
from rocade.services.dealers import SiteTable
from rocade.services.interconnection import Interconnection
from rocade.services.interconnection import api as interconnection_api
from rocade.services.interconnection.explaining import Openings
from rocade.services.prices import Engines, Lists, Signing
from rocade.services.prices import api as prices_api


@dataclass
class Dealing:
    """What the API process has of dealers; `close` ends what follows the database."""

    table: SiteTable
    modules: Sequence[Module]
    explainers: Mapping[str, Explainer]

    @classmethod
    async def open(cls, parts: wiring.Common) -> Self:
        table = await SiteTable.open(parts.database, parts.clock)
        interconnection = Interconnection(parts.database, parts.audit, parts.clock, KnownSites(table, parts.clock))
        lists = price_lists(parts, table)
        return cls(
            table,
            [
                Module(interconnection_api.HANDLERS, {"interconnection": interconnection}),
                *([Module(prices_api.HANDLERS, {"lists": lists})] if lists else ()),
            ],
            {"opening": Openings(interconnection)},
        )

    async def close(self) -> None:
        await self.table.close()


def price_lists(parts: wiring.Common, table: SiteTable) -> Lists | None:
    """Price lists of the region; None in one that was made without a list-signing key (`rocade prices key` makes it)."""
    trust = parts.configuration.trust / "prices"
    if not (trust / "key.json").exists():
        return None
    return Lists(
        Engines(
            database=parts.database,
            audit=parts.audit,
            clock=parts.clock,
            random=parts.random,
            directory=parts.configuration.root / "prices",
            signing=Signing(trust),
            sites=table,
        )
    )
