"""Who explains what: one explicit line per kind of id that `rocade why` takes."""

from __future__ import annotations

from collections.abc import Mapping

from rocade.core.catalogue import Catalogue
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Clock
from rocade.core.why import Explainer
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.services.consent import Consents, Looks
from rocade.services.consent import explaining as consent
from rocade.services.telemetry import explaining as telemetry
from rocade.services.telemetry.ledger import Ledger
from rocade.services.vehicles import Registry
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority import explaining as trust
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.gate import Gate
from rocade.trust.authority.gate.explaining import Acts, Policies
from rocade.trust.authority.why import Why


def explainers(
    *,
    database: Database,
    history: History,
    catalogue: Catalogue,
    book: AuditBook,
    clock: Clock,
    gate: Gate,
    consents: Consents,
    looks: Looks,
    registry: Registry,
    more: Mapping[str, Explainer] | None = None,
) -> Why:
    """Everything this region can explain."""
    ledger = Ledger(database)

    async def is_known(ref: int) -> bool:
        return bool(await registry.by_refs([VehicleRef(ref)]))

    return Why(
        {
            "request": trust.Refusals(book),
            "audit": trust.Entries(book),
            "certificate": trust.Certificates(database, book, clock),
            "claim": trust.Claims(database, book, clock),
            "policy": Policies(),
            "act": Acts(),
            "grant": consent.Grants(consents, book.find, clock),
            "guest": consent.Guests(consents, book.find, clock),
            "conflict": consent.Conflicts(consents, book.find),
            "look": consent.Seen(looks, catalogue, book.find),
            "vehicle": consent.Vehicles(consents, book.find, is_known),
            "gap": telemetry.Gaps(ledger),
            "quarantine": telemetry.Held(ledger),
            "flag": telemetry.Flags(history, TwinStore(database), catalogue),
            **(more or {}),
        },
        clock,
        gate,
        looks.note,
    )
