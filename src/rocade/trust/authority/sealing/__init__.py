"""Sealing: region key in custody, bucket keys and data keys in tables, what is sealed with them.

`seals` seals and opens bytes (pure), `Keyring` gives the key of an owner's group, `RegionCustody` keeps the one key above all.
Destroy an owner's keys and what they sealed is gone; `puncture` makes that true of every older copy of the tables too.
What it protects and what not: docs/sealing.md. Decision: docs/decisions/0054-sealing.md.
"""

from rocade.trust.authority.sealing.custody import FileCustody, RegionCustody
from rocade.trust.authority.sealing.keyring import Keyring
from rocade.trust.authority.sealing.keys import Keys, keyring_of
from rocade.trust.authority.sealing.model import REGION, Group, Name, Punctured, State
from rocade.trust.authority.sealing.seals import OVERHEAD_BYTES, aad, blind, is_sealed, open_sealed, seal, seal_many

__all__ = [
    "OVERHEAD_BYTES",
    "REGION",
    "FileCustody",
    "Group",
    "Keyring",
    "Keys",
    "Name",
    "Punctured",
    "RegionCustody",
    "State",
    "aad",
    "blind",
    "is_sealed",
    "keyring_of",
    "open_sealed",
    "seal",
    "seal_many",
]
