"""Sharing: the owner has his vehicle's data sent to whom he names, under a contract, with a log; and takes all of it himself.

`Sharing` holds contracts and terms, `Book` those that run (in memory), `Outbox` lets what vehicles send wait for third parties,
`Feeding` reads it under contract and consent, `Delivery` posts it, `Bulk` reads the past, `keep_house` ends and expires.
"""

from rocade.services.sharing.book import Book
from rocade.services.sharing.bulk import Bulk
from rocade.services.sharing.delivery import Delivery, Secrets
from rocade.services.sharing.feeding import Bell, Feeding, Lines
from rocade.services.sharing.hooks import Hooks
from rocade.services.sharing.keeping import KEEP_US, keep_house, tidy
from rocade.services.sharing.model import WAYS, Contract, Line, Terms, Webhook, recipient_of
from rocade.services.sharing.outbox import Outbox
from rocade.services.sharing.service import Sharing

__all__ = [
    "KEEP_US",
    "WAYS",
    "Bell",
    "Book",
    "Bulk",
    "Contract",
    "Delivery",
    "Feeding",
    "Hooks",
    "Line",
    "Lines",
    "Outbox",
    "Secrets",
    "Sharing",
    "Terms",
    "Webhook",
    "keep_house",
    "recipient_of",
    "tidy",
]
