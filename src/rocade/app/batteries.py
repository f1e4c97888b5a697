"""Battery health and the grid in the roles: what the API process answers, what the charging role keeps up."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from rocade.app import wiring
from rocade.console.application import Module
from rocade.core import catalogue
from rocade.fabric.history import History
from rocade.services.battery import Batteries
from rocade.services.battery import api as battery_api
from rocade.services.charging import Charging
from rocade.services.charging.grid import Follower, Grid, forget
from rocade.services.charging.grid import api as grid_api
from rocade.services.charging.grid.at_stations import ToldAtStations
from rocade.services.charging.stations import Stations
from rocade.services.vehicles import Registry


def batteries_of(parts: wiring.Common, history: History) -> Batteries:
    registry = Registry(parts.database, parts.random, parts.clock)
    return Batteries(parts.database, history, registry, catalogue.standard(), parts.clock)


def modules(charging: Charging, batteries: Batteries) -> list[Module]:
    """Routes of battery health, grid signals and depots' reports, and how each forgets a vehicle."""
    return [
        Module(battery_api.HANDLERS, {"batteries": batteries}, batteries.forget),
        Module(grid_api.HANDLERS, {"grid": Grid(charging)}, forget),
    ]


def followers(
    parts: wiring.Common, history: History, charging: Charging, stations: Stations
) -> list[tuple[Coroutine[Any, Any, None], str]]:
    """What runs in the charging role for ever: proofs of grid signals, battery health once a day."""
    hanging = charging.engines.stations
    told = ToldAtStations(stations, hanging, parts.clock) if hanging else None
    return [
        (Follower(Grid(charging), told).run(), "grid"),
        (batteries_of(parts, history).keep_up(), "battery"),
    ]
