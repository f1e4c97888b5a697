"""What the pages of charging and commands ask (`ChargeDesk`), and what they share: who may what, the acts that are offered.

Owners and drivers come through `Mine`, operators through the gate's duties; nothing here decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.console.my.frame import Mine
from rocade.core.catalogue import Catalogue
from rocade.core.ports import Clock
from rocade.services.battery import Batteries
from rocade.services.charging import Charging
from rocade.services.charging.stations import Stations
from rocade.services.vehicles import Registry
from rocade.services.vehicles.commands import Capabilities, Commands
from rocade.services.vehicles.twin import TwinStore
from rocade.services.vehicles.watching import TwinWatch

BY_HAND: tuple[str, ...] = (
    "attention.lights", "doors.lock", "doors.unlock", "location.report", "attention.horn", "climate.precondition",
    "climate.stop", "power.wake",
)  # fmt: skip
"""Acts a person gives by hand, in the order of their buttons; charging has a page of its own."""


@dataclass(frozen=True, kw_only=True)
class ChargeDesk:
    """Everything these pages ask; put together in `app.charging_pages`."""

    charging: Charging
    commands: Commands
    capabilities: Capabilities
    registry: Registry
    twins: TwinStore
    watch: TwinWatch
    catalogue: Catalogue
    clock: Clock
    mine: Mine
    batteries: Batteries | None = None
    stations: Stations | None = None


ChargeDependency = NamedDependency[SkipValidation[ChargeDesk]]
