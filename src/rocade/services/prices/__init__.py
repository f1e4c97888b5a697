"""Price lists: published whole or not at all, right at any instant, for those entitled alone, traced when they leak.

`Lists` holds the acts (add, draft, release, wrap, acknowledge, ...); a file becomes a draft with a report, a draft becomes
a release with a touch of the passkey, a release becomes sealed files and one signed head, announced by `price_heads`.
"""

from rocade.services.prices.acting import Engines
from rocade.services.prices.announcing import Said
from rocade.services.prices.model import (
    Draft,
    Price,
    PriceList,
    Progress,
    Released,
    Report,
)
from rocade.services.prices.service import Lists
from rocade.services.prices.signing import Signing, create

__all__ = [
    "Draft",
    "Engines",
    "Lists",
    "Price",
    "PriceList",
    "Progress",
    "Released",
    "Report",
    "Said",
    "Signing",
    "create",
]
