"""Charging stations: who they are, what they say, what they are limited to, and what each of them really accepts.

`Stations` (registration, tags, transactions, meter values, limits), `StationIntake` (the handler of `doors.ocpp`), `Holding` (the work
of the process that holds the lines: limits made true, profiles compared after a reconnect, orders).
"""

from rocade.services.charging.stations.holding import Holding
from rocade.services.charging.stations.intake import StationIntake
from rocade.services.charging.stations.model import (
    Connector,
    ConnectorState,
    Event,
    Limit,
    Sample,
    Slot,
    Standing,
    Station,
    Tag,
    Transaction,
)
from rocade.services.charging.stations.proving import Tags
from rocade.services.charging.stations.service import Stations, forgetting

__all__ = [
    "Connector", "ConnectorState", "Event", "Holding", "Limit", "Sample", "Slot", "Standing", "Station", "StationIntake", "Stations", "Tag",
    "Tags", "Transaction", "forgetting",
]  # fmt: skip
