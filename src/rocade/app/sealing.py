"""Seals rows of an older region once, after its migrations and before any of its roles runs."""

from __future__ import annotations

import logging

from rocade.app.configuration import Configuration
from rocade.app.custodies import open_keyring
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.services.battery import store as battery
from rocade.services.charging import ledger as sessions
from rocade.services.charging import store as charging
from rocade.services.charging.grid import store as grid
from rocade.services.charging.stations import older as stations
from rocade.services.exchange import ledger as messages
from rocade.services.exchange import store as exchange
from rocade.services.exchange.vouching import store as vouching
from rocade.services.telemetry import ledger as telemetry
from rocade.services.vehicles import store as vehicles
from rocade.services.vehicles import twin
from rocade.services.vehicles.commands import store as commands
from rocade.trust.authority import naming
from rocade.trust.authority.people import older as people
from rocade.trust.authority.sealing.older import seal_older

OLDER = (
    *naming.OLDER, *people.OLDER, *vehicles.OLDER, *twin.OLDER, *commands.OLDER, *telemetry.OLDER, *charging.OLDER, *sessions.OLDER, *grid.OLDER,
    *battery.OLDER, *stations.OLDER, *messages.OLDER, *exchange.OLDER, *vouching.OLDER,
)  # fmt: skip
_log = logging.getLogger("rocade.app")


async def seal_older_rows(configuration: Configuration, url: str) -> None:
    """Cost: one question, but for the first start after an update.

    Raises: Unavailable `custody.*`, `database.down`.
    """
    database, clock = await Database.connect(url, max_connections=2), SystemClock()
    try:
        async with open_keyring(configuration, database, clock):
            count = await seal_older(database, OLDER, clock.now_us())
    finally:
        await database.close()
    if count:
        _log.warning("%d rows from before their columns were sealed are sealed now", count)
