"""Erasure that can be shown: the signed ledger of what was erased, kept apart from backups, and certificates.

`read_ledger` and `entries_after` are for restores, `LedgerFiles` for who erases, `Erasures` says how far each erasure is and
hands out its certificate. What an erasure removes is the business of the services (`services.telemetry.erasing`).
"""

from rocade.trust.authority.erasure.erasures import Erasures
from rocade.trust.authority.erasure.ledger import Entry, ErasureLedger, LedgerFiles, entries_after, read_ledger
from rocade.trust.authority.erasure.store import Erasure

__all__ = ["Entry", "Erasure", "ErasureLedger", "Erasures", "LedgerFiles", "entries_after", "read_ledger"]
