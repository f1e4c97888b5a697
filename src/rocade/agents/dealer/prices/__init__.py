"""Prices at the point of sale: signed heads and encrypted files in, the right price at any instant out, with its proof.

`PriceStore(path, root)` holds the lists of one hub. `apply(head, fetch)` follows a signed head in one transaction, `price(list, ref,
at_us)` answers in microseconds, `prove(...)` writes a file that `rocade verify` checks without anybody. See docs/price-lists.md.
"""

from __future__ import annotations

from rocade.agents.dealer.prices.model import Applied, Changed, Held, PartCard, Plan, Price, Successors
from rocade.agents.dealer.prices.price_store import PriceStore

__all__ = [
    "Applied",
    "Changed",
    "Held",
    "PartCard",
    "Plan",
    "Price",
    "PriceStore",
    "Successors",
]
