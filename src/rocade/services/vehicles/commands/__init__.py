"""Commands: a desired state of a vehicle with a deadline, done when telemetry proves it, not when it was sent.

`Commands` gives them and says how they stand; `Deliverer` takes them to connected vehicles and `Reports` takes what vehicles
say (gateway); `Verifier` proves them in the worker's committing transaction; `keep_time` ends what is late. The format on the
wire is `wire.commands`. Source: docs/decisions/0047-commands.md.
"""

from rocade.services.vehicles.commands.capability import Capabilities
from rocade.services.vehicles.commands.delivering import Deliverer
from rocade.services.vehicles.commands.keeping import keep_time
from rocade.services.vehicles.commands.ledger import erase, recall
from rocade.services.vehicles.commands.model import STATES, Moment, Order, Page, Standing
from rocade.services.vehicles.commands.reporting import Reports
from rocade.services.vehicles.commands.service import Commands
from rocade.services.vehicles.commands.store import add_signer, hurry
from rocade.services.vehicles.commands.verifying import Verifier
from rocade.services.vehicles.commands.waking import WakeBudget

__all__ = [
    "STATES",
    "Capabilities",
    "Commands",
    "Deliverer",
    "Moment",
    "Order",
    "Page",
    "Reports",
    "Standing",
    "Verifier",
    "WakeBudget",
    "add_signer",
    "erase",
    "hurry",
    "keep_time",
    "recall",
]
