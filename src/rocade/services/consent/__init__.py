"""Consent: who owns a vehicle, and who may see what of it, for which purpose, until when.

`Consents` holds the acts (own, grant, narrow, withdraw; invite, accept, end; claim, hand over, settle), `ConsentTable` the
decisions in memory that every read asks (`right`, `mask`, `masks`), `Looks` what the owner is shown of who looked.
"""

from rocade.services.consent.looks import Looks
from rocade.services.consent.model import (
    FOREVER_US,
    PURPOSES,
    Conflict,
    Grant,
    Guest,
    Look,
    LooksPage,
    Ownership,
    Transfer,
)
from rocade.services.consent.service import Consents
from rocade.services.consent.table import ConsentTable

__all__ = [
    "FOREVER_US",
    "PURPOSES",
    "Conflict",
    "ConsentTable",
    "Consents",
    "Grant",
    "Guest",
    "Look",
    "Looks",
    "LooksPage",
    "Ownership",
    "Transfer",
]
