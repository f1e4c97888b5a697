"""A door of charging stations in a process of its own: `python station_process.py DATABASE_URL DIRECTORY` says its port."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.ocpp import OcppDoor
from rocade.fabric.database import Database
from rocade.services.charging.stations import Holding, StationIntake, Stations, Tags
from rocade.trust.authority.sealing import FileCustody, Keyring

sys.path.insert(0, str(Path(__file__).parents[1]))

from notebook import Notebook


async def main(url: str, directory: Path) -> None:
    database, clock, random, audit = await Database.connect(url), SystemClock(), SystemRandom(), Notebook()
    database.keyring = Keyring(database, FileCustody(directory / "custody"), clock)
    tags = Tags(directory / "stations.key", random)
    stations = Stations(database, tags, audit, clock, random)
    intake = StationIntake(database, tags, audit, clock, "killed")
    door = OcppDoor(intake, audit, clock)
    door.start()
    print(await door.start_plain("127.0.0.1", 0), flush=True)
    await Holding(database, intake, door, stations, clock, "killed").run()


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
