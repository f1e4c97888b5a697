"""The charging role: every change followed and planned within a second, cars and connectors told, sessions kept.

The API process has the same acts, without the replanner (`module`, `explainers`); its own commands make the big stop immediate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from rocade.app import wiring
from rocade.app.commanding import open_commands
from rocade.app.configuration import Configuration
from rocade.app.stations import make_stations, open_door
from rocade.console.application import Module
from rocade.core import catalogue
from rocade.core.why import Explainer
from rocade.fabric.database import Leases
from rocade.fabric.history import History, connect
from rocade.services.charging import Charging, Engines, HistoryMeters, api, explaining, sites_api
from rocade.services.charging.acting import Commands, Meters, Stations
from rocade.services.charging.at_stations import AtStations
from rocade.services.charging.replanning import Replanner
from rocade.services.telemetry import follow_erased, hide_erased
from rocade.services.vehicles import Registry
from rocade.services.vehicles.commands import Capabilities
from rocade.services.vehicles.twin import TwinStore

LEASES = "charging"


def charging_of(
    parts: wiring.Common, commands: Commands | None, meters: Meters | None = None, stations: Stations | None = None
) -> Charging:
    """Charge control over the engines of a process."""
    return Charging(
        Engines(
            database=parts.database,
            audit=parts.audit,
            clock=parts.clock,
            random=parts.random,
            catalogue=catalogue.standard(),
            registry=Registry(parts.database, parts.random, parts.clock),
            twins=TwinStore(parts.database),
            commands=commands,
            capable=Capabilities(catalogue.standard()),
            stations=stations,
            meters=meters,
        )
    )


def charge_control_of(parts: wiring.Common, commands: Commands, history: History) -> Charging:
    """With everything a process of the API can ask."""
    stations = AtStations(make_stations(parts), parts.clock)
    return charging_of(parts, commands, HistoryMeters(history, catalogue.standard()), stations)


def module(charge_control: Charging) -> Module:
    """The API's part."""

    async def forget(connection: Any, ref: int) -> None:
        await charge_control.forget(connection, ref)

    return Module([*api.HANDLERS, *sites_api.HANDLERS], {"charging": charge_control}, forget)


def explainers(charge_control: Charging) -> dict[str, Explainer]:
    """What charge control explains, by kind of id."""
    return {
        "charging": explaining.Standings(charge_control),
        "alert": explaining.Alerts(charge_control),
        "session": explaining.SessionCosts(charge_control),
    }


@contextlib.asynccontextmanager
async def charging(configuration: Configuration) -> AsyncIterator[wiring.Part]:
    """Goals, twins, series, limits -> plans -> commands and connector limits -> alerts and sessions."""
    from rocade.app import batteries

    async with (
        wiring.common(configuration, 8) as parts,
        open_commands(parts) as commands,
        open_door(parts) as at_door,
    ):
        history = connect(configuration.effective_history_url)
        await hide_erased(parts.database, history)
        meters = HistoryMeters(history, catalogue.standard())
        owner = f"{socket.gethostname()}:{os.getpid()}:{parts.random.bits(32):08x}"
        leases = Leases(parts.database, LEASES, LEASES, owner)
        charge_control = charging_of(parts, commands, meters, AtStations(at_door.stations, parts.clock))
        replanner = Replanner(charge_control, leases)
        stop = asyncio.Event()

        def status() -> dict[str, Any]:
            return {**msgspec.structs.asdict(replanner.counters), "vehicles": len(replanner.cars), **at_door.status()}

        part = wiring.Part(parts.database, parts.clock, status)
        running = part.spawn(replanner.run(stop), "replanner")
        part.spawn(follow_erased(parts.database, history), "hidden")
        for work, name in (*at_door.work, *batteries.followers(parts, history, charge_control, at_door.stations)):
            part.spawn(work, name)
        try:
            yield part
        finally:
            stop.set()
            await asyncio.wait([running], timeout=6)
            await part.end()
            await history.close()
