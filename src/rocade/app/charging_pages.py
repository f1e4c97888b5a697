"""The pages of charging and commands in the API process: what they ask, put together."""

from __future__ import annotations

from rocade.app import wiring
from rocade.app.stations import make_stations
from rocade.console.application import Module
from rocade.console.charging import ChargeDesk
from rocade.console.charging import module as pages_of
from rocade.console.my import Mine
from rocade.services.battery import Batteries
from rocade.services.charging import Charging
from rocade.services.vehicles.commands import Commands
from rocade.services.vehicles.watching import TwinWatch


def module(parts: wiring.Common, mine: Mine, charging: Charging, commands: Commands, batteries: Batteries) -> Module:
    """Drivers' and operators' pages over the services of this process."""
    return pages_of(
        ChargeDesk(
            charging=charging,
            commands=commands,
            capabilities=commands.capabilities,
            registry=mine.registry,
            twins=mine.twins,
            watch=TwinWatch(mine.twins),
            catalogue=mine.catalogue,
            clock=parts.clock,
            mine=mine,
            batteries=batteries,
            stations=make_stations(parts),
        )
    )
