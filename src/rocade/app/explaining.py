"""Who explains what: one explicit line per kind of id that `rocade why` takes."""

from __future__ import annotations

from rocade.core.ports import Clock
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.explaining import Entries, Refusals
from rocade.trust.authority.why import OperatorsAndOwners, Why


def explainers(*, book: AuditBook, clock: Clock) -> Why:
    """Everything this region can explain."""
    return Why(
        {
            "request": Refusals(book),
            "audit": Entries(book),
        },
        OperatorsAndOwners(),
        clock,
    )
