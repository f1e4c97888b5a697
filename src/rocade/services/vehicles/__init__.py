"""Vehicles: which vehicle is meant, and what it is. The only place where a VIN is stored.

`Registry` adds, resolves and lists vehicles; everywhere else a vehicle is its `VehicleRef`, a random number that is
never derived from the VIN and changes after erasure. `vin` holds the VIN rules of each market, `twin` the latest
values of every vehicle. `commands` tells vehicles what to do and proves that it was done.
"""

from rocade.services.vehicles import commands, twin, vin
from rocade.services.vehicles.model import (
    EVERYTHING,
    KINDS,
    POWERTRAINS,
    SILENT_AFTER_US,
    STATES,
    Page,
    Vehicle,
    Wanted,
)
from rocade.services.vehicles.service import Registry

__all__ = [
    "EVERYTHING",
    "KINDS",
    "POWERTRAINS",
    "SILENT_AFTER_US",
    "STATES",
    "Page",
    "Registry",
    "Vehicle",
    "Wanted",
    "commands",
    "twin",
    "vin",
]
