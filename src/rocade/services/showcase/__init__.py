"""The card of a point of sale for its own web site: opening hours, services, prices it chose to show. Served by the hub, so that it
stays up while the dealer's line is down.
"""

from rocade.services.showcase.model import Card, Item, Shown
from rocade.services.showcase.service import Showcase

__all__ = ["Card", "Item", "Showcase", "Shown"]
