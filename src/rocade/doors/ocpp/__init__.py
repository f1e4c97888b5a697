"""The door of charging stations: a central system for OCPP 1.6, 2.0.1 and 2.1 over websockets, security profiles 1 to 3."""

from rocade.doors.ocpp.contract import Answer, Asked, Caller, Handler, Problem, Settings, Version, Way
from rocade.doors.ocpp.door import OcppDoor, open_to_stations

__all__ = [
    "Answer",
    "Asked",
    "Caller",
    "Handler",
    "OcppDoor",
    "Problem",
    "Settings",
    "Version",
    "Way",
    "open_to_stations",
]
