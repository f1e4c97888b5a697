"""The grid: an operator's signal that charging draw less, honoured within a control period and proven; and what a depot saved.

`Grid` takes signals in (plain calls, OpenADR events), `Follower` writes down what was done, `report` says what planning avoided.
"""

from rocade.services.charging.grid.dimming import Grid
from rocade.services.charging.grid.following import Follower
from rocade.services.charging.grid.model import Proof, Received, Signal
from rocade.services.charging.grid.reporting import Report, as_csv, report, rows
from rocade.services.charging.grid.store import forget

__all__ = ["Follower", "Grid", "Proof", "Received", "Report", "Signal", "as_csv", "forget", "report", "rows"]
