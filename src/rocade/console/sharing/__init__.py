"""Pages of sharing: an owner's contracts and his whole download, on a phone; terms and counts for the region's operators.

`ShareDesk` is what they ask; `module(desk)` gives the routes.
"""

from __future__ import annotations

from rocade.console import pages
from rocade.console.application import Module
from rocade.console.sharing import operator, owner, taking
from rocade.console.sharing.desk import ShareDesk

__all__ = ["ShareDesk", "module"]


def module(desk: ShareDesk) -> Module:
    """The pages as one line of the API process; those under /my are for one's own use whoever opens them."""
    mine = pages.router([*owner.HANDLERS, *taking.HANDLERS], purpose="own")
    return Module([mine, pages.router(operator.HANDLERS)], {"share_desk": desk})
