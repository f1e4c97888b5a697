"""The wall in the API process: what may leave this region, and what came."""

from __future__ import annotations

from rocade.app import wiring
from rocade.console.application import Module
from rocade.console.operator import crossing as pages_of_crossing
from rocade.console.pages import router
from rocade.core import catalogue
from rocade.fabric.history import History
from rocade.services.consent import ConsentTable
from rocade.services.crossing import SIGNER, Crossing
from rocade.services.crossing import api as crossing_api
from rocade.services.crossing.topics import Sources
from rocade.services.telemetry import Ledger
from rocade.services.vehicles import Registry
from rocade.trust.authority import Authority
from rocade.trust.authority.signing import ServiceSigner
from rocade.trust.identity.directory import LiveIssuers


async def _travels_along(_key: bytes, _chain: bytes, _until_us: int) -> None:
    """The chain goes with each packet: nobody has to be told of a new key."""


async def module(
    parts: wiring.Common, history: History, registry: Registry, ledger: Ledger, rights: ConsentTable, issuers: LiveIssuers,
    authority: Authority,
) -> Module:  # fmt: skip
    """API and pages of exports to other regions."""
    signer = await ServiceSigner.open(parts.configuration.root / SIGNER, SIGNER, _travels_along, parts.clock, authority)
    sources = Sources(history, registry, ledger, rights, catalogue.standard())
    crossing = Crossing(
        parts.database,
        sources,
        signer,
        lambda: issuers.table.sealed,
        parts.configuration.region,
        parts.audit,
        parts.clock,
    )
    return Module([*crossing_api.HANDLERS, router(pages_of_crossing.HANDLERS)], {"crossing": crossing})
