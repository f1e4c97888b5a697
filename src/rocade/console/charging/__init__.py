"""Pages of charging and commands: a driver's page on his phone, commands by hand, battery health; the operator's depots.

`ChargeDesk` is what they ask; `modules(charge)` gives the routes this process can serve.
"""

from __future__ import annotations

from rocade.console import pages
from rocade.console.application import Module
from rocade.console.charging import controls, depots, driver, health, panel
from rocade.console.charging.desk import ChargeDesk

__all__ = ["ChargeDesk", "module"]


def module(charge: ChargeDesk) -> Module:
    """The pages as one line of the API process; those under /my are for one's own use whoever opens them."""
    mine = [*driver.HANDLERS, *controls.HANDLERS, *(health.HANDLERS if charge.batteries else ())]
    return Module(
        [pages.router(mine, purpose="own"), pages.router([*depots.HANDLERS, *panel.HANDLERS])], {"charge": charge}
    )
