"""The pages of vehicle owners and of the drivers they invite; made for a phone first. Routes begin with /my."""

from rocade.console.my import drivers, home, live, looks, ownership, sharing, taking, trips
from rocade.console.my.frame import Mine

HANDLERS = [
    *home.HANDLERS,
    *live.HANDLERS,
    *trips.HANDLERS,
    *sharing.HANDLERS,
    *looks.HANDLERS,
    *drivers.HANDLERS,
    *ownership.HANDLERS,
    *taking.HANDLERS,
]

__all__ = ["HANDLERS", "Mine"]
