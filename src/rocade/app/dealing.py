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
        return cls(
            table,
            [Module(interconnection_api.HANDLERS, {"interconnection": interconnection})],
            {"opening": Openings(interconnection)},
        )

    async def close(self) -> None:
        await self.table.close()
