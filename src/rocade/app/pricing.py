"""Price lists as the processes that speak of them open them."""

from __future__ import annotations

from rocade.app import wiring
from rocade.services.dealers import SiteTable
from rocade.services.prices import Engines, Lists, Signing


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
